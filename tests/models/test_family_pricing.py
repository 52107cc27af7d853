"""The joint search of a family: against brute force, its bound, its ladders, and its limits."""

import math

import numpy as np
import pytest

from benchmarks.families import bouquets, brute_force, random_family
from models.family.family_bound import bounded
from models.family.family_demand import BudgetGroup, Budgets, curvature, gradient, profits
from models.family.family_ladders import Link
from models.family.family_pricing import family_of, joint_optimum
from models.family.family_profit import Floats, Member, earned, own_log

PLAIN = Member(
    weight=1000.0, demand_per_day=5.0, elasticity=-2.0, unit_cost=0.4, return_cost=0.0,
    kept_share=1.0, return_min=0.0, return_max=0.0, return_intercept=0.0, return_log=0.0,
    ln_price=0.0, low=-1.0, high=1.0,
)  # fmt: skip
GROUPS = Budgets((BudgetGroup(1500, 0.5, 0.1), BudgetGroup(2500, 0.3, 0.05)))


@pytest.mark.parametrize("seed", range(100, 112))
def test_it_finds_what_brute_force_finds(seed: int) -> None:
    family = random_family(seed, members_max=4)
    found = joint_optimum(family).profit_per_day_minor
    assert found >= brute_force(family) * (1.0 - 0.005)


@pytest.mark.parametrize("seed", range(100, 106))
def test_no_prices_earn_more_than_the_bound(seed: int) -> None:
    family = random_family(seed, members_max=3)
    found = joint_optimum(family)
    root = bounded(family, found.ln_price, boxes_max=1)
    proved = bounded(family, found.ln_price)
    best = brute_force(family)
    assert root.bound_per_day_minor >= proved.bound_per_day_minor >= best * (1.0 - 1e-9)
    assert (root.boxes, proved.gap_ratio <= 0.005) == (1, True)


def test_the_bound_finds_better_prices_than_a_bad_start() -> None:
    family = random_family(101, members_max=3)
    best = joint_optimum(family)
    found = bounded(family, family.ladders.high)
    assert found.profit_per_day_minor >= best.profit_per_day_minor * (1.0 - 0.005)


def test_products_that_do_not_see_each_other_keep_their_prices() -> None:
    """Lerner's mark-up, twice the cost at an elasticity of -2, to the grid's last zoom."""
    found = joint_optimum(family_of([PLAIN, PLAIN._replace(elasticity=-3.0)], np.zeros((2, 2))))
    assert found.ln_price == pytest.approx([math.log(0.8), math.log(0.6)], abs=1e-5)
    assert found.alone.tolist() == found.ln_price.tolist()
    assert found.partner_slope.tolist() == [0.0, 0.0]
    assert found.cross_gamma[0, 1] == 0.0


def test_substitutes_are_dearer_together_and_complements_cheaper() -> None:
    for effect, sign in ((0.4, 1.0), (-0.4, -1.0)):
        cross = np.array([[0.0, effect], [effect, 0.0]])
        found = joint_optimum(family_of([PLAIN, PLAIN], cross))
        assert (sign * (found.ln_price - found.alone) > 0.05).all()
        # own and partner's part of the slope cancel: an interior optimum
        interior = np.abs(found.ln_price) < 1.0
        assert interior.any()
        assert found.profit_slope[interior] == pytest.approx(0.0, abs=1e-3)
        assert (sign * found.partner_slope > 0.0).all()


def test_a_sold_out_partner_is_not_sold_more() -> None:
    """Its demand rises with the own price, but there is nothing left to sell."""
    cross = np.array([[0.0, 0.0], [0.8, 0.0]])
    empty = PLAIN._replace(stock=1e-3, demand_volatility=0.3)
    low = PLAIN._replace(demand_per_day=0.5)
    with_stock = joint_optimum(family_of([low, PLAIN], cross))
    without = joint_optimum(family_of([low, empty], cross))
    assert with_stock.ln_price[0] - with_stock.alone[0] > 0.1
    assert without.ln_price[0] == pytest.approx(without.alone[0], abs=1e-3)


def derivatives(columns: Member, demand: object, x: Floats) -> tuple[Floats, Floats]:
    step = 1e-5
    up, down = x + step * np.eye(len(x)), x - step * np.eye(len(x))
    slopes = (profits(columns, demand, up) - profits(columns, demand, down)) / (2 * step)  # type: ignore[arg-type]
    bends = (gradient(columns, demand, up) - gradient(columns, demand, down)) / (2 * step)  # type: ignore[arg-type]
    return slopes, bends


@pytest.mark.parametrize(("budgets", "fading"), [(None, False), (None, True), (GROUPS, False)])
def test_slopes_and_cross_gamma_are_those_of_differences(
    budgets: Budgets | None, fading: bool
) -> None:
    rng = np.random.default_rng(103)
    member = PLAIN._replace(
        return_min=0.02, return_max=0.9, return_intercept=-1.5, return_log=1.0, rival_omega=3.0,
        rival_threshold=0.1, horizon_days=7.0, stock=30.0, demand_volatility=0.3, overage=0.05,
        value_risk=1e-3, target_leftover=10.0, weight=2000.0,
    )  # fmt: skip
    members = [member, member._replace(stock=np.inf, value_risk=0.0), member]
    cross = None if budgets else rng.uniform(-0.5, 0.5, (3, 3))
    family = family_of(members, cross, budgets=budgets, fading=fading)
    for _ in range(10):
        x = rng.uniform(-0.4, 0.4, 3)
        slopes, bends = derivatives(family.columns, family.demand, x)
        size = np.abs(earned(family.columns, x, family.demand.log_demand(x)).profit).sum() + 1.0
        assert gradient(family.columns, family.demand, x) == pytest.approx(slopes, abs=1e-4 * size)
        assert curvature(family.columns, family.demand, x) == pytest.approx(bends, abs=1e-2 * size)


def test_demand_at_the_present_prices_is_the_products_own() -> None:
    members = [PLAIN._replace(ln_price=0.2), PLAIN._replace(weight=2200.0, ln_price=-0.1)]
    family = family_of(members, budgets=GROUPS)
    now = np.array([0.2, -0.1])
    expected = [5.0 * math.exp(float(own_log(m, m.ln_price))) for m in members]  # type: ignore[arg-type]
    assert np.exp(family.demand.log_demand(now)) == pytest.approx(expected)


def test_effects_that_fade_keep_prices_finite_and_units_conserved() -> None:
    """What partners gain is at most what the product loses, whatever the elasticities say."""
    cross = np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    family = family_of([PLAIN._replace(high=3.0)] * 3, cross, fading=True)
    for x in np.linspace(0.0, 3.0, 13):
        moved = np.exp(family.demand.log_demand(np.array([[0.0, 0.0, 0.0], [x, 0.0, 0.0]])))
        lost, gained = moved[0, 0] - moved[1, 0], (moved[1, 1:] - moved[0, 1:]).sum()
        assert gained <= lost * 1.3 + 1e-9
    runs_away = joint_optimum(family_of([PLAIN._replace(high=3.0)] * 3, 0.2 * cross))
    stays = joint_optimum(family_of([PLAIN._replace(high=3.0)] * 3, 0.2 * cross, fading=True))
    assert runs_away.ln_price.max() == pytest.approx(3.0)
    assert stays.ln_price.max() < 0.5


# -- ladders


def test_ladders_hold_in_the_optimum_and_cost_something() -> None:
    cross = np.array([[0.0, 0.2], [0.2, 0.0]])
    members = [PLAIN, PLAIN._replace(elasticity=-3.5)]
    free = joint_optimum(family_of(members, cross))
    assert free.ln_price[1] < free.ln_price[0]
    ladder = [Link(0, 1, math.log(1.1), math.inf)]
    held = joint_optimum(family_of(members, cross, links=ladder))
    assert held.ladders_kept
    assert held.ln_price[1] - held.ln_price[0] == pytest.approx(math.log(1.1), abs=1e-9)
    assert held.profit_per_day_minor < free.profit_per_day_minor
    # the best of all points on the ladder's edge
    grid = np.linspace(-1.0, 1.0, 20_001)
    edge = np.stack([grid, grid + math.log(1.1)], axis=1)[grid + math.log(1.1) <= 1.0]
    family = family_of(members, cross)
    best = float(profits(family.columns, family.demand, edge).max())
    assert held.profit_per_day_minor == pytest.approx(best, rel=1e-6)


def test_ladders_over_many_products_are_kept_by_whatever_is_tried() -> None:
    rng = np.random.default_rng(107)
    for _ in range(20):
        n = int(rng.integers(3, 7))
        members = [
            PLAIN._replace(elasticity=rng.uniform(-3, -1.4), weight=rng.uniform(900, 1100))
            for _ in range(n)
        ]
        links = [Link(i, i + 1, 0.02, 0.2) for i in range(n - 1)]
        family = family_of(members, rng.uniform(-0.3, 0.3, (n, n)), links=links)
        found = joint_optimum(family)
        ln_price = found.ln_price + np.log([member.weight for member in members])
        gaps = np.diff(ln_price)
        assert found.ladders_kept
        assert (gaps > 0.02 - 1e-9).all()
        assert (gaps < 0.2 + 1e-9).all()
        assert (np.abs(found.ln_price) <= 1.0 + 1e-12).all()
        # no random allowed prices are better
        tried = family.ladders.fit(rng.uniform(-1, 1, (4000, n)))
        best = float(profits(family.columns, family.demand, tried).max())
        assert found.profit_per_day_minor >= best


def test_ladders_that_no_prices_keep_are_dropped_and_told() -> None:
    members = [PLAIN._replace(low=0.5), PLAIN._replace(high=0.0)]
    found = joint_optimum(family_of(members, np.zeros((2, 2)), links=[Link(0, 1, 0.1, math.inf)]))
    assert not found.ladders_kept
    assert found.ln_price == pytest.approx([0.5, math.log(0.8)], abs=1e-5)


# -- the rest


def test_the_bouquets_of_the_docs() -> None:
    told = bouquets()
    assert told["prices_minor"] == told["brute_force_prices_minor"]
    assert told["shortfall"] < 1e-4
    assert told["gap_ratio"] <= 0.005


def test_the_same_family_gives_the_same_bytes() -> None:
    family = random_family(110, members_max=6)
    first, second = joint_optimum(family), joint_optimum(random_family(110, members_max=6))
    assert first.ln_price.tobytes() == second.ln_price.tobytes()
    assert first.cross_gamma.tobytes() == second.cross_gamma.tobytes()


def test_a_family_that_makes_no_sense_is_refused() -> None:
    for cross in (np.zeros((3, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"expected finite numbers, \[2, 2\]"):
            family_of([PLAIN, PLAIN], cross)
    for given in ({}, {"cross": np.zeros((2, 2)), "budgets": GROUPS}):
        with pytest.raises(ValueError, match="expected one of them"):
            family_of([PLAIN, PLAIN], **given)
