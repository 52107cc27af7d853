"""Event to price on a real broker, against the same two hops and transaction without pricing.

    python -m benchmarks.latency [--seconds N] [--rate N] [--bootstrap HOST:PORT]

Orders at a steady rate, and among them changes of cost, each of which makes a decision. Latency
is from handing the change to the producer until a ``read_committed`` consumer has its price:
source topic, intake, tape, pricer, transaction, ``prices``. The baseline is the same worker with an
engine that decides nothing: for each change of cost it emits one small record. Both run for
``--seconds`` after a warm-up, in turns, twice; percentiles are over the two runs of each.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import harness
from models.fold.context import Output
from models.fold.engine import Batch
from schemas import tape
from schemas.events import CostChanged, rfc3339
from schemas.topics import PRICES
from streams.kafka import admin
from streams.logs import configure_logging
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.outbox import let_pass
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread

SKUS = 1_000
CHANGE_EVERY = 10  # one change of cost in so many events
WARM_UP_S = 5.0
DRAIN_S = 5.0
PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "jax", "numpy")


class EmptyEngine:
    """Decides nothing: one small record for each change of cost, and a manifest."""

    def __init__(self, position: int = -1) -> None:
        self.position = position

    def announcement(self, source_offset: int, worker: str, version: str) -> None:
        """It never follows another engine."""

    def apply(self, records: Sequence[tuple[int, bytes]]) -> Batch:
        """Look at each record, as any engine must, and emit."""
        outputs = []
        for _, value in records:
            event = tape.decode(value).event
            if isinstance(event, CostChanged):
                body = b'{"unit_cost_minor":%d}' % (event.unit_cost_minor or 0)
                outputs.append(Output(PRICES.name, event.sku.encode(), body))
        self.position = records[-1][0]
        state = [(b"manifest", b'{"position":%d}' % self.position)]
        return Batch(outputs, state, self.position)  # type: ignore[arg-type]


class EmptyEngines:
    """Makes empty engines."""

    def new(self, partition: int) -> EmptyEngine:
        """At the beginning."""
        return EmptyEngine()

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> EmptyEngine:
        """Where the manifest says."""
        return EmptyEngine(orjson.loads(dict(records)[b"manifest"])["position"])


def run_worker(kind: str, bootstrap: str, prefix: str, cache: Path) -> None:
    """The child process: a worker until its stdin closes."""
    configure_logging("warning")
    chosen = harness.settings(bootstrap, prefix, cache)
    engines: Any = PricingEngines(warm_kernel(cache)) if kind == "pricing" else EmptyEngines()
    gate = publisher_gate if kind == "pricing" else let_pass
    thread = WorkerThread(chosen, engines, gate=gate)
    with thread:
        harness.until_started(thread)
        print("ready", flush=True)
        sys.stdin.read()


class Change(NamedTuple):
    """A change of cost on its way: when it was sent, and the cost that its price will show."""

    sent: float
    unit_cost_minor: int


class Sender:
    """Sends listings, then events at a steady rate."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.prefix = prefix
        self.changes: dict[str, Change] = {}
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0}
        )
        self._number = 0

    def list_all(self) -> None:
        """List every product, with a cost and a list price."""
        for number in range(SKUS):
            fields = {"category": "bench", "unit_cost_minor": 1_000, "list_price_minor": 5_000}
            self._send("products", "product_listed", f"SKU-{number:04d}", **fields)
        self._producer.flush()

    def run(self, seconds: float, rate: int) -> None:
        """Send ``rate`` events a second, evenly spaced."""
        started = time.monotonic()
        for number in range(int(seconds * rate)):
            while (wait_s := started + number / rate - time.monotonic()) > 0:
                self._producer.poll(min(wait_s, 0.001))
            if number % CHANGE_EVERY:
                self._order()
            else:
                self._change()

    def flush(self) -> None:
        """Wait until all are delivered."""
        self._producer.flush()

    def _change(self) -> None:
        sku = f"SKU-{self._number // CHANGE_EVERY % SKUS:04d}"
        cost_minor = 1_000 + self._number // CHANGE_EVERY // SKUS % 2 * 100 + self._number % 50
        self.changes[sku] = Change(time.monotonic(), cost_minor)
        self._send("products", "cost_changed", sku, unit_cost_minor=cost_minor)

    def _order(self) -> None:
        sku = f"SKU-{self._number % SKUS:04d}"
        order = {"order_id": f"O{self._number}", "line_id": "1", "quantity": 1}
        self._send("orders", "order_placed", sku, unit_price_minor=2_000, **order)

    def _send(self, topic: str, kind: str, sku: str, **fields: Any) -> None:
        self._number += 1
        event = {
            "type": kind,
            "event_id": f"{kind}-{self._number}",
            "event_time": rfc3339(time.time_ns() // 1_000_000),
            "sku": sku,
            "currency": "EUR",
            **fields,
        }
        self._producer.produce(self.prefix + topic, key=sku, value=orjson.dumps(event))
        self._producer.poll(0)


class Receiver(threading.Thread):
    """Follows ``prices`` and notes how long each change took to become a price."""

    def __init__(self, bootstrap: str, sender: Sender) -> None:
        super().__init__(daemon=True)
        self.sender = sender
        self.latencies_s: list[tuple[float, float]] = []  # sent, latency
        self._ending = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{sender.prefix}bench",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 5,
            }
        )
        self._consumer.assign(
            [TopicPartition(sender.prefix + PRICES.name, n, 0) for n in range(harness.PARTITIONS)]
        )

    def run(self) -> None:
        """Until ``stop``."""
        while not self._ending.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self._take(message.key().decode(), message.value(), time.monotonic())

    def _take(self, sku: str, value: bytes, now: float) -> None:
        change = self.sender.changes.get(sku)
        if change is not None and _unit_cost(value) == change.unit_cost_minor:
            del self.sender.changes[sku]
            self.latencies_s.append((change.sent, now - change.sent))

    def stop(self) -> None:
        """Wait for what is still on its way, then end."""
        deadline = time.monotonic() + DRAIN_S
        while self.sender.changes and time.monotonic() < deadline:
            time.sleep(harness.POLL_S)
        self._ending.set()
        self.join()
        self._consumer.close()


def _unit_cost(value: bytes) -> int | None:
    body = orjson.loads(value)
    found = body.get("record", body)
    return None if found is None else found["unit_cost_minor"]


def measure_one(kind: str, bootstrap: str, cache: Path, seconds: float, rate: int) -> list[float]:
    """Latencies of one run of one kind, after the warm-up, seconds."""
    prefix = harness.new_prefix()
    admin.create_topics(harness.settings(bootstrap, prefix, cache), partitions=harness.PARTITIONS)
    sender = Sender(bootstrap, prefix)
    sender.list_all()
    with child(kind, bootstrap, prefix, cache):
        receiver = Receiver(bootstrap, sender)
        receiver.start()
        sender.run(WARM_UP_S, rate)
        begin = time.monotonic()
        sender.run(seconds, rate)
        sender.flush()
        receiver.stop()
    left = len(sender.changes)
    if left:
        raise SystemExit(f"{kind}: {left} changes of cost never became a price")
    return [latency for sent, latency in receiver.latencies_s if sent >= begin]


@contextmanager
def child(kind: str, bootstrap: str, prefix: str, cache: Path) -> Iterator[None]:
    """A worker process of this benchmark, ready; it stops at the end."""
    arguments = ["--child", kind, "--prefix", prefix, "--bootstrap", bootstrap]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.latency", *arguments, "--cache", str(cache)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT,
    )  # fmt: skip
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise SystemExit("the worker did not start")
        yield
    finally:
        process.communicate()


def measure(bootstrap: str, seconds: float, rate: int) -> dict[str, Any]:
    """Both kinds in turns, and the ratios."""
    found: dict[str, list[float]] = {"pricing": [], "empty": []}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        warm_kernel(cache)
        for kind in ("empty", "pricing", "pricing", "empty"):
            found[kind] += measure_one(kind, bootstrap, cache, seconds, rate)
    pricing, empty = (harness.percentiles_ms(found[kind]) for kind in ("pricing", "empty"))
    return {
        "events_per_s": rate,
        "changes_per_s": rate // CHANGE_EVERY,
        "changes": len(found["pricing"]),
        "pricing": pricing,
        "empty_engine": empty,
        "ratio_p50": round(pricing["p50_ms"] / empty["p50_ms"], 2),
        "ratio_p99": round(pricing["p99_ms"] / empty["p99_ms"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--bootstrap")
    parser.add_argument("--child", choices=("pricing", "empty"), help=argparse.SUPPRESS)
    parser.add_argument("--prefix", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        run_worker(chosen.child, chosen.bootstrap, chosen.prefix, chosen.cache)
        return
    where = harness.machine(*PACKAGES)
    with harness.broker(chosen.bootstrap) as bootstrap:
        result = measure(bootstrap, chosen.seconds, chosen.rate)
    harness.write_result("latency", {**result, **where})


if __name__ == "__main__":
    main()
