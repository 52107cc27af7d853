"""Taking partitions over: where to read on, and with which state.

For a tape partition, in this order (``docs/delivery.md`` says what happens when each fails):

1. check that the partition is still ours;
2. ``init_transactions``: the last owner is fenced, its open transaction aborted;
3. read the state partition to its end: the last value of each key, without tombstones;
4. restore the engine, whose position comes from the manifest in that state;
5. check that the position lies inside the tape; reading goes on at position + 1. Where the state
   was made by another engine fingerprint, say so on the tape.

For a source partition the committed offset is where to read on; it must lie inside the log.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

from schemas.errors import InputError
from schemas.topics import STATE, TAPE
from streams.kafka import reader
from streams.kafka.kafka_settings import topic_name
from streams.metrics.worker import WorkerMetrics
from streams.tape.tape_faults import PROGRAM
from streams.worker.outbox import BatchRecords, Gate, IntakeOutbox, Send, TransactionalOutbox
from streams.worker.transport import LogRange

log = logging.getLogger(__name__)


class Engine(Protocol):
    """The pure fold of one tape partition."""

    @property
    def position(self) -> int: ...
    @property
    def controls_read(self) -> int: ...
    def apply(self, records: Any) -> BatchRecords: ...
    def announcement(self, source_offset: int, worker: str, version: str) -> bytes | None: ...


class EngineFactory(Protocol):
    """Makes engines. Called from worker threads, one call at a time per partition."""

    def new(self, partition: int) -> Engine: ...
    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> Engine: ...


class NoLongerOurs(Exception):
    """The partition was revoked while it was being taken over; nothing was changed."""


@dataclass
class Held:
    """A tape partition in our hands: its engine and its outbox belong together."""

    partition: int
    generation: int
    engine: Engine
    outbox: TransactionalOutbox


class Recovery:
    """Takes tape partitions over, one at a time per partition. Blocking."""

    def __init__(
        self,
        settings: Any,
        factory: EngineFactory,
        gate: Gate,
        *,
        deadline_s: float,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self.settings = settings
        self.factory = factory
        self.gate = gate
        self.deadline_s = deadline_s
        self.metrics = metrics or WorkerMetrics()
        self._state_topic = topic_name(settings, STATE.name)
        self._tape_topic = topic_name(settings, TAPE.name)
        self._locks: dict[int, threading.Lock] = {}

    def take_over(self, partition: int, generation: int, still_ours: Callable[[], bool]) -> Held:
        """Steps 1 to 5 for one tape partition.

        A rebalance may abandon this call, but not its thread. So calls for one partition wait for
        each other, and each checks that it is still wanted before it fences anybody.

        Raises
        ------
        NoLongerOurs : at step 1
        ServiceError : the broker does not answer in time
        InputError : the state's position is not on this tape
        """
        started = time.monotonic()
        with self._locks.setdefault(partition, threading.Lock()):
            outbox = TransactionalOutbox(self.settings, partition, gate=self.gate)
            if not still_ours():
                raise NoLongerOurs(f"tape[{partition}]")
            outbox.take_over()
            with reader.opened(self.settings, "state") as consumer:
                records = reader.read_live(consumer, self._state_topic, partition, self.deadline_s)
                # Only now: the last owner may have gone on until it was fenced.
                tape = reader.log_range(consumer, self._tape_topic, partition, self.deadline_s)
        engine = (
            self.factory.restore(partition, records.items())
            if records
            else self.factory.new(partition)
        )
        check_position(partition, engine.position, *tape)
        self._announce(engine, partition, tape[1])
        taken_s = time.monotonic() - started
        self.metrics.take_over_seconds.observe(taken_s)
        log.info(
            "tape[%d] taken over at position %d with %d state records in %.2f s",
            partition,
            engine.position,
            len(records),
            taken_s,
        )
        return Held(partition, generation, engine, outbox)

    def _announce(self, engine: Engine, partition: int, tape_end: int) -> None:
        """Put on the tape that another engine than the last one prices from here on."""
        announcement = engine.announcement(tape_end, self.settings.worker.id, version(PROGRAM))
        if announcement is None:
            return
        log.warning("tape[%d] is priced by another engine than before", partition)
        outbox = IntakeOutbox(self.settings)
        try:
            outbox.send([Send(TAPE.name, None, announcement, partition)])
        finally:
            outbox.close()


def check_position(partition: int, position: int, begin: int, end: int) -> None:
    """Check that the record after ``position`` is on the tape, or will be the next one.

    Parameters
    ----------
    begin, end : the tape's first offset, and the one after its last

    Raises
    ------
    InputError : tape and state do not belong together, or the tape was cut
    """
    if not begin <= position + 1 <= end:
        raise InputError(
            "position_off_tape",
            f"the state's position was {position}; expected {begin - 1} to {end - 1}, since the "
            f"tape holds offsets {begin} to {end - 1}.",
            where=f"tape[{partition}]",
            field="position",
            value=position,
            expected=f"{begin - 1} to {end - 1}",
            fix="State and tape must be of one system: restore both from the same time.",
        )


def source_starts(ranges: Mapping[Any, LogRange]) -> dict[Any, int]:
    """Where to read source partitions on: at the committed offset, or at the log's beginning.

    Kafka clients go to the beginning, without a word, when the committed offset is not in the
    log. Records that were deleted unread would be lost silently, and a topic that was made anew
    would be dropped as already seen, since its offsets are.

    Raises
    ------
    InputError : the committed offset lies outside the log
    """
    starts = {}
    for tp, log_range in ranges.items():
        committed = log_range.committed
        if committed is not None and not log_range.begin <= committed <= log_range.end:
            raise InputError(
                "source_cut",
                f"the committed offset was {committed}; expected {log_range.begin} to "
                f"{log_range.end}. Records were deleted before they were read, or the topic was "
                "made anew.",
                where=f"{tp[0]}[{tp[1]}]",
                field="offset",
                value=committed,
                expected=f"{log_range.begin} to {log_range.end}",
                fix="Restore the topic, or accept the loss by setting the group's offset to "
                f"{log_range.begin} with kafka-consumer-groups.sh --reset-offsets.",
            )
        starts[tp] = log_range.begin if committed is None else committed
    return starts
