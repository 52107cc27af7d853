"""The best price: closed forms, an independent search, bounds, several peaks, and laws."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from models.kernel.objective import PADDING, Row
from models.kernel.solver import GRID_POINTS
from models.kernel.tile import Kernel
from tests.models import numpy_objective
from tests.models.numpy_objective import Problem
from tests.models.problems import plain, problems, random_problem, to_row

RNG = np.random.default_rng(21)
STOCKS = [2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 100.0, 200.0, 400.0, 1_000.0]


def best(kernel: Kernel, problem: Problem) -> float:
    """The best price as a multiple of the reference price."""
    (solution,) = kernel.solve([to_row(problem)])
    assert solution.finite
    assert solution.converged
    return solution.price


@given(
    elasticity=st.floats(-12.0, -1.3),
    cost=st.floats(20.0, 80.0),
    return_cost=st.floats(0.0, 20.0),
    rate=st.floats(0.0, 0.4),
    kept_share=st.floats(0.7, 1.0),
)
def test_without_stock_and_risk_it_is_the_mark_up(
    kernel: Kernel, elasticity: float, cost: float, return_cost: float, rate: float,
    kept_share: float,
):  # fmt: skip
    problem = plain(
        elasticity=elasticity, cost=cost, return_cost=return_cost, kept_share=kept_share,
        return_min=rate, return_max=rate,
    )  # fmt: skip
    size = abs(elasticity)
    expected = size / (size - 1.0) * (cost + rate * return_cost / (1.0 - rate)) / kept_share / 100.0
    (solution,) = kernel.solve([to_row(problem, 0.05, 50.0)])
    assert solution.price == pytest.approx(expected, rel=1e-9)
    assert (solution.at_bound, solution.converged, solution.finite) == (0, True, True)


@pytest.mark.parametrize(("steepness", "expected"), [(0.03, 88.79), (0.01, 101.07)])
def test_a_return_rate_that_moves_with_price_needs_its_slope(
    kernel: Kernel, steepness: float, expected: float
):
    problem = plain(
        return_cost=15.0, return_min=0.05, return_max=0.5,
        return_intercept=-100.0 * steepness, return_per_minor=steepness,
    )  # fmt: skip
    price = 100.0 * best(kernel, problem)
    assert price == pytest.approx(expected, abs=0.005)
    rate = numpy_objective.return_rate(problem, price)
    slope = steepness * (rate - 0.05) * (0.5 - rate) / 0.45
    earned = price - 50.0
    condition = (
        1.0
        - 2.0 / price * (earned - rate * 15.0 / (1.0 - rate))
        - slope / (1.0 - rate) * (earned + 15.0)
    )
    assert abs(condition) < 1e-9
    fixed_point = price
    for _ in range(200):
        rate = numpy_objective.return_rate(problem, fixed_point)
        fixed_point = 2.0 * (50.0 + rate * 15.0 / (1.0 - rate))
    assert fixed_point > 1.1 * price  # the mark-up formula at R(P) is far too dear


def test_an_independent_search_finds_no_better_price(kernel: Kernel):
    cases = [random_problem(RNG) for _ in range(60)]
    for case, solution in zip(cases, kernel.solve([to_row(c) for c in cases]), strict=True):
        unit = case.reference_price
        grid = np.geomspace(0.2, 5.0, 400) * unit
        heights = [numpy_objective.objective(case, float(price)) for price in grid]
        top = int(np.argmax(heights))
        found = minimize_scalar(
            lambda price, case=case: -numpy_objective.objective(case, price),
            bounds=(grid[max(top - 1, 0)], grid[min(top + 1, 399)]),
            method="bounded",
            options={"xatol": 1e-9 * unit},
        )
        highest = max(-found.fun, heights[0], heights[-1])
        ours = numpy_objective.objective(case, solution.price * unit)
        assert ours >= highest - 1e-9 * abs(highest)
        assert solution.objective * unit == pytest.approx(ours, rel=1e-9, abs=1e-9 * unit)
        assert solution.converged


@given(problems)
def test_every_row_converges_to_a_stationary_point_or_a_bound(kernel: Kernel, problem: Problem):
    row = to_row(problem)
    (solution,) = kernel.solve([row])
    assert solution.converged
    assert row.lower <= solution.price <= row.upper
    (at,) = kernel.evaluate([row], [[solution.price]])
    slope = at.slopes[0]
    if solution.at_bound < 0:
        assert solution.price == row.lower
        assert slope <= 0.0
    elif solution.at_bound > 0:
        assert solution.price == row.upper
        assert slope >= 0.0
    else:
        error = abs(slope / at.greeks.gamma) / solution.price
        assert error < 2e-9
        assert at.greeks.gamma < 0.0


@pytest.mark.parametrize("elasticity", [-1.0, -0.8, -0.2])
def test_inelastic_demand_goes_to_the_bound_and_says_so(kernel: Kernel, elasticity: float):
    row = to_row(plain(elasticity=elasticity), 0.5, 3.0)
    (solution,) = kernel.solve([row])
    assert (solution.price, solution.at_bound, solution.converged) == (3.0, 1, True)


def test_a_bound_beyond_the_optimum_is_the_answer(kernel: Kernel):
    row = to_row(plain())  # the optimum is the reference price
    low, high = kernel.solve([row._replace(lower=1.2), row._replace(upper=0.8)])
    assert (low.price, low.at_bound) == (1.2, -1)
    assert (high.price, high.at_bound) == (0.8, 1)


def test_the_higher_of_two_peaks_wins(kernel: Kernel):
    # Returns fall steeply once the price leaves the bargain range: a second peak above it.
    base = plain(
        elasticity=-3.0, cost=30.0, return_cost=20.0, return_intercept=60.0, return_per_log=-300.0
    )
    wins = {"low": 0, "high": 0}
    for returned_below in (0.1, 0.2, 0.3, 0.5, 0.6):
        problem = replace(base, return_max=returned_below)
        grid = np.geomspace(0.3, 3.0, 20_000)
        heights = [numpy_objective.objective(problem, 100.0 * float(price)) for price in grid]
        expected = float(grid[int(np.argmax(heights))])
        (solution,) = kernel.solve([to_row(problem, 0.3, 3.0)])
        assert solution.price == pytest.approx(expected, rel=2e-4)
        wins["low" if expected < 1.2 else "high"] += 1
    assert min(wins.values()) > 0  # both peaks were the better one somewhere


def test_the_half_spread_of_a_market_maker_is_the_mark_up(kernel: Kernel):
    price = best(kernel, plain(elasticity=-3.0))
    intensity = 3.0 / price
    spreads = [math.log1p(gamma / intensity) / gamma for gamma in (1e-1, 1e-4, 1e-8)]
    assert spreads[-1] == pytest.approx(price - 0.5, rel=1e-6)
    errors = [abs(spread - (price - 0.5)) for spread in spreads]
    assert errors == sorted(errors, reverse=True)


@given(st.floats(0.05, 0.8), st.floats(0.05, 0.8), st.floats(0.0, 0.5))
def test_unlimited_stock_and_known_parameters_ignore_volatility(
    kernel: Kernel, one: float, two: float, risk_aversion: float
):
    problem = plain(elasticity=-2.5, risk_aversion=risk_aversion)
    prices = [best(kernel, replace(problem, demand_volatility=sigma)) for sigma in (one, two)]
    assert prices[0] == pytest.approx(prices[1], rel=1e-9)


@given(st.floats(-4.0, -1.4), st.floats(0.3, 0.9))
def test_an_unsure_elasticity_pulls_towards_the_reference(
    kernel: Kernel, elasticity: float, cost: float
):
    problem = plain(
        elasticity=elasticity, cost=100.0 * cost, risk_aversion=0.3, demand_volatility=0.0
    )
    spreads = (0.0, 0.3, 1.0, 3.0)
    prices = [best(kernel, replace(problem, elasticity_sd=sd)) for sd in spreads]
    distances = [abs(math.log(price)) for price in prices]
    for farther, nearer in pairwise(distances):
        assert nearer <= farther + 1e-9


@pytest.mark.parametrize(
    ("risk_aversion", "rise", "elasticity_max", "sigma_max"),
    [
        (0.0, 0.003, -1.5, 0.6),
        (0.1, 0.006, -1.5, 0.6),
        (0.5, 0.006, -2.0, 0.4),
        # At the highest risk aversion, flat demand and high volatility the risk term itself falls
        # with a higher price faster than stock pulls it down.
        (0.5, 0.040, -1.5, 0.6),
    ],
)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.2, 1.0), st.floats(0.5, 50.0))
def test_more_stock_hardly_ever_raises_the_price(
    kernel: Kernel, risk_aversion: float, rise: float, elasticity_max: float, sigma_max: float,
    steep: float, wild: float, worth: float, demand_per_day: float,
):  # fmt: skip
    problem = plain(
        elasticity=-3.5 + (1.0 - steep) * (elasticity_max + 3.5),
        demand_volatility=0.1 + wild * (sigma_max - 0.1),
        continuation_value=50.0 * worth, demand_per_day=demand_per_day,
        target_leftover=max(14.0 * demand_per_day, 1.0), risk_aversion=risk_aversion,
        value_volatility=0.02,
    )  # fmt: skip
    mean = 7.0 * demand_per_day
    rows = [to_row(replace(problem, stock=max(1.0, mean * stock / 70.0))) for stock in STOCKS]
    prices = [solution.price for solution in kernel.solve(rows)]
    for scarce, ample in pairwise(prices):
        assert ample <= scarce * (1.0 + rise)


def test_overstock_lowers_the_price_when_leftovers_cost(kernel: Kernel):
    dear = plain(stock=400.0)
    cheap = [
        replace(dear, continuation_value=20.0),
        replace(dear, holding_cost_per_day=1.0),
        replace(dear, value_volatility=0.1, risk_aversion=0.3),
    ]
    assert all(best(kernel, problem) < 0.99 * best(kernel, dear) for problem in cheap)


def test_padding_is_an_ordinary_row(kernel: Kernel):
    (solution,) = kernel.solve([PADDING])
    assert solution.price == pytest.approx(1.0, rel=1e-9)
    assert len(PADDING) == len(Row._fields)
    assert GRID_POINTS >= 3
