"""The circuit breaker of one product: CLOSED, HALF_OPEN, OPEN.

Assessed on every decision before it is published. OPEN holds the last good price; after a
cool-down in event time HALF_OPEN allows one bounded canary step; a canary that passes closes it.
"""

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from schemas.events import DAY_MS, HOUR_MS
from schemas.policy import BreakerPolicy
from schemas.state import BreakerState

CLOSED: Final = "CLOSED"
HALF_OPEN: Final = "HALF_OPEN"
OPEN: Final = "OPEN"
MANUAL = "manual trip"
RESET = "manual reset"
SLIP = "beyond belief"  # in the reason of an opening by `models.breaker.slips`
DOUBLINGS_MAX = 5


class Evidence(NamedTuple):
    """What the breaker looks at, for one wanted price. Prices in minor units.

    Ages are of the last report, None where the price does not rely on such reports.
    """

    finite: bool
    interior: bool
    gamma: float
    scaled_delta: float
    guard_below: bool
    guard_above: bool
    vega_at_risk_share: float
    probability_inelastic: float
    orders: int
    price_minor: float
    reference_price_minor: int
    floor_forced: bool
    stock_age_ms: int | None
    sales_ratio: float | None
    epoch_orders: int
    rival_age_ms: int | None = None
    traffic_age_ms: int | None = None
    catalogue_age_ms: int | None = None
    loop_gain: float | None = None


def assess(evidence: Evidence, policy: BreakerPolicy) -> tuple[str, ...]:
    """Reasons to trip, in words with their numbers; empty when all is well.

    A steep objective is no reason where a guard binds on that side: then the ledger has it.
    """
    if not evidence.finite or not math.isfinite(evidence.price_minor):
        return ("greeks are not finite",)
    reasons: list[str] = []
    if evidence.interior and evidence.gamma >= 0.0:
        reasons.append("gamma is not negative at an interior optimum")
    uphill_blocked = evidence.guard_above if evidence.scaled_delta > 0 else evidence.guard_below
    if abs(evidence.scaled_delta) > policy.scaled_delta_max and not uphill_blocked:
        reasons.append(
            f"scaled delta {evidence.scaled_delta:.3g} beyond {policy.scaled_delta_max:g}"
        )
    if evidence.vega_at_risk_share > policy.vega_at_risk_share_max:
        reasons.append(
            f"vega at risk {evidence.vega_at_risk_share:.3g} of profit "
            f"beyond {policy.vega_at_risk_share_max:g}"
        )
    if (
        evidence.orders >= policy.established_orders
        and evidence.probability_inelastic > policy.inelastic_probability_max
    ):
        reasons.append(
            f"probability {evidence.probability_inelastic:.2f} that demand is inelastic "
            f"beyond {policy.inelastic_probability_max:g}"
        )
    band_low = policy.band_low_ratio * evidence.reference_price_minor
    band_high = policy.band_high_ratio * evidence.reference_price_minor
    in_band = band_low <= evidence.price_minor <= band_high
    if not in_band and not evidence.floor_forced:
        reasons.append(f"price outside its band of {band_low:.0f} to {band_high:.0f} minor units")
    reasons.extend(_stale(evidence, policy))
    if (
        evidence.sales_ratio is not None
        and evidence.epoch_orders >= policy.fast_sales_orders_min
        and evidence.sales_ratio > policy.fast_sales_ratio
    ):
        reasons.append(
            f"sales {evidence.sales_ratio:.1f} times the upper forecast beyond "
            f"{policy.fast_sales_ratio:g}"
        )
    if evidence.loop_gain is not None and evidence.loop_gain > policy.loop_gain_max:
        reasons.append(
            f"loop gain {evidence.loop_gain:.2f} with rivals that follow "
            f"beyond {policy.loop_gain_max:g}"
        )
    return tuple(reasons)


def _stale(evidence: Evidence, policy: BreakerPolicy) -> Iterator[str]:
    for name, age_ms, days_max in (
        ("stock", evidence.stock_age_ms, policy.stock_age_days_max),
        ("rivals", evidence.rival_age_ms, policy.rival_age_days_max),
        ("traffic", evidence.traffic_age_ms, policy.traffic_age_days_max),
        ("catalogue entry", evidence.catalogue_age_ms, policy.catalogue_age_days_max),
    ):
        if age_ms is not None and days_max is not None and age_ms > days_max * DAY_MS:
            yield f"{name} not reported for {age_ms / DAY_MS:.1f} days"


def cooled_down(breaker: BreakerState, now_ms: int, policy: BreakerPolicy) -> BreakerState:
    """OPEN becomes HALF_OPEN when its cool-down is over; a manual trip waits for its reset."""
    ends_ms = cool_down_ends_ms(breaker, policy)
    if ends_ms is None or now_ms < ends_ms:
        return breaker
    return replace(breaker, state=HALF_OPEN, since_ms=now_ms, until_ms=None)


def cool_down_ends_ms(breaker: BreakerState, policy: BreakerPolicy) -> int | None:
    """When an open breaker has cooled down; None where it is not open or waits for a reset.

    A manual trip ends at its expiry, if it has one.

    Each opening without a clean canary between doubles the cool-down, up to 32 times: a product
    that keeps failing is not tried, and reported, every day.
    """
    if breaker.state != OPEN:
        return None
    waits = MANUAL in breaker.reasons or waits_for_slip(breaker)
    if breaker.until_ms is not None or waits:
        return breaker.until_ms
    doublings = min(max(breaker.openings - 1, 0), DOUBLINGS_MAX)
    return breaker.since_ms + (int(policy.cool_down_hours * HOUR_MS) << doublings)


def waits_for_slip(breaker: BreakerState) -> bool:
    """Whether a catalogue figure beyond belief opened it: no time that passes cures that."""
    return any(SLIP in reason for reason in breaker.reasons)


def after_assessment(breaker: BreakerState, reasons: tuple[str, ...], now_ms: int) -> BreakerState:
    """The state after a decision was assessed: any reason opens; a clean canary closes."""
    if breaker.state == OPEN:
        return breaker
    if reasons:
        return BreakerState(OPEN, now_ms, reasons, breaker.openings + 1)
    if breaker.state == HALF_OPEN:
        return BreakerState(CLOSED, now_ms, ())
    return breaker


def after_drift(
    breaker: BreakerState, reason: str, now_ms: int, policy: BreakerPolicy
) -> BreakerState:
    """The state after a break of demand was found, as policy has it: half open, or open."""
    if breaker.state == OPEN or (breaker.state == HALF_OPEN and policy.on_drift == "half_open"):
        return breaker
    if policy.on_drift == "half_open":
        return half_open(now_ms, reason)
    return BreakerState(OPEN, now_ms, (reason,), breaker.openings + 1)


def tripped(now_ms: int, until_ms: int | None = None) -> BreakerState:
    """The state after an operator's trip; without ``until_ms`` it waits for a reset."""
    return BreakerState(OPEN, now_ms, (MANUAL,), until_ms=until_ms)


def reset(now_ms: int) -> BreakerState:
    """The state after an operator's reset: a canary first."""
    return BreakerState(HALF_OPEN, now_ms, (RESET,))


def half_open(since_ms: int, reason: str) -> BreakerState:
    """HALF_OPEN for a product that is priced by rule until it is known better."""
    return BreakerState(HALF_OPEN, since_ms, (reason,))
