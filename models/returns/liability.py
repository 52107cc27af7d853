"""What open orders may still cost: the return liability, marked to market.

Units of an open cohort that are not back by age a still come back with probability
``R (1 - G(a)) / (1 - R G(a))``, R the return rate at the cohort's own price and circumstances. A
unit that comes back costs the shop what it kept of the price, and the handling, and brings the unit
itself. At 60 days the cohort is closed and nothing is reserved.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.returns.maturing import Floats, sales
from models.returns.open_cohorts import Cohorts
from models.returns.return_curve import CURVE_EDGE, level_ratio
from models.returns.return_delays import shares_by_age
from models.returns.returns import ReturnSnapshot
from models.returns.toxicity import NONE_YET, Toxicity, sides, toxicity
from schemas.events import DAY_MS
from schemas.learned import ReturnLevel
from schemas.state import PriceMove

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


class Liability(NamedTuple):
    """Units that could still come back, how many should, and the reserve for them.

    ``reserve_minor`` is rounded to the nearest minor unit, a half to the even one. It is below 0
    where a unit back is worth more than its refund and handling.
    """

    open_units: int
    expected_back_units: float
    reserve_minor: int


class Owner(NamedTuple):
    """What marking needs of a product: its return level and category, when it is marked, and the
    last move of the price that buyers see."""

    level: ReturnLevel | None
    category: str
    now_ms: int
    move: PriceMove | None


class Marked(NamedTuple):
    """A product's open cohorts, marked: units not back, how many of them should still come, and
    those weighted by the P / P_ref that was paid."""

    open_units: int
    back_units: float
    back_at_price: float
    flow: Toxicity


NONE_OPEN = Marked(0, 0.0, 0.0, NONE_YET)


def still_comes_back(rate: Floats, share: Floats) -> Floats:
    """Probability that a unit not yet back will come, when ``share`` of returns have come.

    >>> still_comes_back(np.array([0.2, 0.2]), np.array([0.0, 1.0])).tolist()
    [0.2, 0.0]
    """
    found: Floats = rate * (1.0 - share) / (1.0 - rate * share)
    return found


def mark(cohorts: Cohorts, owners: Sequence[Owner], snapshot: ReturnSnapshot) -> list[Marked]:
    """Say of the open cohorts of some products what should still come back of them.

    The orders of a cohort count as made at noon of its day. No product sees another.

    Parameters
    ----------
    cohorts : of the products, ``owners`` in the order of theirs
    """
    found = [NONE_OPEN] * len(owners)
    if not len(cohorts.owner):
        return found
    ratios = np.array([level_ratio(owner.level) for owner in owners])[cohorts.owner]
    now_days: Floats = np.array([owner.now_ms / DAY_MS for owner in owners])[cohorts.owner]
    sold_as = sales(cohorts, [owner.category for owner in owners])
    rates = np.minimum(snapshot.rates(sold_as) * ratios, 1.0 - CURVE_EDGE)
    shares = shares_by_age(snapshot.delay_shares, now_days - NOON - cohorts.day)
    comes_back = np.where(cohorts.left > 0.0, still_comes_back(rates, shares), 0.0)
    back = cohorts.left * comes_back
    starts = cohorts.starts()
    columns = [cohorts.left, back, back * np.exp(sold_as.ln_price)]
    columns += sides(cohorts, [owner.move for owner in owners], comes_back)
    sums = np.add.reduceat(np.stack(columns), starts, axis=1)
    for place, numbers in zip(cohorts.owner[starts].tolist(), sums.T.tolist(), strict=True):
        left, back_units, at_price, *flow = numbers
        known = owners[place].move is not None
        found[place] = Marked(
            round(left), back_units, at_price, toxicity(*flow) if known else NONE_YET
        )
    return found


def liability(marked: Marked, costs: ReturnCosts) -> Liability:
    """The reserve for what should still come back of one product."""
    refund = costs.kept_share * costs.reference_price_minor * marked.back_at_price
    rest = (costs.handling_minor - costs.salvage_minor) * marked.back_units
    return Liability(marked.open_units, marked.back_units, round(refund + rest))
