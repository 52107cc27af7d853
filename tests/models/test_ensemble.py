"""The pool of forecasts: votes by likelihood, no weight lost for ever, a diverged member caught."""

import numpy as np
import pytest
from scipy import stats

from models.demand.ensemble import DISPERSIONS, LOSS_MAX, EnsembleSettings, Pool

ROWS = 12
USUAL = np.log(np.linspace(2.0, 9.0, ROWS))
WEEK = np.full(ROWS, 7.0)


def counts(rng: np.random.Generator, factor: float = 1.0) -> np.ndarray:
    return rng.poisson(factor * np.exp(USUAL) * WEEK).astype(float)


def test_a_step_scores_and_votes_as_the_equations_say() -> None:
    pool = Pool(2)
    orders = counts(np.random.default_rng(1))
    ln_rate = np.stack((USUAL, USUAL + 0.3))
    scores = pool.step(ln_rate, USUAL, WEEK, orders)
    phi = DISPERSIONS[np.abs(np.log(DISPERSIONS / 0.5)).argmin()]
    mean = np.exp(ln_rate) * WEEK
    logs = stats.nbinom.logpmf(orders, 1.0 / phi, 1.0 / (1.0 + phi * mean))
    assert scores.members == pytest.approx(logs)
    equal = np.log(np.exp(logs).mean(axis=0))
    assert scores.average == pytest.approx(equal)
    assert scores.weighted == pytest.approx(equal)
    assert scores.weights.tolist() == [0.5, 0.5]
    assert scores.ln_mean == pytest.approx(np.log(mean.mean(axis=0)))
    voted = np.exp(logs.sum(axis=1) - logs.sum(axis=1).max())
    assert pool.weights == pytest.approx(0.98 * voted / voted.sum() + 0.01)


def test_no_weight_is_lost_for_ever() -> None:
    rng, pool = np.random.default_rng(2), Pool(2, EnsembleSettings(loss_limit=50.0))
    for _ in range(100):
        noisy = USUAL + rng.normal(0.0, 0.7, ROWS)
        pool.step(np.stack((USUAL, noisy)), USUAL, WEEK, counts(rng))
    assert pool.weights[1] == pytest.approx(0.01)
    for _ in range(40):  # they change places, and calibration has to unlearn what it knew
        noisy = USUAL + rng.normal(0.0, 0.7, ROWS)
        pool.step(np.stack((noisy, USUAL)), USUAL, WEEK, counts(rng))
    assert pool.weights[1] == pytest.approx(0.99)


def test_calibration_takes_out_a_member_s_bias_and_finds_its_dispersion() -> None:
    rng, pool = np.random.default_rng(3), Pool(2)
    for _ in range(60):
        scores = pool.step(np.stack((USUAL, USUAL - 0.4)), USUAL, WEEK, counts(rng))
    assert scores.members[1].mean() == pytest.approx(scores.members[0].mean(), abs=0.05)
    assert pool.dispersion.max() <= 0.05  # the counts are Poisson


DIVERGENCES = [
    ("explodes", lambda step: USUAL + 0.5 * step),
    ("not a number", lambda _: np.full(ROWS, np.nan)),
    ("infinite", lambda _: np.full(ROWS, np.inf)),
    ("one bad row", lambda _: np.append(USUAL[:-1], -np.inf)),
]


@pytest.mark.parametrize(("why", "diverged"), DIVERGENCES, ids=[why for why, _ in DIVERGENCES])
def test_a_diverged_member_is_caught_costs_little_and_comes_back(why, diverged) -> None:
    rng, pool, alone = np.random.default_rng(4), Pool(3), Pool(2)
    loss, loss_alone, finite = [], [], True
    for step in range(60):
        orders = counts(rng)
        good = np.stack((USUAL, USUAL + 0.02))
        bad = diverged(step - 19) if 20 <= step < 35 else USUAL
        scores = pool.step(np.vstack((good, bad)), USUAL, WEEK, orders)
        finite = finite and bool(
            np.isfinite(scores.weighted).all() and np.isfinite(scores.ln_mean).all()
        )
        loss.append(-scores.weighted.mean())
        loss_alone.append(-alone.step(good, USUAL, WEEK, orders).weighted.mean())
    assert finite
    events = [(alert.member, alert.event) for alert in pool.alerts]
    assert events == [(2, "suspended"), (2, "readmitted")]
    suspended, readmitted = (alert.step for alert in pool.alerts)
    assert 20 <= suspended <= 22
    assert 40 <= readmitted <= 46
    assert np.mean(loss) <= 1.01 * np.mean(loss_alone)


def test_a_pool_without_a_usable_forecast_still_answers() -> None:
    pool = Pool(2)
    scores = pool.step(np.full((2, ROWS), np.nan), USUAL, WEEK, counts(np.random.default_rng(5)))
    assert scores.members.tolist() == [[-LOSS_MAX] * ROWS] * 2
    assert scores.weighted == pytest.approx(np.full(ROWS, -LOSS_MAX))
    assert pool.suspended.all()
    assert pool.weights.tolist() == [0.5, 0.5]
