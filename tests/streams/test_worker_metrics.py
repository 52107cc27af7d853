"""What a worker tells Prometheus, and whether it says that it lives."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.fold.partition import PartitionState
from schemas.errors import ServiceError
from schemas.state import BreakerState, Counts
from streams.metrics.worker import WorkerMetrics
from streams.settings import Settings
from streams.worker.liveness import STALL_S, Liveness
from streams.worker.worker import WorkerThread
from streams.worker.worker_progress import WorkerProgress
from tests.streams.counting_engine import CountingFactory
from tests.streams.spine import Shop, fresh_topics, listing, order


def values(registry: CollectorRegistry, *names: str) -> dict[tuple[str, ...], float]:
    """(sample, label values...) -> value, of the samples of these names (none: of all)."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not names or sample.name in names
    }


def test_totals_are_those_of_the_state_and_breakers_are_counted() -> None:
    state = PartitionState(3, "abc123 of this machine")
    state.manifest.counts = Counts(
        applied=9, duplicates=2, dead_letters=1, published=4, held=3, reverted=2, breaker_trips=5,
        drifts=6, probes=7,
    )  # fmt: skip
    state.manifest.clock_ms, state.manifest.kill_switch = 1_767_571_200_500, "kim: drill"
    for sku, breaker in (("A", "OPEN"), ("B", "CLOSED"), ("C", "HALF_OPEN"), ("D", "OPEN")):
        product: Any = SimpleNamespace(breaker=BreakerState(state=breaker))
        state.skus[sku] = product
    state.family_breakers["F"] = BreakerState(state="OPEN")
    state.families |= {"F": ["A", "B"], "C": ["C"], "D": ["D"]}
    registry = CollectorRegistry()
    WorkerMetrics(registry).engines = lambda: [(3, SimpleNamespace(state=state, position=42))]
    found = {
        name: value
        for name, value in values(registry).items()
        if not name[0].endswith(("_bucket", "_sum", "_count", "_created"))
    }
    records, decisions = "pricemaker_tape_records_total", "pricemaker_decisions_total"
    assert found == {
        (records, "3", "applied"): 9,
        (records, "3", "duplicates"): 2,
        (records, "3", "dead_letters"): 1,
        (decisions, "3", "published"): 4,
        (decisions, "3", "held"): 3,
        (decisions, "3", "reverted"): 2,
        ("pricemaker_breaker_trips_total", "3"): 5,
        ("pricemaker_drifts_total", "3"): 6,
        ("pricemaker_probes_total", "3"): 7,
        ("pricemaker_tape_position", "3"): 42,
        ("pricemaker_tape_clock_seconds", "3"): 1_767_571_200.5,
        ("pricemaker_kill_switch", "3"): 1,
        ("pricemaker_breakers", "3", "sku", "OPEN"): 2,
        ("pricemaker_breakers", "3", "sku", "HALF_OPEN"): 1,
        ("pricemaker_breakers", "3", "family", "OPEN"): 1,
        ("pricemaker_breakers", "3", "family", "HALF_OPEN"): 0,
        ("pricemaker_breakers", "3", "catalogue", "OPEN"): 0,
        ("pricemaker_breakers", "3", "catalogue", "HALF_OPEN"): 0,
        ("pricemaker_state_records", "3", "product"): 4,
        ("pricemaker_state_records", "3", "catalogue"): 0,
        ("pricemaker_state_records", "3", "family"): 3,
        ("pricemaker_engine_info", "3", "abc123"): 1,
    }


def test_what_a_batch_led_to_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    alert = b'{"type":"alert","kind":"drift","sku":"A"}'
    outputs = [
        SimpleNamespace(topic="prices"),
        SimpleNamespace(topic="prices-latest"),
        SimpleNamespace(topic="prices"),
        SimpleNamespace(topic="alerts", value=alert),
    ]
    decisions = metrics.folded(7, outputs, 0.3)
    assert decisions == 2
    metrics.committed(decisions, 0.02, 0)
    metrics.committed(0, 0.02, 0)  # no decision: no latency of one
    assert values(
        registry,
        "pricemaker_batch_records_sum",
        "pricemaker_batch_decisions_sum",
        "pricemaker_batch_fold_duration_seconds_sum",
        "pricemaker_batch_commit_duration_seconds_sum",
        "pricemaker_decision_latency_seconds_count",
        "pricemaker_alerts_total",
    ) == {
        ("pricemaker_batch_records_sum",): 7,
        ("pricemaker_batch_decisions_sum",): 2,
        ("pricemaker_batch_fold_duration_seconds_sum",): 0.3,
        ("pricemaker_batch_commit_duration_seconds_sum",): 0.04,
        ("pricemaker_decision_latency_seconds_count",): 1,
        ("pricemaker_alerts_total", "drift"): 1,
    }


class Offsets:
    """A worker's progress and a broker, by hand."""

    def __init__(self) -> None:
        self.progress = WorkerProgress(Settings())
        self.now_s = 0.0
        self.ends: dict[tuple[str, int], int] | None = {}
        self.asked = 0
        self.alive = Liveness(self.progress, self.waiting, lambda: self.now_s)

    def waiting(self, offsets: dict[tuple[str, int], int]) -> set[tuple[str, int]]:
        self.asked += 1
        if self.ends is None:
            raise ServiceError("broker_unreachable", "away.")
        return {place for place, offset in offsets.items() if self.ends[place] > offset}

    def after(self, seconds: float) -> str | None:
        self.now_s += seconds
        return self.alive()


def test_a_worker_lives_while_it_moves_or_has_nothing_to_do() -> None:
    worker = Offsets()
    tape, orders = ("tape", 1), ("orders", 0)
    worker.ends = {tape: 10, orders: 5}
    assert worker.after(STALL_S * 2) is None  # nothing is assigned yet
    worker.progress.start(*tape, 7)
    worker.progress.start(*orders, 5)
    worker.progress.assign([tape, orders])
    assert worker.after(1) is None
    assert worker.after(STALL_S) is None  # not longer than the limit
    assert worker.asked == 0  # the broker is left alone until then
    assert worker.after(1) == "tape[1] stands still at 7, and records wait"
    worker.progress.done(*tape, 8)
    assert worker.after(1) is None  # it moves
    worker.ends = None
    assert worker.after(STALL_S + 1) is None  # the broker is away: a restart would not help
    worker.ends = {tape: 8, orders: 5}
    assert worker.after(STALL_S + 1) is None  # nothing to do
    worker.ends = {tape: 8, orders: 6}
    assert worker.after(1) == "orders[0] stands still at 5, and records wait"
    worker.progress.assign([tape])  # another worker has it now
    assert worker.after(1) is None
    worker.progress.assign(None)
    assert worker.after(STALL_S * 2) is None  # a rebalance


@pytest.mark.kafka
def test_a_worker_counts_what_it_does(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap)
    shop = Shop(settings)
    shop.send("products", [listing(sku) for sku in ("A", "B")])
    shop.send("orders", [order(number, "A") for number in range(5)])
    shop.send("orders", [order(9, "nobody")])
    registry = CollectorRegistry()
    with WorkerThread(settings, CountingFactory(), metrics=WorkerMetrics(registry)) as thread:
        assert thread.progress.wait_idle(60)
        ready = thread.worker.not_ready()
        found: dict[Any, float] = values(
            registry,
            "pricemaker_intake_records_total",
            "pricemaker_intake_dead_letters_total",
            "pricemaker_batch_records_sum",
            "pricemaker_batch_decisions_sum",
            "pricemaker_take_over_duration_seconds_count",
        )
        latencies = values(registry, "pricemaker_decision_latency_seconds_count")
        positions = values(registry, "pricemaker_tape_position")
        tape = sum(end for (topic, _), end in thread.progress.offsets().items() if topic == "tape")
        waiting = thread.progress.waiting(thread.progress.assigned())
    assert ready is None
    assert waiting == set()
    ticks = found.pop(("pricemaker_intake_records_total", "controls", "append"))
    assert tape == 2 + 5 + 4 * ticks  # a tick goes to all partitions
    assert found == {
        ("pricemaker_intake_records_total", "products", "append"): 2,
        ("pricemaker_intake_records_total", "orders", "append"): 5,
        ("pricemaker_intake_records_total", "orders", "refuse"): 1,
        ("pricemaker_intake_dead_letters_total", "orders", "unknown_product"): 1,
        ("pricemaker_batch_records_sum",): tape,
        ("pricemaker_batch_decisions_sum",): tape,  # this engine decides at each record
        ("pricemaker_take_over_duration_seconds_count",): 4,
    }
    assert latencies[("pricemaker_decision_latency_seconds_count",)] > 0
    assert sum(positions.values()) == tape - 4  # a position is an offset: one below the count
