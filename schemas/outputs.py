"""What the pricer publishes: price decisions with their record, and alerts."""

from typing import Any, Literal

from msgspec import Struct

from schemas.drift import DriftView
from schemas.exploration import Exploration
from schemas.prior_prices import PriorPriceView

AlertKind = Literal[
    "breaker_changed",
    "product_blocked",
    "product_unblocked",
    "kill_switch",
    "engine_changed",
    "drift",
    "data_quality",
    "graduated",
    "approval",
    "announced_reduction",
]


class Greeks(Struct, frozen=True, kw_only=True, gc=False):
    """Sensitivities of the objective at the decided price; money in minor units.

    Pi is per horizon. Each field's unit, sign and bump: ``docs/objective.md``. The last four are
    null in decisions made before they were recorded.
    """

    delta: float
    gamma: float
    vega: float
    rho: float | None
    vanna: float
    theta: float
    vega_elasticity: float
    vega_return: float
    elasticity_slope: float
    level_slope: float
    price_stock: float | None
    cost_slope: float | None = None
    handling_slope: float | None = None
    return_slope: float | None = None
    rival_slope: float | None = None


class Step(Struct, frozen=True, gc=False):
    """A price on the way from the optimum to the shop window, and what it expects to earn."""

    name: str
    price_minor: float
    objective_per_day_minor: float | None = None


class Clamp(Struct, frozen=True, kw_only=True, gc=False):
    """One guard that moved the price.

    ``shadow_price`` is dPi/dP at the bound (units); ``cost_per_day_minor`` is what the guard
    costs in expected objective, so that the clamps of one decision add up. ``place``: the market
    and channel, or the ladder, whose rule it is, where there are several.
    """

    guard: str
    bound_minor: float
    price_before_minor: float
    price_after_minor: float
    shadow_price: float
    cost_per_day_minor: float
    place: str | None = None


class DemandView(Struct, frozen=True, kw_only=True, gc=False):
    """What is believed of demand at the reference price.

    ``units_per_day`` rests on ``visits_per_day``, null without a traffic feed. ``dispersion`` is
    the variance of a count beyond Poisson over its mean squared.
    """

    reference_price_minor: int
    units_per_day: float
    elasticity: float
    elasticity_low: float
    elasticity_high: float
    elasticity_sd: float
    probability_inelastic: float
    orders: int
    epochs: int
    prior: str
    units_per_order: float | None = None
    visits_per_day: float | None = None
    dispersion: float | None = None


class ReturnView(Struct, frozen=True, kw_only=True, gc=False):
    """What is believed of returns at the decided price, and of those still to come.

    ``logit_slope`` is d logit R / d ln P as learned, normal with ``logit_slope_sd``;
    ``slope_log_price`` the curve's, shrunk by that doubt, which prices follow. Of ``open_units``
    sold in the last 60 days and not back, ``expected_back_units`` should come; ``reserve_minor`` is
    what they cost: refund after VAT and fee, and handling, less the unit itself. Null in decisions
    made before these were recorded.
    """

    rate: float
    rate_sd: float
    slope_log_price: float
    handling_cost_minor: float
    handling_cost_source: str
    logit_slope: float | None = None
    logit_slope_sd: float | None = None
    slope_positive_probability: float | None = None
    open_units: int | None = None
    expected_back_units: float | None = None
    reserve_minor: int | None = None


class StockView(Struct, frozen=True, kw_only=True, gc=False):
    """Stock that the horizon can sell; null where no inventory was ever reported."""

    sellable_units: int | None
    horizon_days: float
    target_leftover_units: float
    expected_sales_units: float
    skew_minor: float


class CompetitorView(Struct, frozen=True, kw_only=True, gc=False):
    """The robust rival price that was used, and how many rivals stand behind it."""

    robust_price_minor: float | None
    rivals_used: int
    rivals_seen: int


class MarketEffect(Struct, frozen=True, gc=False):
    """A pooled effect in use: its coefficient, its sd, and what it adds to the log of demand.

    ``log_demand`` is null where that depends on the price.
    """

    name: str
    coefficient: float
    coefficient_sd: float
    log_demand: float | None = None


class BreakerView(Struct, frozen=True, kw_only=True, gc=False):
    """The circuit breaker as it stood after the decision, and those of family and catalogue."""

    state: str
    reasons: tuple[str, ...] = ()
    family: str = "CLOSED"
    catalogue: str = "CLOSED"


class Interval(Struct, frozen=True, gc=False):
    """Prices between which the change is worth less than it costs."""

    low_minor: int
    high_minor: int


class PassportView(Struct, frozen=True, kw_only=True, gc=False):
    """How far a product has come from its prior to a price of its own.

    ``expert_share`` is the expert's part in the aim (in log price), ``expert_price_minor`` its
    price; ``attribute_distance`` the attributes' distance from those trained on, 1 being typical;
    ``hedged_price_minor`` the mean of the best prices over what an unknown category may be.
    """

    prior: str
    prior_sha256: str
    orders: int
    confidence: float
    attribute_distance: float | None
    expert_share: float
    expert_price_minor: float
    graduated_at: str | None
    graduates_when: str
    hedged_price_minor: float | None = None


class ApprovalView(Struct, frozen=True, kw_only=True, gc=False):
    """Who approved a price that waited, why, and the id of the decision that proposed it."""

    price_id: str
    actor: str
    reason: str


class MarketMakerView(Struct, frozen=True, kw_only=True, gc=False):
    """The price as a market maker's quote (``docs/market-making.md``).

    ``fair_minor`` is the best price with unlimited stock and no risk, ``reservation_minor`` with
    both, ``skew_minor`` the latter less the former; within ``half_spread_minor`` a change gains
    less than it costs. ``leftover_over_target_units``: expected leftover less the target, null with
    unlimited stock. ``toxicity``: share of the units sold since the day on which the price last
    moved by 5 % or more that are back or should come back, ``toxicity_before`` of those sold before
    it; null while too few order lines stand behind it.
    """

    fair_minor: float
    reservation_minor: float
    skew_minor: float
    half_spread_minor: float
    leftover_over_target_units: float | None
    toxicity: float | None
    toxicity_orders: int
    toxicity_before: float | None
    toxicity_before_orders: int


class PartnerView(Struct, frozen=True, kw_only=True, gc=False):
    """A partner in the family, at the price that was reckoned with.

    ``elasticity`` is d ln units of the partner / d ln own price, ``own_elasticity`` the other way
    round; null where budgets say who buys what. ``cross_gamma_per_day_minor`` is the family's
    profit a day by both ln prices.
    """

    sku: str
    elasticity: float | None
    own_elasticity: float | None
    price_minor: float
    cross_gamma_per_day_minor: float


class FamilyView(Struct, frozen=True, kw_only=True, gc=False):
    """A family's prices, chosen together; money in minor units a day.

    ``partner_profit_slope_per_day_minor`` is what partners earn more per unit of the own ln price.
    ``gap_ratio`` is how far above the joint profit its upper bound lies inside what the guards
    allow, over that profit; ``starts_agree`` whether the search came to one profit from all starts.
    ``waived`` is the floor that an anchor goes below as a loss leader, and what the family gains.
    """

    demand: str
    joint_price_minor: float
    partners: tuple[PartnerView, ...]
    partner_profit_slope_per_day_minor: float
    joint_profit_per_day_minor: float
    present_profit_per_day_minor: float
    gap_ratio: float
    starts_agree: bool
    ladders: tuple[str, ...] = ()
    ladders_kept: bool = True
    waived: str | None = None
    waived_gain_per_day_minor: float | None = None


class DecisionRecord(Struct, frozen=True, kw_only=True, gc=False):
    """Why this price: beliefs, the way from optimum to price, guards, ages of inputs.

    ``present_objective_per_day_minor`` is what the price in the shop before this decision earns a
    day after its risk; null where there was none.
    ``prior_price_charge_minor`` is what it is expected to cost in announced reductions to come that
    this price is the lowest of its last days; part of a probe's cost.

    ``inputs`` is all that the objective was computed from, by the names of
    `models.kernel.objective.Row` and normalised by the reference price; one that is absent has the
    value of ``PADDING``.
    """

    trigger: str
    demand: DemandView
    returns: ReturnView
    stock: StockView
    competitors: CompetitorView
    unit_cost_minor: int
    kept_share: float
    steps: tuple[Step, ...]
    clamps: tuple[Clamp, ...]
    gave_way: tuple[str, ...]
    breaker: BreakerView
    input_age_ms: dict[str, int]
    expected_profit_per_day_minor: float
    objective_per_day_minor: float
    objective_sd_minor: float
    market: tuple[MarketEffect, ...] = ()
    passport: PassportView | None = None
    category: str = ""
    present_objective_per_day_minor: float | None = None
    approval: ApprovalView | None = None
    inputs: dict[str, float] = {}
    drift: DriftView | None = None
    market_maker: MarketMakerView | None = None
    family: FamilyView | None = None
    prior_prices: tuple[PriorPriceView, ...] = ()
    prior_price_charge_minor: float = 0.0


class TapePosition(Struct, frozen=True, gc=False):
    """Where the decision stands on the tape."""

    partition: int
    offset: int


class PriceDecided(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="price_decided", gc=False
):
    """One decision. Consumers accept only a version above the last they saw."""

    price_id: str
    sku: str
    version: int
    status: Literal["published", "held", "reverted"]
    price_minor: int | None
    wanted_minor: int | None
    previous_minor: int | None
    currency: str
    margin_pct: float | None
    decided_at: str
    effective_from: str | None
    valid_until: str | None
    reasons: tuple[str, ...]
    confidence: float
    acceptable: Interval | None
    exogenous_log: float
    greeks: Greeks | None
    record: DecisionRecord | None
    tape: TapePosition
    engine: str
    policy_sha256: str
    prior_sha256: str
    exploration_cost_per_day_minor: float = 0.0
    exploration: Exploration | None = None


class SegmentView(Struct, frozen=True, kw_only=True, gc=False):
    """What a discount rests on: the segment as a whole, never a person of it.

    ``orders`` are the segment's order lines that the pool of its tape partition remembers;
    ``elasticity`` is the product's own and the segment's part in it, ``elasticity_beside_average``,
    as far as that is known; ``return_rate`` at the discounted price. ``best_price_minor`` is where
    the objective were highest if all customers were like these, ``best_price_of_all_minor`` the
    same for all as they are.
    """

    orders: int
    elasticity: float
    elasticity_beside_average: float
    elasticity_beside_average_sd: float
    return_rate: float
    return_rate_of_all: float
    best_price_minor: float
    best_price_of_all_minor: float
    floor_minor: float
    unit_cost_minor: int
    kept_share: float


class DiscountOffered(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="discount_offered", gc=False
):
    """A discount for the customers of a segment, beside the one list price for all.

    It holds while that list price is shown, and replaces what was offered to the segment before.
    ``withdrawn``: none is offered any more, ``amount_minor`` is 0. ``disclosure`` is to be shown
    with it: Directive 2011/83/EU art. 6(1)(ea).
    """

    discount_id: str
    sku: str
    segment: str
    status: Literal["offered", "withdrawn"]
    amount_minor: int
    currency: str
    list_price_minor: int | None
    discounted_minor: int | None
    market: str | None
    disclosure: str | None
    valid_from: str
    valid_until: str | None
    reasons: tuple[str, ...]
    evidence: SegmentView | None
    tape: TapePosition
    engine: str
    policy_sha256: str


class Alert(Struct, frozen=True, kw_only=True, tag_field="type", tag="alert", gc=False):
    """Something a person should know: a breaker moved, a product cannot be priced."""

    alert_id: str
    kind: AlertKind
    sku: str | None
    at: str
    message: str
    evidence: dict[str, Any]
    tape: TapePosition
