"""The evidence of one decision, from which the breaker judges its price."""

from models.breaker.breaker import Evidence
from models.breaker.loop_gain import loop_gain
from models.demand import demand
from models.fold.partition import PartitionState
from models.kernel.tile import Evaluation
from models.pricing.path import PricePath
from models.pricing.pose import Posed

PROFIT_SCALE_SHARE = 0.01  # scaled Delta is over at least this share of revenue, never over zero


def evidence_of(
    partition: PartitionState, posed: Posed, path: PricePath, at: Evaluation, chosen_minor: int
) -> Evidence:
    """What the breaker looks at, for the price that a decision would publish.

    Parameters
    ----------
    at : evaluation with the chosen price last (its Greeks)
    """
    state, policy = posed.state, posed.policy.breaker
    price = chosen_minor / posed.reference_minor
    revenue = price * posed.full.kept_share * max(at.expected_sales, 0.0)
    profit = max(abs(at.expected_profit), PROFIT_SCALE_SHARE * revenue, 1e-12)
    volatility_sd = policy.volatility_sd_share * posed.full.demand_volatility
    guarded = [move.guard for move in path.moves]
    pushed_up = bool(path.moves) and path.moves[-1].after_minor > path.moves[0].before_minor
    evidence = Evidence(
        finite=path.finite and at.finite,
        interior=path.interior and not guarded,
        gamma=at.greeks.gamma,
        scaled_delta=at.greeks.delta * price / profit,
        guard_below=bool(guarded) and pushed_up,
        guard_above=bool(guarded) and not pushed_up,
        vega_at_risk_share=abs(at.greeks.vega) * volatility_sd / profit,
        probability_inelastic=demand.probability_inelastic(posed.posterior),
        orders=posed.posterior.orders,
        price_minor=float(chosen_minor),
        reference_price_minor=posed.reference_minor,
        floor_forced=chosen_minor == path.wanted_minor and path.floor_forced,
        stock_age_ms=(
            None if state.stock is None else posed.request.now_ms - state.stock.reported_ms
        ),
        sales_ratio=posed.request.sales_ratio,
        epoch_orders=posed.request.epoch_orders,
        rival_age_ms=_rival_age_ms(posed),
        traffic_age_ms=(
            None if state.traffic is None else posed.request.now_ms - state.traffic.counted_to_ms
        ),
        catalogue_age_ms=posed.request.now_ms - posed.entry.changed_ms,
        loop_gain=loop_gain(partition, posed, path, chosen_minor, at.return_rate),
    )
    if partition.on_assessed is not None:
        partition.on_assessed(posed.entry, evidence)
    return evidence


def last_good_minor(posed: Posed) -> int | None:
    """The price to go back to, should the breaker be open; None where policy holds instead."""
    return posed.state.unproven_minor if posed.policy.breaker.when_open == "revert" else None


def _rival_age_ms(posed: Posed) -> int | None:
    """Since the last word of any rival that had a price, where a price relies on one."""
    seen = [rival.seen_ms for rival in posed.state.rivals.values() if rival.price_minor is not None]
    return posed.request.now_ms - max(seen) if seen else None
