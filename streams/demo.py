"""The demo: a simulated shop on the embedded broker, priced by the very agents that run on Kafka.

The shop lives in steps. In lock-step the feeder sends one source topic after the other and waits
until the worker is idle; a record goes to its family's source partition, and the feeder makes the
clock ticks. So every tape partition gets its records in one order, and the same seed gives the
same decisions.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from models.fold.engine import PartitionEngine
from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas import topics
from schemas.errors import ServiceError
from schemas.events import rfc3339
from schemas.state import Counts
from streams.kafka.embedded import EmbeddedBroker
from streams.kafka.feeder import BY_KEY, Feeder
from streams.kafka.latest_prices import LatestPrices, Move
from streams.tape.event_files import SourceRecord
from streams.tape.tape_hash import combined_sha256
from streams.worker.engines import PricingEngines
from streams.worker.monitor import Monitor
from streams.worker.pricer import publisher_gate
from streams.worker.routes import tape_partition
from streams.worker.ticks import MINUTE_MS, tick_event
from streams.worker.worker import WorkerThread

IDLE_TIMEOUT_S = 20.0
STEP_HOURS = 6
LIVE_STEP_HOURS = 1
MOVES_KEPT = 200
BAD_SHARE = 0.01
# Listings first, then what a price depends on, then what buyers did at that price.
SOURCE_ORDER = (
    topics.PRODUCTS,
    topics.INVENTORY,
    topics.COMPETITOR_PRICES,
    topics.TRAFFIC,
    topics.ORDERS,
    topics.RETURNS,
    topics.CONTROLS,
)


class Totals(NamedTuple):
    """Counts over the partitions, and what names their decisions."""

    counts: Counts
    decisions_sha256: str


class WatchedEngines(PricingEngines):
    """Remembers the engine of each partition, to be looked at while the worker is idle."""

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        self.engines: dict[int, PartitionEngine] = {}

    def new(self, partition: int) -> PartitionEngine:
        """An engine before the first record, remembered."""
        engine: PartitionEngine = super().new(partition)
        self.engines[partition] = engine
        return engine

    def totals(self) -> Totals:
        """Counts and hash of what has been decided so far."""
        ordered = [self.engines[number] for number in sorted(self.engines)]
        found = [engine.state.manifest for engine in ordered]
        total = Counts()
        for manifest in found:
            for name in Counts.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(manifest.counts, name))
        return Totals(total, combined_sha256(manifest.decisions_sha256 for manifest in found))


class Demo:
    """A shop, a broker, a worker. Context manager.

    Parameters
    ----------
    settings : for the embedded broker (see :func:`demo_overrides`)
    kernel : compiled kernels
    seed : of the shop
    products : at the start
    step_hours : simulated time between two looks at the prices, a divisor of 24
    """

    def __init__(
        self, settings: Any, kernel: Any, seed: int, products: int, step_hours: int
    ) -> None:
        self.shop = Shop(
            seed,
            settings=ShopSettings(products=products, step_hours=step_hours, bad_share=BAD_SHARE),
        )
        self.engines = WatchedEngines(kernel)
        self.events = 0
        self.moves: deque[Move] = deque(maxlen=MOVES_KEPT)
        self._families: dict[str, str] = {}
        self._settings = settings
        self._worker = WorkerThread(settings, self.engines, gate=publisher_gate, embedded=True)
        self._feeder = Feeder(settings)
        self._latest = LatestPrices(settings, "read_uncommitted")
        self._monitor = Monitor(settings, self._worker.worker.halt, "read_uncommitted")

    def __enter__(self) -> "Demo":
        self._worker.__enter__()
        self._latest.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._monitor.close()
        self._latest.__exit__(*error)
        self._worker.__exit__(*error)

    def run(self, events_max: int | None) -> Iterator[list[Move]]:
        """Let the shop live, step by step; yields the price decisions of each step.

        Raises
        ------
        ServiceError : the worker did not keep up
        """
        while events_max is None or self.events < events_max:
            records = self.shop.step(self._latest.prices)
            if events_max is not None:
                records = records[: events_max - self.events]
            self._feed(records)
            self.events += len(records)
            moves = list(self._latest.read())
            self.moves.extend(moves)
            yield moves

    @property
    def dead_letters(self) -> int:
        """Records that intake or fold refused so far."""
        ends = self._worker.progress.end_offsets([topics.DEAD_LETTER.name])
        return sum(ends.values())

    def _feed(self, records: list[SourceRecord]) -> None:
        by_topic: dict[str, list[bytes | None]] = {}
        for topic, value in records:
            by_topic.setdefault(topic, []).append(value)
        now_ms = self.shop.now_ms
        tick = tick_event(now_ms - now_ms % MINUTE_MS)
        by_topic.setdefault(topics.CONTROLS.name, []).append(tick)
        for source in SOURCE_ORDER:
            values = by_topic.get(source.name)
            if values:
                self._send(source.name, values)
        if self._monitor.look():
            self._wait_idle()

    def _send(self, topic: str, values: Iterable[bytes | None]) -> None:
        for value in values:
            self._feeder.send(topic, value, self._source_partition(topic, value))
        self._feeder.flush()
        self._wait_idle()

    def _wait_idle(self) -> None:
        if not self._worker.progress.wait_idle(IDLE_TIMEOUT_S):
            raise ServiceError(
                "worker_too_slow",
                f"the worker was not done with a step within {IDLE_TIMEOUT_S:.0f} s.",
                where=rfc3339(self.shop.now_ms),
                fix="Run the demo with fewer --products.",
            )

    def _source_partition(self, topic: str, value: bytes | None) -> int:
        """The partition of the family, so that a family's records keep their order."""
        if value is None or topic == topics.CONTROLS.name:
            return BY_KEY
        try:
            body = orjson.loads(value)
            sku = body["sku"]
            if body["type"] == "product_listed":
                self._families.setdefault(sku, body.get("family") or sku)
            return tape_partition(self._families.get(sku, sku), topics.PARTITIONS_DEFAULT)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return BY_KEY


def demo_overrides(broker: EmbeddedBroker) -> dict[str, Any]:
    """Settings of the demo's worker, as "section.key" -> value."""
    return {**broker.settings_overrides(), "worker.ticks": "external", "worker.fetch_wait_ms": 10}
