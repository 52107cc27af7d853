"""Replay: fold a tape again, as fast as it goes, and name what came out by one SHA-256."""

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import orjson
from msgspec import Struct

from models.context import Output
from models.engine import PartitionEngine
from models.tile import Kernel
from schemas import tape
from schemas.errors import InputError, ServiceError
from schemas.state import Counts
from streams.tape_builder import Placed

Sink = Callable[[int, list[Output]], None]
PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class ReplaySummary(Struct, kw_only=True):
    """What a replay read and decided. ``records`` are tape records, ticks included."""

    records: int
    applied: int
    duplicates: int
    dead_letters: int
    ticks: int
    products: int
    products_priced: int
    decisions: int
    published: int
    held: int
    breaker_trips: int
    seconds: float
    records_per_second: float
    peak_memory_mib: float
    decisions_sha256: str
    state_sha256: str
    engine: str
    positions: dict[str, int]


class Replay:
    """Engines of all partitions, fed in batches.

    Parameters
    ----------
    kernel : the compiled kernels
    partitions : of the tape
    batch_records : records per batch and partition; no byte of the output depends on it
    sink : given each batch's outputs (partition, outputs); None drops them
    """

    def __init__(
        self,
        kernel: Kernel,
        partitions: int,
        batch_records: int,
        sink: Sink | None = None,
    ) -> None:
        self.engines = [PartitionEngine.new(number, kernel) for number in range(partitions)]
        self._batch_records = batch_records
        self._waiting: list[list[tuple[int, bytes]]] = [[] for _ in range(partitions)]
        self._sink = sink
        self._records = 0
        self._started = time.perf_counter()

    def feed(self, records: Iterable[Placed], stop_after: int | None = None) -> None:
        """Fold records; what lies at or below an engine's position (a checkpoint's) is skipped."""
        for placed in records:
            if placed.partition >= len(self.engines):
                raise InputError(
                    "partition_mismatch",
                    f"partition was {placed.partition}; expected below {len(self.engines)}.",
                    fix="Give the tape's number of partitions with --partitions.",
                )
            if placed.offset <= self.engines[placed.partition].position:
                continue
            waiting = self._waiting[placed.partition]
            waiting.append((placed.offset, placed.value))
            self._records += 1
            if len(waiting) >= self._batch_records:
                self._apply(placed.partition)
            if stop_after is not None and self._records >= stop_after:
                break
        for number in range(len(self.engines)):
            self._apply(number)

    def _apply(self, number: int) -> None:
        waiting = self._waiting[number]
        if not waiting:
            return
        batch = self.engines[number].apply(waiting, with_state=False)
        waiting.clear()
        if self._sink is not None:
            self._sink(number, batch.outputs)

    def summary(self) -> ReplaySummary:
        """Totals over the partitions, and the hashes."""
        seconds = time.perf_counter() - self._started
        counts = [engine.state.manifest.counts for engine in self.engines]

        def total(name: str) -> int:
            return sum(getattr(found, name) for found in counts)

        states = [state for engine in self.engines for state in engine.state.skus.values()]
        names = Counts.__struct_fields__
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT_BYTES
        return ReplaySummary(
            records=self._records,
            **{name: total(name) for name in names},
            products=len(states),
            products_priced=sum(state.published_minor is not None for state in states),
            seconds=round(seconds, 3),
            records_per_second=round(self._records / seconds, 1),
            peak_memory_mib=round(peak / 2**20, 1),
            decisions_sha256=combined_sha256(
                engine.state.manifest.decisions_sha256 for engine in self.engines
            ),
            state_sha256=combined_sha256(engine.state.sha256() for engine in self.engines),
            engine=self.engines[0].kernel.fingerprint,
            positions={str(engine.partition): engine.position for engine in self.engines},
        )

    # -- checkpoints ---------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write all state records, one JSON line each, as a checkpoint to go on from."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                for engine in self.engines:
                    for key, value in engine.state.all_records():
                        place = orjson.dumps([engine.partition, key.decode()])
                        file.write(place[:-1] + b"," + value + b"]\n")
            partial.replace(path)
        except OSError as error:
            raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error

    def load(self, path: Path) -> None:
        """Go on from a checkpoint written by :meth:`save`.

        Raises
        ------
        InputError : the file is no checkpoint of this number of partitions
        """
        records: list[list[tuple[bytes, bytes]]] = [[] for _ in self.engines]
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    partition, key, value = _checkpoint_line(line, f"{path}:{number}")
                    records[partition].append((key, value))
        except IndexError:
            raise InputError(
                "partition_mismatch", "the checkpoint has more partitions.", where=str(path)
            ) from None
        except OSError as error:
            raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
        self.engines = [
            PartitionEngine.restore(engine.partition, found, engine.kernel)
            for engine, found in zip(self.engines, records, strict=True)
        ]


def _checkpoint_line(line: bytes, where: str) -> tuple[int, bytes, bytes]:
    try:
        partition, key, _ = orjson.loads(line)
        value = line[len(orjson.dumps([partition, key])) :].rstrip()[:-1]
        return int(partition), key.encode(), value
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise InputError(
            "bad_checkpoint", f"not a checkpoint line: {error}.", where=where
        ) from None


def combined_sha256(parts: Iterable[str]) -> str:
    """One hash over the partitions' hashes, in partition order."""
    lines = "".join(f"{number}:{part}\n" for number, part in enumerate(parts))
    return hashlib.sha256(lines.encode()).hexdigest()


class TapeWriter:
    """Writes what is replayed as a tape file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def tee(self, records: Iterable[Placed]) -> Iterator[Placed]:
        """Pass records on, and write each."""
        with self._file as file:
            for placed in records:
                position = tape.Position(placed.partition, placed.offset)
                file.write(tape.line(position, placed.value) + b"\n")
                yield placed
