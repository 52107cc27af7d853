"""A policy compared with the one in force: prices as if it were published, and no trace."""

from collections import Counter

import msgspec
import pytest

from models.kernel.tile import Kernel
from models.pricing.policy_diff import MoveCount, compare, summary
from schemas.errors import FieldError
from tests.models.tapes import Partition, at, policy

SKUS = ("A", "B", "C", "D")
NEW = "[guards]\nmargin_floor_ratio = 0.2\nstep_ratio_max = 0.05\n"


@pytest.fixture
def shop(kernel: Kernel) -> Partition:
    """Four products of different cost at prices of a first day; one more without a cost."""
    shop = Partition(kernel)
    for sku, cost in zip(SKUS, (300, 500, 700, 940), strict=True):
        shop.send("product_listed", at(), sku=sku, unit_cost_minor=cost)
    shop.send("product_listed", at(), sku="E", unit_cost_minor=None)
    shop.tick(at(days=2))
    return shop


def test_it_says_what_publishing_leads_to_and_leaves_no_trace(shop: Partition) -> None:
    before = shop.engine.state.sha256(), shop.engine.state.take_changed()
    compared = compare(shop.engine, NEW)
    assert (shop.engine.state.sha256(), shop.engine.state.take_changed()) == before
    assert [one.after.sku for one in compared] == list(SKUS)
    now = {one.after.sku: one.after for one in compared}
    shop.send("policy_published", at(days=2, hours=1), **policy(NEW))
    decided = {one.sku: one for one in shop.tick(at(days=2, hours=2)).decisions}
    for sku in SKUS:
        assert now[sku].shown_minor == decided[sku].price_minor
        assert (now[sku].held, now[sku].gave_way) == ((), decided[sku].record.gave_way)


def test_the_sum_counts_what_the_products_say(shop: Partition) -> None:
    compared = compare(shop.engine, NEW)
    diff = summary(compared)
    moves = [
        one.after.shown_minor / one.before.shown_minor - 1.0
        for one in compared
        if one.after.shown_minor != one.before.shown_minor
    ]
    assert (diff.products, diff.moved, diff.up, diff.down) == (
        4, len(moves), sum(move > 0 for move in moves), sum(move < 0 for move in moves),
    )  # fmt: skip
    assert moves, "the other policy must move something here"
    assert sum(one.up + one.down for one in diff.distribution) == diff.moved
    assert [one.move_ratio_max for one in diff.distribution] == [0.01, 0.02, 0.05, 0.1, None]
    counted = Counter(name for one in compared for name in one.after.broken)
    assert counted["margin_floor"] == 1, "the fourth product earns less than 20 %"
    (floor,) = [one for one in diff.limits if one.limit == "margin_floor"]
    assert (floor.broken_before, floor.broken_after) == (0, 1)
    (profit,) = diff.profit_per_day
    assert profit.before_minor == pytest.approx(sum(one.profit_before_minor for one in compared))
    assert profit.after_minor == pytest.approx(sum(one.profit_after_minor for one in compared))
    sizes = [abs(one.after.shown_minor / one.before.shown_minor - 1.0) for one in diff.largest]
    assert sizes == sorted(sizes, reverse=True)


def test_the_policy_in_force_changes_nothing(shop: Partition) -> None:
    diff = summary(compare(shop.engine, ""))
    assert (diff.moved, diff.newly_held, diff.freed, diff.largest) == (0, (), (), ())
    assert diff.distribution == tuple(
        MoveCount(move_ratio_max=most, up=0, down=0) for most in (0.01, 0.02, 0.05, 0.1, None)
    )


def test_what_would_wait_is_newly_held(shop: Partition) -> None:
    shop.send("cost_changed", at(days=2, hours=1), sku="B", unit_cost_minor=480)
    text = "[guards]\nmargin_floor_ratio = 0.2\n[approval]\nmove_ratio_min = 0.0001\n"
    diff = summary(compare(shop.engine, text))
    assert diff.held_before == 0
    assert [one.sku for one in diff.newly_held][-1] == "D"
    assert diff.newly_held[-1].held[0].startswith("approval: it moves by +")
    assert diff.newly_held[-1].shown_minor == diff.newly_held[-1].present_minor


def test_text_that_is_no_policy_leaves_the_one_in_force(shop: Partition) -> None:
    with pytest.raises(FieldError):
        compare(shop.engine, "[guards]\nmargin_floor_ratio = 2.0\n")
    assert shop.engine.state.policy_text == ""


def test_a_comparison_is_data(shop: Partition) -> None:
    diff = summary(compare(shop.engine, NEW))
    assert msgspec.json.decode(msgspec.json.encode(diff), type=type(diff)) == diff
