"""The light model's arithmetic: what it looks at, and how its answer is polished.

A small network, distilled from the full search, says about where a row's objective is highest. It
looks at closed forms of the row alone. Two Newton steps on the objective itself, written here once
more in plain floats, take that to within some hundredths of a percent; how long the last step was
tells whether it did, and if not the full engine is asked.

The features count money in break-even prices and units in a horizon's demand, so what they say does
not depend on the currency or the size of a shop.
"""

import math
from typing import NamedTuple

from models.kernel.objective import (
    RIVAL_WIDTH,
    SMALL_STOCK_UNITS_MAX,
    STOCK_UNITS_MIN,
    Row,
)
from models.returns.logistic import sigmoid

FEATURES_VERSION = 1  # raised with every change of what `features` gives
FEATURES = (
    "anchor", "clearing", "log_demand_over_stock", "limited", "log_break_even", "elasticity",
    "log_demand", "log_stock", "horizon_days", "doubt", "doubt_above", "doubt_below",
    "risk_aversion", "return_rate", "return_slope", "return_cost", "return_rate_sd", "rival_omega",
    "over_rival", "volatility", "stock_over_target", "holding", "continuation",
)  # fmt: skip
ELASTICITY_MAX = -1.02  # of the anchor: the Lerner price of a less elastic one is far away
ANCHOR_STEPS = 4
STEPS = ((0.03, 0.15), (0.01, 0.05))  # width of the differences and longest step, both in log price
LAST_STEP_MAX = 0.004  # longer: the steps have not come to rest, and the answer is not used
LOG_RATIO_MAX = 6.0


class Best(NamedTuple):
    """A best price, normalised, and how far the last step went, in log price."""

    price: float
    last_step: float


def is_covered(row: Row) -> bool:
    """Whether the light model is made for such rows: profit, and no partners in a family."""
    weights = (row.price_weight, row.cost_weight, row.unit_weight)
    partners = row.partner_profit_up, row.partner_profit_down
    return weights == (1.0, 1.0, 0.0) and partners == (0.0, 0.0) and row.return_linear == 0.0


# -- what the network looks at


def features(row: Row) -> tuple[float, ...]:
    """The row in closed forms, in the order of `FEATURES`; the first is the anchor, a log price."""
    anchor = anchor_of(row)
    limited = row.unlimited < 0.5
    log_demand = math.log(row.demand_per_day * row.horizon_days)
    log_stock = math.log(max(row.stock, 0.3))
    elasticity = min(row.elasticity, ELASTICITY_MAX)
    clearing = (log_demand - log_stock) / -elasticity
    cost = row.unit_cost
    doubt = doubt_at(anchor, row)
    return (
        anchor,
        _within(clearing, 1.5) if limited else 0.0,
        _within(log_demand + elasticity * anchor - log_stock) if limited else -LOG_RATIO_MAX,
        1.0 if limited else 0.0,
        math.log(cost / row.kept_share),
        elasticity,
        min(max(log_demand, -4.0), 8.0),
        min(max(log_stock, -2.0), 8.0) if limited else 8.0,
        row.horizon_days,
        doubt,
        doubt_at(anchor + 0.2, row) - doubt,
        doubt_at(anchor - 0.2, row) - doubt,
        row.risk_aversion,
        return_rate(anchor, row),
        row.return_log,
        row.return_cost / cost,
        row.return_rate_sd,
        row.rival_omega,
        anchor - math.log(row.rival_price) - row.rival_tau,
        row.demand_volatility,
        min(row.stock / row.target_leftover, 20.0) if limited else 0.0,
        row.holding_cost_per_day * row.horizon_days / cost,
        row.continuation_value / cost,
    )


def anchor_of(row: Row) -> float:
    """The best log price with unlimited stock and no risk, nearly: some steps of a fixed point.

    From 1 + e margin / (P margin') = 0 with returns R(P) and the elasticity at the rival's bend:
    P = (e (C (1-R) + c_r R) + P R' (a P - C + c_r)) / (a (1 + e) (1 - R)).
    """
    kept, cost, handling = row.kept_share, row.unit_cost, row.return_cost
    elasticity = min(row.elasticity, ELASTICITY_MAX)
    low, high = math.log(row.lower), math.log(row.upper)
    x = math.log(elasticity / (1.0 + elasticity) * (cost + 0.15 * handling) / kept)
    for _ in range(ANCHOR_STEPS):
        x = min(max(x, low), high)
        price = math.exp(x)
        share = sigmoid(row.return_intercept + row.return_log * x)
        span = row.return_max - row.return_min
        rate, slope = row.return_min + span * share, span * share * (1.0 - share) * row.return_log
        bend = (x - math.log(row.rival_price) - row.rival_tau) / RIVAL_WIDTH
        local = elasticity - row.rival_omega * sigmoid(bend)
        above = local * (cost * (1.0 - rate) + handling * rate)
        above += slope * (kept * price - cost + handling)
        best = above / (kept * (1.0 + local) * max(1.0 - rate, 1e-6))
        x = 0.3 * x + 0.7 * math.log(max(best, 0.5 * price))
    return min(max(x, low), high)


def doubt_at(x: float, row: Row) -> float:
    """tau: the sd of log demand at a log price, of what is not known of level and elasticity."""
    cross = 2.0 * row.level_elasticity_covariance + x * row.elasticity_variance
    return math.sqrt(max(row.level_variance + x * cross, 0.0))


def return_rate(x: float, row: Row) -> float:
    """R at a log price."""
    share = sigmoid(row.return_intercept + row.return_linear * math.exp(x) + row.return_log * x)
    return row.return_min + (row.return_max - row.return_min) * share


def _within(value: float, most: float = LOG_RATIO_MAX) -> float:
    return min(max(value, -most), most)


# -- the objective once more, and its steps


def objective(x: float, row: Row) -> float:
    """Pi at a log price, normalised; ``docs/objective.md`` has the equations. Profit alone."""
    price = math.exp(x)
    bend = (x - math.log(row.rival_price) - row.rival_tau) / RIVAL_WIDTH
    softplus = max(bend, 0.0) + math.log1p(math.exp(-abs(bend)))
    log_mean = math.log(row.demand_per_day * row.horizon_days) + row.elasticity * x
    log_mean -= row.rival_omega * RIVAL_WIDTH * softplus
    mean = math.exp(log_mean)
    dispersion = row.demand_volatility**2 + doubt_at(x, row) ** 2
    rate = return_rate(x, row)
    earned = row.kept_share * price - row.unit_cost
    worth = earned * (1.0 - rate) - row.return_cost * rate
    sales, fill, left, short = mean, 1.0, 0.0, 0.0
    if row.unlimited < 0.5:
        stock = max(row.stock, STOCK_UNITS_MIN)
        sales, fill = _sales(log_mean, mean, stock, dispersion)
        if row.exact_small_stock > 0.5 and stock <= SMALL_STOCK_UNITS_MAX:
            sales = _counted_sales(mean, stock, dispersion)
        left = stock - sales
        short = left - row.target_leftover
    variance = (worth * mean * fill) ** 2 * dispersion
    variance += ((earned + row.return_cost) * sales * row.return_rate_sd) ** 2
    variance += (1e-6 * row.unit_cost) ** 2
    overage = row.unit_cost + row.holding_cost_per_day * row.horizon_days - row.continuation_value
    risk = 0.5 * row.risk_aversion * row.value_volatility**2 * row.horizon_days
    value_risk = risk * row.unit_cost / row.target_leftover
    profit = worth * sales - overage * left - value_risk * short**2
    return profit - row.risk_aversion * math.sqrt(variance)


def _sales(log_mean: float, mean: float, stock: float, dispersion: float) -> tuple[float, float]:
    """E[min(D, q)] of lognormal demand, and N(-d1)."""
    spread = math.sqrt(math.log1p(dispersion + 1.0 / mean))
    d1 = (log_mean - math.log(stock)) / spread + 0.5 * spread
    fill = 0.5 * math.erfc(d1 / math.sqrt(2.0))
    return mean * fill + stock * 0.5 * math.erfc((spread - d1) / math.sqrt(2.0)), fill


def _counted_sales(mean: float, stock: float, dispersion: float) -> float:
    """E[min(D, q)] of negative binomial demand, summed."""
    widened = dispersion * mean
    step, short = mean / (1.0 + widened), 0.0
    for count in range(SMALL_STOCK_UNITS_MAX, 0, -1):
        growth = (step + (count - 1) * dispersion * step) / count
        short = growth * (max(stock - count, 0.0) + short)
    none = math.exp(-mean * (math.log1p(widened) / widened if widened > 0.0 else 1.0))
    return stock - none * (stock + short)


def polished(row: Row, start: float) -> Best | None:
    """The best price near a log price, by Newton steps on differences of the objective.

    None where a number on the way is not finite.
    """
    low, high = math.log(row.lower), math.log(row.upper)
    x, moved = min(max(start, low), high), 0.0
    for width, longest in STEPS:
        try:
            below, here, above = (objective(x + side * width, row) for side in (-1, 0, 1))
        except (OverflowError, ValueError):
            return None
        slope = (above - below) / (2.0 * width)
        curvature = (above - 2.0 * here + below) / width**2
        if not math.isfinite(slope + curvature):
            return None
        step = -slope / curvature if curvature < 0.0 else math.copysign(longest, slope)
        before, x = x, min(max(x + min(max(step, -longest), longest), low), high)
        moved = x - before
    return Best(math.exp(x), abs(moved))
