"""kill -9 to the next price, with 10,000 products of state and a warm compilation cache.

    python -m benchmarks.recovery [--products N] [--rounds N] [--bootstrap HOST:PORT]

*Same id*: one worker holds everything; it is killed and started again at once under its id. The
time from the kill includes the process's start: interpreter, kernels from the cache, joining the
group, reading the state. *Take-over*: two workers share the partitions; the one that holds the
asked partition is killed and stays away, and the other has to notice first (session time-out 6 s).
Changes of cost for products of every partition of the killed worker are sent right after the kill;
*first* is when the first of these partitions has a price again, *all* when the last one has.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks import harness
from schemas.events import rfc3339
from schemas.topics import PRICES, SOURCES
from streams.kafka import admin
from streams.worker.engines import warm_kernel
from streams.worker.routes import tape_partition

SESSION_S = 6.0
SAME_ID_LIMIT_S = 5.0
TAKE_OVER_LIMIT_S = SESSION_S + 3.0
WAIT_S = 120.0
PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "jax", "numpy")


class Shop:
    """Lists products, changes their costs, and sees their prices."""

    def __init__(self, bootstrap: str, prefix: str, products: int) -> None:
        self.prefix = prefix
        self.skus = [f"SKU-{number:05d}" for number in range(products)]
        self.group = f"{prefix}pricemaker"
        self._number = 0
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0}
        )
        self._prices = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": self.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 5,
            }
        )
        self._prices.assign(
            [TopicPartition(prefix + PRICES.name, n, 0) for n in range(harness.PARTITIONS)]
        )
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def list_all(self) -> None:
        """List every product and say what it has in stock."""
        for sku in self.skus:
            fields = {"category": "bench", "unit_cost_minor": 1_000, "list_price_minor": 5_000}
            self._send("products", "product_listed", sku, currency="EUR", **fields)
        self._producer.flush()
        for sku in self.skus:
            self._send("inventory", "inventory_changed", sku, on_hand=40)
        self._producer.flush()

    def change_cost(self, sku: str, cost_minor: int) -> None:
        """One change of cost: it makes a decision."""
        self._send("products", "cost_changed", sku, currency="EUR", unit_cost_minor=cost_minor)
        self._producer.flush()

    def until_priced(self, wanted: dict[str, int]) -> list[float]:
        """Wait for decisions at these costs; when each was seen, in order."""
        deadline = time.monotonic() + WAIT_S
        left, seen = dict(wanted), []
        while left:
            if time.monotonic() > deadline:
                raise SystemExit(f"no price in {WAIT_S:.0f} s for {left}")
            message = self._prices.poll(0.05)
            if message is None or message.error() is not None:
                continue
            decision = orjson.loads(message.value())
            record = decision["record"]
            if record is not None and left.get(decision["sku"]) == record["unit_cost_minor"]:
                del left[decision["sku"]]
                seen.append(time.monotonic())
        return seen

    def until_no_lag(self) -> None:
        """Wait until everything is read and committed, sources and tape."""
        self._until(self._no_lag)

    def until_members(self, members: int) -> None:
        """Wait until the group has so many members, and rests."""
        self._until(lambda: self._members() == members)

    def _until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {WAIT_S:.0f} s")
            time.sleep(harness.POLL_S)

    def _no_lag(self) -> bool:
        names = [topic.name for topic in SOURCES if topic.name in ("products", "inventory")]
        places = [
            TopicPartition(self.prefix + name, number)
            for name in (*names, "tape")
            for number in range(harness.PARTITIONS)
        ]
        return all(
            found.offset == self._prices.get_watermark_offsets(found, timeout=10.0)[1]
            for found in self._prices.committed(places, timeout=10.0)
        )

    def _members(self) -> int:
        asked = self._admin.describe_consumer_groups([self.group])
        found = asked[self.group].result()
        return len(found.members) if found.state.name == "STABLE" else -1

    def partitions_of(self, worker: str) -> list[int]:
        """The tape partitions that a worker holds."""
        asked = self._admin.describe_consumer_groups([self.group])
        return [
            place.partition
            for member in asked[self.group].result().members
            if member.group_instance_id == worker
            for place in member.assignment.topic_partitions
            if place.topic == f"{self.prefix}tape"
        ]

    def _send(self, topic: str, kind: str, sku: str, **fields: Any) -> None:
        self._number += 1
        at = rfc3339(time.time_ns() // 1_000_000)
        event = {"type": kind, "event_id": f"{kind}-{self._number}", "event_time": at, "sku": sku}
        self._producer.produce(self.prefix + topic, key=sku, value=orjson.dumps(event | fields))
        self._producer.poll(0)


def measure(bootstrap: str, products: int, rounds: int) -> dict[str, Any]:
    """Both cases, ``rounds`` times each."""
    same: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_kernel(folder)
        prefix = harness.new_prefix()

        def worker(worker_id: str) -> harness.WorkerProcess:
            chosen = harness.settings(bootstrap, prefix, folder, worker_id)
            started = harness.WorkerProcess(chosen, folder / f"{worker_id}.log")
            running.append(started)
            return started

        running: list[harness.WorkerProcess] = []
        admin.create_topics(
            harness.settings(bootstrap, prefix, folder), partitions=harness.PARTITIONS
        )
        shop = Shop(bootstrap, prefix, products)
        try:
            first = worker("a")
            first.until_ready()
            shop.list_all()
            shop.until_no_lag()
            for number in range(rounds):
                everywhere = list(range(harness.PARTITIONS))
                killed = time.monotonic()
                first.kill()
                first = worker("a")
                same.append(_next_prices(shop, everywhere, 1_100 + number, killed))
                shop.until_no_lag()
            for number in range(rounds):
                second = worker("b")
                second.until_ready()
                shop.until_members(2)
                lost = shop.partitions_of("b")
                killed = time.monotonic()
                second.kill()
                other.append(_next_prices(shop, lost, 1_200 + number, killed))
                shop.until_members(1)
        finally:
            for process in running:
                process.kill()
    return {
        "products": products,
        "rounds": rounds,
        "same_id": _summary(same, SAME_ID_LIMIT_S),
        "take_over": _summary(other, TAKE_OVER_LIMIT_S),
        "session_timeout_s": SESSION_S,
    }


def _next_prices(
    shop: Shop, partitions: list[int], cost_minor: int, killed: float
) -> tuple[float, float]:
    """Change one product's cost in each partition; seconds to the first and the last price."""
    home = {sku: tape_partition(sku, harness.PARTITIONS) for sku in shop.skus}
    wanted = {
        next(sku for sku in shop.skus if home[sku] == number): cost_minor for number in partitions
    }
    for sku in wanted:
        shop.change_cost(sku, cost_minor)
    seen = shop.until_priced(wanted)
    return seen[0] - killed, seen[-1] - killed


def _summary(found: list[tuple[float, float]], limit_s: float) -> dict[str, Any]:
    last = statistics.median(every for _, every in found)
    return {
        "first_s": [round(first, 2) for first, _ in found],
        "all_s": [round(every, 2) for _, every in found],
        "all_median_s": round(last, 2),
        "limit_s": limit_s,
        "ratio_to_limit": round(last / limit_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bootstrap")
    chosen = parser.parse_args()
    where = harness.machine(*PACKAGES)
    with harness.broker(chosen.bootstrap) as bootstrap:
        result = measure(bootstrap, chosen.products, chosen.rounds)
    harness.write_result("recovery", {**result, **where})


if __name__ == "__main__":
    main()
