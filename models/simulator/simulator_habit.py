"""How a shop prices without us: cost plus a margin, looked at once a week.

Once a week, each product on its own weekday, the price is set to

    cost * markup * exp(0.3 ln((sold + 1) / (usual + 1)) + e),   e ~ normal(0, 0.04)

at most 8 % from the price before: dearer after a good week, so that prices follow demand that no
event explains (the endogeneity a demand model must survive), plus a part e that nothing causes.
Where the shop's settings ask for promotions, a product is now and then reduced for a week, which
is told a day ahead as ``promotion_scheduled``: the exogenous part of its price that is known.
"""

import math

import numpy as np

from models.simulator.simulator import Shop
from models.simulator.simulator_customers import DAY_MS

REACTION = 0.3
EXOGENOUS_SD = 0.04
STEP_LN_MAX = 0.08
MARKUP_MIN = 1.03  # over cost, on what the shop keeps
USUAL_MEMORY = 0.8
WEEK_DAYS = 7
PROMOTION_DEPTHS = (0.05, 0.1, 0.15, 0.2)


class CostPlusHabit:
    """The prices a shop that prices by habit publishes; seeded, so repeatable."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self._shop = shop
        self._rng = np.random.default_rng([seed, 1])
        self._promotion_rng = np.random.default_rng([seed, 2])
        self._promotions: dict[int, tuple[int, int, float]] = {}  # product: from, to, depth
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
        now_ms = self._shop.now_ms
        day, in_day_ms = divmod(now_ms - self._start_ms, DAY_MS)
        if in_day_ms == 0 and day > 0:
            due = (self._weekday == day % WEEK_DAYS) & self._shop.listed
            for i in np.flatnonzero(due).tolist():
                self._look_at(i)
            self._plan_promotions(now_ms)
        reduced = {}
        for i, (from_ms, to_ms, depth) in self._promotions.items():
            if from_ms <= now_ms < to_ms:
                sku, truth = self._shop.catalogue.skus[i], self._shop.catalogue
                price_minor = self._prices.get(sku, int(truth.list_price_minor[i]))
                reduced[sku] = max(1, round(price_minor * (1.0 - depth)))
        return self._prices | reduced if reduced else self._prices

    def _plan_promotions(self, now_ms: int) -> None:
        rate, n = self._shop.settings.promotion_rate, len(self._weekday)
        if not rate:
            return
        chance = self._promotion_rng.random(n)
        depth = self._promotion_rng.choice(PROMOTION_DEPTHS, n)
        self._promotions = {i: plan for i, plan in self._promotions.items() if plan[1] > now_ms}
        for i in np.flatnonzero(self._shop.listed & (chance < rate)).tolist():
            if i not in self._promotions:
                from_ms = now_ms + DAY_MS
                plan = (from_ms, from_ms + WEEK_DAYS * DAY_MS, float(depth[i]))
                self._promotions[i] = plan
                self._shop.schedule_promotion(i, *plan)

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
