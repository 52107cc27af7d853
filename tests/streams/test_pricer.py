"""The pricer: batches in order, a fold that fails stops the worker, and nothing is lost by it."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import orjson
import pytest

from schemas.errors import EngineError
from streams.settings import Settings
from streams.worker.pricer import check_contiguous, publisher_gate
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import Batch, CountingEngine, CountingFactory, Output
from tests.streams.spine import (
    SKUS,
    Shop,
    assert_exactly_once,
    fresh_topics,
    listing,
    order,
    read_topic,
    sent_of,
    state_of,
    with_a_worker,
    without_controls,
    workers,
)

WAIT_S = 60.0


@pytest.mark.parametrize(
    ("position", "offsets", "wrong"),
    [
        (-1, [0, 1, 2], None),
        (9, [10], None),
        (9, [11], 11),  # one is missing at the start
        (9, [9, 10], 9),  # one was applied already
        (9, [10, 12], 12),  # one is missing inside
        (9, [10, 10], 10),
    ],
)
def test_offsets_follow_the_position_one_by_one(
    position: int, offsets: list[int], wrong: int | None
) -> None:
    records = [(offset, b"") for offset in offsets]
    if wrong is None:
        check_contiguous(2, position, records)
        return
    with pytest.raises(EngineError) as caught:
        check_contiguous(2, position, records)
    assert (caught.value.code, caught.value.where) == ("tape_jump", f"tape[2]@{wrong}")


def test_the_gate_looks_at_prices_only() -> None:
    publisher_gate(Output("alerts", b"k", b"not a decision"))
    with pytest.raises(msgspec.DecodeError):
        publisher_gate(Output("prices", b"k", b"not a decision"))


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    settings = fresh_topics(kafka_bootstrap)
    Shop(settings).send("products", (listing(sku) for sku in SKUS))
    return settings


@pytest.mark.kafka
def test_a_year_of_orders_is_priced_once_each(settings: Settings) -> None:
    factory = CountingFactory()
    with WorkerThread(settings, factory) as worker:
        Shop(settings).send("orders", (order(number) for number in range(5_000)))
        assert worker.progress.wait_idle(WAIT_S)
        tape_ends = worker.progress.end_offsets(["tape"])
        done = worker.progress.offsets()
    assert {place: done[place] for place in tape_ends} == tape_ends
    assert_exactly_once(settings, "products", "orders")
    assert sum(engine.duplicates for engine in factory.engines.values()) == 0


@pytest.mark.kafka
def test_batches_are_as_large_as_allowed_and_no_larger(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap, chunk_records=100, batch_records=250)
    Shop(settings).send("products", [listing("A")])
    Shop(settings).send("orders", (order(number, "A") for number in range(3_000)))
    sizes: list[int] = []

    class Measured(CountingEngine):
        def apply(self, records: Sequence[tuple[int, bytes]]) -> Batch:
            sizes.append(len(records))
            return super().apply(records)

    class Factory(CountingFactory):
        def new(self, partition: int) -> CountingEngine:
            return Measured(partition)

    with WorkerThread(settings, Factory()) as worker:
        assert worker.progress.wait_idle(WAIT_S)
    assert sum(sizes) == len(read_topic(settings, "tape"))
    assert max(sizes) <= 250
    assert max(sizes) > 100  # chunks that wait go into one transaction


@pytest.mark.kafka
def test_a_fold_that_fails_stops_the_worker_and_loses_nothing(settings: Settings) -> None:
    shop = Shop(settings)
    before: dict[str, int] = {}

    def load_with_a_bug(worker: WorkerThread) -> None:
        shop.send("orders", (order(number) for number in range(300)))
        assert worker.progress.wait_idle(WAIT_S)
        before.update(without_controls(state_of(settings)))
        shop.send("orders", [{**order(300, "SKU-00"), "event_id": "bug"}])
        shop.send("orders", (order(number) for number in range(301, 600)))
        worker.progress.wait_idle(WAIT_S)

    with pytest.raises(EngineError) as caught:
        with_a_worker(settings, load_with_a_bug)
    assert caught.value.code == "fold_failed"
    assert caught.value.exit_code == 1
    assert "FoldBug: an event that the fold cannot bear" in caught.value.message
    where = caught.value.where or ""
    assert where.startswith("tape[")

    class Mended(CountingEngine):
        def _fold(self, offset: int, record: dict, outputs: list, changed: dict) -> None:
            event = {**record["event"], "event_id": record["event"]["event_id"] + "-mended"}
            super()._fold(offset, {**record, "event": event}, outputs, changed)

    class MendedFactory(CountingFactory):
        def restore(self, partition: int, records: object) -> CountingEngine:
            engine = Mended.restored(partition, records)  # type: ignore[arg-type]
            self.engines[partition] = engine
            return engine

    assert sum(before.values()) == 300 + len(SKUS)
    with WorkerThread(settings, MendedFactory()) as worker:
        assert worker.progress.wait_idle(WAIT_S)
    assert_exactly_once(settings, "products", "orders")
    assert sum(sent_of(settings, "orders").values()) == 600


@pytest.mark.kafka
def test_a_worker_process_with_a_bug_in_the_fold_exits_with_1_and_says_where(
    settings: Settings, tmp_path: Path
) -> None:
    shop = Shop(settings)
    with workers(settings, tmp_path) as start:
        worker = start()
        shop.send("orders", [{**order(1, "SKU-00"), "event_id": "bug"}])
        assert worker.wait() == 1
    log = worker.text()
    assert "FoldBug: an event that the fold cannot bear" in log
    [message] = [m for m in read_topic(settings, "tape") if b'"bug"' in m.value()]
    assert f"tape[{message.partition()}]@" in log


@pytest.mark.kafka
def test_a_gap_on_the_tape_stops_the_worker(settings: Settings) -> None:
    from confluent_kafka import Producer

    tape_record = orjson.dumps(
        {"source": {"topic": "orders", "partition": 0, "offset": 0}, "event": order(0, "A")}
    )
    intruder = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap, "transactional.id": settings.topics.prefix}
    )
    name = settings.topics.prefix + "tape"
    intruder.init_transactions(WAIT_S)

    def intrude(worker: WorkerThread) -> None:
        assert worker.progress.wait_idle(WAIT_S)
        for _ in range(2):  # the first transaction's marker takes an offset and is no record
            intruder.begin_transaction()
            intruder.produce(name, value=tape_record, partition=0)
            intruder.commit_transaction(WAIT_S)
        worker.progress.wait_idle(WAIT_S)

    with pytest.raises(EngineError) as caught:
        with_a_worker(settings, intrude)
    assert caught.value.code == "tape_jump"
    assert (caught.value.where or "").startswith("tape[0]@")
