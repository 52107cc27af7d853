"""False trips of the breakers under default and calibrated thresholds, and the faults they catch.

    python -m benchmarks.breaker [--products N] [--days N] [--quantile Q]

Thresholds are calibrated on one simulated shop (seed 101) and judged on others, which show what the
engine decides. On day ``FAULT_DAY`` each fault strikes products of its own: a cost a hundred times
too high or too low, and order lines at many times the usual number. Caught: the product's breaker
opens, or the record is refused, before its price has moved by more than a canary step (a burst: at
all, as its traffic is reported later). The baseline is the default policy on the same shops.
"""

import argparse
import hashlib
from collections import Counter
from typing import Any, NamedTuple

import orjson

from benchmarks.harness import machine, write_result
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.simulator.simulator import Shop
from models.simulator.simulator_presets import shop_settings
from schemas import topics
from schemas.codec import canonical
from schemas.events import DAY_MS, MINUTE_MS, rfc3339
from streams.tape.tape_builder import TapeBuilder
from streams.training.breaker_calibration import Evidences, calibration
from streams.worker.ticks import tick_event

SEEDS, CALIBRATION_SEED = (1, 2, 3), 101
PRODUCTS, DAYS, FAULT_DAY = 80, 45, 30
STRUCK = 8  # products of each fault
BURST_LINES = 200
CANARY_RATIO = 0.02
BURST = "orders in a burst"
FAULTS = ("cost x100", "cost /100", BURST)


class Run(NamedTuple):
    """What a shop's decisions met."""

    seen: Evidences
    decisions: int
    openings: Counter[str]  # breakers that opened before the faults, by reason
    caught: dict[str, dict[str, int]]  # fault -> product: its records until it was stopped
    struck: dict[str, list[str]]


def run(kernel: Kernel, seed: int, policy: str, products: int, days: int) -> Run:
    """Let a shop sell at the engine's prices under a policy, and let faults strike."""
    shop = Shop(seed, settings=shop_settings("shop", products=products))
    builder, engine = TapeBuilder(1), PartitionEngine.new(0, kernel)
    seen = Evidences()
    engine.state.on_assessed = seen
    start_ms, prices = shop.now_ms, dict[str, int]()
    waiting = builder.append(topics.CONTROLS.name, policy_event(policy, start_ms))
    result = Run(seen, 0, Counter(), {fault: {} for fault in FAULTS}, {})
    decisions = 0
    while shop.now_ms < start_ms + days * DAY_MS:
        for topic, value in shop.step(prices):
            waiting += builder.append(topic, value)
        struck_now = not result.struck and shop.now_ms >= start_ms + FAULT_DAY * DAY_MS
        waiting += builder.append(topics.CONTROLS.name, tick_event(shop.now_ms))
        decisions += _applied(engine, waiting, prices, result, before=not result.struck)
        waiting = []
        notice(engine, result)
        if struck_now:
            result = result._replace(struck=choose(engine, prices))
            for fault, skus in result.struck.items():
                for sku in skus:
                    strike(engine, builder, fault, sku, shop.now_ms, result)
    return result._replace(decisions=decisions)


def _applied(
    engine: PartitionEngine, placed: list[Any], prices: dict[str, int], result: Run, *, before: bool
) -> int:
    batch = engine.apply([(one.offset, one.value) for one in placed], with_state=False)
    decisions = 0
    for found in batch.outputs:
        document = orjson.loads(found.value)
        if found.topic == topics.PRICES.name:
            decisions += 1
            if document["status"] == "published":
                prices[document["sku"]] = document["price_minor"]
        elif before and found.topic == topics.ALERTS.name and opened(document):
            result.openings[" ".join(document["evidence"]["reasons"][0].split()[:2])] += 1
    return decisions


def opened(alert: dict[str, Any]) -> bool:
    """Whether an alert tells that a product's breaker opened by itself."""
    return (
        alert["kind"] == "breaker_changed"
        and alert["sku"] is not None
        and alert["evidence"].get("states", [""])[-1] == "OPEN"
        and bool(alert["evidence"].get("reasons"))
    )


def notice(engine: PartitionEngine, result: Run) -> None:
    """A burst is seen once the traffic that it came with is reported."""
    for sku in result.struck.get(BURST, ()):
        if sku not in result.caught[BURST] and engine.state.skus[sku].breaker.state == "OPEN":
            result.caught[BURST][sku] = BURST_LINES


def choose(engine: PartitionEngine, prices: dict[str, int]) -> dict[str, list[str]]:
    """Products on sale whose breaker is closed, for each fault other ones."""
    state = engine.state
    free = [
        sku
        for sku in sorted(state.skus)
        if sku in prices
        and state.skus[sku].breaker.state == "CLOSED"
        and not state.catalogue[sku].retired
    ]
    return {fault: free[i :: len(FAULTS)][:STRUCK] for i, fault in enumerate(FAULTS)}


def strike(
    engine: PartitionEngine, builder: TapeBuilder, fault: str, sku: str, now_ms: int, result: Run
) -> None:
    """Send a fault's records one by one, and note the one at which the product was stopped."""
    entry, price = engine.state.catalogue[sku], engine.state.skus[sku].published_minor
    common = {"sku": sku, "currency": entry.currency, "event_time": rfc3339(now_ms)}
    if fault == BURST:
        names = [f"burst-{sku}-{number}" for number in range(BURST_LINES)]
        records = [
            ("orders", common | {
                "type": "order_placed", "event_id": name, "order_id": name, "line_id": "1",
                "quantity": 1, "unit_price_minor": price, "channel": "web",
            })
            for name in names
        ]  # fmt: skip
    else:
        cost = entry.unit_cost_minor or 1
        wrong = cost * 100 if fault == "cost x100" else max(cost // 100, 1)
        records = [("products", common | {
            "type": "cost_changed", "event_id": f"slip-{sku}", "unit_cost_minor": wrong,
        })]  # fmt: skip
    for number, (topic, event) in enumerate(records, start=1):
        placed = builder.append(topic, canonical(event))
        placed += builder.append(topics.CONTROLS.name, tick_event(now_ms + number * MINUTE_MS))
        batch = engine.apply([(one.offset, one.value) for one in placed], with_state=False)
        moved = engine.state.skus[sku].published_minor
        if price is None or moved is None or abs(moved / price - 1.0) > CANARY_RATIO:
            return
        refused = any(out.topic == topics.DEAD_LETTER.name for out in batch.outputs)
        if refused or engine.state.skus[sku].breaker.state == "OPEN":
            result.caught[fault][sku] = number
            return


def policy_event(text: str, at_ms: int) -> bytes:
    """A policy as its event."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return canonical(
        {
            "type": "policy_published", "event_id": sha256[:16], "event_time": rfc3339(at_ms),
            "policy": text, "policy_sha256": sha256,
        }
    )  # fmt: skip


def report(found: Run) -> dict[str, Any]:
    """Figures of one run."""
    caught = {
        fault: {
            "struck": len(found.struck[fault]),
            "caught": len(stopped),
            "records_until_stopped_max": max(stopped.values(), default=None),
        }
        for fault, stopped in found.caught.items()
    }
    trips = sum(found.openings.values())
    return {
        "decisions": found.decisions,
        "false_openings": trips,
        "false_openings_share": trips / found.decisions,
        "reasons": dict(found.openings.most_common()),
        "faults": caught,
    }


def main() -> None:
    """Calibrate on one shop, judge on three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=PRODUCTS)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--quantile", type=float, default=0.99)
    asked = parser.parse_args()
    kernel = Kernel.warm()
    learned = run(kernel, CALIBRATION_SEED, "", asked.products, FAULT_DAY)
    set_by = calibration(
        learned.seen, kernel_prior(kernel), asked.quantile, "0" * 64, f"seed {CALIBRATION_SEED}"
    )
    shops = {
        str(seed): {
            name: report(run(kernel, seed, text, asked.products, asked.days))
            for name, text in (("default", ""), ("calibrated", set_by.policy))
        }
        for seed in SEEDS
    }
    write_result(
        "breaker",
        {
            "products": asked.products,
            "days": asked.days,
            "quantile": asked.quantile,
            "thresholds": set_by.thresholds["all"],
            "seeds": shops,
            **machine("jax"),
        },
    )


def kernel_prior(kernel: Kernel) -> Any:
    """The prior that a partition begins with."""
    return PartitionEngine.new(0, kernel).state.prior


if __name__ == "__main__":
    main()
