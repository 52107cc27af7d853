"""The policy document: what a pricing team decides, as typed data with bounds and defaults.

Written in TOML, sent whole in ``policy_published``, known by the SHA-256 of its text. Shares and
ratios are per 1, money is relative to unit cost or reference price so that one policy fits every
currency; units stand in the names.
"""

import hashlib
import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from schemas.errors import FieldError

Positive = Annotated[float, Meta(gt=0.0, le=1e6)]
UnitShare = Annotated[float, Meta(ge=0.0, le=1.0)]


class ObjectivePolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the price is chosen to maximise: profit over the horizon after its risk."""

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
    expert_markup_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.0


class GuardPolicy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits that no price may cross."""

    margin_floor_ratio: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.05
    ceiling_list_price_ratio: Positive = 1.0
    ceiling_reference_ratio: Annotated[float, Meta(gt=1.0, le=100.0)] = 2.0
    floor_reference_ratio: UnitShare = 0.4
    step_ratio_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    day_step_ratio_max: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.2
    minimum_resale_price_markets: tuple[str, ...] = ()
    tick_minor: Annotated[int, Meta(ge=1, le=1_000_000)] = 1

    def __post_init__(self) -> None:
        if self.step_ratio_max > self.day_step_ratio_max:
            raise ValueError("Expected `step_ratio_max` at most `day_step_ratio_max`")


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
    """When a product's price is frozen, and how it comes back."""

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
    cool_down_hours: Positive = 24.0
    canary_step_ratio: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.02


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
    """One policy document. An absent table or key has its default."""

    name: str = "default"
    objective: ObjectivePolicy = ObjectivePolicy()
    guards: GuardPolicy = GuardPolicy()
    decision: DecisionPolicy = DecisionPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    learning: LearningPolicy = LearningPolicy()


DEFAULT_POLICY_TEXT = ""


def parse_policy(text: str) -> Policy:
    """Read a policy document.

    Raises
    ------
    FieldError : the text is not TOML, or a key is unknown or out of bounds
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
        return msgspec.convert(document, Policy)
    except tomllib.TOMLDecodeError as error:
        raise FieldError(
            "not_toml", f"policy was not TOML: {error}.", field="policy", expected="TOML"
        ) from None
    except msgspec.ValidationError as error:
        raise FieldError(
            "invalid_policy", f"policy was refused: {error}.", field="policy", expected=str(error)
        ) from None


def policy_sha256(text: str) -> str:
    """The policy's identity: SHA-256 of its UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()
