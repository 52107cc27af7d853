"""One lane of a replay: some of a tape's partitions, folded in one process.

A lane reads the source by itself and passes over what belongs to others, so that lanes need
nothing of each other. Between records it looks up: it reports how far it is and is told to go on,
to hand in its part of a checkpoint, or to stop.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from models.fold.context import Output
from schemas.topics import PRICES
from streams.replay.checkpoints import Section, Written
from streams.replay.decision_files import DecisionPart
from streams.replay.replay import Replay, TapeWriter
from streams.replay.replay_summary import PartitionResult, partition_result, peak_memory_mib
from streams.replay.replay_topics import ReplayPublisher
from streams.tape.pacing import EventPace
from streams.tape.tape_builder import Placed
from streams.tape.tape_selection import SourceSpec, begin_anywhere, tick_ms
from streams.tape.tape_sources import SourceFacts, TapeSource, open_source
from streams.worker.engines import warm_kernel

REPORT_RECORDS = 500
PACE_PAUSE_S = 0.2
PACE_LEAST_S = 0.002

Order = Literal["go", "save", "stop"]


class Job(NamedTuple):
    """What a lane is to do; it can go from process to process.

    ``only``: the lane's partitions. ``since_ms``: decisions are written from this tick on. ``skus``
    and ``families`` choose what is written; empty: all. ``begins``: by partition, what of ``out``
    there is. ``saves``: checkpoints are written, so the lane ends by handing in its part.
    ``publish``: settings of the topics that outputs are sent to, or None.
    """

    spec: SourceSpec
    settings: Any
    partitions: int
    only: tuple[int, ...]
    batch_records: int
    stop_after: int | None = None
    since_ms: int | None = None
    speed: float | None = None
    skus: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    out: Path | None = None
    begins: dict[int, Written] = {}  # noqa: RUF012 - never changed
    tape_out: Path | None = None
    from_checkpoint: Path | None = None
    saves: bool = False
    publish: Any = None


class LaneResult(NamedTuple):
    """What a lane ends with. ``cpu_s``: of the fold; ``stopped``: it was told to stop."""

    partitions: list[PartitionResult]
    records: int
    written: int
    published: int
    refused: int
    peak_mib: float
    cpu_s: float
    sections: list[Section]
    stopped: bool
    facts: SourceFacts


class Control(Protocol):
    """Who a lane reports to."""

    def ready(self, engine: str) -> None:
        """The kernel is warm; returns when all lanes are."""

    def report(self, records: int, share: float) -> Order:
        """How many records were folded, and what share of the source was read."""

    def save(self, sections: list[Section]) -> None:
        """The lane's part of a checkpoint."""


class Lane:
    """Folds a job's partitions, reporting to ``control``."""

    def __init__(self, job: Job, control: Control) -> None:
        self._job = job
        self._control = control
        self._share = 0.0
        self._stopped = False
        self._written = 0
        self._published = 0
        self._parts: dict[int, DecisionPart] = {}
        self._publisher: ReplayPublisher | None = None
        self._writes = dict.fromkeys(job.only, job.since_ms is None)
        self._pace = None if job.speed is None else EventPace(job.speed)

    def run(self) -> LaneResult:
        """Fold to the end of the source, or until told to stop.

        Raises
        ------
        InputError : source or checkpoint are bad
        ServiceError : a file or the broker can't be reached
        """
        job = self._job
        kernel = warm_kernel(job.settings.engine.compilation_cache_dir)
        self._replay = Replay(kernel, job.partitions, job.batch_records, self._sink, job.only)
        self._positions = dict.fromkeys(range(job.partitions), -1)
        if job.from_checkpoint is not None:
            head = self._replay.load(job.from_checkpoint).head
            self._positions |= {place.partition: place.position for place in head.places}
        try:
            if job.publish is not None:
                self._publisher = ReplayPublisher(job.publish)
            if job.out is not None:
                for number in job.only:
                    self._parts[number] = DecisionPart(job.out, number, job.begins[number])
            opened = self._opened()
            records = opened.records
            if job.tape_out is not None:
                records = TapeWriter(job.tape_out).tee(records)
            if job.spec.selection.from_middle:
                records = begin_anywhere(self._replay.engines, records)
            self._control.ready(kernel.fingerprint)
            begin_cpu_s = time.process_time()
            with opened.faults():
                self._replay.feed(self._chosen(records))
            sections = self._sections() if job.saves else []
        finally:
            for part in self._parts.values():
                part.close()
            if self._publisher is not None:
                self._publisher.close()
        return LaneResult(
            [partition_result(engine) for engine in self._replay.engines],
            self._replay.records,
            self._written,
            self._published,
            opened.refused(),
            peak_memory_mib(),
            time.process_time() - begin_cpu_s,
            sections,
            self._stopped,
            opened.facts,
        )

    def _opened(self) -> TapeSource:
        """The source; other partitions only where they can't be left out, or are counted."""
        job, spec = self._job, self._job.spec
        if spec.reads_partitions_alone and job.stop_after is None:
            spec = spec.only(frozenset(job.only))
        # The last record that the checkpoint has is read once more: is it the same tape?
        after = {number: position - 1 for number, position in self._positions.items()}
        return open_source(spec, job.settings, self._note_share, after)

    # -- what is folded

    def _chosen(self, records: Iterable[Placed]) -> Iterator[Placed]:
        """The records to fold, in the source's order; between them the lane looks up."""
        job = self._job
        timed = job.since_ms is not None or self._pace is not None
        fresh = 0
        for number, placed in enumerate(records, start=1):
            if not number % REPORT_RECORDS:
                self._look_up()
            if placed.offset > self._positions.get(placed.partition, -1):
                if fresh == job.stop_after:
                    return
                fresh += 1
                if timed:
                    self._heed_clock(placed)
            if self._stopped:
                return
            yield placed

    def _heed_clock(self, placed: Placed) -> None:
        """Begin to write at the tick that reaches ``since_ms``, and wait for a tick's time.

        Ticks stand on every partition in the same order, and nothing else moves a partition's
        clock.
        """
        job, number = self._job, placed.partition
        at_ms = tick_ms(placed.value)
        if at_ms is None:
            return
        if (
            job.since_ms is not None
            and at_ms >= job.since_ms
            and not self._writes.get(number, True)
        ):
            self._replay.flush()
            self._writes[number] = True
        if self._pace is not None:
            self._wait(self._pace, at_ms)

    def _wait(self, pace: EventPace, at_ms: int) -> None:
        while not self._stopped and (left_s := pace.wait_s(at_ms)) > PACE_LEAST_S:
            self._replay.flush()
            self._look_up()
            time.sleep(min(left_s, PACE_PAUSE_S))

    # -- reports

    def _note_share(self, share: float) -> None:
        self._share = share

    def _look_up(self) -> None:
        order = self._control.report(self._replay.records, self._share)
        if order == "save":
            self._replay.flush()
            self._control.save(self._sections())
        self._stopped = self._stopped or order == "stop"

    def _sections(self) -> list[Section]:
        return self._replay.sections({number: part.mark() for number, part in self._parts.items()})

    # -- what comes out

    def _sink(self, number: int, outputs: list[Output]) -> None:
        if not self._writes[number]:
            return
        chosen = [found for found in outputs if self._is_selected(number, found)]
        part = self._parts.get(number)
        if part is not None:
            for found in chosen:
                if found.topic == PRICES.name:
                    part.write(found.value + b"\n")
                    self._written += 1
        if self._publisher is not None:
            self._publisher.send(chosen)
            self._published += len(chosen)

    def _is_selected(self, number: int, found: Output) -> bool:
        skus, families = self._job.skus, self._job.families
        if not skus and not families:
            return True
        if found.key is None:
            return False
        sku = found.key.decode()
        entry = self._replay.engine(number).state.catalogue.get(sku)
        return sku in skus or (entry is not None and entry.family in families)
