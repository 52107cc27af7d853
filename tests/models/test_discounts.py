"""Discounts by segment: one list price for all, and never below a floor."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Group

from models.demand import channels
from models.fold.context import Output
from models.fold.engine import PartitionEngine
from models.guards import discount_gate
from models.kernel.tile import Kernel
from schemas.codec import canonical
from schemas.effects import ChannelEffects
from schemas.learned import ReturnLevel
from schemas.outputs import DiscountOffered, PriceDecided, SegmentView
from streams.explain.explain import Explanation, explanation_text
from streams.worker.outbox import GateBreach
from streams.worker.pricer import publisher_gate
from tests.models.tapes import DAY_MS, Partition, Seen, at, policy
from tests.models.test_decisions import believe, orders
from tests.models.test_engine import assert_golden

DISCLOSURE = "This price was personalised by automated means."
PLAIN = "[breaker]\nestablished_orders = 5\n"
POLICY = f"""{PLAIN}
[discounts]
segments = ["student", "regular"]
market = "DE"
disclosure = "{DISCLOSURE}"
depth_ratio_max = 0.08
"""


def pool(student: float = -1.5, lines: float = 3000.0) -> ChannelEffects:
    """A pool that has learned two segments: students' elasticity is so much beside the others'."""
    xs = [(number - channels.BINS_EACH_SIDE) * channels.BIN_LOG for number in range(channels.BINS)]
    weights = [math.exp(-0.5 * (x / 0.15) ** 2) for x in xs]
    counts = {"regular": [8000.0 * weight / sum(weights) for weight in weights]}
    reacting = [weight * math.exp(student * x) for weight, x in zip(weights, xs, strict=True)]
    counts["student"] = [lines * weight / sum(reacting) for weight in reacting]
    effects = ChannelEffects(counts=counts)
    for _ in range(8):
        channels.new_day(effects, {})
    return effects


def priced(
    kernel: Kernel,
    text: str = POLICY,
    segments: ChannelEffects | None = None,
    listing: dict[str, Any] | None = None,
) -> tuple[Partition, Seen]:
    """A product that is known well, and its first decision under a policy."""
    shop = Partition(kernel)
    believe(shop, -2.6, 0.05)
    shop.send("product_listed", at(), **(listing or {}))
    orders(shop, 0.1, 30, 0.1)
    shop.tick(at(days=1))
    shop.engine.state.segments = pool() if segments is None else segments
    shop.send("policy_published", at(days=1, hours=1), **policy(text))
    return shop, shop.tick(at(days=2))


def test_a_segment_that_reacts_more_is_offered_a_discount(kernel: Kernel) -> None:
    shop, found = priced(kernel)
    decision, (offer,) = found.decision, found.discounts
    assert decision.status == "published"
    assert offer.evidence is not None
    evidence = offer.evidence
    target = decision.price_minor * evidence.best_price_minor / evidence.best_price_of_all_minor
    lowest = decision.price_minor * 0.92
    assert offer == DiscountOffered(
        discount_id=f"{decision.price_id}-student",
        sku="A",
        segment="student",
        status="offered",
        amount_minor=decision.price_minor - math.ceil(max(target, lowest)),
        currency="EUR",
        list_price_minor=decision.price_minor,
        discounted_minor=math.ceil(max(target, lowest)),
        market="DE",
        disclosure=DISCLOSURE,
        valid_from=decision.decided_at,
        valid_until="2026-01-14T00:00:00.000Z",
        reasons=offer.reasons,
        evidence=evidence,
        tape=decision.tape,
        engine=decision.engine,
        policy_sha256=decision.policy_sha256,
    )
    assert offer.reasons[0].startswith("best price -")
    beside = shop.engine.state.segments.effects["student"]
    assert evidence.elasticity == decision.record.demand.elasticity + beside.used
    assert beside.used == pytest.approx(-1.5 * 8000 / 11000, abs=0.15)
    assert (evidence.orders, evidence.floor_minor, evidence.unit_cost_minor) == (
        math.floor(sum(shop.engine.state.segments.counts["student"])),
        pytest.approx(500 / 0.95),
        500,
    )
    assert "A" in shop.engine.state.offers


def test_an_offer_is_written_as_in_its_golden_files(kernel: Kernel) -> None:
    shop, found = priced(kernel)
    offer = msgspec.json.decode(canonical(offer_of(found))) | {"engine": "0123456789ab"}
    assert_golden("outputs", "discount_offered", offer)
    assert_golden("state", "offers", msgspec.json.decode(shop.stored[b"offers/A"]))


def test_no_list_price_depends_on_a_segment(kernel: Kernel) -> None:
    """The same tape under a policy without segments, and with other segments: the same prices."""
    plain = priced(kernel, PLAIN)[1]
    for segments in (pool(), pool(-4.0), pool(3.0)):
        found = priced(kernel, segments=segments)[1]
        assert decisions(found) == decisions(plain)
    assert plain.discounts == []


def decisions(found: Seen) -> list[PriceDecided]:
    return [msgspec.structs.replace(one, policy_sha256="") for one in found.decisions]


@pytest.mark.parametrize(
    ("why", "text", "segments"),
    [
        ("no segment reacts more", POLICY, pool(0.0)),
        ("too few orders to be no person", POLICY, pool(-4.0, lines=199.0)),
        ("the policy names another", POLICY.replace("student", "senior"), pool()),
        ("less than the least depth", POLICY.replace("0.08", "0.08\ndepth_ratio_min = 0.07"),
         pool(-0.5)),
        ("the margin floor is the list price", POLICY + "[guards]\nmargin_floor_ratio = 0.49\n",
         pool()),
    ],
)  # fmt: skip
def test_where_there_is_none(kernel: Kernel, why: str, text: str, segments: Any) -> None:
    assert priced(kernel, text, segments)[1].discounts == [], why


def test_a_segment_that_returns_less_is_offered_one(kernel: Kernel) -> None:
    """Both react alike to the price; what comes back costs its handling, so it wants more."""
    shop, _ = priced(kernel, PLAIN, pool(0.0))
    state = shop.engine.state
    for number in range(800):
        segment = ("regular", "student")[number % 2]
        row = {"segment": segment, "category": "lamps", "ln_price": 0.0}
        state.returns.learn_one(row, segment == "student" and number % 4 == 1)
    state.return_snapshot = state.returns.snapshot()
    day = at(days=2) // DAY_MS
    shop.state.returns = ReturnLevel(
        expected_returns=9.0, returned_units=9.0, day=day,
        segments={"regular": 20.0, "student": 20.0},
    )  # fmt: skip
    shop.send("policy_published", at(days=2, hours=1), **policy(POLICY))
    (offer,) = shop.tick(at(days=3)).discounts
    assert offer.segment == "regular"
    assert offer.evidence is not None
    assert offer.evidence.elasticity_beside_average == pytest.approx(0.0, abs=1e-3)
    assert offer.evidence.return_rate < 0.05 < 0.2 < offer.evidence.return_rate_of_all


def test_it_is_renewed_before_it_ends_and_else_told_once(kernel: Kernel) -> None:
    shop, found = priced(kernel)
    told = [(day, one) for day in range(3, 16) for one in shop.tick(at(days=day)).discounts]
    assert [(day, one.status) for day, one in told if one.amount_minor] != []
    last_until = found.discounts[0].valid_until
    for _, one in told:
        assert one.valid_from <= last_until  # no gap
        last_until = one.valid_until
    assert last_until > "2026-01-20"
    assert len(told) <= 4


def test_it_follows_the_list_price(kernel: Kernel) -> None:
    shop, _ = priced(kernel)
    seen = shop.send("cost_changed", at(days=2, hours=2), unit_cost_minor=600)
    (offer,) = seen.discounts
    assert seen.decision.status == "published"
    assert offer.list_price_minor == seen.decision.price_minor
    assert offer.discounted_minor >= 600 / 0.95


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("cost_changed", {"unit_cost_minor": None}, "no unit cost is known, so there is no floor"),
        ("product_retired", {}, "the product is retired"),
        ("operator_command", {"command": "kill_switch_on"}, "kill switch"),
        ("operator_command", {"command": "breaker_trip"}, "breaker: manual trip"),
    ],
)
def test_it_is_withdrawn_at_once(kernel: Kernel, kind: str, fields: Any, reason: str) -> None:
    shop, _ = priced(kernel)
    (gone,) = shop.send(kind, at(days=2, hours=2), **fields).discounts
    assert (gone.status, gone.amount_minor, gone.discounted_minor, gone.reasons) == (
        "withdrawn", 0, None, (reason,),
    )  # fmt: skip
    assert shop.engine.state.offers == {}
    assert shop.stored.get(b"offers/A") is None


def test_a_policy_without_it_withdraws_it(kernel: Kernel) -> None:
    shop, _ = priced(kernel)
    shop.send("policy_published", at(days=2, hours=1), **policy(PLAIN))
    (gone,) = shop.tick(at(days=3)).discounts
    assert (gone.status, gone.reasons) == ("withdrawn", ("it no longer pays",))


def test_its_state_has_the_same_future(kernel: Kernel) -> None:
    shop, _ = priced(kernel)
    shop.engine.state.touch("segments")
    shop.tick(at(days=3))
    twin = PartitionEngine.restore(0, shop.stored.items(), kernel)
    assert twin.state.sha256() == shop.engine.state.sha256()
    records = [shop.tape.add("clock_ticked", at(days=day)) for day in range(4, 14)]
    assert twin.apply(records).outputs == shop.engine.apply(records).outputs
    assert twin.state.sha256() == shop.engine.state.sha256()


def test_orders_teach_their_segment(kernel: Kernel) -> None:
    """Through the fold: two segments that share by price, counted as of the day tick."""
    shop = Partition(kernel)
    believe(shop, -2.6, 0.05)
    shop.send("product_listed", at())
    shop.tick(at())
    for number in range(6):
        shop.send(
            "order_placed", at(hours=1), order_id=f"o{number}", segment=("a", "b")[number % 2]
        )
    assert shop.engine.state.segments.counts == {}
    shop.tick(at(days=1))
    counts = shop.engine.state.segments.counts
    assert {name: sum(bins) for name, bins in counts.items()} == {"a": 3.0, "b": 3.0}


# -- the gate, and the law


def offer_of(found: Seen) -> DiscountOffered:
    (offer,) = found.discounts
    return offer


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segment": "senior"}, "gate: the policy names no such segment"),
        ({"disclosure": "none"}, "gate: market or disclosure is not the policy's"),
        ({"currency": "USD"}, "gate: currency USD is not the catalogue's EUR"),
        ({"amount_minor": 1}, "gate: list price less amount is not the discounted price"),
        ({"list_price_minor": 2000, "discounted_minor": 1990, "amount_minor": 10},
         "gate: the list price is not the one published"),
    ],
)  # fmt: skip
def test_the_gate_refuses(kernel: Kernel, change: dict[str, Any], reason: str) -> None:
    shop, found = priced(kernel)
    state = shop.engine.state
    entry, gate = state.catalogue["A"], state.gates["A"]
    limits = state.policy_of(entry).discounts
    good = offer_of(found)
    assert discount_gate.check(good, gate, state.guards_of(entry), limits) == ()
    bad = msgspec.structs.replace(good, **change)
    assert discount_gate.check(bad, gate, state.guards_of(entry), limits) == (reason,)


def test_the_gate_knows_its_own_floors(kernel: Kernel) -> None:
    shop, found = priced(kernel)
    state = shop.engine.state
    entry, gate = state.catalogue["A"], state.gates["A"]
    limits = state.policy_of(entry).discounts
    gate.unit_cost_minor = 990
    assert discount_gate.check(offer_of(found), gate, state.guards_of(entry), limits) == (
        "gate: below cost", "gate: below the margin floor",
    )  # fmt: skip
    gate.retired = True
    assert discount_gate.check(offer_of(found), gate, state.guards_of(entry), limits) == (
        "gate: no price is in force, or no floor is known",
    )


def test_the_outbox_looks_at_the_offer_itself(kernel: Kernel) -> None:
    good = offer_of(priced(kernel)[1])
    assert discount_gate.is_sound(good) == ()
    below = msgspec.structs.replace(good.evidence, unit_cost_minor=990)
    assert discount_gate.is_sound(msgspec.structs.replace(good, evidence=below)) == (
        "gate: below cost",
    )
    assert isinstance(good.evidence, SegmentView)
    with pytest.raises(GateBreach, match="below cost"):
        publisher_gate(sent(msgspec.structs.replace(good, evidence=below)))
    publisher_gate(sent(good))
    gone = msgspec.structs.replace(good, status="withdrawn")
    assert discount_gate.is_sound(gone) == ("gate: a withdrawn discount has an amount",)


def sent(offer: DiscountOffered) -> Output:
    return Output("discounts", offer.sku.encode(), canonical(offer))


def test_it_is_explained_in_one_line(kernel: Kernel) -> None:
    offer = offer_of(priced(kernel)[1])
    evidence = msgspec.structs.replace(
        offer.evidence, elasticity=-3.7, elasticity_beside_average=-1.1, return_rate=0.12
    )
    told = explanation_text(
        Explanation(
            sku="A",
            decision=None,
            blocked=None,
            breaker=None,
            discounts=(
                msgspec.structs.replace(
                    offer, amount_minor=57, list_price_minor=822, evidence=evidence
                ),
                msgspec.structs.replace(offer, segment="gone", status="withdrawn"),
            ),
        )
    )
    assert isinstance(told, Group)
    assert told.renderables == [
        "\nDiscounts beside the list price: student 0.57 EUR off 8.22 EUR until 2026-01-14 00:00 "
        "(elasticity -3.70, -1.10 beside all; returns 12%)"
    ]


@settings(max_examples=30, deadline=None)
@given(
    cost=st.integers(100, 1400),
    vat=st.sampled_from([0.0, 0.19]),
    margin=st.floats(0.0, 0.6),
    minimum=st.integers(1, 1200),
    depth=st.floats(0.03, 0.9),
    slope=st.floats(-6.0, 2.0),
    tick=st.sampled_from([1, 5, 10]),
)
def test_no_discount_is_below_a_floor(
    kernel: Kernel,
    cost: int,
    vat: float,
    margin: float,
    minimum: int,
    depth: float,
    slope: float,
    tick: int,
) -> None:
    """The oracle has its own arithmetic: whole cents against cost, margin, minimum and depth."""
    text = (
        POLICY.replace("0.08", repr(max(depth, 0.03)))
        + f'[guards]\nmargin_floor_ratio = {margin!r}\nminimum_resale_price_markets = ["DE"]\n'
        + f"tick_minor = {tick}\n[markets.DE]\n"
    )
    listing = {
        "unit_cost_minor": cost,
        "vat_rate": vat,
        "minimum_resale_price_minor": {"DE": minimum},
    }
    _, found = priced(kernel, text, pool(slope), listing)
    for offer in found.discounts:
        assert offer.list_price_minor == found.decision.price_minor
        paid = offer.discounted_minor
        net = paid / (1.0 + vat)
        assert paid % tick == 0
        assert (net - cost) / net >= margin - 1e-9
        assert net >= cost - 1e-9
        assert paid >= minimum
        assert offer.amount_minor <= depth * offer.list_price_minor + 1e-6
