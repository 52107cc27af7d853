"""What the report is made of: sections of panels, each a plot with the same facts as a table."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from schemas.backtest import Estimate
from schemas.money import minor_digits
from streams.explain.amounts import money, signed
from streams.report import ink

ROWS_SHOWN = 60
NONE = "none"


class Table(NamedTuple):
    """Cells as people read them; the first ``text_columns`` are words, the others numbers.

    ``more`` rows were left out.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    more: int = 0


class Panel(NamedTuple):
    """One plot and its table; either may be missing. ``caption`` has unit and time range.

    ``key`` is the element's id; ``notes`` stand below; ``wide`` ones take a row of their own.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure | None = None
    table: Table | None = None
    notes: tuple[str, ...] = ()
    open_table: bool = False
    wide: bool = False


class Choice(NamedTuple):
    """One entry of a chooser, and the panels that it shows."""

    label: str
    panels: tuple[Panel, ...]


class Section(NamedTuple):
    """A part of the page. ``choices`` are shown one at a time, before the panels."""

    key: str
    title: str
    lead: tuple[str, ...]
    panels: tuple[Panel, ...] = ()
    choices: tuple[Choice, ...] = ()
    choose: str = ""


# -- tables


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> Table | None:
    """The first rows as a table; None without any."""
    if not rows:
        return None
    shown = tuple(tuple(row) for row in rows[:ROWS_SHOWN])
    return Table(tuple(columns), shown, text_columns, len(rows) - len(shown))


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values."""
    return Table(("what", "value"), tuple(rows), 2)


# -- numbers


def minute(time: str | None) -> str:
    """An RFC 3339 time to the minute, without its zone: the page says once that it is UTC."""
    return NONE if time is None else time[:16].replace("T", " ")


def share(ratio: float | None) -> str:
    """A share in percent."""
    return NONE if ratio is None else f"{100.0 * ratio:.1f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number with a sign only where it is below 0."""
    return NONE if value is None else f"{value:,.{digits}f}"


def amount(minor: float | None, currency: str) -> str:
    """An amount without its currency, which the heading names."""
    return NONE if minor is None else money(minor, currency).rpartition(" ")[0]


def difference(minor: float | None, currency: str) -> str:
    """An amount with its sign and currency."""
    return NONE if minor is None else f"{signed(minor, currency)} {currency}"


def major(minor: float | None, currency: str) -> float | None:
    """Whole units of a currency, for an axis."""
    return None if minor is None else minor / 10 ** minor_digits(currency)


def percent(level: float) -> str:
    """The level of an interval: ``percent(0.9)`` is ``"90 %"``."""
    return f"{100.0 * level:g} %"


def interval(found: Estimate) -> str:
    """The bounds of an estimate of a difference, with their level."""
    low, high = signed(found.low_minor, found.currency), signed(found.high_minor, found.currency)
    return f"{percent(found.level)} interval {low} to {high}"


def with_interval(found: Estimate) -> str:
    """An estimated difference, never without its interval."""
    return f"{difference(found.mean_minor, found.currency)} ({interval(found)})"


# -- figures


def plain(text: str) -> str:
    """Text from data for a label: Plotly reads a small part of HTML there."""
    return html.escape(text, quote=False)


def figure(
    x_title: str, y_title: str, *, height: int = 320, left: int | None = None, **layout: Any
) -> go.Figure:
    """An empty figure in the report's manner; the page's script adds fonts and colours."""
    found = go.Figure()
    margin = {"t": 12, "r": 12, "b": 44, "l": 64 if left is None else left}
    found.update_layout(
        template=None,
        height=height,
        margin=margin,
        xaxis={"title": {"text": plain(x_title)}},
        yaxis={"title": {"text": plain(y_title)}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0.0, "xanchor": "left"},
        hovermode="x unified",
        **layout,
    )
    return found


def row_labels(names: Sequence[str]) -> dict[str, Any]:
    """An axis of names from top to bottom, each in full."""
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [plain(name) for name in names],
        "autorange": "reversed",
        "automargin": True,
        "title": {"text": ""},
    }


def rows_height(rows: int) -> int:
    """Pixels for so many named rows."""
    return 96 + 26 * max(rows, 2)


def interval_marks(
    names: Sequence[str], found: Sequence[Estimate], colour: str, symbol: str, label: str
) -> go.Scatter:
    """Estimates with their intervals, one below the other."""
    means = [major(one.mean_minor, one.currency) or 0.0 for one in found]
    highs = [major(one.high_minor, one.currency) or 0.0 for one in found]
    lows = [major(one.low_minor, one.currency) or 0.0 for one in found]
    return go.Scatter(
        x=means,
        y=[plain(name) for name in names],
        mode="markers",
        name=plain(label),
        marker={"color": colour, "symbol": symbol, "size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - mean for high, mean in zip(highs, means, strict=True)],
            "arrayminus": [mean - low for mean, low in zip(means, lows, strict=True)],
            "color": colour,
            "thickness": 1.5,
            "width": 5,
        },
        hovertemplate="%{y}: %{x:,.2f}<extra></extra>",
    )


def zero_line(found: go.Figure, *, vertical: bool) -> None:
    """Mark where nothing differs."""
    add = found.add_vline if vertical else found.add_hline
    add(0, line={"color": ink.MUTED.light, "width": 1, "dash": "dot"})


def time_range(times: Sequence[str]) -> str:
    """The days from the first to the last of these times, for a caption."""
    return f"{min(times)[:10]} to {max(times)[:10]}, UTC" if times else "no time"


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that are there."""
    return [value for value in values if value is not None and math.isfinite(value)]
