"""What another policy would do, in words and tables."""

from rich.console import Group, RenderableType
from rich.table import Table

from models.pricing.policy_diff import Compared, LimitCount, PolicyDiff
from streams.explain.amounts import money, signed

NEWLY_HELD_SHOWN = 10


def diff_text(diff: PolicyDiff, notes: list[str]) -> RenderableType:
    """The comparison for people."""
    if not diff.products:
        return "no product can be priced now, so there is nothing to compare"
    parts: list[RenderableType] = [
        f"{diff.moved:,} of {diff.products:,} prices would differ: {diff.up:,} up, "
        f"{diff.down:,} down"
        + (
            ""
            if diff.move_ratio_median is None
            else f"; half of them by {diff.move_ratio_median:.1%} or more"
        )
    ]
    parts += [_profit_line(one.currency, one.before_minor, one.after_minor)
              for one in diff.profit_per_day]  # fmt: skip
    parts.append(
        f"held: {diff.held_before:,} now, {diff.held_after:,} then; {len(diff.newly_held):,} newly "
        f"held, {len(diff.freed):,} no longer"
    )
    if diff.moved:
        parts += ["", "How far prices move", _distribution(diff)]
    if diff.limits:
        parts += ["", "Limits, in products (in force -> new)", _limits(diff.limits)]
    if diff.newly_held:
        parts += ["", "Newly held"]
        parts += [f"  {one.sku}: {'; '.join(one.held)}"
                  for one in diff.newly_held[:NEWLY_HELD_SHOWN]]  # fmt: skip
        more = len(diff.newly_held) - NEWLY_HELD_SHOWN
        parts += [f"  and {more:,} more"] if more > 0 else []
    if diff.largest:
        parts += ["", "The largest differences", _largest(diff.largest)]
    if notes:
        parts += ["", *notes]
    return Group(*parts)


def _profit_line(currency: str, before_minor: float, after_minor: float) -> str:
    change = after_minor - before_minor
    share = f" ({change / abs(before_minor):+.2%})" if before_minor else ""
    before, after = money(before_minor, currency), money(after_minor, currency)
    return f"expected profit a day: {before} -> {after}, {signed(change, currency)}{share}"


def _distribution(diff: PolicyDiff) -> Table:
    table = Table("  by", "up", "down", box=None, pad_edge=False)
    least = 0.0
    for one in diff.distribution:
        most = one.move_ratio_max
        words = f"  above {least:.0%}" if most is None else f"  {least:.0%} to {most:.0%}"
        table.add_row(words, f"{one.up:,}", f"{one.down:,}")
        least = most or least
    return table


def _limits(limits: tuple[LimitCount, ...]) -> Table:
    table = Table(
        "  limit", "decides the price", "present price breaks it", "gave way",
        box=None, pad_edge=False,
    )  # fmt: skip
    for one in limits:
        table.add_row(
            f"  {one.limit.replace('_', ' ')}",
            f"{one.moves_before:,} -> {one.moves_after:,}",
            f"{one.broken_before:,} -> {one.broken_after:,}",
            f"{one.gave_way_before:,} -> {one.gave_way_after:,}",
        )
    return table


def _largest(found: tuple[Compared, ...]) -> Table:
    table = Table(
        "  product", "in the shop", "in force", "new", "differs by", "profit a day", "limits then",
        box=None, pad_edge=False,
    )  # fmt: skip
    for one in found:
        before, after, currency = one.before, one.after, one.before.currency
        assert before.shown_minor is not None
        assert after.shown_minor is not None
        profit = (
            ""
            if one.profit_before_minor is None or one.profit_after_minor is None
            else signed(one.profit_after_minor - one.profit_before_minor, currency)
        )
        table.add_row(
            f"  {before.sku}",
            money(before.present_minor, currency),
            money(before.shown_minor, currency),
            money(after.shown_minor, currency),
            f"{after.shown_minor / before.shown_minor - 1.0:+.1%}",
            profit,
            ", ".join(name.replace("_", " ") for name in after.limits),
        )
    return table
