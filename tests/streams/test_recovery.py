"""Taking over: the state is what was committed, and it must fit the tape and the sources."""

import os
import signal
import subprocess
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.errors import InputError
from streams.kafka import kafka_settings, reader
from streams.settings import Settings
from streams.worker.recovery import NoLongerOurs, Recovery, check_position, source_starts
from streams.worker.transport import LogRange
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import CountingEngine, CountingFactory
from tests.streams.spine import (
    ROOT,
    SKUS,
    Shop,
    assert_exactly_once,
    fresh_topics,
    listing,
    order,
    read_topic,
    state_of,
    until_applied,
    until_state_grows,
    wait_until,
    with_a_worker,
    workers,
)

WAIT_S = 60.0


@pytest.mark.parametrize(
    ("position", "begin", "end", "fits"),
    [
        (-1, 0, 0, True),  # nothing yet
        (9, 0, 10, True),  # all applied
        (4, 0, 10, True),
        (4, 5, 10, True),  # the tape begins with the next record
        (4, 6, 10, False),  # the next record is gone
        (-1, 1, 10, False),
        (10, 0, 10, False),  # the state is ahead of the tape
    ],
)
def test_the_position_must_be_on_the_tape(position: int, begin: int, end: int, fits: bool) -> None:
    if fits:
        check_position(3, position, begin, end)
        return
    with pytest.raises(InputError) as caught:
        check_position(3, position, begin, end)
    assert (caught.value.code, caught.value.where) == ("position_off_tape", "tape[3]")


def test_sources_are_read_on_where_they_were_committed_and_nowhere_else() -> None:
    ranges = {
        ("orders", 0): LogRange(begin=5, end=9, committed=None),
        ("orders", 1): LogRange(begin=5, end=9, committed=5),
        ("orders", 2): LogRange(begin=5, end=9, committed=9),
    }
    assert source_starts(ranges) == {("orders", 0): 5, ("orders", 1): 5, ("orders", 2): 9}
    for committed in (4, 10):
        with pytest.raises(InputError) as caught:
            source_starts({("orders", 3): LogRange(begin=5, end=9, committed=committed)})
        assert (caught.value.code, caught.value.where) == ("source_cut", "orders[3]")


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def write_state(settings: Settings, records: list[tuple[str, bytes | None]]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for key, value in records:
        producer.produce(settings.topics.prefix + "state", key=key, value=value, partition=1)
    producer.flush()


def recovery(settings: Settings, factory: CountingFactory) -> Recovery:
    return Recovery(settings, factory, lambda output: None, deadline_s=30.0)


def manifest(position: int) -> bytes:
    return orjson.dumps({"position": position, "seen": {}, "duplicates": 0})


@pytest.mark.kafka
def test_the_last_value_of_each_key_is_restored_and_tombstones_are_not(settings: Settings) -> None:
    write_state(
        settings,
        [
            ("count/A", b"1"),
            ("count/B", b"1"),
            ("count/A", b"2"),
            ("count/B", None),
            ("manifest", manifest(-1)),
        ],
    )
    factory = CountingFactory()
    held = recovery(settings, factory).take_over(1, 7, lambda: True)
    assert (held.partition, held.generation, held.engine.position) == (1, 7, -1)
    assert factory.engines[1].counts == {"A": 2}


@pytest.mark.kafka
def test_a_state_ahead_of_its_tape_is_refused(settings: Settings) -> None:
    write_state(settings, [("manifest", manifest(41))])
    with pytest.raises(InputError) as caught:
        recovery(settings, CountingFactory()).take_over(1, 1, lambda: True)
    assert (caught.value.code, caught.value.value) == ("position_off_tape", "41")


@pytest.mark.kafka
def test_an_abandoned_take_over_fences_nobody(settings: Settings) -> None:
    parts = recovery(settings, CountingFactory())
    owner = parts.take_over(1, 1, lambda: True)
    with pytest.raises(NoLongerOurs):
        parts.take_over(1, 2, lambda: False)
    batch = owner.engine.apply(
        [
            (
                0,
                orjson.dumps(
                    {
                        "source": {"topic": "orders", "partition": 0, "offset": 0},
                        "event": order(0, "A"),
                    }
                ),
            )
        ]
    )
    owner.outbox.commit(batch)  # it would raise Fenced
    # the broker writes a transaction's markers a moment after it has answered
    wait_until(lambda: state_of(settings) == {"A": 1}, "the committed state")


@pytest.mark.kafka
def test_a_restart_goes_on_where_the_last_worker_stopped(settings: Settings) -> None:
    shop = Shop(settings)
    shop.send("products", (listing(sku) for sku in SKUS))
    first, second = CountingFactory(), CountingFactory()
    with WorkerThread(settings, first) as worker:
        shop.send("orders", (order(number) for number in range(1_000)))
        assert worker.progress.wait_idle(WAIT_S)
    with WorkerThread(settings, second) as worker:
        shop.send("orders", (order(number) for number in range(1_000, 1_500)))
        assert worker.progress.wait_idle(WAIT_S)
    assert (first.restored, second.restored) == (0, 4)
    assert sum(engine.duplicates for engine in second.engines.values()) == 0
    assert_exactly_once(settings, "products", "orders")


@pytest.mark.kafka
def test_partitions_that_stay_keep_their_engines_over_a_join(
    settings: Settings, tmp_path: Path
) -> None:
    shop = Shop(settings)
    shop.send("products", (listing(sku) for sku in SKUS))
    factory = CountingFactory()
    with WorkerThread(settings, factory) as worker, workers(settings, tmp_path) as start:
        shop.send("orders", (order(number) for number in range(500)))
        assert worker.progress.wait_idle(WAIT_S)
        before = dict(factory.engines)
        start("w2")
        shop.send("orders", (order(number) for number in range(500, 1_000)))
        until_applied(settings, "products", "orders")
        assert factory.restored == 0
        assert factory.engines == before
    assert_exactly_once(settings, "products", "orders")


@pytest.mark.kafka
def test_a_source_that_lost_unread_records_is_not_skipped(settings: Settings) -> None:
    shop = Shop(settings)
    shop.send("products", [listing("A")])
    with WorkerThread(settings, CountingFactory()) as worker:
        assert worker.progress.wait_idle(WAIT_S)
    group = {"group.id": kafka_settings.group_id(settings)}
    consumer = Consumer({**kafka_settings.reader_config(settings, "x"), **group})
    ahead = TopicPartition(settings.topics.prefix + "orders", 2, 1_000)
    consumer.commit(offsets=[ahead], asynchronous=False)
    consumer.close()
    with pytest.raises(InputError) as caught:
        with_a_worker(settings, lambda worker: worker.progress.wait_idle(WAIT_S))
    assert (caught.value.code, caught.value.exit_code) == ("source_cut", 3)
    assert caught.value.where == f"{settings.topics.prefix}orders[2]"


@pytest.mark.kafka
def test_a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Needs a broker of its own; the fixture says that its jars are there."""
    folder = tmp_path / "broker"

    def broker(*arguments: str) -> str:
        command = [str(ROOT / "infra/kafka/broker"), *arguments, "--data", str(folder)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        return done.stdout.strip()

    bootstrap = broker("start", "--port", "0")
    try:
        settings = fresh_topics(bootstrap)
        shop = Shop(settings)
        shop.send("products", (listing(sku) for sku in SKUS))
        with workers(settings, tmp_path) as start:
            worker = start()
            shop.send("orders", (order(number) for number in range(5_000)))
            until_state_grows(settings, 500)
            broker("stop", "--kill")
            broker("start")
            Shop(settings).send("orders", (order(number) for number in range(5_000, 6_000)))
            until_applied(settings, "products", "orders")
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
        assert_exactly_once(settings, "products", "orders")
        with reader.opened(settings, "test") as consumer:
            assert reader.partitions_of(consumer, settings.topics.prefix + "tape") == 4
        assert read_topic(settings, "dead-letter") == []
    finally:
        broker("stop", "--kill")


@pytest.mark.kafka
def test_another_engine_than_the_last_is_announced_on_the_tape(settings: Settings) -> None:
    """Decisions name their engine in any case; the tape says where it changed."""

    class Announcing(CountingEngine):
        def announcement(self, source_offset: int, worker: str, version: str) -> bytes | None:
            return orjson.dumps([source_offset, worker])

    class AnnouncingFactory(CountingFactory):
        def new(self, partition: int) -> CountingEngine:
            return Announcing(partition)

    recovery(settings, AnnouncingFactory()).take_over(1, 1, lambda: True)
    recovery(settings, CountingFactory()).take_over(2, 1, lambda: True)
    [said] = read_topic(settings, "tape")
    assert (said.partition(), said.key(), orjson.loads(said.value())) == (
        1, None, [0, settings.worker.id],
    )  # fmt: skip
