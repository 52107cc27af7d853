"""Backtest: the same tape under several policies, and what they would have been worth.

The tape is laid down once by partition; each (candidate, partition) is a job for a process of a
bounded pool. A partition's baseline comes first: it says what buyers saw. Results lie on disk and
are joined one candidate at a time, in the order of product and time, so neither the number of
processes nor the order in which they end reaches the report.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.backtest.collect import Columns, profits_per_day_minor
from models.backtest.differences import differences, stretches
from models.backtest.edits import Candidate
from models.backtest.join import joined
from models.kernel.tile import Kernel
from schemas.backtest import BacktestReport, Comparison, PolicyRun, Run
from schemas.errors import FieldError, InputError
from schemas.events import DAY_MS
from streams import backtest_jobs
from streams.backtest_jobs import BASELINE, Folded, Job
from streams.backtest_spool import Spool, spool
from streams.engines import warm_kernel
from streams.tape_hash import combined_sha256
from streams.tape_selection import SourceSpec
from streams.tape_sources import Progress

AS_PUBLISHED = "as published"
SPOOL_SHARE = 0.1  # of the progress
TIES = (
    "Beliefs are history's: every policy learns from the prices that buyers saw, not from those "
    "that it would have shown.",
    "Stock, rivals, traffic, orders and returns are history's too: what another price would have "
    "changed of them is left to the estimates.",
)


class Asked(NamedTuple):
    """What is to be compared.

    ``skus`` and ``families`` bound the products that count, and the partitions that are folded;
    empty: all. A partition is folded whole, since its products share what is pooled.
    """

    spec: SourceSpec
    candidates: tuple[Candidate, ...]
    processes: int = 1
    skus: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    seed: int = 1
    baseline: Candidate = Candidate(AS_PUBLISHED)

    @property
    def all(self) -> tuple[Candidate, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates)


def backtest(asked: Asked, settings: Any, progress: Progress | None = None) -> BacktestReport:
    """Fold the tape under every policy and compare each candidate with the baseline.

    Raises
    ------
    InputError : the source is not whole, or has none of the products
    FieldError : a policy, rule or edit does not fit the tape
    ServiceError : file or broker cannot be reached
    """
    started, tell = time.perf_counter(), progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="pricemaker-backtest-") as name:
        folder = Path(name)
        laid = spool(asked.spec, settings, folder, lambda share: tell(share * SPOOL_SHARE))
        jobs = jobs_of(asked, laid, folder)
        cache_dir = settings.engine.compilation_cache_dir
        folded = run_jobs(jobs, asked.processes, cache_dir, partial(_tell_folds, tell))
        kernel = warm_kernel(cache_dir)
        baseline = _columns(folder, folded, BASELINE)
        comparisons = []
        for number, candidate in enumerate(asked.candidates, start=1):
            theirs = _columns(folder, folded, number, baseline.products.skus)
            found = _of(folded, number)
            _require_place(candidate, found)
            comparisons.append(
                _comparison(candidate, baseline, theirs, (_of(folded, BASELINE), found), kernel)
            )
        policies = tuple(
            _policy_run(candidate, _of(folded, number), _columns(folder, folded, number))
            for number, candidate in enumerate(asked.all)
        )
    return BacktestReport(
        run=_run(asked, laid, folded, time.perf_counter() - started),
        policies=policies,
        comparisons=tuple(comparisons),
    )


def jobs_of(asked: Asked, laid: Spool, folder: Path) -> list[Job]:
    """Every candidate over every partition that has a chosen product.

    Raises
    ------
    InputError : a chosen product or family was never listed
    """
    skus, partitions = None, laid.chosen
    if asked.skus or asked.families:
        skus = frozenset(
            sku
            for sku, (family, _) in laid.routes.items()
            if sku in asked.skus or family in asked.families
        )
        _require_listed(asked, laid)
        partitions = sorted({laid.routes[sku][1] for sku in skus})
    return [
        Job(folder, number, candidate, partition, laid.first_offsets[partition], skus)
        for partition in partitions
        for number, candidate in enumerate(asked.all)
    ]


def _require_listed(asked: Asked, laid: Spool) -> None:
    families = {family for family, _ in laid.routes.values()}
    for option, names, known in (
        ("--sku", asked.skus, laid.routes.keys()),
        ("--family", asked.families, families),
    ):
        for name in names:
            if name not in known:
                raise InputError(
                    "never_listed", f"{name!r} is not listed on this tape.", field=option,
                    value=name, where=laid.source, expected="a product or family of the tape",
                )  # fmt: skip


def _require_place(candidate: Candidate, folded: list[Folded]) -> None:
    """A rule of a scope must have met a policy that has it."""
    rules = [rule for rule in candidate.rules if not rule.is_plain]
    if rules and candidate.policy is None and not any(one.records_changed for one in folded):
        raise FieldError(
            "no_such_rule", f"no policy on the tape has {rules[0].name}.", field=rules[0].name,
            where=candidate.name, expected="a key of a policy on the tape",
            fix="Give the candidate a policy of its own: --policy NAME=FILE",
        )  # fmt: skip


# -- the pool


@contextmanager
def pool_of(processes: int, cache_dir: Path | None) -> Iterator[ProcessPoolExecutor]:
    """Processes that are warm and take one job after the other; they end with the block."""
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=backtest_jobs.start, initargs=(cache_dir,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_jobs(
    jobs: Sequence[Job], processes: int, cache_dir: Path | None, progress: Progress
) -> list[Folded]:
    """Run jobs, the baseline of a partition before its candidates; results by candidate, partition.

    Raises
    ------
    What a job raised; the others are not begun any more
    """
    found: list[Folded] = []
    with pool_of(min(processes, len(jobs)), cache_dir) as pool:
        running: dict[Future[Folded], Job] = {
            pool.submit(backtest_jobs.fold, job): job for job in jobs if job.number == BASELINE
        }
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                found.append(future.result())
                progress(len(found) / len(jobs))
                if job.number == BASELINE:
                    for other in jobs:
                        if other.partition == job.partition and other.number != BASELINE:
                            running[pool.submit(backtest_jobs.fold, other)] = other
    return sorted(found, key=lambda one: (one.number, one.partition))


def _tell_folds(tell: Progress, share: float) -> None:
    tell(SPOOL_SHARE + (1.0 - SPOOL_SHARE) * share)


# -- the result


def _of(folded: list[Folded], number: int) -> list[Folded]:
    return [one for one in folded if one.number == number]


def _columns(
    folder: Path, folded: list[Folded], number: int, skus: Sequence[str] | None = None
) -> Columns:
    parts = [
        backtest_jobs.read_columns(folder, number, one.partition)[0] for one in _of(folded, number)
    ]
    return joined(parts, skus)


def _comparison(
    candidate: Candidate,
    baseline: Columns,
    theirs: Columns,
    folded: tuple[list[Folded], list[Folded]],
    kernel: Kernel,
) -> Comparison:
    found = stretches(baseline, theirs, partial(profits_per_day_minor, kernel))
    ours, its = (backtest_jobs.total_activity([one.activity for one in side]) for side in folded)
    return Comparison(
        candidate=candidate.name,
        differences=differences(found, baseline, theirs, (ours, its)),
        model=(),
        off_policy=(),
        closed_loop=(),
        switchback=(),
    )


def _policy_run(candidate: Candidate, folded: list[Folded], columns: Columns) -> PolicyRun:
    counts = [one.counts for one in folded]
    statuses = backtest_jobs.total_activity([one.activity for one in folded]).statuses
    changes = _price_changes(columns)
    days = _priced_days(columns)
    return PolicyRun(
        name=candidate.name,
        policy_sha256=_one([one.policy_sha256 for one in folded]),
        prior_sha256=_one([one.prior_sha256 for one in folded]),
        edits=candidate.told,
        products=len(columns.products.skus),
        products_priced=len(np.unique(columns.decisions.product[columns.decisions.effective])),
        decisions=len(columns.decisions.product),
        published=statuses["published"],
        held=statuses["held"],
        reverted=statuses["reverted"],
        price_changes=changes,
        price_changes_per_product_day=changes / days if days > 0.0 else None,
        breaker_trips=sum(one.breaker_trips for one in counts),
        dead_letters=sum(one.dead_letters for one in counts),
        decisions_sha256=combined_sha256([one.decisions_sha256 for one in folded]),
        state_sha256=combined_sha256([one.state_sha256 for one in folded]),
    )


def _one(hashes: list[str]) -> str:
    """The hash that all partitions have; of several, one over them."""
    return hashes[0] if len(set(hashes)) == 1 else combined_sha256(hashes)


def _price_changes(columns: Columns) -> int:
    """Times at which a product's price in force moved, its first not counted."""
    price, product = columns.decisions.price_minor, columns.decisions.product
    same = product[1:] == product[:-1]
    moved = np.isfinite(price[:-1]) & (price[1:] != price[:-1])
    return int(np.count_nonzero(same & moved))


def _priced_days(columns: Columns) -> float:
    """Days on which a product had a price, summed over products."""
    decisions = columns.decisions
    priced = np.flatnonzero(np.isfinite(decisions.price_minor))
    _, first = np.unique(decisions.product[priced], return_index=True)
    begin = priced[first]
    last_ms = columns.end_ms[decisions.product[begin]]
    return float(np.maximum(last_ms - decisions.at_ms[begin], 0).sum() / DAY_MS)


def _run(asked: Asked, laid: Spool, folded: list[Folded], seconds: float) -> Run:
    notes = [*TIES]
    if laid.reconstruction:
        notes.append("The tape was put together from source topics: its order is declared.")
    if laid.starts_from == "empty state":
        notes.append("The tape was read from its middle, from an empty state.")
    for candidate in asked.candidates:
        notes += [f"{candidate.name}: {change}" for change in candidate.told]
    return Run(
        source=laid.source,
        reconstruction=laid.reconstruction,
        first_event=laid.first_event,
        last_event=laid.last_event,
        records=sum(laid.records.values()),
        partitions=laid.partitions,
        tape_sha256=laid.tape_sha256,
        engine=folded[0].engine,
        version=version("pricemaker"),
        seed=asked.seed,
        baseline=asked.baseline.name,
        seconds=round(seconds, 3),
        assumptions=tuple(notes),
    )
