"""How fast the simulated market steps: product-days in arrays, records in events.

    python -m benchmarks.simulator

The baseline is a plain loop over products that draws the same demand, one product and day at a
time, with the same equation and the same way of drawing; the orders of its products stand beside
the array stepper's. Seeds 1, 2 and 3; every figure with its lowest and highest. Seconds are of one
core's time at work, so that other programs hardly matter.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.harness import machine, write_result
from models.simulator.simulator import Shop
from models.simulator.simulator_customers import DAY_MS
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_presets import EFFECTS, shop_settings
from models.simulator.world import World, WorldSettings
from models.simulator.world_truth import Ints

SEEDS = (1, 2, 3)
LOOP_PRODUCTS = 200
ALL_EFFECTS = WorldSettings(
    dearer_penalty=1.5, memory_effect=0.5, weekday_sd=0.1, season_sd=0.2, drift_sd_per_day=0.01,
    family_size=6, anchor_effect=0.6, substitute_effect=0.5, complement_effect=0.3,
    channel_shares=(0.9, 0.1), channel_elasticity=(0.0, 2.0), visits_per_order=25.0,
    overdispersion=0.15, searches_per_order=5.0, search_effect=0.25, late_category_day=60,
    successor_share=0.1, new_customer_share=0.4, new_customer_logit=0.5, return_season_sd=0.3,
    cover_days=21.0,
)  # fmt: skip


def sample(settings: WorldSettings, seed: int) -> Ints:
    """The products that the plain loop steps."""
    return np.array(random.Random(seed).sample(range(settings.products), LOOP_PRODUCTS))


def stepped(settings: WorldSettings, seed: int, days: int) -> tuple[float, float]:
    """Product-days per second of the array stepper, and the loop's products' orders a day."""
    world = World(seed, settings)
    start = time.process_time()
    history = world.history(days)
    seconds = time.process_time() - start
    orders = np.sum([day.orders for day in history], axis=0)
    return settings.products * days / seconds, float(orders[sample(settings, seed)].mean() / days)


def looped(settings: WorldSettings, seed: int, days: int) -> tuple[float, float]:
    """The same of a plain loop."""
    world, rng = World(seed, settings), random.Random(seed)
    rows = world.products.take(sample(settings, seed))
    orders = 0
    kept, fresh = settings.shock_memory, math.sqrt(1.0 - settings.shock_memory**2)
    calm, stir = settings.rival_noise_memory, math.sqrt(1.0 - settings.rival_noise_memory**2)
    columns = (rows.level, rows.elasticity, rows.cross_price_elasticity, rows.rival_base)
    start = time.process_time()
    for level, elasticity, cross, rival_base in zip(*(c.tolist() for c in columns), strict=True):
        shock, noise = rng.gauss(0, settings.shock_sd), rng.gauss(0, settings.rival_noise_sd)
        exogenous = last = 0.0
        for day in range(days):
            if day % settings.price_hold_days == 0:
                exogenous = rng.gauss(0.0, settings.exogenous_sd)
            x = exogenous + settings.price_reaction * shock
            y = rival_base + settings.rival_follow * last + noise
            rate = math.exp(level + elasticity * x + cross * y + shock)
            uniform = rng.random()
            term = total = math.exp(-rate)
            count = 0
            while uniform > total and term > 0.0:
                count += 1
                term *= rate / count
                total += term
            orders += count
            last = x
            shock = kept * shock + fresh * rng.gauss(0, settings.shock_sd)
            noise = calm * noise + stir * rng.gauss(0, settings.rival_noise_sd)
    count = LOOP_PRODUCTS * days
    return count / (time.process_time() - start), orders / count


def told(
    seed: int, products: int, days: int, effects: tuple[str, ...], hours: int
) -> dict[str, float]:
    """Records and product-days per second of the event stepper."""
    settings = shop_settings(
        "shop", effects, calendar={}, products=products, step_hours=hours,
        traffic_hours=max(hours, 6),
    )  # fmt: skip
    shop = Shop(seed, settings=settings)
    habit = CostPlusHabit(shop, seed)
    end_ms, records = shop.now_ms + days * DAY_MS, 0
    start = time.process_time()
    while shop.now_ms < end_ms:
        records += len(shop.step(habit.prices()))
    seconds = time.process_time() - start
    return {"records": records / seconds, "product_days": products * days / seconds}


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def measure(products: int, days: int) -> dict[str, Any]:
    """Run all steppers on every seed."""
    plain = WorldSettings(products=products)
    runs: dict[str, Callable[[int], tuple[float, float]]] = {
        "arrays": lambda seed: stepped(plain, seed, days),
        "arrays_all_effects": lambda seed: stepped(
            replace(ALL_EFFECTS, products=products), seed, days
        ),
        "plain_loop": lambda seed: looped(plain, seed, days),
    }
    found = {name: [run(seed) for seed in SEEDS] for name, run in runs.items()}
    per_second = {name: spread([speed for speed, _ in rows]) for name, rows in found.items()}
    orders = {name: [round(count, 3) for _, count in rows] for name, rows in found.items()}
    events = {
        "hourly": [told(seed, 100, 28, (), 1) for seed in SEEDS],
        "hourly_all_effects": [told(seed, 100, 28, tuple(EFFECTS), 1) for seed in SEEDS],
        "daily": [told(seed, 1000, 14, (), 24) for seed in SEEDS],
    }
    return {
        "seeds": SEEDS,
        "products": products,
        "days": days,
        "product_days_per_second": per_second,
        "times_the_plain_loop": spread(
            [a / b for (a, _), (b, _) in zip(found["arrays"], found["plain_loop"], strict=True)]
        ),
        "orders_per_day_of_the_loop_s_products": orders,
        "records_per_second_in_events": {
            name: spread([row["records"] for row in rows]) for name, rows in events.items()
        },
        "product_days_per_second_in_events": {
            name: spread([row["product_days"] for row in rows]) for name, rows in events.items()
        },
        "machine": machine("numpy", "scipy"),
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=2000, help="of the world in arrays")
    parser.add_argument("--days", type=int, default=364, help="simulated days")
    chosen = parser.parse_args()
    write_result("simulator", measure(chosen.products, chosen.days))


if __name__ == "__main__":
    main()
