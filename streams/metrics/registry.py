"""The registry of a process, and how its metrics are declared.

A part of a process declares its metrics in one class, on a registry that is handed to it:

    class ProjectorMetrics:
        def __init__(self, registry: CollectorRegistry | None = None) -> None:
            self.written = Counter(
                "pricemaker_redis_written", "Prices written to Redis.", registry=registry
            )

Without a registry the metrics work and nobody sees them: for tests, and where no port is set. The
class is named in `streams.metrics.catalogue`, so that ``docs/metrics.md`` and the tests of
dashboards and alert rules know it. Names follow Prometheus: ``pricemaker_`` first, base units
(``_seconds``, ``_bytes``), counters end in ``_total`` (the client adds it). A label has few values:
a topic, a status, a tier, never a SKU. What is not known is not exported, rather than exported as
0: a gauge that may be unknown has a label (a gauge without one starts as 0, by itself) and no child
until it is known; ``remove`` takes the child away when that is over.

Update once a batch, not once an event: an increment costs about a microsecond.
"""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Info, ProcessCollector

PROCESSES = ("worker", "gateway", "projector", "lag")
# Seconds. From one hop in the process to a broker that restarts under a batch.
LATENCY_BUCKETS_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


def new_registry(process: str) -> CollectorRegistry:
    """A registry that names the program and measures the process itself.

    Parameters
    ----------
    process : one of `PROCESSES`
    """
    if process not in PROCESSES:
        raise ValueError(f"process was {process!r}; expected one of {', '.join(PROCESSES)}")
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Info("pricemaker_build", "The program that runs.", registry=registry)
    build.info({"process": process, "version": version("pricemaker")})
    return registry
