"""What the projector tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ProjectorMetrics:
    """Prices read and written, and what keeps them from flowing."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.read = Counter(
            "pricemaker_redis_records", "Records of prices-latest read.", registry=registry
        )
        self.accepted = Counter(
            "pricemaker_redis_prices", "Prices written to Redis: their version was higher.",
            registry=registry,
        )  # fmt: skip
        self.rebuilds = Counter(
            "pricemaker_redis_rebuilds",
            "Times the feed began again: Redis was flushed, replaced or set back.",
            registry=registry,
        )
        self.unreadable = Counter(
            "pricemaker_redis_unreadable_records", "Records left out: no price.", registry=registry
        )
        self.failures = Counter(
            "pricemaker_redis_failures", "Calls of Redis that failed.", registry=registry
        )
        self.away = Gauge(
            "pricemaker_redis_away", "1 while Redis does not answer.", registry=registry
        )
        self.switch = Gauge(
            "pricemaker_projector_kill_switch", "1 while the kill switch holds prices back.",
            registry=registry,
        )  # fmt: skip

    def told(self, redis_away: bool, switch_on: bool) -> None:
        """What holds prices back now."""
        self.away.set(redis_away)
        self.switch.set(switch_on)
