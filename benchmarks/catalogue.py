"""One core, a whole catalogue: each product's belief is updated and its price chosen, once.

    python -m benchmarks.catalogue [--products N]

Each of 60,000 products closes an epoch and is priced by the kernel (price and all Greeks at it, in
arrays).
The update is timed as the fold does it (`learn`, one product at a time, with the look at surprise
and drift), in arrays (`learn_many`), and, as baseline, as River's `BayesianLinearRegression` learns
one prepared row per product. Counts are drawn with seeds 1, 2, 3; times are the best of them, with
the slowest beside.
"""

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.linear_model import BayesianLinearRegression

from benchmarks.harness import machine, write_result
from models.demand import drift
from models.demand.demand import learn
from models.demand.demand_batch import learn_many
from models.demand.epoch import DAY_MS, Features, Observation
from models.demand.surprise import surprise
from models.fold.engine import PartitionEngine
from models.guards import gate, guards, limits
from models.guards.gate_rules import GateRules
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from schemas import tape
from schemas.codec import canonical
from schemas.events import EPOCH, PolicyPublished, ProductListed
from schemas.learned import DemandPosterior, DriftSums
from schemas.policy import LearningPolicy, policy_sha256
from schemas.scopes import Subject, parse_policy
from schemas.state import GateEntry
from streams.worker.engines import warm_kernel
from streams.worker.ticks import tick_event

Floats = NDArray[np.float64]

SEEDS = (1, 2, 3)
START = DemandPosterior(
    mean=(0.0, -2.4, 0.2, 0.0),
    cov=(0.5, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.02, 0.0, 0.25),
    epochs=0,
    orders=0,
    updated_ms=0,
)
POLICY = LearningPolicy()
ROUND_BATCH = 4096
# What a decision asks of guards and gate; none of these calls another.
TIMED: tuple[tuple[ModuleType, str, str], ...] = (
    (limits, "allowed", "guards"),
    (guards, "clamp", "guards"),
    (guards, "round_price", "guards"),
    (guards, "violations", "guards"),
    (gate, "check", "gate"),
    (gate, "published", "gate"),
)


def epochs(rng: np.random.Generator, n: int) -> dict[str, Floats]:
    """One closed epoch of a week of each product."""
    ln_price, ln_rival = rng.normal(0.0, 0.13, n), rng.normal(0.0, 0.1, n)
    rate = np.exp(rng.normal(0.0, 0.7, n) - 2.4 * ln_price + 0.2 * ln_rival)
    return {
        "ln_price": ln_price,
        "ln_rival": ln_rival,
        "control": np.zeros(n),
        "orders": rng.poisson(7.0 * rate).astype(np.float64),
        "exposure_days": np.full(n, 7.0),
    }


def scalar(columns: dict[str, Floats]) -> tuple[float, Floats]:
    """Seconds of the fold's update of all products, and the elasticities learned."""
    seen = [
        Observation(Features(price, rival, control), int(orders), days)
        for price, rival, control, orders, days in zip(
            *(column.tolist() for column in columns.values()), strict=True
        )
    ]
    start = time.perf_counter()
    learned = []
    for one in seen:
        drift.watch(DriftSums(), surprise(START, one), one.orders, POLICY)
        learned.append(learn(START, one, 7 * DAY_MS).mean[1])
    return time.perf_counter() - start, np.array(learned)


def batched(columns: dict[str, Floats]) -> tuple[float, Floats, Floats]:
    """Seconds of `learn_many`, and the beliefs."""
    n = len(columns["orders"])
    mean, cov = np.tile(START.mean, (n, 1)), np.tile(START.cov, (n, 1))
    start = time.perf_counter()
    mean, cov = learn_many(mean, cov, **columns, days=np.full(n, 7.0))
    return time.perf_counter() - start, mean, cov


def river(columns: dict[str, Floats]) -> float:
    """Seconds of River's update of as many models, on rows that were prepared beforehand."""
    models = [BayesianLinearRegression(alpha=1, beta=1) for _ in columns["orders"]]
    rows = [
        ({"level": 1.0, "price": price, "rival": rival, "control": control}, math.log(orders + 0.5))
        for price, rival, control, orders, _ in zip(
            *(column.tolist() for column in columns.values()), strict=True
        )
    ]
    start = time.perf_counter()
    for model, (row, response) in zip(models, rows, strict=True):
        model.learn_one(row, response)
    return time.perf_counter() - start


def priced(kernel: Kernel, mean: Floats, cov: Floats) -> float:
    """Seconds until every product has its price and the Greeks there."""
    row = PADDING._replace(
        unit_cost=0.5, kept_share=0.8, horizon_days=7.0, stock=100.0, unlimited=0.0,
        risk_aversion=0.1, return_cost=0.08, target_leftover=14.0, lower=0.2, upper=5.0,
    )  # fmt: skip
    start = time.perf_counter()
    matrix = np.tile(np.array(row)[:, None], len(mean))
    columns = {
        "demand_per_day": np.exp(mean[:, 0]),
        "elasticity": mean[:, 1],
        "level_variance": cov[:, 0],
        "level_elasticity_covariance": cov[:, 1],
        "elasticity_variance": cov[:, 4],
    }
    for name, column in columns.items():
        matrix[row._fields.index(name)] = column
    prices = kernel.solve_arrays(matrix)[0]
    kernel.evaluate_arrays(matrix, prices[None, :])
    return time.perf_counter() - start


def checked(products: int) -> tuple[float, float]:
    """Seconds of the guards of every product, as the engine asks them, and of the gate's look."""
    rng = np.random.default_rng(SEEDS[0])
    aims = rng.uniform(700.0, 1500.0, products).tolist()
    present = rng.integers(900, 1100, products).tolist()
    placed = parse_policy("").guards_of(Subject("A", "A", "lamps", "plain"))
    rounding = guards.rounding_of(placed[0].guards)
    inputs = [
        guards.GuardInputs(500, 0.8, 1000, 1400, {}, price, price, rival_minor=950.0)
        for price in present
    ]
    start = time.perf_counter()
    prices = []
    for aim, one in zip(aims, inputs, strict=True):
        allowed = guards.feasible(guards.placed_bounds(one, placed), rounding.tick_minor)
        moves = guards.clamp(aim, allowed)
        price = guards.round_price(moves[-1].after_minor if moves else aim, allowed, rounding)
        assert guards.violations(price, allowed, rounding.tick_minor) == ()
        prices.append(price)
    middle = time.perf_counter()
    rules = GateRules(parse_policy(""))
    entries = [
        GateEntry(
            currency="EUR", unit_cost_minor=500, kept_share=0.8, list_price_minor=1400,
            retired=False, published_minor=price, published_day=0, day_open_minor=price,
            reference_price_minor=1000, sku="A", family="A", category="lamps",
        )
        for price in present
    ]  # fmt: skip
    begun = time.perf_counter()
    for price, entry in zip(prices, entries, strict=True):
        found = gate.check(entry, price, "EUR", rules, {}, DAY_MS, DAY_MS)
        if found:
            raise ValueError(f"the gate held what the guards allow: {found}")
    return middle - start, time.perf_counter() - begun


@contextmanager
def stopwatches(kernel: Kernel, spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of guards, gate and kernel; each look costs a fraction of 1 us."""

    def timed(function: Any, name: str) -> Any:
        def run(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return run

    places: list[tuple[Any, str, str]] = [*TIMED, (kernel, "solve", "kernel")]
    places.append((kernel, "evaluate", "kernel"))
    before = [getattr(place, function) for place, function, _ in places]
    for (place, function, name), plain in zip(places, before, strict=True):
        setattr(place, function, timed(plain, name))
    try:
        yield
    finally:
        for (place, function, _), plain in zip(places, before, strict=True):
            setattr(place, function, plain)


def decided_anew(kernel: Kernel, products: int) -> dict[str, Any]:
    """List a catalogue, price it, publish a policy, and time the round that decides all anew."""
    rng = np.random.default_rng(SEEDS[0])
    text = "version = 1\n"
    listings = [
        canonical(
            ProductListed(
                event_id=f"listed-{at}", event_time=EPOCH, sku=f"S{at}", currency="EUR",
                category=f"c{at % 40}", unit_cost_minor=cost, list_price_minor=2 * cost,
            )
        )
        for at, cost in enumerate(rng.integers(300, 5000, products).tolist())
    ]  # fmt: skip
    published = PolicyPublished(
        event_id="policy", event_time=EPOCH + timedelta(days=1),
        policy=text, policy_sha256=policy_sha256(text),
    )  # fmt: skip
    values = [
        *(tape.wrap(tape.Source("products", 0, at), one) for at, one in enumerate(listings)),
        tape.wrap(tape.Source("controls", 0, 0), tick_event(DAY_MS)),
        tape.wrap(tape.Source("controls", 0, 1), canonical(published)),
    ]
    records = list(enumerate(values))
    engine = PartitionEngine.new(0, kernel)
    for start in range(0, len(records), ROUND_BATCH):
        engine.apply(records[start : start + ROUND_BATCH], with_state=False)
    tick = tape.wrap(tape.Source("controls", 0, 2), tick_event(DAY_MS + 60_000))
    spent: dict[str, float] = {}
    start_s = time.perf_counter()
    with stopwatches(kernel, spent):
        decided = len(engine.apply([(len(records), tick)], with_state=False).outputs)
    whole = time.perf_counter() - start_s
    checks = spent["guards"] + spent["gate"]
    return {
        "round_outputs": decided,
        "round_s": round(whole, 2),
        "round_microseconds_each": round(whole / products * 1e6, 1),
        **{
            f"round_{name}_microseconds_each": round(seconds / products * 1e6, 2)
            for name, seconds in sorted(spent.items())
        },
        "round_guards_and_gate_share": round(checks / whole, 3),
        "round_guards_and_gate_over_the_rest": round(checks / (whole - checks), 3),
        "round_guards_and_gate_over_kernel": round(checks / spent["kernel"], 2),
    }


def measure(products: int) -> dict[str, Any]:
    """All seeds."""
    # With the worker's collector: else its looks at the heap fall on whoever makes a tuple.
    kernel, times = warm_kernel(None), []
    difference = 0.0
    for seed in SEEDS:
        columns = epochs(np.random.default_rng(seed), products)
        scalar_s, learned = scalar(columns)
        batched_s, mean, cov = batched(columns)
        difference = max(difference, float(np.abs(mean[:, 1] - learned).max()))
        times.append(
            (scalar_s, batched_s, river(columns), priced(kernel, mean, cov), *checked(products))
        )
    names = (
        "update_scalar", "update_batched", "update_river", "price_and_greeks", "guards", "gate",
    )  # fmt: skip
    found: dict[str, Any] = {"products": products, "seeds": SEEDS}
    for name, column in zip(names, zip(*times, strict=True), strict=True):
        found[f"{name}_s"] = round(min(column), 4)
        found[f"{name}_s_slowest"] = round(max(column), 4)
        found[f"{name}_microseconds_each"] = round(min(column) / products * 1e6, 3)
    best = [min(column) for column in zip(*times, strict=True)]
    return {
        **found,
        "update_and_price_s": round(best[0] + best[3], 3),
        "update_batched_and_price_s": round(best[1] + best[3], 3),
        "guards_and_gate_over_price_and_greeks": round((best[4] + best[5]) / best[3], 2),
        **decided_anew(kernel, products),
        "river_over_scalar": round(best[2] / best[0], 2),
        "river_over_batched": round(best[2] / best[1], 2),
        "elasticity_difference_max": difference,
        **machine("numpy", "jax", "river"),
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=60_000)
    write_result("catalogue", measure(parser.parse_args().products))


if __name__ == "__main__":
    main()
