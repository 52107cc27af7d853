"""A closed loop: the real engine prices simulated shops, from the state in which a tape ended.

Both policies begin with that state and its beliefs, meet the same customers in the same drawn shop
(`models.backtest.fitted_shop`), and learn from what their own prices sell. Nothing here reads a
clock: event time is the simulator's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson

from models.backtest.columns import Floats
from models.backtest.fitted_shop import Drawn, Fitted, settings_of, truth_of
from models.fold.control_events import decide_all_anew
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.simulator.simulator import Shop
from schemas import tape, topics
from schemas.events import DAY_MS, rfc3339

SOURCE_PARTITION = 1 << 20  # of every source: what is simulated repeats no real record
# Returns still to come, offers of real rivals, and effects of partners, who may not be there.
DROPPED = ("cohort", "offers", "member")
OF_PRODUCTS = ("sku", "catalogue", "gate", "window")

Records = list[tuple[bytes, bytes]]


class Task(NamedTuple):
    """One run under one policy.

    ``states`` are the sampled products' records by tape partition, ``partition_of`` says where each
    product lives. ``policy`` is its text, None for the one in the state. ``start_ms`` is midnight.
    """

    states: dict[int, Records]
    partition_of: dict[str, int]
    policy: str | None
    fitted: Fitted
    drawn: Drawn
    run: int
    days: int
    seed: int
    start_ms: int


class Lived(NamedTuple):
    """What a run came to.

    ``profit`` [product] is the contribution margin after returns, minor units a day; ``units``
    [day, product] what was sold, ``ln_price`` [day, product] at what, ``out`` [day, product]
    whether the shelf was empty in the evening, ``returned`` [day, product] the return rate.
    """

    profit: Floats
    units: Floats
    ln_price: Floats
    out: Floats
    returned: Floats


def sampled(records: Sequence[tuple[bytes, bytes]], skus: frozenset[str]) -> Records:
    """The records of some products, and those that all share; the manifest last."""
    kept: Records = []
    for key, value in records:
        kind, _, rest = key.decode().partition("/")
        if kind in DROPPED or (kind in OF_PRODUCTS and rest not in skus):
            continue
        kept.append((key, value))
    return kept


def live(task: Task, kernel: Kernel) -> Lived:
    """Let one shop live under one policy."""
    engines = {number: _engine(number, task, kernel) for number in sorted(task.states)}
    states = {sku: engines[task.partition_of[sku]].state.skus[sku] for sku in task.fitted.skus}
    visits = [
        np.nan if state.traffic is None else max(state.traffic.reference_per_day, 1e-3)
        for state in states.values()
    ]
    truth = truth_of(task.fitted, task.drawn, task.run, np.array(visits))
    rng = np.random.default_rng([task.seed, 4, task.run])
    seed = int(rng.integers(1 << 31))
    settings = settings_of(task.fitted, task.start_ms)
    shop = Shop(seed, settings=settings, truth=truth)
    told = {
        topics.INVENTORY.name: {
            sku for sku, ordered in zip(task.fitted.skus, task.fitted.stock_ordered, strict=True)
            if ordered
        },
        topics.TRAFFIC.name: {sku for sku, state in states.items() if state.traffic is not None},
    }  # fmt: skip
    feed = _Feed(engines, task.partition_of, told)
    shown = np.rint(task.fitted.shown_minor).astype(int).tolist()
    prices = dict(zip(task.fitted.skus, shown, strict=True))
    prices.update(feed.tick(task.start_ms))
    rows: list[tuple[Floats, ...]] = []
    for _ in range(task.days):
        before = shop.units_sold.copy()
        prices.update(feed.take(shop.step(prices)))
        prices.update(feed.tick(shop.now_ms))
        units = (shop.units_sold - before) * (1.0 - settings.cancelled_share)
        rate = shop.demand.return_rate(shop.ln_price)
        price = truth.list_price_minor * np.exp(shop.ln_price)
        earned = task.fitted.kept_share * price - task.fitted.unit_cost_minor
        margin = earned * (1.0 - rate) - task.fitted.handling_minor * rate
        out = (shop.on_hand < 1).astype(np.float64)
        rows.append((units * margin, np.asarray(units), shop.ln_price, out, rate))
    profit, *rest = (np.stack([row[k] for row in rows]) for k in range(5))
    return Lived(profit.mean(axis=0), *rest)


def _engine(number: int, task: Task, kernel: Kernel) -> PartitionEngine:
    engine = PartitionEngine.restore(number, task.states[number], kernel)
    for state in engine.state.skus.values():
        state.rivals = {}
    if task.policy is not None and task.policy != engine.state.policy_text:
        engine.state.set_policy(task.policy)
        decide_all_anew(engine.state, "policy")
    return engine


class _Feed:
    """Puts what a shop tells on the engines' tapes, and reads what they publish."""

    def __init__(
        self,
        engines: dict[int, PartitionEngine],
        partition_of: dict[str, int],
        told: dict[str, set[str]],
    ) -> None:
        self._engines, self._partition_of, self._told = engines, partition_of, told
        self._offsets: dict[str, int] = {}

    def take(self, records: Sequence[tuple[str, bytes | None]]) -> dict[str, int]:
        """Fold a step's records; returns the prices published."""
        batches: dict[int, list[bytes]] = {number: [] for number in self._engines}
        for topic, value in records:
            if value is None:
                continue
            event = orjson.loads(value)
            sku = event.get("sku")
            if sku is None or event["type"] == "product_listed":
                continue
            if topic in self._told and sku not in self._told[topic]:
                continue
            batches[self._partition_of[sku]].append(self._wrapped(topic, value))
        found: dict[str, int] = {}
        for number, values in batches.items():
            found.update(self._apply(number, values))
        return found

    def tick(self, at_ms: int) -> dict[str, int]:
        """Move the clocks."""
        at = rfc3339(at_ms)
        event = {"type": "clock_ticked", "event_id": f"tick-{at}", "event_time": at}
        record = self._wrapped(topics.CONTROLS.name, orjson.dumps(event))
        found: dict[str, int] = {}
        for number in self._engines:
            found.update(self._apply(number, [record]))
        return found

    def _wrapped(self, topic: str, event: bytes) -> bytes:
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        return tape.wrap(tape.Source(topic, SOURCE_PARTITION, offset), event)

    def _apply(self, number: int, values: list[bytes]) -> dict[str, int]:
        if not values:
            return {}
        engine = self._engines[number]
        first = engine.position + 1
        batch = engine.apply(list(enumerate(values, start=first)), with_state=False)
        decided = [
            orjson.loads(one.value)
            for one in batch.outputs
            if one.topic == topics.PRICES_LATEST.name
        ]
        return {one["sku"]: one["price_minor"] for one in decided}


def midnight_after(at_ms: int) -> int:
    """The first midnight, UTC, at or after an event time."""
    return -(-at_ms // DAY_MS) * DAY_MS
