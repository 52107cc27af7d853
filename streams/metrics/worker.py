"""What a worker counts: intake and pricer by the batch, and at a scrape what the engines hold.

Totals of the tape come from the partition's own state, which goes on over restarts and take-overs:
a counter of a partition is the same whichever worker has it, and never falls.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.topics import ALERTS, PRICES
from streams.metrics.registry import LATENCY_BUCKETS_SECONDS

RECORDS_BUCKETS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0)
OUTCOMES = ("applied", "duplicates", "dead_letters")  # of `schemas.state.Counts`
STATUSES = ("published", "held", "reverted")
BREAKER_SCOPES = ("sku", "family", "catalogue")
BREAKER_STATES = ("HALF_OPEN", "OPEN")


class _Alert(msgspec.Struct):
    kind: str


_alert = msgspec.json.Decoder(_Alert)
Engines = Callable[[], Iterable[tuple[int, Any]]]  # partition, engine


class WorkerMetrics:
    """Counts per batch; `engines`, once set, is asked at each scrape."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.intake_records = Counter(
            "pricemaker_intake_records",
            "Source records read, by what became of them: append, refuse (dead letter), drop.",
            ["topic", "outcome"], registry=registry,
        )  # fmt: skip
        self.dead_letters = Counter(
            "pricemaker_intake_dead_letters", "Source records refused by intake, by error code.",
            ["topic", "code"], registry=registry,
        )  # fmt: skip
        self.intake_seconds = Histogram(
            "pricemaker_intake_batch_duration_seconds",
            "One batch of a source topic, until all of it is on the tape.",
            ["topic"], registry=registry, buckets=LATENCY_BUCKETS_SECONDS,
        )  # fmt: skip
        self.batch_records = Histogram(
            "pricemaker_batch_records", "Tape records folded as one batch.",
            registry=registry, buckets=RECORDS_BUCKETS,
        )  # fmt: skip
        self.batch_decisions = Histogram(
            "pricemaker_batch_decisions", "Price decisions made in one batch.",
            registry=registry, buckets=(0.0, *RECORDS_BUCKETS),
        )  # fmt: skip
        self.fold_seconds = Histogram(
            "pricemaker_batch_fold_duration_seconds", "Folding and pricing one batch.",
            registry=registry, buckets=LATENCY_BUCKETS_SECONDS,
        )  # fmt: skip
        self.commit_seconds = Histogram(
            "pricemaker_batch_commit_duration_seconds", "One batch's transaction.",
            registry=registry, buckets=LATENCY_BUCKETS_SECONDS,
        )  # fmt: skip
        self.decision_latency_seconds = Histogram(
            "pricemaker_decision_latency_seconds",
            "From the append to the tape to the commit of the prices, of the record of each "
            "batch with decisions that waited longest.",
            registry=registry, buckets=LATENCY_BUCKETS_SECONDS,
        )  # fmt: skip
        self.alerts = Counter(
            "pricemaker_alerts", "Alerts published, by kind.", ["kind"], registry=registry
        )
        self.take_over_seconds = Histogram(
            "pricemaker_take_over_duration_seconds",
            "Taking a tape partition over: fencing, reading its state, restoring the engine.",
            registry=registry, buckets=LATENCY_BUCKETS_SECONDS,
        )  # fmt: skip
        self.engines: Engines = tuple
        if registry is not None:
            registry.register(_EngineCollector(lambda: self.engines()))

    def appended(self, topic: str, outcomes: Sequence[str], codes: Iterable[str], s: float) -> None:
        """One batch of a source topic is on the tape.

        Parameters
        ----------
        outcomes : of each record
        codes : of the errors of those refused
        s : seconds that it took
        """
        for outcome, count in Tally(outcomes).items():
            self.intake_records.labels(topic, outcome).inc(count)
        for code in codes:
            self.dead_letters.labels(topic, code).inc()
        self.intake_seconds.labels(topic).observe(s)

    def folded(self, records: int, outputs: Sequence[Any], fold_s: float) -> int:
        """One batch is folded; how many decisions it made."""
        self.batch_records.observe(records)
        self.fold_seconds.observe(fold_s)
        decisions = 0
        for output in outputs:
            decisions += output.topic == PRICES.name
            if output.topic == ALERTS.name:
                self.alerts.labels(_alert.decode(output.value).kind).inc()
        self.batch_decisions.observe(decisions)
        return decisions

    def committed(self, decisions: int, commit_s: float, appended_ms: int) -> None:
        """A batch is durable; ``appended_ms``: when its first record was put on the tape."""
        self.commit_seconds.observe(commit_s)
        if decisions:
            # a broker's clock may be ahead of ours
            self.decision_latency_seconds.observe(max(0.0, time.time() - appended_ms / 1000))


_COUNTERS = {
    "pricemaker_tape_records": (
        "Tape records folded, by outcome.",
        ("partition", "outcome"),
    ),
    "pricemaker_decisions": ("Price decisions, by status.", ("partition", "status")),
    "pricemaker_breaker_trips": ("Times that a breaker opened.", ("partition",)),
    "pricemaker_drifts": ("Drifts found in demand or returns.", ("partition",)),
    "pricemaker_probes": ("Prices published to learn from.", ("partition",)),
}
_GAUGES = {
    "pricemaker_tape_position": ("Offset of the last applied tape record.", ("partition",)),
    "pricemaker_tape_clock_seconds": (
        "Event time that the partition has reached, as Unix time.",
        ("partition",),
    ),
    "pricemaker_kill_switch": (
        "1 while the kill switch holds the partition's prices.",
        ("partition",),
    ),
    "pricemaker_breakers": ("Breakers that are not closed.", ("partition", "scope", "state")),
    "pricemaker_state_records": ("What the engine holds, by kind.", ("partition", "kind")),
    "pricemaker_engine_info": (
        "1; the engine that prices the partition.",
        ("partition", "fingerprint"),
    ),
}


class _EngineCollector(Collector):
    """Reads the engines' own totals while they work: each figure by itself is right."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def describe(self) -> Iterator[Metric]:
        yield from _families().values()

    def collect(self) -> Iterator[Metric]:
        families = _families()
        for partition, engine in list(self._engines()):
            labels = [str(partition)]
            families["pricemaker_tape_position"].add_metric(labels, engine.position)
            state = getattr(engine, "state", None)  # an engine may be another than ours
            if state is not None:
                _totals(families, labels, state.manifest)
                _holdings(families, labels, state)
        yield from families.values()


def _totals(families: dict[str, Any], labels: list[str], manifest: Any) -> None:
    counts = manifest.counts
    for outcome in OUTCOMES:
        value = getattr(counts, outcome)
        families["pricemaker_tape_records"].add_metric([*labels, outcome], value)
    for status in STATUSES:
        families["pricemaker_decisions"].add_metric([*labels, status], getattr(counts, status))
    for name, total in (
        ("breaker_trips", counts.breaker_trips),
        ("drifts", counts.drifts),
        ("probes", counts.probes),
    ):
        families[f"pricemaker_{name}"].add_metric(labels, total)
    if manifest.clock_ms is not None:
        families["pricemaker_tape_clock_seconds"].add_metric(labels, manifest.clock_ms / 1000)
    on = float(manifest.kill_switch is not None)
    families["pricemaker_kill_switch"].add_metric(labels, on)


def _holdings(families: dict[str, Any], labels: list[str], state: Any) -> None:
    # list() of a dict's values is one step to other threads; a loop over them is not
    products = list(state.skus.values())
    held = Tally(("sku", product.breaker.state) for product in products)
    held.update(("family", breaker.state) for breaker in list(state.family_breakers.values()))
    held[("catalogue", state.catalogue_breaker.state)] += 1
    for scope in BREAKER_SCOPES:
        for name in BREAKER_STATES:
            families["pricemaker_breakers"].add_metric([*labels, scope, name], held[(scope, name)])
    for kind, count in (
        ("product", len(products)),
        ("catalogue", len(state.catalogue)),
        ("family", len(state.families)),
    ):
        families["pricemaker_state_records"].add_metric([*labels, kind], count)
    families["pricemaker_engine_info"].add_metric([*labels, state.engine], 1.0)


def _families() -> dict[str, Any]:
    counters = {
        name: CounterMetricFamily(name, about, labels=labels)
        for name, (about, labels) in _COUNTERS.items()
    }
    gauges = {
        name: GaugeMetricFamily(name, about, labels=labels)
        for name, (about, labels) in _GAUGES.items()
    }
    return counters | gauges
