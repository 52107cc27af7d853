"""Runs closed loops over a pool of processes, and puts a sample's result together."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from models.backtest import closed_loop, closed_loop_value, fitted_shop
from models.backtest.closed_loop import Lived, Records, Task
from models.backtest.collect import Columns
from models.backtest.edits import Candidate
from models.backtest.join import joined
from schemas.backtest import BacktestReport, ClosedLoopValue
from streams.backtest import backtest_jobs
from streams.backtest.backtest_jobs import BASELINE, Folded
from streams.tape.tape_sources import Progress


class LoopAsked(NamedTuple):
    """How many shops are simulated, for how many days, with how many products."""

    runs: int
    days: int
    products: int
    seed: int = 1


def run_closed_loop(
    asked: LoopAsked,
    baseline: Columns,
    states: dict[int, Records],
    policies: tuple[str | None, Sequence[str | None]],
    pool: Executor,
    progress: Progress | None = None,
) -> list[tuple[ClosedLoopValue, ...]]:
    """Simulate shops like the one on the tape, under the baseline and each candidate.

    Parameters
    ----------
    baseline : columns of the baseline's folds, joined
    states : records of the baseline's engines at the tape's end, by tape partition
    policies : texts of the baseline's policy and of the candidates'; None: the one in the state
    pool : processes in which `streams.backtest.backtest_jobs.start` was called

    Returns
    -------
    For each candidate its values by currency; empty where no product could be simulated.
    """
    tell = progress or (lambda _: None)
    products, end_ms = baseline.products, int(baseline.end_ms.max(initial=0))
    partition_of = _partitions(states)
    known = np.array([sku in partition_of for sku in products.skus], dtype=np.bool_)
    eligible = fitted_shop.eligible(products, baseline.epochs, baseline.outcomes, end_ms)
    eligible = eligible[known[eligible]]
    if not len(eligible):
        return [() for _ in policies[1]]
    rng = np.random.default_rng([asked.seed, 3])
    size = min(asked.products, len(eligible))
    sample = np.sort(rng.choice(eligible, size, replace=False))
    history = baseline.epochs, baseline.outcomes
    fitted = fitted_shop.fit(products, *history, baseline.decisions, sample, end_ms)
    drawn = fitted_shop.draw(products, *history, sample, asked.runs, end_ms, asked.seed)
    skus = frozenset(fitted.skus)
    kept = {number: closed_loop.sampled(records, skus) for number, records in states.items()}
    task = Task(
        states={partition_of[sku]: kept[partition_of[sku]] for sku in fitted.skus},
        partition_of={sku: partition_of[sku] for sku in fitted.skus},
        policy=None,
        fitted=fitted,
        drawn=drawn,
        run=0,
        days=asked.days,
        seed=asked.seed,
        start_ms=closed_loop.midnight_after(end_ms),
    )
    texts = [policies[0], *policies[1]]
    lived = _lived(task, texts, asked.runs, pool, tell)
    fit = closed_loop_value.fit_checks(
        *history, baseline.decisions, sample, fitted, lived[0], end_ms
    )
    recent = closed_loop_value.recent_profit(baseline.outcomes, len(products.skus), end_ms)
    return [
        closed_loop_value.values(
            products, eligible, sample, recent, list(zip(lived[0], theirs, strict=True)), fit,
            days=asked.days, seed=asked.seed,
        )
        for theirs in lived[1:]
    ]  # fmt: skip


def with_loops(
    report: BacktestReport,
    asked: LoopAsked,
    candidates: Sequence[Candidate],
    folder: Path,
    folded: Sequence[Folded],
    pool: Executor,
    progress: Progress | None = None,
) -> BacktestReport:
    """Add closed loops to a report. Another build, or what changes prior or tape, has none."""
    base = [one for one in folded if one.number == BASELINE]
    parts = [backtest_jobs.read_columns(folder, BASELINE, one.partition)[0] for one in base]
    states = {one.partition: backtest_jobs.read_state(folder, BASELINE, one.partition)
              for one in base}  # fmt: skip
    texts = {one.number: one.policy for one in folded}
    chosen = {
        number: candidate
        for number, candidate in enumerate(candidates, start=1)
        if candidate.prior is None and not candidate.edits
    }
    policies = None, [texts[number] for number in chosen]
    found = run_closed_loop(asked, joined(parts), states, policies, pool, progress)
    values = {one.name: value for one, value in zip(chosen.values(), found, strict=True)}
    skipped = tuple(
        f"{one.candidate}: no closed loop, which needs a candidate that changes the policy alone."
        for one in report.comparisons
        if one.candidate not in values
    )
    return replace(
        report,
        run=replace(report.run, assumptions=(*report.run.assumptions, *skipped)),
        comparisons=tuple(
            replace(one, closed_loop=values.get(one.candidate, ())) for one in report.comparisons
        ),
    )


def live(task: Task) -> Lived:
    """`models.backtest.closed_loop.live` with this process's kernels."""
    return closed_loop.live(task, backtest_jobs.kernel())


def _lived(
    task: Task, texts: list[str | None], runs: int, pool: Executor, tell: Progress
) -> list[list[Lived]]:
    """Every policy's runs, in order, however many processes there are."""
    tasks = [task._replace(policy=text, run=run) for text in texts for run in range(runs)]
    found: list[Lived] = []
    for one in pool.map(live, tasks):
        found.append(one)
        tell(len(found) / len(tasks))
    return [found[k * runs : (k + 1) * runs] for k in range(len(texts))]


def _partitions(states: dict[int, Records]) -> dict[str, int]:
    """Which tape partition each product with a state lives on."""
    return {
        key.decode().removeprefix("sku/"): number
        for number, records in states.items()
        for key, _ in records
        if key.startswith(b"sku/")
    }
