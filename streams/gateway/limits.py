"""How much one caller may ask: a token bucket each, and a bound on how many are remembered."""

from collections.abc import Callable

BUCKETS_MAX = 10_000


class RateLimit:
    """Lets so many requests a second through for each caller, and a burst above that.

    Parameters
    ----------
    rate : requests a second
    burst : requests at once
    clock : monotonic seconds

    Notes
    -----
    The callers that were idle longest are forgotten first, and then have a full bucket again,
    which is what an idle caller has in any case. With more than `BUCKETS_MAX` busy ones at a time
    some are let through that should not be: memory is bounded first.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # caller -> tokens left, when

    def wait_s(self, caller: str) -> float:
        """Take one from the caller's bucket; 0, or the seconds until there is one again."""
        now = self._clock()
        left, before = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - before) * self._rate)
        passes = left >= 1.0
        self._buckets[caller] = (left - 1.0 if passes else left, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.pop(next(iter(self._buckets)))
        return 0.0 if passes else (1.0 - left) / self._rate
