"""The builder places events as intake would: checked, routed by family, with ticks between."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.simulator.simulator import Shop
from models.simulator.simulator_events import BAD_KINDS, bad_event
from models.simulator.simulator_truth import ShopSettings
from schemas import tape
from schemas.events import rfc3339
from schemas.tape import Source
from streams.tape.tape_builder import AHEAD_MS_MAX, DeadLetter, Placed, TapeBuilder

NOW_MS = 1_772_357_400_000  # 2026-03-01T09:30Z
MINUTE_MS = 60_000


def event(kind: str, sku: str = "A1", at_ms: int = NOW_MS, **fields: Any) -> bytes:
    common = {"type": kind, "event_id": f"{kind}-{sku}-{at_ms}", "event_time": rfc3339(at_ms)}
    about = {} if kind in ("clock_ticked", "operator_command") else {"sku": sku}
    return json.dumps(common | about | fields).encode()


def listing(sku: str = "A1", at_ms: int = NOW_MS, **fields: Any) -> bytes:
    return event("product_listed", sku, at_ms, **{"currency": "EUR", "category": "c"} | fields)


def stock(sku: str = "A1", at_ms: int = NOW_MS) -> bytes:
    return event("inventory_changed", sku, at_ms, on_hand=3)


def command(at_ms: int = NOW_MS) -> bytes:
    return event(
        "operator_command", at_ms=at_ms, command="kill_switch_on", actor="kim", reason="drill",
        scope={"kind": "catalogue"},
    )  # fmt: skip


def tick(at_ms: int) -> dict[str, str]:
    time_text = rfc3339(at_ms)
    return {"type": "clock_ticked", "event_id": f"tick-{time_text}", "event_time": time_text}


class Tape:
    """Everything a builder places, by partition; offsets are checked to be contiguous."""

    def __init__(self, partitions: int = 4, now_ms: int = NOW_MS) -> None:
        self.letters: list[DeadLetter] = []
        self.builder = TapeBuilder(partitions, self.letters.append, now_ms)
        self.partitions: list[list[bytes]] = [[] for _ in range(partitions)]

    def append(self, topic: str, value: bytes | None, key: bytes | None = None) -> list[Placed]:
        placed = self.builder.append(topic, value, key)
        for record in placed:
            assert record.offset == len(self.partitions[record.partition])
            self.partitions[record.partition].append(record.value)
        return placed

    def events(self, partition: int) -> list[dict[str, Any]]:
        return [json.loads(tape.raw_event(record)) for record in self.partitions[partition]]


def test_an_event_is_placed_with_its_own_bytes_and_its_source() -> None:
    one = Tape(partitions=1)
    one.append("products", listing())
    placed = one.append("inventory", stock())
    # murmur2(b"A1") & 0x7fffffff is 1_095_694_779: partition 3 of the source topic's 4
    assert placed == [Placed(0, 2, tape.wrap(Source("inventory", 3, 0), stock()))]
    assert one.append("inventory", stock())[0].value == tape.wrap(
        Source("inventory", 3, 1), stock()
    )


def test_a_family_shares_a_partition_and_other_products_are_spread() -> None:
    one = Tape(partitions=8)
    for i in range(40):
        one.append("products", listing(f"S{i}", family="shirts"))
        one.append("products", listing(f"T{i}"))
    partitions = {one.builder.routes[f"S{i}"].partition for i in range(40)}
    assert len(partitions) == 1
    assert {one.builder.routes[f"T{i}"].partition for i in range(40)} == set(range(8))
    assert one.builder.routes["T1"].family == "T1"


def test_a_product_is_unknown_before_its_listing_and_known_after() -> None:
    one = Tape()
    assert one.append("inventory", stock()) == []
    (letter,) = one.letters
    assert (letter.error.code, letter.error.field, letter.error.value) == (
        "unknown_product", "sku", "A1",
    )  # fmt: skip
    assert letter.source == Source("inventory", 3, 0)
    assert letter.error.where == "inventory[3]@0"
    assert (letter.key, letter.value) == (b"A1", stock())
    one.append("products", listing())
    (placed,) = one.append("inventory", stock())
    assert tape.decode(placed.value).source == Source("inventory", 3, 1)  # the letter took 0


def test_a_family_is_fixed_by_the_first_listing() -> None:
    one = Tape()
    one.append("products", listing(family="shirts"))
    assert len(one.append("products", listing(family="shirts", category="better"))) == 1
    assert one.append("products", listing(family="trousers")) == []
    assert one.append("products", listing()) == []
    assert [(letter.error.code, letter.error.value) for letter in one.letters] == [
        ("family_changed", "trousers"), ("family_changed", "A1"),
    ]  # fmt: skip
    assert one.letters[0].error.expected == "shirts"
    assert one.builder.routes["A1"].family == "shirts"


def test_a_control_goes_to_every_partition_and_moves_no_clock() -> None:
    one = Tape(partitions=3)
    placed = one.append("controls", command(at_ms=NOW_MS - 10 * MINUTE_MS))
    record = tape.wrap(Source("controls", 0, 0), command(at_ms=NOW_MS - 10 * MINUTE_MS))
    assert placed == [Placed(partition, 0, record) for partition in range(3)]


def test_a_tick_stands_before_the_first_event_of_each_later_minute() -> None:
    one = Tape(partitions=2)
    one.append("products", listing(at_ms=NOW_MS - 60 * MINUTE_MS + 1))
    one.append("inventory", stock(at_ms=NOW_MS - 60 * MINUTE_MS + 59_999))
    one.append("inventory", stock(at_ms=NOW_MS - 57 * MINUTE_MS))  # one tick for a quiet stretch
    one.append("inventory", stock(at_ms=NOW_MS - 60 * MINUTE_MS))  # late: no tick, still placed
    one.append("inventory", stock(at_ms=NOW_MS - 57 * MINUTE_MS + 5))
    home = one.builder.routes["A1"].partition
    ticks = [tick(NOW_MS - 60 * MINUTE_MS), tick(NOW_MS - 57 * MINUTE_MS)]
    assert one.events(1 - home) == ticks
    kinds = [event["type"] for event in one.events(home)]
    changed = "inventory_changed"
    assert kinds == [
        "clock_ticked", "product_listed", changed, "clock_ticked", changed, changed, changed,
    ]  # fmt: skip
    sources = [tape.decode(record).source for record in one.partitions[1 - home]]
    assert sources == [Source("controls", 0, 0), Source("controls", 0, 1)]


def test_a_tick_from_outside_counts_and_one_that_is_not_above_the_last_is_dropped() -> None:
    one = Tape(partitions=1)
    one.append("controls", event("clock_ticked", at_ms=NOW_MS - 5_000))
    assert one.append("controls", event("clock_ticked", at_ms=NOW_MS - 5_000)) == []
    assert one.append("controls", event("clock_ticked", at_ms=NOW_MS - 6_000)) == []
    one.append("products", listing(at_ms=NOW_MS - 1))  # the minute has its tick
    one.append("inventory", stock(at_ms=NOW_MS))
    kinds = [event["type"] for event in one.events(0)]
    assert kinds == ["clock_ticked", "product_listed", "clock_ticked", "inventory_changed"]
    assert one.events(0)[2] == tick(NOW_MS)
    assert tape.decode(one.partitions[0][2]).source == Source("controls", 0, 3)
    assert one.builder.dead_letters == 0


def test_a_dead_letter_moves_no_clock() -> None:
    one = Tape(partitions=1)
    one.append("products", listing(at_ms=NOW_MS - 10 * MINUTE_MS))
    one.append("inventory", stock("UNKNOWN", at_ms=NOW_MS))
    one.append("inventory", stock(at_ms=NOW_MS - 10 * MINUTE_MS + 1))
    kinds = [event["type"] for event in one.events(0)]
    assert kinds == ["clock_ticked", "product_listed", "inventory_changed"]


@pytest.mark.parametrize(
    ("ahead_ms", "accepted"), [(AHEAD_MS_MAX, True), (AHEAD_MS_MAX + 1, False)]
)
def test_the_future_ends_five_minutes_ahead_of_intake_s_clock(
    ahead_ms: int, accepted: bool
) -> None:
    one = Tape(now_ms=NOW_MS)
    one.append("products", listing(at_ms=NOW_MS))
    one.append("inventory", stock(at_ms=NOW_MS + ahead_ms))
    codes = [letter.error.code for letter in one.letters]
    assert codes == ([] if accepted else ["future_event_time"])


def test_a_key_must_be_the_sku() -> None:
    one = Tape()
    one.append("products", listing(), b"A1")
    assert one.append("inventory", stock(), b"B2") == []
    (letter,) = one.letters
    assert (letter.error.code, letter.key) == ("key_mismatch", b"B2")
    assert letter.source.partition == 0  # murmur2(b"B2") & 0x7fffffff is 972_988_488


@pytest.mark.parametrize("kind", sorted(BAD_KINDS))
def test_every_kind_of_bad_record_is_a_dead_letter_for_its_reason(kind: str) -> None:
    one = Tape()
    one.append("products", listing())
    value = bad_event(kind, 7, rfc3339(NOW_MS).encode(), "A1")
    assert one.append("orders", value) == []
    (letter,) = one.letters
    assert letter.error.code == BAD_KINDS[kind][1]
    assert (letter.source.topic, letter.value) == ("orders", value)


def test_nothing_of_a_shop_s_month_is_lost_or_refused() -> None:
    shop = Shop(11, settings=ShopSettings(products=20, bad_share=0.02))
    one = Tape(partitions=4, now_ms=2_000_000_000_000)
    fed = 0
    for _ in range(24 * 20):
        for topic, value in shop.step({}):
            one.append(topic, value)
            fed += 1
    assert one.builder.dead_letters == len(one.letters) == shop.bad_records.total() > 20
    assert one.builder.appended + one.builder.dead_letters == fed
    ticks = sum(value["type"] == "clock_ticked" for value in one.events(0))
    placed = sum(len(records) for records in one.partitions)
    assert placed == one.builder.appended + 4 * ticks
    sources = [
        (source.topic, source.partition, source.offset)
        for records in one.partitions
        for source in (tape.decode(record).source for record in records)
        if source.topic != "controls"
    ]
    assert len(set(sources)) == len(sources) == one.builder.appended


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400_000)), max_size=30))
def test_ticks_rise_and_cover_every_accepted_event(steps: list[tuple[int, int]]) -> None:
    one = Tape(partitions=2)
    for sku in range(4):
        one.append("products", listing(f"P{sku}", at_ms=0))
    for sku, at_ms in steps:
        one.append("inventory", stock(f"P{sku}", at_ms=at_ms))
    for partition in range(2):
        clock = ""
        for value in one.events(partition):
            if value["type"] == "clock_ticked":
                assert value["event_time"] > clock
                clock = value["event_time"]
            else:
                assert value["event_time"][:17] <= clock[:17]
