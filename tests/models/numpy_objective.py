"""The objective written a second time, in plain float64 numpy and scipy, to test the kernels by.

It shares no code with the kernels: the formulas come from ``docs/objective.md``, the normal
distribution is that of the C library, the negative binomial is written with gamma functions. Money
is in minor units, not normalised.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln

RIVAL_WIDTH = 0.03


@dataclass(frozen=True)
class Problem:
    """One problem in minor units."""

    cost: float
    return_cost: float
    reference_price: float
    horizon_days: float
    demand_per_day: float
    elasticity: float
    demand_volatility: float
    stock: float | None
    holding_cost_per_day: float
    continuation_value: float
    risk_aversion: float
    kept_share: float
    elasticity_sd: float
    level_sd: float
    return_rate_sd: float
    target_leftover: float
    value_volatility: float
    return_min: float
    return_max: float
    return_intercept: float = 0.0
    return_per_minor: float = 0.0
    return_per_log: float = 0.0
    correlation: float = 0.0
    rival_price: float = 1.0
    rival_omega: float = 0.0
    rival_tau: float = 0.0
    level_shift: float = 0.0
    exact: bool = False
    partner_profit_up: float = 0.0
    partner_elasticity_up: float = 0.0
    partner_profit_down: float = 0.0
    partner_elasticity_down: float = 0.0
    price_weight: float = 1.0
    cost_weight: float = 1.0
    unit_weight: float = 0.0


def return_rate(p: Problem, price: float) -> float:
    """R(P)."""
    log_price = math.log(price / p.reference_price)
    score = p.return_intercept + p.return_per_minor * price + p.return_per_log * log_price
    return p.return_min + (p.return_max - p.return_min) / (1.0 + math.exp(-score))


def mean_demand(p: Problem, price: float) -> float:
    """Q(P), units over the horizon."""
    log_price = math.log(price / p.reference_price)
    bend = np.logaddexp(0.0, (math.log(price / p.rival_price) - p.rival_tau) / RIVAL_WIDTH)
    return (
        p.demand_per_day
        * p.horizon_days
        * math.exp(p.level_shift + p.elasticity * log_price - p.rival_omega * RIVAL_WIDTH * bend)
    )


def dispersion(p: Problem, price: float) -> float:
    """sigma^2 + tau^2."""
    log_price = math.log(price / p.reference_price)
    covariance = p.correlation * p.level_sd * p.elasticity_sd
    tau2 = p.level_sd**2 + 2.0 * covariance * log_price + (p.elasticity_sd * log_price) ** 2
    return p.demand_volatility**2 + tau2


def sales_and_fill(p: Problem, price: float) -> tuple[float, float]:
    """S and N(-d1)."""
    mean, q = mean_demand(p, price), p.stock
    if q is None:
        return mean, 1.0
    s = math.sqrt(math.log1p(dispersion(p, price) + 1.0 / mean))
    d1 = (math.log(mean / q) + s * s / 2.0) / s
    fill = normal_cdf(-d1)
    if p.exact and q <= 8:
        return exact_sales(mean, dispersion(p, price), q), fill
    return mean * fill + q * normal_cdf(d1 - s), fill


def exact_sales(mean: float, phi: float, q: float) -> float:
    """E[min(D, q)] for negative-binomial (phi > 0) or Poisson demand."""
    k = np.arange(0, math.ceil(q) + 1)
    if phi == 0.0:
        log_chance = k * math.log(mean) - mean - gammaln(k + 1)
    else:
        r, p = 1.0 / phi, 1.0 / (1.0 + phi * mean)
        choose = gammaln(k + r) - gammaln(k + 1) - gammaln(r)
        log_chance = choose + r * math.log(p) + k * math.log1p(-p)
    return q - float(np.sum(np.maximum(q - k, 0.0) * np.exp(log_chance)))


def normal_cdf(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def partners(p: Problem, price: float) -> float:
    """What partners of the family earn over the horizon, minor units."""
    ratio = price / p.reference_price
    up = p.partner_profit_up * ratio**p.partner_elasticity_up
    return p.horizon_days * (up + p.partner_profit_down * ratio**p.partner_elasticity_down)


def objective(p: Problem, price: float) -> float:
    """Pi(P) in minor units."""
    rate = return_rate(p, price)
    kept_unit = p.price_weight * p.kept_share * price + (p.unit_weight - p.cost_weight) * p.cost
    handling = p.cost_weight * p.return_cost
    margin = kept_unit * (1.0 - rate) - handling * rate
    mean = mean_demand(p, price)
    sales, fill = sales_and_fill(p, price)
    variance = (
        (margin * mean * fill) ** 2 * dispersion(p, price)
        + ((kept_unit + handling) * sales) ** 2 * p.return_rate_sd**2
        + (1e-6 * p.cost) ** 2
    )
    profit = margin * sales - p.risk_aversion * math.sqrt(variance) + partners(p, price)
    if p.stock is None:
        return profit
    left = p.stock - sales
    overage = p.cost + p.holding_cost_per_day * p.horizon_days - p.continuation_value
    overage *= p.cost_weight
    target = p.target_leftover
    spread = p.value_volatility**2 * p.horizon_days * p.cost * (left - target) ** 2 / target
    return profit - overage * left - 0.5 * p.risk_aversion * spread


def expected_profit(p: Problem, price: float) -> float:
    """The own profit before the risk terms, whatever is maximised."""
    alone = replace(p, partner_profit_up=0.0, partner_profit_down=0.0, risk_aversion=0.0)
    return objective(replace(alone, price_weight=1.0, cost_weight=1.0, unit_weight=0.0), price)


def greek(p: Problem, price: float, names: tuple[str, ...]) -> float:
    """A derivative by central differences; ``names`` are fields of Problem, or "price".

    "cost_with_shares" moves holding cost and continuation value with the cost; "log_rival" is the
    log of the rival's price.
    One name is a first derivative (Richardson's extrapolation of two widths), two a second one.
    """
    if len(names) == 1:
        wide, narrow = (_first(p, price, names[0], step) for step in (2e-4, 1e-4))
        return (4.0 * narrow - wide) / 3.0
    wide, narrow = (_second(p, price, names, step) for step in (2e-3, 1e-3))
    return (4.0 * narrow - wide) / 3.0


def _bumped(p: Problem, price: float, bumps: dict[str, float]) -> float:
    known = bumps.keys() - {"price", "cost_with_shares", "log_rival"}
    moved = replace(p, **{name: getattr(p, name) + bumps[name] for name in known})
    growth = 1.0 + bumps.get("cost_with_shares", 0.0) / p.cost
    moved = replace(
        moved,
        cost=moved.cost * growth,
        holding_cost_per_day=moved.holding_cost_per_day * growth,
        continuation_value=moved.continuation_value * growth,
        rival_price=moved.rival_price * math.exp(bumps.get("log_rival", 0.0)),
    )
    return objective(moved, price + bumps.get("price", 0.0))


def _width(p: Problem, price: float, name: str, step: float) -> float:
    return step * size(p, price, name)


def size(p: Problem, price: float, name: str) -> float:
    """The size of what is bumped, as a unit of its bumps; 1 for what is a logarithm or logit."""
    if name in ("level_shift", "log_rival", "return_intercept"):
        return 1.0
    if name == "cost_with_shares":
        return p.cost
    return abs(price if name == "price" else getattr(p, name))


def _first(p: Problem, price: float, name: str, step: float) -> float:
    h = _width(p, price, name, step)
    return (_bumped(p, price, {name: h}) - _bumped(p, price, {name: -h})) / (2.0 * h)


def _second(p: Problem, price: float, names: tuple[str, ...], step: float) -> float:
    one, two = names
    h, k = _width(p, price, one, step), _width(p, price, two, step)
    if one == two:
        middle = 2.0 * _bumped(p, price, {})
        return (_bumped(p, price, {one: h}) - middle + _bumped(p, price, {one: -h})) / (h * h)
    corners = [
        sign * _bumped(p, price, {one: a * h, two: b * k})
        for a, b, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    ]
    return sum(corners) / (4.0 * h * k)
