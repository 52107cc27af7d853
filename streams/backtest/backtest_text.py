"""A backtest's result for people: one line a policy, then each candidate against the baseline."""

from rich.console import Group, RenderableType
from rich.table import Table

from schemas.backtest import (
    BacktestReport,
    Comparison,
    Count,
    Difference,
    Estimate,
    OffPolicyValue,
    SwitchbackDesign,
)
from schemas.bisection import Bisection, Cause
from streams.explain.amounts import money, signed

SHOWN = 5


def backtest_text(report: BacktestReport) -> RenderableType:
    """The result in words and tables."""
    run = report.run
    parts: list[RenderableType] = [
        f"{run.records:,} tape records, {run.first_event} to {run.last_event}; {run.seconds:.1f} s",
        "",
        _policies(report),
    ]
    for found in report.comparisons:
        parts += ["", *_comparison(found, run.baseline)]
    parts += ["", *(f"- {assumption}" for assumption in run.assumptions)]
    return Group(*parts)


def _policies(report: BacktestReport) -> Table:
    table = Table("policy", box=None, pad_edge=False)
    for heading in ("priced", "decisions", "held", "changes", "a product and day", "trips"):
        table.add_column(heading, justify="right")
    for one in report.policies:
        rate = one.price_changes_per_product_day
        table.add_row(
            one.name, f"{one.products_priced:,} of {one.products:,}", f"{one.decisions:,}",
            f"{one.held:,}", f"{one.price_changes:,}", "-" if rate is None else f"{rate:.3f}",
            f"{one.breaker_trips:,}",
        )  # fmt: skip
    return table


def _comparison(found: Comparison, baseline: str) -> list[RenderableType]:
    parts: list[RenderableType] = [f"{found.candidate} against {baseline}"]
    differences = found.differences
    if differences.same_share is None:
        return [*parts, "  no product had a price under both"]
    parts.append(
        f"  of {differences.product_days:,.0f} product-days {differences.same_share:.1%} the same, "
        f"{differences.dearer_share:.1%} dearer, {differences.cheaper_share:.1%} cheaper; mean "
        f"price {differences.mean_ln_ratio:+.2%} (log); {differences.products_differing:,} products"
    )
    for name, counts in (
        ("guards", differences.guards), ("breakers", differences.breakers),
        ("held by", differences.holds),
    ):  # fmt: skip
        if counts:
            parts.append(f"  {name}: {_counts(counts)}")
    parts += [f"  model: {_estimate(value.difference)}" for value in found.model]
    parts += [f"  off-policy, {_off_policy(value)}" for value in found.off_policy]
    parts += [f"  closed loop, a day: {_estimate(one.difference_per_day)}"
              for one in found.closed_loop]  # fmt: skip
    parts += [f"  to prove it: {_test(one)}" for one in found.switchback]
    if differences.first_divergence is not None:
        parts.append(f"  first: {_line(differences.first_divergence)}")
    if differences.largest:
        parts.append("  most at stake by the model:")
        parts += [f"    {_line(one)}" for one in differences.largest[:SHOWN]]
    return parts


def _estimate(found: Estimate) -> str:
    mean, low, high = (
        signed(minor, found.currency)
        for minor in (found.mean_minor, found.low_minor, found.high_minor)
    )
    return f"{mean} {found.currency} ({found.level:.0%}: {low} to {high})"


def _off_policy(found: OffPolicyValue) -> str:
    if found.estimate is None:
        return f"{found.currency}: none, {found.refused}"
    size = f"effective sample {found.effective_sample_size:,.0f}"
    return f"{found.estimator}: {_estimate(found.estimate)}, {size}"


def _test(found: SwitchbackDesign) -> str:
    if found.refused is not None:
        return f"{found.currency}: no test, {found.refused}"
    return (
        f"a switchback test of {found.days:,.0f} days, {found.units:,} units ({found.unit_kind}), "
        f"blocks of {found.block_days:g} days, finds "
        f"{signed(found.detectable_minor_per_day, found.currency)} {found.currency} a day "
        f"with power {found.power:.0%}"
    )


def _counts(counts: tuple[Count, ...]) -> str:
    return ", ".join(f"{one.name} {one.baseline:,} -> {one.candidate:,}" for one in counts[:SHOWN])


def _line(one: Difference) -> str:
    prices = [
        "none" if minor is None else money(minor, one.currency)
        for minor in (one.baseline_minor, one.candidate_minor)
    ]
    stake = one.at_stake_minor
    worth = "" if stake is None else f", {signed(stake, one.currency)}"
    return (
        f"{one.sku} {prices[0]} -> {prices[1]} from {one.from_time[:16]} to {one.to_time[:16]}"
        f"{worth} at {one.tape}"
    )


def bisection_text(found: Bisection) -> str:
    """What caused a decision, in words."""
    sides = ("baseline", "candidate") if found.question == "rules" else ("before", "decided")
    lines = [f"{found.sku} at {found.tape}"]
    for side, decision in zip(sides, (found.before, found.after), strict=True):
        if decision is not None:
            price = money(decision.price_minor, found.currency)
            lines.append(
                f"  {side}: {price}, {decision.status} at {decision.at} "
                f"({'; '.join(decision.reasons)})"
            )
    lines += [found.told]
    lines += [f"  {_cause_line(cause, found.currency)}" for cause in found.causes]
    least = "none of them can be left out" if found.proved else "fewer may do: probes ran out"
    lines.append(f"{len(found.causes)} of {found.tried} changes; {least}; {found.probes} probes")
    return "\n".join(lines)


def _cause_line(cause: Cause, currency: str) -> str:
    words = cause.name
    if cause.kind == "rule":
        words = f"{cause.name}: {cause.before} -> {cause.after}"
    if cause.tape is not None:
        words += f" at {cause.tape}"
    if cause.without_minor is not None:
        words += f"; without it {money(cause.without_minor, currency)}"
    return words
