"""Drift detection: false alarms without a break, delay after one, and what widening is worth.

    python -m benchmarks.drift [--products N]

Products of the reference world are learned for a year with the fold's own functions (`surprise`,
`watch`, `learn`); then the truth of every one jumps, and a second year follows. Prices follow the
shop's habit and stay while an epoch lasts; an epoch closes at ten orders, fourteen days or a
rival move of 3 %, as in the fold. Baseline: the same belief without a detector, which follows by
its random walk alone. ``error`` is the mean absolute error of the believed ln(orders a day) at the
product's price, 60 days after the break. ``epochs_between_false_alarms`` has counts drawn from the
forecast itself. The form of the test and its threshold were chosen on other draws (seed 100).
"""

import argparse
import statistics
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import machine, write_result
from models.demand.demand import DEFAULT_SETTINGS, learn
from models.demand.drift import watch, widened
from models.demand.epoch import DAY_MS, Features, Observation
from models.demand.surprise import Surprise, surprise
from models.simulator.world import World, WorldSettings
from schemas.learned import DemandPosterior, DriftSums
from schemas.policy import DecisionPolicy, LearningPolicy

SEEDS = (1, 2, 3)
BREAK_DAY, DAYS, WARM_UP_DAYS, LOOK_DAYS = 364, 728, 60, 60
QUIET_EPOCHS, QUIET_ORDERS = 60_000, (2.0, 20.0)
POLICY, DECISION = LearningPolicy(), DecisionPolicy()
SCENARIOS = {
    "no break": (0.0, 0.0),
    "level / 3": (-float(np.log(3.0)), 0.0),
    "level / 2": (-float(np.log(2.0)), 0.0),
    "level x 2": (float(np.log(2.0)), 0.0),
    "level x 3": (float(np.log(3.0)), 0.0),
    "elasticity - 1.5": (0.0, -1.5),
    "elasticity + 1": (0.0, 1.0),
}
START = DemandPosterior(
    mean=(0.0, -2.4, 0.2, 0.0),
    cov=(1.0, 0.0, 0.0, 0.0, 0.45, 0.0, 0.0, 0.02, 0.0, 0.25),
    epochs=0,
    orders=0,
    updated_ms=0,
)


class Run(NamedTuple):
    """Firings as (day, product), epochs closed, and errors after the break."""

    fired: list[tuple[int, int]]
    epochs: int
    error: float
    elasticity_error: float


def run(seed: int, products: int, level: float, elasticity: float, *, detect: bool) -> Run:
    """Two years of one shop."""
    world = World(
        seed,
        WorldSettings(
            products=products, break_day=BREAK_DAY, break_level=level, break_elasticity=elasticity
        ),
    )
    beliefs, sums = [START] * products, [DriftSums()] * products
    age, orders = np.zeros(products), np.zeros(products, dtype=np.int64)
    (x, exogenous), rival = world.habit(), world.ln_rival().copy()
    fired: list[tuple[int, int]] = []
    epochs, errors = 0, (0.0, 0.0)
    for day in range(DAYS):
        seen = world.step(x, exogenous)
        orders, age = orders + seen.orders, age + 1.0
        moved = np.abs(world.ln_rival() - rival) > np.log1p(DECISION.rival_move_ratio)
        full = orders >= DECISION.epoch_orders_close
        for i in np.nonzero(full | (age >= DECISION.epoch_days_max) | moved)[0].tolist():
            features = Features(float(x[i]), float(rival[i]), float(x[i] - exogenous[i]))
            closed = Observation(features, int(orders[i]), float(age[i]))
            if detect:
                compared = surprise(beliefs[i], closed, DEFAULT_SETTINGS)
                sums[i], found = watch(sums[i], compared, closed.orders, POLICY)
                if found is not None:
                    fired.append((day, i))
                    beliefs[i] = widened(beliefs[i], POLICY)
            beliefs[i] = learn(beliefs[i], closed, (day + 1) * DAY_MS, DEFAULT_SETTINGS)
            epochs += 1
        ended = full | (age >= DECISION.epoch_days_max) | moved
        habit, habit_exogenous = world.habit()
        x, exogenous = np.where(ended, habit, x), np.where(ended, habit_exogenous, exogenous)
        rival = np.where(ended, world.ln_rival(), rival)
        age, orders = np.where(ended, 0.0, age), np.where(ended, 0, orders)
        if day == BREAK_DAY + LOOK_DAYS:
            errors = _errors(world, beliefs, x)
    return Run(fired, epochs, *errors)


def _errors(
    world: World, beliefs: list[DemandPosterior], x: np.ndarray[Any, Any]
) -> tuple[float, float]:
    mean = np.array([belief.mean for belief in beliefs])
    y = world.products.rival_base + world.settings.rival_follow * x
    believed = mean[:, 0] + mean[:, 1] * x + mean[:, 2] * y
    error = np.abs(believed - world.steady_log_rate(x))
    return float(error.mean()), float(np.abs(mean[:, 1] - world.elasticity).mean())


def figures(products: int, level: float, elasticity: float, seed: int) -> dict[str, float]:
    """False alarms before the break, delays after it, errors with and without detection."""
    found = run(seed, products, level, elasticity, detect=True)
    without = run(seed, products, level, elasticity, detect=False)
    broke = bool(level or elasticity)
    quiet_end = BREAK_DAY if broke else DAYS
    false = sum(WARM_UP_DAYS <= day < quiet_end for day, _ in found.fired)
    first: dict[int, int] = {}
    for day, product in found.fired:
        if day >= BREAK_DAY:
            first.setdefault(product, day - BREAK_DAY)
    result = {
        "false_alarms_per_product_year": false * 365 / (products * (quiet_end - WARM_UP_DAYS)),
        "epochs_per_product_year": found.epochs * 365 / (products * DAYS),
        "error_60_days_later": found.error,
        "error_60_days_later_without": without.error,
        "elasticity_error_60_days_later": found.elasticity_error,
        "elasticity_error_60_days_later_without": without.elasticity_error,
    }
    if broke:
        delays = sorted(first.values())
        for days in (30, 60, 364):
            result[f"found_within_{days}_days"] = sum(d <= days for d in delays) / products
        result["median_delay_days_of_found"] = statistics.median(delays) if delays else -1.0
    return result


def quiet_epochs(seed: int, expected: float) -> float:
    """Epochs between false alarms where counts are drawn from the forecast itself."""
    rng, phi = np.random.default_rng(seed), DEFAULT_SETTINGS.dispersion
    rates = expected * rng.gamma(1.0 / phi, phi, QUIET_EPOCHS)
    forecast = Surprise(expected, phi, residual=0.0, price_distance=0.1)
    sums, fired = DriftSums(), 0
    for orders in rng.poisson(rates).tolist():
        sums, found = watch(sums, forecast, orders, POLICY)
        fired += found is not None
    return QUIET_EPOCHS / max(fired, 1)


def measure(products: int) -> dict[str, Any]:
    """All scenarios and seeds: mean, lowest, highest."""
    result: dict[str, Any] = {
        "products": products, "seeds": SEEDS, "evidence_nats": POLICY.drift_evidence_nats,
    }  # fmt: skip
    for expected in QUIET_ORDERS:
        between = [quiet_epochs(seed, expected) for seed in SEEDS]
        result[f"epochs_between_false_alarms_at_{expected:g}_orders"] = {
            "mean": round(statistics.fmean(between), 1),
            "low": round(min(between), 1),
            "high": round(max(between), 1),
        }
    for name, (level, elasticity) in SCENARIOS.items():
        runs = [figures(products, level, elasticity, seed) for seed in SEEDS]
        result[name] = {
            figure: {
                "mean": round(statistics.fmean(run[figure] for run in runs), 4),
                "low": round(min(run[figure] for run in runs), 4),
                "high": round(max(run[figure] for run in runs), 4),
            }
            for figure in runs[0]
        }
    return {**result, **machine("numpy", "scipy")}


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=100)
    write_result("drift", measure(parser.parse_args().products))


if __name__ == "__main__":
    main()
