"""A decision as a waterfall chart: how the price came from the best one to that in the shop."""

from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import ConfigError, InputError, ServiceError
from schemas.money import minor_digits
from schemas.outputs import DecisionRecord, PriceDecided
from streams.explain.amounts import money, signed
from streams.explain.explanation_summary import in_short
from streams.explain.explanation_text import headline, step_words

SUFFIXES = (".svg", ".png")
INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
UP, DOWN, WHOLE, HELD, BAND = "#2f9e6e", "#d9773c", "#3b6fb5", "#a9c1e2", "#dcebfa"
HELD_WORDS = "wanted price, held"
BAR_HEIGHT = 0.6
WIDTH_INCHES, ROW_INCHES, FRAME_INCHES = 10.0, 0.46, 2.1
SENTENCES = 2
CUT_SHARE_MIN = 0.3  # less than this of the axis is not worth cutting off


class Bar(NamedTuple):
    """One row of the chart, minor units: a whole price, or a move from one to another."""

    words: str
    begin_minor: float | None
    end_minor: float
    note: str


def bars(decision: PriceDecided, record: DecisionRecord) -> list[Bar]:
    """The chart's rows from the best price to the decided one, and the present one where held."""
    found: list[Bar] = []
    currency, before = decision.currency, None
    clamps = {f"guard {clamp.guard}": clamp for clamp in record.clamps}
    for step in record.steps:
        clamp = clamps.get(step.name)
        words = step_words(decision, step.name, clamp)
        note = money(step.price_minor, currency)
        if before is not None:
            note = f"{signed(step.price_minor - before, currency)}"
        if clamp is not None and clamp.cost_per_day_minor >= 1.0:
            note += f"  (costs {money(clamp.cost_per_day_minor, currency)} a day)"
        if before is None or step.price_minor != before:
            found.append(Bar(words, before, step.price_minor, note))
        before = step.price_minor
    last = decision.wanted_minor if decision.status == "held" else decision.price_minor
    if last is not None:
        words = HELD_WORDS if decision.status == "held" else "price in the shop"
        found.append(Bar(words, None, float(last), money(last, currency)))
    if decision.status == "held" and decision.price_minor is not None:
        present = decision.price_minor
        found.append(Bar("price in the shop", None, float(present), money(present, currency)))
    return found


def draw(decision: PriceDecided | None, path: Path) -> None:
    """Write the chart as SVG or PNG, by the file's ending.

    Raises
    ------
    ConfigError : another ending, or matplotlib is not installed
    InputError : there is no decision with numbers to draw
    ServiceError : the file can't be written
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            "unknown_picture", f"the file's ending was {path.suffix!r}; expected .svg or .png.",
            field="--picture", value=str(path), expected=".svg or .png",
        )  # fmt: skip
    if decision is None or decision.record is None:
        raise InputError(
            "nothing_to_draw", "the product has no decision with numbers.", field="--picture"
        )
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "no_matplotlib", "a picture needs matplotlib, which is not installed.",
            field="--picture", fix="Run: pip install 'pricemaker[pictures]'",
        ) from None  # fmt: skip
    rows = bars(decision, decision.record)
    settings = {
        "font.family": "sans-serif", "font.size": 10, "svg.fonttype": "path",
        "svg.hashsalt": "pricemaker", "text.color": INK, "axes.labelcolor": MUTED,
        "text.parse_math": False,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH_INCHES, FRAME_INCHES + ROW_INCHES * len(rows)), dpi=120)
        axes = figure.subplots()
        _rows(axes, rows, decision.currency)
        _lines(axes, decision, decision.record, len(rows))
        _frame(figure, axes, decision, decision.record, rows)
        metadata: Any = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        try:
            figure.savefig(path, metadata=metadata, bbox_inches="tight", facecolor="white")
        except OSError as error:
            raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error


def _rows(axes: Any, rows: list[Bar], currency: str) -> None:
    unit = 10 ** minor_digits(currency)
    ends = [bar.end_minor for bar in rows]
    margin = 0.02 * max(ends) / unit
    for number, bar in enumerate(rows):
        end = bar.end_minor / unit
        if bar.begin_minor is None:
            color = HELD if bar.words == HELD_WORDS else WHOLE
            axes.barh(number, end, BAR_HEIGHT, color=color, zorder=3)
            left = end
        else:
            begin = bar.begin_minor / unit
            color = UP if end > begin else DOWN
            axes.barh(number, end - begin, BAR_HEIGHT, left=begin, color=color, zorder=3)
            left = max(begin, end)
        axes.text(
            left + margin, number, bar.note, va="center", color=INK, zorder=5,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
        if number + 1 < len(rows) and rows[number + 1].begin_minor is not None:
            axes.plot([end, end], [number, number + 1], color=MUTED, linewidth=0.8, zorder=4)
    axes.set_yticks(range(len(rows)), [bar.words for bar in rows])
    axes.invert_yaxis()


def _lines(axes: Any, decision: PriceDecided, record: DecisionRecord, rows: int) -> None:
    """Cost, rivals and the acceptable interval, each named above the chart."""
    unit = 10 ** minor_digits(decision.currency)
    interval = decision.acceptable
    if interval is not None and interval.low_minor < interval.high_minor:
        axes.axvspan(
            interval.low_minor / unit, interval.high_minor / unit, color=BAND, zorder=1,
            label="nearly as good",
        )  # fmt: skip
    floor = record.unit_cost_minor / record.kept_share
    axes.axvline(
        floor / unit, color="#b42318", linewidth=1.4, zorder=2,
        label=f"covers the cost: {money(floor, decision.currency)}",
    )  # fmt: skip
    robust = record.competitors.robust_price_minor
    if robust is not None:
        axes.axvline(
            robust / unit, color="#7a5195", linewidth=1.4, linestyle="--", zorder=2,
            label=f"rivals: {money(robust, decision.currency)}",
        )  # fmt: skip


def _frame(
    figure: Any, axes: Any, decision: PriceDecided, record: DecisionRecord, rows: list[Bar]
) -> None:
    unit = 10 ** minor_digits(decision.currency)
    robust = record.competitors.robust_price_minor
    ends = [bar.end_minor for bar in rows] + ([] if robust is None else [robust])
    least = min(*ends, record.unit_cost_minor / record.kept_share)
    spread = max(ends) - least
    # Bars of whole prices are cut on the left where all prices are near each other.
    begin = max(least - max(spread, 0.02 * least), 0.0)
    if begin < CUT_SHARE_MIN * max(ends):
        begin = 0.0
    axes.set_xlim(begin / unit, (max(ends) + 0.45 * (max(ends) - begin)) / unit)
    cut = "" if begin == 0.0 else " (the axis does not begin at 0)"
    axes.set_xlabel(f"price in {decision.currency}{cut}")
    axes.grid(axis="x", color=GRID, zorder=0)
    axes.tick_params(axis="both", length=0, colors=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    told = "\n".join(in_short(decision, record)[:SENTENCES])
    at = f"{decision.status} {decision.decided_at[:16].replace('T', ' ')} UTC"
    axes.set_title(
        f"{headline(decision)} - {at}", loc="left", fontweight="bold", fontsize=12, pad=44
    )
    axes.text(
        0.0, 1.02, told, transform=axes.transAxes, va="bottom", color=MUTED, fontsize=8.5, wrap=True
    )
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.4, -0.1 - 0.5 / len(rows)), ncols=3, frameon=False,
        fontsize=9,
    )  # fmt: skip
