"""Families in the fold: decided together, in one wave, whatever the batches are."""

import math
from itertools import pairwise

import pytest
from msgspec.structs import replace

from models.fold.engine import PartitionEngine
from models.guards import gate
from models.kernel.tile import Kernel
from schemas.outputs import PriceDecided
from tests.models.tapes import Partition, at, keep, policy, seen

EUROS = {"A": 1000, "B": 800, "C": 1200}


def lived(kernel: Kernel, effect: float = 0.35, **listing: object) -> Partition:
    """Three substitutes that are well known, at their list prices."""
    shop = Partition(kernel)
    for sku, price in EUROS.items():
        fields = {"family": "F", "list_price_minor": 2 * price, "unit_cost_minor": price // 2}
        shop.send("product_listed", at(), sku=sku, **{**fields, **listing})
    for minute in (1, 2, 3):  # an epoch of each begins once all the others are known
        for sku, price in EUROS.items():
            shop.send("price_applied", at(minutes=minute), sku=sku, price_minor=price - minute)
    state = shop.engine.state
    for sku, known in state.skus.items():
        assert known.posterior is not None
        assert known.passport is not None
        cov = (1e-3, 0.0, 0.0, 0.0, 1e-2, 0.0, 0.0, 1e-3, 0.0, 1e-3)
        mean = (math.log(8.0), -2.4, 0.0, 0.0)
        known.posterior = replace(known.posterior, mean=mean, cov=cov, orders=900)
        known.reference_price_minor = EUROS[sku]
        known.published_minor = EUROS[sku]
        known.day_open_minor, known.applied_minor = EUROS[sku], None
        known.passport = replace(known.passport, graduated_ms=at())
        member = state.members[sku]
        member.clock = replace(member.clock, ln_price=0.0)
        assert member.effects is not None
        member.effects = replace(
            member.effects, mean=(effect, effect, 0.0), cov=(1e-4, 0.0, 0.0, 1e-4, 0.0, 1e-4)
        )
        state.gates[sku].published_minor = EUROS[sku]
        state.gates[sku].reference_price_minor = EUROS[sku]
        state.gates[sku].day_open_minor = EUROS[sku]
    restored(shop, kernel)
    return shop


def restored(shop: Partition, kernel: Kernel) -> None:
    """Go on from the state as it would be read."""
    shop.stored = dict(shop.engine.state.all_records())
    shop.engine = PartitionEngine.restore(0, shop.stored.items(), kernel)


def by_sku(decisions: list[PriceDecided]) -> dict[str, PriceDecided]:
    assert len({found.sku for found in decisions}) == len(decisions)
    return {found.sku: found for found in decisions}


@pytest.fixture(scope="module")
def wave(kernel: Kernel) -> dict[str, PriceDecided]:
    shop = lived(kernel)
    return by_sku(shop.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions)


def test_one_decision_moves_the_family_in_the_same_wave(wave) -> None:
    assert list(wave) == ["A", "B", "C"]
    assert [found.record.trigger for found in wave.values()] == ["cost", "family", "family"]
    assert {found.tape.offset for found in wave.values()} == {12}
    assert [found.status for found in wave.values()] == ["published"] * 3
    assert all(found.price_minor > EUROS[sku] for sku, found in wave.items())


def test_the_record_says_what_partners_do(wave) -> None:
    record = wave["A"].record
    told = record.family
    assert told.demand == "elasticities"
    assert [one.sku for one in told.partners] == ["B", "C"]
    assert [one.elasticity for one in told.partners] == pytest.approx([0.35, 0.35], abs=0.02)
    assert told.partner_profit_slope_per_day_minor > 0.0
    assert told.joint_profit_per_day_minor > told.present_profit_per_day_minor
    assert 0.0 <= told.gap_ratio < 0.1
    # dearer than alone, since partners get what it loses
    names = [step.name for step in record.steps[:3]]
    assert names == ["frictionless optimum", "with stock and risk", "with partners"]
    assert record.steps[2].price_minor > record.steps[1].price_minor + 20
    # partners are published in the same wave about where they were reckoned with
    for one in told.partners:
        assert wave[one.sku].price_minor == pytest.approx(one.price_minor, rel=0.01)


def test_who_stands_at_the_joint_optimum_is_left_alone(kernel) -> None:
    shop = lived(kernel)
    decided: list[str] = []
    for day in range(1, 12):
        found = shop.send("cost_changed", at(days=day), unit_cost_minor=500 + day % 2)
        decided = [one.sku for one in found.decisions]
    assert decided == ["A"]


def test_where_nothing_is_known_of_partners_each_is_priced_alone(kernel) -> None:
    shop = lived(kernel, effect=0.0)
    found = shop.send("cost_changed", at(hours=1), unit_cost_minor=520).decision
    assert found.record is not None
    assert (found.sku, found.record.family) == ("A", None)
    alone = Partition(kernel)
    alone.send("product_listed", at())
    first = alone.send("cost_changed", at(hours=1), unit_cost_minor=520).decision
    assert first.record is not None
    assert first.record.family is None


def test_a_partner_behind_an_open_breaker_stays_and_the_others_know(kernel) -> None:
    shop = lived(kernel)
    scope = {"kind": "sku", "name": "B"}
    shop.send("operator_command", at(minutes=30), command="breaker_trip", scope=scope)
    found = by_sku(shop.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions)
    assert list(found) == ["A", "C"]
    partners = {one.sku: one.price_minor for one in found["A"].record.family.partners}
    assert partners["B"] == pytest.approx(800.0)
    assert partners["C"] > 1200.0


def test_a_sold_out_partner_does_not_raise_the_price(kernel) -> None:
    stocked, empty = lived(kernel), lived(kernel)
    for sku in ("B", "C"):
        empty.send("inventory_changed", at(minutes=30), sku=sku, on_hand=0, inbound=0)
    high = by_sku(stocked.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions)["A"]
    low = by_sku(empty.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions)["A"]
    assert high.record.steps[2].price_minor > high.record.steps[1].price_minor + 20
    assert low.record.steps[2].price_minor == pytest.approx(
        low.record.steps[1].price_minor, abs=2.0
    )


def test_ladders_hold_in_the_joint_optimum(kernel) -> None:
    shop = lived(kernel, effect=0.0)
    text = '[[ladders]]\nname = "sizes"\nskus = ["B", "A", "C"]\nratio_min = 1.19\n'
    shop.send("policy_published", at(minutes=10), **policy(text))
    found = by_sku(shop.send("cost_changed", at(hours=1), unit_cost_minor=520).decisions)
    told = found["A"].record.family
    assert (told.ladders, told.ladders_kept) == (("sizes",), True)
    stand = {sku: one.record.family.joint_price_minor for sku, one in found.items()}
    for lower, upper in pairwise([stand[sku] for sku in ("B", "A", "C") if sku in stand]):
        assert upper >= 1.19 * lower * (1.0 - 1e-9)


def test_budgets_set_the_prices(kernel) -> None:
    """A budget of 9.50 caps what 60 % of the customers buy: the price goes below it."""
    shop = lived(kernel, effect=0.0)
    text = (
        '[[families]]\nname = "F"\n'
        "budget_groups = [{budget_minor = 950, share = 0.6}, {budget_minor = 1400, share = 0.4}]\n"
    )
    shop.send("policy_published", at(minutes=10), **policy(text))
    found = by_sku(shop.send("cost_changed", at(hours=1), unit_cost_minor=510).decisions)
    told = found["A"].record.family
    assert told.demand == "budget groups"
    assert [one.elasticity for one in told.partners] == [None, None]
    for one in found.values():
        optimum = next(step for step in one.record.steps if step.name == "with partners")
        assert optimum.price_minor == pytest.approx(one.record.family.joint_price_minor, rel=0.021)


@pytest.mark.parametrize(("size", "again"), [(10**6, False), (1, False), (7, True), (3, False)])
def test_bytes_do_not_depend_on_the_batches(kernel, size, again) -> None:
    shop = lived(kernel)
    start = len(shop.tape.records)
    before = dict(shop.stored)
    for day in range(1, 9):
        for sku in EUROS:
            for number in range(6):
                order = f"{day}-{sku}-{number}"
                shop.tape.add("order_placed", at(days=day, minutes=number), sku=sku, order_id=order)
        if day % 3 == 0:
            shop.tape.add(
                "inventory_changed", at(days=day, hours=2), sku="B", on_hand=day, inbound=0
            )
        shop.tape.add("cost_changed", at(days=day, hours=3), unit_cost_minor=480 + 10 * day)
        shop.tape.add("clock_ticked", at(days=day, hours=6))
    singly = folded(kernel, before, shop.tape.records[start:], 1, again=False)
    found = folded(kernel, before, shop.tape.records[start:], size, again=again)
    assert found == singly
    kinds = {one.record.trigger for one in singly[0]}
    assert {"cost", "family", "epoch"} <= kinds


def folded(kernel, stored, records, size, *, again):
    stored, decisions = dict(stored), []
    engine = PartitionEngine.restore(0, stored.items(), kernel)
    for start in range(0, len(records), size):
        batch = engine.apply(records[start : start + size])
        decisions += seen(batch).decisions
        keep(stored, batch)
        if again:
            engine = PartitionEngine.restore(0, stored.items(), kernel)
    return decisions, stored


# -- loss leaders


def with_leader(kernel: Kernel, text: str, effect: float) -> dict[str, PriceDecided]:
    """A lamp that sells shades; its cost rose to just below its price."""
    shop = lived(kernel, role="addition")
    for sku in ("B", "C"):
        member = shop.engine.state.members[sku]
        assert member.effects is not None
        mean = [effect if partner == "A" else 0.0 for partner in member.effects.partners]
        member.effects = replace(member.effects, mean=(*mean, 0.0))
    listing = {"family": "F", "list_price_minor": 2000, "unit_cost_minor": 900, "role": "anchor"}
    shop.send("policy_published", at(minutes=10), **policy(text))
    return by_sku(shop.send("product_listed", at(hours=1), sku="A", **listing).decisions)


def test_an_anchor_may_waive_its_margin_while_the_family_earns_more(kernel) -> None:
    floor = "guards.margin_floor_ratio = 0.15\n"
    held = with_leader(kernel, floor, -3.0)["A"]
    led = with_leader(kernel, f'{floor}guards.loss_leader = "margin_floor"\n', -3.0)["A"]
    assert held.price_minor == math.ceil(900 / 0.85)
    assert 900 <= led.price_minor < held.price_minor
    assert led.status == "published"
    told = led.record.family
    assert told.waived == "margin_floor"
    assert told.waived_gain_per_day_minor > 0.0
    assert held.record.family.waived is None


def test_an_anchor_that_sells_no_additions_keeps_its_margin(kernel) -> None:
    text = 'guards.margin_floor_ratio = 0.15\nguards.loss_leader = "margin_floor"\n'
    found = with_leader(kernel, text, 0.3)["A"]
    assert found.price_minor >= math.ceil(900 / 0.85)
    assert found.record.family.waived is None


def test_no_sale_below_cost_where_no_market_allows_it(kernel) -> None:
    text = 'guards.margin_floor_ratio = 0.15\nguards.loss_leader = "cost_floor"\n'
    found = with_leader(kernel, text, -3.0)["A"]
    assert found.price_minor >= 900
    lawful = f"{text}guards.step_ratio_max = 0.2\n[markets.XX]\nsale_below_cost_lawful = true\n"
    below = with_leader(kernel, lawful, -3.0)["A"]
    assert (below.status, below.price_minor) == ("published", 800)  # the day's step
    assert below.record.family.waived == "cost_floor"
    assert gate.decision_is_sound(below) == ()
