"""The pricer: per tape partition, one task folds what waits and commits it in one transaction.

Per batch of a partition:

1. check that the offsets follow the last applied one without a gap;
2. ``engine.apply``: pure, in memory; what the kill switch stops does not go to the outbox;
3. commit outputs, state and manifest in one transaction (``TransactionalOutbox.commit``);
4. ack the chunks.

A crash before 3 ends: readers see nothing of the batch, and the next owner folds it again to the
same bytes. After 3: the manifest's position makes the repeat begin behind it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import msgspec
from aiokafka.errors import IllegalStateError

from models.guards import discount_gate
from models.guards.gate import decision_is_sound
from schemas.errors import EngineError, PricemakerError
from schemas.outputs import DiscountOffered, PriceDecided
from schemas.topics import DISCOUNTS, PRICES, PRICES_LATEST
from streams.metrics.worker import WorkerMetrics
from streams.tracing import Tracing, end_spans
from streams.worker.kill_switch import KillSwitch, Part, withheld
from streams.worker.lanes import Lane
from streams.worker.outbox import BatchRecords, GateBreach, OutputRecord
from streams.worker.recovery import Held, NoLongerOurs, Recovery
from streams.worker.transport import App, Chunk

PRICED_TOPICS = frozenset({PRICES.name, PRICES_LATEST.name})
_decision = msgspec.json.Decoder(PriceDecided)
_discount = msgspec.json.Decoder(DiscountOffered)


class Pricer:
    """The tape partitions in this worker's hands."""

    def __init__(
        self,
        recovery: Recovery,
        executor: Executor,
        switch: KillSwitch,
        metrics: WorkerMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.recovery = recovery
        self.executor = executor
        self.switch = switch
        self.metrics = metrics or WorkerMetrics()
        self.tracing = tracing
        self.metrics.engines = lambda: [
            (number, held.engine) for number, held in list(self._held.items())
        ]
        self._held: dict[int, Held] = {}

    # -- one batch

    async def price(self, partition: int, chunks: Sequence[Chunk]) -> None:
        """Steps 1 to 3 for a batch of one tape partition; the lane does step 4.

        Raises
        ------
        EngineError : a gap on the tape, or the fold met a bug
        GateBreach, ServiceError : see ``TransactionalOutbox.commit``
        """
        held = self._held[partition]
        appended_ms = chunks[0].records[0].timestamp
        records = [(record.offset, record.value) for chunk in chunks for record in chunk.records]
        check_contiguous(partition, held.engine.position, records)
        spans = self._begin_spans(partition, chunks)
        for part in self.switch.parts(records, held.engine.controls_read):
            await self._price(held, part, appended_ms, spans)
        end_spans(spans)

    def _begin_spans(self, partition: int, chunks: Sequence[Chunk]) -> dict[int, Any]:
        """Spans of the tape records that carry a trace, by their offset."""
        if self.tracing is None:
            return {}
        headers = ((record.offset, record.headers) for chunk in chunks for record in chunk.records)
        return self.tracing.begin("price", headers, tape_partition=partition)

    async def _price(
        self, held: Held, part: Part, appended_ms: int, spans: Mapping[int, Any]
    ) -> None:
        partition, records = held.partition, part.records
        began_s = time.perf_counter()
        try:
            batch: BatchRecords = held.engine.apply(records)
        except PricemakerError:
            raise
        except Exception as error:
            raise EngineError(
                "fold_failed",
                f"the fold failed: {type(error).__name__}: {error}.",
                where=f"tape[{partition}]@{records[0][0]} to {records[-1][0]}",
                fix="This is a bug: nothing was committed. Keep the tape and report it.",
            ) from error
        folded_s = time.perf_counter()
        decisions = self.metrics.folded(len(records), batch.outputs, folded_s - began_s)
        if part.held_back or self.switch.pending(held.engine.controls_read) is not None:
            batch = withheld(batch, partition)
        if self.tracing is not None:
            batch = self.tracing.mark(batch, spans)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.executor, held.outbox.commit, batch)
        self.metrics.committed(decisions, time.perf_counter() - folded_s, appended_ms)

    def close(self) -> None:
        """Let the outboxes go, after the last batch."""
        for held in self._held.values():
            held.outbox.close()
        self.switch.close()
        self._held = {}

    # -- rebalance

    async def take_over(
        self, partitions: Iterable[int], generation: int, still_ours: Callable[[], bool]
    ) -> dict[int, int]:
        """Take over the assigned tape partitions; the offset to read next for each.

        A partition that was ours in the generation before is kept: nobody else can have had it
        in between, so state and producer are as the last batch left them.

        Raises
        ------
        IllegalStateError : a rebalance began meanwhile
        """
        wanted = frozenset(partitions)
        kept = {
            partition: held
            for partition, held in self._held.items()
            if partition in wanted and held.generation + 1 == generation
        }
        self._held = {}
        loop = asyncio.get_running_loop()
        try:
            taken = await asyncio.gather(
                *(
                    loop.run_in_executor(
                        self.executor,
                        self.recovery.take_over,
                        partition,
                        generation,
                        still_ours,
                    )
                    for partition in sorted(wanted - kept.keys())
                )
            )
        except NoLongerOurs as error:
            raise IllegalStateError(str(error)) from error
        for held in kept.values():
            held.generation = generation
        self._held = kept | {held.partition: held for held in taken}
        read = [held.engine.controls_read for held in self._held.values()]
        if read:
            await loop.run_in_executor(self.executor, self.switch.follow, min(read))
        return {partition: held.engine.position + 1 for partition, held in self._held.items()}


def publisher_gate(output: OutputRecord) -> None:
    """The outbox's last look at a price or discount, from the bytes that are about to leave.

    Raises
    ------
    GateBreach : the price would sell below cost, or past an open breaker; the worker ends
    """
    if output.value is None:
        return
    decision: PriceDecided | DiscountOffered
    if output.topic in PRICED_TOPICS:
        decision = _decision.decode(output.value)
        reasons = decision_is_sound(decision)
    elif output.topic == DISCOUNTS.name:
        decision = _discount.decode(output.value)
        reasons = discount_gate.is_sound(decision)
    else:
        return
    if reasons:
        raise GateBreach(
            "gate_breach",
            f"a price for sku {decision.sku!r} must not leave: {'; '.join(reasons)}.",
            where=f"tape[{decision.tape.partition}]@{decision.tape.offset}",
            field="price_minor",
            value=(
                decision.price_minor
                if isinstance(decision, PriceDecided)
                else decision.discounted_minor
            ),
            expected="a price that passes the gate, or status held",
            fix="This is a bug: nothing of the batch was sent. Keep the tape and report it.",
        )


def check_contiguous(partition: int, position: int, records: Sequence[tuple[int, Any]]) -> None:
    """Check that the records' offsets are position + 1, position + 2, and so on.

    Raises
    ------
    EngineError : naming the first offset that does not follow
    """
    for expected, (offset, _) in enumerate(records, position + 1):
        if offset != expected:
            raise EngineError(
                "tape_jump",
                f"the offset was {offset}; expected {expected}.",
                where=f"tape[{partition}]@{offset}",
                field="offset",
                value=offset,
                expected=str(expected),
                fix="Only intake may write the tape, and not in transactions. Restart the worker "
                "to read it again.",
            )


def add_agent(app: App, pricer: Pricer, *, topic: str, batch_records: int) -> None:
    """Declare the Faust agent of the tape."""
    lanes: dict[int, Lane] = {}

    def lane_of(partition: int) -> Lane:
        async def work(chunks: Sequence[Chunk]) -> None:
            await pricer.price(partition, chunks)

        return Lane(app, f"pricer-{partition}", work, batch_records=batch_records)

    @app.agent(app.chunks(topic), name="pricer")
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            chunk: Chunk = event.message.value
            if chunk.tp.partition not in lanes:
                lanes[chunk.tp.partition] = lane_of(chunk.tp.partition)
            lanes[chunk.tp.partition].put(chunk)
