"""The light model's arithmetic against the kernel: the same objective, and the same best price."""

import math

import numpy as np
import pytest

from models.kernel.objective import PADDING, Row
from models.kernel.tile import Kernel
from models.quotes.design import around, split
from models.quotes.light import (
    FEATURES,
    LAST_STEP_MAX,
    features,
    is_covered,
    objective,
    polished,
)

BASE = [
    PADDING._replace(
        unit_cost=cost, return_cost=0.1 * cost, kept_share=0.82, horizon_days=7.0,
        demand_per_day=demand, elasticity=elasticity, demand_volatility=0.3, stock=20.0,
        unlimited=0.0, holding_cost_per_day=0.0005 * cost, continuation_value=cost,
        risk_aversion=0.1, target_leftover=14.0 * max(demand, 0.1), value_volatility=0.02,
        level_variance=0.06, level_elasticity_covariance=0.01, elasticity_variance=0.5,
        return_max=0.9, return_intercept=-2.0, return_log=0.5, return_rate_sd=0.02,
        rival_tau=0.03, exact_small_stock=1.0, lower=0.2, upper=5.0,
    )
    for cost in (0.2, 0.5) for demand in (0.2, 3.0, 40.0) for elasticity in (-3.2, -1.6)
]  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return around(BASE, 400, seed=3)


def test_the_objective_is_the_kernels(kernel: Kernel, rows: list[Row]) -> None:
    prices = [[0.4, 0.9, 1.3, 2.1] for _ in rows]
    for row, found in zip(rows, kernel.evaluate(rows, prices), strict=True):
        ours = [objective(math.log(price), row) for price in prices[0]]
        scale = max(map(abs, found.objectives))
        assert ours == pytest.approx(found.objectives, rel=1e-9, abs=1e-9 * scale)


def test_polishing_comes_to_rest_at_the_best_price(kernel: Kernel, rows: list[Row]) -> None:
    rested = 0
    for row, best in zip(rows, kernel.solve(rows), strict=True):
        near = polished(row, math.log(best.price) + 0.02)
        assert near is not None
        rested += near.last_step <= LAST_STEP_MAX
        if near.last_step <= LAST_STEP_MAX:
            assert near.price == pytest.approx(best.price, rel=0.001)
    assert rested > 0.99 * len(rows)


def test_a_start_far_off_does_not_come_to_rest(kernel: Kernel) -> None:
    (row,) = BASE[:1]
    (best,) = kernel.solve([row])
    far = polished(row, math.log(best.price) + 1.2)
    assert far is not None
    assert far.last_step > LAST_STEP_MAX


def test_what_overflows_is_no_answer() -> None:
    assert polished(BASE[0]._replace(elasticity=-1e6), -1.0) is None


def test_features_do_not_depend_on_the_currency_or_the_reference(rows: list[Row]) -> None:
    """All money doubled, as with another reference price: the anchor moves, nothing else."""
    money = ("unit_cost", "return_cost", "holding_cost_per_day", "continuation_value",
             "rival_price", "lower", "upper")  # fmt: skip
    moved = {"anchor": math.log(2.0), "log_break_even": math.log(2.0)}
    for row in rows:
        plain = row._replace(return_log=0.0, elasticity_variance=0.0,
                             level_elasticity_covariance=0.0)  # fmt: skip
        doubled = plain._replace(
            demand_per_day=plain.demand_per_day * 2.0**-plain.elasticity,
            **{name: 2.0 * getattr(plain, name) for name in money},
        )
        before = dict(zip(FEATURES, features(plain), strict=True))
        after = dict(zip(FEATURES, features(doubled), strict=True))
        for name in ("anchor", "log_break_even", "return_rate", "over_rival", "holding"):
            assert after[name] == pytest.approx(before[name] + moved.get(name, 0.0), abs=1e-9)


def test_the_design_is_seeded_and_keeps_products_apart() -> None:
    assert around(BASE, 50, seed=1) == around(BASE, 50, seed=1)
    assert around(BASE, 50, seed=1) != around(BASE, 50, seed=2)
    parts = split(100, seed=1)
    assert (len(parts.training), len(parts.held_out)) == (80, 20)
    assert sorted([*parts.training, *parts.held_out]) == list(range(100))
    assert all(np.isfinite(features(row)).all() for row in around(BASE, 500, seed=4))


def test_other_goals_and_families_are_not_covered() -> None:
    assert is_covered(BASE[0])
    assert not is_covered(BASE[0]._replace(cost_weight=0.0))
    assert not is_covered(BASE[0]._replace(partner_profit_up=1.0))
