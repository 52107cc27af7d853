"""Intake: every record of a source goes on the tape or to the dead letters, whatever it is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import rfc3339
from streams.settings import Settings
from streams.worker.intake import Append, Drop, Intake, Refuse, Unrouted, Verdict
from streams.worker.routes import Route, tape_partition
from streams.worker.ticks import MINUTE_MS, TickFilter, TickProposer, tick_event
from streams.worker.worker import WorkerThread
from tests.streams.spine import Shop, fresh_topics, listing, order, read_topic, wait_until

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
WAIT_S = 30.0


def record(
    event: dict[str, Any] | bytes | None,
    *,
    key: bytes | None = None,
    offset: int = 7,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Any:
    value = orjson.dumps(event) if isinstance(event, dict) else event
    if key is None and isinstance(event, dict) and "sku" in event:
        key = event["sku"].encode()
    return SimpleNamespace(
        key=key, value=value, headers=headers, partition=2, offset=offset, timestamp=NOW_MS
    )


def intake(routes: dict[str, Route] | None = None) -> Intake:
    """An intake that can classify; it has no broker."""
    return Intake(
        routes=routes if routes is not None else {"A": Route("A", 3)},  # type: ignore[arg-type]
        outbox=None,  # type: ignore[arg-type]
        executor=ThreadPoolExecutor(1),
        tape_partitions=4,
        propose_ticks=True,
        now_ms=lambda: NOW_MS,
    )


def code_of(verdict: Verdict) -> str:
    return verdict.error.code if isinstance(verdict, Refuse) else type(verdict).__name__


def test_an_event_goes_to_its_familys_partition_with_its_bytes_and_source() -> None:
    value = b'{ "type":"order_placed", "extra":1,' + orjson.dumps(order(1, "A"))[1:]
    verdict = intake().classify("orders", record(value, key=b"A"), {}, NOW_MS)
    assert isinstance(verdict, Append)
    assert (verdict.key, verdict.partition) == (b"A", 3)
    assert verdict.value == (
        b'{"source":{"topic":"orders","partition":2,"offset":7},"event":' + value + b"}"
    )


AHEAD_MS = NOW_MS + 5 * MINUTE_MS
CASES = [  # why, topic, event, what becomes of it
    ("no product of that name", "orders", order(1, "B"), "Unrouted"),
    ("a tombstone", "orders", None, "null_value"),
    ("not JSON", "orders", b"\xff\xfe", "not_json"),
    ("nested too deeply", "orders", b"[" * 100_000, "too_deep"),
    ("too large", "orders", b" " * (600 * 1024), "too_large"),
    ("another topic's event", "orders", listing("A"), "unknown_type"),
    ("a field is missing", "orders", {"type": "order_placed", "sku": "A"}, "missing_field"),
    ("as far ahead as allowed", "orders", order(1, "A", event_time=rfc3339(AHEAD_MS)), "Append"),
    (
        "too far ahead",
        "orders",
        order(1, "A", event_time=rfc3339(AHEAD_MS + 1)),
        "future_event_time",
    ),
    ("listed again", "products", listing("A"), "Append"),
    ("listed again elsewhere", "products", listing("A", family="F"), "family_changed"),
]


@pytest.mark.parametrize(("why", "topic", "event", "expected"), CASES, ids=[c[0] for c in CASES])
def test_what_becomes_of_a_record(
    why: str, topic: str, event: dict[str, Any] | bytes | None, expected: str
) -> None:
    assert code_of(intake().classify(topic, record(event), {}, NOW_MS)) == expected


def test_a_key_must_be_the_sku_and_a_listing_must_have_one() -> None:
    wrong = intake().classify("orders", record(order(1, "A"), key=b"B"), {}, NOW_MS)
    keyless = record(listing("C"))
    keyless.key = None
    missing = intake().classify("products", keyless, {}, NOW_MS)
    assert (code_of(wrong), code_of(missing)) == ("key_mismatch", "missing_key")


def test_a_first_listing_makes_the_route_and_is_known_to_the_rest_of_its_batch() -> None:
    listed: dict[str, Route] = {}
    routes: dict[str, Route] = {}
    checker = intake(routes)
    cost = {
        "type": "cost_changed",
        "event_id": "c",
        "event_time": rfc3339(NOW_MS),
        "sku": "N",
        "currency": "EUR",
        "unit_cost_minor": 5,
    }
    assert code_of(checker.classify("products", record(cost), listed, NOW_MS)) == "Unrouted"
    first = checker.classify("products", record(listing("N", family="F")), listed, NOW_MS)
    after = checker.classify("products", record(cost), listed, NOW_MS)
    route = Route("F", tape_partition("F", 4))
    assert isinstance(first, Append)
    assert isinstance(after, Append)
    assert (first.partition, after.partition) == (route.partition, route.partition)
    assert (listed, routes) == ({"N": route}, {})  # published only after the tape has it


def test_a_control_goes_to_every_partition() -> None:
    tick = record(tick_event(NOW_MS))
    verdict = intake().classify("controls", tick, {}, NOW_MS)
    assert isinstance(verdict, Append)
    assert (verdict.key, verdict.partition) == (None, None)


@given(st.lists(st.integers(0, 50)))
def test_ticks_that_pass_rise(minutes: list[int]) -> None:
    ticks = TickFilter()
    passed = [minute for minute in minutes if ticks.passes(minute * MINUTE_MS)]
    assert passed == sorted(set(passed))
    assert passed[-1:] == ([max(minutes)] if minutes else [])


@given(st.lists(st.integers(0, 10 * MINUTE_MS)))
def test_each_new_minute_is_proposed_once(times_ms: list[int]) -> None:
    proposer = TickProposer()
    proposed = [tick for time_ms in times_ms if (tick := proposer.propose(time_ms))]
    minutes = [time_ms // MINUTE_MS for time_ms in times_ms]
    news = [m for n, m in enumerate(minutes) if m > max(minutes[:n], default=-1)]
    assert proposed == [tick_event(minute * MINUTE_MS) for minute in news]


def test_a_tick_below_the_last_is_dropped() -> None:
    checker = intake()
    verdicts = [
        checker.classify("controls", record(tick_event(NOW_MS + minute * MINUTE_MS)), {}, NOW_MS)
        for minute in (0, 1, 1, 0, 2)
    ]
    assert [type(verdict) for verdict in verdicts] == [Append, Append, Drop, Drop, Append]


def test_an_unknown_product_names_itself() -> None:
    assert intake().classify("orders", record(order(1, "B")), {}, NOW_MS) == Unrouted("B")


# -- on a real broker


@contextmanager
def running(settings: Settings) -> Iterator[WorkerThread]:
    with WorkerThread(settings, None) as worker:
        yield worker


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap, role="intake")


def wait_for_sources(worker: WorkerThread) -> None:
    ends = worker.progress.end_offsets(["orders", "products", "controls"])
    for (topic, partition), end in ends.items():
        assert worker.progress.wait_for(topic, partition, end, WAIT_S)


def tape(settings: Settings) -> list[tuple[str, int, int]]:
    return sorted(
        (source["topic"], source["partition"], source["offset"])
        for message in read_topic(settings, "tape")
        for source in [orjson.loads(message.value())["source"]]
    )


@pytest.mark.kafka
def test_orders_that_wait_beside_their_listing_are_not_refused(settings: Settings) -> None:
    shop = Shop(settings)
    # Both are there before the worker is: it may well read the order first.
    shop.send("orders", (order(number, "A") for number in range(500)))
    shop.send("products", [listing("A")])
    with running(settings) as worker:
        wait_for_sources(worker)
    events = [orjson.loads(m.value())["event"]["event_id"] for m in read_topic(settings, "tape")]
    ids = [event for event in events if not event.startswith("tick-")]
    assert ids == ["list-A", *(f"order-{number}" for number in range(500))]
    assert read_topic(settings, "dead-letter") == []


@pytest.mark.kafka
def test_poison_becomes_dead_letters_and_the_rest_goes_on(settings: Settings) -> None:
    shop = Shop(settings)
    poison = [
        None,
        b"",
        b"\x00\xff",
        b"null",
        b"[" * 100_000,
        b'{"type":"order_placed"}',
        b"x" * 3_000_000,
    ]
    with running(settings) as worker:
        shop.send("products", [listing("A")])
        shop.send("orders", [order(0, "A")], partition=1)
        for value in poison:
            shop.raw("orders", "A", value, partition=1, headers=[("trace", b"1"), ("none", None)])
        shop.send("orders", [order(1, "A"), order(2, "unlisted")], partition=1)
        shop.flush()
        wait_for_sources(worker)
    [listed, first, last] = [place for place in tape(settings) if place[0] != "controls"][::-1]
    assert (first, last) == (("orders", 1, 8), ("orders", 1, 0))
    assert listed[0] == "products"
    letters = {dict(m.headers())["dl_id"].decode(): m for m in read_topic(settings, "dead-letter")}
    assert sorted(letters) == [f"orders-1-{offset}" for offset in [*range(1, 8), 9]]
    for offset, value in enumerate(poison, 1):
        letter = letters[f"orders-1-{offset}"]
        assert (letter.key(), letter.value()) == (b"A", value)
        assert letter.headers()[:2] == [("trace", b"1"), ("none", None)]
    facts = {name: value.decode() for name, value in letters["orders-1-9"].headers()}
    assert facts.pop("dl_timestamp_ms") == str(letters["orders-1-9"].timestamp()[1])
    assert facts.pop("dl_failed_at").endswith("Z")
    assert facts == {
        "dl_id": "orders-1-9",
        "dl_topic": "orders",
        "dl_partition": "1",
        "dl_offset": "9",
        "dl_stage": "intake",
        "dl_error": "unknown_product",
        "dl_message": "sku was 'unlisted'; expected a product that was listed before.",
        "dl_field": "sku",
        "dl_value": "unlisted",
        "dl_expected": "a listed product",
        "dl_attempts": "1",
        "dl_application": "pricemaker",
        "dl_version": "0.1.0",
    }


@pytest.mark.kafka
def test_what_a_producer_aborted_never_happened(settings: Settings) -> None:
    from confluent_kafka import Producer

    shop = Shop(settings)
    with running(settings) as worker:
        shop.send("products", [listing("A")])
        aborting = Producer(
            {
                "bootstrap.servers": settings.kafka.bootstrap,
                "transactional.id": settings.topics.prefix,
            }
        )
        aborting.init_transactions()
        aborting.begin_transaction()
        name = settings.topics.prefix + "orders"
        aborting.produce(name, key="A", value=orjson.dumps(order(0, "A")), partition=0)
        aborting.flush()
        aborting.abort_transaction()
        # the broker writes the marker, at offset 1, a moment after it has answered
        marked = {("orders", 0): 2}
        wait_until(lambda: worker.progress.end_offsets(["orders"]) == marked, "the abort's marker")
        shop.send("orders", [order(1, "A")], partition=0)
        wait_for_sources(worker)
    assert [place for place in tape(settings) if place[0] == "orders"] == [("orders", 0, 2)]


@pytest.mark.kafka
def test_event_time_makes_ticks_on_every_partition(settings: Settings) -> None:
    shop = Shop(settings)
    with running(settings) as worker:
        shop.send("products", [listing("A")])
        wait_for_sources(worker)
        shop.send("orders", [order(1, "A", event_time="2026-01-01T00:01:30.000Z")])
        wait_for_sources(worker)
        wait_for_sources(worker)  # the tick itself
    ticks = [
        (m.partition(), orjson.loads(m.value())["event"]["event_time"])
        for m in read_topic(settings, "tape")
        if m.key() is None
    ]
    minutes = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z"]
    assert ticks == [(partition, minute) for partition in range(4) for minute in minutes]


@pytest.mark.kafka
def test_no_ticks_are_proposed_when_a_feeder_writes_them(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap, role="intake", ticks="external")
    with running(settings) as worker:
        Shop(settings).send("products", [listing("A")])
        wait_for_sources(worker)
    assert read_topic(settings, "controls") == []
