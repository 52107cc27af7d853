"""Backtest: the same tape under several policies, and what they would have been worth.

The tape is laid down once by partition; each (candidate, partition) is a job for a process of a
bounded pool. A partition's baseline comes first: it says what buyers saw. Results lie on disk and
are joined one candidate at a time, in the order of product and time, so neither the number of
processes nor the order in which they end reaches the report.
"""

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from models.backtest.edits import Candidate
from schemas.backtest import BacktestReport
from schemas.errors import InputError
from streams.backtest import backtest_jobs
from streams.backtest.backtest_against import Against, fold_decisions, replay_with
from streams.backtest.backtest_jobs import BASELINE, Folded, Job
from streams.backtest.backtest_loop import LoopAsked, with_loops
from streams.backtest.backtest_report import report_of
from streams.backtest.backtest_spool import Spool, spool
from streams.backtest.pool import pool_of, sigterm_interrupts
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import Progress
from streams.worker.engines import warm_kernel

AS_PUBLISHED = "as published"
SPOOL_SHARE = 0.1  # of the progress
FOLDS_SHARE = 0.5  # of the progress, where closed loops follow


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
    against: tuple[Against, ...] = ()
    baseline: Candidate = Candidate(AS_PUBLISHED)
    loop: LoopAsked | None = None  # closed loops, too

    @property
    def folded(self) -> tuple[Candidate, ...]:
        """The baseline, then the candidates that are folded here."""
        return (self.baseline, *self.candidates)

    @property
    def all(self) -> tuple[Candidate, ...]:
        """The baseline, the candidates, then other builds."""
        return (*self.folded, *(one.candidate for one in self.against))


def backtest(asked: Asked, settings: Any, progress: Progress | None = None) -> BacktestReport:
    """Fold the tape under every policy and compare each candidate with the baseline.

    Raises
    ------
    InputError : the source is not whole, or has none of the products
    FieldError : a policy, rule or edit does not fit the tape
    ServiceError : file or broker cannot be reached
    """
    started, whole = time.perf_counter(), progress or (lambda _: None)
    folds_share = 1.0 if asked.loop is None else FOLDS_SHARE

    def tell(share: float) -> None:
        whole(share * folds_share)

    with (
        sigterm_interrupts(),
        tempfile.TemporaryDirectory(prefix="pricemaker-backtest-") as name,
    ):
        folder = Path(name)
        laid = spool(asked.spec, settings, folder, lambda share: tell(share * SPOOL_SHARE))
        jobs = jobs_of(asked, laid, folder)
        cache_dir = settings.engine.compilation_cache_dir
        folded = run_jobs(jobs, asked.processes, cache_dir, partial(_tell_folds, tell))
        kernel = warm_kernel(cache_dir)
        for number, other in enumerate(asked.against, start=len(asked.folded)):
            path = other.decisions
            if other.python is not None:
                path = replay_with(other.python, asked.spec, settings.kafka.bootstrap, folder)
            baseline = [one for one in folded if one.number == BASELINE]
            folded += fold_decisions(path, number, baseline, laid.ends, folder, kernel)
        report = report_of(asked.all, folder, folded, laid, asked.seed, kernel)
        if asked.loop is not None:
            with pool_of(asked.processes, cache_dir) as pool:
                report = with_loops(
                    report, asked.loop, asked.candidates, folder, folded, pool,
                    lambda share: whole(FOLDS_SHARE + (1.0 - FOLDS_SHARE) * share),
                )  # fmt: skip
    seconds = round(time.perf_counter() - started, 3)
    return replace(report, run=replace(report.run, seconds=seconds))


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
        Job(
            folder,
            number,
            candidate,
            partition,
            laid.first_offsets[partition],
            skus,
            keeps_state=asked.loop is not None and number == BASELINE,
        )
        for partition in partitions
        for number, candidate in enumerate(asked.folded)
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


# -- the folds


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
