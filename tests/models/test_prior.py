"""The prior: what a new product starts with, and what a catalogue teaches."""

import hashlib
import json
import math
import random

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from models.demand.demand import DemandSettings, learn
from models.demand.epoch import Features, Observation
from models.prior.empirical_bayes import Member, refresh
from models.prior.prior import DEFAULT_PRIOR, adapt, exchange, inherit, prior_sha256
from schemas.codec import canonical
from schemas.events import DAY_MS
from schemas.learned import (
    AttributeEffect,
    CategoryEffect,
    Covariance,
    DemandPosterior,
    DemandPrior,
    PriorSource,
    is_positive_definite,
)
from tests.models.shop import Truth, exogenous_epochs, learn_all

NOW_MS = 1_700_000_000_000
DIAGONAL = (0, 4, 7, 9)
PRIOR = DemandPrior(
    source="a test",
    mean=(0.5, -2.5, 0.3, 0.1),
    cov=(1.0, 0.1, 0.0, 0.0, 0.5, 0.0, 0.0, 0.1, 0.0, 0.2),
    category_cov=(0.6, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.05, 0.0, 0.05),
    categories={
        "shoes": CategoryEffect(
            offset=(0.2, 0.4, 0.0, 0.0),
            cov=(0.01, 0.0, 0.0, 0.0, 0.02, 0.0, 0.0, 0.01, 0.0, 0.01),
            products=50,
        )
    },
    attribute_effects={
        "weight_kg": AttributeEffect(center=2.0, scale=0.5, weights=(0.1, -0.2, 0.0, 0.0))
    },
)


def test_a_known_category_and_attribute_shift_the_start() -> None:
    posterior, source = adapt(
        PRIOR, "shoes", {"weight_kg": 2.5, "colour": "red", "height_m": 1.0}, NOW_MS
    )
    assert posterior.mean == pytest.approx((0.8, -2.3, 0.3, 0.1))
    assert posterior.cov == pytest.approx((1.01, 0.1, 0, 0, 0.52, 0, 0, 0.11, 0, 0.21))
    assert (posterior.epochs, posterior.orders, posterior.updated_ms) == (0, 0, NOW_MS)
    assert source == PriorSource(
        kind="category",
        prior_sha256=prior_sha256(PRIOR),
        category="shoes",
        attributes_used=("weight_kg",),
        attributes_ignored=("colour", "height_m"),
        attributes_missing=(),
    )


def test_an_unseen_category_adds_the_spread_between_categories() -> None:
    seen, _ = adapt(PRIOR, "shoes", {"weight_kg": 2.0}, NOW_MS)
    unseen, source = adapt(PRIOR, "lamps", {"weight_kg": 2.0}, NOW_MS)
    assert source.kind == "unseen_category"
    assert unseen.mean == PRIOR.mean
    expected = [a + b for a, b in zip(PRIOR.cov, PRIOR.category_cov, strict=True)]
    assert unseen.cov == pytest.approx(expected)
    assert all(unseen.cov[i] > seen.cov[i] for i in DIAGONAL)


@pytest.mark.parametrize("value", [None, "2.0", math.nan, math.inf])
def test_a_missing_attribute_is_not_zero_but_unknown(value: float | str | None) -> None:
    attributes = {} if value is None else {"weight_kg": value}
    average, _ = adapt(PRIOR, "shoes", {"weight_kg": 2.0}, NOW_MS)
    unknown, source = adapt(PRIOR, "shoes", attributes, NOW_MS)
    assert source.attributes_missing == ("weight_kg",)
    assert unknown.mean == pytest.approx(average.mean)
    widened = np.array(unknown.cov) - np.array(average.cov)
    np.testing.assert_allclose(widened, [0.01, -0.02, 0, 0, 0.04, 0, 0, 0, 0, 0], atol=1e-12)


def test_an_absurd_attribute_moves_the_start_no_further_than_four_sds() -> None:
    far, _ = adapt(PRIOR, "shoes", {"weight_kg": 1e9}, NOW_MS)
    four, _ = adapt(PRIOR, "shoes", {"weight_kg": 4.0}, NOW_MS)
    assert far == four


def test_the_shop_may_state_the_level_it_expects() -> None:
    posterior, _ = adapt(PRIOR, "shoes", {}, NOW_MS, expected_demand_per_day=3.0)
    assert posterior.mean[0] == math.log(3.0)
    assert posterior.cov[:4] == (0.25, 0.0, 0.0, 0.0)
    assert posterior.mean[1:] == adapt(PRIOR, "shoes", {}, NOW_MS)[0].mean[1:]
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected_demand_per_day was"):
            adapt(PRIOR, "shoes", {}, NOW_MS, expected_demand_per_day=wrong)


def test_the_hash_is_that_of_the_canonical_document() -> None:
    document = json.dumps(msgspec.to_builtins(PRIOR), sort_keys=True, separators=(",", ":"))
    assert prior_sha256(PRIOR) == hashlib.sha256(document.encode()).hexdigest()
    reread = msgspec.json.decode(canonical(PRIOR), type=DemandPrior)
    assert prior_sha256(reread) == prior_sha256(PRIOR)
    moved = replace(PRIOR, mean=(0.5, -2.5000001, 0.3, 0.1))
    assert prior_sha256(moved) != prior_sha256(PRIOR)


def test_the_default_prior_lets_an_unseen_product_be_priced() -> None:
    posterior, _ = adapt(DEFAULT_PRIOR, "anything", {}, NOW_MS)
    assert posterior.mean[1] == -2.62
    assert posterior.cov[4] == pytest.approx(0.89)
    assert is_positive_definite(posterior.cov)


FLAT: Covariance = (1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0)
BAD_DOCUMENTS = [
    ({"cov": FLAT}, r"positive definite matrix - at `\$\.cov`"),
    ({"category_cov": FLAT}, r"positive definite matrix - at `\$\.category_cov`"),
    (
        {"categories": {"a": {"offset": [0, 0, 0, 0], "cov": FLAT, "products": 1}}},
        r"positive definite matrix - at `\$\.categories\.a`",
    ),
    (
        {"attribute_effects": {"a": {"center": 0, "scale": 0, "weights": [0, 0, 0, 0]}}},
        r"scale above 0 - at `\$\.attribute_effects\.a`",
    ),
    ({"known_level_sd": 0.0}, r"number above 0 - at `\$\.known_level_sd`"),
    ({"dispersion": 0.0}, r"above 0 and below 10 - at `\$\.dispersion`"),
    ({"mean": [0.0, -2.0, 0.3]}, r"length 4.* - at `\$\.mean`"),
    ({"means": []}, "unknown field `means`"),
]


@pytest.mark.parametrize(("change", "message"), BAD_DOCUMENTS)
def test_a_document_that_is_no_prior_is_refused(change: dict[str, object], message: str) -> None:
    document = {**msgspec.to_builtins(PRIOR), **change}
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.json.decode(msgspec.json.encode(document), type=DemandPrior)


def test_a_successor_inherits_the_mean_and_doubts_it_more() -> None:
    seen = Observation(Features(0.1, 0.0, 0.0), 30, 10.0, 30, 60)
    old = learn(adapt(PRIOR, "shoes", {}, 0)[0], seen, NOW_MS)
    new = inherit(old, NOW_MS + 5)
    assert new == DemandPosterior(
        mean=old.mean,
        cov=tuple(2.0 * entry for entry in old.cov),  # type: ignore[arg-type]
        epochs=0,
        orders=0,
        updated_ms=NOW_MS + 5,
        size_lines=30.0,
        size_units=60.0,
        begun_ms=NOW_MS + 5,
    )
    dearer = inherit(old, NOW_MS, ln_shift=math.log(1.1))
    change = sum(old.mean[1:]) * math.log(1.1)
    assert dearer.mean[0] == pytest.approx(old.mean[0] + change)
    with pytest.raises(ValueError, match=r"widening was 0\.5"):
        inherit(old, NOW_MS, widening=0.5)


def test_changing_to_the_same_prior_changes_nothing() -> None:
    begun, _ = adapt(PRIOR, "shoes", {"weight_kg": 2.5}, 0)
    learned = learn_all(begun, exogenous_epochs(random.Random(3), Truth(1.0, -2.0, 0.3), 90))
    same = exchange(learned, begun, begun)
    assert same.mean == pytest.approx(learned.mean, rel=1e-9)
    assert same.cov == pytest.approx(learned.cov, rel=1e-9, abs=1e-12)
    assert replace(same, mean=learned.mean, cov=learned.cov) == learned


def test_changing_the_prior_is_as_if_it_had_been_there_from_the_start() -> None:
    old, _ = adapt(DEFAULT_PRIOR, "shoes", {}, 0)
    new, _ = adapt(PRIOR, "shoes", {}, 0)
    still = DemandSettings(level_walk_per_day=0.0, elasticity_walk_per_day=0.0)
    first, second = old, new
    for day, seen in enumerate(exogenous_epochs(random.Random(4), Truth(2.5, -2.0, 0.3), 60)):
        first = learn(first, seen, day * DAY_MS, still)
        second = learn(second, seen, day * DAY_MS, still)
    changed = exchange(first, old, new, still)
    # each took its own Laplace steps: the two agree within a fraction of their sd
    assert abs(changed.mean[1] - second.mean[1]) < 0.05 * math.sqrt(second.cov[4])
    assert changed.cov == pytest.approx(second.cov, rel=0.05, abs=0.005)
    assert is_positive_definite(changed.cov)


def test_what_only_the_walk_did_takes_a_new_mean_whole() -> None:
    old, _ = adapt(DEFAULT_PRIOR, "shoes", {}, 0)
    new = replace(old, mean=(old.mean[0], -4.0, *old.mean[2:]))
    walk = DemandSettings(level_walk_per_day=2e-3, elasticity_walk_per_day=3e-4)
    widened = (old.cov[0] + 0.2, *old.cov[1:4], old.cov[4] + 0.03, *old.cov[5:])
    waited = replace(old, cov=widened, updated_ms=100 * DAY_MS)
    changed = exchange(waited, old, new, walk)
    assert changed.mean == pytest.approx(new.mean)
    assert changed.cov == pytest.approx(widened)


class Catalogue:
    """Simulated products whose elasticity depends on category and on one of two attributes."""

    def __init__(self, seed: int, products: int, epochs: int) -> None:
        rng = random.Random(seed)
        categories = {f"c{n}": (rng.gauss(0.0, 0.8), rng.gauss(0.0, 0.5)) for n in range(15)}
        self.truth: dict[str, Truth] = {}
        self.members: list[Member] = []
        for number in range(products):
            sku, category = f"s{number:04d}", f"c{rng.randrange(15)}"
            attributes = {"weight": rng.gauss(50.0, 10.0), "noise": rng.gauss(0.0, 1.0)}
            level, elasticity = categories[category]
            elasticity += -2.2 + 0.4 * (attributes["weight"] - 50.0) / 10.0 + rng.gauss(0.0, 0.3)
            truth = Truth(level + rng.gauss(0.0, 0.8), elasticity, rng.gauss(0.5, 0.2))
            start, _ = adapt(DEFAULT_PRIOR, category, attributes, 0)
            learned = learn_all(start, exogenous_epochs(rng, truth, epochs))
            self.truth[sku] = truth
            self.members.append(Member(sku, category, attributes, learned))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(seed=5, products=450, epochs=60)


def start_error(prior: DemandPrior, catalogue: Catalogue) -> tuple[float, float]:
    """RMSE and 90 % coverage of the elasticity a product starts with."""
    squares, covered = 0.0, 0
    for member in catalogue.members[300:]:
        start, _ = adapt(prior, member.category, member.attributes, 0)
        error = start.mean[1] - catalogue.truth[member.sku].elasticity
        squares += error * error
        covered += abs(error) <= 1.6449 * math.sqrt(start.cov[4])
    count = len(catalogue.members) - 300
    return math.sqrt(squares / count), covered / count


def test_a_catalogue_teaches_products_it_has_not_seen(catalogue: Catalogue) -> None:
    fitted = refresh(DEFAULT_PRIOR, catalogue.members[:300], "fitted")
    before, _ = start_error(DEFAULT_PRIOR, catalogue)
    after, coverage = start_error(fitted, catalogue)
    assert before > 0.7
    assert after < 0.7 * before
    assert 0.85 < coverage <= 1.0
    weight, noise = fitted.attribute_effects["weight"], fitted.attribute_effects["noise"]
    assert 0.1 < weight.weights[1] < 0.5  # true: 0.4
    assert abs(noise.weights[1]) < 0.1
    assert abs(fitted.mean[1] + 2.2) < abs(DEFAULT_PRIOR.mean[1] + 2.2)
    assert sum(effect.products for effect in fitted.categories.values()) == 300
    unseen, _ = adapt(fitted, "new", {"weight": 50.0, "noise": 0.0}, 0)
    known, _ = adapt(fitted, "c1", {"weight": 50.0, "noise": 0.0}, 0)
    assert unseen.cov[4] > known.cov[4]


def test_refreshing_again_goes_on_improving(catalogue: Catalogue) -> None:
    members = [
        member._replace(initial=adapt(DEFAULT_PRIOR, member.category, member.attributes, 0)[0])
        for member in catalogue.members[:300]
    ]
    once = refresh(DEFAULT_PRIOR, members, "once", em_steps=2)
    twice = refresh(once, members, "twice", em_steps=2)
    assert start_error(twice, catalogue)[0] < start_error(once, catalogue)[0]


def test_the_order_of_the_members_does_not_matter(catalogue: Catalogue) -> None:
    members = catalogue.members[:60]
    shuffled = random.Random(2).sample(members, len(members))
    assert prior_sha256(refresh(PRIOR, shuffled, "x")) == prior_sha256(refresh(PRIOR, members, "x"))


def test_products_without_orders_teach_nothing() -> None:
    start, _ = adapt(DEFAULT_PRIOR, "shoes", {}, 0)
    members = [Member(f"s{n}", "shoes", {}, start) for n in range(40)]
    fitted = refresh(DEFAULT_PRIOR, members, "no orders")
    np.testing.assert_allclose(fitted.mean, DEFAULT_PRIOR.mean, atol=1e-9)
    np.testing.assert_allclose(fitted.categories["shoes"].offset, np.zeros(4), atol=1e-9)
    assert refresh(DEFAULT_PRIOR, [], "empty") == replace(DEFAULT_PRIOR, source="empty")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mean": (0.0, -51.0, 0.0, 0.0)}, "coefficients from -50 to 50"),
        ({"cov": (1e300, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0)}, "variances"),
        ({"cov": (1.0, 0.0, 0.0, 0.0, 1e-320, 0.0, 0.0, 1.0, 0.0, 1.0)}, "variances"),
        ({"category_cov": (1e300, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0)}, "variances"),
    ],
)
def test_a_document_beyond_what_arithmetic_holds_is_refused(
    fields: dict[str, tuple[float, ...]], expected: str
) -> None:
    document = msgspec.to_builtins(DEFAULT_PRIOR) | fields
    with pytest.raises(msgspec.ValidationError, match=expected):
        msgspec.convert(document, DemandPrior)
