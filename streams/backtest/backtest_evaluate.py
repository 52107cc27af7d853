"""What the evaluators say of a candidate, and the series that the report draws."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from models.backtest import off_policy, policy_value, switchback
from models.backtest.calibration import demand_calibration, return_calibration
from models.backtest.collect import Activity, Columns, profits_per_day_minor
from models.backtest.columns import Decisions, Integers
from models.backtest.differences import Stretches, differences, stretches
from models.backtest.paths import PRODUCTS_SHOWN, product_series
from models.kernel.tile import Kernel
from schemas.backtest import Calibration, Comparison, ProductSeries
from schemas.events import DAY_MS
from schemas.policy import DecisionPolicy


class Beside(NamedTuple):
    """A candidate beside the baseline, how often what happened in both, and the stretch of event
    time that is valued.
    """

    baseline_name: str
    name: str
    baseline: Columns
    candidate: Columns
    activity: tuple[Activity, Activity]
    stretch: DecisionPolicy  # of the policy that history ended with
    from_ms: int
    to_ms: int
    seed: int


class Evaluated(NamedTuple):
    """The comparison, and what is at stake for each product by the model, minor units."""

    comparison: Comparison
    at_stake_minor: dict[str, float]


def evaluated(beside: Beside, kernel: Kernel) -> Evaluated:
    """Ask every evaluator."""
    baseline, candidate = beside.baseline, beside.candidate
    found = stretches(baseline, candidate, partial(profits_per_day_minor, kernel))
    columns = (baseline.products, baseline.decisions, candidate.decisions)
    happened = (baseline.epochs, baseline.outcomes)
    model = policy_value.compare(
        *columns, *happened, from_ms=beside.from_ms, to_ms=beside.to_ms, seed=beside.seed
    )
    days = max((beside.to_ms - beside.from_ms) / DAY_MS, 1.0)
    comparison = Comparison(
        candidate=beside.name,
        differences=differences(found, baseline, candidate, beside.activity),
        model=model,
        off_policy=off_policy.compare(*columns, *happened, stretch=beside.stretch),
        closed_loop=(),
        switchback=switchback.design(
            baseline.products,
            baseline.outcomes,
            switchback.per_day(model, days),
            seed=beside.seed,
            names=(beside.baseline_name, beside.name),
        ),
    )
    return Evaluated(comparison, _at_stake(found, baseline.products.skus))


def _at_stake(found: Stretches, skus: list[str]) -> dict[str, float]:
    known = np.flatnonzero(np.isfinite(found.at_stake_minor) & found.differs)
    sums = np.bincount(found.product[known], found.at_stake_minor[known], len(skus))
    return {skus[number]: float(sums[number]) for number in np.unique(found.product[known])}


def calibrations(baseline: Columns) -> tuple[Calibration, ...]:
    """Forecast against outcome of demand and of returns."""
    return (
        demand_calibration(baseline.epochs),
        return_calibration(baseline.decisions, baseline.outcomes),
    )


class MostAtStake:
    """The products with most at stake under any candidate, and their prices by policy.

    Only their decisions are kept, so policies can be read one after the other.
    """

    def __init__(self, baseline: Columns, found: list[Evaluated]) -> None:
        self._baseline = baseline
        self._at_stake: dict[str, float] = {}
        for one in found:
            for sku, minor in one.at_stake_minor.items():
                if abs(minor) >= abs(self._at_stake.get(sku, 0.0)):
                    self._at_stake[sku] = minor
        skus = baseline.products.skus
        ranked = sorted(skus, key=lambda sku: (-abs(self._at_stake.get(sku, 0.0)), sku))
        place = {sku: number for number, sku in enumerate(skus)}
        self._products: Integers = np.array(
            sorted(place[sku] for sku in ranked[:PRODUCTS_SHOWN]), dtype=np.int64
        )
        self._decisions: dict[str, Decisions] = {}

    def take(self, policy: str, decisions: Decisions) -> None:
        """Keep what these products had under a policy."""
        rows = np.flatnonzero(np.isin(decisions.product, self._products))
        self._decisions[policy] = Decisions._make(column[rows] for column in decisions)

    def series(self, baseline: str) -> tuple[ProductSeries, ...]:
        """Their price paths and beliefs; ``baseline`` is the name of the policy shown."""
        decisions: Mapping[str, Decisions] = self._decisions
        return product_series(
            self._baseline.products, decisions, self._baseline.epochs, baseline, self._at_stake
        )
