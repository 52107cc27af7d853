"""Heat: how often each product is asked for, by event time, with an exponential memory.

    rate(t) = ln 2 / half_life * sum over quotes of 2^-((t - t_quote) / half_life)

A product that is asked for at a steady rate comes to that rate. Bounded: of too many products the
coldest are forgotten.
"""

import heapq
import math

LN2 = math.log(2.0)
DAY_SECONDS = 86_400.0
EXPONENT_MAX = 1000.0  # of a quote from far in the future


class Heat:
    """Rates of quotes by product.

    Parameters
    ----------
    half_life_s : after which a quote counts half, above 0
    products_max : remembered at most; a quarter is forgotten when there are more
    """

    def __init__(self, half_life_s: float, products_max: int) -> None:
        self._half_life_ms = half_life_s * 1000.0
        self._products_max = products_max
        self._logs: dict[str, float] = {}
        """log2 of the sum of 2^(t/half_life): grows with a quote, and needs no fading."""

    def count(self, sku: str, at_ms: int) -> None:
        """Count a quote; one that comes late counts what it would by now."""
        at = at_ms / self._half_life_ms
        known = self._logs.get(sku)
        if known is None:
            if len(self._logs) >= self._products_max:
                self._forget()
            self._logs[sku] = at
        else:
            high, low = (known, at) if known >= at else (at, known)
            self._logs[sku] = high + math.log2(1.0 + math.exp2(low - high))

    def per_day(self, sku: str, at_ms: int) -> float:
        """Quotes a day, as remembered at an event time.

        >>> heat = Heat(half_life_s=3600.0, products_max=10)
        >>> for second in range(0, 36_000, 10):
        ...     heat.count("A", second * 1000)
        >>> round(heat.per_day("A", 36_000_000))  # of 8640, asked 10 s after the last
        8623
        >>> heat.per_day("B", 36_000_000)
        0.0
        """
        return self.quotes(sku, at_ms) * LN2 / (self._half_life_ms / 1000.0) * DAY_SECONDS

    def quotes(self, sku: str, at_ms: int) -> float:
        """Quotes remembered: one just now counts 1, one a half life ago a half."""
        known = self._logs.get(sku)
        if known is None:
            return 0.0
        return math.exp2(min(known - at_ms / self._half_life_ms, EXPONENT_MAX))

    def hotter(self, one: str, other: str) -> bool:
        """Whether a product is asked for more than another, or as much."""
        return self._logs.get(one, -math.inf) >= self._logs.get(other, -math.inf)

    def __len__(self) -> int:
        return len(self._logs)

    def _forget(self) -> None:
        """Forget the coldest quarter, by heat and then by SKU."""
        keep = heapq.nlargest(
            self._products_max - self._products_max // 4 - 1,
            self._logs.items(),
            key=lambda found: (found[1], found[0]),
        )
        self._logs = dict(keep)
