"""Whether forecasts held, and what rules cost: calibration and the constraint ledger."""

from collections.abc import Mapping

import plotly.graph_objects as go

from schemas.backtest import BacktestReport, Calibration, LedgerLine
from streams.report import ink
from streams.report.ink import Ink
from streams.report.parts import (
    Panel,
    Section,
    amount,
    figure,
    major,
    number,
    plain,
    row_labels,
    rows_height,
    table,
)

RULES_DRAWN = 20
UNITS = {"demand": "orders an epoch", "returns": "share of units returned"}


def section(report: BacktestReport, inks: Mapping[str, Ink]) -> Section:
    """Forecast against outcome, and the ledger."""
    panels = [_calibration(one) for one in report.calibration]
    for currency in sorted({one.currency for one in report.ledger}):
        lines = [one for one in report.ledger if one.currency == currency]
        panels.append(_ledger(currency, lines, inks))
    lead = (
        "Forecasts were made before the outcome was known, at the prices that were charged. On "
        "the diagonal they were right on average.",
    )
    return Section("checks", "Calibration and what rules cost", lead, tuple(panels))


def _calibration(found: Calibration) -> Panel:
    unit = UNITS.get(found.name, "")
    points = [point for one in found.bins for point in (one.forecast, one.observed)]
    logs = found.name == "demand" and bool(points) and min(points) > 0.0
    plot = figure(f"forecast, {unit}", f"observed, {unit}", height=380)
    if points:
        low, high = min(points), max(points)
        plot.add_trace(
            go.Scatter(
                x=[low, high],
                y=[low, high],
                mode="lines",
                name="forecast = observed",
                line={"color": ink.MUTED.light, "dash": "dot", "width": 1.2},
                hoverinfo="skip",
            )
        )
    plot.add_trace(
        go.Scatter(
            x=[one.forecast for one in found.bins],
            y=[one.observed for one in found.bins],
            mode="markers",
            name="bins of like forecast, 90 % interval",
            marker={"color": ink.BASELINE.light, "size": 8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [one.observed_high - one.observed for one in found.bins],
                "arrayminus": [one.observed - one.observed_low for one in found.bins],
                "color": ink.BASELINE.light,
                "thickness": 1.4,
                "width": 4,
            },
            hovertemplate="forecast %{x:.4~g}, observed %{y:.4~g}<extra></extra>",
        )
    )
    plot.update_layout(hovermode="closest")
    if logs:
        ticks = "D2" if max(points) < 100.0 * min(points) else 1  # 1, 2, 5; or powers of ten
        plot.update_xaxes(type="log", dtick=ticks, tickformat="~g")
        plot.update_yaxes(type="log", dtick=ticks, tickformat="~g")
    rows = [
        (number(one.forecast, 4), number(one.observed, 4),
         f"{number(one.observed_low, 4)} to {number(one.observed_high, 4)}",
         number(one.weight, 0))
        for one in found.bins
    ]  # fmt: skip
    return Panel(
        f"calibration-{found.name}",
        f"Calibration of {found.name}",
        f"Mean forecast and outcome in {unit}, by bins of like forecast over the tape"
        + (", both axes logarithmic." if logs else "."),
        plot if found.bins else None,
        table(("forecast", "observed", "90 % interval", "weight"), rows, 0),
    )


def _ledger(currency: str, lines: list[LedgerLine], inks: Mapping[str, Ink]) -> Panel:
    sizes: dict[str, float] = {}
    for one in lines:
        sizes[one.rule] = max(sizes.get(one.rule, 0.0), abs(one.cost_per_day_minor))
    ranked = sorted(sizes, key=lambda rule: (-sizes[rule], rule))
    names = ranked[:RULES_DRAWN]
    policies = list(dict.fromkeys(one.policy for one in lines))
    costs = {(one.policy, one.rule): one for one in lines}
    plot = figure(f"cost, {currency} a day", "", height=rows_height(len(names) * 2),
                  barmode="group")  # fmt: skip
    for at, policy in enumerate(policies):
        drawn = [name for name in names if (policy, name) in costs]
        plot.add_trace(
            go.Bar(
                orientation="h",
                x=[major(costs[policy, name].cost_per_day_minor, currency) for name in drawn],
                y=[plain(name) for name in drawn],
                name=plain(policy),
                marker={
                    "color": inks[policy].light,
                    "pattern": {**ink.OVERLAY, "shape": ink.PATTERNS[at % len(ink.PATTERNS)]},
                },
                hovertemplate="%{y}: %{x:,.2f}<extra></extra>",
            )
        )
    plot.update_layout(yaxis=row_labels(names), hovermode="closest")
    rows = [
        (
            rule,
            *(
                "-" if found is None else
                f"{amount(found.cost_per_day_minor, currency)} on {found.products:,}"
                for found in (costs.get((policy, rule)) for policy in policies)
            ),
        )
        for rule in ranked
    ]  # fmt: skip
    return Panel(
        f"ledger-{currency}",
        "Constraint ledger",
        f"What stands between the best prices and those in force costs, {currency} a day on "
        "average over the tape (expected, after risk); below 0 it brings something. The table "
        "also has on how many products.",
        plot,
        table(("rule", *policies), rows),
        wide=True,
    )
