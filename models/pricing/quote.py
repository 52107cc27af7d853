"""The market maker's view of a price: fair value, reservation price, skew, spread, toxicity.

The mapping from Avellaneda and Stoikov (2008) and its limits: ``docs/market-making.md``.
"""

import math

from models.kernel.tile import Evaluation
from models.pricing.path import PricePath
from models.pricing.pose import Posed
from models.returns.toxicity import Toxicity
from schemas.outputs import Interval, MarketMakerView


def half_spread_minor(posed: Posed, at: Evaluation) -> float:
    """How far a price may be from the chosen one before a change gains what it costs.

    From ``|gamma|/2 (P - P*)^2 = cost``, minor units; 0 where the objective is not concave, so
    that only the chosen price is acceptable.
    """
    if at.greeks.gamma >= 0.0:
        return 0.0
    cost = posed.policy.decision.change_cost_profit_share * abs(at.objectives[-1])
    return math.sqrt(2.0 * cost / -at.greeks.gamma) * posed.reference_minor


def acceptable(posed: Posed, at: Evaluation, chosen_minor: int) -> Interval:
    """The prices within the half spread of the chosen one that the guards allow."""
    half_minor = half_spread_minor(posed, at)
    low = max(chosen_minor - half_minor, posed.allowed.low_minor)
    high = min(chosen_minor + half_minor, posed.allowed.high_minor)
    return Interval(min(math.ceil(low), chosen_minor), max(math.floor(high), chosen_minor))


def market_maker_view(
    posed: Posed, path: PricePath, at: Evaluation, flow: Toxicity
) -> MarketMakerView:
    """Say of a decision what a market maker would ask; ``at`` has the chosen price last."""
    over = None
    if posed.stock_units is not None:
        over = posed.stock_units - at.expected_sales - posed.full.target_leftover
    return MarketMakerView(
        fair_minor=path.frictionless_minor,
        reservation_minor=path.optimum_minor,
        skew_minor=path.optimum_minor - path.frictionless_minor,
        half_spread_minor=half_spread_minor(posed, at),
        leftover_over_target_units=over,
        toxicity=flow.after,
        toxicity_orders=flow.orders_after,
        toxicity_before=flow.before,
        toxicity_before_orders=flow.orders_before,
    )
