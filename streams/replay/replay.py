"""Replay: fold a tape again, as fast as it goes, and name what came out by one SHA-256."""

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import tape
from schemas.errors import EngineError, InputError, ServiceError
from streams.replay.checkpoints import (
    Checkpoint,
    Section,
    Written,
    read_checkpoint,
    require_partitions_of,
    restored,
    section,
    write_checkpoint,
)
from streams.replay.replay_summary import (
    ReplaySummary,
    partition_result,
    peak_memory_mib,
    summarise,
)
from streams.tape.tape_builder import Placed
from streams.tape.tape_faults import SOURCE_FAULTS

Sink = Callable[[int, list[Output]], None]


class Replay:
    """Engines of a tape's partitions, fed in batches.

    Parameters
    ----------
    kernel : the compiled kernels
    partitions : of the tape
    batch_records : records per batch and partition; no byte of the output depends on it
    sink : given each batch's outputs (partition, outputs); None drops them
    only : the partitions to fold, records of others are passed over; None: all
    """

    def __init__(
        self,
        kernel: Kernel,
        partitions: int,
        batch_records: int,
        sink: Sink | None = None,
        only: Collection[int] | None = None,
    ) -> None:
        self.partitions = partitions
        numbers = range(partitions) if only is None else sorted(only)
        self._engines = {number: PartitionEngine.new(number, kernel) for number in numbers}
        self._kernel = kernel
        self._batch_records = batch_records
        self._waiting: dict[int, list[tuple[int, bytes]]] = {number: [] for number in numbers}
        self._last: dict[int, bytes] = {}
        self._known_sha256: dict[int, str | None] = {}
        self._sink = sink
        self.records = 0
        self._started = time.perf_counter()

    @property
    def engines(self) -> list[PartitionEngine]:
        """The engines, by partition."""
        return list(self._engines.values())

    def engine(self, partition: int) -> PartitionEngine:
        """The engine of one partition."""
        return self._engines[partition]

    def feed(self, records: Iterable[Placed], stop_after: int | None = None) -> None:
        """Fold records; what lies at or below an engine's position (a checkpoint's) is skipped.

        Raises
        ------
        InputError : the tape has a gap, a partition too many, or is not the checkpoint's tape
        """
        for placed in records:
            number = placed.partition
            waiting = self._waiting.get(number)
            if waiting is None:
                if number >= self.partitions:
                    raise _partition_mismatch(number, self.partitions)
                continue
            if placed.offset <= self._engines[number].position:
                if placed.offset == self._engines[number].position:
                    self._check_same_tape(placed)
                continue
            waiting.append((placed.offset, placed.value))
            self.records += 1
            if len(waiting) >= self._batch_records:
                self._apply(number)
            if stop_after is not None and self.records >= stop_after:
                break
        self.flush()

    def flush(self) -> None:
        """Fold what waits for a batch to be full."""
        for number in self._waiting:
            self._apply(number)

    def _apply(self, number: int) -> None:
        waiting = self._waiting[number]
        if not waiting:
            return
        try:
            batch = self._engines[number].apply(waiting, with_state=False)
        except EngineError as error:
            if error.code not in SOURCE_FAULTS:
                raise
            raise InputError(
                error.code,
                error.message,
                where=error.where,
                value=error.value,
                fix="The tape is not whole: make or copy it again.",
            ) from error
        self._last[number] = waiting[-1][1]
        waiting.clear()
        if self._sink is not None:
            self._sink(number, batch.outputs)

    def summary(self) -> ReplaySummary:
        """Totals over the partitions, and the hashes."""
        return summarise(
            map(partition_result, self.engines),
            self.records,
            time.perf_counter() - self._started,
            peak_mib=peak_memory_mib(),
        )

    # -- checkpoints ---------------------------------------------------------------------------

    def sections(self, written: dict[int, Written] | None = None) -> list[Section]:
        """The partitions' parts of a checkpoint, as they stand after the last full batch."""
        written = written or {}
        return [
            section(engine, self._last_sha256(engine.partition), written.get(engine.partition))
            for engine in self.engines
        ]

    def _last_sha256(self, number: int) -> str | None:
        last = self._last.get(number)
        return self._known_sha256.get(number) if last is None else hashlib.sha256(last).hexdigest()

    def save(self, path: Path) -> None:
        """Write a checkpoint of all partitions."""
        write_checkpoint(path, self._kernel.fingerprint, self.partitions, self.sections())

    def load(self, path: Path) -> Checkpoint:
        """Go on from a checkpoint.

        Raises
        ------
        InputError : the file is no whole checkpoint of this number of partitions
        """
        found = read_checkpoint(path, self._engines.keys())
        require_partitions_of(found, self.partitions, path)
        for number in self._engines:
            self._engines[number] = restored(number, found, self._kernel, path)
            self._known_sha256[number] = found.place(number).record_sha256
        return found

    def _check_same_tape(self, placed: Placed) -> None:
        known = self._known_sha256.get(placed.partition)
        if known is None or hashlib.sha256(placed.value).hexdigest() == known:
            return
        raise InputError(
            "other_tape",
            "the record is not the one that the checkpoint was saved after.",
            where=f"tape[{placed.partition}]@{placed.offset}",
            expected="the tape that the checkpoint was made from",
            fix="Give that tape, or replay this one from its beginning.",
        )


def _partition_mismatch(number: int, partitions: int) -> InputError:
    return InputError(
        "partition_mismatch",
        f"partition was {number}; expected below {partitions}.",
        fix="Give the tape's number of partitions with --partitions.",
    )


def open_to_write(path: Path) -> IO[bytes]:
    """Open a file for results.

    Raises
    ------
    ServiceError : it can't be written
    """
    try:
        return path.open("wb")
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error}.", where=str(path), fix="Check the folder."
        ) from error


class TapeWriter:
    """Writes what is replayed as a tape file."""

    def __init__(self, path: Path) -> None:
        self._file = open_to_write(path)

    def tee(self, records: Iterable[Placed]) -> Iterator[Placed]:
        """Pass records on, and write each."""
        with self._file as file:
            for placed in records:
                position = tape.Position(placed.partition, placed.offset)
                file.write(tape.line(position, placed.value) + b"\n")
                yield placed
