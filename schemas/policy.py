"""The policy document: what a pricing team decides, as typed data with bounds and defaults.

Written in TOML, sent whole in ``policy_published``, known by the SHA-256 of its text. Shares and
ratios are per 1, money is relative to unit cost or reference price so that one policy fits every
currency; units stand in the names. Tables that stand under ``[[scopes]]`` hold for some products,
markets or channels only: `schemas.scopes` says for which, and what then holds for one product.
"""

import hashlib
from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.events import EventTime, Identifier, Name
from schemas.time_zones import zone_of_rule

Positive = Annotated[float, Meta(gt=0.0, le=1e6)]
UnitShare = Annotated[float, Meta(ge=0.0, le=1.0)]
Ratio = Annotated[float, Meta(gt=0.0, le=100.0)]
Text = Annotated[str, Meta(min_length=1, max_length=2000)]
Role = Literal["anchor", "addition", "key_value_item", "plain"]


class ObjectivePolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the price is chosen to maximise, over the horizon and after its risk.

    ``maximise`` is profit, or revenue or units kept above the margin floor. ``rival_response``
    prices on rivals that follow ours (``eps + kappa eta``): following followers is how tacit
    collusion starts, so it needs a note of who cleared it.
    """

    maximise: Literal["profit", "revenue", "units"] = "profit"
    risk_aversion: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.1
    horizon_days_max: Positive = 7.0
    demand_volatility: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.3
    holding_cost_share_per_day: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0005
    continuation_value_share: UnitShare = 1.0
    value_volatility_per_sqrt_day: UnitShare = 0.02
    target_leftover_days: Positive = 14.0
    return_handling_cost_share: UnitShare = 0.1
    return_rate_max: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.9
    rival_sensitivity: Annotated[float, Meta(ge=0.0, le=20.0)] = 1.0
    rival_threshold_log: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.03
    rival_response: bool = False
    rival_response_legal_note: Text | None = None
    expert_markup_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.0

    def __post_init__(self) -> None:
        if self.rival_response and self.rival_response_legal_note is None:
            raise ValueError("Expected `rival_response_legal_note` beside `rival_response`")


class AdaptiveStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A step is as long as the risk allows that an indicator falls by more than its tolerance.

    ``tolerances``: the share by which each watched indicator may fall; ``probability_max``: how
    likely a larger fall may be, under what is believed of demand.
    """

    probability_max: Annotated[float, Meta(gt=0.0, lt=0.5)] = 0.1
    tolerances: dict[
        Literal["profit", "category_revenue", "units", "margin", "conversion", "stock_cover"],
        Annotated[float, Meta(gt=0.0, lt=1.0)],
    ] = {}


class ResaleTrial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Trying a price below the minimum resale price, where the market is below it already.

    Never below the market's lowest plausible price, at most ``depth_ratio_max`` below the minimum,
    for products of which at least ``channel_share_min`` of the orders come through ``channels``,
    charged to the exploration budget, and back after ``days_max``; then not for ``rest_days``.
    """

    channels: Annotated[tuple[Name, ...], Meta(min_length=1)]
    channel_share_min: UnitShare = 0.5
    depth_ratio_max: Annotated[float, Meta(gt=0.0, le=0.2)] = 0.03
    days_max: Positive = 14.0
    rest_days: Positive = 60.0


class GuardPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits that no price may cross.

    ``competitor_index_*`` bound the price over the robust rival price. Below
    ``stock_cover_days_min`` of cover a price may not fall, above ``stock_cover_days_max`` it may
    not rise. A move smaller than ``step_ratio_min`` is not seen by buyers, so it is not made. A
    price ends in one of ``endings_minor`` (its remainder by ``ending_modulus_minor``); none: any
    tick. ``loss_leader`` is what an anchor may waive while its family earns more. A fall of the
    30-day lowest price costs ``prior_price_charge_share`` of it per unit to come where no
    announced reduction is known.
    """

    margin_floor_ratio: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    ceiling_list_price_ratio: Positive = 1.0
    ceiling_reference_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.0
    floor_reference_ratio: UnitShare = 0.4
    step_ratio_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    day_step_ratio_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.2
    step_ratio_min: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.0
    adaptive_step: AdaptiveStep = AdaptiveStep()
    minimum_resale_price_markets: tuple[Name, ...] = ()
    minimum_resale_price_trial: ResaleTrial | None = None
    competitor_index_min: Ratio | None = None
    competitor_index_max: Ratio | None = None
    stock_cover_days_min: Positive | None = None
    stock_cover_days_max: Positive | None = None
    loss_leader: Literal["off", "margin_floor", "cost_floor"] = "off"
    loss_leader_cost_ratio_min: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.8
    prior_price_charge_share: UnitShare = 0.0005
    tick_minor: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    ending_modulus_minor: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 100
    endings_minor: tuple[Annotated[int, Meta(ge=0, le=1_000_000_000)], ...] = ()

    def __post_init__(self) -> None:
        if any(ending >= self.ending_modulus_minor for ending in self.endings_minor):
            raise ValueError("Expected `endings_minor` below `ending_modulus_minor`")
        ends = (self.ending_modulus_minor, *self.endings_minor) if self.endings_minor else ()
        if any(ending % self.tick_minor for ending in ends):
            raise ValueError("Expected endings and their modulus in whole ticks")


class MarketPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A market's law: its clock and what its rules are.

    ``time_zone`` is a POSIX TZ rule, pure data (``CET-1CEST,M3.5.0,M10.5.0/3``). The prior price is
    the lowest of the ``prior_price_days`` before an announced reduction (0: no such rule); with
    ``progressive_reductions`` that before the first of a run of deepening ones. Goods on sale for
    less time may have a shorter period of their own (``new_arrival_days``), and
    ``prior_price_exempt_categories`` (perishables) have no such rule. Selling below cost is lawful
    only where it says so.
    """

    time_zone: Text = "UTC0"
    prior_price_days: Annotated[int, Meta(ge=0, le=365)] = 30
    progressive_reductions: bool = False
    sale_below_cost_lawful: bool = False
    new_arrival_days: Annotated[int, Meta(ge=1, le=365)] | None = None
    prior_price_exempt_categories: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        zone_of_rule(self.time_zone)


class Selector(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Products, markets and channels that something holds for; what is not named is any."""

    skus: tuple[Identifier, ...] = ()
    families: tuple[Identifier, ...] = ()
    categories: tuple[Name, ...] = ()
    roles: tuple[Role, ...] = ()
    markets: tuple[Name, ...] = ()
    channels: tuple[Name, ...] = ()


class Ladder(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Products of one family in ascending order: good, better, best, or pack sizes.

    Each price is at least ``ratio_min`` and at most ``ratio_max`` times that of the one below it;
    with ``units`` (in a pack, one per product) the price of a unit does not rise with the pack.
    """

    name: Name
    skus: Annotated[tuple[Identifier, ...], Meta(min_length=2, max_length=50)]
    ratio_min: Ratio | None = 1.0
    ratio_max: Ratio | None = None
    units: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.skus)) != len(self.skus):
            raise ValueError("Expected each of `skus` once")
        if self.units and len(self.units) != len(self.skus):
            raise ValueError("Expected as many `units` as `skus`")


class EmergencyCap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ceiling for a time: ``ratio`` times the lowest price of the 30 days before it began."""

    name: Name
    select: Selector = Selector()
    ratio: Ratio
    from_time: EventTime
    expires_at: EventTime
    reason: Text

    def __post_init__(self) -> None:
        if self.expires_at <= self.from_time:
            raise ValueError("Expected `expires_at` after `from_time`")


class BudgetGroup(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Customers who spend at most ``budget_minor`` and buy at most one product of a family.

    ``share`` is their part of the family's customers, ``budget_sd_log`` how sharp the budget is.
    """

    budget_minor: Annotated[int, Meta(ge=1, le=10**12)]
    share: Annotated[float, Meta(gt=0.0, le=1.0)]
    budget_sd_log: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.05


class FamilyPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of a family's customers beside its demand: the groups by budget."""

    name: Identifier
    budget_groups: Annotated[tuple[BudgetGroup, ...], Meta(min_length=1, max_length=50)]


class ApprovalPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Decisions that wait as held until a person approves; nothing named: none does.

    A move of ``move_ratio_min`` or more, a margin below ``margin_ratio_min``, an expected profit at
    stake of ``profit_at_stake_ratio_min`` of the product's or more, a first price.
    """

    move_ratio_min: Annotated[float, Meta(gt=0.0, le=100.0)] | None = None
    margin_ratio_min: Annotated[float, Meta(gt=-100.0, lt=1.0)] | None = None
    profit_at_stake_ratio_min: Positive | None = None
    first_price: bool = False
    expires_hours: Positive = 72.0


class DiscountPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Personal discounts by segment, beside the one list price; none without ``segments``.

    Directive 2011/83/EU art. 6(1)(ea): who is shown a personalised price must be told so, hence
    the market and the text.
    """

    segments: tuple[Name, ...] = ()
    market: Name | None = None
    disclosure: Text | None = None
    depth_ratio_min: Annotated[float, Meta(gt=0.0, le=0.9)] = 0.02
    depth_ratio_max: Annotated[float, Meta(gt=0.0, le=0.9)] = 0.1
    valid_days: Positive = 7.0

    def __post_init__(self) -> None:
        if self.segments and (self.market is None or self.disclosure is None):
            raise ValueError("Expected `market` and `disclosure` beside `segments`")


class DecisionPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a decision is due, how far a price may stay, and how prices explore."""

    epoch_days_min: Positive = 1.0
    epoch_days_max: Positive = 14.0
    interval_hours: Annotated[float, Meta(gt=0.0, le=24.0)] = 24.0
    stock_move_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.0
    epoch_orders_close: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    rival_move_ratio: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.03
    rival_age_days_max: Positive = 7.0
    rival_plausible_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 3.0
    rival_match_confidence_min: UnitShare = 0.5
    change_cost_profit_share: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.0005
    valid_days: Positive = 15.0
    exploration_log: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.03
    exploration_payback_days: Positive = 180.0
    exploration_budget_profit_share: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.001
    exploration_profit_share_max: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.005
    graduation_elasticity_sd_max: Positive = 0.5

    def __post_init__(self) -> None:
        if self.epoch_days_min > self.epoch_days_max:
            raise ValueError("Expected `epoch_days_min` at most `epoch_days_max`")
        if self.valid_days <= self.epoch_days_max:
            raise ValueError("Expected `valid_days` above `epoch_days_max`")


class BreakerPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a price is frozen, and how it comes back; the scopes' limits are the document's own.

    A family opens when ``family_open_share_max`` of its products (and at least
    ``family_open_count_min``) are open. The catalogue opens when, within an event day, more than
    ``catalogue_moved_share_max`` of a partition's products (and at least
    ``catalogue_moved_count_min``) moved by ``catalogue_move_ratio`` or more, or more than
    ``same_price_count_max`` unrelated ones moved to one price. Inputs that a price relies on may be
    so old; no limit for the catalogue entry unless one is set, since listings need not repeat.
    A unit cost or list price that moves by a factor beyond ``entry_move_ratio_max`` opens its
    product's until a person resets it, or a figure comes that is believable beside the last one.
    """

    scaled_delta_max: Positive = 1.5
    vega_at_risk_share_max: Positive = 1.0
    volatility_sd_share: UnitShare = 0.3
    inelastic_probability_max: UnitShare = 0.25
    established_orders: Annotated[int, Meta(ge=0, le=1_000_000)] = 20
    band_low_ratio: UnitShare = 0.35
    band_high_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.5
    stock_age_days_max: Positive = 30.0
    fast_sales_ratio: Annotated[float, Meta(gt=1.0, le=1000.0)] = 3.0
    fast_sales_orders_min: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    loop_gain_max: Annotated[float, Meta(gt=0.0, le=10.0)] = 0.9
    cool_down_hours: Positive = 24.0
    canary_step_ratio: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.02
    when_open: Literal["hold", "revert"] = "hold"
    family_open_share_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5
    family_open_count_min: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    catalogue_moved_share_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5
    catalogue_moved_count_min: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    catalogue_move_ratio: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.05
    same_price_count_max: Annotated[int, Meta(ge=2, le=1_000_000)] = 25
    rival_age_days_max: Positive = 30.0
    traffic_age_days_max: Positive = 30.0
    catalogue_age_days_max: Positive | None = None
    on_drift: Literal["half_open", "open"] = "half_open"
    entry_move_ratio_max: Annotated[float, Meta(gt=1.0, le=1e6)] = 5.0


class LearningPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is learned with caution, and when demand counts as changed."""

    surprise_sd_max: Annotated[float, Meta(ge=1.0, le=100.0)] = 6.0
    quarantine_surprise_sd: Annotated[float, Meta(ge=1.0, le=100.0)] = 4.0
    quarantine_hours: Annotated[float, Meta(ge=0.0, le=720.0)] = 48.0
    conversion_ratio_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    drift_evidence_nats: Annotated[float, Meta(ge=1.0, le=1000.0)] = 5.0
    drift_level_sd: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.5
    drift_elasticity_sd: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.5


class Policy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One policy document, or what of it holds for one product. What is absent has its default."""

    name: str = "default"
    version: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1
    objective: ObjectivePolicy = ObjectivePolicy()
    guards: GuardPolicy = GuardPolicy()
    decision: DecisionPolicy = DecisionPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    learning: LearningPolicy = LearningPolicy()
    approval: ApprovalPolicy = ApprovalPolicy()
    discounts: DiscountPolicy = DiscountPolicy()
    markets: dict[Name, MarketPolicy] = {}
    channels: tuple[Name, ...] = ()
    ladders: tuple[Ladder, ...] = ()
    emergency_caps: tuple[EmergencyCap, ...] = ()
    families: tuple[FamilyPolicy, ...] = ()


DEFAULT_POLICY_TEXT = ""


def policy_sha256(text: str) -> str:
    """The policy's identity: SHA-256 of its UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()
