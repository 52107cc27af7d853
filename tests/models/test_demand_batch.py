"""The update in arrays is the scalar update, whatever the rows and however many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.demand.demand import DemandSettings, learn
from models.demand.demand_batch import BLOCK_ROWS, learn_many
from models.demand.epoch import DAY_MS, Features, Observation
from schemas.learned import DemandPosterior
from tests.models.shop import START

logs = st.floats(-2.0, 2.0)
observations = st.builds(
    Observation,
    features=st.builds(Features, ln_price=logs, ln_rival=st.none() | logs, control=logs),
    orders=st.integers(0, 1000) | st.integers(0, 10**9),
    exposure_days=st.floats(1e-3, 400.0),
    offset=st.floats(-1.0, 1.0),
    offset_variance=st.floats(0.0, 1.0),
)
rows = st.tuples(observations, st.integers(0, 500))


def batch(posteriors: list[DemandPosterior], seen: list[tuple[Observation, int]]):
    features = [one.features for one, _ in seen]
    return learn_many(
        np.array([posterior.mean for posterior in posteriors]),
        np.array([posterior.cov for posterior in posteriors]),
        np.array([one.ln_price for one in features]),
        np.array([math.nan if one.ln_rival is None else one.ln_rival for one in features]),
        np.array([one.control for one in features]),
        np.array([one.orders for one, _ in seen]),
        np.array([one.exposure_days for one, _ in seen]),
        np.array([float(days) for _, days in seen]),
        offset=np.array([one.offset for one, _ in seen]),
        offset_variance=np.array([one.offset_variance for one, _ in seen]),
    )


@settings(max_examples=60)
@given(st.lists(rows, min_size=1, max_size=8), st.integers(1, 5))
def test_it_agrees_with_the_scalar_update(seen: list[tuple[Observation, int]], times: int) -> None:
    posteriors = [START for _ in seen]
    for _ in range(times):
        mean, cov = batch(posteriors, seen)
        posteriors = [
            learn(posterior, one, posterior.updated_ms + days * DAY_MS)
            for posterior, (one, days) in zip(posteriors, seen, strict=True)
        ]
        expected = np.array([posterior.mean for posterior in posteriors])
        np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-12)
        expected = np.array([posterior.cov for posterior in posteriors])
        np.testing.assert_allclose(cov, expected, rtol=1e-12, atol=1e-12)


def test_rows_do_not_see_each_other() -> None:
    n = 2 * BLOCK_ROWS + 17
    rng = np.random.default_rng(3)
    mean, cov = np.tile(START.mean, (n, 1)), np.tile(START.cov, (n, 1))
    columns = [rng.normal(0.0, 0.2, n) for _ in range(3)]
    columns[1][::5] = np.nan
    orders, exposure_days, days = rng.poisson(3.0, n), np.full(n, 2.0), np.full(n, 1.5)
    whole = learn_many(mean, cov, *columns, orders, exposure_days, days)
    for index in (0, 5, BLOCK_ROWS - 1, BLOCK_ROWS, n - 1):
        one = slice(index, index + 1)
        alone = learn_many(
            mean[one],
            cov[one],
            *(column[one] for column in columns),
            orders[one],
            exposure_days[one],
            days[one],
        )
        for part, all_of_it in zip(alone, whole, strict=True):
            np.testing.assert_allclose(part[0], all_of_it[index], rtol=1e-13, atol=1e-13)


def test_an_offset_is_exposure_in_logs() -> None:
    mean, cov, one = np.array([START.mean]), np.array([START.cov]), np.ones(1)
    more = learn_many(mean, cov, 0.1 * one, one, one, 5 * one, 2.0 * one, one)
    shifted = learn_many(
        mean, cov, 0.1 * one, one, one, 5 * one, one, one, DemandSettings(), math.log(2.0) * one
    )
    for a, b in zip(more, shifted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_a_forward_time_of_nothing_or_less_adds_no_walk() -> None:
    mean, cov, one = np.array([START.mean]), np.array([START.cov]), np.ones(1)
    at_once = learn_many(mean, cov, one, one, one, one, one, 0 * one)
    earlier = learn_many(mean, cov, one, one, one, one, one, -3 * one)
    assert [part.tolist() for part in at_once] == [part.tolist() for part in earlier]


@pytest.mark.parametrize(
    ("column", "value"),
    [("ln_price", math.nan), ("ln_rival", math.inf), ("orders", -1.0), ("exposure_days", 0.0)],
)
def test_it_refuses_what_the_scalar_update_refuses(column: str, value: float) -> None:
    names = ("ln_price", "ln_rival", "control", "orders", "exposure_days", "days")
    columns = {name: np.ones(2) for name in names}
    columns[column] = np.array([1.0, value])
    with pytest.raises(ValueError, match=r"expected|finite"):
        learn_many(np.tile(START.mean, (2, 1)), np.tile(START.cov, (2, 1)), **columns)
    with pytest.raises(ValueError, match="columns were"):
        learn_many(np.array([START.mean]), np.array([START.cov]), **columns)
