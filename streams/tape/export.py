"""Export: a tape from any source into a folder that can be replayed, verified and kept."""

import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.errors import ConfigError, InputError
from schemas.events import EngineChanged
from schemas.exports import FORMAT, Checkpoint, EngineChange, ExportManifest, Log
from schemas.state import Manifest
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import log_range, opened, read_to_end, require_partitions, stream_range
from streams.tape.export_segments import file_sha256
from streams.tape.export_writer import (
    PARTIAL,
    LogWriter,
    drop_partials,
    sync,
    unwritable,
    write_manifest,
)
from streams.tape.exports import latest_manifest
from streams.tape.tape_builder import Placed
from streams.tape.tape_faults import ENGINE_CHANGED, PROGRAM, decoded
from streams.tape.tape_selection import KAFKA, SourceSpec
from streams.tape.tape_sources import READ_DEADLINE_S, Progress, TapeSource, open_source

CHECKPOINT = "checkpoint.jsonl"
MANIFEST_KEY = b"manifest"  # of a state partition
Encoding = Literal["parquet", "jsonl"]


class Exported(Struct, kw_only=True):
    """What an export wrote now, and what the folder has."""

    folder: str
    encoding: Encoding
    reconstruction: bool
    records_written: int
    decisions_written: int
    records: int
    decisions: int | None
    positions: dict[str, int]
    tape_sha256: str
    prices_sha256: str | None
    engines: tuple[str, ...]
    checkpoint: str | None
    seconds: float
    records_per_second: float


class _Decision(Struct):
    engine: str


class _Nothing(Struct):
    """Of a folder that is new."""

    prices: Log | None = None
    decided: dict[str, int] | None = None
    checkpoint: Checkpoint | None = None


class Exporter:
    """One run of an export.

    Parameters
    ----------
    decisions : export the topic ``prices`` too; Kafka alone has it
    checkpoint : a saved state to keep beside the tape
    state : keep the worker's own state beside it, as a checkpoint; Kafka alone has it
    """

    def __init__(
        self,
        settings: Any,
        spec: SourceSpec,
        folder: Path,
        encoding: Encoding,
        *,
        decisions: bool,
        checkpoint: Path | None,
        state: bool,
    ) -> None:
        if decisions and spec.source != KAFKA:
            raise ConfigError(
                "decisions_need_kafka", "--decisions needs SOURCE kafka.", field="--decisions",
                fix="Write a replay's decisions with pricemaker replay SOURCE --out FILE.",
            )  # fmt: skip
        if state and (spec.source != KAFKA or checkpoint is not None):
            raise ConfigError(
                "state_needs_kafka", "--state needs SOURCE kafka, and no --checkpoint.",
                field="--state", fix="Write a replay's state with --checkpoint FILE.",
            )  # fmt: skip
        self._settings, self._spec, self._folder = settings, spec, folder
        self._encoding, self._with_decisions = encoding, decisions
        self._checkpoint, self._with_state = checkpoint, state
        self._before = latest_manifest(folder)
        self._engines: dict[str, None] = {}
        self._changes: list[EngineChange] = []
        if self._before is not None:
            self._engines.update(dict.fromkeys(self._before.engines))
            self._changes.extend(self._before.engine_changes)

    def run(self, progress: Progress | None = None) -> Exported:
        """Write what is not in the folder yet.

        Raises
        ------
        InputError : the source is not whole, or the folder holds another tape
        ServiceError : broker or file system fail
        """
        started = time.perf_counter()
        drop_partials(self._folder)
        # First what is decided, then decisions, then the tape: so all of it is in what follows.
        decided = committed_positions(self._settings) if self._with_decisions else None
        checkpoint = self._stored_checkpoint()
        prices = self._prices_writer()
        if prices is not None:
            for placed in prices_records(self._settings, prices.after):
                self._note_decision(placed)
                prices.write(placed)
            prices.close()
        tape, source = self._tape(progress, prices)
        manifest = msgspec.structs.replace(
            self._manifest(tape, prices, source),
            decided=decided or (self._before or _Nothing()).decided,
            checkpoint=checkpoint,
        )
        write_manifest(self._folder, manifest, finished=True)
        return self._summary(manifest, tape, prices, time.perf_counter() - started)

    def _tape(
        self, progress: Progress | None, prices: LogWriter | None
    ) -> tuple[LogWriter, TapeSource]:
        before = None if self._before is None else self._before.tape
        after = {} if before is None else {
            log.partition: log.last - 1 for log in before.partitions if log.last is not None
        }  # fmt: skip
        source = open_source(self._spec, self._settings, progress, after)
        self._require_same(source)
        writer = LogWriter(
            self._folder, "tape", self._encoding, source.partitions, before, contiguous=True
        )
        with source.faults():
            for placed in source.records:
                if ENGINE_CHANGED in placed.value:
                    self._note_change(placed)
                if writer.write(placed):
                    write_manifest(
                        self._folder, self._manifest(writer, prices, source), finished=False
                    )
        writer.close()
        if not writer.log.records:
            raise InputError("empty_tape", "the tape has no records.", where=self._spec.source)
        return writer, source

    def _require_same(self, source: TapeSource) -> None:
        """What is in the folder already fixes the number of partitions and the encoding."""
        if self._before is None:
            return
        for name, found, expected in (
            ("partitions", source.partitions, len(self._before.tape.partitions)),
            ("format", self._encoding, self._before.encoding),
            ("reconstruction", source.facts.reconstruction, self._before.reconstruction),
        ):
            if found != expected:
                raise InputError(
                    "other_export", f"{name} was {found}; the folder has {expected}.",
                    where=str(self._folder), field=name, value=found, expected=str(expected),
                    fix="Go on as this folder was begun, or give another folder.",
                )  # fmt: skip

    def _prices_writer(self) -> LogWriter | None:
        if not self._with_decisions:
            return None
        with opened(self._settings, "export") as consumer:
            topic = topic_name(self._settings, topics.PRICES.name)
            partitions = require_partitions(consumer, topic)
        before = None if self._before is None else self._before.prices
        return LogWriter(
            self._folder, "prices", self._encoding, partitions, before, contiguous=False
        )

    def _note_decision(self, placed: Placed) -> None:
        self._engines[msgspec.json.decode(placed.value, type=_Decision).engine] = None

    def _note_change(self, placed: Placed) -> None:
        event = decoded(placed).event
        if not isinstance(event, EngineChanged):
            return
        self._engines[event.previous] = None
        self._engines[event.fingerprint] = None
        change = EngineChange(
            partition=placed.partition,
            offset=placed.offset,
            fingerprint=event.fingerprint,
            previous=event.previous,
            version=event.version,
        )
        if change not in self._changes:
            self._changes.append(change)

    def _manifest(
        self, tape: LogWriter, prices: LogWriter | None, source: TapeSource
    ) -> ExportManifest:
        kept = self._before or _Nothing()
        return ExportManifest(
            format=FORMAT,
            version=version(PROGRAM),
            source=self._spec.source,
            reconstruction=source.facts.reconstruction,
            encoding=self._encoding,
            tape=tape.log,
            prices=kept.prices if prices is None else prices.log,
            decided=kept.decided,
            engines=tuple(sorted(self._engines)),
            engine_changes=tuple(self._changes),
            checkpoint=kept.checkpoint,
        )

    def _stored_checkpoint(self) -> Checkpoint | None:
        path = self._folder / CHECKPOINT
        if self._with_state:
            positions = self._store_state(path)
            return _checkpoint(path, positions)
        if self._checkpoint is None:
            return (self._before or _Nothing()).checkpoint
        partial = path.with_name(path.name + PARTIAL)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._checkpoint, partial)
            sync(partial)
            partial.replace(path)
        except OSError as error:
            raise unwritable(error, path) from error
        return _checkpoint(path, None)

    def _store_state(self, path: Path) -> dict[str, int]:
        # Only here is the engine needed: it brings JAX, which takes seconds to load.
        from streams.replay.checkpoints import section, write_checkpoint
        from streams.worker.engine_states import load_engines
        from streams.worker.engines import warm_kernel

        kernel = warm_kernel(self._settings.engine.compilation_cache_dir)
        engines = load_engines(KAFKA, self._settings, kernel)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, kernel.fingerprint, len(engines), map(section, engines))
        return {str(engine.partition): engine.position for engine in engines}

    def _summary(
        self, manifest: ExportManifest, tape: LogWriter, prices: LogWriter | None, seconds: float
    ) -> Exported:
        written = tape.written + (0 if prices is None else prices.written)
        logs = manifest.tape.partitions
        return Exported(
            folder=str(self._folder),
            encoding=manifest.encoding,
            reconstruction=manifest.reconstruction,
            records_written=tape.written,
            decisions_written=0 if prices is None else prices.written,
            records=manifest.tape.records,
            decisions=None if manifest.prices is None else manifest.prices.records,
            positions={str(log.partition): log.last for log in logs if log.last is not None},
            tape_sha256=manifest.tape.sha256,
            prices_sha256=None if manifest.prices is None else manifest.prices.sha256,
            engines=manifest.engines,
            checkpoint=None if manifest.checkpoint is None else manifest.checkpoint.file,
            seconds=round(seconds, 3),
            records_per_second=round(written / seconds, 1),
        )


def _checkpoint(path: Path, positions: dict[str, int] | None) -> Checkpoint:
    return Checkpoint(
        file=path.name, bytes=path.stat().st_size, sha256=file_sha256(path), positions=positions
    )


def committed_positions(settings: Any) -> dict[str, int]:
    """The last tape offset of each partition whose outputs are committed; -1: none.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, topics.STATE.name)
    found = {}
    with opened(settings, "export") as consumer:
        for number in range(require_partitions(consumer, topic)):
            position = -1
            for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
                if message.key() == MANIFEST_KEY and message.value() is not None:
                    position = msgspec.json.decode(message.value(), type=Manifest).position
            found[str(number)] = position
    return found


def prices_records(settings: Any, after: dict[int, int]) -> Iterator[Placed]:
    """The topic ``prices`` above some offsets, partition by partition.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, topics.PRICES.name)
    with opened(settings, "export") as consumer:
        for number in range(require_partitions(consumer, topic)):
            begin, end = log_range(consumer, topic, number)
            begin = max(begin, after.get(number, -1) + 1)
            for message in stream_range(consumer, topic, number, begin, end):
                yield Placed(number, message.offset(), message.value())
