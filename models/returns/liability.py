"""What open orders may still cost: the return liability, marked to market.

Units of an open cohort that are not back by age a still come back with probability
``R (1 - G(a)) / (1 - R G(a))``, R the return rate at the cohort's own price and circumstances. A
unit that comes back costs the shop what it kept of the price, and the handling, and brings the unit
itself. At 60 days the cohort is closed and nothing is reserved.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice, repeat
from typing import NamedTuple

import numpy as np

from models.returns.maturing import Floats, sales
from models.returns.return_curve import CURVE_EDGE, level_ratio
from models.returns.return_delays import share_by_age
from models.returns.returns import ReturnSnapshot
from schemas.events import DAY_MS
from schemas.learned import ReturnCohort, ReturnLevel

NOON = 0.5  # days


class ReturnCosts(NamedTuple):
    """Money of one returned unit, minor units: price it refers to, and what is lost and saved.

    ``kept_share``: what the shop keeps of a shown price, and loses with it. ``salvage_minor``: what
    the unit is worth when it is back.
    """

    reference_price_minor: int
    kept_share: float
    handling_minor: float
    salvage_minor: float

    def per_unit_minor(self, ln_price: float) -> float:
        """Refund and handling less salvage of a unit that was sold at ln(P / P_ref)."""
        refund = self.kept_share * self.reference_price_minor * math.exp(ln_price)
        return refund + self.handling_minor - self.salvage_minor


class Liability(NamedTuple):
    """Units that could still come back, how many should, and the reserve for them.

    ``reserve_minor`` is rounded to the nearest minor unit, a half to the even one. It is below 0
    where a unit back is worth more than its refund and handling.
    """

    open_units: int
    expected_back_units: float
    reserve_minor: int


class MarkedCohort(NamedTuple):
    """An open cohort and the probability that a unit of it that is not back will come.

    ``sold`` and ``came`` (back) are statistical weights, ``orders`` order lines, ``left`` units.
    ``ln_price`` is ln(P / P_ref) paid, 0 where nothing can come back.
    """

    day: int
    orders: int
    sold: float
    came: float
    left: int
    comes_back: float
    ln_price: float


class OpenOrders(NamedTuple):
    """One product's open cohorts, its return level and its category."""

    cohorts: Collection[ReturnCohort]
    level: ReturnLevel | None
    category: str


def still_comes_back(rate: Floats, share: Floats) -> Floats:
    """Probability that a unit not yet back will come, when ``share`` of returns have come.

    >>> still_comes_back(np.array([0.2, 0.2]), np.array([0.0, 1.0])).tolist()
    [0.2, 0.0]
    """
    found: Floats = rate * (1.0 - share) / (1.0 - rate * share)
    return found


def mark(
    products: Sequence[OpenOrders], snapshot: ReturnSnapshot, now_ms: int
) -> list[list[MarkedCohort]]:
    """Say of each open cohort, by product, what should still come back of it.

    The orders of a cohort count as made at noon of its day. No product sees another.
    """
    held = [cohort for product in products for cohort in product.cohorts]
    if not held:
        return [[] for _ in products]
    counts = [len(product.cohorts) for product in products]
    ratios = np.repeat([level_ratio(product.level) for product in products], counts)
    categories = chain.from_iterable(
        repeat(product.category, count) for product, count in zip(products, counts, strict=True)
    )
    sold_as = sales(held, list(categories))
    rates = np.minimum(snapshot.rates(sold_as) * ratios, 1.0 - CURVE_EDGE)
    days = [cohort.day for cohort in held]
    left = [cohort.units_left for cohort in held]
    share_of_day = {
        day: share_by_age(snapshot.delay_shares, (now_ms - day * DAY_MS) / DAY_MS - NOON)
        for day in dict.fromkeys(days)
    }
    shares = np.array([share_of_day[day] for day in days])
    expected = (np.array(left) > 0) & (shares < 1.0)
    comes_back = np.where(expected, still_comes_back(rates, shares), 0.0)
    ln_price = np.where(expected, sold_as.ln_price, 0.0)
    marked = map(
        MarkedCohort,
        days,
        [len(cohort.lines) for cohort in held],
        [cohort.sold for cohort in held],
        [sum(cohort.returned) for cohort in held],
        left,
        comes_back.tolist(),
        ln_price.tolist(),
    )
    return [list(islice(marked, count)) for count in counts]


def liability(marked: Iterable[MarkedCohort], costs: ReturnCosts) -> Liability:
    """Mark the open cohorts of one product to market; their order has no effect."""
    units, backs, reserves = 0, [], []
    for cohort in marked:
        units += cohort.left
        if cohort.comes_back > 0.0:
            back = cohort.left * cohort.comes_back
            backs.append(back)
            reserves.append(back * costs.per_unit_minor(cohort.ln_price))
    return Liability(units, math.fsum(backs), round(math.fsum(reserves)))
