"""Baskets: lift with its interval, and what is proposed from it."""

import itertools

import pytest

from models.demand.baskets import Baskets, Listed, lift, propose, signed
from schemas.errors import InputError
from schemas.families import FamilyProposal


def test_a_pair_as_often_as_chance_has_it_has_lift_one() -> None:
    found = lift(100, 1000, 1000, 10_000)
    assert (found.expected_together, found.mean) == (100.0, 1.0)
    assert found.low < 1.0 < found.high


def test_a_pair_seen_once_in_an_unlikely_place_proves_nothing() -> None:
    found = lift(1, 2, 2, 10_000)
    assert found.mean == pytest.approx(2.0, rel=1e-3)
    assert found.low < 0.4


def shop() -> Baskets:
    """200 orders of a lamp, half with its bulb, a third with its shade; 400 of things apart."""
    baskets, number = Baskets(), itertools.count()
    for order in range(200):
        name = f"o{next(number)}"
        baskets.add(name, "LAMP")
        if order % 2 == 0:
            baskets.add(name, "BULB")
        if order % 3 == 0:
            baskets.add(name, "SHADE")
    for order in range(400):
        baskets.add(f"o{next(number)}", f"THING-{order % 20}")
    return baskets


CATALOGUE = {sku: Listed("lamps", sku) for sku in ("LAMP", "BULB", "SHADE")} | {
    f"THING-{number}": Listed("things", f"THING-{number}") for number in range(20)
}


def test_what_is_bought_with_an_anchor_is_proposed_as_its_addition() -> None:
    proposal = propose(shop(), CATALOGUE, "test")
    (family,) = proposal.families
    assert (proposal.orders, family.name, family.category) == (600, "family-LAMP", "lamps")
    assert (family.anchor, family.orders) == ("LAMP", 200)
    bulb, shade = family.additions
    assert (bulb.sku, bulb.orders, bulb.orders_together) == ("BULB", 100, 100)
    assert bulb.expected_together == pytest.approx(100 * 200 / 600, abs=1e-3)
    assert (bulb.lift_low, bulb.lift, bulb.lift_high) == (2.477, 2.942, 3.439)
    assert (shade.sku, shade.orders, shade.orders_together) == ("SHADE", 67, 67)
    assert signed(proposal) == proposal


def test_products_of_a_family_already_and_those_not_on_sale_are_left_alone() -> None:
    joined = CATALOGUE | {"BULB": Listed("lamps", "F"), "THING-1": Listed("things", "F")}
    del joined["SHADE"]
    assert propose(shop(), joined, "test").families == ()


def test_at_most_two_anchors_a_category_and_five_additions_a_family() -> None:
    baskets = Baskets()
    for group, order in itertools.product(range(3), range(60)):
        name = f"{group}-{order}"
        baskets.add(name, f"A{group}")
        for place in range(7):
            if order < 40 + place - group:
                baskets.add(name, f"B{group}{place}")
    for order in range(2000):
        baskets.add(f"other-{order}", "OTHER")
    skus = {sku for basket in baskets._baskets.values() for sku in basket}
    proposal = propose(baskets, {sku: Listed("all", sku) for sku in skus}, "test")
    assert [family.anchor for family in proposal.families] == ["A0", "A1"]
    assert [len(family.additions) for family in proposal.families] == [5, 5]


def test_a_reseller_s_order_pairs_nothing() -> None:
    baskets = Baskets()
    for order in range(50):
        for number in range(31):
            baskets.add(f"o{order}", f"P{number}")
    assert baskets.counts()[1] == {}
    assert baskets.counts()[0]["P3"] == 50


def test_lines_of_an_order_count_once() -> None:
    baskets = Baskets()
    for _ in range(3):
        baskets.add("o1", "A")
    assert (baskets.orders, baskets.counts()[0]) == (1, {"A": 1})


def test_too_many_orders_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("models.demand.baskets.ORDERS_MAX", 1)
    baskets = Baskets()
    baskets.add("o1", "A")
    with pytest.raises(InputError) as error:
        baskets.add("o2", "A")
    assert error.value.code == "too_many_orders"


def test_the_hash_is_of_the_contents() -> None:
    empty = signed(FamilyProposal(source="s", orders=1, families=(), sha256=""))
    other = signed(FamilyProposal(source="s", orders=2, families=(), sha256=""))
    assert (len(empty.sha256), empty.sha256 != other.sha256) == (64, True)
    assert signed(empty) == empty
