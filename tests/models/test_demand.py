"""The demand posterior: laws, exact comparisons, and what it recovers in a simulated shop."""

import math
import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.demand.demand import (
    DEFAULT_SETTINGS,
    elasticity_interval,
    expected_orders,
    forecast,
    learn,
    mean_units_per_order,
    probability_inelastic,
    rebase,
    units_cap,
    upper_expected_orders,
)
from models.demand.demand_regressor import DemandRegressor
from models.demand.epoch import DAY_MS, Features, Observation
from schemas.codec import canonical
from schemas.learned import DemandPosterior, is_positive_definite
from tests.models.shop import (
    START,
    Truth,
    draw_truth,
    endogenous_epochs,
    exogenous_epochs,
    learn_all,
)

logs = st.floats(-2.0, 2.0)
observations = st.builds(
    Observation,
    features=st.builds(Features, ln_price=logs, ln_rival=st.none() | logs, control=logs),
    orders=st.integers(0, 1000) | st.integers(0, 10**9),
    exposure_days=st.floats(1e-3, 400.0),
    lines=st.integers(0, 1000),
    capped_units=st.integers(0, 10_000),
    offset=st.floats(-1.0, 1.0),
    offset_variance=st.floats(0.0, 1.0),
)
steps = st.lists(st.tuples(observations, st.integers(0, 40 * DAY_MS)), max_size=30)


def full(cov: tuple[float, ...]) -> NDArray[np.float64]:
    matrix = np.zeros((4, 4))
    matrix[np.triu_indices(4)] = cov
    return matrix + np.triu(matrix, 1).T


def run(posterior: DemandPosterior, tape: list[tuple[Observation, int]]) -> DemandPosterior:
    now_ms = posterior.updated_ms
    for seen, wait_ms in tape:
        now_ms += wait_ms
        posterior = learn(posterior, seen, now_ms)
    return posterior


@given(steps)
def test_any_history_leaves_a_proper_belief(tape: list[tuple[Observation, int]]) -> None:
    posterior = run(START, tape)
    assert all(math.isfinite(value) for value in (*posterior.mean, *posterior.cov))
    assert is_positive_definite(posterior.cov)
    assert posterior.epochs == len(tape)
    assert posterior.orders == sum(seen.orders for seen, _ in tape)


@given(steps, st.integers(0, 30))
def test_a_stored_belief_has_the_same_future(tape: list[tuple[Observation, int]], cut: int) -> None:
    before = run(START, tape[:cut])
    twin = msgspec.json.decode(canonical(before), type=DemandPosterior)
    now_ms = sum(wait for _, wait in tape[:cut])
    for seen, wait_ms in tape[cut:]:
        now_ms += wait_ms
        before, twin = learn(before, seen, now_ms), learn(twin, seen, now_ms)
    assert canonical(twin) == canonical(before)


def test_repeating_one_epoch_never_collapses_the_covariance() -> None:
    seen = Observation(Features(0.1, 0.05, 0.02), 50, 1.0)
    posterior = START
    for _ in range(20_000):  # no time passes, so no random walk helps
        posterior = learn(posterior, seen, 0)
    assert is_positive_definite(posterior.cov)
    assert min(posterior.cov[0], posterior.cov[4], posterior.cov[7], posterior.cov[9]) > 1e-6
    assert expected_orders(posterior, seen.features, 1.0) == pytest.approx(50.0, rel=1e-3)


@given(
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.integers(0, 400),
    st.floats(0.05, 30.0),
)
def test_the_update_is_the_laplace_approximation(
    price: float, rival: float, control: float, orders: int, exposure_days: float
) -> None:
    """Against Newton's method in all four coefficients, written with matrices."""
    phi, prior = DEFAULT_SETTINGS.dispersion, full(START.cov)
    x, inverse = np.array([1.0, price, rival, control]), np.linalg.inv(prior)
    start = np.array(START.mean)

    def gradient_and_hessian(
        theta: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mu = exposure_days * math.exp(float(x @ theta))
        information = mu * (1.0 + phi * orders) / (1.0 + phi * mu) ** 2
        gradient = inverse @ (theta - start) - x * (orders - mu) / (1.0 + phi * mu)
        return gradient, inverse + information * np.outer(x, x)

    theta = start.copy()
    for _ in range(200):
        gradient, hessian = gradient_and_hessian(theta)
        theta = theta - np.clip(np.linalg.solve(hessian, gradient), -0.5, 0.5)
    _, hessian = gradient_and_hessian(theta)

    learned = learn(START, Observation(Features(price, rival, control), orders, exposure_days), 0)
    np.testing.assert_allclose(learned.mean, theta, rtol=0.0, atol=1e-7)
    np.testing.assert_allclose(full(learned.cov), np.linalg.inv(hessian), rtol=0.0, atol=1e-7)


def test_time_widens_level_and_elasticity_only() -> None:
    nothing = Observation(Features(0.0, 0.0, 0.0), 0, 1e-9)  # an exposure that tells nothing
    later = learn(START, nothing, 100 * DAY_MS)
    grown = np.array(later.cov) - np.array(START.cov)
    expected = np.zeros(10)
    expected[0] = 100 * DEFAULT_SETTINGS.level_walk_per_day
    expected[4] = 100 * DEFAULT_SETTINGS.elasticity_walk_per_day
    np.testing.assert_allclose(grown, expected, atol=1e-8)


@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_more_orders_mean_more_demand(orders: int, exposure_days: float) -> None:
    features = Features(0.1, 0.0, 0.0)
    fewer = learn(START, Observation(features, orders, exposure_days), 0)
    more = learn(START, Observation(features, orders + 1, exposure_days), 0)
    assert expected_orders(more, features, 1.0) > expected_orders(fewer, features, 1.0)
    silence = learn(START, Observation(features, 0, exposure_days), 0)
    assert expected_orders(silence, features, 1.0) < expected_orders(START, features, 1.0)


def test_a_missing_rival_is_not_a_rival_at_the_reference_price() -> None:
    tied = (*START.cov[:5], 0.05, *START.cov[6:])  # eps and eta correlated
    start = msgspec.structs.replace(START, cov=tied)
    known = learn(start, Observation(Features(0.3, 0.0, 0.0), 40, 1.0), 0)
    missing = learn(start, Observation(Features(0.3, None, 0.0), 40, 1.0), 0)
    assert (missing.mean[2], missing.cov[7]) == (start.mean[2], start.cov[7])
    assert known.mean[2] > start.mean[2]
    assert known.cov[7] < start.cov[7]
    # what the unknown rival may have done is noise, so the rest is believed a little less
    assert start.mean[0] < missing.mean[0] < known.mean[0]
    assert known.cov[0] < missing.cov[0] < start.cov[0]


def test_the_river_estimator_treats_missing_features_as_unknown() -> None:
    known, missing, priceless = DemandRegressor(), DemandRegressor(), DemandRegressor()
    start = known.posterior
    known.learn_one({"ln_price": 0.2, "ln_rival": 0.4, "control": 0.0}, 9, w=2.0)
    missing.learn_one({"ln_price": 0.2, "ln_rival": None}, 9, w=2.0)
    priceless.learn_one({"ln_rival": 0.4}, 9, w=2.0)
    assert known.posterior.mean[2] > start.mean[2]
    assert missing.posterior.mean[2] == start.mean[2]
    assert missing.posterior.mean[0] > start.mean[0]
    assert priceless.posterior == start
    assert known.posterior.updated_ms == 2 * DAY_MS


@given(steps, st.none() | logs, logs)
def test_the_forecast_is_the_linear_map_of_the_posterior(
    tape: list[tuple[Observation, int]], ln_rival: float | None, control: float
) -> None:
    posterior = run(START, tape)
    seen = forecast(posterior, ln_rival, control)
    covariance, mean = full(posterior.cov), np.array(posterior.mean)
    level = np.array([1.0, 0.0, ln_rival or 0.0, control])
    slope = np.array([0.0, 1.0, 0.0, 0.0])
    unknown = 0.0
    if ln_rival is None:
        unknown = DEFAULT_SETTINGS.missing_rival_sd**2 * (mean[2] ** 2 + covariance[2, 2])
    exponent = min(max(float(level @ mean), -60.0), 60.0)
    assert seen.demand_per_day == pytest.approx(math.exp(exponent), rel=1e-9)
    assert seen.elasticity == posterior.mean[1]
    expected = (level @ covariance @ level + unknown, level @ covariance @ slope, covariance[1, 1])
    np.testing.assert_allclose((seen.v_bb, seen.v_be, seen.v_ee), expected, rtol=1e-6, atol=1e-9)


@given(steps, logs, logs, logs, st.floats(-1.0, 1.0))
def test_a_new_reference_price_changes_no_forecast_in_money(
    tape: list[tuple[Observation, int]], price: float, rival: float, control: float, shift: float
) -> None:
    posterior = run(START, tape)
    moved = rebase(posterior, shift)
    x = np.array([1.0, price, rival, control])
    x_moved = np.array([1.0, price - shift, rival - shift, control - shift])
    assert x_moved @ moved.mean == pytest.approx(x @ np.array(posterior.mean), abs=1e-9)
    variance = float(x @ full(posterior.cov) @ x)
    assert float(x_moved @ full(moved.cov) @ x_moved) == pytest.approx(variance, rel=1e-6, abs=1e-8)
    back = rebase(moved, -shift)
    np.testing.assert_allclose(back.mean, posterior.mean, atol=1e-9)
    np.testing.assert_allclose(back.cov, posterior.cov, atol=1e-8, rtol=1e-8)


def test_intervals_and_probability_of_an_inelastic_product() -> None:
    low, high = elasticity_interval(START, 0.90)
    assert (low, high) == pytest.approx((-2.6 - 1.6448536 * 0.6, -2.6 + 1.6448536 * 0.6))
    assert probability_inelastic(START) == pytest.approx(0.003830381, abs=1e-8)  # Phi(-1.6 / 0.6)
    at_one = msgspec.structs.replace(START, mean=(0.0, -1.0, 0.0, 0.0))
    assert probability_inelastic(at_one) == 0.5


def test_one_giant_order_moves_the_units_per_order_by_a_bounded_step() -> None:
    posterior = START
    for day in range(50):
        seen = Observation(Features(0.0, 0.0, 0.0), 2, 1.0, lines=2, capped_units=4)
        posterior = learn(posterior, seen, day * DAY_MS)
    before, cap = mean_units_per_order(posterior), units_cap(posterior)
    assert before == pytest.approx((5.0 + 200.0) / (5.0 + 100.0))
    assert cap == 19
    giant = Observation(Features(0.0, 0.0, 0.0), 1, 1.0, lines=1, capped_units=min(80_995, cap))
    after = mean_units_per_order(learn(posterior, giant, 51 * DAY_MS))
    assert before < after < before * 1.09


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (Observation(Features(math.nan, 0.0, 0.0), 1, 1.0), "features were"),
        (Observation(Features(0.0, math.inf, 0.0), 1, 1.0), "features were"),
        (Observation(Features(0.0, 0.0, 0.0), -1, 1.0), "orders was -1"),
        (Observation(Features(0.0, 0.0, 0.0), 1, 0.0), "exposure_days was 0.0"),
        (Observation(Features(0.0, 0.0, 0.0), 1, math.nan), "exposure_days was nan"),
    ],
)
def test_what_cannot_be_learned_is_refused(observation: Observation, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(START, observation, 0)


class Recovery:
    """Errors of the learned elasticity over many simulated products."""

    def __init__(
        self,
        epochs: Callable[[random.Random, Truth], list[Observation]],
        products: int = 150,
        level_shift: float = 0.0,
    ) -> None:
        rng = random.Random(11)
        self.errors, covered = [], 0
        for _ in range(products):
            truth = draw_truth(rng)
            truth = truth._replace(level=truth.level + level_shift)
            posterior = learn_all(START, epochs(rng, truth))
            self.errors.append(posterior.mean[1] - truth.elasticity)
            low, high = elasticity_interval(posterior, 0.90)
            covered += low <= truth.elasticity <= high
        self.bias = sum(self.errors) / products
        self.rmse = math.sqrt(sum(error * error for error in self.errors) / products)
        self.coverage = covered / products


def test_elasticity_error_falls_with_orders_and_intervals_cover() -> None:
    rows = [
        Recovery(lambda rng, truth, n=count: exogenous_epochs(rng, truth, n))
        for count in (0, 20, 80, 300)
    ]
    errors = [row.rmse for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert 0.52 < errors[0] < 0.68  # the prior's sd is 0.6
    assert 0.18 < errors[-1] < 0.32
    assert all(0.84 < row.coverage < 0.98 for row in rows)
    assert abs(rows[-1].bias) < 0.06


def test_prices_that_follow_unseen_demand_need_the_control() -> None:
    naive = Recovery(lambda rng, truth: endogenous_epochs(rng, truth, 400, logged=False))
    control = Recovery(lambda rng, truth: endogenous_epochs(rng, truth, 400, logged=True))
    assert 0.55 < naive.bias < 0.9
    assert naive.coverage < 0.4
    assert abs(control.bias) < 0.25
    assert control.coverage > 0.88
    few = Recovery(lambda rng, truth: endogenous_epochs(rng, truth, 100, logged=False))
    assert few.bias < naive.bias  # more orders make the wrong answer surer, not better


def test_epochs_without_a_sale_are_evidence() -> None:
    def slow_mover(rng: random.Random, truth: Truth) -> list[Observation]:
        return exogenous_epochs(rng, truth, 250)

    def sales_only(rng: random.Random, truth: Truth) -> list[Observation]:
        return [seen for seen in exogenous_epochs(rng, truth, 250) if seen.orders > 0]

    kept = Recovery(slow_mover, level_shift=-2.5)
    dropped = Recovery(sales_only, level_shift=-2.5)
    assert abs(kept.bias) < 0.16
    assert kept.coverage > 0.84
    assert dropped.bias > 0.7
    assert dropped.coverage < 0.6


@given(observation=observations, tape=steps)
def test_the_upper_forecast_lies_two_sd_of_its_logarithm_above(
    observation: Observation, tape: list[tuple[Observation, int]]
) -> None:
    belief = run(START, tape)
    features, days = observation.features, observation.exposure_days
    x = features.ln_price
    now = forecast(belief, features.ln_rival, features.control)
    variance = max(now.v_bb + 2.0 * now.v_be * x + now.v_ee * x * x, 0.0)
    sd = math.sqrt(variance + observation.offset_variance)
    expected = expected_orders(belief, features, days, observation.offset)
    found = upper_expected_orders(belief, observation)
    assert found == pytest.approx(expected * math.exp(min(2.0 * sd, 60.0)), rel=1e-12)


@given(observation=observations, tape=steps, offset=st.floats(-1.0, 1.0))
def test_an_offset_is_known_demand_like_more_exposure(
    observation: Observation, tape: list[tuple[Observation, int]], offset: float
) -> None:
    belief = run(START, tape)
    days = observation.exposure_days * math.exp(offset)
    scaled = observation._replace(exposure_days=days, offset=0.0)
    found = learn(belief, observation._replace(offset=offset), belief.updated_ms)
    expected = learn(belief, scaled, belief.updated_ms)
    assert found.mean == pytest.approx(expected.mean, rel=1e-6, abs=1e-6)
    assert found.cov == pytest.approx(expected.cov, rel=1e-6, abs=1e-9)


def test_an_offset_that_is_hardly_known_explains_what_was_sold() -> None:
    seen = Observation(Features(0.1, 0.05, 0.0), 60, 1.0)
    surprised = learn(START, seen, 0)
    excused = learn(START, seen._replace(offset_variance=1e6), 0)
    assert surprised.mean[0] - START.mean[0] > 0.5
    assert excused.mean == pytest.approx(START.mean, abs=1e-4)
    assert excused.cov == pytest.approx(START.cov, abs=1e-4)


@pytest.mark.parametrize(("offset", "variance"), [(math.nan, 0.0), (0.0, -1.0), (0.0, math.inf)])
def test_an_offset_that_is_no_belief_is_refused(offset: float, variance: float) -> None:
    seen = Observation(Features(0.0, 0.0, 0.0), 1, 1.0, offset=offset, offset_variance=variance)
    with pytest.raises(ValueError, match="offset"):
        learn(START, seen, 0)
