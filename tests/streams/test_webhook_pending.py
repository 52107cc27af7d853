"""What an endpoint has still to be told, and when it may be called: both without any I/O."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from streams.edge.price import Price, read_price
from streams.webhooks.attempts import RETRY_AFTER_MAX_S, Attempts, Pace, State
from streams.webhooks.pending import Change, Pending
from tests.streams.edge_feed import price


def known(sku: str, version: int) -> Price:
    return read_price(price(sku, version), "test")


def change(offset: int, sku: str, version: int, partition: int = 0) -> Change:
    found = known(sku, version) if version else None
    return Change(sku, version, found, partition, offset, 0)


class Reading:
    """A partition read by an endpoint that is told of everything, or of A only."""

    def __init__(self, resume: int = 0) -> None:
        self.pending = Pending()
        self.pending.assign(0, resume)

    def read(self, *records: tuple[int, str, int], wanted: bool = True) -> list[bool]:
        return [self.pending.offer(change(*record), wanted=wanted) for record in records]

    def due(self, limit: int = 10) -> list[tuple[str, int]]:
        return [(one.sku, one.version) for one in self.pending.take(limit)]


def test_only_the_last_of_a_product_waits_and_it_keeps_its_place() -> None:
    reading = Reading()
    reading.read((0, "A", 1), (1, "B", 1), (2, "A", 2), (3, "A", 3))
    assert (reading.due(), reading.due(1)) == ([("A", 3), ("B", 1)], [("A", 3)])
    assert (len(reading.pending), reading.pending.positions()) == (2, {0: 1})


def test_the_position_is_where_the_first_that_waits_stands() -> None:
    reading = Reading()
    reading.read((0, "A", 1), (1, "B", 1), (2, "C", 1))
    reading.pending.delivered(reading.pending.take(1))
    assert reading.pending.positions() == {0: 1}
    reading.pending.delivered(reading.pending.take(2))
    assert reading.pending.positions() == {0: 3}
    reading.pending.passed(0, 4)  # a transaction's marker
    assert reading.pending.positions() == {0: 4}


def test_repeats_and_older_versions_are_nothing_new() -> None:
    reading = Reading()
    assert reading.read((0, "A", 2), (1, "A", 2), (2, "A", 1), (3, "A", 3)) == [
        True, False, False, True,
    ]  # fmt: skip
    reading.pending.delivered(reading.pending.take(1))
    assert reading.read((4, "A", 2)) == [False]
    assert (reading.due(), reading.pending.positions()) == ([], {0: 5})


def test_what_was_delivered_before_a_restart_is_learned_and_not_told_again() -> None:
    reading = Reading(resume=2)
    assert reading.read((0, "A", 5), (1, "B", 1)) == [False, False]
    assert reading.pending.positions() == {0: 2}
    assert reading.read((2, "A", 4), (3, "B", 2)) == [
        False,
        True,
    ]  # A's is older than what was told
    assert (reading.due(), reading.pending.positions()) == ([("B", 2)], {0: 3})


def test_a_failed_message_is_repeated_as_it_is_now() -> None:
    reading = Reading()
    reading.read((0, "A", 1), (1, "B", 1), (2, "C", 1))
    reading.pending.failed(reading.pending.take(2))
    assert reading.due() == [("A", 1), ("B", 1)]  # not filled up: the message stays the same
    reading.read((3, "B", 2))
    assert reading.due() == [("A", 1), ("B", 2)]
    reading.pending.delivered(reading.pending.take(10))
    assert reading.due() == [("C", 1)]


def test_what_came_while_a_message_was_under_way_goes_on_waiting() -> None:
    reading = Reading()
    reading.read((0, "A", 1))
    under_way = reading.pending.take(1)
    reading.read((1, "A", 2))
    reading.pending.delivered(under_way)
    assert (reading.due(), reading.pending.positions()) == ([("A", 2)], {0: 1})


def test_a_removal_is_told_of_what_is_known() -> None:
    reading = Reading()
    assert reading.read((0, "A", 0), (1, "B", 3), (2, "B", 0)) == [False, True, True]
    assert reading.due() == [("B", 3)]
    assert reading.pending.take(1)[0].price is None
    assert reading.read((3, "B", 3), (4, "B", 4)) == [False, True]


def test_what_a_filter_leaves_out_takes_the_place_of_what_waits() -> None:
    reading = Reading()
    reading.read((0, "A", 1))
    reading.read((1, "A", 2), wanted=False)
    assert (reading.due(), reading.pending.positions()) == ([], {0: 2})


def test_a_partition_that_went_to_another_is_forgotten() -> None:
    pending = Pending()
    pending.assign(0, 0)
    pending.assign(1, 0)
    pending.offer(change(0, "A", 1), wanted=True)
    pending.offer(change(0, "B", 1, partition=1), wanted=True)
    pending.revoke(0)
    assert [one.sku for one in pending.take(9)] == ["B"]
    assert pending.positions() == {1: 0}
    assert pending.offer(change(1, "A", 2), wanted=True) is False


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from("ABC"), st.integers(0, 6)),
        st.tuples(st.just("deliver"), st.integers(1, 3), st.booleans()),
        st.just(("restart",)),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_end_is_right_and_no_version_goes_back(steps) -> None:
    """A log is read, told in messages that may fail, and resumed at the position after restarts."""
    log: list[Change] = []
    told: dict[str, list[Change]] = {sku: [] for sku in "ABC"}
    pending = Pending()
    pending.assign(0, 0)

    def deliver(limit: int, succeeds: bool) -> None:
        changes = pending.take(limit)
        for one in changes:  # also of a failure: the answer may have been lost
            told[one.sku].append(one)
        (pending.delivered if succeeds else pending.failed)(changes)

    for step in steps:
        if step[0] == "read":
            log.append(change(len(log), step[1], step[2]))
            pending.offer(log[-1], wanted=True)
        elif step[0] == "deliver":
            deliver(step[1], step[2])
        else:
            position = pending.positions()[0]
            pending = Pending()
            pending.assign(0, position)
            for one in log:
                pending.offer(one, wanted=True)
    while pending:
        deliver(2, True)
    assert pending.positions() == {0: len(log)}
    for sku, found in told.items():
        versions = [one.version for one in found]
        assert versions == sorted(versions)
        highest = max((one.version for one in log if one.sku == sku), default=0)
        assert (versions[-1] if versions else 0) == highest


PACE = Pace(interval_s=0.1, retry_base_s=1.0, retry_max_s=8.0, dead_after_s=30.0,
            dead_interval_s=100.0)  # fmt: skip


class Drawn(random.Random):
    """Draws one number for ever."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def random(self) -> float:
        return self.number


def pause_after(failures: int, draw: float, retry_after_s: float | None = None) -> float:
    """How long it waits after so many failures at second 10, to a tenth of a second."""
    attempts = Attempts(PACE, Drawn(draw))
    for _ in range(failures):
        attempts.failed(10.0, 10.0, retry_after_s)
    return next(n / 10 for n in range(100_000) if attempts.may_call(10.0 + n / 10 + 1e-9))


PAUSES = [
    ("the first, least drawn", 1, 0.0, None, 0.5),
    ("the first, most drawn", 1, 1.0, None, 1.0),
    ("it doubles", 3, 1.0, None, 4.0),
    ("up to the most", 9, 1.0, None, 8.0),
    ("the endpoint asks for more", 1, 1.0, 20.0, 20.0),
    ("the endpoint asks for less", 9, 1.0, 1.0, 8.0),
    ("the endpoint asks for ever", 1, 1.0, 1e9, RETRY_AFTER_MAX_S),
]


@pytest.mark.parametrize(
    ("failures", "draw", "asked", "pause"), [c[1:] for c in PAUSES], ids=[c[0] for c in PAUSES]
)
def test_pauses(failures: int, draw: float, asked: float | None, pause: float) -> None:
    assert pause_after(failures, draw, asked) == pytest.approx(pause)


def test_a_rate_is_kept_and_a_success_ends_the_back_off() -> None:
    attempts = Attempts(PACE, Drawn(1.0))
    attempts.delivered(10.0)
    assert [attempts.may_call(s) for s in (10.05, 10.1)] == [False, True]
    attempts.failed(11.0, 11.0)
    attempts.failed(12.0, 12.0)
    attempts.delivered(14.0)
    assert (attempts.state, attempts.failures) == (State.OK, 0)
    attempts.failed(15.0, 15.0)
    assert [attempts.may_call(s) for s in (15.9, 16.0)] == [False, True]


def test_an_endpoint_dies_and_comes_back() -> None:
    attempts = Attempts(PACE, Drawn(1.0))
    attempts.failed(0.0, 29.0)
    assert attempts.state is State.RETRYING
    attempts.failed(29.5, 30.0)
    assert attempts.state is State.DEAD
    assert [attempts.may_call(s) for s in (129.9, 130.0)] == [False, True]
    attempts.failed(130.0, 131.0)
    assert attempts.state is State.DEAD
    attempts.delivered(240.0)
    assert attempts.state is State.OK


def test_one_that_is_gone_is_not_called_any_more() -> None:
    attempts = Attempts(PACE, Drawn(1.0))
    attempts.disable()
    assert (attempts.state, attempts.may_call(1e12)) == (State.DISABLED, False)
