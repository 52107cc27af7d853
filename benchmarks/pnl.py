"""P&L explain on closed-loop decisions: how much is explained, how honest residual and alarm are.

    python -m benchmarks.pnl [--preset NAME] [--products N] [--days N]

The simulated shop shows what the real engine decides, and the engine learns what the shop sells.
Model layer: the share of product-days (moves up to 5 %) of whose change of Pi at most 5 % is left
to revaluation, in 16 steps; baselines: the Greeks at the two decisions alone (1 step).
Realised layer: mean and sd of the standardised residual after a warm-up; its standard error is over
products, whose days are alike.
Alarm: drifts accepted without a break, against the bound that ``drift_evidence_nats`` sets (the
alarm rests on a CUSUM whose false rate is at most 4 e^-nats an epoch), and order lines from a shock
of demand to the alarm. The dispersion of counts in the prior was chosen on seed 100.
"""

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np

from benchmarks.harness import machine, write_result
from models.demand.drift import DRIFTED
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.pnl import pnl
from models.pnl.pnl import Change, Valuation
from models.pnl.pnl_alarm import ALARM_DAYS
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from models.simulator.simulator import Shop
from models.simulator.simulator_presets import Preset, shop_settings
from schemas import topics
from schemas.codec import canonical
from schemas.events import DAY_MS, OrderPlaced, rfc3339, time_ms
from schemas.outputs import Alert, PriceDecided
from schemas.policy import LearningPolicy
from schemas.tape import decode
from streams.explain.pnl import decisions_of, realised_days
from streams.explain.pnl_alarms import PnlAlarm, alarm_days
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.worker.ticks import tick_event

SEEDS = (1, 2, 3)
PRODUCTS, DAYS, WARM_UP_DAYS = 60, 90, 30
DISPERSION = 0.02  # of counts, for the prior
SHOCKS = {"-30 %": math.log(0.7), "-50 %": math.log(0.5), "+50 %": math.log(1.5)}
BREAK_DAY = 60
MOVE_MAX = math.log(1.05)
LEFT_MAX = 0.05
BUSY_PER_DAY = 3.0  # orders before the break, of products whose alarm is stated apart


class Asked(NamedTuple):
    """Which shop, and how long."""

    preset: Preset
    products: int
    days: int


class Loop(NamedTuple):
    """A closed loop's tape, decisions, drift alarms (SKU, time in ms) and epochs closed."""

    tape: list[Placed]
    decisions: list[PriceDecided]
    alarms: list[tuple[str, int]]
    start_ms: int
    epochs: int


def closed_loop(kernel: Kernel, seed: int, shop_of: Asked, *, level: float = 0.0) -> Loop:
    """Let the shop show the engine's prices; with ``level`` ln demand jumps on BREAK_DAY."""
    settings = shop_settings(shop_of.preset, products=shop_of.products)
    if level:
        world = replace(
            settings.world, break_day=BREAK_DAY, break_level=level, break_elasticity=0.0,
            break_share=1.0,
        )  # fmt: skip
        settings = replace(settings, world=world)
    shop, builder = Shop(seed, settings=settings), TapeBuilder(1)
    engine = PartitionEngine.new(0, kernel)
    start_ms, prices = shop.now_ms, dict[str, int]()
    loop = Loop([], [], [], start_ms, 0)
    waiting = builder.append(topics.CONTROLS.name, prior_event(start_ms))
    while shop.now_ms < start_ms + shop_of.days * DAY_MS:
        for topic, value in shop.step(prices):
            waiting += builder.append(topic, value)
        waiting += builder.append(topics.CONTROLS.name, tick_event(shop.now_ms))
        loop.tape.extend(waiting)
        batch = engine.apply([(one.offset, one.value) for one in waiting], with_state=False)
        waiting = []
        for found in batch.outputs:
            if found.topic == topics.PRICES.name:
                decision = msgspec.json.decode(found.value, type=PriceDecided)
                loop.decisions.append(decision)
                if decision.status == "published" and decision.price_minor is not None:
                    prices[decision.sku] = decision.price_minor
            elif found.topic == topics.ALERTS.name:
                alert = msgspec.json.decode(found.value, type=Alert)
                if alert.kind == "drift" and alert.sku is not None:
                    loop.alarms.append((alert.sku, time_ms(datetime.fromisoformat(alert.at))))
    known = (state.posterior for state in engine.state.skus.values())
    return loop._replace(epochs=sum(one.epochs for one in known if one is not None))


def prior_event(at_ms: int) -> bytes:
    """The default prior with the dispersion that the shop's history shows."""
    prior = msgspec.structs.replace(DEFAULT_PRIOR, dispersion=DISPERSION)
    sha256 = prior_sha256(prior)
    return canonical(
        {
            "type": "prior_published", "event_id": sha256[:16], "event_time": rfc3339(at_ms),
            "prior": msgspec.to_builtins(prior), "prior_sha256": sha256,
        }
    )  # fmt: skip


def explained(loop: Loop) -> dict[str, float]:
    """Shares of product-days with at most 5 % left, over moves up to 5 %."""
    pairs: list[tuple[Valuation, Valuation]] = []
    places: list[tuple[str, int]] = []
    for sku, made in decisions_of(loop.decisions).items():
        for before, after in pairwise(made):
            if before.valuation is not None and after.valuation is not None:
                pairs.append((before.valuation, after.valuation))
                places.append((sku, after.day))
    known = [before.row.unlimited == after.row.unlimited for before, after in pairs]
    found: dict[str, float] = {}
    for name, steps in (("16_steps", 16), ("1_step", 1)):
        changes = pnl.explain(pairs, steps)
        left = [one.revaluation_minor for one in changes]
        found[f"share_explained_{name}"] = _share(places, pairs, changes, left, known=None)
        found[f"share_explained_{name}_without_first_stock"] = _share(
            places, pairs, changes, left, known
        )
    return found


def _share(
    places: Sequence[tuple[str, int]],
    pairs: Sequence[tuple[Valuation, Valuation]],
    changes: Sequence[Change],
    left: Sequence[float],
    known: Sequence[bool] | None,
) -> float:
    """Over product-days; with ``known`` those whose stock was not known before are left out."""
    days: dict[tuple[str, int], list[float]] = {}
    dropped: dict[tuple[str, int], None] = {}
    for number, (place, (before, after)) in enumerate(zip(places, pairs, strict=True)):
        moved = abs(math.log(after.price / before.price))
        if moved > MOVE_MAX or (known is not None and not known[number]):
            dropped[place] = None
        day = days.setdefault(place, [0.0, 0.0])
        day[0] += changes[number].change_minor
        day[1] += left[number]
    kept = [day for place, day in days.items() if place not in dropped]
    return sum(abs(rest) <= LEFT_MAX * abs(change) for change, rest in kept) / len(kept)


def residuals(loop: Loop) -> dict[str, float]:
    """Mean, its standard error over products, and sd of the residual, after the warm-up."""
    first_day = loop.start_ms // DAY_MS + WARM_UP_DAYS
    by_sku: dict[str, list[float]] = {}
    for sku, day, found in realised_days(decisions_of(loop.decisions), loop.tape):
        if day >= first_day and found.residual is not None:
            by_sku.setdefault(sku, []).append(found.residual)
    everything = np.array([one for of_sku in by_sku.values() for one in of_sku])
    mean = float(everything.mean())
    apart = [sum(of_sku) - len(of_sku) * mean for of_sku in by_sku.values()]
    error = math.sqrt(sum(one * one for one in apart)) / len(everything)
    return {
        "residual_product_days": float(len(everything)),
        "residual_mean": mean,
        "residual_mean_standard_error": error,
        "residual_mean_in_standard_errors": mean / error,
        "residual_sd": float(everything.std()),
        "residual_outside_interval": float(np.mean(np.abs(everything) > 1.96)),
    }


def shocked(kernel: Kernel, seed: int, shop_of: Asked, level: float) -> dict[str, float]:
    """How many products' alarms fire after a shock, and after how many order lines."""
    loop = closed_loop(kernel, seed, shop_of, level=level)
    break_ms = loop.start_ms + BREAK_DAY * DAY_MS
    first: dict[str, int] = {}
    for sku, at_ms in loop.alarms:
        if at_ms >= break_ms:
            first.setdefault(sku, at_ms)
    lines = dict.fromkeys(first, 0)
    for placed in loop.tape:
        event = decode(placed.value).event
        if isinstance(event, OrderPlaced) and event.sku in first:
            lines[event.sku] += break_ms <= event.event_time_ms <= first[event.sku]
    return {
        "fired_share": len(first) / shop_of.products,
        "median_orders_to_fire": statistics.median(lines.values()) if lines else -1.0,
    }


class Watch(NamedTuple):
    """The days that the P&L's alarm saw, and each product's orders by day (from the start)."""

    alarms: list[PnlAlarm]
    orders: dict[str, dict[int, int]]


def watched(loop: Loop) -> Watch:
    """Run the P&L's own alarm over a closed loop; days count from its start."""
    decisions, first = decisions_of(loop.decisions), loop.start_ms // DAY_MS
    seen, orders = {}, dict[str, dict[int, int]]()
    for sku, day, found in realised_days(decisions, loop.tape):
        orders.setdefault(sku, {})[day - first] = found.orders
        if found.watched is not None:
            seen[sku, day - first] = found.watched
    categories = {sku: of_sku[-1].category for sku, of_sku in decisions.items()}
    return Watch(alarm_days(seen, categories, ALARM_DAYS), orders)


def false_rates(watch: Watch) -> dict[str, float]:
    """Alarms without a break for 1,000 watched days of a series, and how many days there were."""
    found = {}
    for scope in ("product", "category", "catalogue"):
        days = [one.seen.fired is not None for one in watch.alarms if one.scope == scope]
        found[f"{scope}_days"] = float(len(days))
        found[f"{scope}_false_per_1000_days"] = 1000.0 * sum(days) / max(len(days), 1)
    return found


def found_after(watch: Watch, level: float) -> dict[str, float]:
    """Shares of products that fire the right way within 30 days of the break, and after what."""
    way = "up" if level > 0.0 else "down"
    first: dict[tuple[str, str], int] = {}
    for one in watch.alarms:
        if one.day >= BREAK_DAY and one.seen.fired == way:
            first.setdefault((one.scope, one.name), one.day)
    busy = [
        sku for sku, by_day in watch.orders.items()
        if sum(by_day.get(day, 0) for day in range(BREAK_DAY - 20, BREAK_DAY)) >= 20 * BUSY_PER_DAY
    ]  # fmt: skip
    lines = {
        sku: sum(n for day, n in by_day.items() if BREAK_DAY <= day <= first["product", sku])
        for sku, by_day in watch.orders.items() if ("product", sku) in first
    }  # fmt: skip
    of_busy = sorted(lines[sku] for sku in busy if sku in lines)
    return {
        "fired_share": len(lines) / len(watch.orders),
        "busy_products": float(len(busy)),
        "busy_fired_share": len(of_busy) / max(len(busy), 1),
        "busy_median_orders": statistics.median(of_busy) if of_busy else -1.0,
        "busy_p90_orders": float(np.quantile(of_busy, 0.9)) if of_busy else -1.0,
        "catalogue_days": float(first.get(("catalogue", "all"), BREAK_DAY - 2) - BREAK_DAY + 1),
    }


def alarm_figures(seed: int, shop_of: Asked, kernel: Kernel) -> dict[str, Any]:
    """The P&L's own alarm without a break, and after each shock of demand."""
    result: dict[str, Any] = false_rates(watched(closed_loop(kernel, seed, shop_of)))
    for name, level in SHOCKS.items():
        loop = closed_loop(kernel, seed, shop_of, level=level)
        result[name] = found_after(watched(loop), level)
    return result


def measure(seed: int, shop_of: Asked, kernel: Kernel) -> dict[str, Any]:
    """All figures of one seed."""
    quiet = closed_loop(kernel, seed, shop_of)
    nats = LearningPolicy().drift_evidence_nats
    return {
        **explained(quiet),
        **residuals(quiet),
        "epochs": quiet.epochs,
        "false_alarms_per_epoch": len(quiet.alarms) / quiet.epochs,
        "false_alarms_per_epoch_at_most": len(DRIFTED) * math.exp(-nats),
        "pnl_alarm": alarm_figures(seed, shop_of, kernel),
        "shocks": {name: shocked(kernel, seed, shop_of, level) for name, level in SHOCKS.items()},
    }


def main() -> None:
    """Print the figures of each seed as one JSON document, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=get_args(Preset), default="reference")
    parser.add_argument("--products", type=int, default=PRODUCTS)
    parser.add_argument("--days", type=int, default=DAYS)
    shop_of = Asked(**vars(parser.parse_args()))
    kernel = Kernel.warm()
    result: dict[str, Any] = {
        **shop_of._asdict(),
        "bars": {
            "share_explained_16_steps": "at least 0.95",
            "residual_mean_in_standard_errors": "from -2 to 2",
            "residual_sd": "0.9 to 1.1",
        },
        "by_seed": {str(seed): measure(seed, shop_of, kernel) for seed in SEEDS},
        "machine": machine("numpy", "jax"),
    }
    write_result(f"pnl_{shop_of.preset}", result)


if __name__ == "__main__":
    main()
