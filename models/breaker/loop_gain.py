"""Loop gain: how much of our own price move comes back to us through a rival that follows.

We answer a rival's move by ``d ln P / d ln P_c``, the rival answers ours by kappa
(`models.demand.following`). Where the product of the two nears 1, prices run away from each other's
echo: with gain 1 and a constant mark-up two sellers priced a book of flies at $23.7 million (M.
Eisen 2011, Amazon's $23,698,655.93 book about flies).

Our answer at an interior optimum follows from the first-order condition ``1 + e m = 0``, with
``e = eps - omega s``, ``s = sigmoid((ln P/P_c - tau)/0.03)`` and m the margin over the price:

    d ln P / d ln P_c = omega s' m / (omega s' m + |e| (1 - m)),   s' = s (1 - s)/0.03

A price that an index guard sets follows the rival one to one.
"""

import math

from models.fold.partition import PartitionState
from models.kernel.objective import RIVAL_WIDTH
from models.pricing.path import PricePath
from models.pricing.pose import Posed

INDEX_GUARDS = ("competitor_floor", "competitor_ceiling")
EXPONENT_MAX = 500.0


def response(
    ln_price_ratio: float, elasticity: float, omega: float, tau: float, margin: float
) -> float:
    """Our answer ``d ln P / d ln P_c`` to a rival's move, 0 to 1.

    Parameters
    ----------
    ln_price_ratio : ln(P / P_c)
    elasticity : own, without the rival's threshold, below 0
    omega, tau : sensitivity to a dearer price, and from where on
    margin : (a P - cost of a sale) / (a P), 0 to 1

    >>> round(response(0.03, -2.5, 2.0, 0.03, 0.3), 3)
    0.671
    >>> response(0.03, -2.5, 0.0, 0.03, 0.3)
    0.0
    """
    z = min(max((ln_price_ratio - tau) / RIVAL_WIDTH, -EXPONENT_MAX), EXPONENT_MAX)
    share = 1.0 / (1.0 + math.exp(-z))
    pull = omega * share * (1.0 - share) / RIVAL_WIDTH * min(max(margin, 0.0), 1.0)
    if pull <= 0.0:
        return 0.0
    hold = (abs(elasticity) + omega * share) * (1.0 - min(max(margin, 0.0), 1.0))
    return pull / (pull + hold)


def loop_gain(
    partition: PartitionState, posed: Posed, path: PricePath, chosen_minor: int, return_rate: float
) -> float | None:
    """Our answer times the rivals' follow rate; None without a rival or a known follow rate.

    Parameters
    ----------
    return_rate : expected at the chosen price
    """
    effects = partition.effects.get(posed.entry.category)
    rival_minor = posed.rivals.robust_minor
    if effects is None or rival_minor is None or effects.follow_rate.used <= 0.0:
        return None
    if any(move.guard in INDEX_GUARDS for move in path.moves[-1:]):
        return effects.follow_rate.used
    kept_minor = chosen_minor * posed.entry.kept_share
    back = min(max(return_rate, 0.0), 0.999)
    cost_minor = posed.unit_cost_minor + posed.handling_minor * back / (1.0 - back)
    row = posed.full
    answer = response(
        math.log(chosen_minor / rival_minor),
        row.elasticity,
        row.rival_omega,
        row.rival_tau,
        1.0 - cost_minor / kept_minor,
    )
    return answer * effects.follow_rate.used
