"""Pooled effects of the market: zero where a simulator has none, and the true ones where it has.

    python -m benchmarks.market_effects [--products N] [--days N]

For each effect two simulators, without (the baseline: nothing to find) and with it, and three
seeds. An estimate is the mean over categories with the sd that the model states; "used" is what
prices are made with. The fold's own functions learn, epoch by epoch. Then the prices that a
rival's threshold makes through the kernel, and what learning the effects costs.
"""

import argparse
import math
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.harness import machine, write_result
from models.demand import channels, effects_book, market_effects, searches
from models.demand.epoch import accrue, observation, open_epoch
from models.fold.partition import PartitionState
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from models.simulator.world import World, WorldSettings
from models.simulator.world_truth import Draws
from schemas.codec import canonical
from schemas.effects import ChannelEffects, Effect, SearchEffect, Today
from schemas.events import DAY_MS
from schemas.state import Traffic
from tests.models.effects_shop import learn_history

SEEDS = (1, 2, 3)
OMEGA, PSI, FOLLOW, WEEKDAY_SD, SEARCH = 2.0, -1.0, 0.6, 0.15, 0.7
CHANNEL_SHARES = {"marketplace": 0.2, "newsletter": 0.2, "web": 0.6}
CHANNEL_SLOPES = {"marketplace": -0.8, "newsletter": 1.6, "web": -0.4}  # sum share * slope is 0.08
RIVALS = (12.0, 14.0, 16.0, 18.0, 30.0)
REFERENCE, UNIT_COST, RETURN_COST = 20.0, 10.0, 2.0  # of the example, with eps -2.4, returns 10 %


def summary(effects: list[Effect], truth: float) -> dict[str, float]:
    """Mean estimate, stated sd and value in use, and the largest in use."""
    return {
        "truth": truth,
        "estimate": round(statistics.fmean(found.mean for found in effects), 4),
        "sd": round(statistics.fmean(found.sd for found in effects), 4),
        "used": round(statistics.fmean(found.used for found in effects), 4),
        "used_max": round(max(abs(found.used) for found in effects), 4),
    }


def by_category(partition: PartitionState, name: str) -> list[Effect]:
    """One effect of all categories."""
    return [getattr(found, name) for _, found in sorted(partition.effects.items())]


def weekdays(world: World, partition: PartitionState, truth_sd: float) -> dict[str, float]:
    """Error of the weekday effects in use, and their size."""
    truth = np.roll(Draws(world.seed).rng("weekday").normal(0.0, truth_sd, 7), 3).tolist()
    middle = statistics.fmean(truth)
    week = partition.day_factors.week
    gaps = [found - (true - middle) for found, true in zip(week, truth, strict=True)]
    return {
        "truth_sd": truth_sd,
        "sd": round(partition.day_factors.week_sd, 4),
        "used_max": round(max(map(abs, week)), 4),
        "rmse_of_used": round(math.sqrt(statistics.fmean(gap * gap for gap in gaps)), 4),
    }


def channel_effects(seed: int, slopes: dict[str, float], days: int) -> ChannelEffects:
    """Learn channels from 400 order lines a day at prices of sd 0.13."""
    rng = np.random.default_rng([seed, 7])
    effects = ChannelEffects()
    names = sorted(CHANNEL_SHARES)
    for _ in range(days):
        today: dict[str, list[int]] = {}
        for x in rng.normal(0.0, 0.13, 400).tolist():
            weights = np.array(
                [CHANNEL_SHARES[name] * math.exp(slopes[name] * x) for name in names]
            )
            chosen = names[rng.choice(len(names), p=weights / weights.sum())]
            channels.count(today, chosen, x)
        channels.new_day(effects, today)
    return effects


def channel_summary(effects: ChannelEffects, slopes: dict[str, float]) -> dict[str, Any]:
    """Slopes against the average, as learned and in use."""
    average = sum(CHANNEL_SHARES[name] * slope for name, slope in slopes.items())
    return {
        name: summary([found], round(slopes[name] - average, 4))
        for name, found in sorted(effects.effects.items())
    }


def search_effect(seed: int, beta: float, days: int) -> Effect:
    """Learn from 50 products whose visits follow the searches of the day before."""
    rng = np.random.default_rng([seed, 8])
    found = SearchEffect()
    shop = [Traffic(100.0, 100.0, 0) for _ in range(50)]
    interest = rng.normal(0.0, 0.3, 50)
    for _ in range(days):
        today = Today()
        visits = rng.poisson(100.0 * np.exp(beta * interest))
        interest = rng.normal(0.0, 0.3, 50)
        counted = rng.poisson(500.0 * np.exp(interest))
        for number, before in enumerate(shop):
            searches.teach(today, before, int(visits[number]), 1.0)
            shop[number] = effects_book.searched(before, before, int(counted[number]), 1.0)
        searches.new_day(found, today)
    return found.effect


def rival_prices(kernel: Kernel) -> dict[str, list[float]]:
    """The example's prices beside rivals, without and with a threshold of omega 2."""
    base = PADDING._replace(
        unit_cost=UNIT_COST / REFERENCE, return_cost=RETURN_COST / REFERENCE, elasticity=-2.4,
        return_min=0.1, return_max=0.1, rival_tau=0.03, lower=0.2, upper=5.0,
    )  # fmt: skip
    found = {}
    for name, omega in (("without", 0.0), ("omega_2", OMEGA)):
        rows = [base._replace(rival_omega=omega, rival_price=rival / REFERENCE) for rival in RIVALS]
        found[name] = [round(one.price * REFERENCE, 2) for one in kernel.solve(rows)]
    return found


def cost(partition: PartitionState) -> dict[str, float]:
    """CPU microseconds per closed epoch and per order line; bytes of a product's memory."""
    sku = min(partition.skus)
    state = partition.skus[sku]
    posterior = state.posterior
    if posterior is None or state.market is None:
        raise SystemExit("the product has learned nothing")
    epoch = open_epoch(0, 1050, 1000, rival_minor=990.0, exogenous_log=0.02, in_stock=None)
    ended = accrue(epoch, DAY_MS)
    seen = observation(ended, None)
    if seen is None:
        raise SystemExit("the epoch has no exposure")
    state.epoch = epoch
    repeats, best_epoch, best_order = 20_000, math.inf, math.inf
    for _ in range(3):
        start = time.process_time()
        for _ in range(repeats):
            found = effects_book.beside(partition, state, ended, seen)
            effects_book.learned(partition, state, ended, posterior, found)
        best_epoch = min(best_epoch, (time.process_time() - start) / repeats)
        start = time.process_time()
        for _ in range(repeats):
            effects_book.ordered(partition, state, "web")
        best_order = min(best_order, (time.process_time() - start) / repeats)
    return {
        "microseconds_per_closed_epoch": round(best_epoch * 1e6, 2),
        "microseconds_per_order_line": round(best_order * 1e6, 2),
        "bytes_of_memory_per_product": len(canonical(state.market)),
    }


def measure(products: int, days: int) -> dict[str, Any]:
    """All effects, by seed."""
    shop: dict[str, Any] = {"products": products, "categories": 8, "unseen_categories": 0}
    found: dict[str, Any] = {}
    for seed in SEEDS:
        none, partition = learn_history(seed, WorldSettings(**shop, rival_follow=0.0), days)
        _, with_rivals = learn_history(seed, WorldSettings(**shop, dearer_penalty=OMEGA), days)
        _, with_memory = learn_history(seed, WorldSettings(**shop, memory_effect=PSI), days)
        week, with_week = learn_history(seed, WorldSettings(**shop, weekday_sd=WEEKDAY_SD), days)
        flat = dict.fromkeys(CHANNEL_SLOPES, 0.0)
        found[f"seed_{seed}"] = {
            "rival_threshold": {
                "without": summary(by_category(partition, "rival"), 0.0),
                "with": summary(by_category(with_rivals, "rival"), OMEGA),
            },
            "price_memory": {
                "without": summary(by_category(partition, "memory"), 0.0),
                "with": summary(by_category(with_memory, "memory"), PSI),
            },
            "follow_rate": {
                "without": summary(by_category(partition, "follow_rate"), 0.0),
                "with": summary(by_category(with_memory, "follow_rate"), FOLLOW),
            },
            "weekday": {
                "without": weekdays(none, partition, 0.0),
                "with": weekdays(week, with_week, WEEKDAY_SD),
            },
            "channels": {
                "without": channel_summary(channel_effects(seed, flat, 60), flat),
                "with": channel_summary(channel_effects(seed, CHANNEL_SLOPES, 60), CHANNEL_SLOPES),
            },
            "searches": {
                "without": summary([search_effect(seed, 0.0, 60)], 0.0),
                "with": summary([search_effect(seed, SEARCH, 60)], SEARCH),
            },
        }
    return {
        "products": products,
        "days": days,
        "seeds": found,
        "rivals": list(RIVALS),
        "rival_prices": rival_prices(Kernel.warm()),
        "cost": cost(partition),
        "memory_time_constant_days": market_effects.MEMORY_DAYS,
        **machine("numpy", "jax"),
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=240, help="simulated products")
    parser.add_argument("--days", type=int, default=270, help="simulated days")
    chosen = parser.parse_args()
    write_result("market_effects", measure(chosen.products, chosen.days))


if __name__ == "__main__":
    main()
