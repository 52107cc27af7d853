"""What webhooks tell Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from streams.webhooks.attempts import State


class WebhookMetrics:
    """Calls, and the state of each endpoint."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.calls = Counter(
            "pricemaker_webhook_calls",
            "Calls of an endpoint by what became of them: delivered, failed, gone.",
            ("endpoint", "outcome"),
            registry=registry,
        )
        self.prices = Counter(
            "pricemaker_webhook_prices", "Changes of a price delivered to an endpoint.",
            ("endpoint",), registry=registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "pricemaker_webhook_waiting_prices",
            "Products whose newest price an endpoint has not been told.",
            ("endpoint",),
            registry=registry,
        )
        self.state = Gauge(
            "pricemaker_webhook_state", "1 for the state that an endpoint is in, 0 for the others.",
            ("endpoint", "state"), registry=registry,
        )  # fmt: skip

    def told(self, endpoint: str, waiting: int, state: State) -> None:
        """How an endpoint stands now."""
        self.waiting.labels(endpoint).set(waiting)
        for one in State:
            self.state.labels(endpoint, one.value).set(one is state)
