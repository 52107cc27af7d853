"""Weekly demand of each product from source events: order lines, prices and open days.

A week is seven days from the first event's day. Its order lines are net of cancellations, and its
*segments* are the stretches of one applied price. Exposure is time on *open* days, those on which
the shop sold anything at all: a wholesaler that is closed on Saturdays loses no demand then.

A product's weeks begin after its first account line: before it the price is only guessed from what
a guest paid, and putting a guess right is no price move.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from models.demand.epoch import EXPOSURE_DAYS_MIN, Features, Observation
from schemas.events import DAY_MS, time_ms

WEEK_DAYS = 7


class Segment(NamedTuple):
    """A stretch of one price within a week: order lines, and open days that it lasted."""

    price_minor: int
    open_days: float
    lines: int


class Week(NamedTuple):
    """One product's week.

    ``price_minor`` is the price at its start, which is known beforehand; ``open_days`` and
    ``lines`` are the sums over its segments.
    """

    week: int
    price_minor: int
    open_days: float
    lines: int
    segments: tuple[Segment, ...]


class ProductWeeks(NamedTuple):
    """A product's whole weeks, without a gap, from the one after its first account line.

    ``reference_price_minor`` is its price at the start of the first.
    """

    category: str
    reference_price_minor: int
    weeks: tuple[Week, ...]


class _Product:
    def __init__(self, category: str) -> None:
        self.category = category
        self.account_ms: int | None = None  # of its first account line
        self.moves: list[tuple[int, int]] = []  # (time ms, price minor)
        self.line_times: dict[tuple[str, str], int] = {}  # (order, line) -> time ms


def weekly_demand(records: Iterable[tuple[bytes, bytes]]) -> dict[str, ProductWeeks]:
    """Read (topic, event) records in time order; products by SKU.

    The last week is left out where it is not whole. A product without a whole week is absent.
    """
    products: dict[str, _Product] = {}
    open_days: set[int] = set()
    first_ms, last_ms = None, 0
    for topic, value in records:
        if topic not in (b"orders", b"products"):
            continue
        event = orjson.loads(value)
        at_ms = time_ms(datetime.fromisoformat(event["event_time"]))
        first_ms = at_ms if first_ms is None else first_ms
        last_ms = max(last_ms, at_ms)
        _add(products, event, at_ms)
        if event["type"] == "order_placed":
            open_days.add(at_ms // DAY_MS)
    if first_ms is None:
        return {}
    calendar = _Calendar(first_ms, last_ms, open_days)
    found: dict[str, ProductWeeks] = {}
    for sku, product in sorted(products.items()):
        weeks = _weeks(product, calendar)
        if weeks:
            found[sku] = ProductWeeks(product.category, weeks[0].price_minor, weeks)
    return found


def _add(products: dict[str, _Product], event: dict[str, Any], at_ms: int) -> None:
    sku, kind = event["sku"], event["type"]
    if kind == "product_listed":
        products[sku] = _Product(event["category"])
    elif kind == "price_applied":
        products[sku].moves.append((at_ms, event["price_minor"]))
    elif kind == "order_placed":
        if event["segment"] == "account" and products[sku].account_ms is None:
            products[sku].account_ms = at_ms
        products[sku].line_times[event["order_id"], event["line_id"]] = at_ms
    elif kind == "order_cancelled":
        products[sku].line_times.pop((event["order_id"], event["line_id"]), None)


class _Calendar:
    """Open time between two moments, and the bounds of weeks."""

    def __init__(self, first_ms: int, last_ms: int, open_days: set[int]) -> None:
        self.first_day = first_ms // DAY_MS
        self.weeks = (last_ms // DAY_MS + 1 - self.first_day) // WEEK_DAYS
        days = range(self.first_day, last_ms // DAY_MS + 1)
        self._is_open = [day in open_days for day in days]
        self._before = [0]
        for is_open in self._is_open:
            self._before.append(self._before[-1] + is_open)

    def start_ms(self, week: int) -> int:
        return (self.first_day + week * WEEK_DAYS) * DAY_MS

    def week_of(self, at_ms: int) -> int:
        return (at_ms // DAY_MS - self.first_day) // WEEK_DAYS

    def open_days_before(self, at_ms: int) -> float:
        day = at_ms // DAY_MS - self.first_day
        if day >= len(self._is_open):
            return self._before[-1]
        return self._before[day] + self._is_open[day] * (at_ms % DAY_MS) / DAY_MS


def _weeks(product: _Product, calendar: _Calendar) -> tuple[Week, ...]:
    if product.account_ms is None:
        return ()
    times = sorted(product.line_times.values())
    moves = product.moves
    weeks: list[Week] = []
    line = move = 0
    for week in range(calendar.week_of(product.account_ms) + 1, calendar.weeks):
        start_ms, end_ms = calendar.start_ms(week), calendar.start_ms(week + 1)
        while line < len(times) and times[line] < start_ms:
            line += 1
        while move + 1 < len(moves) and moves[move + 1][0] <= start_ms:
            move += 1
        price_minor = moves[move][1]
        segments = []
        at_ms = start_ms
        while at_ms < end_ms:
            until_ms = end_ms
            if move + 1 < len(moves) and moves[move + 1][0] < end_ms:
                until_ms = moves[move + 1][0]
            count = 0
            while line < len(times) and times[line] < until_ms:
                count, line = count + 1, line + 1
            days = calendar.open_days_before(until_ms) - calendar.open_days_before(at_ms)
            segments.append(Segment(moves[move][1], days, count))
            at_ms = until_ms
            if until_ms < end_ms:
                move += 1
        open_days = sum(segment.open_days for segment in segments)
        lines = sum(segment.lines for segment in segments)
        weeks.append(Week(week, price_minor, open_days, lines, tuple(segments)))
    return tuple(weeks)


def observations(week: Week, reference_price_minor: int) -> list[Observation]:
    """What a week teaches the demand model: one observation for each segment in open time."""
    return [
        Observation(
            Features(math.log(segment.price_minor / reference_price_minor), None, 0.0),
            orders=segment.lines,
            exposure_days=segment.open_days,
        )
        for segment in week.segments
        if segment.open_days >= EXPOSURE_DAYS_MIN
    ]
