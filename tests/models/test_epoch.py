"""Epochs: what counts as exposure, which orders belong, when an epoch ends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from models.demand.epoch import (
    DAY_MS,
    Features,
    Observation,
    accrue,
    add_order,
    add_visits,
    closes,
    observation,
    open_epoch,
    remove_order,
    rival_moved,
)
from schemas.learned import OpenEpoch
from schemas.policy import DecisionPolicy

HOUR_MS = 3_600_000
START_MS = 100 * DAY_MS
POLICY = DecisionPolicy(
    epoch_days_min=1.0, epoch_days_max=14.0, epoch_orders_close=10, rival_move_ratio=0.03
)


def epoch(*, in_stock: bool | None = True, traffic_feed: bool = False) -> OpenEpoch:
    return open_epoch(
        START_MS,
        1_100,
        1_000,
        rival_minor=1_200.0,
        exogenous_log=0.02,
        in_stock=in_stock,
        traffic_feed=traffic_feed,
    )


def test_a_price_of_our_own_has_no_control() -> None:
    ours = open_epoch(START_MS, 1_100, 1_000, rival_minor=None, exogenous_log=None, in_stock=True)
    assert (ours.ln_price, ours.control) == (math.log(1.1), 0.0)


def orders(opened: OpenEpoch, count: int) -> OpenEpoch:
    for _ in range(count):
        added = add_order(opened, 2, 1_100, START_MS + HOUR_MS, 20)
        assert added is not None
        opened = added
    return opened


def test_an_epoch_knows_price_rival_and_control_relative_to_the_reference() -> None:
    assert epoch() == OpenEpoch(
        start_ms=START_MS,
        accrued_ms=START_MS,
        price_minor=1_100,
        ln_price=math.log(1.1),
        ln_rival=math.log(1.2),
        control=math.log(1.1) - 0.02,
        in_stock=True,
    )


@pytest.mark.parametrize(
    ("in_stock", "days"),
    [(True, 2.5), (None, 2.5), (False, 0.0)],  # stock never reported counts as in stock
)
def test_only_time_in_stock_is_exposure(in_stock: bool | None, days: float) -> None:
    later = accrue(epoch(in_stock=in_stock), START_MS + 60 * HOUR_MS)
    assert (later.exposure_days, later.accrued_ms) == (days, START_MS + 60 * HOUR_MS)


@given(st.lists(st.integers(-DAY_MS, 30 * DAY_MS), max_size=20))
def test_exposure_does_not_depend_on_how_often_it_is_counted(waits: list[int]) -> None:
    counted = epoch()
    for wait_ms in waits:  # also back in time, which adds nothing
        counted = accrue(counted, START_MS + wait_ms)
    once = accrue(epoch(), START_MS + max([0, *waits]))
    assert counted.accrued_ms == once.accrued_ms
    assert counted.exposure_days == pytest.approx(once.exposure_days, abs=1e-9)


def test_with_a_traffic_feed_visits_are_exposure_and_time_is_not() -> None:
    seen = accrue(epoch(traffic_feed=True), START_MS + 3 * DAY_MS)
    assert seen.exposure_days == 0.0
    assert observation(seen, 200.0) is None  # in stock, but nobody reported traffic
    seen = add_visits(seen, 300, START_MS, START_MS + DAY_MS)
    taught = observation(seen, 200.0)
    assert taught is not None
    assert taught.exposure_days == 1.5


def test_a_report_across_the_start_counts_by_its_share() -> None:
    seen = add_visits(
        epoch(traffic_feed=True), 240, START_MS - 18 * HOUR_MS, START_MS + 6 * HOUR_MS
    )
    assert seen.visits == 60.0
    assert add_visits(seen, 500, START_MS - DAY_MS, START_MS) == seen  # all before the epoch


def test_visits_to_an_empty_shelf_are_no_exposure() -> None:
    seen = add_visits(epoch(in_stock=False, traffic_feed=True), 100, START_MS, START_MS + DAY_MS)
    assert (seen.visits, observation(seen, 10.0)) == (0.0, None)


def test_orders_after_the_last_report_wait_for_their_traffic() -> None:
    seen = orders(epoch(traffic_feed=True), 3)
    seen = add_visits(seen, 50, START_MS, START_MS + 2 * HOUR_MS)
    seen = orders(seen, 4)
    assert observation(seen, 100.0) == Observation(
        Features(seen.ln_price, seen.ln_rival, seen.control),
        orders=3,
        exposure_days=0.5,
        lines=7,
        capped_units=14,
    )


def test_an_epoch_opened_without_a_feed_ignores_traffic() -> None:
    assert add_visits(epoch(), 100, START_MS, START_MS + DAY_MS) == epoch()


def test_a_report_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a time after from_ms"):
        add_visits(epoch(traffic_feed=True), 1, START_MS, START_MS)


def test_visits_need_a_reference() -> None:
    with pytest.raises(ValueError, match="reference_visits_per_day was None"):
        observation(epoch(traffic_feed=True), None)
    with pytest.raises(ValueError, match=r"reference_visits_per_day was 0\.0"):
        observation(epoch(traffic_feed=True), 0.0)


LATE_CASES = [  # why, price, event time relative to the start, counted
    ("in the epoch at its price", 1_100, 5, True),
    ("in the epoch with a voucher", 990, 5, True),
    ("at the very start", 1_000, 0, True),
    ("before it, but at its price: the clocks differ", 1_100, -5, True),
    ("before it at another price: late", 1_000, -5, False),
]


@pytest.mark.parametrize(("why", "price_minor", "at_ms", "counted"), LATE_CASES)
def test_which_orders_belong(why: str, price_minor: int, at_ms: int, counted: bool) -> None:
    added = add_order(epoch(), 3, price_minor, START_MS + at_ms, 20)
    expected = replace(epoch(), orders=1, units=3, capped_units=3) if counted else None
    assert added == expected, why


def test_a_bulk_order_is_one_order_with_capped_units() -> None:
    added = add_order(epoch(), 80_995, 1_100, START_MS, 12)
    assert added == replace(epoch(), orders=1, units=80_995, capped_units=12)


def test_a_cancellation_takes_back_what_was_counted() -> None:
    three = orders(epoch(), 3)
    two = remove_order(three, 2, START_MS + HOUR_MS, 20, whole_line=True)
    assert two == orders(epoch(), 2)
    part = remove_order(three, 1, START_MS + HOUR_MS, 20, whole_line=False)
    assert (part.orders, part.units, part.capped_units) == (3, 5, 5)
    earlier = remove_order(three, 2, START_MS - 1, 20, whole_line=True)
    assert earlier == three  # its epoch has been learned
    nothing = remove_order(epoch(), 2, START_MS, 20, whole_line=True)
    assert nothing == epoch()


FLAT = math.log(1.2)
CLOSE_CASES = [  # why, orders, age in days, price, rival, in stock, expected
    ("nothing happened", 0, 0.5, 1_100, FLAT, True, None),
    ("another price", 0, 0.0, 1_101, FLAT, True, "price"),
    ("price goes before the rival", 0, 0.0, 1_101, None, True, "price"),
    ("rival up by 3.1 %", 0, 0.1, 1_100, FLAT + math.log(1.031), True, "rival"),
    ("rival up by 2.9 %", 0, 0.1, 1_100, FLAT + math.log(1.029), True, None),
    ("rival down by more than 3 %", 0, 0.1, 1_100, FLAT - math.log(1.031), True, "rival"),
    ("rival gone", 0, 0.1, 1_100, None, True, "rival"),
    ("sold out", 0, 0.1, 1_100, FLAT, False, "stock"),
    ("stock no longer reported", 0, 0.1, 1_100, FLAT, None, None),
    ("enough orders, too young", 10, 0.99, 1_100, FLAT, True, None),
    ("enough orders, a day old", 10, 1.0, 1_100, FLAT, True, "orders"),
    ("a day old, too few orders", 9, 1.0, 1_100, FLAT, True, None),
    ("fourteen days and no order", 0, 14.0, 1_100, FLAT, True, "age"),
]


@pytest.mark.parametrize(
    ("why", "count", "age_days", "price_minor", "ln_rival", "in_stock", "expected"), CLOSE_CASES
)
def test_when_an_epoch_ends(
    why: str,
    count: int,
    age_days: float,
    price_minor: int,
    ln_rival: float | None,
    in_stock: bool | None,
    expected: str | None,
) -> None:
    reason = closes(
        orders(epoch(), count),
        START_MS + round(age_days * DAY_MS),
        POLICY,
        price_minor=price_minor,
        ln_rival=ln_rival,
        in_stock=in_stock,
    )
    assert reason == expected, why


def test_with_a_feed_only_covered_orders_close_an_epoch() -> None:
    seen = orders(epoch(traffic_feed=True), 12)

    def reason(now: OpenEpoch) -> str | None:
        return closes(
            now, START_MS + DAY_MS, POLICY, price_minor=1_100, ln_rival=FLAT, in_stock=True
        )

    assert reason(seen) is None
    assert reason(add_visits(seen, 10, START_MS, START_MS + DAY_MS)) == "orders"


def test_a_rival_that_stays_unknown_did_not_move() -> None:
    assert not rival_moved(None, None, 0.03)
    assert rival_moved(None, 0.0, 0.03)


def test_exposure_under_a_minute_teaches_nothing() -> None:
    assert observation(accrue(orders(epoch(), 1), START_MS + 59_000), None) is None
    taught = observation(accrue(orders(epoch(), 1), START_MS + 61_000), None)
    assert taught is not None
    assert taught.orders == 1
