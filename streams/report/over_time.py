"""Sums by event day: changes, expected profit, margin, Greeks, P&L explain; breakers' moves."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

import plotly.graph_objects as go

from schemas.backtest import BacktestReport, BreakerMove, DaySeries, ExplainedDay
from streams.report import ink
from streams.report.ink import Ink
from streams.report.parts import (
    Panel,
    Section,
    amount,
    figure,
    finite,
    major,
    minute,
    number,
    plain,
    row_labels,
    rows_height,
    share,
    table,
    time_range,
)

Inks = Mapping[str, Ink]
DAYS_SINGLE = 92  # longer P&L explains are drawn by week
TERMS_DRAWN = 6
SCOPES_DRAWN = 24
GREEKS = {
    "delta_minor": ("Delta, P dΠ/dP", "Currency delta: profit a day for a price 100 % higher"),
    "gamma_minor": ("Gamma, P² d²Π/dP²", "Currency gamma: how profit bends in price"),
    "vega_minor": ("Vega, σ dΠ/dσ", "Currency vega: profit a day for doubled volatility"),
}


def section(report: BacktestReport, inks: Inks) -> Section:
    """All that is summed by day, one panel a currency."""
    panels: list[Panel] = []
    for currency in sorted({one.currency for one in report.days}):
        of_currency = [one for one in report.days if one.currency == currency]
        panels += _days(of_currency, currency, inks)
    panels += [_breakers(report.breakers, inks)] if report.breakers else []
    groups: dict[tuple[str, str], list[ExplainedDay]] = {}
    for one in report.explained:
        groups.setdefault((one.policy, one.currency), []).append(one)
    panels += [_explained(at, *key, days) for at, (key, days) in enumerate(groups.items())]
    lead = (
        "Sums over products, of the prices in force under each policy at the end of the event "
        "day, as the models saw them then. A gap: nothing was decided by then.",
    )
    return Section("days", "Over time", lead, tuple(panels))


# -- lines by day


def _days(found: list[DaySeries], currency: str, inks: Inks) -> list[Panel]:
    money_axis = f"{currency} a day"
    when = time_range([day for one in found for day in one.days])

    def minor(values: Sequence[float | None]) -> list[float | None]:
        return [major(value, currency) for value in values]

    def told(value: float | None) -> str:
        return amount(value, currency)

    panels = [
        _lines(f"changes-{currency}", "Price changes a day",
               f"Prices changed, products in {currency}; {when}.", found, inks,
               "price changes", "price_changes", list, lambda value: number(value, 0)),
        _lines(f"profit-{currency}", "Expected profit a day",
               f"By the models, {money_axis}; {when}.", found, inks,
               money_axis, "expected_profit_minor", minor, told),
        _lines(f"margin-{currency}", "Margin",
               f"Expected profit over expected turnover at shown prices, a ratio, products in "
               f"{currency}; {when}.", found, inks,
               "margin ratio", "margin_ratio", list, share),
    ]  # fmt: skip
    panels += [
        _lines(f"{name}-{currency}", title, f"{caption}, in {money_axis}; {when}.", found, inks,
               money_axis, name, minor, told)
        for name, (title, caption) in GREEKS.items()
    ]  # fmt: skip
    return panels


def _lines(
    key: str,
    title: str,
    caption: str,
    found: list[DaySeries],
    inks: Inks,
    y_title: str,
    field: str,
    scaled: Callable[[Sequence[float | None]], list[float | None]],
    told: Callable[[float | None], str],
) -> Panel:
    """One line a policy; the table has the days below each other, policies beside."""
    plot = figure("event day, UTC", y_title, height=300)
    by_day: dict[str, dict[str, float | None]] = {}
    for one in found:
        values: Sequence[float | None] = getattr(one, field)
        style = inks[one.policy]
        plot.add_trace(
            go.Scatter(
                x=list(one.days),
                y=scaled(values),
                name=plain(one.policy),
                mode="lines",
                line={"color": style.light, "dash": style.dash, "width": 1.8},
                hovertemplate="%{y:,.4~g}" if field == "margin_ratio" else "%{y:,.2f}",
            )
        )
        for day, value in zip(one.days, values, strict=True):
            by_day.setdefault(day, {})[one.policy] = value
    policies = list(dict.fromkeys(one.policy for one in found))
    rows = [
        (day, *(told(values.get(name)) for name in policies))
        for day, values in sorted(by_day.items())
    ]
    shown = plot if any(finite(getattr(one, field)) for one in found) else None
    return Panel(key, title, caption, shown, table(("day", *policies), rows))


# -- breakers


_STATES = {"OPEN": ("x", ink.LESS), "HALF_OPEN": ("triangle-up", ink.CANDIDATES[0]),
           "CLOSED": ("circle", ink.MORE)}  # fmt: skip


def _breakers(moves: tuple[BreakerMove, ...], inks: Inks) -> Panel:
    """When which breaker moved: those that moved most, one below the other."""
    counts: dict[str, int] = {}
    for one in moves:
        counts[_scope(one)] = counts.get(_scope(one), 0) + 1
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    names = sorted(ranked[:SCOPES_DRAWN], key=lambda name: (name.partition(": ")[2], name))
    plot = figure("event time, UTC", "", height=rows_height(len(names)))
    for state, (symbol, style) in _STATES.items():
        drawn = [one for one in moves if one.state == state and _scope(one) in names]
        plot.add_trace(
            go.Scatter(
                x=[one.at for one in drawn],
                y=[plain(_scope(one)) for one in drawn],
                mode="markers",
                name=state,
                marker={"symbol": symbol, "color": style.light, "size": 9},
                text=[plain(one.reason) for one in drawn],
                hovertemplate="%{x}<br>%{y}<br>%{text}",
            )
        )
    plot.update_layout(yaxis=row_labels(names), hovermode="closest")
    rows = [(minute(one.at), one.policy, f"{one.scope} {one.name}".strip(), one.state, one.reason)
            for one in moves]  # fmt: skip
    left = len(ranked) - len(names)
    return Panel(
        "breakers",
        "Breaker timeline",
        f"Transitions of circuit breakers by policy; {time_range([one.at for one in moves])}"
        + (f"; the {SCOPES_DRAWN} that moved most, {left} more in the JSON." if left else "."),
        plot,
        table(("when", "policy", "breaker", "state", "reason"), rows, 5),
        wide=True,
    )


def _scope(move: BreakerMove) -> str:
    return f"{move.policy}: {move.scope} {move.name}".strip()


# -- P&L explain


def _explained(at: int, policy: str, currency: str, days: list[ExplainedDay]) -> Panel:
    by_week = len(days) > DAYS_SINGLE
    bars: dict[str, dict[str, float]] = {}
    for one in days:
        bar = bars.setdefault(_week(one.day) if by_week else one.day, {})
        for name, value in (*one.terms.items(), ("revaluation", one.residual_minor)):
            bar[name] = bar.get(name, 0.0) + value
    sizes: dict[str, float] = {}
    for bar in bars.values():
        for name, value in bar.items():
            sizes[name] = sizes.get(name, 0.0) + abs(value)
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    named, rest = ranked[:TERMS_DRAWN], ranked[TERMS_DRAWN:]
    columns = [*named, "other"] if rest else named
    values = {
        when: [*(bar.get(name, 0.0) for name in named),
               *([sum(bar.get(name, 0.0) for name in rest)] if rest else [])]
        for when, bar in sorted(bars.items())
    }  # fmt: skip
    step = "week (its Monday)" if by_week else "day"
    rows = [
        (when, *(amount(value, currency) for value in found), amount(sum(found), currency))
        for when, found in values.items()
    ]
    rest_words = f" “other”: {', '.join(rest)}." if rest else ""
    return Panel(
        f"explained-{at}",
        f"P&L explain: {policy}",
        f"Why expected profit over the horizon changed between decisions, {currency} by event "
        f"{step}, {time_range([one.day for one in days])}; revaluation is what the terms leave."
        + rest_words,
        _stack(columns, values, currency),
        table((step, *columns, "change"), rows),
        wide=True,
    )


def _stack(columns: list[str], values: dict[str, list[float]], currency: str) -> go.Figure:
    inks = [ink.BASELINE, *ink.CANDIDATES, ink.COST]
    plot = figure("event time, UTC", f"change of Π, {currency}", height=340, barmode="relative")
    for place, name in enumerate(columns):
        plot.add_trace(
            go.Bar(
                x=list(values),
                y=[major(found[place], currency) for found in values.values()],
                name=plain(name),
                marker={
                    "color": inks[place % len(inks)].light,
                    "pattern": {**ink.OVERLAY, "shape": ink.PATTERNS[place % len(ink.PATTERNS)]},
                },
                hovertemplate="%{y:,.2f}",
            )
        )
    return plot


def _week(day: str) -> str:
    """The Monday of a day's week."""
    found = date.fromisoformat(day)
    return (found - timedelta(days=found.weekday())).isoformat()
