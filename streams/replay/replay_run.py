"""A replay from its beginning or a checkpoint to its end: lanes, checkpoints, the decisions' file.

1 the partitions are dealt out to lanes; 2 the parts of the decisions' file are made ready; 3 the
lanes fold, in this process or in several, and hand in their parts of checkpoints; 4 the parts of
the file are joined; 5 a last checkpoint is written. An interrupt ends 3 at the next record that is
looked up from: then the checkpoint of 5 is written, and the parts of the file stay, to go on from.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from schemas.errors import PricemakerError
from streams.replay.checkpoints import Section, Written, read_checkpoint, require_partitions_of
from streams.replay.decision_files import discard, join, prepare
from streams.replay.replay_conductor import Conductor, Every
from streams.replay.replay_lane import Job, Lane, LaneResult, Order
from streams.replay.replay_processes import fold_in_processes
from streams.replay.replay_summary import ReplaySummary, summarise
from streams.tape.tape_selection import starts_from


class Replayed(NamedTuple):
    """What a replay ended with. ``written``: decisions in the file; ``sent``: to other topics."""

    source: dict[str, Any]
    summary: ReplaySummary
    refused: int
    written: int
    sent: int
    checkpoints: int


class Interrupts:
    """Notes the first interrupt or request to end; the second one ends at once."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, *_: int | FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


class _Inline:
    """The control of the one lane of a replay in this process."""

    def __init__(self, conductor: Conductor, is_stopped: Callable[[], bool]) -> None:
        self._conductor = conductor
        self._is_stopped = is_stopped
        self.ready_s = time.perf_counter()

    def ready(self, engine: str) -> None:
        self._conductor.ready(engine)
        self.ready_s = time.perf_counter()

    def report(self, records: int, share: float) -> Order:
        self._conductor.note(0, records, share)
        if self._is_stopped():
            return "stop"
        if self._conductor.is_due():
            self._conductor.ask({0})
            return "save"
        return "go"

    def save(self, sections: list[Section]) -> None:
        self._conductor.take(0, sections)


def run_replay(
    job: Job,
    processes: int,
    checkpoint: Path | None,
    every: Every,
    progress: Callable[[int, float], None],
) -> Replayed:
    """Run a replay.

    Parameters
    ----------
    job : of all partitions that are to be folded; ``begins`` is found here
    processes : at most so many, and no more than partitions

    Raises
    ------
    InputError : source, checkpoint or the decisions so far are bad
    ServiceError : a file or the broker can't be reached
    KeyboardInterrupt : it was interrupted; checkpoint and files are as they should be
    """
    started = time.perf_counter()
    if job.out is not None:
        job = job._replace(begins=prepare(job.out, _known(job)))
    jobs = _dealt(job._replace(saves=checkpoint is not None), processes)
    conductor = Conductor(len(jobs), job.partitions, checkpoint, every, progress)
    try:
        with interrupts_noted() as interrupts:
            results, ready_s = _folded(jobs, conductor, lambda: interrupts.seen)
        ended = time.perf_counter()
        stopped = any(one.stopped for one in results)
        if job.out is not None and not stopped:
            join(job.out, job.only)
        conductor.write()
        if stopped:
            raise KeyboardInterrupt
    except BaseException as error:
        _leave(job, conductor, checkpoint, error)
        raise
    summary = summarise(
        [one for result in results for one in result.partitions],
        sum(result.records for result in results),
        ended - ready_s,
        peak_mib=sum(result.peak_mib for result in results),
        processes=len(jobs),
        start_seconds=ready_s - started,
        cpu_seconds_max=max(result.cpu_s for result in results),
    )
    return Replayed(
        _source(job, results),
        summary,
        max(result.refused for result in results),  # each lane reads the whole file
        sum(result.written for result in results),
        sum(result.published for result in results),
        conductor.checkpoints,
    )


def _source(job: Job, results: list[LaneResult]) -> dict[str, Any]:
    first: dict[int, int] = {}
    for result in results:
        first |= result.facts.first_offsets
    facts = msgspec.structs.replace(results[0].facts, first_offsets=dict(sorted(first.items())))
    resumed = [] if job.from_checkpoint is None else job.only
    return {
        **msgspec.to_builtins(facts, str_keys=True),
        "starts_from": starts_from(facts.first_offsets, resumed),
    }


def _known(job: Job) -> dict[int, Written | None]:
    if job.from_checkpoint is None:
        return dict.fromkeys(job.only)
    found = read_checkpoint(job.from_checkpoint, ())
    require_partitions_of(found, job.partitions, job.from_checkpoint)
    written = {place.partition: place.written for place in found.head.places}
    return {number: written.get(number) for number in job.only}


def _dealt(job: Job, processes: int) -> list[Job]:
    """The partitions dealt out to so many lanes."""
    count = min(processes, len(job.only))
    return [job._replace(only=job.only[number::count]) for number in range(count)]


def _folded(
    jobs: list[Job], conductor: Conductor, is_stopped: Callable[[], bool]
) -> tuple[list[LaneResult], float]:
    if len(jobs) > 1:
        return fold_in_processes(jobs, conductor, is_stopped)
    control = _Inline(conductor, is_stopped)
    result = Lane(jobs[0], control).run()
    conductor.note(0, result.records, 1.0)
    conductor.take(0, result.sections)
    return [result], control.ready_s


def _leave(job: Job, conductor: Conductor, checkpoint: Path | None, error: BaseException) -> None:
    """Keep what a checkpoint can go on from, and say so; remove the rest."""
    resumable = conductor.checkpoints > 0 or job.from_checkpoint is not None
    if job.out is not None and not resumable:
        discard(job.out, job.only)
    if conductor.checkpoints and isinstance(error, PricemakerError):
        error.fix = f"{error.fix or ''} Then go on with --from-checkpoint {checkpoint}.".strip()


@contextmanager
def interrupts_noted() -> Iterator[Interrupts]:
    """Note SIGINT and SIGTERM instead of ending; only the main thread gets them."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupts) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_document(replayed: Replayed) -> dict[str, object]:
    """The result as ``--json`` prints it."""
    return {
        **msgspec.structs.asdict(replayed.summary),
        "source": replayed.source,
        "refused_at_intake": replayed.refused,
        "decisions_written": replayed.written,
        "outputs_sent": replayed.sent,
        "checkpoints_written": replayed.checkpoints,
    }
