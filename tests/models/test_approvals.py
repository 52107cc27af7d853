"""Approval: a price beyond a threshold waits, and a person's answer is judged when it arrives."""

import msgspec
import pytest

from models.kernel.tile import Kernel
from schemas.events import rfc3339
from tests.models.tapes import NOTHING, Partition, Seen, at, event, policy

WAITS_ON_5_PERCENT = "[approval]\nmove_ratio_min = 0.05\nexpires_hours = 24\n"


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    """A product on sale at 10.00 under a policy that lets moves of 5 % wait."""
    shop = Partition(kernel)
    shop.send("product_listed", at(), unit_cost_minor=900, list_price_minor=1000)
    shop.send("policy_published", at(hours=1), **policy(WAITS_ON_5_PERCENT))
    assert shop.state.published_minor == 1000
    return shop


def propose(shop: Partition, hours: float = 25.0) -> Seen:
    """A cost so far down that the price wants to fall by the whole step."""
    return shop.send("cost_changed", at(hours=hours), unit_cost_minor=500)


def say(shop: Partition, command: str, price_id: str, hours: float = 26.0) -> Seen:
    return shop.send(
        "operator_command", at(hours=hours), command=command, price_id=price_id, actor="kim",
        reason="looks right", scope={"kind": "sku", "name": "A"},
    )  # fmt: skip


def test_a_move_beyond_the_threshold_waits(shop: Partition) -> None:
    found = propose(shop)
    decision = found.decision
    assert (decision.status, decision.price_minor, decision.wanted_minor) == ("held", 1000, 900)
    assert decision.reasons == ("approval: it moves by -10.0%, by 5.0% or more",)
    assert found.latest == []
    assert [(one.kind, one.evidence["price_id"]) for one in found.alerts] == [
        ("approval", decision.price_id)
    ]
    assert shop.state.pending.wanted_minor == 900


def test_an_approved_price_goes_out_as_a_decision_of_its_own(shop: Partition) -> None:
    proposal = propose(shop).decision
    found = say(shop, "approve", proposal.price_id)
    (decision,) = found.latest
    assert (decision.status, decision.price_minor) == ("published", 900)
    assert decision.version == proposal.version + 1
    assert decision.reasons[:2] == ("trigger: approval", "approved by kim")
    assert decision.record is not None
    assert decision.record.steps[-1].name == "approved price"
    assert decision.record.steps[-1].price_minor == 900
    assert msgspec.to_builtins(decision.record.approval) == {
        "price_id": proposal.price_id, "actor": "kim", "reason": "looks right",
    }  # fmt: skip
    assert shop.state.published_minor == 900
    assert shop.state.pending is None


def test_an_approval_is_checked_again_where_it_stands(shop: Partition) -> None:
    proposal = propose(shop).decision
    # No decision comes between: the policy's own waits for the next tick.
    shop.send("policy_published", at(hours=25.5), **policy("[guards]\nstep_ratio_max = 0.02\n"))
    found = say(shop, "approve", proposal.price_id)
    assert found.latest == []
    assert found.decision.status == "held"
    assert found.decision.reasons == ("guard broken: step", "gate: beyond the step limit")
    assert shop.state.published_minor == 1000


def test_the_kill_switch_holds_an_approved_price(shop: Partition) -> None:
    proposal = propose(shop).decision
    shop.send("operator_command", at(hours=25.5), command="kill_switch_on")
    decision = say(shop, "approve", proposal.price_id).decision
    assert (decision.status, decision.reasons) == ("held", ("kill switch: kim: drill",))


def test_an_expired_proposal_is_refused(shop: Partition) -> None:
    proposal = propose(shop).decision
    found = say(shop, "approve", proposal.price_id, hours=49.0)
    assert found.decisions == []
    (letter,) = found.letters
    assert letter.headers["dl_error"] == "approval_expired"


def test_a_newer_decision_takes_the_place_of_what_waits(shop: Partition) -> None:
    first = propose(shop).decision
    second = shop.send("cost_changed", at(hours=25.5), unit_cost_minor=510).decision
    (letter,) = say(shop, "approve", first.price_id).letters
    assert letter.headers["dl_error"] == "superseded"
    assert letter.headers["dl_expected"] == f"{second.price_id}, which waits now"
    assert say(shop, "approve", second.price_id, hours=26.5).decision.status == "published"
    (letter,) = say(shop, "approve", second.price_id, hours=26.6).letters
    assert letter.headers["dl_error"] == "nothing_waits"


def test_a_rejected_price_is_not_proposed_again_until_something_changed(shop: Partition) -> None:
    proposal = propose(shop).decision
    (alert,) = say(shop, "reject", proposal.price_id).alerts
    assert (alert.kind, alert.message) == ("approval", "rejected by kim: looks right")
    # The next decision wants the same price: held, not proposed, and nobody is told again.
    again = shop.tick(at(hours=72))
    assert again.decision.reasons == (
        "approval: rejected before, and nothing has changed since",
    )  # fmt: skip
    assert (shop.state.pending, again.alerts) == (None, [])
    # A rival that was not there before is news.
    found = shop.send("competitor_price_observed", at(hours=73), price_minor=700)
    assert found.decision.reasons == ("approval: it moves by -10.0%, by 5.0% or more",)


def test_a_first_price_and_a_thin_margin_wait_where_the_policy_says_so(kernel: Kernel) -> None:
    shop = Partition(kernel)
    text = "[approval]\nfirst_price = true\nmargin_ratio_min = 0.9\n"
    shop.send("policy_published", at(), **policy(text))
    decision = shop.send("product_listed", at(hours=1)).decision
    assert (decision.status, decision.price_minor) == ("held", None)
    assert decision.reasons[1:] == ("approval: it is the product's first price",)
    assert decision.reasons[0].startswith("approval: its margin is ")
    assert say(shop, "approve", decision.price_id, hours=2.0).latest[0].status == "published"


def test_profit_at_stake_waits(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at())
    text = "[approval]\nprofit_at_stake_ratio_min = 0.01\n"
    shop.send("policy_published", at(hours=1), **policy(text))
    decision = shop.send("cost_changed", at(hours=25), unit_cost_minor=700).decision
    assert decision.record is not None
    present = decision.record.present_objective_per_day_minor
    assert present is not None
    stake = (decision.record.objective_per_day_minor - present) / abs(present)
    assert stake > 0.01
    assert decision.reasons == (
        f"approval: {stake:.1%} of its profit is at stake, 1.0% or more",
    )  # fmt: skip


def test_only_this_partitions_products_are_answered_here(shop: Partition) -> None:
    found = shop.send(
        "operator_command", at(hours=26), command="approve", price_id="7-3-B",
        scope={"kind": "sku", "name": "B"},
    )  # fmt: skip
    assert found == NOTHING


@pytest.mark.parametrize(
    "fields",
    [{"scope": {"kind": "catalogue"}, "price_id": "0-1-A"},
     {"scope": {"kind": "sku", "name": "A"}}],
)  # fmt: skip
def test_an_answer_names_a_product_and_its_decision(fields) -> None:
    from schemas.events import OperatorCommand

    document = event("operator_command", at(), "c-1", command="approve", **fields)
    with pytest.raises(msgspec.ValidationError, match="a SKU and its `price_id`"):
        msgspec.convert(document, OperatorCommand)


def test_what_waits_survives_a_restart_with_the_same_future(
    kernel: Kernel, shop: Partition
) -> None:
    from models.fold.engine import PartitionEngine

    proposal = propose(shop).decision
    twin = PartitionEngine.restore(0, list(shop.stored.items()), kernel)
    record = shop.tape.add(
        "operator_command", at(hours=26), command="approve", price_id=proposal.price_id,
        scope={"kind": "sku", "name": "A"}, expires_at=rfc3339(at(hours=30)),
    )  # fmt: skip
    assert twin.apply([record]).outputs == shop.engine.apply([record]).outputs
    assert twin.state.sha256() == shop.engine.state.sha256()
