"""What open orders may still cost: the return liability, marked to market.

Units of an open cohort that are not back by age a still come back with probability
``R (1 - G(a)) / (1 - R G(a))``, R the return rate at the cohort's own price and circumstances. A
unit that comes back costs the shop what it kept of the price, and the handling, and brings the unit
itself. At 60 days the cohort is closed and nothing is reserved.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from models.returns import cohorts
from models.returns.return_curve import bounded_rate, level_ratio
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


def still_comes_back(rate: float, share: float) -> float:
    """Probability that a unit not yet back will come, when ``share`` of returns have come.

    >>> still_comes_back(0.2, 0.0), still_comes_back(0.2, 1.0)
    (0.2, 0.0)
    """
    return rate * (1.0 - share) / (1.0 - rate * share)


def mark(
    open_cohorts: Iterable[ReturnCohort],
    snapshot: ReturnSnapshot,
    level: ReturnLevel | None,
    category: str,
    now_ms: int,
) -> list[MarkedCohort]:
    """Say of each open cohort of one product what should still come back of it.

    The orders of a cohort count as made at noon of its day.
    """
    ratio, shares = level_ratio(level), snapshot.delay_shares
    share_of_day: dict[int, float] = {}  # segments share their days
    marked = []
    for cohort in open_cohorts:
        left, day = cohort.units_left, cohort.day
        share = share_of_day.get(day)
        if share is None:
            age_days = (now_ms - day * DAY_MS) / DAY_MS - NOON
            share = share_of_day[day] = share_by_age(shares, age_days)
        ln_price = comes_back = 0.0
        if left > 0 and share < 1.0:
            sold_as = cohorts.sale(cohort, category)
            ln_price = sold_as.ln_price
            comes_back = still_comes_back(bounded_rate(snapshot, ratio, sold_as), share)
        marked.append(
            MarkedCohort(
                day, len(cohort.lines), cohort.sold, sum(cohort.returned), left,
                comes_back, ln_price,
            )
        )  # fmt: skip
    return marked


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
