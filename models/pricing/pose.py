"""Pose the pricing problem of one product: kernel rows from what the fold knows."""

import math
from typing import NamedTuple

from models.breaker import breaker
from models.demand import cross_effects, demand, effects_book
from models.family import family_book, ladders
from models.family.family_terms import Together
from models.fold.context import Request
from models.fold.market import RivalView, log_rival, rival_view
from models.fold.partition import PartitionState
from models.guards import guards, limits, promotions
from models.kernel.objective import Row, weights
from models.prior import coldstart
from models.returns.return_curve import ReturnCurve, curve
from models.returns.return_features import month_of_ms
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior
from schemas.policy import ObjectivePolicy, Policy
from schemas.scopes import PlacedGuards
from schemas.state import BreakerState, CatalogueEntry, SkuState

CASE_ELASTICITY_MAX = -1.25
HORIZON_DAYS_MIN = 0.25
DEMAND_PER_DAY_MIN = 1e-9
SEARCH_LOW, SEARCH_HIGH = 0.2, 5.0  # of the larger of reference price and break-even price


class Posed(NamedTuple):
    """One decision's problem. Rows are normalised by the reference price."""

    request: Request
    state: SkuState
    entry: CatalogueEntry
    posterior: DemandPosterior
    reference_minor: int
    unit_cost_minor: int
    full: Row
    cases: tuple[Row, ...]  # what the product may be while its category is unknown
    curve: ReturnCurve
    rivals: RivalView
    handling_minor: float
    handling_source: str
    stock_units: int | None
    allowed: guards.Feasible
    breaker: BreakerState
    market: effects_book.Present
    policy: Policy
    placed: tuple[PlacedGuards, ...]
    bounded: bool  # by the canary step of its own breaker, or of one above it
    asked: promotions.Present
    together: Together | None = None  # of a family of several

    @property
    def frictionless(self) -> Row:
        """The row with endless stock and without risk or partners."""
        row = self.full if self.together is None else self.together.alone
        return row._replace(unlimited=1.0, risk_aversion=0.0)


def blocked_reason(state: SkuState, entry: CatalogueEntry) -> str | None:
    """Why a product cannot be priced, or None."""
    if entry.retired:
        return "the product is retired"
    if entry.unit_cost_minor is None:
        return "no unit cost is known, so there is no floor"
    if state.reference_price_minor is None or state.posterior is None:
        return "no reference price is known"
    return None


def pose(partition: PartitionState, request: Request, *, loss_leader: bool = False) -> Posed | str:
    """Build the rows of a decision; or the reason why the product cannot be priced.

    A ``loss_leader`` waives the floors that the policy lets an anchor waive for its family.
    """
    state, entry = partition.skus[request.sku], partition.catalogue[request.sku]
    reason = blocked_reason(state, entry) or ladders.blocked_reason(partition, entry)
    reference, cost_minor = state.reference_price_minor, entry.unit_cost_minor
    posterior = state.posterior
    if reason is not None or reference is None or cost_minor is None or posterior is None:
        return reason or "the product cannot be priced"
    policy = partition.policy_of(entry)
    goal = policy.objective
    rivals = rival_view(state, request.now_ms, policy.decision)
    returns = curve(
        partition.return_snapshot,
        state.returns,
        entry.category,
        month=month_of_ms(request.now_ms),
        ln_rival=log_rival(state, rivals),
        r_max=goal.return_rate_max,
    )
    handling, source = _handling(goal, entry, cost_minor)
    horizon, stock_units = _horizon(goal, state, entry, request.now_ms)
    ln_rival = log_rival(state, rivals)
    market = effects_book.present(partition, state, posterior, request.now_ms, horizon, ln_rival)
    demanded = _demanded(state, posterior, ln_rival, market, family_book.present(partition, state))
    relative = cost_minor / reference, handling / reference
    full = _row(goal, entry, demanded, ln_rival, returns, market, (horizon, stock_units), relative)
    cases = _cases(partition, state, entry, posterior)
    cooled = breaker.cooled_down(state.breaker, request.now_ms, policy.breaker)
    bounded = _is_bounded(partition, entry, request, cooled)
    asked = promotions.present(partition, state, entry, request.now_ms)
    at = limits.Situation(state, entry, full, rivals, bounded, request.now_ms, loss_leader, asked)
    return Posed(
        request=request,
        state=state,
        entry=entry,
        posterior=posterior,
        reference_minor=reference,
        unit_cost_minor=cost_minor,
        full=full,
        cases=tuple(full._replace(elasticity=_elastic(full.elasticity, away)) for away in cases),
        curve=returns,
        rivals=rivals,
        handling_minor=handling,
        handling_source=source,
        stock_units=stock_units,
        allowed=limits.allowed(partition, at),
        breaker=cooled,
        bounded=bounded,
        market=market,
        policy=policy,
        placed=partition.guards_of(entry),
        asked=asked,
    )


def _cases(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry, posterior: DemandPosterior
) -> tuple[float, ...]:
    """What the elasticity may be off by while a product's category is unknown; none once known."""
    if state.passport is None or state.passport.graduated_ms is not None:
        return ()
    return coldstart.category_cases(partition.prior, entry.category, posterior)


def _is_bounded(
    partition: PartitionState, entry: CatalogueEntry, request: Request, own: BreakerState
) -> bool:
    """Whether a half-open breaker, its own or one above it, bounds the product's step."""
    family = partition.family_breaker(entry.family)
    return breaker.HALF_OPEN in (own.state, family.state, request.catalogue.state)


def _elastic(elasticity: float, away: float) -> float:
    """A case's elasticity; one that nears inelastic demand has no best price to average."""
    return min(elasticity + away, max(elasticity, CASE_ELASTICITY_MAX))


class _Demanded(NamedTuple):
    """Units a day at the reference price, elasticity, and the covariance of log level and it."""

    per_day: float
    elasticity: float
    v_bb: float
    v_be: float
    v_ee: float


def _demanded(
    state: SkuState,
    posterior: DemandPosterior,
    ln_rival: float | None,
    market: effects_book.Present,
    beside: cross_effects.Term | None,
) -> _Demanded:
    control = _control(state)
    forecast = demand.forecast(posterior, ln_rival, control)
    if beside is not None:
        forecast = cross_effects.beside(forecast, beside, ln_rival, control)
    orders_per_day = forecast.demand_per_day * _traffic_factor(state) * math.exp(market.log_level)
    return _Demanded(
        max(orders_per_day * demand.mean_units_per_order(posterior), DEMAND_PER_DAY_MIN),
        forecast.elasticity + market.elasticity,
        forecast.v_bb,
        forecast.v_be,
        forecast.v_ee,
    )


def _row(
    goal: ObjectivePolicy,
    entry: CatalogueEntry,
    demanded: _Demanded,
    ln_rival: float | None,
    returns: ReturnCurve,
    market: effects_book.Present,
    horizon: tuple[float, int | None],
    costs: tuple[float, float],
) -> Row:
    """The row; ``costs``: of a unit and of handling its return, over the reference price."""
    (days, stock_units), (cost, return_cost) = horizon, costs
    price_weight, cost_weight, unit_weight = weights(goal.maximise)
    return Row(
        unit_cost=cost,
        return_cost=return_cost,
        kept_share=entry.kept_share,
        horizon_days=days,
        demand_per_day=demanded.per_day,
        elasticity=demanded.elasticity,
        rival_price=math.exp(ln_rival or 0.0),
        rival_omega=market.omega,
        rival_tau=goal.rival_threshold_log,
        demand_volatility=goal.demand_volatility,
        stock=1.0 if stock_units is None else float(stock_units),
        unlimited=1.0 if stock_units is None else 0.0,
        holding_cost_per_day=goal.holding_cost_share_per_day * cost,
        continuation_value=goal.continuation_value_share * cost,
        risk_aversion=goal.risk_aversion,
        target_leftover=max(goal.target_leftover_days * demanded.per_day, 1.0),
        value_volatility=goal.value_volatility_per_sqrt_day,
        level_variance=demanded.v_bb,
        level_elasticity_covariance=demanded.v_be,
        elasticity_variance=demanded.v_ee,
        return_min=returns.r_min,
        return_max=returns.r_max,
        return_intercept=returns.intercept,
        return_linear=0.0,
        return_log=returns.slope_log,
        return_rate_sd=returns.sd,
        exact_small_stock=1.0,
        lower=SEARCH_LOW,
        upper=search_high(cost, entry.kept_share),
        price_weight=price_weight,
        cost_weight=cost_weight,
        unit_weight=unit_weight,
    )


def search_high(unit_cost: float, kept_share: float) -> float:
    """The end of the search, normalised by the reference price, as the cost is."""
    return SEARCH_HIGH * max(1.0, unit_cost / kept_share)


def with_unit_cost(row: Row, unit_cost: float) -> Row:
    """The row at another unit cost (normalised), and what is a share of it: what a leftover costs
    to hold and is worth, and where the search ends.
    """
    scale = unit_cost / row.unit_cost
    return row._replace(
        unit_cost=unit_cost,
        holding_cost_per_day=row.holding_cost_per_day * scale,
        continuation_value=row.continuation_value * scale,
        upper=search_high(unit_cost, row.kept_share),
    )


def _control(state: SkuState) -> float:
    """The present u: what of the own price no calendar or exploration explains."""
    return 0.0 if state.epoch is None else state.epoch.control


def _traffic_factor(state: SkuState) -> float:
    if state.traffic is None:
        return 1.0
    return state.traffic.average_per_day / state.traffic.reference_per_day


def _handling(goal: ObjectivePolicy, entry: CatalogueEntry, cost_minor: int) -> tuple[float, str]:
    if entry.return_handling_cost_minor is not None:
        return float(entry.return_handling_cost_minor), "catalogue"
    share = goal.return_handling_cost_share
    return share * cost_minor, f"policy: {share:g} of unit cost"


def _horizon(
    goal: ObjectivePolicy, state: SkuState, entry: CatalogueEntry, now_ms: int
) -> tuple[float, int | None]:
    """T in days, to the next replenishment or the exit date, and the stock it can sell."""
    days = goal.horizon_days_max
    if entry.exit_ms is not None:
        days = min(days, (entry.exit_ms - now_ms) / DAY_MS)
    stock = state.stock
    if stock is None:
        return max(days, HORIZON_DAYS_MIN), None
    units = stock.on_hand
    if stock.inbound > 0 and stock.inbound_eta_ms is not None:
        until_days = (stock.inbound_eta_ms - now_ms) / DAY_MS
        if units == 0 or until_days <= HORIZON_DAYS_MIN:
            units += stock.inbound
        else:
            days = min(days, until_days)
    return max(days, HORIZON_DAYS_MIN), units
