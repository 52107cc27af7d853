"""What the gateway tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.metrics.registry import LATENCY_BUCKETS_SECONDS

OTHER = "other"  # a path that is none of ours


class GatewayMetrics:
    """Requests by route, streams, and what is shown."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._requests = Counter(
            "pricemaker_gateway_requests", "Requests answered; a stream when it ends.",
            ("route", "status"), registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "pricemaker_gateway_request_duration_seconds",
            "From a request to the end of its answer, but for streams.",
            ("route",), buckets=LATENCY_BUCKETS_SECONDS, registry=registry,
        )  # fmt: skip
        self.streams = Gauge(
            "pricemaker_gateway_streams", "Event streams that are open.", registry=registry
        )
        self.prices = Gauge(
            "pricemaker_gateway_prices", "Products that have an effective price here.",
            registry=registry,
        )  # fmt: skip
        self.cut_off = Counter(
            "pricemaker_gateway_streams_cut_off",
            "Event streams whose reader took nothing for too long.", registry=registry,
        )  # fmt: skip

        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, route: str, status: int, seconds: float | None) -> None:
        """A request was answered; ``seconds`` is None for a stream."""
        requests, duration = self._child(route, status)
        requests.inc()
        if seconds is not None:
            duration.observe(seconds)

    def _child(self, route: str, status: int) -> tuple[Counter, Histogram]:
        found = self._children.get((route, status))
        if found is None:
            found = self._requests.labels(route, status), self._seconds.labels(route)
            self._children[route, status] = found  # as many as routes and statuses
        return found
