"""P&L explain of decisions and tape: a pure fold over both, a row for each product and day."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.pnl import pnl, pnl_realised
from models.pnl.pnl import Change, Valuation
from models.pnl.pnl_alarm import ALARM_DAYS, LAG_DAYS
from models.pnl.pnl_realised import Day, DayResult, Quote
from schemas import topics
from schemas.drift import DriftView
from schemas.events import (
    DAY_MS,
    HOUR_MS,
    ClockTicked,
    InventoryChanged,
    OrderCancelled,
    OrderPlaced,
    PriceApplied,
    SkuEvent,
    TrafficCounted,
    rfc3339,
    time_ms,
)
from schemas.outputs import PriceDecided
from streams.explain.decisions import READ_DEADLINE_S, decode, lines
from streams.explain.pnl_alarms import AlarmDay, PnlAlarm, alarm_days
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_to_end, require_partitions
from streams.tape.tape_builder import Placed
from streams.tape.tape_faults import decoded

GRACE_MS = HOUR_MS  # a day waits so long for what belongs to it


class Decided(NamedTuple):
    """What P&L explain keeps of a published decision."""

    partition: int
    offset: int
    day: int
    category: str
    currency: str
    valuation: Valuation | None
    quote: Quote | None
    drift: DriftView | None


class PnlDay(msgspec.Struct, kw_only=True):
    """One product and day, money in minor units; see docs/pnl-explain.md.

    ``terms`` and ``revaluation_minor`` add up to ``change_minor``; they are None on a day without
    a second decision. ``realised`` is None where no order was expected, or without a tape.
    ``drift_evidence_nats`` is the engine's detector; ``alarm`` compares with an older belief and
    is None while there is none, or where stock was short.
    """

    sku: str
    day: str
    category: str
    currency: str
    decisions: int
    change_minor: float | None = None
    terms: dict[str, float] | None = None
    revaluation_minor: float | None = None
    realised: DayResult | None = None
    drift_evidence_nats: float | None = None
    drift_alarm_nats: float | None = None
    alarm: AlarmDay | None = None


Decisions = dict[str, list[Decided]]


# -- decisions


def decisions_from_file(path: Path, sku: str | None) -> Decisions:
    """Decisions that ``pricemaker replay --out`` wrote, of one product or of all.

    Raises
    ------
    InputError : a line is no decision
    ServiceError : the file can't be read
    """
    found = (decode(line, PriceDecided, where) for where, line in lines(path))
    return decisions_of(found, sku)


def decisions_from_kafka(settings: Any, sku: str | None) -> Decisions:
    """The decisions on ``prices``, of one product or of all.

    Raises
    ------
    ServiceError : the broker cannot be reached, or the topic is missing
    """
    with opened(settings, "pnl") as consumer:
        topic = topic_name(settings, topics.PRICES.name)

        def values() -> Iterator[PriceDecided]:
            for number in range(require_partitions(consumer, topic)):
                for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
                    if sku is None or message.key() == sku.encode():
                        yield msgspec.json.decode(message.value() or b"", type=PriceDecided)

        return decisions_of(values(), sku)


def decisions_of(decisions: Iterable[PriceDecided], sku: str | None = None) -> Decisions:
    """What is needed of published decisions, by SKU and in tape order."""
    found: Decisions = {}
    for decision in decisions:
        if decision.status != "published" or sku not in (None, decision.sku):
            continue
        record = decision.record
        found.setdefault(decision.sku, []).append(
            Decided(
                partition=decision.tape.partition,
                offset=decision.tape.offset,
                day=_day_of(decision.decided_at),
                category="" if record is None else record.category,
                currency=decision.currency,
                valuation=pnl.valuation_of(decision),
                quote=pnl_realised.quote_of(decision),
                drift=None if record is None else record.drift,
            )
        )
    for of_sku in found.values():
        of_sku.sort(key=lambda one: one.offset)
    return dict(sorted(found.items()))


# -- the model layer


def model_days(decisions: Decisions) -> dict[tuple[str, int], list[Change]]:
    """Why Pi changed, by product and day of the later decision."""
    pairs: list[tuple[Valuation, Valuation]] = []
    places: list[tuple[str, int]] = []
    for sku, of_sku in decisions.items():
        for before, after in pairwise(of_sku):
            if before.valuation is not None and after.valuation is not None:
                pairs.append((before.valuation, after.valuation))
                places.append((sku, after.day))
    found: dict[tuple[str, int], list[Change]] = {}
    for place, change in zip(places, pnl.explain(pairs), strict=True):
        found.setdefault(place, []).append(change)
    return found


# -- the realised layer


class _Book:
    """One product's way along the tape."""

    def __init__(self, decided: list[Decided]) -> None:
        self.ahead = deque(decided)
        self.quote: Quote | None = None
        self.quotes: deque[tuple[int, Quote]] = deque()  # by day, back to LAG_DAYS
        self.shown_minor: int | None = None  # what the shop says it shows
        self.stock: int | None = None
        self.accrued_ms: int | None = None
        self.days: dict[int, Day] = {}
        self.lines: dict[tuple[str, str], tuple[int, int, int]] = {}  # day, units, price

    def advance(self, offset: int, now_ms: int) -> None:
        """Let decisions made before a place on the tape come into force."""
        while self.ahead and self.ahead[0].offset < offset:
            self.pass_time(now_ms)
            one = self.ahead.popleft()
            self.quote = one.quote or self.quote
            if one.quote is not None:
                self.quotes.append((one.day, one.quote))
            if self.accrued_ms is None:
                self.accrued_ms = now_ms

    def day(self, number: int) -> Day:
        if number not in self.days:
            self.days[number] = Day(self.stock)
        return self.days[number]

    def pass_time(self, now_ms: int) -> None:
        """Without a traffic feed time is the exposure."""
        start_ms, quote = self.accrued_ms, self.quote
        if start_ms is None or now_ms <= start_ms:
            return
        self.accrued_ms = now_ms
        if quote is None or quote.visits_per_day is not None:
            return
        while start_ms < now_ms:
            number = start_ms // DAY_MS
            end_ms = min((number + 1) * DAY_MS, now_ms)
            self.expose(number, (end_ms - start_ms) / DAY_MS)
            start_ms = end_ms

    def expose(self, number: int, exposure: float) -> None:
        quote = self.quote
        if quote is not None:
            price_minor = self.shown_minor or quote.price_minor
            self.day(number).expose(quote, price_minor, exposure, self.old(number))

    def old(self, number: int) -> Quote | None:
        """The last belief of LAG_DAYS before; earlier ones are forgotten."""
        day, quotes = number - LAG_DAYS, self.quotes
        while len(quotes) > 1 and quotes[1][0] <= day - 1:  # yesterday may still take exposure
            quotes.popleft()
        found = [quote for since, quote in quotes if since <= day]
        return found[-1] if found else None

    def closed(self, now_ms: int) -> Iterator[tuple[int, DayResult]]:
        """Days that wait no longer."""
        for number in [n for n in self.days if (n + 1) * DAY_MS + GRACE_MS <= now_ms]:
            result = self.days.pop(number).result()
            self.lines = {key: line for key, line in self.lines.items() if line[0] > number}
            if result is not None:
                yield number, result


def realised_days(
    decisions: Decisions, records: Iterable[Placed]
) -> Iterator[tuple[str, int, DayResult]]:
    """What each product's days earned against what was expected; one pass over the tape.

    Memory: the decisions, LAG_DAYS of beliefs, two open days and a day's order lines for each
    product.
    """
    books = {sku: _Book(of_sku) for sku, of_sku in decisions.items()}
    homes: dict[int, list[str]] = {}
    for sku, of_sku in decisions.items():
        homes.setdefault(of_sku[0].partition, []).append(sku)
    today: dict[int, int] = {}
    for placed in records:
        event = decoded(placed).event
        now_ms = event.event_time_ms
        if isinstance(event, ClockTicked):
            if now_ms // HOUR_MS > today.get(placed.partition, -1):
                today[placed.partition] = now_ms // HOUR_MS
                for sku in homes.get(placed.partition, ()):
                    yield from _look(sku, books[sku], placed.offset, now_ms)
        elif isinstance(event, SkuEvent) and event.sku in books:
            book = books[event.sku]
            book.advance(placed.offset, now_ms)
            _take(book, event, now_ms)
    for sku, book in books.items():
        for number, result in book.closed(1 << 62):
            # the tape may end within the day, which is no lack of orders
            yield sku, number, msgspec.structs.replace(result, watched=None)


def _look(sku: str, book: _Book, offset: int, now_ms: int) -> Iterator[tuple[str, int, DayResult]]:
    book.advance(offset, now_ms)
    book.pass_time(now_ms)
    for number, result in book.closed(now_ms):
        yield sku, number, result


def _take(book: _Book, event: SkuEvent, now_ms: int) -> None:
    """One event of a product into its book."""
    number, quote = now_ms // DAY_MS, book.quote
    if isinstance(event, OrderPlaced):
        day = book.day(number)  # opened with the stock before this order
        if book.stock is not None:
            book.stock -= event.quantity
        if quote is not None:
            day.order(quote, event.quantity, event.unit_price_minor)
            key = (event.order_id, event.line_id)
            book.lines[key] = (number, event.quantity, event.unit_price_minor)
    elif isinstance(event, OrderCancelled):
        _cancel(book, event)
    elif isinstance(event, InventoryChanged):
        if book.stock is not None:
            book.day(number).restock(event.on_hand - book.stock)
        book.stock = event.on_hand
    elif isinstance(event, TrafficCounted):
        if quote is not None and quote.visits_per_day is not None:
            book.expose((time_ms(event.to_time) - 1) // DAY_MS, float(event.visits))
    elif isinstance(event, PriceApplied):
        book.pass_time(now_ms)
        book.shown_minor = event.price_minor


def _cancel(book: _Book, event: OrderCancelled) -> None:
    """A line of a day that is still open; earlier ones were learned as sold, and stay."""
    if book.stock is not None:
        book.stock += event.quantity
    key, quote = (event.order_id, event.line_id), book.quote
    line = book.lines.get(key)
    if line is None or quote is None:
        return
    number, left, price_minor = line
    units = min(event.quantity, left)
    book.lines[key] = (number, left - units, price_minor)
    day = book.days.get(number)
    if day is not None:
        day.cancel(quote, units, price_minor, whole=units == left)
        day.restock(units)


# -- both together


def explain_days(
    decisions: Decisions,
    records: Iterable[Placed] | None,
    day: int | None,
    days_between_alarms: float = ALARM_DAYS,
) -> tuple[list[PnlDay], list[PnlAlarm]]:
    """Both layers in order of product and day, and alarms of sums; of one day, or of all."""
    model = model_days(decisions)
    realised: dict[tuple[str, int], DayResult] = {}
    if records is not None:
        realised = {
            (sku, number): found for sku, number, found in realised_days(decisions, records)
        }
    watched = {place: one.watched for place, one in realised.items() if one.watched is not None}
    categories = {sku: of_sku[-1].category for sku, of_sku in decisions.items()}
    alarms = alarm_days(watched, categories, days_between_alarms)
    made: dict[tuple[str, int], list[Decided]] = {}
    for sku, of_sku in decisions.items():
        for one in of_sku:
            made.setdefault((sku, one.day), []).append(one)
    rows = [
        _row(place, decisions[place[0]][-1], made.get(place, []), model.get(place), realised)
        for place in sorted({*made, *realised})
        if day in (None, place[1])
    ]
    seen = {(one.name, _date(one.day)): one.seen for one in alarms if one.scope == "product"}
    for row in rows:
        row.alarm = seen.get((row.sku, row.day))
    sums = [one for one in alarms if one.scope != "product" and day in (None, one.day)]
    return rows, sums


def _row(
    place: tuple[str, int],
    last: Decided,
    made: list[Decided],
    changes: list[Change] | None,
    realised: Mapping[tuple[str, int], DayResult],
) -> PnlDay:
    row = PnlDay(
        sku=place[0],
        day=_date(place[1]),
        category=last.category,
        currency=last.currency,
        decisions=len(made),
    )
    if changes is not None:
        row.change_minor = sum(one.change_minor for one in changes)
        row.terms = {name: sum(one.terms[name] for one in changes) for name in pnl.TERMS}
        row.revaluation_minor = sum(one.revaluation_minor for one in changes)
    if place in realised:
        row.realised = realised[place]
    if made and made[-1].drift is not None:
        seen = made[-1].drift
        row.drift_evidence_nats = max(
            seen.level_up, seen.level_down, seen.less_elastic, seen.more_elastic
        )
        row.drift_alarm_nats = seen.alarm_nats
    return row


def _date(day: int) -> str:
    return rfc3339(day * DAY_MS)[:10]


def _day_of(time_text: str) -> int:
    return time_ms(datetime.fromisoformat(time_text)) // DAY_MS
