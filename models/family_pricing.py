"""The prices of a family, chosen together: projected Newton on the sum of its members' profits.

With demand ``Q_i = q_i exp(eps_i x_i + sum_j C_ij (x_j - x_j now))``, ``x = ln P/P_ref`` and margin
``m_i(x_i)``, a family earns ``Pi(x) = sum_i w_i Q_i m_i`` a day. A price moves its partners' sales,
so a product that sells others is worth more than its own margin. All arrays are over the members,
[n]; the cross elasticities are [n, n], row i for the demand of i.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STARTS_LOG = (0.0, -0.25, 0.25)
SOLO_POINTS = 129
NEWTON_STEPS_MAX = 60
STEP_LOG = 1e-10  # a step this small ends the climb
HALVINGS_MAX = 40


class Member(NamedTuple):
    """One product; money over its reference price, except ``weight``, which is that price."""

    weight: float  # minor units of the family's currency, above 0
    demand_per_day: float  # units at the reference price, partners at their present prices
    elasticity: float
    unit_cost: float
    return_cost: float
    kept_share: float
    return_min: float  # R = min + (max - min) sigmoid(intercept + log x)
    return_max: float
    return_intercept: float
    return_log: float
    ln_price: float  # now
    low: float  # bounds of ln P/P_ref
    high: float


class Joint(NamedTuple):
    """The family's optimum.

    ``ln_price`` [n], ln P/P_ref; ``alone`` [n], where each would stand by itself; ``partner_slope``
    [n], what partners earn more per unit of ln price, over the own reference price a day;
    ``cross_gamma`` [n, n], second derivatives of the family's profit, minor units a day.
    """

    ln_price: Floats
    alone: Floats
    partner_slope: Floats
    cross_gamma: Floats
    profit_per_day_minor: float


class _Family(NamedTuple):
    """Members as columns [n], and ``effects`` [n, n] with the own elasticities on its diagonal."""

    columns: Member
    effects: Floats
    offset: Floats  # ln demand at x = 0


class _Local(NamedTuple):
    """Profit of each member [n], slope of its margin times its demand, and second derivatives."""

    profit: Floats
    own: Floats
    gradient: Floats
    hessian: Floats


def joint_optimum(members: Sequence[Member], cross: Floats) -> Joint:
    """Maximise the family's profit over all its prices, within the members' bounds.

    The climb starts at the prices alone and a quarter to either side; the best end is taken. A
    family without cross effects gets the prices alone, to the last bit.

    Parameters
    ----------
    cross : [n, n] d ln units_i / d ln price_j; the diagonal is not read

    Raises
    ------
    ValueError : ``cross`` is not [n, n], or not finite
    """
    n = len(members)
    if cross.shape != (n, n) or not np.isfinite(cross).all():
        raise ValueError(f"cross was of shape {cross.shape}; expected finite numbers, [{n}, {n}]")
    family = _family(members, cross)
    alone = _alone(members)
    columns = family.columns
    low, high = np.asarray(columns.low), np.asarray(columns.high)
    best, best_profit = alone, float(_local(family, alone).profit.sum())
    off_diagonal = family.effects - np.diag(np.diag(family.effects))
    if off_diagonal.any():
        for start in STARTS_LOG:
            x = _climb(family, np.clip(alone + start, low, high), low, high)
            profit = float(_local(family, x).profit.sum())
            if profit > best_profit:
                best, best_profit = x, profit
    local = _local(family, best)
    slope = off_diagonal.T @ local.profit / columns.weight
    return Joint(best, alone, slope, local.hessian, best_profit)


def _family(members: Sequence[Member], cross: Floats) -> _Family:
    columns = Member._make(np.array(members, dtype=np.float64).T)
    effects = np.array(cross, dtype=np.float64)
    np.fill_diagonal(effects, 0.0)
    offset = np.log(columns.demand_per_day) - effects @ np.asarray(columns.ln_price)
    np.fill_diagonal(effects, columns.elasticity)
    return _Family(columns, effects, offset)


def _margin(columns: Member, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Margin per unit over the reference price, and its two derivatives by ln price."""
    kept = columns.kept_share * np.exp(x)
    earned = kept - columns.unit_cost
    share = 1.0 / (1.0 + np.exp(-(columns.return_intercept + columns.return_log * x)))
    span = columns.return_max - columns.return_min
    rate = columns.return_min + span * share
    rate_1 = span * share * (1.0 - share) * columns.return_log
    rate_2 = rate_1 * (1.0 - 2.0 * share) * columns.return_log
    lost = earned + columns.return_cost
    margin = earned * (1.0 - rate) - columns.return_cost * rate
    slope = kept * (1.0 - rate) - lost * rate_1
    return margin, slope, kept * (1.0 - rate) - 2.0 * kept * rate_1 - lost * rate_2


def _local(family: _Family, x: Floats) -> _Local:
    columns, effects = family.columns, family.effects
    sales = columns.weight * np.exp(family.offset + effects @ x)
    margin, slope, bend = _margin(columns, x)
    profit, own = sales * margin, sales * slope
    beside = own[:, None] * effects
    hessian = effects.T @ (profit[:, None] * effects) + beside + beside.T + np.diag(sales * bend)
    return _Local(profit, own, effects.T @ profit + own, hessian)


def _alone(members: Sequence[Member]) -> Floats:
    """Each member's best ln price by itself [n]: a grid, then parabolas around its best point."""
    columns = Member._make(np.array(members, dtype=np.float64).T)
    low, high = np.asarray(columns.low), np.asarray(columns.high)
    for _ in range(4):
        x = low + (high - low) * np.linspace(0.0, 1.0, SOLO_POINTS)[:, None]
        profit = np.exp(columns.elasticity * x) * _margin(columns, x)[0]
        best = np.take_along_axis(x, np.argmax(profit, axis=0)[None, :], axis=0)[0]
        cell = (high - low) / (SOLO_POINTS - 1)
        low, high = np.maximum(best - cell, low), np.minimum(best + cell, high)
    return np.asarray(best)


def _climb(family: _Family, x: Floats, low: Floats, high: Floats) -> Floats:
    """Newton with the cross-gamma, kept within bounds and uphill by halving its step."""
    profit = float(_local(family, x).profit.sum())
    for _ in range(NEWTON_STEPS_MAX):
        at = _local(family, x)
        free = ~(((x <= low) & (at.gradient < 0.0)) | ((x >= high) & (at.gradient > 0.0)))
        if not free.any():
            break
        step = np.zeros_like(x)
        step[free] = _newton_step(at.hessian[np.ix_(free, free)], at.gradient[free])
        for halving in range(HALVINGS_MAX):
            moved = np.clip(x + step * 0.5**halving, low, high)
            higher = float(_local(family, moved).profit.sum())
            if higher > profit:
                break
        else:
            break
        size = float(np.abs(moved - x).max())
        x, profit = moved, higher
        if size < STEP_LOG:
            break
    return x


def _newton_step(hessian: Floats, gradient: Floats) -> Floats:
    """The step to the top of the local parabola; directions that bend upwards count as down."""
    values, vectors = np.linalg.eigh(hessian)
    scale = np.maximum(np.abs(values), 1e-9 * np.abs(values).max())
    return np.asarray(vectors @ ((vectors.T @ gradient) / scale))
