"""The adaptive step: as far as the risk allows that a watched indicator falls too much.

From the present price P a step to ``P exp(d)`` multiplies an indicator by ``exp(a d) f(d)``, where
the slope a of its log is normal in the belief, with mean ``mu`` and standard deviation s. It falls
by more than its tolerance t with a probability of at most p where, with ``z = N^-1(1 - p)``,

    mu d - z s |d| + ln f(d) >= ln(1 - t)

==================  ============================  ===============================================
indicator           a                             f(d)
==================  ============================  ===============================================
units, conversion   eps                           1 (a price does not move the visits)
stock_cover         -eps                          1 (the cover falls as sales rise)
category_revenue    1 + eps                       1, with t over the product's share of the
                                                  family's expected revenue
margin              0                             m(P exp(d)) / m(P), per unit after returns
profit              eps                           m(P exp(d)) / m(P)
==================  ============================  ===============================================

Where f is 1 the longest step is ``ln(1 - t) / (+-mu - z s)``, and any step where that divisor is
not below 0. Else the first d that breaks the inequality is found on a grid and halved. eps is the
local elasticity at P: own, and what the rival's bend adds. Margin and profit say nothing where the
present margin is not above 0, stock cover where no stock is limited.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

from models.kernel.objective import RIVAL_WIDTH, Row
from schemas.policy import AdaptiveStep

GRID, HALVINGS = 32, 40


class Steps(NamedTuple):
    """The longest ln steps down and up, both at least 0; inf: not limited."""

    down: float
    up: float


def longest(
    policy: AdaptiveStep, row: Row, price: float, revenue_share: float, reach: Steps
) -> Steps:
    """The longest steps from a price that all watched indicators allow.

    Parameters
    ----------
    price : present price over the reference price
    revenue_share : the product's part of its family's expected revenue, above 0 and at most 1
    reach : steps beyond which nobody looks, since other guards end before
    """
    z = NormalDist().inv_cdf(1.0 - policy.probability_max)
    spread = z * math.sqrt(max(row.elasticity_variance, 0.0))
    eps = local_elasticity(row, price)
    down, up = math.inf, math.inf
    for name in sorted(policy.tolerances):
        tolerance = policy.tolerances[name]
        if name in ("margin", "profit"):
            slope, doubt = (eps, spread) if name == "profit" else (0.0, 0.0)
            found = _by_margin(row, price, slope, doubt, math.log1p(-tolerance), reach)
        elif name == "stock_cover" and row.unlimited > 0.5:
            continue
        elif name == "category_revenue":
            found = _closed(1.0 + eps, spread, tolerance / revenue_share)
        else:
            found = _closed(-eps if name == "stock_cover" else eps, spread, tolerance)
        down, up = min(down, found.down), min(up, found.up)
    return Steps(down, up)


def local_elasticity(row: Row, price: float) -> float:
    """d ln units / d ln price at a price over the reference price."""
    bend = (math.log(price / row.rival_price) - row.rival_tau) / RIVAL_WIDTH
    return row.elasticity - row.rival_omega * 0.5 * (1.0 + math.tanh(0.5 * bend))


def _closed(slope: float, spread: float, tolerance: float) -> Steps:
    if tolerance >= 1.0:
        return Steps(math.inf, math.inf)
    limit = math.log1p(-tolerance)
    return Steps(_length(limit, -slope - spread), _length(limit, slope - spread))


def _length(limit: float, slope: float) -> float:
    return math.inf if slope >= 0.0 else limit / slope


def _by_margin(
    row: Row, price: float, slope: float, spread: float, limit: float, reach: Steps
) -> Steps:
    present = _margin(row, price)
    if present <= 0.0:
        return Steps(math.inf, math.inf)

    def holds(step: float) -> bool:
        margin = _margin(row, price * math.exp(step))
        if margin <= 0.0:
            return False
        gained = slope * step - spread * abs(step) + math.log(margin / present)
        return gained >= limit

    return Steps(_first_break(holds, -reach.down), _first_break(holds, reach.up))


def _first_break(holds: Callable[[float], bool], reach: float) -> float:
    """The length of the longest step towards ``reach`` before which nothing breaks."""
    for cell in range(1, GRID + 1):
        if holds(reach * cell / GRID):
            continue
        good, bad = reach * (cell - 1) / GRID, reach * cell / GRID
        for _ in range(HALVINGS):
            middle = 0.5 * (good + bad)
            good, bad = (middle, bad) if holds(middle) else (good, middle)
        return abs(good)
    return math.inf


def _margin(row: Row, price: float) -> float:
    """Margin per unit sold, after returns: the objective's m."""
    score = row.return_intercept + row.return_linear * price + row.return_log * math.log(price)
    sigmoid = 0.5 * (1.0 + math.tanh(0.5 * score))
    rate = row.return_min + (row.return_max - row.return_min) * sigmoid
    return (row.kept_share * price - row.unit_cost) * (1.0 - rate) - row.return_cost * rate
