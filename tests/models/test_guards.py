"""Guards: what each allows, which yields to which, and that no price leaves them broken."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.guards.guards import (
    Bound,
    Feasible,
    GuardInputs,
    Move,
    clamp,
    feasible,
    placed_bounds,
    round_price,
    rounding_of,
    violations,
)
from schemas.policy import GuardPolicy
from schemas.scopes import Place, PlacedGuards

INF = math.inf
PLAIN = GuardInputs(
    unit_cost_minor=500,
    kept_share=1.0,
    reference_price_minor=1000,
    list_price_minor=None,
    minimum_resale_price_minor={},
    previous_minor=None,
    day_anchor_minor=None,
)


def priced(price_minor: float, inputs: GuardInputs, policy: GuardPolicy) -> tuple[int, Feasible]:
    """The whole price that an aim ends at, and what was allowed."""
    allowed = feasible(held(inputs, policy), policy.tick_minor)
    moves = clamp(price_minor, allowed)
    after = moves[-1].after_minor if moves else price_minor
    return round_price(after, allowed, rounding_of(policy)), allowed


def held(inputs: GuardInputs, policy: GuardPolicy) -> tuple[Bound, ...]:
    """The guards of the only place."""
    return placed_bounds(inputs, [PlacedGuards(Place(), policy)])


def test_every_guard_is_an_interval_strongest_first() -> None:
    inputs = PLAIN._replace(
        unit_cost_minor=400,
        kept_share=0.8,
        list_price_minor=1500,
        minimum_resale_price_minor={"DE": 700, "US": 900},
        previous_minor=900,
        day_anchor_minor=800,
        canary_step_ratio=0.25,
    )
    policy = GuardPolicy(
        margin_floor_ratio=0.5,
        ceiling_list_price_ratio=0.75,
        ceiling_reference_ratio=2.0,
        floor_reference_ratio=0.5,
        step_ratio_max=0.125,
        day_step_ratio_max=0.5,
        minimum_resale_price_markets=("DE", "FR"),
    )
    assert held(inputs, policy) == (
        Bound("cost_floor", 500.0, INF),
        Bound("margin_floor", 1000.0, INF),
        Bound("minimum_resale_price", 700.0, INF),
        Bound("list_price_ceiling", 0.0, 1125.0),
        Bound("reference_ceiling", 0.0, 2000.0),
        Bound("reference_floor", 500.0, INF),
        Bound("day_step", 400.0, 1200.0),
        Bound("step", 787.5, 1012.5),
        Bound("canary_step", 675.0, 1125.0),
    )


def test_what_is_not_known_limits_nothing() -> None:
    assert [bound.guard for bound in held(PLAIN, GuardPolicy())] == [
        "cost_floor", "margin_floor", "reference_ceiling", "reference_floor",
    ]  # fmt: skip


CASES = [
    # why, inputs, policy, aim, price, gave way
    ("nothing binds", {}, {}, 1000.0, 1000, ()),
    ("the reference ceiling is 2.0 times 1000", {}, {}, 5000.0, 2000, ()),
    (
        "a cost jump lands exactly at the margin floor's tick: 2000 / 0.95, rounded up",
        {"unit_cost_minor": 2000, "list_price_minor": 5000, "reference_price_minor": 2500,
         "previous_minor": 1000, "day_anchor_minor": 1000},
        {}, 1800.0, 2106, ("day_step", "step"),
    ),
    (
        "... to the next tick of ten above it",
        {"unit_cost_minor": 2000, "list_price_minor": 5000, "reference_price_minor": 2500,
         "previous_minor": 1000, "day_anchor_minor": 1000},
        {"tick_minor": 10}, 1800.0, 2110, ("day_step", "step"),
    ),
    (
        "a list price cut below the step's floor: the ceiling is the law",
        {"list_price_minor": 700, "previous_minor": 1000, "day_anchor_minor": 1000},
        {}, 980.0, 700, ("day_step", "step"),
    ),
    (
        "... rounded to the safe side of a ceiling that is no tick",
        {"list_price_minor": 749, "previous_minor": 1000, "day_anchor_minor": 1000},
        {"tick_minor": 10}, 980.0, 740, ("day_step", "step"),
    ),
    (
        "no sale below cost, whatever the list price says",
        {"unit_cost_minor": 900, "list_price_minor": 800},
        {}, 850.0, 948, ("list_price_ceiling",),
    ),
    (
        "a minimum resale price above the list price",
        {"minimum_resale_price_minor": {"DE": 1200}, "list_price_minor": 1000},
        {"minimum_resale_price_markets": ("DE",)}, 1000.0, 1200, ("list_price_ceiling",),
    ),
    (
        "the day's limit is nearer than the step's",
        {"previous_minor": 1150, "day_anchor_minor": 1000},
        {}, 2000.0, 1200, (),
    ),
    (
        "a canary may move by 2 %",
        {"previous_minor": 1000, "day_anchor_minor": 1000, "canary_step_ratio": 0.02},
        {}, 1500.0, 1020, (),
    ),
    (
        "a step narrower than a tick, from a price that is none: the nearest tick, not the day's",
        {"previous_minor": 1440, "day_anchor_minor": 1440},
        {"tick_minor": 100, "step_ratio_max": 0.01, "day_step_ratio_max": 0.2},
        1440.0, 1400, ("step",),
    ),
    (
        "... and half-way between two of them the lower one",
        {"previous_minor": 1450, "day_anchor_minor": 1450},
        {"tick_minor": 100, "step_ratio_max": 0.01, "day_step_ratio_max": 0.2},
        1600.0, 1400, ("step",),
    ),
    ("half a tick goes down, for the buyer", {}, {"tick_minor": 10}, 1005.0, 1000, ()),
    ("more than half a tick goes up", {}, {"tick_minor": 10}, 1005.01, 1010, ()),
    (
        "rounding never crosses a floor: 540 is nearer, but below it",
        {"unit_cost_minor": 541},
        {"tick_minor": 10, "margin_floor_ratio": 0.0}, 541.0, 550, (),
    ),
    (
        "no price is below one tick",
        {"unit_cost_minor": 1}, {"floor_reference_ratio": 0, "tick_minor": 10}, 0.2, 10, (),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "policy", "aim", "expected", "gave_way"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_where_an_aim_ends(inputs, policy, aim, expected, gave_way) -> None:
    price, allowed = priced(aim, PLAIN._replace(**inputs), GuardPolicy(**policy))
    assert (price, allowed.gave_way) == (expected, gave_way)


def test_the_ledger_names_each_guard_that_moved_the_price() -> None:
    inputs = PLAIN._replace(list_price_minor=1500, previous_minor=1000, day_anchor_minor=1000)
    allowed = feasible(held(inputs, GuardPolicy()), 1)
    assert clamp(3000.0, allowed) == (
        Move("list_price_ceiling", 1500.0, 3000.0, 1500.0),
        Move("day_step", 1200.0, 1500.0, 1200.0),
        Move("step", 1100.0, 1200.0, 1100.0),
    )
    assert clamp(1050.0, allowed) == ()


# -- laws


@st.composite
def situations(draw: st.DrawFn, prices_max: int = 100_000) -> tuple[GuardInputs, GuardPolicy]:
    """Any product, with rules that need not fit together."""
    money = st.integers(1, prices_max)
    maybe = st.none() | money
    step, day_step = sorted((draw(st.floats(0.001, 1.0)), draw(st.floats(0.001, 1.0))))
    policy = GuardPolicy(
        margin_floor_ratio=draw(st.floats(0.0, 0.9)),
        ceiling_list_price_ratio=draw(st.floats(0.3, 2.0)),
        ceiling_reference_ratio=draw(st.floats(1.01, 5.0)),
        floor_reference_ratio=draw(st.floats(0.0, 1.0)),
        step_ratio_max=step,
        day_step_ratio_max=day_step,
        tick_minor=draw(st.sampled_from([1, 3, 10, 50, 99])),
        minimum_resale_price_markets=("DE",),
    )
    previous = draw(maybe)
    inputs = GuardInputs(
        unit_cost_minor=draw(money),
        kept_share=draw(st.floats(0.3, 1.0)),
        reference_price_minor=draw(money),
        list_price_minor=draw(maybe),
        minimum_resale_price_minor=draw(st.just({}) | st.fixed_dictionaries({"DE": money})),
        previous_minor=previous,
        day_anchor_minor=None if previous is None else draw(maybe),
        canary_step_ratio=None if previous is None else draw(st.none() | st.floats(0.001, 0.2)),
    )
    return inputs, policy


aims = st.floats(0.01, 1e6)


@given(situations(), aims)
def test_a_price_that_leaves_the_guards_breaks_none(situation, aim) -> None:
    inputs, policy = situation
    price, allowed = priced(aim, inputs, policy)
    assert violations(price, allowed) == ()
    assert price >= policy.tick_minor
    assert price % policy.tick_minor == 0
    # Nothing makes the floors give way.
    kept = price * inputs.kept_share
    assert kept >= inputs.unit_cost_minor * (1 - 1e-12)
    assert kept - inputs.unit_cost_minor >= policy.margin_floor_ratio * kept - 1e-9 * kept
    assert price >= inputs.minimum_resale_price_minor.get("DE", 0)


@given(situations(), aims)
def test_one_clamp_after_the_other_ends_inside_all_of_them(situation, aim) -> None:
    inputs, policy = situation
    allowed = feasible(held(inputs, policy), policy.tick_minor)
    moves = clamp(aim, allowed)
    after = moves[-1].after_minor if moves else aim
    assert after == min(max(aim, allowed.low_minor), allowed.high_minor)
    assert [move.before_minor for move in moves] == [
        aim, *(move.after_minor for move in moves[:-1])
    ][: len(moves)]  # fmt: skip
    assert all(move.bound_minor == move.after_minor != move.before_minor for move in moves)
    assert clamp(after, allowed) == ()


@given(situations(), aims)
def test_rounding_moves_by_less_than_a_tick(situation, aim) -> None:
    inputs, policy = situation
    price, allowed = priced(aim, inputs, policy)
    clamped = min(max(aim, allowed.low_minor), allowed.high_minor)
    assert abs(price - clamped) < policy.tick_minor


@given(situations(prices_max=400))
def test_a_guard_that_gives_way_leaves_the_nearest_allowed_tick(situation) -> None:
    """Against a plain search over all ticks."""
    inputs, policy = situation
    tick = policy.tick_minor
    found = held(inputs, policy)
    assume(all(bound.low_minor < 20_000 for bound in found))
    ticks, gave_way = list(range(tick, 20_000, tick)), []
    for bound in found:
        kept = [t for t in ticks if bound.low_minor <= t <= bound.high_minor]
        if not kept:
            gave_way.append(bound.guard)
            kept = [min(ticks, key=lambda t: (max(bound.low_minor - t, t - bound.high_minor), t))]
        ticks = kept
    allowed = feasible(found, tick)
    assert allowed.gave_way == tuple(gave_way)
    allowed_ticks = [
        t for t in range(tick, 20_000, tick) if allowed.low_minor <= t <= allowed.high_minor
    ]
    assert allowed_ticks == ticks


@given(situations(), aims, st.integers(2, 1000))
def test_guards_know_no_currency(situation, aim, factor) -> None:
    """All money times a number: every bound and move is times it too."""
    inputs, policy = situation
    scaled = inputs._replace(
        **{
            name: value * factor
            for name, value in inputs._asdict().items()
            if name.endswith("_minor") and isinstance(value, int)
        },
        minimum_resale_price_minor={
            market: price * factor for market, price in inputs.minimum_resale_price_minor.items()
        },
    )
    one, other = held(inputs, policy), held(scaled, policy)
    assert [bound.guard for bound in one] == [bound.guard for bound in other]
    for before, after in zip(one, other, strict=True):
        assert after.low_minor == pytest.approx(before.low_minor * factor, rel=1e-12)
        assert after.high_minor == pytest.approx(before.high_minor * factor, rel=1e-12)
