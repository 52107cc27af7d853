"""Elasticity update: ours, scalar and in arrays, against River's Bayesian linear regression.

    python -m benchmarks.elasticity_update [--products N] [--epochs N]

Both start from the same prior and see the same simulated epochs, without a random walk; features
are scaled so that River's prior is the unit normal. Runs over the same epochs, in one process:

- ours: `learn`, from an epoch's counts to the elasticity and its sd (the new posterior has both);
- ours in arrays: `learn_many`, one epoch of every product at a time;
- River, whole step: predict, working response and weight (one step of iteratively reweighted least
  squares), learn, read elasticity and sd by `predict_one(..., with_dist=True)`: from the same
  counts to the same answer by its public interface;
- River, `learn_one` alone, on working responses prepared beforehand at our mode and without
  reading anything: the two posteriors are then the same one, which the run shows.

The result goes to stdout and to benchmarks/results/elasticity_update.json.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from river.linear_model import BayesianLinearRegression

from models.demand.demand import DemandSettings, learn
from models.demand.demand_batch import learn_many
from models.demand.epoch import DAY_MS, Features, Observation
from schemas.learned import DemandPosterior

RESULT = Path(__file__).parent / "results" / "elasticity_update.json"
SETTINGS = DemandSettings(level_walk_per_day=0.0, elasticity_walk_per_day=0.0)
MEAN = (0.7, -2.6, 0.3, 0.0)
SDS = (0.8, 0.6, 0.2, 0.5)
START = DemandPosterior(
    mean=MEAN,
    cov=(SDS[0] ** 2, 0.0, 0.0, 0.0, SDS[1] ** 2, 0.0, 0.0, SDS[2] ** 2, 0.0, SDS[3] ** 2),
    epochs=0,
    orders=0,
    updated_ms=0,
)
REPEATS = 3

Row = tuple[dict[str, float], float]


def simulate(rng: random.Random, epochs: int) -> tuple[float, list[Observation]]:
    """Return one product's true elasticity and its epochs of a day."""
    level, elasticity, cross, _ = (rng.gauss(m, s) for m, s in zip(MEAN, SDS, strict=True))
    seen = []
    for _ in range(epochs):
        price, rival = rng.gauss(0.0, 0.2), rng.gauss(0.0, 0.1)
        rate = math.exp(level + elasticity * price + cross * rival) * rng.gammavariate(5.0, 0.2)
        orders, arrival = 0, rng.expovariate(1.0)
        while arrival < rate:
            orders += 1
            arrival += rng.expovariate(1.0)
        seen.append(Observation(Features(price, rival, 0.3 * price), orders, 1.0))
    return elasticity, seen


def working_rows(epochs: list[Observation]) -> list[Row]:
    """The rows that make River's regression take the same steps: weighted, scaled, at the mode."""
    rows, posterior, phi = [], START, SETTINGS.dispersion
    for day, seen in enumerate(epochs):
        posterior = learn(posterior, seen, day * DAY_MS, SETTINGS)
        x = (1.0, seen.features.ln_price, seen.features.ln_rival or 0.0, seen.features.control)
        z = sum(a * b for a, b in zip(x, posterior.mean, strict=True))
        mu = math.exp(z) * seen.exposure_days
        information = mu * (1.0 + phi * seen.orders) / (1.0 + phi * mu) ** 2
        response = z + (seen.orders - mu) / (1.0 + phi * mu) / information
        response -= sum(a * b for a, b in zip(x, MEAN, strict=True))
        root = math.sqrt(information)
        names = ("level", "price", "rival", "control")
        features = {n: a * s * root for n, a, s in zip(names, x, SDS, strict=True)}
        rows.append((features, response * root))
    return rows


def elasticity_of(model: BayesianLinearRegression) -> tuple[float, float]:
    """Read River's coefficient of log price and its sd, in our units."""
    seen = model.predict_one({"price": 1.0}, with_dist=True)
    return MEAN[1] + SDS[1] * seen.mu, SDS[1] * math.sqrt(max(seen.sigma**2 - 1.0, 0.0))


def run_ours(tapes: list[list[Observation]]) -> tuple[float, list[float]]:
    """Seconds for all updates, and the elasticities learned."""
    start = time.perf_counter()
    learned = []
    for tape in tapes:
        posterior = START
        for day, seen in enumerate(tape):
            posterior = learn(posterior, seen, day * DAY_MS, SETTINGS)
        learned.append(posterior.mean[1])
    return time.perf_counter() - start, learned


def run_river(tapes: list[list[Observation]]) -> tuple[float, list[float]]:
    """Seconds for all whole steps, and the elasticities learned."""
    start = time.perf_counter()
    phi, learned = SETTINGS.dispersion, []
    for tape in tapes:
        model, elasticity = BayesianLinearRegression(alpha=1, beta=1), MEAN[1]
        for seen in tape:
            price, rival, control = seen.features
            rival = rival or 0.0
            row = {
                "level": SDS[0],
                "price": SDS[1] * price,
                "rival": SDS[2] * rival,
                "control": SDS[3] * control,
            }
            known = MEAN[0] + MEAN[1] * price + MEAN[2] * rival + MEAN[3] * control
            change = model.predict_one(row)
            mu = math.exp(known + change) * seen.exposure_days
            root = math.sqrt(mu / (1.0 + phi * mu))
            response = change + (seen.orders - mu) / mu
            model.learn_one({name: value * root for name, value in row.items()}, response * root)
            elasticity, _ = elasticity_of(model)
        learned.append(elasticity)
    return time.perf_counter() - start, learned


def run_river_alone(tapes: list[list[Row]]) -> tuple[float, list[float]]:
    """Seconds for `learn_one` on prepared rows, and the elasticities learned."""
    start = time.perf_counter()
    fitted = []
    for tape in tapes:
        model = BayesianLinearRegression(alpha=1, beta=1)
        for row, response in tape:
            model.learn_one(row, response)
        fitted.append(model)
    seconds = time.perf_counter() - start
    return seconds, [elasticity_of(model)[0] for model in fitted]


def run_batched(tapes: list[list[Observation]]) -> tuple[float, list[float]]:
    """Seconds for all updates, an epoch of every product at a time, and the elasticities."""
    n, epochs = len(tapes), len(tapes[0])
    columns = {
        "ln_price": np.array([[seen.features.ln_price for seen in tape] for tape in tapes]),
        "ln_rival": np.array([[seen.features.ln_rival or 0.0 for seen in tape] for tape in tapes]),
        "control": np.array([[seen.features.control for seen in tape] for tape in tapes]),
        "orders": np.array([[seen.orders for seen in tape] for tape in tapes]),
        "exposure_days": np.array([[seen.exposure_days for seen in tape] for tape in tapes]),
    }
    mean, cov = np.tile(START.mean, (n, 1)), np.tile(START.cov, (n, 1))
    start = time.perf_counter()
    for day in range(epochs):
        today = {name: column[:, day] for name, column in columns.items()}
        mean, cov = learn_many(mean, cov, **today, days=np.ones(n), settings=SETTINGS)
    return time.perf_counter() - start, mean[:, 1].tolist()


def rmse(learned: list[float], truth: list[float]) -> float:
    """Root mean squared error."""
    return math.sqrt(statistics.fmean((a - b) ** 2 for a, b in zip(learned, truth, strict=True)))


def measure(products: int, epochs: int) -> dict[str, Any]:
    """Run both, several times, and compare the fastest runs."""
    rng = random.Random(2024)
    shop = [simulate(rng, epochs) for _ in range(products)]
    truth, tapes = [elasticity for elasticity, _ in shop], [tape for _, tape in shop]
    rows = [working_rows(tape) for tape in tapes]
    seconds: list[tuple[float, float, float, float]] = []
    for _ in range(REPEATS):
        ours_s, ours = run_ours(tapes)
        whole_s, whole = run_river(tapes)
        alone_s, alone = run_river_alone(rows)
        batched_s, batched = run_batched(tapes)
        seconds.append((ours_s, whole_s, alone_s, batched_s))
    updates = products * epochs
    ours_us, whole_us, alone_us, batched_us = (
        min(run) / updates * 1e6 for run in zip(*seconds, strict=True)
    )
    return {
        "benchmark": "elasticity_update",
        "updates": updates,
        "ours_microseconds_per_update": ours_us,
        "ours_batched_microseconds_per_update": batched_us,
        "river_microseconds_per_update": whole_us,
        "river_learn_one_alone_microseconds": alone_us,
        "times_faster": whole_us / ours_us,
        "times_faster_than_learn_one_alone": alone_us / ours_us,
        "batched_times_faster": whole_us / batched_us,
        "prior_rmse": rmse([MEAN[1]] * products, truth),
        "ours_rmse": rmse(ours, truth),
        "river_rmse": rmse(whole, truth),
        "river_learn_one_alone_rmse": rmse(alone, truth),
        "elasticity_difference_max": max(abs(a - b) for a, b in zip(ours, alone, strict=True)),
        "batched_difference_max": max(abs(a - b) for a, b in zip(ours, batched, strict=True)),
        "python": platform.python_version(),
        "river": importlib.metadata.version("river"),
        "numpy": importlib.metadata.version("numpy"),
        "machine": platform.machine(),
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=200, help="simulated products")
    parser.add_argument("--epochs", type=int, default=200, help="epochs of a day per product")
    chosen = parser.parse_args()
    result = json.dumps(measure(chosen.products, chosen.epochs), indent=2)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(result + "\n")
    print(result)


if __name__ == "__main__":
    main()
