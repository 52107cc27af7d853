"""Faust's transport, hardened: agents get chunks of records, and nothing is acked but by hand.

Stock Faust hands an agent one message at a time, acks a message whose handling failed, forgets
acks at a rebalance, and can go on with records that were fetched before a seek. This module
replaces the path between the group's consumer and the agents, and no more:

- A *chunk* is a run of up to ``chunk_records`` records of one partition. It travels through Faust
  as one message; the agent acks it with ``ChunkConsumer.done`` once its effects are durable.
- An *epoch* begins at every revocation and every seek. A chunk of an earlier epoch is dropped
  wherever it turns up: its records will be read again.
- At most ``chunks_in_flight`` chunks per partition are handed out and not yet done.
- Offsets for a new epoch are explicit for every partition (``App.start_offsets``): an offset
  outside the log is an error, and never silently the beginning.

The versions are pinned and ``tests/streams/test_canary.py`` fails when a name used here moves.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import ConsumerRecord
from faust.app import App as FaustApp
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, TopicT

from schemas.errors import ServiceError


class BatchAbandoned(Exception):
    """The work was for partitions that are being revoked, and nothing of it was done yet."""


# How long a fetch waits for records: short while partitions are held back, since a fetch does not
# notice that one of them was released, and short enough that a seek, which waits for the fetch
# under way, never waits long.
FETCH_WAIT_S = 0.2
FETCH_WAIT_HELD_BACK_S = 0.005


@dataclass(slots=True, eq=False)
class Chunk:
    """A run of records of one partition, in offset order, of one epoch."""

    tp: TP
    epoch: int
    records: Sequence[ConsumerRecord]

    @property
    def next_offset(self) -> int:
        """The offset after the last record: what is committed once the chunk is done."""
        return int(self.records[-1].offset) + 1


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the broker holds of a partition, and what the group committed there."""

    begin: int
    end: int
    committed: int | None


# (ranges of the assigned partitions, is it still our assignment?) -> offset to read next
StartOffsets = Callable[[Mapping[TP, LogRange], Callable[[], bool]], Awaitable[Mapping[TP, int]]]


class ChunkSchema(Schema):  # type: ignore[type-arg]
    """Passes a chunk through Faust's decoding untouched."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, {}, message)

        return decode


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that runs aiokafka, with the settings Faust fixes by hand."""

    app: "App"

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_wait_ms
        # What a producer took back by aborting its transaction never happened.
        consumer._isolation_level = "read_committed"
        return consumer

    async def leave_group(self) -> None:
        """Tell the group that this member is gone."""
        await self.call_thread(self._leave_group)

    async def _leave_group(self) -> None:
        coordinator = self._ensure_consumer()._coordinator
        if coordinator.generation > 0:
            request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
            with suppress(KafkaError):  # the session ends by itself, a little later
                await coordinator._send_req(request)


class ChunkConsumer(driver.Consumer):
    """The group's consumer: fetches runs, hands out chunks, commits what is done."""

    app: "App"
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.epoch = 0
        self._fetching = asyncio.Lock()
        self._in_flight: dict[TP, deque[Chunk]] = {}
        self._next_commit: dict[TP, int] = {}
        self._released = asyncio.Event()
        self._batches = 0
        self._no_batch = asyncio.Event()
        self._no_batch.set()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- what agents call

    def is_current(self, chunk: Chunk) -> bool:
        """Whether work on the chunk may begin now."""
        return self.flow_active and chunk.epoch == self.epoch

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Mark work under way: a rebalance and a stop wait for it to end."""
        self._batches += 1
        self._no_batch.clear()
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self._no_batch.set()

    def done(self, chunk: Chunk) -> None:
        """Ack a chunk whose effects are durable. Chunks of a partition are done in order."""
        if chunk.epoch != self.epoch:
            return
        queue = self._in_flight[chunk.tp]
        if not queue or queue[0] is not chunk:
            raise RuntimeError(f"{chunk.tp} was done out of order at {chunk.next_offset}")
        queue.popleft()
        self._next_commit[chunk.tp] = chunk.next_offset
        self._released.set()
        self.app.progress.done(chunk.tp.topic, chunk.tp.partition, chunk.next_offset)

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._fetch_once()
        except asyncio.CancelledError:
            # The records of a cancelled fetch are gone while the position has moved on. That is
            # harmless only when nothing will be read any more. Then it ends here: raised on, Faust
            # takes it for a crash where a rebalance is under way.
            if not (self.app.should_stop or fetcher.should_stop):
                self.app.halt(RuntimeError("the fetch loop was cancelled"))
                raise
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except Exception as error:
            self.app.halt(error)
            raise

    async def _fetch_once(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
            return
        limit = self.app.chunks_in_flight
        assigned = self._get_active_partitions()
        wanted = {tp for tp in assigned if len(self._in_flight.get(tp, ())) < limit}
        if not wanted:
            # An empty set would mean "all" to aiokafka.
            self._released.clear()
            await self.wait(self._released.wait(), timeout=FETCH_WAIT_S)
            return
        held_back = len(wanted) < len(assigned)
        wait_s = FETCH_WAIT_HELD_BACK_S if held_back else FETCH_WAIT_S
        async with self._fetching:
            epoch = self.epoch
            runs = await self._getmany(active_partitions=wanted, timeout=wait_s)
        for tp, records in runs.items():
            await self._hand_out(tp, records, epoch)
        if self.app.drain_pause_s:
            await asyncio.sleep(self.app.drain_pause_s)  # fewer, fuller chunks

    async def _hand_out(self, tp: TP, records: Sequence[ConsumerRecord], epoch: int) -> None:
        size = self.app.chunk_records
        for start in range(0, len(records), size):
            if epoch != self.epoch or not self.flow_active:
                return  # the seek that follows reads them again
            chunk = Chunk(tp, epoch, records[start : start + size])
            self._in_flight.setdefault(tp, deque()).append(chunk)
            await self.callback(self._message(chunk))

    def _message(self, chunk: Chunk) -> ConsumerMessage:
        last = chunk.records[-1]
        message = ConsumerMessage(
            *chunk.tp,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=chunk,  # type: ignore[arg-type]
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=chunk.tp,
            generation_id=self.app.consumer_generation_id,
        )
        # Faust must not wait for its own acks: one dropped at a revocation would never come.
        message.tracked = True
        return message

    # -- acks and commits

    def ack(self, message: Any) -> bool:
        """Ignore Faust's own ack: only ``done`` counts."""
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self._next_commit))

    def _new_offset(self, tp: TP) -> int | None:
        return self._next_commit.get(tp)

    async def verify_all_partitions_active(self) -> None:
        """Leave stalls to the lag monitor, which asks the broker."""

    async def wait_empty(self) -> None:
        """Wait until no batch is under way (none begins once the flow is stopped), commit."""
        if not self.app.halted:
            await self._no_batch.wait()
            await self.commit_and_end_transactions()

    # -- rebalance and stop

    async def on_stop(self) -> None:
        """Let batches end, commit, and leave the group: others take over at once.

        A static member does not leave by itself, so that a crash and a quick restart move nothing.
        """
        await super().on_stop()
        if not self.app.halted:
            await self._thread.leave_group()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let batches end and commit them, then forget what was handed out."""
        await super().on_partitions_revoked(revoked)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.app.progress.assign(None)
        self.epoch += 1
        self._in_flight.clear()
        self._next_commit.clear()
        self._released.set()

    async def perform_seek(self) -> None:
        """Take over what is assigned: an explicit offset for every partition.

        The fetch under way, if any, ends first: it could otherwise bring records from before the
        seek. Any failure ends the worker; Faust would go on reading from anywhere.
        """
        generation, rebalances = self.app.consumer_generation_id, self.app.rebalancing_count

        def still_ours() -> bool:
            return (self.app.consumer_generation_id, self.app.rebalancing_count) == (
                generation,
                rebalances,
            )

        self.stop_flow()
        self._begin_epoch()
        try:
            async with asyncio.timeout(self.app.take_over_deadline_s), self._fetching:
                starts = await self.app.start_offsets(await self._log_ranges(), still_ours)
                await self.seek_wait(starts)
        except (asyncio.CancelledError, IllegalStateError):
            raise  # the next rebalance has begun and will seek
        except Exception as error:
            if not still_ours():
                raise IllegalStateError("a rebalance began meanwhile") from error
            self.app.halt(self._too_slow() if isinstance(error, TimeoutError) else error)
            raise
        self._committed_offset.update(starts)
        for tp, offset in starts.items():
            self.app.progress.start(tp.topic, tp.partition, offset)
        self.app.progress.assign(starts)

    def _too_slow(self) -> ServiceError:
        return ServiceError(
            "take_over_too_slow",
            f"taking partitions over took more than {self.app.take_over_deadline_s:.0f} s.",
            fix="Check the broker's load, or raise kafka.request_timeout_s.",
        )

    async def _log_ranges(self) -> dict[TP, LogRange]:
        tps = self.assignment()
        committed = await self.seek_to_committed()
        begin = await self.earliest_offsets(*tps)
        end = await self.highwaters(*tps)
        ranges = {}
        for tp in tps:
            known = committed.get(tp)
            known = None if known is None or known < 0 else known
            ranges[tp] = LogRange(begin=begin[tp], end=end[tp], committed=known)
        return ranges


class ChunkTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = ChunkConsumer


class App(FaustApp):
    """The Faust application: our transport, no files, and an end at the first surprise.

    Parameters
    ----------
    halt : ends the worker at once with an error; called at most once, from any thread
    start_offsets : see ``StartOffsets``
    progress : told which offsets are done
    """

    def __init__(
        self,
        group_id: str,
        *,
        halt: Callable[[BaseException], None],
        start_offsets: StartOffsets,
        progress: Any,
        worker: Any,
        take_over_deadline_s: float,
        **options: Any,
    ) -> None:
        self._halt = halt
        self.halted = False
        self.start_offsets = start_offsets
        self.progress = progress
        self.take_over_deadline_s = take_over_deadline_s
        self.chunk_records: int = worker.chunk_records
        self.chunks_in_flight: int = worker.chunks_in_flight
        self.drain_pause_s: float = worker.drain_pause_ms / 1000.0
        self.fetch_wait_ms: int = worker.fetch_wait_ms
        super().__init__(group_id, **options)

    def chunks(self, topic: str) -> TopicT:
        """A topic whose agents get ``Chunk``s."""
        return self.topic(topic, schema=ChunkSchema())

    @property
    def chunk_consumer(self) -> ChunkConsumer:
        """The group's consumer, as what it is."""
        return cast(ChunkConsumer, self.consumer)

    def halt(self, error: BaseException) -> None:
        """End the worker at once: from here on nothing is acked."""
        if not self.halted:
            self.halted = True
            self._halt(error)

    def _crash(self, reason: BaseException) -> None:
        # A service of Faust's crashed; Faust would restart it and go on.
        self.halt(reason)
        super()._crash(reason)

    def _new_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> ChunkTransport:
        return ChunkTransport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Make none: state lives in Kafka."""
