"""What would have been priced: paths of single products, differences, changes, guards, holds."""

from collections.abc import Mapping

import plotly.graph_objects as go

from schemas.backtest import (
    BacktestReport,
    Comparison,
    Count,
    Difference,
    PricePoint,
    ProductSeries,
)
from streams.report import ink
from streams.report.ink import Ink
from streams.report.parts import (
    Choice,
    Panel,
    Section,
    amount,
    difference,
    figure,
    major,
    minute,
    number,
    plain,
    share,
    table,
    time_range,
)

Inks = Mapping[str, Ink]
COUNTED = {"guards": "guard bound", "breakers": "breaker", "holds": "held"}


def section(report: BacktestReport, inks: Inks) -> Section:
    """Prices by policy over time, a product at a time, and how candidates differ."""
    choices = tuple(
        _choice(at, product, report, inks) for at, product in enumerate(report.products)
    )
    panels = [
        panel for at, found in enumerate(report.comparisons) for panel in _compared(at, found)
    ]
    lead = (
        "What buyers saw is held as it was: a candidate's beliefs are those of history, and only "
        "what it would have published differs.",
        *(() if choices else ("No product's price path was kept in this run.",)),
    )
    return Section("prices", "Prices", lead, tuple(panels), choices, "Product")


# -- one product


def _choice(at: int, product: ProductSeries, report: BacktestReport, inks: Inks) -> Choice:
    stake = ""
    if product.at_stake_minor is not None:
        stake = f", {difference(product.at_stake_minor, product.currency)} at stake"
    category = f" ({product.category})" if product.category else ""
    return Choice(
        f"{product.sku}{category}{stake}",
        (_paths(at, product, report, inks), _beliefs(at, product)),
    )


def _paths(at: int, product: ProductSeries, report: BacktestReport, inks: Inks) -> Panel:
    last = report.run.last_event
    drawn = figure("event time, UTC", f"price, {product.currency}", height=380)
    told: list[tuple[str, PricePoint]] = []
    lines = [
        ("unit cost", product.unit_cost, ink.COST, 1.5),
        ("rival, robust", product.rival, ink.RIVAL, 1.5),
        ("shown to buyers", product.shown, ink.SHOWN, 1.5),
        *((name, points, inks[name], 2.2) for name, points in product.prices.items()),
    ]
    for name, points, style, width in lines:
        if points:
            drawn.add_trace(_line(name, points, product.currency, last, style, width))
            told += [(name, point) for point in points]
    told.sort(key=lambda one: one[1].at)
    return Panel(
        f"path-{at}",
        f"Prices of {product.sku}",
        f"Price in {product.currency} in force from each time on, "
        f"{time_range([point.at for _, point in told])}.",
        drawn,
        table(
            ("from", "what", f"price, {product.currency}"),
            [(minute(one.at), name, amount(one.minor, product.currency)) for name, one in told],
            2,
        ),
    )  # fmt: skip


def _line(
    name: str,
    points: tuple[PricePoint, ...],
    currency: str,
    last: str | None,
    style: Ink,
    width: float,
) -> go.Scatter:
    """A price from each time on, drawn to the tape's end."""
    times = [point.at for point in points]
    values = [major(point.minor, currency) for point in points]
    if last is not None and times[-1] < last:
        times, values = [*times, last], [*values, values[-1]]
    return go.Scatter(
        x=times,
        y=values,
        name=plain(name),
        mode="lines",
        line={"shape": "hv", "color": style.light, "dash": style.dash, "width": width},
        hovertemplate="%{y:,.2f}",
    )


def _beliefs(at: int, product: ProductSeries) -> Panel:
    days = [day for day, _, _ in product.elasticity]
    means = [mean for _, mean, _ in product.elasticity]
    lows = [mean - 1.645 * sd for _, mean, sd in product.elasticity]
    highs = [mean + 1.645 * sd for _, mean, sd in product.elasticity]
    drawn = None
    if days:
        drawn = figure("event day, UTC", "elasticity", height=260)
        drawn.add_trace(
            go.Scatter(
                x=[*days, *reversed(days)],
                y=[*highs, *reversed(lows)],
                fill="toself",
                fillcolor=ink.band(ink.BASELINE.light),
                line={"width": 0, "color": ink.BASELINE.light},
                name="90 % interval",
                hoverinfo="skip",
            )
        )
        drawn.add_trace(
            go.Scatter(
                x=days,
                y=means,
                mode="lines+markers" if len(days) < 40 else "lines",
                name="posterior mean",
                line={"color": ink.BASELINE.light, "width": 2},
                hovertemplate="%{y:.2f}",
            )
        )
    rows = [
        (day, number(mean), number(sd), f"{number(low)} to {number(high)}")
        for (day, mean, sd), low, high in zip(product.elasticity, lows, highs, strict=True)
    ]
    return Panel(
        f"belief-{at}",
        f"Elasticity of {product.sku}",
        "Belief of d ln units / d ln price, no unit, mean and 90 % interval, the same under "
        f"every policy; {time_range(days)}."
        if days
        else "No closed epoch taught its elasticity.",
        drawn,
        table(("day", "mean", "sd", "90 % interval"), rows),
    )


# -- differences


def _compared(at: int, found: Comparison) -> list[Panel]:
    shares = found.differences
    panels = [
        Panel(
            f"differences-{at}",
            f"Where {found.candidate} differs most",
            f"Stretches with another price than the baseline's, {shares.products_differing:,} "
            "products in all; at stake is the model's difference of profit over the stretch.",
            table=_largest(found),
            notes=_first(shares.first_divergence),
            open_table=True,
        )
    ]
    counted = _counts(at, found)
    return panels if counted is None else [*panels, counted]


def _first(found: Difference | None) -> tuple[str, ...]:
    if found is None:
        return ("The decisions never differ.",)
    return (
        f"First divergence: {found.sku} at {minute(found.from_time)} ({found.tape}), "
        f"{amount(found.baseline_minor, found.currency)} and "
        f"{amount(found.candidate_minor, found.currency)} {found.currency}"
        + (f"; {'; '.join(found.reasons)}." if found.reasons else "."),
    )


def _largest(found: Comparison) -> object:
    rows = [
        (
            one.sku,
            one.category,
            minute(one.from_time),
            minute(one.to_time),
            "; ".join(one.reasons),
            amount(one.baseline_minor, one.currency),
            amount(one.candidate_minor, one.currency),
            difference(one.at_stake_minor, one.currency),
        )
        for one in found.differences.largest
    ]
    columns = ("product", "category", "from", "to", "why", "baseline", "candidate", "at stake")
    return table(columns, rows, 5)


def _counts(at: int, found: Comparison) -> Panel | None:
    rows: list[tuple[str, ...]] = []
    for name, kind in COUNTED.items():
        counts: tuple[Count, ...] = getattr(found.differences, name)
        rows += [
            (
                kind,
                one.name,
                f"{one.baseline:,}",
                f"{one.candidate:,}",
                f"{one.candidate - one.baseline:+,}",
            )
            for one in sorted(counts, key=lambda one: -max(one.baseline, one.candidate))
        ]
    counted = table(("what", "which", "baseline", "candidate", "difference"), rows, 2)
    if counted is None:
        return None
    return Panel(
        f"counts-{at}",
        f"Guards, breakers and holds: {found.candidate}",
        "How often over the tape.",
        table=counted,
        open_table=True,
    )


def shares_table(report: BacktestReport) -> Panel | None:
    """How often each candidate would have been dearer, cheaper or the same."""
    rows = [
        (
            one.candidate,
            number(one.differences.product_days, 0),
            share(one.differences.same_share),
            share(one.differences.dearer_share),
            share(one.differences.cheaper_share),
            number(one.differences.mean_ln_ratio, 4),
            f"{one.differences.products_differing:,}",
        )
        for one in report.comparisons
    ]
    columns = (
        "candidate", "product-days", "same", "dearer", "cheaper", "mean ln ratio", "products",
    )  # fmt: skip
    found = table(columns, rows)
    if found is None:
        return None
    return Panel(
        "shares",
        "How often prices differ",
        f"Share of product-days on sale under both policies, "
        f"{minute(report.run.first_event)} to {minute(report.run.last_event)}, UTC.",
        table=found,
        open_table=True,
    )
