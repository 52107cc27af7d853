"""How a shop prices without us: cost plus a margin, looked at once a week.

Once a week, each product on its own weekday, the price is set to

    cost * markup * exp(0.3 ln((sold + 1) / (usual + 1)) + e),   e ~ normal(0, 0.04)

at most 8 % from the price before: dearer after a good week, so that prices follow demand that no
event explains (the endogeneity a demand model must survive), plus a part e that nothing causes.
"""

import math

import numpy as np

from models.simulator import Shop
from models.simulator_customers import DAY_MS

REACTION = 0.3
EXOGENOUS_SD = 0.04
STEP_LN_MAX = 0.08
MARKUP_MIN = 1.03  # over cost, on what the shop keeps
USUAL_MEMORY = 0.8
WEEK_DAYS = 7


class CostPlusHabit:
    """The prices a shop that prices by habit publishes; seeded, so repeatable."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._shop = shop
        self._rng = np.random.default_rng([seed, 1])
        truth = shop.catalogue
        n = len(truth.skus)
        self._start_ms = shop.now_ms
        self._weekday = self._rng.integers(WEEK_DAYS, size=n)
        self._markup = truth.list_price_minor / truth.first_cost_minor
        self._usual = truth.demand_rate_per_day * truth.units_per_order * WEEK_DAYS
        self._sold_before = np.zeros(n, np.int64)
        self._prices: dict[str, int] = {}

    def prices(self) -> dict[str, int]:
        """The prices for the shop's next step, minor units by SKU."""
        day, in_day_ms = divmod(self._shop.now_ms - self._start_ms, DAY_MS)
        if in_day_ms == 0 and day > 0:
            due = (self._weekday == day % WEEK_DAYS) & self._shop.listed
            for i in np.flatnonzero(due).tolist():
                self._look_at(i)
        return self._prices

    def _look_at(self, i: int) -> None:
        shop = self._shop
        truth = shop.catalogue
        sold = int(shop.units_sold[i] - self._sold_before[i])
        self._sold_before[i] = shop.units_sold[i]
        surprise = math.log((sold + 1) / (self._usual[i] + 1))
        self._usual[i] = USUAL_MEMORY * self._usual[i] + (1 - USUAL_MEMORY) * sold
        cost_minor = float(shop.cost_minor[i])
        exogenous = float(self._rng.normal(0, EXOGENOUS_SD))
        wanted = cost_minor * self._markup[i] * math.exp(REACTION * surprise + exogenous)
        sku = truth.skus[i]
        before = self._prices.get(sku, int(truth.list_price_minor[i]))
        step = min(max(math.log(wanted / before), -STEP_LN_MAX), STEP_LN_MAX)
        floor_minor = MARKUP_MIN * cost_minor / shop.settings.kept_share
        self._prices[sku] = math.ceil(max(before * math.exp(step), floor_minor))
