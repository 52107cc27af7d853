"""Cross effects inside a family: the joint update, what it can tell apart, and what it finds."""

import math
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.demand import cross_effects, demand
from models.demand.cross_effects import PARTNERS_MAX, choose_partners, effect, learn
from models.demand.cross_prior import (
    COMPLEMENT,
    SUBSTITUTE,
    UNRELATED,
    Pair,
    relation,
    used,
    used_effects,
)
from models.demand.epoch import Features, Observation
from models.family import family_book
from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.fold.partition import PartitionState
from models.kernel.tile import Kernel
from models.prior.prior import DEFAULT_PRIOR, adapt
from models.simulator.family_world import WITHOUT, FamilySettings, FamilyWorld
from schemas.events import DAY_MS
from schemas.learned import CrossEffects, DemandPosterior
from schemas.state import CatalogueEntry
from tests.models.tapes import Partition, Record, at, keep

START, _ = adapt(DEFAULT_PRIOR, "lamps", {}, 0)


def entry(sku: str, **fields: object) -> CatalogueEntry:
    plain = {
        "family": "F", "category": sku, "currency": "EUR", "attributes": {},
        "unit_cost_minor": 500, "return_handling_cost_minor": None, "list_price_minor": 1000,
        "minimum_resale_price_minor": {}, "kept_share": 1.0, "exit_ms": None,
        "predecessor": None, "retired": False, "changed_ms": 0,
    }  # fmt: skip
    return CatalogueEntry(**(plain | {"sku": sku} | fields))


def beside(*partners: str) -> CrossEffects:
    found = choose_partners(None, entry("A"), [entry(sku) for sku in partners])
    assert found is not None
    return found


def seen(orders: int, ln_price: float = 0.0, days: float = 1.0) -> Observation:
    return Observation(Features(ln_price, 0.1, 0.5 * ln_price), orders, days, orders, orders)


# -- the catalogue's prior


@pytest.mark.parametrize(
    ("why", "own", "partner", "expected"),
    [
        ("an addition by its anchor", {"anchors": ("B",)}, {}, COMPLEMENT),
        ("by its role", {"role": "addition"}, {"role": "anchor"}, COMPLEMENT),
        ("an anchor by its addition", {}, {"anchors": ("A",)}, UNRELATED),
        ("an anchor by its role", {"role": "anchor"}, {"role": "addition"}, UNRELATED),
        ("one category", {"category": "x"}, {"category": "x"}, SUBSTITUTE),
        ("half of the attributes", {"attributes": {"a": 1.0, "b": "c", "d": 2.0}},
         {"attributes": {"a": 1.0, "b": "e"}}, SUBSTITUTE),
        ("less than half", {"attributes": {"a": 1.0, "b": "c", "d": 2.0}},
         {"attributes": {"a": 1.0, "b": "e", "d": 3.0}}, UNRELATED),
        ("nothing in common", {}, {}, UNRELATED),
    ],
)  # fmt: skip
def test_what_the_catalogue_says(why, own, partner, expected) -> None:
    assert relation(entry("A", **own), entry("B", **partner)) == expected


def test_partners_are_taken_by_what_is_expected_of_them_up_to_a_limit() -> None:
    others = [entry(f"P{number:02}") for number in range(12)]
    others += [entry("Z", role="anchor"), entry("Y", category="A")]
    found = choose_partners(None, entry("A", role="addition"), others)
    assert found is not None
    assert found.partners == ("Z", "Y", *(f"P{number:02}" for number in range(PARTNERS_MAX - 2)))
    assert found.mean == (-0.4, 0.15, *(0.0,) * (PARTNERS_MAX - 1))
    assert choose_partners(found, entry("A", role="addition"), others) == found


def test_a_partner_known_to_have_no_effect_makes_room_for_the_next() -> None:
    others = [entry(f"P{number}") for number in range(PARTNERS_MAX + 2)]
    found = choose_partners(None, entry("A"), others)
    posterior, rng = START, np.random.default_rng(5)
    for day in range(1, 400):
        wave = rng.normal(0.0, 0.4, PARTNERS_MAX).tolist()
        assert found is not None
        posterior, found = learn(posterior, found, seen(20), [*wave, 0.0], day * DAY_MS)
    sds = [effect(found, index)[1] for index in range(PARTNERS_MAX)]
    assert max(sds) < cross_effects.IDLE_SD
    after = choose_partners(found, entry("A"), others)
    assert after is not None
    assert (after.tried, len(after.partners), after.partners[-1]) == (1, PARTNERS_MAX, "P8")
    again = choose_partners(after, entry("A"), others)
    assert again is not None
    assert set(again.partners) - set(after.partners) <= {"P9"}
    gone = (set(found.partners) - set(after.partners)).pop()
    left = [index for index, sku in enumerate(found.partners) if sku != gone]
    assert [effect(after, index) for index in range(PARTNERS_MAX - 1)] == [
        effect(found, index) for index in left
    ]


# -- the update


def test_without_partners_moves_it_is_the_plain_update() -> None:
    found = beside("B", "C")
    posterior, after = learn(START, found, seen(7, 0.1), [0.0, 0.0, 0.0], 0)
    assert posterior == demand.learn(START, seen(7, 0.1), 0)
    assert (after.mean, after.cov) == (found.mean, found.cov)


def test_it_is_the_laplace_approximation_in_all_coefficients() -> None:
    """Against Newton's method on the whole log posterior, step after step."""
    posterior, found, phi = START, beside("B", "C"), demand.DEFAULT_SETTINGS.dispersion
    mean = np.array([*START.mean, *found.mean])
    cov = np.zeros((7, 7))
    cov[:4, :4] = square(START.cov, 4)
    cov[4:, 4:] = square(found.cov, 3)
    for orders, price, partners in [
        (3, 0.1, [0.2, -0.1, 0.05]), (9, -0.2, [-0.3, 0.1, 0.0]), (1, 0.0, [0.2, 0.2, 0.2]),
    ]:  # fmt: skip
        posterior, found = learn(posterior, found, seen(orders, price, 2.0), partners, 0)
        x = np.array([1.0, price, 0.1, 0.5 * price, *partners])
        precision, theta = np.linalg.inv(cov), mean.copy()
        for _ in range(50):
            mu = 2.0 * math.exp(x @ theta)
            slope = x * (orders - mu) / (1 + phi * mu) - precision @ (theta - mean)
            bend = precision + np.outer(x, x) * mu * (1 + phi * orders) / (1 + phi * mu) ** 2
            theta = theta + np.linalg.solve(bend, slope)
        mean, cov = theta, np.linalg.inv(bend)
        joint = np.zeros((7, 7))
        joint[:4, :4], joint[4:, 4:] = square(posterior.cov, 4), square(found.cov, 3)
        joint[4:, :4] = np.reshape(found.own_cov, (3, 4))
        joint[:4, 4:] = joint[4:, :4].T
        assert [*posterior.mean, *found.mean] == pytest.approx(mean.tolist(), abs=1e-7)
        assert joint == pytest.approx(cov, abs=1e-7)


def square(triangle: tuple[float, ...], size: int) -> np.ndarray:
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = triangle
    return matrix + np.triu(matrix, 1).T


logs = st.floats(-2.0, 2.0)
histories = st.lists(
    st.tuples(st.integers(0, 10**6), logs, st.none() | logs, st.tuples(logs, logs, logs),
              st.floats(1e-3, 400.0), st.integers(0, 40 * DAY_MS)),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60)
@example(
    # without a rival's price the cross-price elasticity is considered, not learned
    [(0, 0.0, None, (0.0, 0.0, 0.0), 1.0, 0)] * 5
    + [(5, 0.0, 2.0, (0.0, 0.0, -1.0), 2.0, 0), (23, 0.0, None, (0.0, 0.0, -2.0), 1.0, 0)],
    0,
)
@given(histories, st.integers(0, 8))
def test_the_joint_belief_stays_proper(history, widened_at) -> None:
    """Also where the own belief is changed by others in between."""
    posterior, found, now_ms = START, beside("B", "C"), 0
    for number, (orders, price, rival, partners, days, waited) in enumerate(history):
        now_ms += waited
        observation = Observation(Features(price, rival, 0.3 * price), orders, days)
        posterior, found = learn(posterior, found, observation, partners, now_ms)
        if number == widened_at:
            posterior = with_variance(posterior, 0.5)
        joint = np.zeros((7, 7))
        joint[:4, :4], joint[4:, 4:] = square(posterior.cov, 4), square(found.cov, 3)
        if number != widened_at:
            joint[4:, :4] = np.reshape(found.own_cov, (3, 4))
            joint[:4, 4:] = joint[4:, :4].T
        assert np.isfinite([*posterior.mean, *found.mean]).all()
        scale = np.sqrt(np.diag(joint))
        assert np.linalg.eigvalsh(joint / np.outer(scale, scale)).min() > -1e-6


def with_variance(posterior: DemandPosterior, level: float) -> DemandPosterior:
    cov = (level, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.1, 0.0, 0.1)
    return DemandPosterior(
        mean=posterior.mean, cov=cov, epochs=0, orders=0, updated_ms=posterior.updated_ms
    )


# -- what data can tell apart


def test_a_price_that_never_moved_teaches_nothing_of_its_effect() -> None:
    posterior, found = START, beside("B")
    for day in range(1, 200):
        posterior, found = learn(posterior, found, seen(9), [0.3, 0.0], day * DAY_MS)
    mean, sd = effect(found, 0)
    assert mean == pytest.approx(0.0, abs=0.05)
    assert sd > 0.95 * UNRELATED.sd
    assert posterior.mean[0] == pytest.approx(math.log(9.0), abs=0.15)


def test_of_prices_that_move_together_only_the_sum_is_known() -> None:
    rng = np.random.default_rng(3)
    posterior, found = START, beside("B")
    for day in range(1, 400):
        x = float(rng.normal(0.0, 0.2))
        orders = int(rng.poisson(20.0 * math.exp(-2.0 * x)))
        epoch = Observation(Features(x, None, 0.0), orders, 1.0)
        posterior, found = learn(posterior, found, epoch, [x, 0.0], day * DAY_MS)
    _, sd = effect(found, 0)
    sum_variance = posterior.cov[4] + sd**2 + 2.0 * found.own_cov[1]
    assert sd > 0.9 * UNRELATED.sd
    assert found.own_cov[1] < -0.85 * sd**2  # what the one gains the other loses
    assert sum_variance == pytest.approx(posterior.cov[4] - sd**2, abs=0.01)
    assert posterior.mean[1] + found.mean[0] == pytest.approx(-2.0, abs=0.3)


# -- shrinkage


def test_an_effect_is_used_as_far_as_it_is_known() -> None:
    assert [used(0.0, 0.1), used(0.25, 0.1), used(-0.249, 0.1)] == [0.0, 0.0, 0.0]
    assert used(-0.5, 0.1) == pytest.approx(-0.5 * (1 - 0.5**4))
    assert used(0.5, 0.01) == pytest.approx(0.5, rel=1e-5)


def test_without_data_no_effect_is_used() -> None:
    """Whatever the catalogue expects."""
    assert used_effects([Pair(p, p.mean, p.sd) for p in (COMPLEMENT, SUBSTITUTE, UNRELATED)]) == [
        0.0, 0.0, 0.0,
    ]  # fmt: skip
    assert used_effects([]) == []


def test_pairs_of_one_relation_know_together_what_none_knows_alone() -> None:
    data_mean, data_sd = 0.3, 0.2
    precision = data_sd**-2 + SUBSTITUTE.sd**-2
    mean = (data_mean * data_sd**-2 + SUBSTITUTE.mean * SUBSTITUTE.sd**-2) / precision
    pair = Pair(SUBSTITUTE, mean, precision**-0.5)
    (alone,) = used_effects([pair])
    together = used_effects([pair] * 20)
    assert alone == 0.0
    assert together == pytest.approx([0.3] * 20, rel=0.1)


# -- in a simulated shop, through the fold's own epochs


def shop(seed: int, settings: FamilySettings) -> tuple[FamilyWorld, PartitionState]:
    world, partition = FamilyWorld(seed, settings), PartitionState(0, "test")
    world.history(partition, 364)
    return world, partition


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_where_prices_have_no_cross_effects_none_are_used(seed: int) -> None:
    _, partition = shop(seed, WITHOUT)
    found = family_book.used_effects(partition, "family")
    assert len(found) == 30
    assert max(abs(value) for value in found.values()) <= 0.1


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_where_there_are_effects_they_are_found(seed: int) -> None:
    world, partition = shop(seed, FamilySettings())
    skus, found = world.skus, family_book.used_effects(partition, "family")
    inside = []
    for i, sku in enumerate(skus):
        effects = partition.members[sku].effects
        assert effects is not None
        for index, partner in enumerate(effects.partners):
            mean, sd = effect(effects, index)
            inside.append(abs(mean - world.cross[i, skus.index(partner)]) <= 1.645 * sd)
    by_anchor = [found[sku, "P0"] for sku in skus[1:]]
    by_others = [found[i, j] for i in skus[1:] for j in skus[1:] if i != j]
    assert max(by_anchor) < -0.2
    assert min(by_others) > 0.0
    assert np.mean(by_anchor) == pytest.approx(world.cross[1:, 0].mean(), abs=0.2)
    assert np.mean(by_others) == pytest.approx(world.cross[1:, 1:].sum() / 20, abs=0.12)
    assert np.mean(inside) >= 0.85


# -- what the fold notes


def test_a_partner_enters_with_its_mean_price_over_the_epoch(kernel) -> None:
    family = Partition(kernel)
    family.send("product_listed", at(), family="F", role="anchor")
    family.send("product_listed", at(), sku="B", family="F", anchors=["A"], role="addition")
    state = family.engine.state
    family.send("price_applied", at(days=1), price_minor=1000)
    family.send("price_applied", at(days=1), sku="B", price_minor=900)
    family.send("price_applied", at(days=2), price_minor=1200)
    family.send("price_applied", at(days=2, hours=12), price_minor=800)
    member = state.members["B"]
    assert member.effects is not None
    assert (member.effects.partners, member.began_ms) == (("A",), at(days=1))
    price, control = family_book.regressors(state, member, at(days=3))
    expected = (0.25 * math.log(1.2) + 0.25 * math.log(0.8)) / 1.0
    assert price == pytest.approx(expected, rel=1e-9)
    assert control == pytest.approx(expected, rel=1e-9)
    soon = family_book.regressors(state, member, at(days=1, minutes=30))
    assert soon == [math.log(0.8)] * 2


def family_tape(kernel: Kernel) -> list[Record]:
    """Five products of one family: prices, orders, rivals and listings between one another."""
    shop, rng = Partition(kernel), random.Random(8)
    skus = ["A", "B", "C", "D", "E"]
    for day in range(20):
        for hour in sorted(rng.sample(range(24), 12)):
            sku = rng.choice(skus[: 2 + day // 5])
            now_ms = at(days=day, hours=hour)
            if sku not in shop.engine.state.skus:
                role = "anchor" if sku == "A" else "addition"
                shop.send("product_listed", now_ms, sku=sku, family="F", role=role)
            kind = rng.choice(["order", "order", "order", "rival", "cost"])
            if kind == "rival":
                shop.send("competitor_price_observed", now_ms, sku=sku,
                          price_minor=rng.choice([900, 1000, 1100]))  # fmt: skip
            elif kind == "cost":
                shop.send("cost_changed", now_ms, sku=sku, unit_cost_minor=rng.randint(400, 600))
            for number in range(4):
                shop.send("order_placed", now_ms, sku=sku, order_id=f"{day}-{hour}-{number}")
        shop.tick(at(days=day + 1))
    return shop.tape.records


@pytest.mark.parametrize(("size", "restored"), [(10**6, False), (7, False), (3, True), (50, True)])
def test_products_that_see_each_other_do_not_see_the_batches(kernel, size, restored) -> None:
    """Against one record at a time, in which nothing ever waits."""
    records = family_tape(kernel)
    singly = folded(kernel, records, 1, restored=False)
    assert folded(kernel, records, size, restored=restored) == singly
    decided = [output for output in singly[0] if output.topic == "prices"]
    assert len(decided) > 100
    assert sum(key.startswith(b"member/") for key in singly[1]) == 5


def folded(
    kernel: Kernel, records: list[Record], size: int, *, restored: bool
) -> tuple[list[Output], dict[bytes, bytes]]:
    engine, stored = PartitionEngine.new(0, kernel), {}
    outputs: list[Output] = []
    for start in range(0, len(records), size):
        batch = engine.apply(records[start : start + size])
        outputs += batch.outputs
        keep(stored, batch)
        if restored:
            engine = PartitionEngine.restore(0, stored.items(), kernel)
    assert stored == dict(engine.state.all_records())
    return outputs, stored


def test_a_product_of_its_own_has_no_member_record(kernel) -> None:
    family = Partition(kernel)
    family.send("product_listed", at())
    family.send("price_applied", at(days=1), price_minor=900)
    assert family.engine.state.members == {}
    assert not any(key.startswith(b"member/") for key in family.stored)
