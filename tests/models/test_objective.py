"""The kernels' objective against the one in numpy, and the laws it must obey."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernel.elementary import log1p, log1p_ratio, softplus
from models.kernel.objective import TIE_BREAK, counted_sales, weights
from models.kernel.tile import Kernel
from tests.models import numpy_objective
from tests.models.problems import plain, problems, random_goal, random_problem, to_row

RNG = np.random.default_rng(20)


def test_the_objective_is_that_of_numpy_at_a_thousand_points(kernel: Kernel):
    cases = [random_problem(RNG) for _ in range(1_000)]
    cases[500:] = [random_goal(case, RNG) for case in cases[500:]]
    prices = [[float(RNG.uniform(0.5, 2.0)) for _ in range(2)] for _ in cases]
    found = kernel.evaluate([to_row(case) for case in cases], prices)
    for case, at, result in zip(cases, prices, found, strict=True):
        unit = case.reference_price
        for price, objective in zip(at, result.objectives, strict=True):
            expected = numpy_objective.objective(case, price * unit) / unit
            scale = _size(case, price * unit) / unit
            assert objective == pytest.approx(expected, abs=1e-12 * scale)
        last = at[-1] * unit
        sales, fill = numpy_objective.sales_and_fill(case, last)
        expected_profit = numpy_objective.expected_profit(case, last) / unit
        size = 1e-12 * _size(case, last) / unit
        assert result.expected_profit == pytest.approx(expected_profit, abs=size)
        mean = numpy_objective.mean_demand(case, last)
        assert result.mean_demand == pytest.approx(mean, rel=1e-12)
        assert result.expected_sales == pytest.approx(sales, abs=1e-12 * (case.stock or sales))
        assert result.sales_fill == pytest.approx(fill, abs=1e-12)
        assert result.return_rate == pytest.approx(numpy_objective.return_rate(case, last))
        assert result.finite


def _size(case: numpy_objective.Problem, price: float) -> float:
    """The size of the terms that the objective adds up."""
    mean = numpy_objective.mean_demand(case, price)
    goods = case.cost * (case.stock or 0.0) * (1.0 + case.horizon_days)
    off = (case.stock or 0.0) + case.target_leftover
    family = abs(case.partner_profit_up) + abs(case.partner_profit_down)
    own = price * mean + goods + case.cost * off * off / case.target_leftover
    return own + case.horizon_days * family * (price / case.reference_price) ** 1.5


@pytest.mark.parametrize("stock", [0.5, 1.0, 2.0, 3.7, 8.0])
@pytest.mark.parametrize("dispersion", [0.0, 1e-12, 1e-3, 0.09, 0.5, 4.0])
@pytest.mark.parametrize("mean", [1e-6, 0.3, 2.0, 8.0, 60.0])
def test_small_stock_is_summed_exactly(stock: float, dispersion: float, mean: float):
    found = counted_sales(jnp.array(mean), jnp.array(stock), jnp.array(dispersion))
    # scipy loses digits in 1/phi where Poisson demand is already the answer.
    law = 0.0 if dispersion < 1e-9 else dispersion
    assert float(found) == pytest.approx(numpy_objective.exact_sales(mean, law, stock), rel=1e-9)


def test_one_more_unit_is_worth_the_chance_to_sell_it():
    by_stock = jax.grad(counted_sales, argnums=1)
    for stock in (1.0, 3.0, 7.0):
        more = [
            counted_sales(jnp.array(5.0), jnp.array(q), jnp.array(0.2)) for q in (stock, stock + 1)
        ]
        slope = by_stock(jnp.array(5.0), jnp.array(stock), jnp.array(0.2))
        assert float(slope) == pytest.approx(float(more[1] - more[0]), rel=1e-12)


@pytest.mark.parametrize("mean", [5.0, 12.0, 40.0, 200.0])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_lognormal_formula_is_near_the_exact_sum(mean: float, ratio: float):
    case = plain(stock=max(5.0, round(mean * ratio)), demand_per_day=mean / 7.0)
    sales, _ = numpy_objective.sales_and_fill(case, 100.0)
    exact = numpy_objective.exact_sales(mean, 0.09, case.stock or 0.0)
    assert sales == pytest.approx(exact, rel=0.025)


@given(problems, st.floats(0.4, 2.5))
def test_nothing_is_not_a_number(kernel: Kernel, problem: numpy_objective.Problem, price: float):
    (result,) = kernel.evaluate([to_row(problem)], [[price]])
    numbers = [result.objectives[0], result.slopes[0], *result.greeks, *result[3:10]]
    assert all(math.isfinite(number) for number in numbers if number is not None)
    assert result.finite


@pytest.mark.parametrize(
    "edge",
    [
        {"stock": 0.0},
        {"demand_volatility": 0.0, "stock": 30.0},
        {"demand_volatility": 0.0, "demand_per_day": 1e9, "stock": 1.0},
        {"demand_per_day": 1e-9, "stock": 1e6},
    ],
)
def test_the_edges_of_the_domain_have_numbers(kernel: Kernel, edge: dict[str, float]):
    row = to_row(plain(**edge, risk_aversion=0.5, value_volatility=0.02))
    (result,) = kernel.evaluate([row], [[1.1]])
    (solution,) = kernel.solve([row])
    assert result.finite
    assert solution.finite


def test_overflow_is_flagged_and_does_not_spread(kernel: Kernel):
    broken = to_row(plain(demand_per_day=1e300, stock=5.0, risk_aversion=0.1))
    sound = to_row(plain())
    results = kernel.evaluate([sound, broken, sound], [[1.0]] * 3)
    assert [result.finite for result in results] == [True, False, True]
    assert results[0] == results[2]
    nan = sound._replace(unit_cost=math.nan)
    assert [x.finite for x in kernel.solve([sound, nan, sound])] == [True, False, True]


def test_a_short_horizon_forgets_the_risk_of_value(kernel: Kernel):
    def skew(horizon_days: float) -> float:
        # Demand over the horizon is held, so only the w term moves.
        fields = {
            "stock": 400.0,
            "risk_aversion": 0.3,
            "demand_volatility": 0.0,
            "horizon_days": horizon_days,
            "demand_per_day": 70.0 / horizon_days,
        }
        rows = [to_row(plain(**fields, value_volatility=w)) for w in (0.0, 0.05)]
        calm, wild = kernel.solve(rows)
        return calm.price - wild.price

    skews = [skew(horizon) for horizon in (7.0, 0.7, 0.07, 1e-6)]
    assert skews[0] > skews[1] > skews[2] > skews[3] >= 0.0
    assert skews[3] < 1e-6


def test_a_family_without_effects_changes_nothing(kernel: Kernel):
    cases = [to_row(random_problem(RNG)) for _ in range(200)]
    beside = [
        case._replace(partner_elasticity_up=1.2, partner_elasticity_down=-0.7) for case in cases
    ]
    assert kernel.solve(beside) == kernel.solve(cases)
    assert kernel.evaluate(beside, [[1.1]] * 200) == kernel.evaluate(cases, [[1.1]] * 200)


def test_substitutes_raise_the_price_and_complements_lower_it(kernel: Kernel):
    alone = to_row(plain())
    up = alone._replace(partner_profit_up=2.0, partner_elasticity_up=0.5)
    down = alone._replace(partner_profit_down=2.0, partner_elasticity_down=-0.5)
    still = alone._replace(partner_profit_up=2.0)  # they earn, whatever the price
    solved = kernel.solve([alone, up, down, still])
    assert solved[2].price < solved[0].price < solved[1].price
    assert solved[3].price == pytest.approx(solved[0].price, rel=1e-9)
    assert solved[3].objective == pytest.approx(solved[0].objective + 14.0, rel=1e-12)
    at = kernel.evaluate([alone, up, down, still], [[1.1]] * 4)
    assert len({one.expected_profit for one in at}) == 1  # the own profit stays the own
    assert at[1].greeks.delta - at[0].greeks.delta == pytest.approx(7.0 * 1.1**-0.5, rel=1e-12)


def _solved_for(kernel: Kernel, maximise: str, **changes: float | None) -> float:
    row = to_row(plain(**changes))._replace(**weights(maximise)._asdict())
    (solution,) = kernel.solve([row])
    return solution.price


def test_revenue_and_units_ask_for_as_much_demand_as_there_is_stock(kernel: Kernel):
    # With unlimited stock both fall to the lowest price allowed: the margin floor is a guard.
    assert _solved_for(kernel, "revenue") == _solved_for(kernel, "units") == 0.2
    # Inelastic demand: revenue rises with price, units do not.
    assert _solved_for(kernel, "revenue", elasticity=-0.5) == 5.0
    assert _solved_for(kernel, "units", elasticity=-0.5) == 0.2
    # 70 units are wanted at the reference price. With 20 in stock, both sell them out, revenue at
    # the price that just does and units with a thousandth of the profit to stop the fall.
    short: dict[str, float | None] = {"stock": 20.0, "demand_volatility": 0.1}
    profit, revenue, units = (
        _solved_for(kernel, goal, **short) for goal in ("profit", "revenue", "units")
    )
    assert 0.2 < units < revenue < profit
    rows = [to_row(plain(**short))] * 3
    sold = [at.expected_sales for at in kernel.evaluate(rows, [[profit], [revenue], [units]])]
    assert sold[0] < sold[1] < sold[2]
    assert sold[2] == pytest.approx(20.0, rel=5.0 * TIE_BREAK)


def test_revenue_counts_what_is_not_sent_back(kernel: Kernel):
    # R rises with price, so revenue after returns has its best price below the bound even where
    # demand does not react: P (1 - R) with R = sigmoid(2 ln P) is highest at P^2 = 1.
    row = to_row(plain(elasticity=-1e-9, return_max=1.0, return_per_log=2.0))
    (solution,) = kernel.solve([row._replace(**weights("revenue")._asdict())])
    assert solution.price == pytest.approx(1.0, rel=1e-6)


def test_a_goal_that_is_not_known_has_no_weights():
    with pytest.raises(KeyError, match="glory"):
        weights("glory")


def test_a_dearer_shop_loses_more_to_a_rival(kernel: Kernel):
    rivals = [60.0, 80.0, 100.0, 120.0, 140.0, 400.0]

    def prices(omega: float) -> list[float]:
        base = plain(cost=60.0, rival_omega=omega, rival_tau=0.03)
        rows = [to_row(replace(base, rival_price=rival)) for rival in rivals]
        return [solution.price for solution in kernel.solve(rows)]

    without, beside = prices(0.0), prices(2.0)
    assert without == [without[0]] * len(rivals)
    assert beside == sorted(beside)
    assert beside[0] < 0.8 * without[0]
    assert beside[-1] == pytest.approx(without[0], rel=1e-9)


def test_elementary_functions_keep_their_last_digits():
    x = np.concatenate([10.0 ** RNG.uniform(-20.0, 20.0, 20_000), RNG.uniform(0.0, 3.0, 20_000)])
    wide = x.astype(np.longdouble)
    z = RNG.uniform(-40.0, 40.0, 20_000)
    for found, expected in (
        (log1p(jnp.array(x)), np.log1p(wide)),
        (log1p_ratio(jnp.array(x)), np.log1p(wide) / wide),
        (softplus(jnp.array(z)), np.logaddexp(np.longdouble(0.0), z.astype(np.longdouble))),
    ):
        error = np.abs((np.asarray(found) - expected) / expected)
        assert float(error.max()) < 3.0 * np.finfo(np.float64).eps
    assert float(log1p(jnp.array(0.0))) == 0.0
    assert float(log1p_ratio(jnp.array(0.0))) == 1.0


@pytest.mark.parametrize("x", [0.0, 1e-12, 1e-6, 1e-3, 0.2499, 0.2501, 3.0, 100.0])
def test_derivatives_do_not_cancel_near_zero(x: float):
    first, second = jax.grad(log1p_ratio), jax.grad(jax.grad(log1p_ratio))
    if x < 0.1:
        powers = range(2, 40)
        expected = sum((-1) ** k * (k - 1) * x ** (k - 2) / k for k in powers) * -1.0
        bend = sum((-1) ** k * (k - 1) * (k - 2) * x ** max(k - 3, 0) / k for k in powers) * -1.0
    else:
        ratio = math.log1p(x) / x
        expected = (1.0 / (1.0 + x) - ratio) / x
        bend = (-1.0 / (1.0 + x) ** 2 - 2.0 * expected) / x
    assert float(first(jnp.array(x))) == pytest.approx(expected, rel=1e-12)
    assert float(second(jnp.array(x))) == pytest.approx(bend, rel=1e-12)
