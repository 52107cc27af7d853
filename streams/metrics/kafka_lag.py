"""Lag for Prometheus, under the names of kafka-lag-exporter, from a `LagMonitor`'s last look.

What is not known has no sample. A look that is old is not shown as if it were current: after
`STALE_S` without a look there are no samples of lag at all.
"""

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.lag.broker import GroupLag
from streams.lag.monitor import LagMonitor, Look
from streams.lag.rules import Status

STALE_S = 60.0
PARTITION = ("cluster_name", "group", "topic", "partition")
GROUP = ("cluster_name", "group")
FAMILIES = {
    "kafka_consumergroup_group_lag": ("Messages behind the end of the partition.", PARTITION),
    "kafka_consumergroup_group_lag_seconds": ("Age of the next record to read.", PARTITION),
    "kafka_consumergroup_group_offset": ("Committed offset: the next to read.", PARTITION),
    "kafka_consumergroup_group_max_lag": ("Most messages behind in a partition.", GROUP),
    "kafka_consumergroup_group_max_lag_seconds": ("Age of the oldest record to read.", GROUP),
    "kafka_consumergroup_group_sum_lag": ("Messages behind in all partitions.", GROUP),
    "kafka_partition_latest_offset": (
        "End of the partition's log.",
        ("cluster_name", "topic", "partition"),
    ),
    "pricemaker_lag_status": (
        "1 for the status that holds by Burrow's rules, 0 for the others.",
        (*PARTITION, "status"),
    ),
    "pricemaker_lag_not_moving": (
        "1 when a live member has the partition, something waits and nothing moves.",
        PARTITION,
    ),
    "pricemaker_lag_catch_up_seconds": ("Until the group has caught up.", PARTITION),
    "pricemaker_price_freshness_seconds": (
        "How far prices are behind the newest event, in event time.",
        ("cluster_name", "partition"),
    ),
    "pricemaker_tape_waiting_records": (
        "Tape records that are not applied yet.",
        ("cluster_name", "partition"),
    ),
    "pricemaker_lag_look_age_seconds": ("Age of the last look at the broker.", ("cluster_name",)),
}


class LagMetrics(Collector):
    """Collects from the monitor at each scrape; asks the broker nothing."""

    def __init__(
        self,
        registry: CollectorRegistry,
        monitor: LagMonitor | None = None,
        *,
        cluster: str = "kafka",
    ) -> None:
        self._monitor = monitor
        self._cluster = cluster
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """All names, whatever is known now."""
        yield from _families().values()

    def collect(self) -> Iterator[Metric]:
        """What the last look saw."""
        families = _families()
        look = None if self._monitor is None else self._monitor.latest
        if look is not None:
            age_s = time.time() - look.observed_ms / 1000
            families["pricemaker_lag_look_age_seconds"].add_metric([self._cluster], age_s)
            if age_s <= STALE_S:
                self._fill(families, look)
        yield from families.values()

    def _fill(self, families: dict[str, GaugeMetricFamily], look: Look) -> None:
        ends: dict[tuple[str, str], int] = {}
        for group in look.groups:
            self._fill_group(families, group)
            for row in group.partitions:
                ends[row.topic, str(row.partition)] = row.offset_end
        for (topic, number), end in ends.items():
            families["kafka_partition_latest_offset"].add_metric(
                [self._cluster, topic, number], end
            )
        for found in look.freshness:
            labels = [self._cluster, str(found.partition)]
            behind_s = None if found.behind_ms is None else found.behind_ms / 1000
            _add(families, "pricemaker_price_freshness_seconds", labels, behind_s)
            _add(families, "pricemaker_tape_waiting_records", labels, found.tape_waiting)

    def _fill_group(self, families: dict[str, GaugeMetricFamily], group: GroupLag) -> None:
        prefix = "kafka_consumergroup_group_"
        for row in group.partitions:
            labels = [self._cluster, group.group, row.topic, str(row.partition)]
            _add(families, f"{prefix}lag", labels, row.consumer_lag_messages)
            _add(families, f"{prefix}lag_seconds", labels, _seconds(row.consumer_lag_ms))
            _add(families, f"{prefix}offset", labels, row.offset_committed)
            _add(families, "pricemaker_lag_not_moving", labels, row.not_moving)
            _add(families, "pricemaker_lag_catch_up_seconds", labels, row.rates.catch_up_s)
            for status in Status:
                families["pricemaker_lag_status"].add_metric(
                    [*labels, status.value], float(row.status == status)
                )
        labels = [self._cluster, group.group]
        messages = [row.consumer_lag_messages for row in group.partitions]
        known = [count for count in messages if count is not None]
        most = max(known) if known and len(known) == len(messages) else None
        _add(families, f"{prefix}max_lag", labels, most)
        _add(families, f"{prefix}sum_lag", labels, group.messages_sum)
        _add(families, f"{prefix}max_lag_seconds", labels, _seconds(group.lag_ms_max))


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(name, about, labels=labels)
        for name, (about, labels) in FAMILIES.items()
    }


def _add(families: dict[str, GaugeMetricFamily], name: str, labels: list[str], value: Any) -> None:
    if value is not None:
        families[name].add_metric(labels, float(value))


def _seconds(lag_ms: int | None) -> float | None:
    return None if lag_ms is None else lag_ms / 1000
