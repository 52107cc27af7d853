"""The shop window: only newer prices, and exactly what changed since a cursor."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from streams.gateway.cursor import Cursor, read_cursor
from streams.gateway.price_stream import Place, PriceSource
from streams.gateway.refusals import Refusal
from streams.gateway.switch import Switch
from streams.gateway.window import Taken, Window
from streams.settings import Settings
from tests.streams.gateway_app import TOPIC, price

BEGIN = Cursor(TOPIC, ())


def taken(offset: int, sku: str, version: int | None, partition: int = 0) -> Taken:
    shown = None if version is None else price(sku, version)
    return Taken(sku, partition, offset, shown)


def window_of(*records: Taken) -> Window:
    window = Window(TOPIC)
    window.take(records)
    return window


def stream_of(window: Window, *skus: str) -> PriceSource:
    return PriceSource(window, Switch(Settings()), frozenset(skus) or None)


def at(cursor: Cursor) -> Place:
    return Place(cursor, 0)


def told(window: Window, since: Cursor, limit: int = 100) -> tuple[list[tuple[str, int]], str]:
    changes = window.changes(since, limit)
    return [(one.sku, one.version) for one in changes.found], str(changes.behind)


def test_only_a_higher_version_is_shown() -> None:
    window = window_of(taken(0, "A", 2), taken(1, "A", 1), taken(2, "A", 2))
    found = window.get("A")
    assert found is not None
    assert (found.version, found.offset) == (2, 0)
    assert str(window.cursor) == f"{TOPIC}-0.3"


def test_a_tombstone_withdraws_and_a_later_price_needs_a_higher_version() -> None:
    window = window_of(taken(0, "A", 2), taken(1, "A", None))
    assert (window.get("A"), window.count) == (None, 0)
    assert told(window, BEGIN) == ([("A", 2)], f"{TOPIC}-0.2")
    window.take([taken(2, "A", 2)])
    assert window.get("A") is None
    window.take([taken(3, "A", 3)])
    assert (window.count, told(window, BEGIN)) == (1, ([("A", 3)], f"{TOPIC}-0.4"))


def test_what_changed_is_told_once_with_its_last_price() -> None:
    window = window_of(taken(0, "A", 1), taken(1, "B", 1), taken(0, "C", 1, partition=1))
    before = window.cursor
    window.take([taken(2, "A", 2), taken(3, "A", 3)])
    assert told(window, before) == ([("A", 3)], f"{TOPIC}-0.4-1.1")
    assert told(window, BEGIN) == ([("B", 1), ("A", 3), ("C", 1)], f"{TOPIC}-0.4-1.1")


def test_a_place_ahead_of_this_gateway_stays() -> None:
    """Two gateways read at their own pace, and a client may meet both."""
    ahead = Cursor(TOPIC, ((0, 9), (7, 1)))
    assert told(window_of(taken(0, "A", 1)), ahead) == ([], f"{TOPIC}-0.9-7.1")


RECORDS = st.lists(
    st.tuples(st.sampled_from("ABCDE"), st.integers(0, 2), st.booleans()), max_size=40
)


def tape_of(drawn: list[tuple[str, int, bool]]) -> list[Taken]:
    """Records with rising versions and offsets; a SKU stays on its partition."""
    offsets: dict[int, int] = {}
    found = []
    for version, (sku, gap, gone) in enumerate(drawn, 1):
        partition = ord(sku) % 3
        offset = offsets.get(partition, 0) + gap  # a transaction's marker, or compaction
        offsets[partition] = offset + 1
        found.append(taken(offset, sku, None if gone else version, partition))
    return found


@given(RECORDS, st.integers(0, 40), st.integers(1, 5))
def test_pages_since_a_cursor_are_what_changed(drawn, cut, limit) -> None:
    """From any place, in pages of any size: what is known there and what is told give the whole."""
    records = tape_of(drawn)
    window = window_of(*records)
    early = window_of(*records[:cut])
    known = {one.sku: one.body for one in early.changes(BEGIN, 100).found}
    place, more, pages = early.cursor, True, 0
    while more:
        found, place, more = window.changes(place, limit)
        known |= {one.sku: one.body for one in found}
        pages += 1
    whole = {one.sku: one.body for one in window.changes(BEGIN, 100).found}
    assert known == whole
    assert place == window.cursor
    assert pages <= len(whole) // limit + 1


@given(RECORDS)
def test_a_compacted_topic_gives_the_same_cursors(drawn) -> None:
    """A gateway that starts later reads the last record of each SKU alone, and answers the same."""
    records = tape_of(drawn)
    live = window_of(*records)
    last = {one.sku: one for one in records}
    later = window_of(*[one for one in records if last[one.sku] is one])
    shown = [one for one in live.changes(BEGIN, 100).found if one.body is not None]
    assert [one for one in later.changes(BEGIN, 100).found if one.body is not None] == shown


@given(RECORDS, st.integers(0, 40))
def test_a_stream_may_end_at_any_event_and_go_on(drawn, cut) -> None:
    window = window_of(*tape_of(drawn))
    frames = stream_of(window).since(at(BEGIN)).frames.split(b"\n\n")[:-1]
    if cut >= len(frames):
        return
    lines = dict(line.split(b": ", 1) for line in frames[cut].split(b"\n"))
    place = read_cursor(lines[b"id"].decode(), TOPIC)
    rest = stream_of(window).since(at(place)).frames.split(b"\n\n")[:-1]
    assert [one.split(b"\n")[2] for one in rest] == [
        one.split(b"\n")[2] for one in frames[cut + 1 :]
    ]


def test_a_narrow_stream_goes_past_what_it_does_not_tell() -> None:
    window = window_of(taken(0, "A", 1), taken(1, "B", 1))
    source = stream_of(window, "C")
    assert source.since(at(BEGIN)) == (b"", at(window.cursor))
    only = stream_of(window, "A").since(at(BEGIN)).frames
    assert only == b"event: price\nid: abc123-0.1\ndata: " + (window.get("A").body or b"") + b"\n\n"


def test_what_streams_at_one_place_are_sent_is_made_once() -> None:
    window = window_of(taken(0, "A", 1))
    first = stream_of(window).since(at(BEGIN))
    assert stream_of(window).since(at(BEGIN)) is first
    window.take([taken(1, "A", 2)])
    assert stream_of(window).since(at(BEGIN)).place == at(Cursor(TOPIC, ((0, 2),)))


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("other-0.1", 410, "stale_cursor"),
        ("", 400, "not_a_cursor"),
        ("abc123-0", 400, "not_a_cursor"),
        ("abc123-0.x", 400, "not_a_cursor"),
        ("abc123-0.1;DROP", 400, "not_a_cursor"),
        ("a" * 40_000, 400, "not_a_cursor"),
    ],
)
def test_cursors_that_are_refused(text: str, status: int, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_cursor(text, TOPIC)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_cursor_comes_back_as_it_was() -> None:
    cursor = Cursor(TOPIC, ((0, 0), (3, 2**62)))
    assert read_cursor(str(cursor), TOPIC) == cursor
