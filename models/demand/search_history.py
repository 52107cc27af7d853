"""Searches by product and day, a leading indicator: what visitors look for, they may buy.

The signal of an epoch is ln of the searches of the three whole days before it begins, over what
three days usually bring. It is known when the epoch begins, and 0 where nothing is.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.demand.history import Episodes
from schemas.events import DAY_MS, TrafficCounted, time_ms

Floats = NDArray[np.float64]

LEAD_DAYS = 3
USUAL_DAYS = 28  # before those
DAYS_MAX = 400  # kept of a product, the last ones


class SearchHistory:
    """Collects counts of searches; a report counts on the day in which it ends."""

    def __init__(self) -> None:
        self._by_sku: dict[str, dict[int, int]] = {}

    def add(self, event: TrafficCounted) -> None:
        """Note one report; one without searches says nothing."""
        if event.searches is None:
            return
        days = self._by_sku.setdefault(event.sku, {})
        day = (time_ms(event.to_time) - 1) // DAY_MS
        days[day] = days.get(day, 0) + event.searches
        if len(days) > DAYS_MAX:
            del days[min(days)]

    def signals(self, episodes: Episodes) -> Floats | None:
        """The signal [product, epoch, 1]; None where no product has searches.

        An epoch begins where the product's epoch before it ended; the first one's beginning is not
        known to a traffic feed, so it has none.
        """
        if not any(sku in self._by_sku for sku in episodes.skus):
            return None
        found = np.zeros((*episodes.orders.shape, 1))
        for row, sku in enumerate(episodes.skus):
            days = self._by_sku.get(sku)
            if days is None:
                continue
            for epoch in range(1, episodes.orders.shape[1]):
                if episodes.exposure_days[row, epoch] > 0.0:
                    begun = math.floor(episodes.end_days[row, epoch - 1])
                    found[row, epoch, 0] = _signal(days, begun)
        return found


def _signal(days: dict[int, int], begun: int) -> float:
    """Ln of the mean searches a day of the last days over the usual; 0 where either is unknown."""
    recent = [days[day] for day in range(begun - LEAD_DAYS, begun) if day in days]
    first = begun - LEAD_DAYS - USUAL_DAYS
    usual = [days[day] for day in range(first, begun - LEAD_DAYS) if day in days]
    if not recent or not usual:
        return 0.0
    # a search is added to each sum, so that a quiet product has a logarithm
    return math.log((sum(recent) + 1.0) / len(recent)) - math.log((sum(usual) + 1.0) / len(usual))
