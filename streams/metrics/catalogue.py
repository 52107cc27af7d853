"""All metrics of all processes, by process: for the documentation and the checks of dashboards."""

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from streams.edge.projector_metrics import ProjectorMetrics
from streams.gateway.gateway_metrics import GatewayMetrics
from streams.metrics.kafka_lag import LagMetrics
from streams.metrics.registry import new_registry
from streams.metrics.worker import WorkerMetrics
from streams.quotes.metrics import QuoteMetrics
from streams.webhooks.metrics import WebhookMetrics

# Which parts a process's registry has; a class that takes the registry and declares its metrics.
PARTS: dict[str, tuple[type, ...]] = {
    "worker": (WorkerMetrics,),
    "gateway": (GatewayMetrics, QuoteMetrics, WebhookMetrics),
    "projector": (ProjectorMetrics,),
    "lag": (LagMetrics,),
}


class Described(NamedTuple):
    """A metric as a dashboard names it; a histogram's samples add ``_bucket`` and so on."""

    name: str
    kind: str
    labels: tuple[str, ...]
    documentation: str


def registry_of(process: str) -> CollectorRegistry:
    """A registry as the process has it, before anything was counted."""
    registry = new_registry(process)
    for part in PARTS[process]:
        part(registry)
    return registry


def described(process: str) -> Iterator[Described]:
    """What a process exposes, in the order of declaration.

    The samples of an info are named ``_info``, those of a counter ``_total``.
    """
    for collector in registry_of(process)._collector_to_names:
        families = collector.describe() if isinstance(collector, MetricWrapperBase) else ()
        for family in families or collector.collect():
            # a family of a collector of our own carries its labels itself
            labels = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
            ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
            yield Described(family.name + ending, family.type, tuple(labels), family.documentation)
