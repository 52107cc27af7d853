"""Breakers of the family and of the catalogue: what opens them, what they hold, how they close."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.breaker import moves
from models.breaker.loop_gain import response
from models.breaker.moves import Moved
from models.kernel.tile import Kernel
from schemas.policy import BreakerPolicy
from schemas.state import BreakerState
from tests.models.tapes import Partition, Record, Seen, at, policy
from tests.models.test_engine import Cut, Run, fold

SKUS = [f"P{number:02}" for number in range(12)]
LIMITS = """[breaker]
same_price_count_max = 4
catalogue_moved_count_min = 6
family_open_count_min = 2
"""


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    """Twelve unrelated products at twelve costs, with small limits, and a clock."""
    return started(Partition(kernel))


def started(shop: Partition) -> Partition:
    shop.tick(at())
    shop.send("policy_published", at(), **policy(LIMITS))
    for number, sku in enumerate(SKUS):
        listing = {"unit_cost_minor": 500 + 10 * number, "list_price_minor": 1400 + 20 * number}
        shop.send("product_listed", at(minutes=1), sku=sku, **listing)
    shop.tick(at(minutes=2))
    return shop


def told(seen: Seen) -> list[tuple[str | None, str]]:
    """Scope and message of alerts about breakers above products."""
    return [
        (alert.evidence["scope"], alert.message)
        for alert in seen.alerts
        if alert.kind == "breaker_changed" and alert.sku is None
    ]


def statuses(seen: Seen) -> dict[str, str]:
    return {decision.sku: decision.status for decision in seen.decisions}


def cost(shop: Partition, sku: str, minor: int, minutes: float) -> Record:
    return shop.tape.add("cost_changed", at(minutes=minutes), sku=sku, unit_cost_minor=minor)


# -- the catalogue


def test_one_cost_stamped_on_the_site_goes_out_for_no_more_than_the_limit(shop: Partition) -> None:
    stamped = shop.apply(*[cost(shop, sku, 950, 3) for sku in SKUS])
    assert statuses(stamped) == dict.fromkeys(SKUS[:4], "published") | dict.fromkeys(
        SKUS[4:], "held"
    )
    why = "5 unrelated products got one unit_cost_minor, 950, in a day, beyond 4"
    assert told(stamped) == [("catalogue", f"catalogue: CLOSED -> OPEN: {why}")]
    assert stamped.decisions[4].reasons == (f"catalogue breaker: {why}",)
    assert len(stamped.latest) == 4


def test_a_supplier_who_raises_one_cost_to_another_stamps_nothing(shop: Partition) -> None:
    names = [f"Q{sku}" for sku in SKUS]
    for sku in names:
        shop.send("product_listed", at(minutes=3), sku=sku, unit_cost_minor=500)
    raised = shop.apply(*[cost(shop, sku, 550, 4) for sku in names])
    assert (told(raised), shop.engine.state.catalogue_breaker) == ([], BreakerState())


def test_a_list_price_or_minimum_price_is_a_stamp_too(shop: Partition) -> None:
    for sku in SKUS[:5]:
        entry = shop.engine.state.catalogue[sku]
        seen = shop.send(
            "product_listed", at(minutes=3), sku=sku, list_price_minor=1999,
            unit_cost_minor=entry.unit_cost_minor,
        )  # fmt: skip
    why = "5 unrelated products got one list_price_minor, 1999, in a day, beyond 4"
    assert told(seen) == [("catalogue", f"catalogue: CLOSED -> OPEN: {why}")]


def test_a_value_set_for_the_first_time_and_one_family_are_no_stamp(shop: Partition) -> None:
    for number in range(8):
        shop.send("product_listed", at(minutes=3), sku=f"new-{number}", unit_cost_minor=700)
        shop.send(
            "product_listed", at(minutes=3), sku=f"f-{number}", family="F",
            unit_cost_minor=600 + number,
        )  # fmt: skip
    seen = shop.apply(*[cost(shop, f"f-{number}", 640, 4) for number in range(8)])
    assert (told(seen), shop.engine.state.catalogue_breaker) == ([], BreakerState())


def test_a_stamp_counts_for_its_event_day_only(shop: Partition) -> None:
    shop.apply(*[cost(shop, sku, 950, 3) for sku in SKUS[:4]])
    shop.tick(at(days=1))
    seen = shop.apply(*[cost(shop, sku, 950, 1441) for sku in SKUS[4:8]])
    assert (told(seen), shop.engine.state.catalogue_breaker) == ([], BreakerState())


def test_a_round_that_moves_to_one_price_is_held_whole(shop: Partition) -> None:
    before = {sku: shop.engine.state.skus[sku].published_minor for sku in SKUS}
    text = LIMITS + "[guards]\ntick_minor = 1300\nceiling_list_price_ratio = 2.0\n"
    shop.send("policy_published", at(hours=1), **policy(text))
    seen = shop.tick(at(hours=2))
    assert statuses(seen) == dict.fromkeys(SKUS, "held")
    ((scope, message),) = told(seen)
    assert (scope, message.endswith("minor units of EUR, beyond 4")) == ("catalogue", True)
    assert {sku: shop.engine.state.skus[sku].published_minor for sku in SKUS} == before


def round_of_large_moves(shop: Partition, hours: float) -> Seen:
    text = LIMITS + "[guards]\nmargin_floor_ratio = 0.55\n"
    shop.send("policy_published", at(hours=hours), **policy(text))
    return shop.tick(at(hours=hours, minutes=1))


def test_a_round_that_moves_too_large_a_share_is_held_whole(shop: Partition) -> None:
    seen = round_of_large_moves(shop, 1)
    assert statuses(seen) == dict.fromkeys(SKUS, "held")
    ((scope, message),) = told(seen)
    assert (scope, message) == (
        "catalogue",
        "catalogue: CLOSED -> OPEN: 12 of 12 products moved by 5% or more, beyond a share of 0.5",
    )


def test_moves_asked_for_one_by_one_are_read_at_the_tick(shop: Partition) -> None:
    raised = [
        cost(shop, sku, int(1.2 * shop.engine.state.skus[sku].published_minor), 3)
        for sku in SKUS[:8]
    ]
    assert statuses(shop.apply(*raised)) == dict.fromkeys(SKUS[:8], "published")
    assert told(shop.tick(at(minutes=4))) == [
        (
            "catalogue",
            "catalogue: CLOSED -> OPEN: 8 of 12 products moved by 5% or more, beyond a share of "
            "0.5",
        )
    ]
    held = shop.send("cost_changed", at(minutes=4), sku=SKUS[9], unit_cost_minor=700)
    assert statuses(held) == {SKUS[9]: "held"}


def test_the_catalogue_cools_down_tries_small_steps_and_opens_again_on_what_it_wants(
    shop: Partition,
) -> None:
    before = {sku: shop.engine.state.skus[sku].published_minor for sku in SKUS}
    round_of_large_moves(shop, 1)
    assert told(shop.tick(at(days=1, hours=23))) == []
    tried = shop.tick(at(days=2))
    assert told(tried)[0][1] == "catalogue: OPEN -> HALF_OPEN: cool-down is over"
    assert told(tried)[1][1].startswith("catalogue: HALF_OPEN -> OPEN: 12 of 12 products moved")
    assert {sku: shop.engine.state.skus[sku].published_minor for sku in SKUS} == before
    assert shop.engine.state.catalogue_breaker.openings == 2
    # the policy that was wrong is taken back
    shop.send("policy_published", at(days=2, hours=1), **policy(LIMITS))
    assert told(shop.tick(at(days=3, hours=23))) == []  # twice the cool-down
    canary = shop.tick(at(days=4))
    assert told(canary) == [("catalogue", "catalogue: OPEN -> HALF_OPEN: cool-down is over")]
    assert set(statuses(canary)) == set(SKUS)
    for decision in canary.latest:
        assert abs(decision.price_minor / before[decision.sku] - 1) <= 0.02 + 1e-9
    assert told(shop.tick(at(days=5))) == [
        ("catalogue", "catalogue: HALF_OPEN -> CLOSED: canary round passed")
    ]


def test_an_operators_reset_forgives_the_day(shop: Partition) -> None:
    test_moves_asked_for_one_by_one_are_read_at_the_tick(shop)
    reset = shop.send("operator_command", at(minutes=5), command="breaker_reset")
    assert told(reset) == [("catalogue", "catalogue: OPEN -> HALF_OPEN by kim: drill")]
    assert set(statuses(reset).values()) == {"published"}
    assert told(shop.tick(at(minutes=6))) == []


def test_a_trip_holds_a_product_listed_later_and_ends_at_its_expiry(shop: Partition) -> None:
    trip = {"command": "breaker_trip", "expires_at": "2026-01-05T06:00:00Z"}
    tripped = shop.send("operator_command", at(hours=1), **trip)
    assert told(tripped) == [("catalogue", "catalogue: CLOSED -> OPEN by kim: drill")]
    held = shop.send("product_listed", at(hours=2), sku="late")
    assert (held.decision.status, held.decision.reasons) == (
        "held", ("catalogue breaker: manual trip",),
    )  # fmt: skip
    assert told(shop.tick(at(hours=7))) == []  # in a decision round
    assert told(shop.tick(at(days=1)))[0][1] == "catalogue: OPEN -> HALF_OPEN: cool-down is over"


# -- the family


@pytest.fixture
def family(kernel: Kernel) -> Partition:
    """A family of three beside a product of its own."""
    shop = Partition(kernel)
    shop.tick(at())
    shop.send("policy_published", at(), **policy(LIMITS))
    for sku, name in (("A", None), ("F1", "F"), ("F2", "F"), ("F3", "F")):
        shop.send("product_listed", at(minutes=1), sku=sku, family=name)
    shop.tick(at(minutes=2))
    return shop


def trip(shop: Partition, minutes: float, **scope: str) -> Seen:
    return shop.send("operator_command", at(minutes=minutes), command="breaker_trip", scope=scope)


def test_a_family_opens_with_its_second_open_product_and_holds_the_third(family: Partition) -> None:
    assert told(trip(family, 3, kind="sku", name="F1")) == []
    assert told(trip(family, 4, kind="sku", name="F2")) == [
        ("family", "family F: CLOSED -> OPEN: 2 of 3 products are open")
    ]
    for sku, status in (("F3", "held"), ("A", "published")):
        seen = family.send("cost_changed", at(minutes=5), sku=sku, unit_cost_minor=520)
        assert statuses(seen) == {sku: status}
    assert family.stored[b"breaker/family/F"].startswith(b'["OPEN",')
    for sku in ("F1", "F2"):
        family.send(
            "operator_command", at(minutes=6), command="breaker_reset",
            scope={"kind": "sku", "name": sku},
        )  # fmt: skip
    half = family.tick(at(days=2))
    assert told(half) == [("family", "family F: OPEN -> HALF_OPEN: cool-down is over")]
    assert set(statuses(half)) >= {"F1", "F2", "F3"}
    assert told(family.tick(at(days=3))) == [
        ("family", "family F: HALF_OPEN -> CLOSED: canary round passed")
    ]
    assert b"breaker/family/F" not in family.stored


def test_a_reset_of_the_catalogue_reaches_families_and_products(family: Partition) -> None:
    trip(family, 3, kind="sku", name="A")
    trip(family, 4, kind="family", name="F")
    family.send("operator_command", at(minutes=5), command="breaker_reset")
    state = family.engine.state
    assert state.family_breakers["F"].state == "HALF_OPEN"
    assert state.skus["A"].breaker == BreakerState("CLOSED", at(minutes=5))  # its canary passed
    assert state.catalogue_breaker == BreakerState()


def test_a_canary_that_a_breaker_above_holds_has_not_passed(family: Partition) -> None:
    trip(family, 3, kind="sku", name="F1")
    trip(family, 4, kind="family", name="F")
    seen = family.send(
        "operator_command", at(minutes=5), command="breaker_reset",
        scope={"kind": "sku", "name": "F1"},
    )  # fmt: skip
    assert statuses(seen) == {"F1": "held"}
    assert family.engine.state.skus["F1"].breaker.state == "HALF_OPEN"


# -- what is done when a breaker opens


def revert_policy(when: str) -> dict[str, Any]:
    return policy(f'[breaker]\nwhen_open = "{when}"\n')


@pytest.mark.parametrize(("when", "status"), [("hold", None), ("revert", "reverted")])
def test_a_trip_after_a_move_goes_back_to_the_price_before_it(
    kernel: Kernel, when: str, status: str | None
) -> None:
    shop = Partition(kernel)
    shop.tick(at())
    shop.send("policy_published", at(), **revert_policy(when))
    first = shop.send("product_listed", at(minutes=1)).decision.price_minor
    shop.tick(at(hours=1))
    moved = shop.send("cost_changed", at(days=1), unit_cost_minor=600).decision
    assert (moved.status, moved.price_minor != first) == ("published", True)
    seen = trip(shop, 1500, kind="sku", name="A")
    assert statuses(seen) == ({} if status is None else {"A": status})
    if status is not None:
        back = seen.decision
        assert (back.price_minor, back.previous_minor) == (first, moved.price_minor)
        assert (back.reasons, back.exogenous_log) == (("breaker: manual trip",), 0.0)
        assert [one.price_id for one in seen.latest] == [back.price_id]
        assert shop.state.unproven_minor is None  # and no further back
        assert shop.engine.state.manifest.counts.reverted == 1


def test_a_price_before_that_is_below_cost_now_is_not_gone_back_to(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.tick(at())
    shop.send("policy_published", at(), **revert_policy("revert"))
    shop.send("product_listed", at(minutes=1))
    first = shop.state.published_minor
    moved = shop.send("cost_changed", at(days=1), unit_cost_minor=first).decision
    assert (moved.status, moved.price_minor > first) == ("published", True)
    seen = trip(shop, 1500, kind="sku", name="A")
    assert (seen.decision.status, seen.decision.price_minor) == ("held", moved.price_minor)


def test_a_move_that_a_clean_decision_followed_is_kept(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.tick(at())
    shop.send("policy_published", at(), **revert_policy("revert"))
    shop.send("product_listed", at(minutes=1))
    _, moved, kept = (
        shop.send("cost_changed", at(days=1, hours=hour), unit_cost_minor=600).decision
        for hour in range(3)
    )
    assert (moved.price_minor != moved.previous_minor, moved.status) == (True, "published")
    assert (kept.status, kept.price_minor) == ("published", moved.price_minor)
    assert statuses(trip(shop, 1600, kind="sku", name="A")) == {}


# -- counting


LIMITED = BreakerPolicy(
    catalogue_moved_share_max=0.5, catalogue_moved_count_min=4, same_price_count_max=2
)


def moved(family: str, before: int, after: int) -> Moved:
    return Moved(family, "EUR", before, after)


COUNTS = [
    # why, moves, products, reasons
    ("nothing moved", [], 10, ()),
    ("many, but no larger share", [moved(f"{i}", 100 + i, 200 + i) for i in range(5)], 10, ()),
    ("a larger share, but few", [moved(f"{i}", 100 + i, 200 + i) for i in range(3)], 4, ()),
    ("many and a larger share", [moved(f"{i}", 100 + i, 200 + i) for i in range(6)], 10,
     ("6 of 10 products moved by 5% or more, beyond a share of 0.5",)),
    ("three come to one price", [moved(f"{i}", 100 + i, 200) for i in range(3)], 100,
     ("3 unrelated products moved to one price, 200 minor units of EUR, beyond 2",)),
    ("... of one family", [moved("f", 100 + i, 200) for i in range(3)], 100, ()),
    ("... from one price", [moved(f"{i}", 100, 200) for i in range(3)], 100, ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "products", "reasons"), [case[1:] for case in COUNTS], ids=[c[0] for c in COUNTS]
)
def test_too_many_moves(found: list[Moved], products: int, reasons: tuple[str, ...]) -> None:
    assert moves.beyond(found, products, LIMITED) == reasons


def test_our_answer_to_a_rival_is_the_slope_of_the_best_price() -> None:
    """Against finite differences of the price that solves 1 + e m = 0."""
    import math

    def best(rival: float) -> float:
        low, high = 10.0, 100.0
        for _ in range(200):
            price = 0.5 * (low + high)
            bend = 1.0 / (1.0 + math.exp(-(math.log(price / rival) - 0.03) / 0.03))
            slope = 1.0 + (-2.5 - 2.0 * bend) * (1.0 - 10.0 / price)
            low, high = (price, high) if slope > 0 else (low, price)
        return low

    rival, h = 14.0, 1e-5
    slope = (math.log(best(rival * (1 + h))) - math.log(best(rival * (1 - h)))) / (2 * h)
    price = best(rival)
    found = response(math.log(price / rival), -2.5, 2.0, 0.03, 1.0 - 10.0 / price)
    assert found == pytest.approx(slope, rel=1e-3)


# -- bytes


def turbulent(kernel: Kernel) -> list[Record]:
    """A tape on which every scope opens, half opens and closes while decisions wait."""
    shop = started(Partition(kernel))
    for sku in ("F1", "F2", "F3"):
        shop.send("product_listed", at(minutes=3), sku=sku, family="F")
    for minute in range(4, 10):
        shop.apply(*[cost(shop, sku, 500 + 37 * (minute + n), minute) for n, sku in
                     enumerate(SKUS)])  # fmt: skip
        shop.tick(at(minutes=minute))
    shop.send("operator_command", at(hours=1), command="breaker_reset")
    trip(shop, 70, kind="sku", name="F1")
    trip(shop, 71, kind="sku", name="F2")
    for day in range(1, 9):
        shop.tick(at(days=day))
        stamp = 900 + day if day in (3, 6) else None
        shop.apply(*[cost(shop, sku, stamp or 600 + n + 2 * day, 1440 * day + 5)
                     for n, sku in enumerate(SKUS)])  # fmt: skip
        shop.send("cost_changed", at(days=day, minutes=5), sku="F3", unit_cost_minor=500 + day)
        shop.tick(at(days=day, minutes=6))
    return shop.tape.records


@pytest.fixture(scope="module")
def storm(kernel: Kernel) -> list[Record]:
    return turbulent(kernel)


@pytest.fixture(scope="module")
def whole(kernel: Kernel, storm: list[Record]) -> Run:
    return fold(kernel, storm, [])


def test_the_storm_moves_every_breaker(storm: list[Record], whole: Run) -> None:
    text = b"".join(output.value for output in whole.outputs if output.topic == "alerts").decode()
    for message in (
        "catalogue: CLOSED -> OPEN: ", "unrelated products got one unit_cost_minor",
        "moved by 5% or more", "catalogue: OPEN -> HALF_OPEN", "catalogue: HALF_OPEN -> CLOSED",
        "family F: CLOSED -> OPEN: 2 of 3", "family F: OPEN -> HALF_OPEN",
    ):  # fmt: skip
        assert message in text


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_bytes_do_not_depend_on_the_batch(kernel: Kernel, storm, whole, size: int) -> None:
    restored = size == 7
    assert fold(kernel, storm, [Cut(size, restored)] * (len(storm) // size)) == whole


@settings(max_examples=10)
@given(cuts=st.lists(st.builds(Cut, st.integers(1, 60), st.booleans()), max_size=9))
def test_bytes_do_not_depend_on_the_cut(kernel: Kernel, storm, whole, cuts) -> None:
    assert fold(kernel, storm, cuts) == whole


def test_what_the_monitor_found_opens_the_catalogue(shop: Partition) -> None:
    found = {"scope": {"kind": "catalogue"}, "reason": "too many", "evidence": {"moved": 90}}
    tripped = shop.send("breaker_tripped", at(minutes=3), **found)
    assert told(tripped) == [("catalogue", "catalogue: CLOSED -> OPEN: monitor: too many")]
    assert tripped.alerts[0].evidence["moved"] == 90
    held = shop.send("cost_changed", at(minutes=4), sku=SKUS[0], unit_cost_minor=520)
    assert held.decision.reasons[0] == "catalogue breaker: monitor: too many"
    assert told(shop.send("breaker_tripped", at(minutes=5), **found)) == []
    (letter,) = shop.send(
        "breaker_tripped", at(minutes=6), reason="x", scope={"kind": "sku", "name": SKUS[0]}
    ).letters
    assert letter.headers["dl_error"] == "invalid_scope"
    assert told(shop.tick(at(days=2)))[0][1] == "catalogue: OPEN -> HALF_OPEN: cool-down is over"
