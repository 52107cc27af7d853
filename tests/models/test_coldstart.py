"""Cold start in the fold: passport, confidence, the expert's share, graduation."""

import math

import msgspec
import pytest
from msgspec.structs import replace

from models.fold.context import Request
from models.kernel.tile import Kernel
from models.pricing.pose import Posed, pose
from models.prior import coldstart
from models.prior.prior import DEFAULT_PRIOR, adapt, prior_sha256
from schemas.learned import AttributeEffect, CategoryEffect, DemandPosterior, DemandPrior
from schemas.policy import Policy
from schemas.state import Passport
from tests.models.tapes import Partition, at, policy

PRIOR = DemandPrior(
    source="a test",
    mean=(0.7, -2.4, 0.2, 0.0),
    cov=(0.5, 0.0, 0.0, 0.0, 0.16, 0.0, 0.0, 0.04, 0.0, 0.25),
    category_cov=(0.25, 0.0, 0.0, 0.0, 0.24, 0.0, 0.0, 0.04, 0.0, 0.04),
    categories={
        "lamps": CategoryEffect(
            offset=(0.0, -0.4, 0.0, 0.0),
            cov=(0.01, 0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.01, 0.0, 0.01),
            products=40,
            habit_markup=1.5,
        )
    },
    attribute_effects={
        "height_m": AttributeEffect(center=1.0, scale=0.5, weights=(0.0, 0.0, 0.0, 0.0)),
        "weight_kg": AttributeEffect(center=2.0, scale=1.0, weights=(0.0, 0.1, 0.0, 0.0)),
    },
    habit_markup=1.8,
    expert_share=0.4,
)
NO_PROBES = policy("[decision]\nexploration_log = 0.0\n")


def belief(variance: float, orders: int = 0, elasticity: float = -2.4) -> DemandPosterior:
    begun, _ = adapt(PRIOR, "chairs", {}, 0)
    cov = (*begun.cov[:4], variance, *begun.cov[5:])
    return replace(begun, cov=cov, orders=orders, mean=(0.7, elasticity, 0.2, 0.0))


def best_price_minor(shop: Partition, elasticity: float) -> float:
    """The best price of the shop's product if its elasticity were another."""
    posed = pose(shop.engine.state, Request("A", "a test", 9, at(hours=1), at(hours=1)))
    assert isinstance(posed, Posed)
    [best] = shop.engine.kernel.solve([posed.full._replace(elasticity=elasticity)])
    return best.price * posed.reference_minor


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    partition = Partition(kernel)
    partition.send("policy_published", at(), **NO_PROBES)
    document = {"prior": msgspec.to_builtins(PRIOR), "prior_sha256": prior_sha256(PRIOR)}
    partition.send("prior_published", at(), **document)
    return partition


@pytest.mark.parametrize(
    ("why", "variance", "confidence", "share"),
    [
        ("an unseen category: all is open", 0.40, 0.0, 0.4),
        ("wider than that: not less than nothing", 1.00, 0.0, 0.4),
        ("half of what a category would tell", 0.28, 0.3, 0.2),
        ("what a well-known category tells", 0.16, 0.6, 0.0),
        ("told by its own orders", 0.04, 0.9, 0.0),
    ],
)
def test_confidence_and_the_experts_share(
    why: str, variance: float, confidence: float, share: float
) -> None:
    found = belief(variance)
    assert coldstart.confidence(PRIOR, found) == pytest.approx(confidence), why
    assert coldstart.expert_share(PRIOR, found) == pytest.approx(share), why


def test_without_a_habit_there_is_no_expert_to_lean_on() -> None:
    assert coldstart.expert_share(replace(PRIOR, habit_markup=None), belief(0.4)) == 0.0


@pytest.mark.parametrize(
    ("prior", "category", "markup"),
    [
        (PRIOR, "lamps", 1.5),
        (PRIOR, "chairs", 1.8),  # never its own truth: the known categories' mean
        (DEFAULT_PRIOR, "chairs", 2.0),
    ],
)
def test_the_expert_marks_up_by_known_habits(
    prior: DemandPrior, category: str, markup: float
) -> None:
    assert coldstart.expert_markup(prior, category, 2.0) == markup


@pytest.mark.parametrize(
    ("attributes", "cov", "distance"),
    [
        ({"height_m": 1.0, "weight_kg": 2.0}, (), 0.0),
        ({"height_m": 1.5, "weight_kg": 3.0}, (), 1.0),
        ({"height_m": 1.5}, (), math.sqrt(0.5)),  # a missing one is at the mean
        ({"height_m": 1e9, "weight_kg": 2.0}, (), math.sqrt(8.0)),  # cut at four sds
        # where both rise together, one of each is less strange, and opposite ones more
        ({"height_m": 1.5, "weight_kg": 3.0}, (1.0, 0.5, 1.0), math.sqrt(2.0 / 3.0)),
        ({"height_m": 1.5, "weight_kg": 1.0}, (1.0, 0.5, 1.0), math.sqrt(2.0)),
        ({"colour": "red", "height_m": "tall"}, (), None),
    ],
)
def test_the_distance_of_attributes(
    attributes: dict[str, float | str], cov: tuple[float, ...], distance: float | None
) -> None:
    found = coldstart.attribute_distance(replace(PRIOR, attribute_cov=cov), attributes)
    assert found == (None if distance is None else pytest.approx(distance))


@pytest.mark.parametrize(
    ("why", "orders", "variance", "elasticity", "graduates"),
    [
        ("known", 20, 0.16, -2.4, True),
        ("too few orders", 19, 0.16, -2.4, False),
        ("too wide", 500, 0.26, -2.4, False),
        ("likely inelastic", 500, 0.16, -1.2, False),
    ],
)
def test_who_may_graduate(
    why: str, orders: int, variance: float, elasticity: float, graduates: bool
) -> None:
    found = belief(variance, orders, elasticity)
    assert coldstart.may_graduate(found, Policy()) is graduates, why


def test_a_new_product_is_priced_between_model_and_expert(shop: Partition) -> None:
    seen = shop.send("product_listed", at(hours=1), category="chairs", attributes={"height_m": 1.5})
    record = seen.decision.record
    assert record is not None
    first, optimum, aimed = record.steps[:3]
    assert (first.name, aimed.name) == ("frictionless optimum", "blend with the expert price")
    expert = 1.8 * 500
    hedged = record.passport.hedged_price_minor
    assert hedged is not None
    assert hedged > optimum.price_minor  # the best price is convex in the elasticity
    blend = hedged**0.6 * expert**0.4
    assert aimed.price_minor == pytest.approx(blend, rel=1e-12)
    assert "blend with the expert price" in seen.decision.reasons
    assert seen.decision.confidence == 0.0
    known = prior_sha256(PRIOR)[:16]
    assert shop.state.passport == Passport(known, pytest.approx(math.sqrt(0.5)), None)
    assert msgspec.structs.asdict(record.passport) == {
        "prior": "unseen_category",
        "prior_sha256": known,
        "orders": 0,
        "confidence": 0.0,
        "attribute_distance": pytest.approx(math.sqrt(0.5)),
        "expert_share": 0.4,
        "expert_price_minor": expert,
        "graduated_at": None,
        "graduates_when": "20 orders, elasticity's sd at most 0.5, probability that demand is "
        "inelastic at most 0.25",
        "hedged_price_minor": hedged,
    }
    away = 0.5  # squared: 0.24 between categories, 0.01 that the missing weight explains
    low, high = best_price_minor(shop, -2.4 - away), best_price_minor(shop, -2.4 + away)
    assert hedged == pytest.approx(math.sqrt(low * high), rel=1e-9)


def test_a_product_of_a_known_category_is_nearly_the_models(shop: Partition) -> None:
    attributes = {"height_m": 1.0, "weight_kg": 2.0}
    record = shop.send("product_listed", at(hours=1), attributes=attributes).decision.record
    assert record is not None
    # the category's own error is a twenty-fourth of the spread between categories
    assert record.passport.expert_share == pytest.approx(0.4 * 0.01 / 0.24)
    assert record.passport.confidence == pytest.approx(1.0 - 0.17 / 0.4)
    assert record.passport.expert_price_minor == 750.0
    assert record.passport.hedged_price_minor is None


def test_a_product_graduates_once_and_is_the_models_from_then_on(shop: Partition) -> None:
    shop.send("product_listed", at(hours=1))
    graduated = []
    for day in range(1, 12):
        for number in range(6):
            shop.send(
                "order_placed", at(days=day, hours=number), order_id=f"{day}-{number}",
                unit_price_minor=shop.state.published_minor,
            )  # fmt: skip
        seen = shop.tick(at(days=day, hours=23))
        graduated += [alert for alert in seen.alerts if alert.kind == "graduated"]
    (alert,) = graduated
    assert (alert.sku, alert.evidence["orders"] >= 20) == ("A", True)
    assert alert.evidence["rule"] == coldstart.graduation_rule(Policy())
    when = shop.state.passport.graduated_ms
    later = shop.send("cost_changed", at(days=13), unit_cost_minor=520).decision
    assert later.record is not None
    assert (later.record.passport.expert_share, later.record.passport.graduated_at) == (
        0.0, alert.at,
    )  # fmt: skip
    assert "blend with the expert price" not in later.reasons
    # a new document renews the passport and takes nothing back
    fresh = replace(PRIOR, source="another")
    sent = {"prior": msgspec.to_builtins(fresh), "prior_sha256": prior_sha256(fresh)}
    shop.send("prior_published", at(days=14), **sent)
    assert shop.state.passport == Passport(prior_sha256(fresh)[:16], None, when)
