"""Pooled effects of the market: none where the market has none, the true ones where it has."""

import math
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.demand import effects_book, market_effects
from models.demand.demand import DEFAULT_SETTINGS, learn
from models.demand.epoch import Features, Observation
from models.demand.pooled import effect, inverse, known_share, settled
from models.fold.partition import PartitionState
from models.kernel.objective import PADDING, fixed_parts, terms
from models.simulator.world import WorldSettings
from schemas.codec import canonical
from schemas.effects import CategoryEffects, Effect, MarketMemory
from tests.models.effects_shop import learn_history
from tests.models.shop import START, draw_orders

DAYS = 180
SHOP: dict[str, Any] = {"products": 240, "categories": 6, "unseen_categories": 0}


def pooled(partition: PartitionState, name: str) -> list[Effect]:
    return [getattr(found, name) for _, found in sorted(partition.effects.items())]


def test_a_market_without_effects_leaves_them_at_zero() -> None:
    _, partition = learn_history(1, WorldSettings(**SHOP), DAYS)
    assert [found.used for found in pooled(partition, "rival")] == [0.0] * 6
    assert [found.used for found in pooled(partition, "memory")] == [0.0] * 6


def test_a_rival_threshold_is_found() -> None:
    _, partition = learn_history(1, WorldSettings(**SHOP, dearer_penalty=2.0), DAYS)
    for found in pooled(partition, "rival"):
        assert abs(found.mean - 2.0) < 2.5 * found.sd
        assert 1.0 < found.used <= found.mean * 1.2
        assert found.sd < 0.5


def test_a_remembered_price_is_found() -> None:
    _, partition = learn_history(2, WorldSettings(**SHOP, memory_effect=-1.0), DAYS)
    for found in pooled(partition, "memory"):
        assert abs(found.mean + 1.0) < 2.5 * found.sd
        assert -1.2 < found.used < -0.3


@given(st.floats(-1.0, 1.0), st.floats(0.0, 0.2))
def test_the_bend_is_that_of_the_objective(ln_ratio: float, tau: float) -> None:
    row = PADDING._replace(rival_omega=1.0, rival_tau=tau, elasticity=0.0)
    mean = terms(np.float64(ln_ratio), row, fixed_parts(row)).mean_demand
    assert market_effects.bend(ln_ratio, tau) == pytest.approx(-math.log(mean), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_a_restated_belief_is_the_one_learned_so(seed: int) -> None:
    """Against learning the same epochs with another omega in their offsets, to first order."""
    rng, step, beliefs = random.Random(seed), 1e-4, []
    epochs = []
    for _ in range(30):
        price, rival = rng.gauss(0.0, 0.15), rng.gauss(0.0, 0.1)
        orders = draw_orders(rng, math.exp(0.7 - 2.6 * price + 0.3 * rival), 0.2)
        epochs.append((price, rival, orders))
    memory = MarketMemory(ln_price=0.0, control=0.0)
    for omega in (0.0, step):
        belief, memory = START, MarketMemory(ln_price=0.0, control=0.0)
        for price, rival, orders in epochs:
            found = market_effects.Features(-market_effects.bend(price - rival, 0.03), 0.0, 0.0)
            seen = Observation(Features(price, rival, 0.0), orders, 1.0, offset=omega * found.rival)
            belief = learn(belief, seen, 0)
            of_rival, *_ = market_effects.remember(memory, belief, seen, found, DEFAULT_SETTINGS)
            memory = MarketMemory(ln_price=0.0, control=0.0, of_rival=of_rival)
        beliefs.append(belief)
    moved = [(b - a) / step for a, b in zip(beliefs[0].mean, beliefs[1].mean, strict=True)]
    assert max(map(abs, moved)) > 0.05
    assert memory.of_rival == pytest.approx(moved, abs=0.025)  # worst of 400 seeds: 0.021


def test_lessons_add_up_to_the_same_in_any_order() -> None:
    seen = [
        Observation(Features(0.01 * k, 0.0, 0.0), k, 1.0) for k in range(9)
    ]  # fmt: skip
    memory = MarketMemory(ln_price=0.0, control=0.0)
    totals = []
    for order in (seen, seen[::-1]):
        effects = market_effects.new_effects()
        for one in order:
            found = market_effects.Features(-0.1 * one.orders, 0.03 * one.orders, 0.02)
            market_effects.teach(effects, memory, START, one, found, DEFAULT_SETTINGS)
        totals.append(effects.today)
    assert totals[0] == totals[1]
    assert totals[0][0] > 0


def test_a_product_that_is_not_known_teaches_nobody() -> None:
    cov = (2.0, *START.cov[1:])
    unknown = msgspec.structs.replace(START, cov=cov)
    effects = market_effects.new_effects()
    found = market_effects.Features(-0.1, 0.1, 0.0)
    seen = Observation(Features(0.0, 0.0, 0.0), 5, 1.0)
    memory = MarketMemory(ln_price=0.0, control=0.0)
    market_effects.teach(effects, memory, unknown, seen, found, DEFAULT_SETTINGS)
    assert effects == market_effects.new_effects()


def test_an_absurd_count_teaches_no_more_than_a_large_surprise() -> None:
    memory = MarketMemory(ln_price=0.0, control=0.0)
    found = market_effects.Features(-0.1, 0.1, 0.0)
    learned = []
    for orders in (10**3, 10**9):
        effects = market_effects.new_effects()
        seen = Observation(Features(0.0, 0.0, 0.0), orders, 1.0)
        market_effects.teach(effects, memory, START, seen, found, DEFAULT_SETTINGS)
        learned.append(effects)
    assert learned[0] == learned[1]


def test_the_policy_turns_the_rival_threshold_off() -> None:
    _, partition = learn_history(1, WorldSettings(**SHOP, dearer_penalty=2.0), 60)
    partition.set_policy("[objective]\nrival_sensitivity = 0.0\n")
    effects_book.new_day(partition, 61)
    assert [found.used for found in pooled(partition, "rival")] == [0.0] * 6


def test_category_effects_survive_a_round_trip() -> None:
    _, partition = learn_history(1, WorldSettings(**SHOP), 3)
    for found in partition.effects.values():
        assert msgspec.json.decode(canonical(found), type=CategoryEffects) == found


USES = [
    # why, mean, sd, share used
    ("within two sd", 0.19, 0.1, 0.0),
    ("at two sd", -0.2, 0.1, 0.0),
    ("at four sd", -0.4, 0.1, 0.75),
    ("far beyond doubt", 2.0, 0.02, 0.9996),
]


@pytest.mark.parametrize(
    ("mean", "sd", "share"), [use[1:] for use in USES], ids=[u[0] for u in USES]
)
def test_an_effect_is_used_as_far_as_it_is_known(mean: float, sd: float, share: float) -> None:
    found = effect(mean, sd * sd)
    assert found.used == pytest.approx(mean * share)
    assert known_share(mean * mean / (sd * sd)) == pytest.approx(share)


def test_what_is_in_use_changes_in_steps_and_goes_to_zero_at_once() -> None:
    before = Effect(1.0, 0.2, 0.9)
    assert settled(before, Effect(1.02, 0.2, 0.93)) == Effect(1.02, 0.2, 0.9)
    assert settled(before, Effect(1.2, 0.2, 1.1)) == Effect(1.2, 0.2, 1.1)
    assert settled(Effect(0.4, 0.2, 0.01), Effect(0.3, 0.2, 0.0)) == Effect(0.3, 0.2, 0.0)


def test_the_inverse_is_the_inverse() -> None:
    matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, -0.2], [0.5, -0.2, 2.0]]
    assert np.array(inverse(matrix)) == pytest.approx(np.linalg.inv(np.array(matrix)))
    with pytest.raises(ValueError, match="positive definite"):
        inverse([[1.0, 2.0], [2.0, 1.0]])
