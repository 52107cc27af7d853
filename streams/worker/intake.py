"""Intake: one agent per source topic reads, checks and routes events, and appends them to the tape.

Per record, ``Intake.classify`` decides: append, dead letter, or drop. Per batch:

1. classify every record; what has no route yet waits until all listings before it are known;
2. send the dead letters, and wait until each is confirmed;
3. send the tape records, in order, and wait until each is confirmed;
4. products only: send the routes of new listings, and wait until each is confirmed;
5. propose a clock tick, if an event opened a new minute;
6. ack the source chunks (their offsets are committed later).

A crash before 6 repeats the batch: the fold drops tape records whose source offset it has seen.
That is why 2 comes before 3: on the repeat a refused record may have become acceptable, and the
fold would drop it if a later record of its partition had gone ahead. ``docs/delivery.md`` has
every case.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from schemas import tape
from schemas.codec import decode_event
from schemas.errors import EventError
from schemas.events import ClockTicked, ProductListed, SkuEvent, rfc3339
from schemas.tape import Source
from schemas.topics import CONTROLS, PRODUCTS, ROUTES, SOURCES, TAPE
from streams.kafka import dead_letters
from streams.metrics.worker import WorkerMetrics
from streams.tracing import Tracing, end_spans
from streams.worker.lanes import Lane
from streams.worker.outbox import IntakeOutbox, Send
from streams.worker.routes import Route, RouteTable, encode_route, tape_partition
from streams.worker.ticks import TickFilter, TickProposer
from streams.worker.transport import App, Chunk

FUTURE_MS_MAX = 5 * 60_000  # how far an event's time may be ahead of intake's clock


class Append(NamedTuple):
    """Goes on the tape: to one partition, or with None to all of them."""

    key: bytes | None
    value: bytes
    partition: int | None
    event_time_ms: int


class Refuse(NamedTuple):
    """Goes to the dead letters."""

    error: EventError


class Drop(NamedTuple):
    """Goes nowhere: a clock tick that is not above the last one."""


class Unrouted(NamedTuple):
    """Has a SKU that is not listed, as far as we know by now."""

    sku: str


Verdict = Append | Refuse | Drop | Unrouted


class Intake:
    """Checks and routes records, and appends batches of them.

    Parameters
    ----------
    routes : shared by all source topics of the process
    propose_ticks : whether event time makes clock ticks (else a feeder writes them itself)
    now_ms : wall clock, for the check against the future
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        outbox: IntakeOutbox,
        executor: Executor,
        tape_partitions: int,
        propose_ticks: bool,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        metrics: WorkerMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.routes = routes
        self.outbox = outbox
        self.executor = executor
        self.tape_partitions = tape_partitions
        self.now_ms = now_ms
        self.metrics = metrics or WorkerMetrics()
        self.tracing = tracing
        self._proposer = TickProposer() if propose_ticks else None
        self._filter = TickFilter()

    def close(self) -> None:
        """Let outbox and routes go, after the last batch."""
        self.outbox.close()
        self.routes.stop()

    # -- one record

    def classify(self, topic: str, record: Any, listed: dict[str, Route], now_ms: int) -> Verdict:
        """Decide about one record. Changes nothing, except what ticks have passed.

        Parameters
        ----------
        topic : source topic, without prefix
        record : key, value, headers, partition, offset, timestamp, as fetched
        listed : SKUs that this batch lists, known before their routes are written
        now_ms : wall clock, for the check against the future
        """
        try:
            accepted = decode_event(topic, record.key, record.value, record.headers)
            event = accepted.event
            event_time_ms = event.event_time_ms
            if event_time_ms > now_ms + FUTURE_MS_MAX:
                raise _in_the_future(event_time_ms, now_ms)
            value = tape.wrap(Source(topic, record.partition, record.offset), accepted.value)
            if not isinstance(event, SkuEvent):
                if isinstance(event, ClockTicked) and not self._filter.passes(event_time_ms):
                    return Drop()
                return Append(None, value, None, event_time_ms)
            if isinstance(event, ProductListed):
                return self._listing(record, event, value, listed)
        except EventError as error:
            return Refuse(error)
        sku = event.sku
        route = listed.get(sku) or self.routes.get(sku)
        if route is None:
            return Unrouted(sku)
        return Append(sku.encode(), value, route.partition, event_time_ms)

    def _listing(
        self, record: Any, event: ProductListed, value: bytes, listed: dict[str, Route]
    ) -> Append:
        if record.key is None:
            raise EventError(
                "missing_key",
                "a listing had no key; expected its SKU, so that a product's listings stay in "
                "order.",
                field="key",
                value="null",
                expected=f"the event's sku {event.sku!r}",
            )
        family = event.family if event.family is not None else event.sku
        known = listed.get(event.sku) or self.routes.get(event.sku)
        if known is not None and known.family != family:
            raise EventError(
                "family_changed",
                f"family was {family!r}; expected {known.family!r}, which the first listing fixed.",
                field="family",
                value=family,
                expected=known.family,
                fix="Retire the product and list it under a new SKU.",
            )
        route = known or Route(family, tape_partition(family, self.tape_partitions))
        if known is None:
            listed[event.sku] = route
        return Append(event.sku.encode(), value, route.partition, event.event_time_ms)

    # -- one batch

    async def append(self, topic: str, chunks: Sequence[Chunk], wanted: Callable[[], bool]) -> None:
        """Steps 1 to 5 for a batch of one source topic; the lane does step 6.

        Parameters
        ----------
        wanted : whether the chunks are still ours, while step 1 waits for listings

        Raises
        ------
        BatchAbandoned : no longer ours, in step 1; nothing was sent
        ServiceError : the broker refused a record, or routes cannot be read; nothing is acked
        """
        began_s = time.perf_counter()
        records = [record for chunk in chunks for record in chunk.records]
        loop = asyncio.get_running_loop()
        listed: dict[str, Route] = {}
        now_ms = self.now_ms()
        spans = self._begin_spans(topic, records)
        verdicts = [self.classify(topic, record, listed, now_ms) for record in records]
        if any(isinstance(verdict, Unrouted) for verdict in verdicts):
            # The products intake must not wait for itself: what precedes is in `listed`.
            if topic == PRODUCTS.name:
                await loop.run_in_executor(self.executor, self.routes.catch_up)
            else:
                await loop.run_in_executor(self.executor, self.routes.settle, wanted)
            verdicts = [
                self._again(topic, record, verdict, now_ms)
                for record, verdict in zip(records, verdicts, strict=True)
            ]
        await self._send(self._letters(topic, records, verdicts))
        await self._send(self._tape_records(verdicts, spans))
        await self._send(
            Send(ROUTES.name, sku.encode(), encode_route(sku, route))
            for sku, route in listed.items()
        )
        for sku, route in listed.items():
            self.routes.add(sku, route)
        await self._send(self._tick(topic, verdicts))
        end_spans(spans)
        self.metrics.appended(
            topic,
            [type(verdict).__name__.lower() for verdict in verdicts],
            [verdict.error.code for verdict in verdicts if isinstance(verdict, Refuse)],
            time.perf_counter() - began_s,
        )

    async def _send(self, sends: Iterable[Send]) -> None:
        batch = list(sends)
        if batch:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self.executor, self.outbox.send, batch)

    def _again(self, topic: str, record: Any, verdict: Verdict, now_ms: int) -> Verdict:
        if not isinstance(verdict, Unrouted):
            return verdict
        # Without the batch's own listings: this record stands before them.
        verdict = self.classify(topic, record, {}, now_ms)
        if not isinstance(verdict, Unrouted):
            return verdict
        return Refuse(
            EventError(
                "unknown_product",
                f"sku was {verdict.sku!r}; expected a product that was listed before.",
                field="sku",
                value=verdict.sku,
                expected="a listed product",
                fix="List the product on the topic products, then redrive this letter.",
            )
        )

    def _letters(
        self, topic: str, records: Sequence[Any], verdicts: Sequence[Verdict]
    ) -> Iterator[Send]:
        for record, verdict in zip(records, verdicts, strict=True):
            if isinstance(verdict, Refuse):
                yield dead_letters.intake_letter(topic, record, verdict.error, self.now_ms())

    def _begin_spans(self, topic: str, records: Sequence[Any]) -> dict[int, Any]:
        """Spans of the records that carry a trace, by their place in the batch."""
        if self.tracing is None:
            return {}
        headers = ((number, record.headers) for number, record in enumerate(records))
        return self.tracing.begin("intake", headers, topic=topic)

    def _tape_records(
        self, verdicts: Sequence[Verdict], spans: Mapping[int, Any]
    ) -> Iterator[Send]:
        everywhere = range(self.tape_partitions)
        for number, verdict in enumerate(verdicts):
            if isinstance(verdict, Append):
                traced: tuple[tuple[str, bytes], ...] = ()
                if number in spans and self.tracing is not None:
                    traced = (self.tracing.header(spans[number]),)
                one = verdict.partition
                for partition in everywhere if one is None else (one,):
                    yield Send(TAPE.name, verdict.key, verdict.value, partition, traced)

    def _tick(self, topic: str, verdicts: Sequence[Verdict]) -> Iterator[Send]:
        # Controls carry an operator's time, which may be far from that of a replayed history.
        if self._proposer is None or topic == CONTROLS.name:
            return
        times_ms = [verdict.event_time_ms for verdict in verdicts if isinstance(verdict, Append)]
        tick = self._proposer.propose(max(times_ms)) if times_ms else None
        if tick is not None:
            yield Send(CONTROLS.name, None, tick, 0)


def _in_the_future(event_time_ms: int, now_ms: int) -> EventError:
    return EventError(
        "future_event_time",
        f"event_time was {rfc3339(event_time_ms)}; expected at most 5 minutes ahead of intake's "
        "clock.",
        field="event_time",
        value=rfc3339(event_time_ms),
        expected=f"at most {rfc3339(now_ms + FUTURE_MS_MAX)}",
    )


def add_agents(app: App, intake: Intake, *, prefix: str, batch_records: int) -> None:
    """Declare one Faust agent per source topic."""
    for source in SOURCES:
        _add_agent(app, intake, source.name, f"{prefix}{source.name}", batch_records)


def _add_agent(app: App, intake: Intake, name: str, topic: str, batch_records: int) -> None:
    async def work(chunks: Sequence[Chunk]) -> None:
        await intake.append(name, chunks, lambda: app.chunk_consumer.is_current(chunks[0]))

    lane = Lane(app, f"intake-{name}", work, batch_records=batch_records)

    @app.agent(app.chunks(topic), name=f"intake-{name}")
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            lane.put(event.message.value)
