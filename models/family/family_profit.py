"""What a member of a family earns at given log price and demand: sales from stock, margin.

Log prices are ``x = ln(P / P_ref)``, arrays of shape [..., n] over the members; the leading axes
are as many price vectors as one likes. docs/families.md has the equations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

RIVAL_WIDTH = 0.03  # of the bend at a rival's price, ln price; as in `models.kernel.objective`


class Member(NamedTuple):
    """One product; money over its reference price, except ``weight``, which is that price.

    With a limited stock ``overage`` is what a unit left over costs (C + h T - v) and ``value_risk``
    weighs the square of what is left beside ``target_leftover``.
    """

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
    rival_omega: float = 0.0
    rival_threshold: float = 0.0  # ln P/P_ref at which the rival's term bends
    horizon_days: float = 1.0
    stock: float = np.inf  # units that the horizon can sell, above 0
    demand_volatility: float = 0.0  # coefficient of variation over the horizon
    overage: float = 0.0
    value_risk: float = 0.0
    target_leftover: float = 0.0


def as_columns(members: Sequence[Member]) -> Member:
    """The members as one record of arrays [n]."""
    return Member._make(np.array(members, dtype=np.float64).T)


def stand(columns: Member) -> Member:
    """The columns as [n, 1], to meet a grid [n, k]."""
    return Member._make(np.asarray(column)[:, None] for column in columns)


def take(columns: Member, chosen: Indices) -> Member:
    """The columns of some members."""
    return Member._make(np.asarray(column)[chosen] for column in columns)


def own_log(columns: Member, x: Floats) -> Floats:
    """``eps x - omega g(x)``: what the own price does to ln demand."""
    bend = np.logaddexp(0.0, (x - columns.rival_threshold) / RIVAL_WIDTH)
    return np.asarray(columns.elasticity * x - columns.rival_omega * RIVAL_WIDTH * bend)


def own_slope(columns: Member, x: Floats) -> Floats:
    """The own elasticity, steeper above the rival's threshold."""
    share = special.expit((x - columns.rival_threshold) / RIVAL_WIDTH)
    return np.asarray(columns.elasticity - columns.rival_omega * share)


class _Margin(NamedTuple):
    """Margin per unit over the reference price, and its slope by ln price."""

    margin: Floats
    slope: Floats


def margin(columns: Member, x: Floats) -> _Margin:
    """``m = (a P - C)(1 - R) - c_r R`` [..., n], and dm / d ln P."""
    kept = columns.kept_share * np.exp(x)
    earned = kept - columns.unit_cost
    share = special.expit(columns.return_intercept + columns.return_log * x)
    span = columns.return_max - columns.return_min
    rate = columns.return_min + span * share
    rate_slope = span * share * (1.0 - share) * columns.return_log
    found = earned * (1.0 - rate) - columns.return_cost * rate
    return _Margin(found, kept * (1.0 - rate) - (earned + columns.return_cost) * rate_slope)


class _Sales(NamedTuple):
    """Units sold over the horizon, and their slope by ln demand."""

    units: Floats
    slope: Floats


def sales(columns: Member, u: Floats) -> _Sales:
    """``S = E[min(D, q)]`` for lognormal demand of mean e^u and log sd ``s``; dS/du = Q N(-d1).

    ``s^2 = ln(1 + sigma^2 + 1/q)``: as wide as at Q = q, where it matters, so that it does not
    move with the price.
    """
    demand = np.exp(u)
    limited = np.isfinite(columns.stock)
    if not limited.any():
        return _Sales(demand, demand)
    stock = np.where(limited, columns.stock, 1.0)
    spread = np.sqrt(np.log1p(np.square(columns.demand_volatility) + 1.0 / stock))
    d1 = (u - np.log(stock)) / spread + 0.5 * spread
    filled = demand * special.ndtr(-d1)
    units = filled + stock * special.ndtr(d1 - spread)
    return _Sales(np.where(limited, units, demand), np.where(limited, filled, demand))


class Earned(NamedTuple):
    """Each member's profit a day in minor units, and its slopes.

    ``by_price`` is by the own ln price with demand held, ``by_demand`` by ln demand: what a member
    earns more per relative rise of its demand, of which it sells what stock allows.
    """

    profit: Floats
    by_price: Floats
    by_demand: Floats


def earned(columns: Member, x: Floats, u: Floats) -> Earned:
    """Profit at log prices x and ln demand u, [..., n]."""
    per_day = columns.weight / np.asarray(columns.horizon_days)
    worth, sold = margin(columns, x), sales(columns, u)
    stock = np.where(np.isfinite(columns.stock), columns.stock, 0.0)
    off = np.where(np.isfinite(columns.stock), stock - sold.units - columns.target_leftover, 0.0)
    gain = worth.margin + columns.overage
    profit = gain * sold.units - columns.overage * stock - columns.value_risk * off * off
    by_demand = (gain + 2.0 * columns.value_risk * off) * sold.slope
    return Earned(per_day * profit, per_day * worth.slope * sold.units, per_day * by_demand)
