"""The circuit breaker: each reason by itself, and the way from one state to the next."""

import math
from typing import Any

import pytest
from msgspec.structs import replace

from models.breaker.breaker import (
    CLOSED,
    DAY_MS,
    HALF_OPEN,
    HOUR_MS,
    MANUAL,
    OPEN,
    Evidence,
    after_assessment,
    after_drift,
    assess,
    cool_down_ends_ms,
    cooled_down,
    half_open,
    reset,
    tripped,
)
from schemas.policy import BreakerPolicy
from schemas.state import BreakerState

POLICY = BreakerPolicy(
    scaled_delta_max=1.5,
    vega_at_risk_share_max=1.0,
    inelastic_probability_max=0.25,
    established_orders=20,
    band_low_ratio=0.35,
    band_high_ratio=2.5,
    stock_age_days_max=30.0,
    fast_sales_ratio=8.0,
    fast_sales_orders_min=20,
    cool_down_hours=24.0,
)
SOUND = Evidence(
    finite=True,
    interior=True,
    gamma=-0.01,
    scaled_delta=0.1,
    guard_below=False,
    guard_above=False,
    vega_at_risk_share=0.2,
    probability_inelastic=0.02,
    orders=50,
    price_minor=1000.0,
    reference_price_minor=1000,
    floor_forced=False,
    stock_age_ms=DAY_MS,
    sales_ratio=1.1,
    epoch_orders=30,
)

NOT_FINITE = "greeks are not finite"
CONVEX = "gamma is not negative at an interior optimum"
INELASTIC = "probability 0.26 that demand is inelastic beyond 0.25"
BAND = "price outside its band of 350 to 2500 minor units"

CASES = [
    # why, what differs from sound evidence, reasons
    ("all is well", {}, ()),
    ("a Greek is no number: nothing else is worth looking at",
     {"finite": False, "gamma": 1.0, "price_minor": 1.0}, (NOT_FINITE,)),
    ("the price is no number", {"price_minor": math.nan}, (NOT_FINITE,)),
    ("the price is infinite", {"price_minor": math.inf}, (NOT_FINITE,)),
    ("the optimum is no maximum", {"gamma": 1e-9}, (CONVEX,)),
    ("a flat optimum is none either", {"gamma": 0.0}, (CONVEX,)),
    ("convex at a bound or a guard is no sign of anything", {"interior": False, "gamma": 1.0}, ()),
    ("profit rises steeply towards dearer", {"scaled_delta": 1.51},
     ("scaled delta 1.51 beyond 1.5",)),
    ("... and towards cheaper", {"scaled_delta": -1.51}, ("scaled delta -1.51 beyond 1.5",)),
    ("steep, but not beyond the limit", {"scaled_delta": 1.5}, ()),
    ("a guard holds the price from above: the ledger has it",
     {"scaled_delta": 9.0, "guard_above": True}, ()),
    ("a guard holds the price from below: the ledger has it",
     {"scaled_delta": -9.0, "guard_below": True}, ()),
    ("a guard on the other side explains nothing", {"scaled_delta": 9.0, "guard_below": True},
     ("scaled delta 9 beyond 1.5",)),
    ("... nor above, where profit rises below", {"scaled_delta": -9.0, "guard_above": True},
     ("scaled delta -9 beyond 1.5",)),
    ("profit hangs on an uncertain volatility", {"vega_at_risk_share": 1.01},
     ("vega at risk 1.01 of profit beyond 1",)),
    ("an established product may be inelastic", {"probability_inelastic": 0.26}, (INELASTIC,)),
    ("... established with its twentieth order", {"probability_inelastic": 0.26, "orders": 20},
     (INELASTIC,)),
    ("a new one may: it is priced by the expert's rule",
     {"probability_inelastic": 0.99, "orders": 19}, ()),
    ("at the limit is not beyond it", {"probability_inelastic": 0.25}, ()),
    ("above its band", {"price_minor": 2501.0}, (BAND,)),
    ("below its band", {"price_minor": 349.0}, (BAND,)),
    ("a cost far off is news: a price set by its floor is no slip",
     {"price_minor": 2501.0, "floor_forced": True}, ()),
    ("at the edges of its band", {"price_minor": 350.0}, ()),
    ("stock was last reported 31 days ago", {"stock_age_ms": 31 * DAY_MS},
     ("stock not reported for 31.0 days",)),
    ("stock was never reported: nothing went stale", {"stock_age_ms": None}, ()),
    ("rivals were last seen 31 days ago", {"rival_age_ms": 31 * DAY_MS},
     ("rivals not reported for 31.0 days",)),
    ("traffic was last counted 31 days ago", {"traffic_age_ms": 31 * DAY_MS},
     ("traffic not reported for 31.0 days",)),
    ("30 days are not beyond 30", {"rival_age_ms": 30 * DAY_MS, "traffic_age_ms": 30 * DAY_MS}, ()),
    ("a listing need not repeat", {"catalogue_age_ms": 3000 * DAY_MS}, ()),
    ("we echo rivals who follow us", {"loop_gain": 0.91},
     ("loop gain 0.91 with rivals that follow beyond 0.9",)),
    ("an echo that dies away", {"loop_gain": 0.9}, ()),
    ("sales run away", {"sales_ratio": 8.1},
     ("sales 8.1 times the upper forecast beyond 8",)),
    ("sales at the limit", {"sales_ratio": 8.0}, ()),
    ("sales run away, but of few orders", {"sales_ratio": 80.0, "epoch_orders": 19}, ()),
    ("no forecast to compare with", {"sales_ratio": None}, ()),
    ("everything at once, in this order",
     {"gamma": 1.0, "scaled_delta": 2.0, "vega_at_risk_share": 3.0, "probability_inelastic": 0.26,
      "price_minor": 1.0, "stock_age_ms": 40 * DAY_MS, "sales_ratio": 9.0},
     (CONVEX, "scaled delta 2 beyond 1.5", "vega at risk 3 of profit beyond 1", INELASTIC, BAND,
      "stock not reported for 40.0 days", "sales 9.0 times the upper forecast beyond 8")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "reasons"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_reasons_to_trip(differs: dict[str, Any], reasons: tuple[str, ...]) -> None:
    assert assess(SOUND._replace(**differs), POLICY) == reasons


def test_a_catalogue_entry_goes_stale_where_policy_says_when() -> None:
    policy = replace(POLICY, catalogue_age_days_max=10.0)
    found = assess(SOUND._replace(catalogue_age_ms=11 * DAY_MS), policy)
    assert found == ("catalogue entry not reported for 11.0 days",)


REASONS = ("scaled delta 9 beyond 1.5",)
NOW_MS = 1_767_571_200_000

TRANSITIONS = [
    # why, before, reasons, after
    ("closed stays closed", BreakerState(), (), BreakerState()),
    ("closed trips", BreakerState(), REASONS, BreakerState(OPEN, NOW_MS, REASONS, openings=1)),
    ("open stays open, since when and why it did", BreakerState(OPEN, 5, ("stale",)), REASONS,
     BreakerState(OPEN, 5, ("stale",))),
    ("open does not close by itself", BreakerState(OPEN, 5, ("stale",)), (),
     BreakerState(OPEN, 5, ("stale",))),
    ("a canary passes: what went before is forgotten",
     BreakerState(HALF_OPEN, 5, ("stale",), openings=3), (), BreakerState(CLOSED, NOW_MS, ())),
    ("a canary dies", BreakerState(HALF_OPEN, 5, ("stale",), openings=3), REASONS,
     BreakerState(OPEN, NOW_MS, REASONS, openings=4)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "reasons", "after"), [c[1:] for c in TRANSITIONS], ids=[c[0] for c in TRANSITIONS]
)
def test_after_an_assessment(before, reasons, after) -> None:
    assert after_assessment(before, reasons, NOW_MS) == after


COOLING = [
    # why, breaker, hours since it opened, state
    ("a minute before its time", BreakerState(OPEN, NOW_MS, REASONS, 1), 23.99, OPEN),
    ("after its cool-down a canary may go", BreakerState(OPEN, NOW_MS, REASONS, 1), 24.0,
     HALF_OPEN),
    ("opened again, so it cools twice as long", BreakerState(OPEN, NOW_MS, REASONS, 2), 47.99,
     OPEN),
    ("... and then a canary may go", BreakerState(OPEN, NOW_MS, REASONS, 2), 48.0, HALF_OPEN),
    ("a manual trip waits for its reset", tripped(NOW_MS), 24_000.0, OPEN),
    ("closed has nothing to cool", BreakerState(), 48.0, CLOSED),
    ("half open waits for its decision", reset(NOW_MS), 48.0, HALF_OPEN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "hours", "state"), [c[1:] for c in COOLING], ids=[c[0] for c in COOLING]
)
def test_cooling_down_in_event_time(before, hours, state) -> None:
    now_ms = NOW_MS + int(hours * HOUR_MS)
    moved = {"state": state, "since_ms": now_ms} if state != before.state else {}
    assert cooled_down(before, now_ms, POLICY) == replace(before, **moved)


@pytest.mark.parametrize(
    ("openings", "days"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 32), (1000, 32)]
)
def test_every_opening_doubles_the_cool_down_up_to_32_times(openings: int, days: int) -> None:
    breaker = BreakerState(OPEN, NOW_MS, REASONS, openings)
    assert cool_down_ends_ms(breaker, POLICY) == NOW_MS + days * DAY_MS


def test_only_an_open_breaker_cools_and_not_one_that_a_person_tripped() -> None:
    assert cool_down_ends_ms(tripped(NOW_MS), POLICY) is None
    assert cool_down_ends_ms(BreakerState(OPEN, NOW_MS, (*REASONS, MANUAL)), POLICY) is None
    assert cool_down_ends_ms(BreakerState(), POLICY) is None


DRIFTED = ("drift",)
DRIFTS = [
    # policy, before, after
    ("half_open", BreakerState(), BreakerState(HALF_OPEN, NOW_MS, DRIFTED)),
    ("half_open", BreakerState(HALF_OPEN, 5, ("stale",)), BreakerState(HALF_OPEN, 5, ("stale",))),
    ("half_open", BreakerState(OPEN, 5, ("stale",)), BreakerState(OPEN, 5, ("stale",))),
    ("open", BreakerState(), BreakerState(OPEN, NOW_MS, DRIFTED, 1)),
    ("open", BreakerState(HALF_OPEN, 5, ("stale",), 2), BreakerState(OPEN, NOW_MS, DRIFTED, 3)),
    ("open", BreakerState(OPEN, 5, ("stale",)), BreakerState(OPEN, 5, ("stale",))),
]


@pytest.mark.parametrize(("on_drift", "before", "after"), DRIFTS)
def test_after_a_break_of_demand(on_drift: Any, before: BreakerState, after: BreakerState) -> None:
    assert after_drift(before, "drift", NOW_MS, replace(POLICY, on_drift=on_drift)) == after


def test_what_people_and_rules_may_set() -> None:
    assert tripped(NOW_MS) == BreakerState(OPEN, NOW_MS, ("manual trip",))
    assert reset(NOW_MS) == BreakerState(HALF_OPEN, NOW_MS, ("manual reset",))
    assert half_open(NOW_MS, "not yet known") == BreakerState(HALF_OPEN, NOW_MS, ("not yet known",))


def test_from_a_trip_to_closed_again() -> None:
    """Tripped, cooled, a canary that dies, cooled for twice as long, a canary that passes."""
    breaker = after_assessment(BreakerState(), REASONS, NOW_MS)
    states = [breaker.state]
    for hours, reasons in ((12, ()), (24, REASONS), (48, ()), (72, ())):
        now_ms = NOW_MS + hours * HOUR_MS
        breaker = cooled_down(breaker, now_ms, POLICY)
        states.append(breaker.state)
        breaker = after_assessment(breaker, reasons, now_ms)
    assert states == [OPEN, OPEN, HALF_OPEN, OPEN, HALF_OPEN]
    assert breaker == BreakerState(CLOSED, NOW_MS + 72 * HOUR_MS, ())
