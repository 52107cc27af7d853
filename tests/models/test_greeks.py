"""All Greeks against central differences of the numpy objective, and their laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernel.greeks import Greeks, to_minor
from models.kernel.tile import Evaluation, Kernel
from tests.models import numpy_objective
from tests.models.numpy_objective import Problem
from tests.models.problems import plain, problems, random_goal, random_problem, to_row

RNG = np.random.default_rng(22)
TOLERANCE = 1e-4  # of the larger of the Greek and its scale
MARGIN_MIN = 0.03  # of the price

# Greek -> fields of the problem that are bumped, and the sign
BUMPS = {
    "delta": (("price",), 1.0),
    "gamma": (("price", "price"), 1.0),
    "vega": (("demand_volatility",), 1.0),
    "rho": (("stock",), 1.0),
    "vanna": (("price", "demand_volatility"), 1.0),
    "theta": (("horizon_days",), -1.0),
    "vega_elasticity": (("elasticity_sd",), 1.0),
    "vega_return": (("return_rate_sd",), 1.0),
    "elasticity_slope": (("elasticity",), 1.0),
    "level_slope": (("level_shift",), 1.0),
    "price_stock": (("price", "stock"), 1.0),
    "cost_slope": (("cost_with_shares",), 1.0),
    "handling_slope": (("return_cost",), 1.0),
    "return_slope": (("return_intercept",), 1.0),
    "rival_slope": (("log_rival",), 1.0),
}


def scale(problem: Problem, names: tuple[str, ...], price: float, size: float) -> float:
    """Pi over each bumped quantity, as Pi / (P sigma) for vanna."""
    for name in names:
        size /= numpy_objective.size(problem, price, name)
    return size


def assert_greeks(problem: Problem, at: Evaluation, price: float) -> None:
    """Compare every Greek, in minor units, with central differences."""
    greeks = to_minor(at.greeks, problem.reference_price)
    size = abs(at.objectives[-1]) * problem.reference_price
    for name, (bumped, sign) in BUMPS.items():
        found = getattr(greeks, name)
        if problem.stock is None and "stock" in bumped:
            assert found is None
            continue
        expected = sign * numpy_objective.greek(problem, price, bumped)
        allowed = TOLERANCE * max(abs(expected), scale(problem, bumped, price, size))
        assert found == pytest.approx(expected, abs=allowed, rel=0.0), name


def assert_all(
    cases: list[Problem], prices: list[float], evaluated: list[Evaluation], at_least: int
) -> None:
    """Compare all, but where the margin is near 0: there the risk term bends within a bump."""
    compared = 0
    for case, price, at in zip(cases, prices, evaluated, strict=True):
        if abs(at.margin) > MARGIN_MIN * price:
            assert_greeks(case, at, price * case.reference_price)
            compared += 1
    assert compared >= at_least


def smooth(problem: Problem) -> Problem:
    """Away from the kinks of the exact sum in stock, where a central difference means nothing."""
    if problem.stock is None or not problem.exact or problem.stock > 8.5:
        return problem
    return replace(problem, stock=math.floor(min(problem.stock, 7.0)) + 0.5)


def test_a_thousand_problems_at_their_optimum(kernel: Kernel):
    cases = [smooth(random_problem(RNG)) for _ in range(1_000)]
    rows = [to_row(case) for case in cases]
    prices = [solution.price for solution in kernel.solve(rows)]
    evaluated = kernel.evaluate(rows, [[price] for price in prices])
    assert_all(cases, prices, evaluated, at_least=900)


def test_a_thousand_problems_at_another_price(kernel: Kernel):
    cases = [smooth(random_problem(RNG)) for _ in range(1_000)]
    rows = [to_row(case) for case in cases]
    prices = [math.exp(RNG.uniform(-0.5, 0.5)) for _ in cases]
    evaluated = kernel.evaluate(rows, [[price] for price in prices])
    assert_all(cases, prices, evaluated, at_least=850)


def test_a_thousand_problems_of_other_goals_and_families(kernel: Kernel):
    cases = [random_goal(smooth(random_problem(RNG)), RNG) for _ in range(1_000)]
    prices = [math.exp(RNG.uniform(-0.5, 0.5)) for _ in cases]
    evaluated = kernel.evaluate([to_row(case) for case in cases], [[price] for price in prices])
    assert_all(cases, prices, evaluated, at_least=850)


@pytest.mark.parametrize("bounds", [(0.2, 0.6), (1.8, 5.0)])
def test_at_a_bound_too(kernel: Kernel, bounds: tuple[float, float]):
    cases = [smooth(random_problem(RNG)) for _ in range(200)]
    rows = [to_row(case, *bounds) for case in cases]
    solutions = kernel.solve(rows)
    evaluated = kernel.evaluate(rows, [[solution.price] for solution in solutions])
    at_bound = 0
    for case, solution, at in zip(cases, solutions, evaluated, strict=True):
        if solution.at_bound and abs(at.margin) > MARGIN_MIN * solution.price:
            assert_greeks(case, at, solution.price * case.reference_price)
            # The side the bound is on, by one-sided differences inside the bounds.
            assert (at.slopes[-1] > 0.0) == (solution.at_bound > 0)
            at_bound += 1
    assert at_bound > 50


def test_every_greek_is_compared():
    assert set(BUMPS) == set(Greeks._fields)


@given(problems, st.floats(0.0, 1.0))
def test_volatility_never_helps_while_a_sale_earns(kernel: Kernel, problem: Problem, markup: float):
    # The shop is short the stock-out call. Without the w term, which wants leftovers, and with
    # a margin above 0.
    earning = replace(
        problem, value_volatility=0.0, exact=False, return_per_minor=0.0, return_per_log=0.0
    )
    kept = 1.0 - earning.return_max
    break_even = earning.cost + earning.return_cost * earning.return_max / kept
    price = (1.01 + markup) * break_even / earning.kept_share / earning.reference_price
    (at,) = kernel.evaluate([to_row(earning)], [[price]])
    assert at.margin > 0.0
    assert at.greeks.vega <= 1e-12 * abs(at.expected_profit)


@pytest.mark.parametrize("price", [0.9, 1.0, 1.4])
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_vega_fades_with_the_last_units(kernel: Kernel, price: float, sigma: float):
    stocks = [70.0, 7.0, 0.7, 0.07, 0.007]
    rows = [
        to_row(plain(stock=q, risk_aversion=0.1, demand_volatility=sigma, target_leftover=1.0))
        for q in stocks
    ]
    vegas = [at.greeks.vega for at in kernel.evaluate(rows, [[price]] * len(rows))]
    assert all(vega <= 0.0 for vega in vegas)
    assert abs(vegas[-1]) < 1e-9 * abs(vegas[0])


@given(problems, st.floats(1.0, 1.5), st.floats(3.0, 20.0))
def test_more_of_too_much_stock_is_a_loss(
    kernel: Kernel, problem: Problem, price: float, times: float
):
    mean = problem.demand_per_day * problem.horizon_days
    over = replace(
        problem, stock=times * max(mean, 10.0), demand_volatility=0.2, level_sd=0.01,
        elasticity_sd=0.01, continuation_value=0.5 * problem.cost, exact=False,
        value_volatility=0.0,
    )  # fmt: skip
    (at,) = kernel.evaluate([to_row(over)], [[price]])
    assert at.greeks.rho is not None
    assert at.greeks.rho < 0.0


def test_unlimited_stock_has_no_rho(kernel: Kernel):
    calm, wary = plain(), plain(risk_aversion=0.2)
    at, risky = kernel.evaluate([to_row(calm), to_row(wary)], [[1.2], [1.2]])
    assert at.greeks.rho is None
    assert at.greeks.price_stock is None
    assert (at.greeks.vega, at.greeks.vanna) == (0.0, 0.0)
    assert risky.greeks.vega == pytest.approx(-0.2 * risky.margin * risky.mean_demand, rel=1e-9)


def test_theta_is_the_profit_of_a_day(kernel: Kernel):
    (at,) = kernel.evaluate([to_row(plain())], [[1.0]])
    assert at.greeks.theta == pytest.approx(-at.expected_profit / 7.0, rel=1e-12)


def test_a_dearer_unit_costs_what_is_kept_and_what_is_left(kernel: Kernel):
    # All stock sold or kept at v = C: a cost that rises by 1 costs one per kept unit, and of what
    # is left only the holding that is a share of the cost.
    case = plain(stock=30.0, return_min=0.2, return_max=0.2, holding_cost_per_day=0.05)
    (at,) = kernel.evaluate([to_row(case)], [[1.0]])
    left = 30.0 - at.expected_sales
    expected = -0.8 * at.expected_sales - 7.0 * 0.001 * left
    assert at.greeks.cost_slope == pytest.approx(expected, rel=1e-12)
    assert at.greeks.handling_slope == pytest.approx(-0.2 * at.expected_sales, rel=1e-12)
    assert (at.greeks.return_slope, at.greeks.rival_slope) == (0.0, 0.0)


def test_minor_units_scale_each_greek_by_its_own_power():
    ones = Greeks(*[1.0] * len(Greeks._fields))
    assert to_minor(ones, 100.0) == Greeks(
        delta=1.0, gamma=0.01, vega=100.0, rho=100.0, vanna=1.0, theta=100.0,
        vega_elasticity=100.0, vega_return=100.0, elasticity_slope=100.0, level_slope=100.0,
        price_stock=1.0, cost_slope=1.0, handling_slope=1.0, return_slope=100.0, rival_slope=100.0,
    )  # fmt: skip
    unlimited = to_minor(ones._replace(rho=None, price_stock=None), 100.0)
    assert (unlimited.rho, unlimited.price_stock) == (None, None)
