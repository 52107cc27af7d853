"""The ledger adds up to the money left on the table; exceptions rank by what is at stake."""

import msgspec
import pytest

from models.kernel.tile import Kernel
from models.pricing.ledger import charges, exceptions, kind_of_hold, ledger, left_on_table
from schemas.outputs import Clamp, PriceDecided, Step
from tests.models.tapes import Partition, at, policy


@pytest.fixture(scope="module")
def priced() -> PriceDecided:
    """A real decision, to be changed."""
    shop = Partition(Kernel.warm())
    return shop.send("product_listed", at()).decision


def made(priced: PriceDecided, sku: str = "A", **changes) -> PriceDecided:
    """A decision on its way from 100 a day, by three steps, to 80 a day, and a guard's clamp."""
    assert priced.record is not None
    steps = (
        Step("frictionless optimum", 1500.0),
        Step("with stock and risk", 1450.0, 100.0),
        Step("blend with the expert price", 1400.0, 98.0),
        Step("guard step", 1100.0, 82.0),
        Step("rounded", 1099.0, 80.0),
    )
    clamp = Clamp(
        guard="step", bound_minor=1100.0, price_before_minor=1400.0, price_after_minor=1100.0,
        shadow_price=7.0, cost_per_day_minor=16.0,
    )  # fmt: skip
    fields = {
        "steps": steps, "clamps": (clamp,), "objective_per_day_minor": 80.0, "gave_way": (),
        "present_objective_per_day_minor": 60.0, "category": "lamps",
    } | changes.pop("record", {})  # fmt: skip
    record = msgspec.structs.replace(priced.record, **fields)
    shown = {"sku": sku, "status": "published", "reasons": ("trigger: cost",)} | changes
    return msgspec.structs.replace(priced, record=record, **shown)


def test_each_step_is_charged_with_what_it_costs(priced: PriceDecided) -> None:
    assert priced.record is not None
    days = priced.record.stock.horizon_days
    assert charges(made(priced)) == (
        ("blend with the expert price", 2.0, None),
        ("step", 16.0, 7.0 / days),
        ("rounded", 2.0, None),
    )
    assert left_on_table(made(priced)) == 20.0


def test_a_held_price_leaves_the_wanted_one_on_the_table_too(priced: PriceDecided) -> None:
    held = made(priced, status="held", reasons=("breaker: manual trip",))
    assert charges(held)[-1] == ("held: breaker", 20.0, None)
    assert left_on_table(held) == 40.0
    unsold = made(
        priced, status="held", reasons=("gate: below cost",),
        record={"present_objective_per_day_minor": None},
    )  # fmt: skip
    assert charges(unsold)[-1] == ("held: gate", 80.0, None)


@pytest.mark.parametrize("status", ["published", "held"])
def test_the_engines_decisions_add_up(kernel: Kernel, status: str) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at(), unit_cost_minor=900)
    text = "[guards]\nstep_ratio_max = 0.05\ntick_minor = 5\n"
    if status == "held":
        text += "[approval]\nmove_ratio_min = 0.01\n"
    shop.send("policy_published", at(hours=1), **policy(text))
    decision = shop.send("cost_changed", at(hours=25), unit_cost_minor=500).decision
    record = decision.record
    assert record is not None
    best = record.steps[1].objective_per_day_minor
    inside = record.objective_per_day_minor
    if status == "held":
        inside = record.present_objective_per_day_minor
    assert decision.status == status
    assert best is not None
    assert inside is not None
    assert left_on_table(decision) == pytest.approx(best - inside, rel=1e-9)
    assert best - inside > 1.0


def test_the_ledger_ranks_rules_within_a_currency(priced: PriceDecided) -> None:
    decisions = [
        made(priced, "A"),
        made(priced, "B", record={"gave_way": ("list_price_ceiling",)}),
        made(priced, "C", currency="USD"),
        msgspec.structs.replace(priced, sku="D", record=None),
    ]
    rows = ledger(decisions, "rule")
    assert [(row.currency, row.name, row.products, row.cost_per_day_minor, row.gave_way)
            for row in rows] == [
        ("EUR", "step", 2, 32.0, 0),
        ("EUR", "blend with the expert price", 2, 4.0, 0),
        ("EUR", "rounded", 2, 4.0, 0),
        ("EUR", "list price ceiling", 0, 0, 1),
        ("USD", "step", 1, 16.0, 0),
        ("USD", "blend with the expert price", 1, 2.0, 0),
        ("USD", "rounded", 1, 2.0, 0),
    ]  # fmt: skip
    assert priced.record is not None
    assert rows[0].room_per_day_minor == pytest.approx(14.0 / priced.record.stock.horizon_days)
    by_sku = ledger(decisions[:2], "sku")
    assert [(row.name, row.cost_per_day_minor) for row in by_sku] == [("A", 20.0), ("B", 20.0)]
    assert list(by_sku[0].rules) == ["step", "blend with the expert price", "rounded"]
    assert [row.name for row in ledger(decisions[:2], "category")] == ["lamps"]


HOLDS = [
    # reasons, what holds; a reason that does not hold, such as the no-change band, is passed over
    (("breaker: manual trip", "gate: below cost"), "breaker"),
    (("family breaker: 3 of 4 products are open",), "breaker"),
    (("catalogue breaker: 60 % moved", "kill switch: kim: drill"), "breaker"),
    (("kill switch: kim: drill",), "kill switch"),
    (("gate: product is retired",), "gate"),
    (("guard broken: step", "gate: beyond the step limit"), "guard"),
    (("approval: rejected before, and nothing has changed since",), "rejected"),
    (("approval: it is the product's first price",), "approval"),
    (("within the no-change band",), "other"),
]


@pytest.mark.parametrize(("reasons", "kind"), HOLDS)
def test_what_holds_a_decision(priced: PriceDecided, reasons, kind) -> None:
    assert kind_of_hold(made(priced, status="held", reasons=reasons)) == kind


def test_a_price_that_went_back_is_the_breakers(priced: PriceDecided) -> None:
    steps = (
        Step("with stock and risk", 1450.0, 100.0),
        Step("present price stays", 1000.0, 60.0),
    )
    back = made(
        priced, status="reverted", reasons=("breaker: manual trip",),
        record={"steps": steps, "clamps": ()},
    )  # fmt: skip
    assert charges(back) == (("reverted", 40.0, None),)
    (case,) = exceptions([back], {}, {})
    assert (case.kind, case.at_stake_per_day_minor) == ("breaker", 40.0)


def test_exceptions_come_by_money_at_stake_and_the_unknown_first(priced: PriceDecided) -> None:
    drifted = {"breaker": msgspec.structs.replace(
        priced.record.breaker, reasons=("demand drifted: level",))}  # fmt: skip
    calm = {"clamps": (), "steps": (Step("frictionless optimum", 1500.0),
                                    Step("with stock and risk", 1450.0, 80.0))}  # fmt: skip
    decisions = [
        made(priced, "LIMITED"),
        made(priced, "WAITS", status="held", reasons=("approval: it moves by +9.0%",),
             record={"present_objective_per_day_minor": 50.0}),
        made(priced, "TRIPPED", status="held", reasons=("breaker: manual trip",),
             record={"present_objective_per_day_minor": 10.0}),
        made(priced, "DRIFTED", record=drifted),
        made(priced, "TOLD", record=calm),
        made(priced, "YIELDED", record=calm | {"gave_way": ("step",)}),
        made(priced, "CALM", record=calm),
    ]  # fmt: skip
    found = exceptions(decisions, {"BLOCKED": "no unit cost"}, {"TOLD": "its level fell"})
    assert [(one.sku, one.kind, one.at_stake_per_day_minor) for one in found] == [
        ("BLOCKED", "blocked", None),
        ("TRIPPED", "breaker", 70.0),
        ("WAITS", "approval", 30.0),
        ("DRIFTED", "drift", 20.0),
        ("LIMITED", "limited", 20.0),
        ("TOLD", "drift", 0.0),
        ("YIELDED", "gave way", 0.0),
    ]
    assert [one.price_id for one in found if one.price_id] == [priced.price_id]
    assert found[1].reasons == ("manual trip",)
