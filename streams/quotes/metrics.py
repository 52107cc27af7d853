"""What quotes count: by the tier that answered, and by why none did."""

from prometheus_client import CollectorRegistry, Counter, Histogram

# Seconds: around the tiers' bounds of 1, 10 and 50 ms.
QUOTE_BUCKETS_SECONDS = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 1.0,
)  # fmt: skip
TIERS = ("L1", "L2", "L3")


class QuoteMetrics:
    """Counts of quotes. A tier's share is its count over all; its mean and p99 the histogram's."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.seconds = Histogram(
            "pricemaker_quote_duration_seconds",
            "Time from a quote's question to its answer, by the tier that answered.",
            ["tier"], registry=registry, buckets=QUOTE_BUCKETS_SECONDS,
        )  # fmt: skip
        self.refused = Counter(
            "pricemaker_quotes_refused", "Quotes that were not answered, by error code.",
            ["code"], registry=registry,
        )  # fmt: skip
        self.passed_on = Counter(
            "pricemaker_quotes_passed_on",
            "Quotes that L2 passed on to the full engine: cold, stale, not_reckoned, unavailable.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._tiers = {tier: self.seconds.labels(tier) for tier in TIERS}

    def answered(self, tier: str, seconds: float) -> None:
        """A quote was answered."""
        self._tiers[tier].observe(seconds)

    def passed_on_by_l2(self, reason: str) -> None:
        """L2 had no answer."""
        self.passed_on.labels(reason).inc()

    def was_refused(self, code: str) -> None:
        """No tier had one, and said why."""
        self.refused.labels(code).inc()
