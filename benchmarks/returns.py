"""Return rates learned from delayed labels, against the truth and against simpler ways.

    python -m benchmarks.returns [--seeds 1 2 3] [--products 200] [--days 364]
    python -m benchmarks.returns --online-retail events.csv.gz

Orders, prices and rivals come from the reference world (`models.simulator.world`), a sample of its
products; each order line is then drawn by itself: segment, whether it comes back, and when (gamma,
shape 2). Lines and returns go through the fold's own path: cohorts, lessons at day ticks, pooled
models, product levels. Every line is predicted when it is sold, by what was known that morning.

Rows: ``reference`` (category, product, slope in price), ``rich`` (in log odds: segments +-0.4, a
shop-wide yearly wave of sd 0.25, psi = -0.8 on ln(P_c/P)) and ``many_returns`` (a rate of 0.3, nine
weeks, which the prior of 0.1 does not know). In each: the oracle (true rates), the best constant in
hindsight, waiting for expiry (the same models, taught when a line is 61 days old), and the two
pooled models apart. ECE is over ten bins of equal counts. Start-up bias is the mean predicted less
the mean true rate of the lines of weeks 2 to 6, a probability.

``profit_lost`` is the share of the best true profit that is lost at the price chosen with a
believed R(P), demand and costs being known. With ``--online-retail`` the prepared Online Retail
year (docs/online-retail.md) is replayed instead; nobody knows its truth, so it shows reliability.
The result goes to stdout and to benchmarks/results/returns.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks import returns_retail
from benchmarks.harness import machine, write_result
from benchmarks.returns_shop import ECE_BINS, Shop, WaitingShop, calibration_error
from models.returns.return_curve import probability_positive
from models.returns.return_features import Sale, month_of_day
from models.simulator.world import PRICE_GRID, World, WorldSettings, margin

Floats = NDArray[np.float64]

FIRST_DAY = 20_089  # 2025-01-01
SEGMENTS = ("all", "app", "web")
STARTUP_DAYS = (7, 42)
MANY_RETURNS_DAYS = 63
LEVEL_ERROR = 0.5  # of the log odds, beside which a missing slope is shown


class Truth(NamedTuple):
    """What moves returns besides category, product and price, in log odds."""

    name: str
    rate: float = 0.12
    segments: tuple[float, ...] = (0.0,)
    shares: tuple[float, ...] = (1.0,)
    season_sd: float = 0.0
    rival: float = 0.0


ROWS = (
    Truth("reference"),
    Truth("rich", 0.12, (-0.4, 0.0, 0.4), (0.3, 0.4, 0.3), 0.25, -0.8),
    Truth("many_returns", 0.3),
)


class Lines(NamedTuple):
    """Every line sold: day, true and predicted rates, outcome; and the shop that learned."""

    day: Floats
    true: Floats
    outcome: Floats
    predicted: dict[str, Floats]
    shop: Shop
    world: World


def sell_a_year(seed: int, truth: Truth, products: int, days: int) -> Lines:
    """Live through ``days`` days of one world and note what was predicted at each sale."""
    world = World(seed, WorldSettings(products=products, return_rate=truth.rate))
    rng = np.random.default_rng([seed, 77])
    phase = rng.uniform(0.0, 2.0 * np.pi)
    shop, waiting = Shop(products, world.products.category), WaitingShop(world.products.category)
    columns: list[list[tuple[float, ...]]] = []
    for day in range(days):
        x, exogenous = world.habit()
        seen = world.step(x, exogenous)
        at = FIRST_DAY + day
        shop.begin(at)
        waiting.begin(at)
        month = month_of_day(at)
        season = truth.season_sd * np.sqrt(2.0) * np.sin(2.0 * np.pi * day / 365.25 + phase)
        for product in np.flatnonzero(seen.orders):
            ln_price, ln_rival = float(x[product]), float(seen.ln_rival[product] - x[product])
            base = world.products.return_logit[product] + season
            base += world.products.return_slope[product] * ln_price + truth.rival * ln_rival
            counts = rng.multinomial(seen.orders[product], truth.shares)
            for number in np.flatnonzero(counts):
                sale = Sale(
                    f"c{world.products.category[product]}", SEGMENTS[number], month, ln_price,
                    ln_rival,
                )  # fmt: skip
                true = float(special.expit(base + truth.segments[number]))
                back = rng.random(counts[number]) < true
                delays = rng.gamma(2.0, 4.5, counts[number])
                shop.sell(int(product), sale, back, delays, rng)
                said = (*shop.predict(int(product), sale), waiting.predict(int(product), sale))
                waiting.sell(int(product), sale, back)
                columns.append([(day, true, float(came), *said) for came in back])
    table = np.array([line for lines in columns for line in lines])
    names = ("average", "logistic_alone", "factors_alone", "waiting_for_expiry")
    predicted = {name: table[:, 3 + at] for at, name in enumerate(names)}
    return Lines(table[:, 0], table[:, 1], table[:, 2], predicted, shop, world)


def figures(lines: Lines, predicted: Floats, chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Brier score above the oracle's, ECE, and the mean distance of rates."""
    said, outcome, true = predicted[chosen], lines.outcome[chosen], lines.true[chosen]
    return {
        "brier_above_oracle": float(np.mean((said - outcome) ** 2 - (true - outcome) ** 2)),
        "ece": calibration_error(said, outcome),
        "rate_rmse": float(np.sqrt(np.mean((said - true) ** 2))),
    }


def measure(lines: Lines) -> dict[str, float]:
    """The figures of one run, flat."""
    everything = np.ones(len(lines.day), bool)
    settled = lines.day >= 90
    young = (lines.day >= STARTUP_DAYS[0]) & (lines.day < STARTUP_DAYS[1])
    found: dict[str, float] = {
        "lines": float(len(lines.day)),
        "brier_oracle": float(np.mean((lines.true - lines.outcome) ** 2)),
    }
    constant = np.full(len(lines.day), lines.outcome.mean())
    for name, said in (*lines.predicted.items(), ("constant_in_hindsight", constant)):
        for key, value in figures(lines, said, everything).items():
            found[f"{name}.{key}"] = value
        if settled.any():
            found[f"{name}.ece_after_day_90"] = calibration_error(
                said[settled], lines.outcome[settled]
            )
        found[f"{name}.startup_bias"] = float(np.mean(said[young] - lines.true[young]))
    return found


def slope_figures(lines: Lines, truth: Truth) -> dict[str, float]:
    """The learned slope against the truth's mean by sales."""
    slope = lines.shop.partition.return_snapshot.slope(None, rival=truth.rival != 0.0)
    weight = np.exp(lines.world.products.level)
    true = float(np.average(lines.world.products.return_slope, weights=weight)) - truth.rival
    return {
        "true_of_mean_sale": true,
        "learned": slope.mean,
        "sd": slope.sd,
        "error_in_sd": (slope.mean - true) / slope.sd,
        "probability_positive": probability_positive(slope),
    }


def profit_lost(lines: Lines) -> dict[str, float]:
    """Share of the best true profit lost at prices chosen by believed return curves."""
    world, shop = lines.world, lines.shop
    products, kept = world.products, world.settings.kept_share
    at_reference = special.expit(products.return_logit)
    curves = [shop.curve(product) for product in range(len(at_reference))]
    learned_level = np.array([one.rate(0.0) for one in curves])
    beliefs: dict[str, Callable[[Floats], Floats]] = {
        "learned_curve": lambda x: np.array(
            [r.rate(float(p)) for r, p in zip(curves, x, strict=True)]
        ),
        "slope_ignored": lambda x: learned_level,
        "slope_ignored_true_level": lambda x: at_reference,
        "level_wrong_by_half_a_logit": lambda x: special.expit(
            products.return_logit + LEVEL_ERROR + products.return_slope * x
        ),
    }
    grid = PRICE_GRID[::2]
    rates = [np.exp(world.steady_log_rate(np.full(len(at_reference), x))) for x in grid]
    true = np.stack([world.steady_profit(np.full(len(at_reference), x)) for x in grid])
    best = true.max(axis=0).sum()
    found = {}
    for name, believed in beliefs.items():
        said = np.stack([
            rate * margin(products, column, kept, believed(column))
            for rate, column in (
                (rates[at], np.full(len(at_reference), x)) for at, x in enumerate(grid)
            )
        ])  # fmt: skip
        chosen = true[np.argmax(said, axis=0), np.arange(len(at_reference))].sum()
        found[name] = float(1.0 - chosen / best)
    return found


def spread(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, lowest and highest over the seeds."""
    return {
        key: {
            "mean": round(statistics.fmean(run[key] for run in runs), 5),
            "low": round(min(run[key] for run in runs), 5),
            "high": round(max(run[key] for run in runs), 5),
        }
        for key in runs[0]
    }


def simulated(seeds: list[int], products: int, days: int) -> dict[str, Any]:
    """All rows over all seeds."""
    result: dict[str, Any] = {}
    for truth in ROWS:
        stretch = min(days, MANY_RETURNS_DAYS) if truth.name == "many_returns" else days
        runs = [sell_a_year(seed, truth, products, stretch) for seed in seeds]
        row: dict[str, Any] = {"days": stretch, "returns": spread([measure(run) for run in runs])}
        if truth.name != "many_returns":
            row["slope"] = spread([slope_figures(run, truth) for run in runs])
        if truth.name == "reference":
            row["profit_lost"] = spread([profit_lost(run) for run in runs])
        result[truth.name] = row
    return result


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--products", type=int, default=200)
    parser.add_argument("--days", type=int, default=364)
    parser.add_argument("--online-retail", type=Path, metavar="PATH")
    chosen = parser.parse_args()
    began = time.perf_counter()
    if chosen.online_retail is not None:
        name, found = "returns_online_retail", returns_retail.measure(chosen.online_retail)
    else:
        name = "returns"
        found = {"seeds": chosen.seeds, "products": chosen.products, "ece_bins": ECE_BINS}
        found |= simulated(chosen.seeds, chosen.products, chosen.days)
    seconds = round(time.perf_counter() - began, 1)
    write_result(name, {**found, "seconds": seconds, "machine": machine("river", "numpy")})


if __name__ == "__main__":
    main()
