"""What every part of ``pricemaker train`` shares: folding a tape, and writing what was learned."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from models.fold.engine import PartitionEngine
from models.fold.partition import AssessmentObserver, EpochObserver
from schemas.codec import canonical
from schemas.errors import InputError
from schemas.events import rfc3339
from schemas.topics import CONTROLS
from streams.kafka.feeder import Feeder
from streams.replay.replay import Replay, open_to_write
from streams.tape.tape_builder import Placed
from streams.tape.tape_hash import TapeHash
from streams.tape.tape_selection import SourceSpec, begin_anywhere
from streams.tape.tape_sources import Progress, open_source
from streams.worker.engines import warm_kernel

BATCH_RECORDS = 1000


class TapeRead(NamedTuple):
    """What was trained on: a tape up to these positions, and its hash (of values, by partition)."""

    records: int
    positions: dict[str, int]
    tape_sha256: str


class TapeFold:
    """Folds a tape with the worker's own engine, and goes on from where it was.

    Parameters
    ----------
    settings : engine and Kafka settings
    spec : the tape
    observer : told of every closed epoch
    on_assessed : told what the breaker looked at for each decision
    on_record : given every tape record, before it is folded, for parts that read raw events
    """

    def __init__(
        self,
        settings: Any,
        spec: SourceSpec,
        observer: EpochObserver | None = None,
        on_record: Callable[[Placed], None] | None = None,
        on_assessed: AssessmentObserver | None = None,
    ) -> None:
        self._settings, self._spec = settings, spec
        self._observer, self._on_record = observer, on_record
        self._on_assessed = on_assessed
        self._replay: Replay | None = None
        self._hash = TapeHash(0)
        self._records = 0

    @property
    def engines(self) -> list[PartitionEngine]:
        """The engines after the last `read`, by partition."""
        return [] if self._replay is None else self._replay.engines

    def read(self, progress: Progress | None = None) -> TapeRead:
        """Fold what has come since the last call, up to the tape's present end.

        Raises
        ------
        InputError : the tape is empty or not whole
        """
        after = {engine.partition: engine.position for engine in self.engines}
        opened = open_source(self._spec, self._settings, progress, after)
        if self._replay is None:
            kernel = warm_kernel(self._settings.engine.compilation_cache_dir)
            self._replay = Replay(kernel, opened.partitions, BATCH_RECORDS)
            self._hash = TapeHash(opened.partitions)
            for engine in self._replay.engines:
                engine.state.observer = self._observer
                engine.state.on_assessed = self._on_assessed
        records = opened.records
        if self._spec.selection.from_middle:
            records = begin_anywhere(self.engines, records)
        with opened.faults():
            self._replay.feed(self._noted(records))
        if not self._records:
            raise InputError("empty_tape", "the tape has no records.", where=self._spec.source)
        return TapeRead(
            self._records,
            {str(engine.partition): engine.position for engine in self.engines},
            self._hash.sha256,
        )

    def _noted(self, records: Iterable[Placed]) -> Iterator[Placed]:
        assert self._replay is not None
        for placed in records:
            if placed.offset <= self._replay.engines[placed.partition].position:
                continue
            self._hash.add(placed.partition, placed.value)
            self._records += 1
            if self._on_record is not None:
                self._on_record(placed)
            yield placed


def write_document(path: Path, document: object) -> None:
    """Write a learned document as canonical JSON: the bytes that its content hash is of.

    Raises
    ------
    ServiceError : the file can't be written
    """
    with open_to_write(path) as file:
        file.write(canonical(document))


def publish_control(settings: Any, kind: str, name: str, fields: dict[str, Any]) -> None:
    """Send one control event, such as ``prior_published``; every tape partition gets it.

    Parameters
    ----------
    name : tells this document from others of its kind; the event id is made of it and the time

    Raises
    ------
    ServiceError : the broker did not confirm it
    """
    at = rfc3339(time.time_ns() // 1_000_000)
    event = {"type": kind, "event_id": f"{kind}-{name}-{at}", "event_time": at, **fields}
    Feeder(settings).feed([(CONTROLS.name, canonical(event))])
