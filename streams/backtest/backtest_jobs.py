"""One fold of a backtest: one tape partition under one candidate, in a process of its own."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from models.backtest.collect import Activity, Collector, Columns, Observer
from models.backtest.edits import Candidate, Rewriter
from models.backtest.series import SeriesCollector
from models.fold.control_events import decide_all_anew
from models.fold.engine import PartitionEngine
from models.fold.watch import Shown
from models.kernel.tile import Kernel
from schemas.state import CatalogueEntry, Counts
from streams.backtest.backtest_spool import read_spooled
from streams.tape.tape_selection import tick_ms
from streams.worker.engines import warm_kernel

BATCH_RECORDS = 2000
BASELINE = 0  # the candidate that history published

SERIES = "series"
OBSERVERS: dict[str, Callable[[], Observer]] = {SERIES: SeriesCollector}
"""Parts of the report that read along: by name, made for each fold."""

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(tuple[Any, ...])


class Job(NamedTuple):
    """What a process is asked to do; ``number`` is the candidate's place, the baseline's is 0."""

    folder: Path
    number: int
    candidate: Candidate
    partition: int
    first_offset: int
    skus: frozenset[str] | None  # that count; None: all
    keeps_state: bool = False  # the records at the tape's end are written down, too


class Folded(NamedTuple):
    """What a fold led to, beside its columns, which lie in the folder."""

    number: int
    partition: int
    counts: Counts
    activity: Activity
    products: int
    products_priced: int
    policy: str  # the text that the tape ended with
    policy_sha256: str
    prior_sha256: str
    decisions_sha256: str
    state_sha256: str
    engine: str
    records_changed: int


_kernel: Kernel | None = None


def start(cache_dir: Path | None) -> None:
    """Warm this process; folds that come to it later share the kernels."""
    global _kernel
    _kernel = warm_kernel(cache_dir)


def kernel() -> Kernel:
    """This process's kernels.

    Raises
    ------
    RuntimeError : `start` was not called
    """
    if _kernel is None:
        raise RuntimeError("the kernels of this process are not warm: call start first")
    return _kernel


def fold(job: Job) -> Folded:
    """Fold a partition under a candidate and write the columns down."""
    engine = PartitionEngine.new(job.partition, kernel())
    engine.state.manifest.position = job.first_offset - 1
    rewriter = Rewriter(job.candidate)
    prepare(engine, job.candidate)
    collector, observers = _collector(engine, job)
    with ShownLog(job.folder, job.partition, write=job.number == BASELINE) as log:
        if job.number != BASELINE:
            engine.hold_shown(log.at)
        for records in batches(engine, job, rewriter):
            collector.take(engine.apply(records, with_state=False).outputs)
            log.write(collector.shown_prices)
            collector.shown_prices.clear()
    columns = collector.columns(engine.kernel)
    write_columns(job.folder, job.number, job.partition, columns, observers)
    if job.keeps_state:
        write_state(job, engine)
    state = engine.state
    return Folded(
        number=job.number,
        partition=job.partition,
        counts=state.manifest.counts,
        activity=collector.activity,
        products=len(state.skus),
        products_priced=sum(sku.published_minor is not None for sku in state.skus.values()),
        policy=state.policy_text,
        policy_sha256=state.policy_sha256,
        prior_sha256=state.prior_sha256,
        decisions_sha256=state.manifest.decisions_sha256,
        state_sha256=state.sha256(),
        engine=engine.kernel.fingerprint,
        records_changed=rewriter.changed,
    )


def prepare(engine: PartitionEngine, candidate: Candidate) -> None:
    """Put in force what holds before the first record: a candidate's policy and prior.

    A rule of a scope has no place in the defaults that hold before the first policy.
    """
    state = engine.state
    if candidate.policy is None:
        everywhere = tuple(rule for rule in candidate.rules if rule.is_plain)
        candidate = candidate._replace(rules=everywhere)
    if candidate.prior is not None:
        state.set_prior(candidate.prior)
    if candidate.switch_ms is None:
        text = candidate.policy_text(state.policy_text)
        if text != state.policy_text:
            state.set_policy(text)


def batches(
    engine: PartitionEngine, job: Job, rewriter: Rewriter
) -> Iterator[list[tuple[int, bytes]]]:
    """The partition's records as the candidate meets them.

    A candidate that takes over later does so between two batches: at the first tick at or after
    its time.
    """
    switch_ms, switched = job.candidate.switch_ms, job.candidate.switch_ms is None
    waiting: list[tuple[int, bytes]] = []
    for offset, value in read_spooled(job.folder, job.partition):
        if not switched:
            at_ms = tick_ms(value)
            if at_ms is not None and switch_ms is not None and at_ms >= switch_ms:
                switched = True
                if waiting:
                    yield waiting
                    waiting = []
                take_over(engine, job.candidate)
        waiting.append((offset, rewriter(value, switched=switched)))
        if len(waiting) >= BATCH_RECORDS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def take_over(engine: PartitionEngine, candidate: Candidate) -> None:
    """Put a candidate's policy in force between two records; all is decided anew at the tick."""
    text = candidate.policy_text(engine.state.policy_text)
    if text != engine.state.policy_text:
        engine.state.set_policy(text)
        decide_all_anew(engine.state, "policy")


def _collector(engine: PartitionEngine, job: Job) -> tuple[Collector, dict[str, Observer]]:
    skus = job.skus

    def chosen(entry: CatalogueEntry) -> bool:
        return skus is None or entry.sku in skus

    observers = {name: make() for name, make in OBSERVERS.items()}
    collector = Collector(
        engine.state,
        chosen,
        is_baseline=job.number == BASELINE,
        observers=list(observers.values()),
    )
    engine.state.watch = collector
    return collector, observers


# -- what buyers saw, in the order of the tape


class ShownLog:
    """Prices that buyers saw, written by the baseline's fold and read by those of candidates."""

    def __init__(self, folder: Path, partition: int, *, write: bool) -> None:
        path = folder / f"shown-{partition}"
        self._file = path.open("wb" if write else "rb")
        self._found = iter(()) if write else groupby(self._read(), key=lambda one: one.offset)
        self._next: tuple[int, list[Shown]] | None = None

    def __enter__(self) -> "ShownLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, shown: Sequence[Shown]) -> None:
        """Append a batch's. Families do not see each other: a stable sort is enough."""
        for found in sorted(shown, key=lambda one: one.offset):
            packed = _encoder.encode(tuple(found))
            self._file.write(len(packed).to_bytes(4, "little") + packed)

    def _read(self) -> Iterator[Shown]:
        while head := self._file.read(4):
            yield Shown(*_decoder.decode(self._file.read(int.from_bytes(head, "little"))))

    def at(self, offset: int) -> Sequence[Shown]:
        """What was shown from a tape offset on; offsets are asked for in rising order."""
        while self._next is None or self._next[0] < offset:
            following = next(self._found, None)
            if following is None:
                return ()
            self._next = following[0], list(following[1])
        return self._next[1] if self._next[0] == offset else ()


# -- results on disk


def write_columns(
    folder: Path, number: int, partition: int, columns: Columns, observers: dict[str, Observer]
) -> None:
    """Write the columns of a fold down, and what its observers found."""
    found = {name: observer.result() for name, observer in observers.items()}
    with _path(folder, number, partition).open("wb") as file:
        pickle.dump((columns, found), file, protocol=pickle.HIGHEST_PROTOCOL)


def read_columns(folder: Path, number: int, partition: int) -> tuple[Columns, dict[str, Any]]:
    """The columns of a fold, and what its observers found, by name."""
    with _path(folder, number, partition).open("rb") as file:
        found: tuple[Columns, dict[str, Any]] = pickle.load(file)  # our own, of this run
        return found


def write_state(job: Job, engine: PartitionEngine) -> None:
    """Write down the records of a fold's end."""
    with _path(job.folder, job.number, job.partition).with_suffix(".state").open("wb") as file:
        pickle.dump(list(engine.state.all_records()), file, protocol=pickle.HIGHEST_PROTOCOL)


def read_state(folder: Path, number: int, partition: int) -> list[tuple[bytes, bytes]]:
    """The records of a fold's end."""
    with _path(folder, number, partition).with_suffix(".state").open("rb") as file:
        found: list[tuple[bytes, bytes]] = pickle.load(file)  # our own, of this run
        return found


def _path(folder: Path, number: int, partition: int) -> Path:
    return folder / f"columns-{number}-{partition}"


def total_activity(found: Sequence[Activity]) -> Activity:
    """Counts over partitions."""
    total = Activity.none()
    for one in found:
        total.add(one)
    return total
