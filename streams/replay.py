"""Replay: fold a tape again, as fast as it goes, and name what came out by one SHA-256."""

import base64
import binascii
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated

import msgspec
import orjson
from msgspec import Struct

from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.fold.partition import MANIFEST_KEY
from models.kernel.tile import Kernel
from models.pricing.exploration import MILLI
from schemas import tape
from schemas.errors import EngineError, InputError, ServiceError
from schemas.state import Counts
from streams.tape_builder import Placed
from streams.tape_faults import SOURCE_FAULTS
from streams.tape_hash import combined_sha256

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
    reverted: int
    breaker_trips: int
    drifts: int
    probes: int
    exploration_cost_minor: dict[str, int]
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
        try:
            batch = self.engines[number].apply(waiting, with_state=False)
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
            exploration_cost_minor=self._exploration_cost_minor(),
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

    def _exploration_cost_minor(self) -> dict[str, int]:
        """What all probes cost in expected profit, minor units by currency."""
        spent: dict[str, int] = {}
        for engine in self.engines:
            for currency, ledger in engine.state.manifest.exploration.items():
                spent[currency] = spent.get(currency, 0) + ledger.spent_milli
        return {currency: round(milli / MILLI) for currency, milli in sorted(spent.items())}

    # -- checkpoints ---------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write all state records, one JSON line each, as a checkpoint to go on from.

        A packed record stands there as a string, in base64.
        """
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                for engine in self.engines:
                    for key, value in engine.state.all_records():
                        place = orjson.dumps([engine.partition, key.decode()])
                        plain = value.startswith(b"{")
                        shown = value if plain else b'"%b"' % base64.b64encode(value)
                        file.write(place[:-1] + b"," + shown + b"]\n")
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
            _restored(engine, found, path)
            for engine, found in zip(self.engines, records, strict=True)
        ]


def _restored(
    engine: PartitionEngine, records: list[tuple[bytes, bytes]], path: Path
) -> PartitionEngine:
    """The engine as a checkpoint says; each partition has its manifest there, written last."""
    number = engine.partition
    if not records or records[-1][0] != MANIFEST_KEY:
        raise InputError(
            "bad_checkpoint",
            f"partition {number} has no manifest at its end.",
            where=str(path),
            expected="the records of every partition, whole",
            fix="Save it again, or give the partitions that it was saved with.",
        )
    try:
        return PartitionEngine.restore(number, records, engine.kernel)
    except (EngineError, msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(
            "bad_checkpoint", f"partition {number} can't be restored: {error}", where=str(path)
        ) from error


_place_decoder = msgspec.json.Decoder(tuple[Annotated[int, msgspec.Meta(ge=0)], str, msgspec.Raw])


def _checkpoint_line(line: bytes, where: str) -> tuple[int, bytes, bytes]:
    try:
        partition, key, _ = _place_decoder.decode(line)
        value = line[len(orjson.dumps([partition, key])) :].rstrip()[:-1]
        if value.startswith(b'"'):
            value = base64.b64decode(value[1:-1], validate=True)
        return partition, key.encode(), value
    except (msgspec.MsgspecError, binascii.Error) as error:
        raise InputError(
            "bad_checkpoint", f"not a checkpoint line: {error}.", where=where
        ) from None


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
