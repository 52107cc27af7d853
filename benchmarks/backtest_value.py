"""Whether the model-based estimate of a backtest holds what its interval says, against truth.

    python -m benchmarks.backtest_value

40 simulated shops of 100 products, each with its own truth: 90 days of the shop's habit, then 60
days under a logging policy. Odd seeds go on by habit (prices that react to demand which no event
tells), even seeds are priced by the engine's own belief, kernel, step guard and probes. Rivals
follow, stock runs out and is delivered, units come back late. Each candidate is a price path over
the last 60 days:

- ``engine``: what the engine's belief of the day would have priced, the shown prices held as they
  were (on even seeds, where that is what was shown: without regard to risk or stock);
- ``dearer``: 8 % above what was shown;
- ``mixed``: by category 10 % dearer, 10 % cheaper or as it was.

The true difference to what was shown is the expected profit under the simulator's own equation
(same shocks, rivals that answer each path, the mean of 10 draws of customers and deliveries). The
``naive`` estimate beside it asks the deciding beliefs themselves and takes the errors of products
and days as independent.

Coverage counts shops in which the 90 % interval holds the true difference. Width and bias are
relative to the root mean square of the true difference over the shops.
"""

import sys

import numpy as np

from benchmarks.backtest_shops import CANDIDATES, DAYS, HABIT_DAYS, PRODUCTS, history, truth
from benchmarks.harness import machine, write_result
from models.backtest.policy_value import compare
from models.kernel.tile import Kernel
from schemas.events import DAY_MS

SEEDS = range(1, 41)
Z = 1.6449  # of a central 90 % interval


def measure(seed: int, kernel: Kernel) -> dict[str, dict[str, float]]:
    """Truth, estimate and naive estimate of each candidate."""
    tape = history(seed, kernel)
    true = truth(seed, tape.paths)
    rows = {}
    for name, decisions in tape.candidates.items():
        products, epochs, outcomes = tape.columns
        (value,) = compare(
            products, tape.baseline, decisions, epochs, outcomes,
            from_ms=HABIT_DAYS * DAY_MS, to_ms=(HABIT_DAYS + DAYS) * DAY_MS, seed=seed,
        )  # fmt: skip
        found = value.difference
        rows[name] = {
            "true": true[name] - true["shown"],
            "mean": found.mean_minor,
            "low": found.low_minor,
            "high": found.high_minor,
            "baseline": true["shown"],
            "baseline_estimate": value.baseline.mean_minor,
            "calibration": value.calibration or np.nan,
            "naive_mean": tape.naive[name][0],
            "naive_sd": tape.naive[name][1],
        }
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Coverage, bias, width and signs of one candidate over the shops."""
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    true, scale = column["true"], float(np.sqrt(np.mean(column["true"] ** 2)))
    held = (column["low"] <= true) & (true <= column["high"])
    half = Z * column["naive_sd"]
    naive = np.abs(column["naive_mean"] - true) <= half
    clear = (column["low"] > 0.0) | (column["high"] < 0.0)
    right = np.sign(column["mean"]) == np.sign(true)
    found = {
        "coverage": np.mean(held),
        "bias": np.mean(column["mean"] - true) / scale,
        "rms_error": np.sqrt(np.mean((column["mean"] - true) ** 2)) / scale,
        "width": np.mean(column["high"] - column["low"]) / scale,
        "sign_right": np.mean(right),
        "clear_share": np.mean(clear),
        "sign_right_where_clear": np.mean(right[clear]) if clear.any() else np.nan,
        "true_share_of_profit": np.mean(true / column["baseline"]),
        "naive_coverage": np.mean(naive),
        "naive_bias": np.mean(column["naive_mean"] - true) / scale,
        "naive_rms_error": np.sqrt(np.mean((column["naive_mean"] - true) ** 2)) / scale,
        "naive_width": np.mean(2.0 * half) / scale,
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def main() -> None:
    """Print coverage by candidate, by logging policy and in all."""
    kernel = Kernel.warm()
    shops = {}
    for seed in SEEDS:
        shops[seed] = measure(seed, kernel)
        print(f"seed {seed} of {SEEDS.stop - 1}", file=sys.stderr, flush=True)
    by_candidate = {name: [shop[name] for shop in shops.values()] for name in CANDIDATES}
    by_logging = {
        "habit": [row for seed, shop in shops.items() if seed % 2 for row in shop.values()],
        "engine": [row for seed, shop in shops.items() if seed % 2 == 0 for row in shop.values()],
    }
    write_result(
        "backtest_value",
        {
            "seeds": [SEEDS.start, SEEDS.stop - 1],
            "products": PRODUCTS,
            "days": DAYS,
            "bars": {"coverage": "at least 0.85 for each candidate"},
            "candidates": {name: summary(rows) for name, rows in by_candidate.items()},
            "logging": {name: summary(rows) for name, rows in by_logging.items()},
            "all": summary([row for rows in by_candidate.values() for row in rows]),
            "machine": machine("numpy", "jax"),
        },
    )


if __name__ == "__main__":
    main()
