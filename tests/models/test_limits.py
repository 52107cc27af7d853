"""Guards that need more than one product's numbers: ladders, adaptive steps, trials, endings."""

import math
from itertools import product
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.family.ladders import Ratios, _above, _below
from models.guards import adaptive_step
from models.guards.adaptive_step import Steps, local_elasticity, longest
from models.guards.guards import Feasible, Rounding, ends_well, round_price
from models.kernel.objective import PADDING, Row
from models.kernel.tile import Kernel
from schemas.policy import AdaptiveStep
from tests.models.tapes import Partition, Seen, at, policy

INF = math.inf
WIDE = Steps(2.0, 2.0)
prices = st.integers(1, 100_000)


# -- ladders


@given(prices, prices, st.floats(0.2, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_ladder_holds_whichever_of_two_new_prices_is_published(below, above, ratio, a, b) -> None:
    """The lower one may go as high as it is let, the upper one as low."""
    _, high = _below(Ratios(ratio, None), above, below)
    low, _ = _above(Ratios(ratio, None), below, above)
    new_below, new_above = high * (1.0 - 0.5 * a), low * (1.0 + b)
    stood = above >= ratio * below
    for one, other in product((below, new_below), (above, new_above)):
        if stood or (one, other) != (below, above):
            assert other >= ratio * one * (1.0 - 1e-12)


@given(prices, prices, st.floats(0.2, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_so_does_a_ladders_upper_ratio(below, above, ratio, a, b) -> None:
    low, _ = _below(Ratios(None, ratio), above, below)
    _, high = _above(Ratios(None, ratio), below, above)
    new_below, new_above = low * (1.0 + a), high * (1.0 - 0.5 * b)
    stood = above <= ratio * below
    for one, other in product((below, new_below), (above, new_above)):
        if stood or (one, other) != (below, above):
            assert other <= ratio * one * (1.0 + 1e-12)


LADDER = """
[[ladders]]
name = "size"
skus = ["A", "B"]
ratio_min = 1.25
"""


def test_a_ladder_bounds_both_products_in_the_engine(kernel: Kernel) -> None:
    """B costs less than A and would be cheaper; the ladder keeps it dearer, step by step."""
    shop = Partition(kernel)
    shop.send("product_listed", at(), family="F", unit_cost_minor=500, list_price_minor=None)
    shop.send("product_listed", at(), sku="B", family="F", unit_cost_minor=400,
              list_price_minor=None)  # fmt: skip
    shop.send("policy_published", at(hours=1), **policy(LADDER))
    latest: dict[str, int] = {}
    for hour in range(24, 24 * 8, 24):
        found = shop.tick(at(hours=hour))
        latest |= {one.sku: one.price_minor or 0 for one in found.latest}
        found = shop.send("cost_changed", at(hours=hour + 1), sku="B", unit_cost_minor=400 - hour)
        latest |= {one.sku: one.price_minor or 0 for one in found.latest}
    assert latest["B"] >= 1.25 * latest["A"]


def test_a_ladder_over_two_families_stops_its_products(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at())
    shop.send("policy_published", at(hours=1), **policy(LADDER))
    found = shop.send("product_listed", at(hours=2), sku="B")
    assert found.decisions == []
    assert [one.message for one in found.alerts] == [
        "B is not priced: ladder size: A is of family A, not B"
    ]


# -- the adaptive step

ROW = PADDING._replace(
    unit_cost=0.5, elasticity=-2.0, elasticity_variance=0.09, return_max=0.4, return_log=1.0,
    return_intercept=-1.0, return_cost=0.05,
)  # fmt: skip


def stepped(name: str, tolerance: float, row: Row = ROW, share: float = 1.0) -> Steps:
    rule = AdaptiveStep(probability_max=0.1, tolerances={name: tolerance})
    return longest(rule, row, 1.0, share, WIDE)


def chance_of_a_fall(name: str, step: float, tolerance: float, row: Row = ROW) -> float:
    """P(indicator falls by more than its tolerance) after a step, from normal quantiles alone."""
    eps = NormalDist(row.elasticity, math.sqrt(row.elasticity_variance))
    sign = {"stock_cover": -1.0}.get(name, 1.0)
    fixed = {"category_revenue": step}.get(name, 0.0)
    if name == "profit":
        margins = [adaptive_step._margin(row, math.exp(x)) for x in (step, 0.0)]
        fixed = math.log(margins[0] / margins[1])
    threshold = (math.log1p(-tolerance) - fixed) / (sign * step)
    below = eps.cdf(threshold)
    return below if sign * step > 0.0 else 1.0 - below


@pytest.mark.parametrize(
    "name", ["units", "conversion", "stock_cover", "category_revenue", "profit"]
)
@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.3])
def test_the_longest_step_is_where_the_risk_is_as_large_as_allowed(name, tolerance) -> None:
    steps = stepped(name, tolerance, ROW._replace(unlimited=0.0))
    limited = [step for step in (-steps.down, steps.up) if abs(step) < INF]
    assert limited != []
    for step in limited:
        assert chance_of_a_fall(name, step, tolerance) == pytest.approx(0.1, abs=1e-6)
        assert chance_of_a_fall(name, 0.9 * step, tolerance) < 0.1


def test_a_step_that_can_only_help_is_not_limited() -> None:
    assert stepped("units", 0.1).down == INF  # cheaper sells more, beyond doubt
    assert stepped("stock_cover", 0.1).down == INF  # stock is unlimited
    limited = ROW._replace(unlimited=0.0)
    assert stepped("stock_cover", 0.1, limited) == Steps(
        math.log1p(-0.1) / (-2.0 - 1.2815515655446004 * 0.3), INF
    )
    assert stepped("category_revenue", 0.1, share=0.05) == Steps(INF, INF)


def test_margin_falls_by_its_tolerance_and_no_more() -> None:
    down = stepped("margin", 0.2).down
    assert adaptive_step._margin(ROW, math.exp(-down)) == pytest.approx(
        0.8 * adaptive_step._margin(ROW, 1.0), rel=1e-9
    )
    assert stepped("margin", 0.2, ROW._replace(unit_cost=2.0)) == Steps(INF, INF)


def test_the_local_elasticity_is_the_slope_of_demand() -> None:
    row = ROW._replace(rival_omega=2.0, rival_price=0.98, rival_tau=0.03)
    from models.guards.limits import units_per_day

    slope = (
        math.log(units_per_day(row, math.exp(1e-6))) - math.log(units_per_day(row, math.exp(-1e-6)))
    ) / 2e-6
    assert local_elasticity(row, 1.0) == pytest.approx(slope, rel=1e-6)


def test_the_engine_keeps_the_adaptive_step(kernel: Kernel) -> None:
    shop = Partition(kernel)
    text = "[guards]\nadaptive_step = {probability_max = 0.1, tolerances = {units = 0.02}}\n"
    shop.send("policy_published", at(), **policy(text))
    first = shop.send("product_listed", at(), list_price_minor=None).decision
    dearer = shop.send("cost_changed", at(hours=1), unit_cost_minor=600).decision
    assert "guard: adaptive_step" in dearer.reasons
    assert first.price_minor is not None
    assert dearer.price_minor is not None
    assert 0 < dearer.price_minor - first.price_minor < 0.02 * first.price_minor


# -- endings


@pytest.mark.parametrize(
    ("low", "high", "price", "expected"),
    [
        (0.0, INF, 1234.0, 1249),
        (0.0, INF, 1224.0, 1199),  # half-way goes down
        (0.0, 1248.0, 1240.0, 1199),  # the safe side of a ceiling
        (1200.0, INF, 1201.0, 1249),  # ... and of a floor
        (1200.0, 1248.0, 1240.4, 1240),  # no ending between: the tick
        (0.0, INF, 3.0, 49),
    ],
)
def test_a_price_ends_on_the_safe_side(low, high, price, expected) -> None:
    rounding = Rounding(1, 100, (49, 99))
    assert round_price(price, Feasible(low, high, (), ()), rounding) == expected


@given(st.floats(1.0, 1e5), st.floats(0.0, 500.0), st.floats(1.0, 1e5))
def test_the_ending_is_the_nearest_inside(low, width, price) -> None:
    """Against a plain search; where there is none, the nearest tick inside."""
    rounding, allowed = Rounding(1, 100, (49, 99)), Feasible(low, low + width, (), ())
    whole = range(math.ceil(low), math.floor(low + width) + 1)
    if whole:
        inside = [p for p in whole if ends_well(p, rounding)] or whole
        assert round_price(price, allowed, rounding) == min(
            inside, key=lambda p: (abs(p - price), p)
        )


def test_an_ending_that_cannot_be_had_gives_way(kernel: Kernel) -> None:
    shop = Partition(kernel)
    text = "[guards]\nendings_minor = [99]\nstep_ratio_max = 0.02\n"
    shop.send("policy_published", at(), **policy(text))
    first = shop.send("product_listed", at()).decision
    assert first.price_minor is not None
    assert first.price_minor % 100 == 99
    second = shop.send(
        "product_listed", at(hours=1), list_price_minor=first.price_minor - 5
    ).decision
    assert "gave way: ending" in second.reasons
    assert second.record is not None
    assert second.record.gave_way == ("ending",)


# -- the smallest step


def test_a_move_that_nobody_would_see_is_not_made(kernel: Kernel) -> None:
    shop = Partition(kernel)
    text = "[guards]\nstep_ratio_min = 0.05\n"
    shop.send("policy_published", at(), **policy(text))
    first = shop.send("product_listed", at(), list_price_minor=None).decision
    small = shop.send("cost_changed", at(hours=1), unit_cost_minor=512).decision
    assert small.price_minor == first.price_minor
    assert "smaller than the smallest step that buyers notice" in small.reasons
    assert first.price_minor is not None
    ceiling = round(first.price_minor * 0.98)
    forced = shop.send(
        "product_listed", at(hours=2), unit_cost_minor=512, list_price_minor=ceiling
    ).decision
    assert forced.price_minor == ceiling
    assert "smaller than the smallest step, as a guard demands" in forced.reasons


# -- trials below the minimum resale price

TRIAL = """
[guards]
minimum_resale_price_markets = ["DE"]
minimum_resale_price_trial = {channels = ["web"], channel_share_min = 0.5, depth_ratio_max = 0.05, days_max = 3, rest_days = 5}
"""  # noqa: E501


CALM = """
[decision]
exploration_budget_profit_share = 0.1
exploration_log = 0.0
[breaker]
fast_sales_ratio = 1000
scaled_delta_max = 100
"""


def tried(kernel: Kernel, channel: str, rival_minor: int) -> tuple[Partition, Seen]:
    """A product whose best price is far below its agreed minimum of 1000, with 25 orders."""
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy(TRIAL + CALM))
    listing: dict[str, Any] = {"minimum_resale_price_minor": {"DE": 1000}, "unit_cost_minor": 200}
    shop.send("product_listed", at(), **listing)
    for number in range(25):
        shop.send("order_placed", at(hours=1), order_id=f"o{number}", channel=channel)
    shop.send("competitor_price_observed", at(hours=2), price_minor=rival_minor)
    return shop, shop.send("cost_changed", at(hours=3), unit_cost_minor=190)


@pytest.mark.parametrize(
    ("channel", "rival_minor", "least"),
    [("web", 970, 970), ("web", 900, 950), ("web", 1000, 1000), ("letter", 900, 1000)],
)
def test_a_trial_goes_no_lower_than_rivals_and_its_depth(
    kernel: Kernel, channel, rival_minor, least
) -> None:
    _, found = tried(kernel, channel, rival_minor)
    assert found.decision.price_minor == least


def test_a_trial_is_charged_and_finds_its_way_back(kernel: Kernel) -> None:
    shop, found = tried(kernel, "web", 900)
    assert found.decision.exploration_cost_per_day_minor > 0.0
    prices = {0: found.decision.price_minor}
    for day in range(1, 12):
        shop.send("competitor_price_observed", at(days=day), price_minor=900)
        for one in shop.tick(at(days=day, hours=1)).latest:
            prices[day] = one.price_minor
        for one in shop.send("cost_changed", at(days=day, hours=2), unit_cost_minor=190).latest:
            prices[day] = one.price_minor
    assert [prices[day] for day in range(12)] == [950] * 3 + [1000] * 5 + [950] * 3 + [1000]
