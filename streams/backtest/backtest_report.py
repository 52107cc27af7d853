"""Puts a backtest's report together from what its folds wrote down."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from models.backtest.collect import Columns
from models.backtest.edits import Candidate
from models.backtest.join import joined
from models.backtest.series import Series, series
from models.kernel.tile import Kernel
from schemas.backtest import BacktestReport, PolicyRun, Run
from schemas.errors import FieldError
from schemas.events import DAY_MS
from schemas.scopes import parse_policy
from streams.backtest import backtest_jobs
from streams.backtest.backtest_evaluate import Beside, MostAtStake, calibrations, evaluated
from streams.backtest.backtest_jobs import BASELINE, SERIES, Folded
from streams.backtest.backtest_spool import Spool
from streams.tape.tape_hash import combined_sha256

TIES = (
    "The baseline is the tape folded again under its own policies: `pricemaker verify` says if "
    "that is what was published.",
    "Beliefs are history's: every policy learns from the prices that buyers saw, not from those "
    "that it would have shown.",
    "Stock, rivals, traffic, orders and returns are history's too: what another price would have "
    "changed of them is left to the estimates.",
)


def report_of(
    policies: tuple[Candidate, ...],
    folder: Path,
    folded: list[Folded],
    laid: Spool,
    seed: int,
    kernel: Kernel,
) -> BacktestReport:
    """Compare each candidate with the baseline, which is the first; one at a time in memory.

    Raises
    ------
    FieldError : a rule met no policy that has it
    """
    baseline = _columns(folder, folded, BASELINE)
    activity = [
        backtest_jobs.total_activity([one.activity for one in _of(folded, number)])
        for number in range(len(policies))
    ]
    stretch = parse_policy(_of(folded, BASELINE)[0].policy).base.decision
    found = []
    for number, candidate in enumerate(policies[1:], start=1):
        _require_place(candidate, _of(folded, number))
        theirs = _columns(folder, folded, number, baseline.products.skus)
        both = (activity[BASELINE], activity[number])
        begins_ms = candidate.switch_ms or laid.first_ms or 0
        beside = Beside(
            baseline_name=policies[BASELINE].name,
            name=candidate.name,
            baseline=baseline,
            candidate=theirs,
            activity=both,
            stretch=stretch,
            from_ms=begins_ms,
            to_ms=laid.last_ms or 0,
            seed=seed,
        )
        found.append(evaluated(beside, kernel))
    most = MostAtStake(baseline, found)
    runs, drawn = [], []
    for number, candidate in enumerate(policies):
        columns = _columns(folder, folded, number, baseline.products.skus)
        runs.append(_policy_run(candidate, _of(folded, number), columns))
        most.take(candidate.name, columns.decisions)
        drawn.append(_series(candidate.name, folder, _of(folded, number), laid))
    return BacktestReport(
        run=_run(policies, laid, folded, seed),
        policies=tuple(runs),
        comparisons=tuple(one.comparison for one in found),
        days=tuple(line for one in drawn for line in one.days),
        products=most.series(policies[BASELINE].name),
        breakers=tuple(line for one in drawn for line in one.breakers),
        calibration=calibrations(baseline),
        ledger=tuple(line for one in drawn for line in one.ledger),
        explained=tuple(line for one in drawn for line in one.explained),
    )


def _series(policy: str, folder: Path, folded: list[Folded], laid: Spool) -> Series:
    parts: list[Any] = [
        backtest_jobs.read_columns(folder, one.number, one.partition)[1][SERIES] for one in folded
    ]
    return series(policy, parts, laid.first_ms or 0, laid.last_ms or 0)


def _require_place(candidate: Candidate, folded: list[Folded]) -> None:
    """A rule of a scope must have met a policy that has it."""
    rules = [rule for rule in candidate.rules if not rule.is_plain]
    if rules and candidate.policy is None and not any(one.records_changed for one in folded):
        raise FieldError(
            "no_such_rule", f"no policy on the tape has {rules[0].name}.", field=rules[0].name,
            where=candidate.name, expected="a key of a policy on the tape",
            fix="Give the candidate a policy of its own: --policy NAME=FILE",
        )  # fmt: skip


def _of(folded: list[Folded], number: int) -> list[Folded]:
    return [one for one in folded if one.number == number]


def _columns(
    folder: Path, folded: list[Folded], number: int, skus: Sequence[str] | None = None
) -> Columns:
    parts = [
        backtest_jobs.read_columns(folder, number, one.partition)[0] for one in _of(folded, number)
    ]
    return joined(parts, skus)


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


def _run(policies: tuple[Candidate, ...], laid: Spool, folded: list[Folded], seed: int) -> Run:
    """What was read, and with what; how long it took is known later."""
    notes = [*TIES]
    if laid.reconstruction:
        notes.append("The tape was put together from source topics: its order is declared.")
    if laid.starts_from == "empty state":
        notes.append("The tape was read from its middle, from an empty state.")
    for candidate in policies[1:]:
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
        seed=seed,
        baseline=policies[BASELINE].name,
        seconds=0.0,
        assumptions=tuple(notes),
    )
