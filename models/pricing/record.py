"""The decision record: beliefs, steps, clamps with shadow prices and costs, ages of inputs."""

import math

from models.demand import demand
from models.fold.partition import PartitionState
from models.guards.prior_charge import charge_minor
from models.kernel import valuation
from models.kernel.greeks import to_minor
from models.kernel.tile import Evaluation
from models.pricing.path import OPTIMUM, PricePath, expert_price_minor, gave_way
from models.pricing.pose import Posed
from models.pricing.quote import market_maker_view
from models.prior import coldstart
from models.returns.liability import Marked, ReturnCosts, liability
from models.returns.return_curve import probability_positive
from schemas.drift import DriftView
from schemas.events import rfc3339
from schemas.learned import DriftSums
from schemas.outputs import (
    ApprovalView,
    BreakerView,
    Clamp,
    CompetitorView,
    DecisionRecord,
    DemandView,
    Greeks,
    PassportView,
    ReturnView,
    Step,
    StockView,
)
from schemas.state import BreakerState

TOGETHER = "with partners"
FIRST_MOVE = 3  # place of the first guard among the prices that a path is evaluated at


def minor_greeks(at: Evaluation, posed: Posed) -> Greeks:
    """The Greeks in minor units (see `models.kernel.greeks.to_minor` for what scales)."""
    found = to_minor(at.greeks, posed.reference_minor)
    return Greeks(**found._asdict())


def build_record(
    partition: PartitionState,
    posed: Posed,
    path: PricePath,
    at: Evaluation,
    steps_at: Evaluation,
    after: BreakerState,
    chosen_minor: int,
    marked: Marked,
) -> DecisionRecord:
    """Explain one decision.

    ``steps_at`` was evaluated at the optimum, the aim before and after exploration, after each
    move, and the rest; ``at`` at the chosen price. ``marked`` are the open cohorts.
    """
    per_day = posed.reference_minor / posed.full.horizon_days
    return DecisionRecord(
        trigger=posed.request.trigger,
        demand=_demand_view(posed, partition.demand_settings.dispersion),
        returns=_return_view(posed, at, marked),
        stock=StockView(
            sellable_units=posed.stock_units,
            horizon_days=posed.full.horizon_days,
            target_leftover_units=posed.full.target_leftover,
            expected_sales_units=at.expected_sales,
            skew_minor=_alone_minor(posed, path) - path.frictionless_minor,
        ),
        competitors=CompetitorView(
            robust_price_minor=posed.rivals.robust_minor,
            rivals_used=posed.rivals.used,
            rivals_seen=posed.rivals.seen,
        ),
        unit_cost_minor=posed.unit_cost_minor,
        kept_share=posed.entry.kept_share,
        steps=_steps(path, steps_at, at, posed, per_day, chosen_minor),
        clamps=_clamps(path, steps_at, per_day),
        gave_way=gave_way(posed, path),
        breaker=BreakerView(
            state=after.state,
            reasons=after.reasons,
            family=partition.family_breaker(posed.entry.family).state,
            catalogue=posed.request.catalogue.state,
        ),
        input_age_ms=_ages(posed),
        expected_profit_per_day_minor=at.expected_profit * per_day,
        objective_per_day_minor=at.objectives[-1] * per_day,
        objective_sd_minor=at.profit_sd * posed.reference_minor,
        market=posed.market.told,
        passport=_passport_view(partition, posed, path),
        category=posed.entry.category,
        present_objective_per_day_minor=(
            None if posed.state.published_minor is None else steps_at.objectives[-2] * per_day
        ),
        approval=_approval_view(posed),
        inputs=valuation.named(posed.full),
        drift=_drift_view(partition, posed),
        market_maker=market_maker_view(posed, path, at, marked.flow),
        family=None if posed.together is None else posed.together.told,
        prior_prices=posed.asked.views,
        prior_price_charge_minor=charge_minor(partition, posed, chosen_minor),
    )


def _return_view(posed: Posed, at: Evaluation, marked: Marked) -> ReturnView:
    costs = ReturnCosts(
        posed.reference_minor,
        posed.entry.kept_share,
        posed.handling_minor,
        float(posed.unit_cost_minor),
    )
    owed = liability(marked, costs)
    return ReturnView(
        rate=at.return_rate,
        rate_sd=posed.curve.sd,
        slope_log_price=posed.curve.slope_log,
        handling_cost_minor=posed.handling_minor,
        handling_cost_source=posed.handling_source,
        logit_slope=posed.curve.slope.mean,
        logit_slope_sd=posed.curve.slope.sd,
        slope_positive_probability=probability_positive(posed.curve.slope),
        open_units=owed.open_units,
        expected_back_units=owed.expected_back_units,
        reserve_minor=owed.reserve_minor,
    )


def _drift_view(partition: PartitionState, posed: Posed) -> DriftView:
    sums = posed.state.drift or DriftSums()
    return DriftView(
        level_up=sums.level_up,
        level_down=sums.level_down,
        less_elastic=sums.less_elastic,
        more_elastic=sums.more_elastic,
        alarm_nats=partition.policy.learning.drift_evidence_nats,
    )


def _alone_minor(posed: Posed, path: PricePath) -> float:
    """The best price without partners in the family."""
    alone = None if posed.together is None else posed.together.alone_minor
    return path.optimum_minor if alone is None else alone


def _approval_view(posed: Posed) -> ApprovalView | None:
    found = posed.request.approval
    if found is None:
        return None
    return ApprovalView(price_id=found.price_id, actor=found.actor, reason=found.reason)


def _passport_view(partition: PartitionState, posed: Posed, path: PricePath) -> PassportView:
    state, known = posed.state, posed.state.passport
    graduated_ms = None if known is None else known.graduated_ms
    return PassportView(
        prior=state.prior_kind,
        prior_sha256=partition.prior_sha256[: coldstart.PRIOR_DIGITS]
        if known is None
        else known.prior,
        orders=posed.posterior.orders,
        confidence=coldstart.confidence(partition.prior, posed.posterior),
        attribute_distance=None if known is None else known.attribute_distance,
        expert_share=path.expert_share,
        expert_price_minor=expert_price_minor(partition, posed),
        hedged_price_minor=path.hedged_minor,
        graduated_at=None if graduated_ms is None else rfc3339(graduated_ms),
        graduates_when=coldstart.graduation_rule(posed.policy),
    )


def _demand_view(posed: Posed, dispersion: float) -> DemandView:
    posterior, traffic = posed.posterior, posed.state.traffic
    low, high = demand.elasticity_interval(posterior)
    return DemandView(
        reference_price_minor=posed.reference_minor,
        units_per_day=posed.full.demand_per_day,
        elasticity=posed.full.elasticity,
        elasticity_low=low,
        elasticity_high=high,
        elasticity_sd=math.sqrt(posed.full.elasticity_variance),
        probability_inelastic=demand.probability_inelastic(posterior),
        orders=posterior.orders,
        epochs=posterior.epochs,
        prior=posed.state.prior_kind,
        units_per_order=demand.mean_units_per_order(posterior),
        visits_per_day=None if traffic is None else traffic.average_per_day,
        dispersion=dispersion,
    )


def _steps(
    path: PricePath,
    steps_at: Evaluation,
    at: Evaluation,
    posed: Posed,
    per_day: float,
    chosen_minor: int,
) -> tuple[Step, ...]:
    found = [
        Step("frictionless optimum", path.frictionless_minor),
        Step(OPTIMUM, path.optimum_minor, steps_at.objectives[0] * per_day),
    ]
    if posed.together is not None:
        found[1:] = [
            Step(OPTIMUM, _alone_minor(posed, path)),
            Step(TOGETHER, path.optimum_minor, steps_at.objectives[0] * per_day),
        ]
    if path.base_minor != path.optimum_minor:
        found.append(Step(path.base_aim, path.base_minor, steps_at.objectives[1] * per_day))
    if path.aimed_minor != path.base_minor:
        found.append(Step(path.aim, path.aimed_minor, steps_at.objectives[2] * per_day))
    for index, move in enumerate(path.moves, start=FIRST_MOVE):
        found.append(
            Step(f"guard {move.guard}", move.after_minor, steps_at.objectives[index] * per_day)
        )
    if path.rounded_minor != found[-1].price_minor:
        objective = None if posed.request.approval else steps_at.objectives[-1] * per_day
        found.append(Step(path.rounding, float(path.rounded_minor), objective))
    if posed.request.approval is not None:
        found.append(Step("approved price", float(path.wanted_minor), at.objectives[-1] * per_day))
    elif chosen_minor != path.wanted_minor:
        found.append(Step("present price stays", float(chosen_minor), at.objectives[-1] * per_day))
    return tuple(found)


def _clamps(path: PricePath, steps_at: Evaluation, per_day: float) -> tuple[Clamp, ...]:
    return tuple(
        Clamp(
            guard=move.guard,
            place=move.place or None,
            bound_minor=move.bound_minor,
            price_before_minor=move.before_minor,
            price_after_minor=move.after_minor,
            shadow_price=steps_at.slopes[index],
            cost_per_day_minor=(steps_at.objectives[index - 1] - steps_at.objectives[index])
            * per_day,
        )
        for index, move in enumerate(path.moves, start=FIRST_MOVE)
    )


def _ages(posed: Posed) -> dict[str, int]:
    """Milliseconds since each input was last reported; an input never seen is absent."""
    state, now_ms = posed.state, posed.request.now_ms
    ages = {"catalogue": now_ms - posed.entry.changed_ms}
    if state.stock is not None:
        ages["stock"] = now_ms - state.stock.reported_ms
    if state.traffic is not None:
        ages["traffic"] = now_ms - state.traffic.counted_to_ms
    if posed.rivals.age_ms is not None:
        ages["rivals"] = posed.rivals.age_ms
    return ages
