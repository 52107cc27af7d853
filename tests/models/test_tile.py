"""Bytes do not depend on the batch, and the edges of the kernel's interface."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernel.objective import Row
from models.kernel.tile import PRICES, TILE, Evaluation, Floats, Kernel, engine_fingerprint
from tests.models.problems import random_goal, random_problem, to_row

COUNT = 700  # three tiles, the last one part full
RNG = np.random.default_rng(23)
PROBLEMS = [random_problem(RNG) for _ in range(COUNT)]
ROWS = [to_row(case if RNG.random() < 0.6 else random_goal(case, RNG)) for case in PROBLEMS]
MATRIX = np.array(ROWS).T
ASKED = np.exp(RNG.normal(0.0, 0.2, (3, COUNT)))


@pytest.fixture(scope="module")
def whole(kernel: Kernel) -> tuple[Floats, Floats]:
    """All rows in one call."""
    return kernel.solve_arrays(MATRIX), kernel.evaluate_arrays(MATRIX, ASKED)


@settings(max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(0, 60))
def test_any_cut_and_order_gives_the_same_bytes(
    kernel: Kernel, whole: tuple[Floats, Floats], random, cuts: int
):
    order = list(range(COUNT))
    random.shuffle(order)
    edges = sorted(random.sample(range(1, COUNT), cuts))
    solved, evaluated = np.full_like(whole[0], math.nan), np.full_like(whole[1], math.nan)
    for start, stop in zip([0, *edges], [*edges, COUNT], strict=True):
        part = order[start:stop]
        solved[:, part] = kernel.solve_arrays(MATRIX[:, part])
        evaluated[:, part] = kernel.evaluate_arrays(MATRIX[:, part], ASKED[:, part])
    assert solved.tobytes() == whole[0].tobytes()
    assert evaluated.tobytes() == whole[1].tobytes()


@given(st.integers(0, COUNT - 1), st.integers(0, TILE - 1))
def test_a_row_alone_at_any_place_gives_the_same_bytes(
    kernel: Kernel, whole: tuple[Floats, Floats], index: int, place: int
):
    others = ROWS[:place]
    solved = kernel.solve_arrays(np.array([*others, ROWS[index]]).T)
    assert solved[:, place].tobytes() == whole[0][:, index].tobytes()


def test_a_broken_neighbour_moves_no_byte(kernel: Kernel, whole: tuple[Floats, Floats]):
    broken = MATRIX.copy()
    broken[:, ::2] = math.nan
    solved = kernel.solve_arrays(broken)
    evaluated = kernel.evaluate_arrays(broken, ASKED)
    assert solved[:, 1::2].tobytes() == whole[0][:, 1::2].tobytes()
    assert evaluated[:, 1::2].tobytes() == whole[1][:, 1::2].tobytes()
    assert not solved[4, ::2].any()


def test_a_second_process_would_compile_the_same(kernel: Kernel, whole: tuple[Floats, Floats]):
    again = Kernel.warm()
    assert again.fingerprint == kernel.fingerprint
    assert again.solve_arrays(MATRIX).tobytes() == whole[0].tobytes()
    assert again.evaluate_arrays(MATRIX, ASKED).tobytes() == whole[1].tobytes()


def test_the_number_of_prices_asked_moves_no_byte(kernel: Kernel, whole: tuple[Floats, Floats]):
    one = kernel.evaluate_arrays(MATRIX, ASKED[-1:])
    many = kernel.evaluate_arrays(MATRIX, np.repeat(ASKED[-1:], PRICES, axis=0))
    assert one[0].tobytes() == whole[1][2].tobytes() == many[0].tobytes()
    assert one[1].tobytes() == whole[1][5].tobytes() == many[2 * PRICES - 1].tobytes()
    assert one[2:].tobytes() == whole[1][6:].tobytes() == many[2 * PRICES :].tobytes()


def test_records_carry_the_numbers_of_the_arrays(kernel: Kernel, whole: tuple[Floats, Floats]):
    solutions = kernel.solve(ROWS)
    found = np.array([[*solution] for solution in solutions], dtype=np.float64).T
    assert found.tobytes() == whole[0].tobytes()
    prices = [ASKED[: 1 + index % 3, index].tolist() for index in range(COUNT)]
    evaluations = kernel.evaluate(ROWS, prices)
    for index, (at, row) in enumerate(zip(evaluations, ROWS, strict=True)):
        used = len(prices[index])
        assert len(at.objectives) == len(at.slopes) == used
        first = kernel_column(whole[1][:, index])
        assert at.objectives[0] == first["objectives"][0]
        assert at.slopes[0] == first["slopes"][0]
        if used == 3:
            assert at.expected_profit == first["expected_profit"]
            assert at.greeks.gamma == first["gamma"]
        assert (at.greeks.rho is None) == (row.unlimited > 0.5)


def kernel_column(column: Floats) -> dict[str, object]:
    """Names for one column of ``evaluate_arrays`` with three prices."""
    return {
        "objectives": column[0:3], "slopes": column[3:6], "delta": column[6], "gamma": column[7],
        "expected_profit": column[21],
    }  # fmt: skip


def test_results_are_plain_values(kernel: Kernel):
    (solution,) = kernel.solve(ROWS[:1])
    assert [type(value) for value in solution] == [float, float, int, bool, bool]
    (at,) = kernel.evaluate(ROWS[:1], [[1.0]])
    assert {type(value) for value in [*at.objectives, *at.slopes, at.margin]} == {float}
    assert type(at.finite) is bool
    assert Evaluation._fields[2] == "greeks"


def test_nothing_in_nothing_out(kernel: Kernel):
    assert kernel.solve([]) == []
    assert kernel.evaluate([], []) == []


def test_a_longer_list_of_prices_takes_several_rows(kernel: Kernel):
    prices = [[0.5 + 0.01 * at for at in range(2 * PRICES + 3)], [1.0], [1.1] * (PRICES + 1)]
    found = kernel.evaluate(ROWS[:3], prices)
    for row, at, evaluation in zip(ROWS, prices, found, strict=False):
        alone = [kernel.evaluate([row], [[price]])[0] for price in at]
        assert evaluation == alone[-1]._replace(
            objectives=tuple(one.objectives[0] for one in alone),
            slopes=tuple(one.slopes[0] for one in alone),
        )


@pytest.mark.parametrize("prices", [[], [[]], [[1.0], [1.0]]])
def test_evaluate_wants_one_list_of_prices_per_row(kernel: Kernel, prices: list[list[float]]):
    with pytest.raises(ValueError, match="expected"):
        kernel.evaluate(ROWS[:1], prices)


@pytest.mark.parametrize("tile", [0, -8, 4, 100])
def test_a_tile_fills_the_vector_unit(tile: int):
    with pytest.raises(ValueError, match=f"tile was {tile}; expected a positive multiple of 8"):
        Kernel.warm(tile)


def test_the_fingerprint_names_what_moves_a_byte(kernel: Kernel):
    fingerprint = engine_fingerprint(256, "x86_64 fma")
    digest, *parts = fingerprint.split(" ")
    assert len(digest) == 12
    assert [part.split("-")[0] for part in parts] == [
        "kernel", "jax", "jaxlib", "numpy", "tile", "x86_64", "fma",
    ]  # fmt: skip
    others = [engine_fingerprint(128, "x86_64 fma"), engine_fingerprint(256, "x86_64")]
    assert len({other.split(" ")[0] for other in [fingerprint, *others]}) == 3
    assert kernel.fingerprint == engine_fingerprint(TILE, "unknown")


def test_money_keeps_more_digits_than_float32(kernel: Kernel):
    # 167,772.17 in cents does not fit float32; the kernels must still tell it from 167,772.16.
    cents = [16_777_216, 16_777_217]
    base = to_row(dataclasses.replace(random_problem(RNG), stock=None))
    rows = [base._replace(unit_cost=cost / 30_000_000) for cost in cents]
    first, second = kernel.solve(rows)
    assert isinstance(rows[0], Row)
    assert first.price < second.price
