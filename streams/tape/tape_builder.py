"""Events to tape records without a broker: what the intake agents do, in one process.

The same checks, the same routing and the same clock ticks, so that a replay, a backtest or a demo
reads the tape that Kafka would have held. Positions count from 0 on every source and tape
partition.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from schemas import tape
from schemas.codec import Headers, decode_event
from schemas.errors import EventError
from schemas.events import AnyEvent, ClockTicked, ProductListed, rfc3339
from schemas.tape import Source
from schemas.topics import CONTROLS, PARTITIONS_DEFAULT
from streams.tape.event_files import event_key
from streams.worker.routes import tape_partition
from streams.worker.ticks import MINUTE_MS, tick_event

AHEAD_MS_MAX = 5 * MINUTE_MS  # how far an event may lie ahead of intake's clock
SOURCE_PARTITIONS = PARTITIONS_DEFAULT
NEVER_MS = -(1 << 62)


class Placed(NamedTuple):
    """One record on the tape."""

    partition: int
    offset: int
    value: bytes


class DeadLetter(NamedTuple):
    """One source record that could not be accepted, and why."""

    source: Source
    key: bytes | None
    value: bytes | None
    error: EventError


class Route(NamedTuple):
    """Where a product's events go; fixed by its first listing."""

    family: str
    partition: int
    source_partition: int


class TapeBuilder:
    """Place an ordered stream of source records on a tape.

    Parameters
    ----------
    partitions : of the tape
    on_dead_letter : called with each record that is refused
    now_ms : intake's clock, Unix milliseconds: an event more than 5 minutes ahead is refused.
        By default the time at which the builder is made.
    tick_source : the topic that ticks made here name; where records bring their own positions it
        is none of theirs

    Notes
    -----
    A family goes to partition murmur2(family) of the tape, a source record to partition
    murmur2(key) of its topic's 4 (``controls`` has one; without a key partition 0). A control goes
    to every tape partition. A tick stands before the first event of each later minute; controls
    make none, since they carry an operator's time.
    """

    def __init__(
        self,
        partitions: int = PARTITIONS_DEFAULT,
        on_dead_letter: Callable[[DeadLetter], None] | None = None,
        now_ms: int | None = None,
        tick_source: str = CONTROLS.name,
    ) -> None:
        self.partitions = partitions
        self.dead_letters = 0
        self.appended = 0
        self.routes: dict[str, Route] = {}
        self._on_dead_letter = on_dead_letter
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        self._event_time_ms_max = now_ms + AHEAD_MS_MAX
        self._tick_source = tick_source
        self._ticked_ms = NEVER_MS
        self._next_tick_ms = NEVER_MS
        self._tape_end = [0] * partitions
        self._source_end: dict[str, list[int]] = {}

    def append(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        *,
        source: Source | None = None,
        headers: Headers | None = None,
    ) -> list[Placed]:
        """Check one source record and place it.

        Parameters
        ----------
        topic : source topic, without prefix
        value : the record's value as it came
        key : the record's key; by default its event's SKU
        source : where the record was read; by default positions are counted here
        headers : as Kafka delivered them

        Returns
        -------
        The tape records it makes, in order: ticks first; none for a dead letter.
        """
        try:
            event, body = decode_event(topic, key, value, headers)
            route = self._route(event)
        except EventError as error:
            return self._refuse(topic, key or event_key(value), value, error, source)
        if route is None:
            return self._control(topic, event, body, source)
        event_time_ms = event.event_time_ms
        placed: list[Placed] = []
        if event_time_ms >= self._next_tick_ms:
            placed = self._tick(event_time_ms)
        self.appended += 1
        record = tape.wrap(source or self._source(topic, route.source_partition), body)
        partition = route.partition
        offset = self._tape_end[partition]
        self._tape_end[partition] = offset + 1
        placed.append(Placed(partition, offset, record))
        return placed

    def _route(self, event: AnyEvent) -> Route | None:
        if event.event_time_ms > self._event_time_ms_max:
            raise _too_far_ahead(event, self._event_time_ms_max)
        sku: str | None = getattr(event, "sku", None)
        if sku is None:
            return None
        route = self.routes.get(sku)
        if type(event) is ProductListed:
            return self._list(event, route)
        if route is None:
            raise _unknown_product(sku)
        return route

    def _list(self, event: ProductListed, known: Route | None) -> Route:
        family = event.family if event.family is not None else event.sku
        if known is None:
            known = self.routes[event.sku] = Route(
                family,
                tape_partition(family, self.partitions),
                tape_partition(event.sku, SOURCE_PARTITIONS),
            )
        elif family != known.family:
            raise EventError(
                "family_changed",
                f"family was {family!r}; expected {known.family!r}, fixed by the first listing.",
                field="family",
                value=family,
                expected=known.family,
                fix="To move a product, retire it and list it under a new SKU.",
            )
        return known

    def _control(
        self, topic: str, event: AnyEvent, body: bytes, source: Source | None
    ) -> list[Placed]:
        source = source or self._source(topic, 0)
        if type(event) is ClockTicked:
            if event.event_time_ms <= self._ticked_ms:
                return []  # not above the last one
            self._set_clock(event.event_time_ms)
        self.appended += 1
        return self._place_everywhere(tape.wrap(source, body))

    def _tick(self, event_time_ms: int) -> list[Placed]:
        minute_ms = event_time_ms - event_time_ms % MINUTE_MS
        self._set_clock(minute_ms)
        source = self._source(self._tick_source, 0)
        return self._place_everywhere(tape.wrap(source, tick_event(minute_ms)))

    def _set_clock(self, tick_ms: int) -> None:
        self._ticked_ms = tick_ms
        self._next_tick_ms = tick_ms - tick_ms % MINUTE_MS + MINUTE_MS

    def _place_everywhere(self, record: bytes) -> list[Placed]:
        placed = [Placed(p, offset, record) for p, offset in enumerate(self._tape_end)]
        self._tape_end = [offset + 1 for offset in self._tape_end]
        return placed

    def _source(self, topic: str, partition: int) -> Source:
        ends = self._source_end.get(topic)
        if ends is None:
            ends = self._source_end[topic] = [0] * (
                1 if topic == CONTROLS.name else SOURCE_PARTITIONS
            )
        offset = ends[partition]
        ends[partition] = offset + 1
        return Source(topic, partition, offset)

    def _refuse(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        error: EventError,
        source: Source | None,
    ) -> list[Placed]:
        partition = 0
        if key is not None and topic != CONTROLS.name:
            partition = tape_partition(key.decode("utf-8", "replace"), SOURCE_PARTITIONS)
        source = source or self._source(topic, partition)
        error.where = f"{topic}[{source.partition}]@{source.offset}"
        self.dead_letters += 1
        if self._on_dead_letter is not None:
            self._on_dead_letter(DeadLetter(source, key, value, error))
        return []


def _unknown_product(sku: str) -> EventError:
    return EventError(
        "unknown_product",
        f"sku was {sku!r}; expected a product that has been listed.",
        field="sku",
        value=sku,
        expected="a product that has been listed",
        fix="Send its product_listed, then redrive this dead letter.",
    )


def _too_far_ahead(event: AnyEvent, event_time_ms_max: int) -> EventError:
    at = rfc3339(event.event_time_ms)
    latest = rfc3339(event_time_ms_max)
    return EventError(
        "future_event_time",
        f"event_time was {at}; expected at most {latest}.",
        field="event_time",
        value=at,
        expected=f"at most {latest}, 5 minutes ahead of intake's clock",
        fix="Correct the source's clock and resend.",
    )
