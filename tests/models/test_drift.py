"""Drift: what fires and when, beside River's detector, and what follows in the fold."""

import math
import random

import msgspec
import pytest
from river.drift import PageHinkley

from models.demand import drift
from models.demand.demand import learn
from models.demand.epoch import DAY_MS, Features, Observation
from models.demand.surprise import Surprise, surprise
from models.kernel.tile import Kernel
from schemas.codec import canonical
from schemas.learned import DemandPosterior, DriftSums, is_positive_definite
from schemas.policy import LearningPolicy
from tests.models.shop import START, draw_orders
from tests.models.tapes import Partition, Seen, at

POLICY = LearningPolicy()
FORECAST = Surprise(expected=20.0, dispersion=0.25, residual=0.0, price_distance=0.0)
CASES = [
    # why, counts, log price beyond where the belief was learned, when it fires and what
    ("as forecast", [20] * 500, 0.0, []),
    ("up and down", [28, 14] * 100, 0.0, []),
    ("a lone outlier of any size", [20] * 5 + [10**6] + [20] * 50, 0.0, []),
    ("twice the level", [40] * 5, 0.0, [(4, "level up")]),
    ("half the level", [10] * 9, 0.0, [(8, "level down")]),
    ("no sale", [0] * 4, 0.0, [(2, "level down")]),
    ("too few where it is dearer", [14] * 28, 0.4, [(27, "more elastic")]),
    ("too few where it is cheaper", [14] * 28, -0.4, [(27, "less elastic")]),
]


@pytest.mark.parametrize(
    ("counts", "distance", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_fires_and_when(
    counts: list[int], distance: float, expected: list[tuple[int, str]]
) -> None:
    sums, fired = DriftSums(), []
    for index, orders in enumerate(counts):
        sums = msgspec.json.decode(canonical(sums), type=DriftSums)  # stored and read back
        sums, found = drift.watch(sums, FORECAST._replace(price_distance=distance), orders, POLICY)
        if found is not None:
            assert sums == DriftSums()
            fired.append((index, found))
    assert fired == expected


def test_beside_rivers_page_hinkley() -> None:
    """In 4,000 quiet epochs neither cries often; then both see a break at about the same time."""
    rng = random.Random(1)
    false, delays = [0, 0], []
    for _ in range(20):
        theirs, sums = PageHinkley(min_instances=1, delta=0.5, threshold=8.0), DriftSums()
        fired: list[list[int]] = [[], []]
        for epoch in range(240):
            orders = draw_orders(rng, 20.0 if epoch < 200 else 50.0, FORECAST.dispersion)
            sums, found = drift.watch(sums, FORECAST, orders, POLICY)
            theirs.update((orders - FORECAST.expected) / FORECAST.sd)
            for times, drifted in zip(
                fired, (found is not None, theirs.drift_detected), strict=True
            ):
                times.extend([epoch - 200] * drifted)
        false = [n + sum(at < 0 for at in times) for n, times in zip(false, fired, strict=True)]
        delays.append([next(at for at in times if at >= 0) for times in fired])
    assert max(false) <= 16
    ours, theirs_at = (sum(column) / 20 for column in zip(*delays, strict=True))
    assert 1.0 < ours < 6.0
    assert 1.0 < theirs_at < 6.0


def test_a_forecast_of_a_wide_belief_is_hard_to_surprise() -> None:
    seen = Observation(Features(0.0, 0.0, 0.0), orders=40, exposure_days=1.0)
    narrow = learn_days(START, 200, 2)
    assert surprise(narrow, seen).residual > 10.0
    assert surprise(START, seen).residual == pytest.approx(10.0, abs=4.0)
    wider = surprise(drift.widened(narrow, POLICY), seen)
    assert wider.residual < surprise(narrow, seen).residual


def test_the_residual_is_standard_under_the_model() -> None:
    """Mean 0 and variance 1 over draws of coefficients and counts, whatever the width."""
    rng, phi = random.Random(7), 0.2
    residuals = []
    for _ in range(20_000):
        level = rng.gauss(START.mean[0], math.sqrt(START.cov[0]))
        elasticity = rng.gauss(START.mean[1], math.sqrt(START.cov[4]))
        mean = 3.0 * math.exp(level + 0.2 * elasticity)
        orders = draw_orders(rng, mean, phi)
        residuals.append(
            surprise(START, Observation(Features(0.2, 0.0, 0.0), orders, 3.0)).residual
        )
    average = sum(residuals) / len(residuals)
    variance = sum((r - average) ** 2 for r in residuals) / len(residuals)
    assert abs(average) < 0.03
    assert 0.85 < variance < 1.15


def test_widening_adds_to_level_and_elasticity_alone() -> None:
    wider = drift.widened(START, POLICY)
    grown = [round(b - a, 12) for a, b in zip(START.cov, wider.cov, strict=True)]
    assert grown == [0.25, 0, 0, 0, 0.25, 0, 0, 0, 0, 0]
    assert (wider.mean, wider.orders) == (START.mean, START.orders)
    assert is_positive_definite(wider.cov)


def learn_days(posterior: DemandPosterior, days: int, orders: int) -> DemandPosterior:
    for day in range(days):
        seen = Observation(Features(0.0, 0.0, 0.0), orders, 1.0)
        posterior = learn(posterior, seen, day * DAY_MS)
    return posterior


# -- in the fold


def sell(shop: Partition, day: int, per_day: int) -> list[Seen]:
    seen = [
        shop.send(
            "order_placed", at(day, 24.0 * (index + 0.5) / per_day), order_id=f"{day}-{index}",
            unit_price_minor=shop.state.published_minor,
        )
        for index in range(per_day)
    ]  # fmt: skip
    return [*seen, shop.tick(at(day + 1))]


def test_a_break_widens_the_belief_alerts_and_bounds_the_next_step(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at())
    for day in range(40):
        sell(shop, day, 12)
    before = shop.state
    level_variance, breaker = before.posterior.cov[0], before.breaker.state
    assert (before.drift is None or before.drift.level_down < 1.0, breaker) == (True, "CLOSED")
    alerts, day = [], 40
    while not alerts:
        previous = shop.state.published_minor
        for seen in sell(shop, day, 1):
            alerts += [alert for alert in seen.alerts if alert.kind == "drift"]
            decisions = seen.decisions
        day += 1
    (alert,) = alerts
    assert alert.evidence["drifted"] == "level down"
    assert alert.evidence["breaker"] == ["CLOSED", "HALF_OPEN"]
    assert day <= 75
    assert shop.state.posterior.cov[0] > 2.0 * level_variance
    assert shop.engine.state.manifest.counts.drifts == 1
    moved = abs(decisions[-1].wanted_minor / previous - 1.0)
    assert moved <= shop.engine.state.policy.breaker.canary_step_ratio + 0.002
