"""Whether switchback tests keep their level and find what they are designed to find.

    python -m benchmarks.switchback [--products N] [--seeds N] [--tests N]

A year of the reference world, with weekdays, seasons, overdispersion and autocorrelated shocks, is
the history that a test is designed from; the next year is where tests are run: at random days, each
with a schedule of its own, on what was really earned. ``false_positives``: the share of tests
without any difference whose interval leaves out 0, to be near alpha. ``found``: the share that does
so where the candidate earns more in proportion to each unit's profit, by just what the design says
that it finds, to be near the power; ``covered``: whose interval has the true difference. The
baseline ``at_once`` gives half of the units the candidate for all days and compares means by
Welch's t test: same days, units, and effect.
"""

import argparse
from typing import Any

import numpy as np
from msgspec.structs import replace
from scipy import stats

from benchmarks.harness import machine, write_result
from models.backtest import switchback
from models.backtest.columns import Floats, Outcomes, Products
from models.backtest.switchback_analysis import analyse
from models.backtest.switchback_units import profit_by_day
from models.simulator.world import World, WorldSettings, margin
from schemas.backtest import SwitchbackDesign

YEAR = 364
POLICIES = (switchback.BASELINE, switchback.CANDIDATE)
DAYS_MAX = 84
SETTINGS = {"weekday_sd": 0.2, "season_sd": 0.2, "overdispersion": 0.2}


def shop(seed: int, products: int) -> tuple[Products, Outcomes]:
    """Two years of a shop's habit of pricing; profit by expected returns."""
    world = World(seed, WorldSettings(products=products, **SETTINGS))
    days = world.history(2 * YEAR)
    truth = world.products
    kept = world.settings.kept_share
    reference = truth.reference_price_minor.astype(np.float64)
    earned = np.stack([day.orders * margin(truth, day.ln_price, kept) * reference for day in days])
    number = np.repeat(np.arange(products), 2 * YEAR)
    orders = np.stack([day.orders for day in days]).T.ravel().astype(np.float64)
    none = np.zeros(len(number))
    names = [f"{i:05}" for i in range(products)]
    catalogue = Products(names, names, [str(i) for i in truth.category], ["EUR"] * products)
    outcomes = Outcomes(
        product=number, day=np.tile(np.arange(2 * YEAR), products), orders=orders, units=orders,
        revenue_minor=earned.T.ravel(), returned_units=none, refund_minor=none,
        unit_cost_minor=none, kept_share=none + 1.0, handling_minor=none,
    )  # fmt: skip
    return catalogue, outcomes


def run(seed: int, products: int, tests: int) -> dict[str, float]:
    """Design on the first year, and test in the second."""
    catalogue, outcomes = shop(seed, products)
    past = Outcomes._make(column[outcomes.day <= YEAR] for column in outcomes)
    (tested,) = switchback.design(catalogue, past, (), days_max=DAYS_MAX, seed=seed)
    rng = np.random.default_rng([seed, 1])
    effect = tested.detectable_minor_per_day
    assert effect is not None
    names = [cell.unit for cell in tested.schedule if cell.block == 0]
    unit_of = {
        family: i for i, name in enumerate(names) for family in tested.groups.get(name, (name,))
    }
    unit = np.array([unit_of.get(family, -1) for family in catalogue.families], np.int64)
    size = profit_by_day(past, unit, len(names), (0, YEAR)).mean(axis=1)
    share = effect / size.sum()
    found = {"false": 0, "found": 0, "covered": 0, "at_once_false": 0, "at_once_found": 0}
    for _ in range(tests):
        first_day = int(rng.integers(YEAR, 2 * YEAR - int(tested.days)))
        cells = switchback.schedule(names, tested.blocks, int(rng.integers(1 << 30)), POLICIES)
        again = replace(tested, schedule=cells)
        null = analyse(again, catalogue, outcomes, first_day=first_day)
        lifted = _lifted(again, outcomes, unit, size * share, first_day, names)
        moved = analyse(again, catalogue, lifted, first_day=first_day)
        found["false"] += not null.low_minor <= 0.0 <= null.high_minor
        found["found"] += moved.low_minor > 0.0
        found["covered"] += moved.low_minor <= effect <= moved.high_minor
        table = profit_by_day(outcomes, unit, len(names), (first_day, first_day + int(tested.days)))
        treated = rng.permutation(np.arange(len(names)) % 2 == 0)
        found["at_once_false"] += _welch(table.mean(axis=1), treated) < tested.alpha
        found["at_once_found"] += (
            _welch(table.mean(axis=1) + treated * size * share, treated) < tested.alpha
        )
    result = {name: count / tests for name, count in found.items()}
    return result | {"detectable_share": share, "days": tested.days, "blocks": tested.blocks,
                     "block_days": tested.block_days, "units": tested.units}  # fmt: skip


def _lifted(
    tested: SwitchbackDesign, outcomes: Outcomes, unit: Any, lift: Floats, first_day: int,
    names: list[str],
) -> Outcomes:  # fmt: skip
    """What would have been earned: a unit under the candidate gets its lift, over its rows."""
    has = np.array([cell.policy == switchback.CANDIDATE for cell in tested.schedule])
    has = has.reshape(len(names), tested.blocks)
    block = (outcomes.day - first_day) // int(tested.block_days)
    inside = (block >= 0) & (block < tested.blocks) & (unit[outcomes.product] >= 0)
    rows = np.flatnonzero(inside)
    of = unit[outcomes.product[rows]]
    members = np.bincount(unit[unit >= 0], minlength=len(names))
    revenue = outcomes.revenue_minor.copy()
    revenue[rows] += has[of, block[rows]] * (lift / members)[of]
    return outcomes._replace(revenue_minor=revenue)


def _welch(mean: Floats, treated: Any) -> float:
    return float(stats.ttest_ind(mean[treated], mean[~treated], equal_var=False).pvalue)


def measure(products: int, seeds: int, tests: int) -> dict[str, Any]:
    """All seeds, and the Monte Carlo error of the shares."""
    runs = [run(seed, products, tests) for seed in range(1, seeds + 1)]
    mean = {name: float(np.mean([one[name] for one in runs])) for name in runs[0]}
    total = seeds * tests
    return {
        "products": products, "seeds": list(range(1, seeds + 1)), "tests": total,
        "alpha": 0.05, "power": 0.8, "days_max": DAYS_MAX, **SETTINGS,
        "false_positives": mean["false"], "found": mean["found"], "covered": mean["covered"],
        "false_positives_sd": float((0.05 * 0.95 / total) ** 0.5),
        "found_sd": float((0.8 * 0.2 / total) ** 0.5),
        "at_once": {"false_positives": mean["at_once_false"], "found": mean["at_once_found"]},
        "by_seed": runs,
        **machine("numpy", "scipy"),
    }  # fmt: skip


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tests", type=int, default=100)
    chosen = parser.parse_args()
    write_result("switchback", measure(chosen.products, chosen.seeds, chosen.tests))


if __name__ == "__main__":
    main()
