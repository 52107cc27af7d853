"""Chunks through Faust on a real broker: nothing lost, nothing twice, through every rebalance."""

import asyncio
import functools
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.settings import Settings
from streams.worker.lanes import Lane
from streams.worker.transport import App, BatchAbandoned, Chunk
from streams.worker.worker_progress import WorkerProgress
from tests.streams.spine import (
    SKUS,
    Shop,
    assert_exactly_once,
    fresh_topics,
    listing,
    order,
    returned,
    settings_for,
    until_applied,
    until_state_grows,
    workers,
)

EVENTS = 3_000


# -- chunks, epochs and lanes, without a broker


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))  # type: ignore[arg-type]

    return run


def app_without_broker(halted: list[BaseException]) -> App:
    settings = settings_for("127.0.0.1:1", "")

    async def start_offsets(ranges: object, still_ours: object) -> dict[TP, int]:
        return {}

    app = App(
        "test",
        halt=halted.append,
        start_offsets=start_offsets,
        progress=WorkerProgress(settings),
        worker=settings.worker,
        take_over_deadline_s=1.0,
        broker="kafka://127.0.0.1:1",
        autodiscover=False,
    )
    app.finalize()
    return app


TAPE_0 = TP("tape", 0)
RECORD = SimpleNamespace(offset=0, timestamp=0, timestamp_type=0)


def chunk_of(app: App, first: int, count: int) -> Chunk:
    """A chunk as the fetch loop hands it out."""
    records = [SimpleNamespace(offset=offset) for offset in range(first, first + count)]
    chunk = Chunk(TAPE_0, app.consumer.epoch, records)
    app.consumer._in_flight.setdefault(TAPE_0, deque()).append(chunk)
    return chunk


async def settled(lane: Lane) -> None:
    while lane._task is not None and not lane._task.done():
        await asyncio.sleep(0)


@in_a_loop
async def test_a_lane_takes_what_waits_up_to_its_limit_in_order() -> None:
    app = app_without_broker([])
    batches: list[list[int]] = []

    async def work(chunks: Sequence[Chunk]) -> None:
        batches.append([chunk.next_offset for chunk in chunks])
        await asyncio.sleep(0)

    lane = Lane(app, "test", work, batch_records=25)
    for first, count in [(0, 10), (10, 10), (20, 10), (30, 40), (70, 5)]:
        lane.put(chunk_of(app, first, count))
    await settled(lane)
    assert batches == [[10, 20], [30], [70], [75]]  # one chunk goes even if it is too large
    assert app.consumer._new_offset(TAPE_0) == 75
    assert app.progress.offsets() == {("tape", 0): 75}


@in_a_loop
async def test_a_chunk_of_an_earlier_epoch_is_neither_worked_on_nor_committed() -> None:
    app = app_without_broker([])
    worked: list[int] = []
    may_end = asyncio.Event()

    async def work(chunks: Sequence[Chunk]) -> None:
        worked.extend(chunk.next_offset for chunk in chunks)
        await may_end.wait()

    lane = Lane(app, "test", work, batch_records=10)
    lane.put(chunk_of(app, 0, 10))
    lane.put(chunk_of(app, 10, 10))
    await asyncio.sleep(0)
    assert worked == [10]  # the first is under way, the second waits
    app.consumer._begin_epoch()
    may_end.set()
    await settled(lane)
    assert worked == [10]
    assert app.consumer._new_offset(TAPE_0) is None
    assert app.progress.offsets() == {}
    lane.put(chunk_of(app, 0, 10))  # read again
    await settled(lane)
    assert (worked, app.consumer._new_offset(TAPE_0)) == ([10, 10], 10)


@in_a_loop
async def test_no_batch_begins_while_the_flow_is_stopped() -> None:
    app = app_without_broker([])
    worked: list[Chunk] = []

    async def work(chunks: Sequence[Chunk]) -> None:
        worked.extend(chunks)

    lane = Lane(app, "test", work, batch_records=10)
    lane.put(chunk_of(app, 0, 10))
    app.consumer.stop_flow()
    await settled(lane)
    assert (worked, app.consumer._new_offset(TAPE_0)) == ([], None)


@in_a_loop
async def test_chunks_are_done_in_order_or_it_is_a_bug() -> None:
    app = app_without_broker([])
    chunk_of(app, 0, 10)
    second = chunk_of(app, 10, 10)
    with pytest.raises(RuntimeError, match="out of order at 20"):
        app.consumer.done(second)


@pytest.mark.parametrize("error", [ValueError("bug"), BatchAbandoned("revoked")])
@in_a_loop
async def test_work_that_fails_is_not_acked_and_a_bug_ends_the_worker(error: Exception) -> None:
    halted: list[BaseException] = []
    app = app_without_broker(halted)

    async def work(chunks: Sequence[Chunk]) -> None:
        raise error

    lane = Lane(app, "test", work, batch_records=10)
    lane.put(chunk_of(app, 0, 10))
    await asyncio.wait([lane._task] if lane._task else [])
    assert app.consumer._new_offset(TAPE_0) is None
    assert halted == ([] if isinstance(error, BatchAbandoned) else [error])
    if lane._task is not None and not isinstance(error, BatchAbandoned):
        assert lane._task.exception() is error


def test_fausts_own_acks_count_for_nothing() -> None:
    app = app_without_broker([])
    message = app.consumer._message(Chunk(TAPE_0, 0, [RECORD]))
    assert message.ack(app.consumer) is False
    assert app.consumer._new_offset(TAPE_0) is None
    assert message.tracked  # Faust does not wait for it either


# -- on a real broker


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    settings = fresh_topics(kafka_bootstrap)
    Shop(settings).send("products", (listing(sku) for sku in SKUS))
    return settings


def load(settings: Settings, first: int, last: int) -> None:
    shop = Shop(settings)
    shop.send("orders", (order(number) for number in range(first, last)))
    shop.send("returns", (returned(number) for number in range(first, last, 3)))


SOURCES = ("products", "orders", "returns")


@pytest.mark.kafka
def test_a_join_and_a_graceful_stop_lose_and_double_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with workers(settings, tmp_path) as start:
        first = start("w1")
        load(settings, 0, EVENTS)
        second = start("w2")
        load(settings, EVENTS, 2 * EVENTS)
        until_state_grows(settings, EVENTS)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        load(settings, 2 * EVENTS, 2 * EVENTS + 500)
        until_applied(settings, *SOURCES)
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
    assert_exactly_once(settings, *SOURCES)


@pytest.mark.kafka
def test_kill_9_and_a_restart_lose_and_double_nothing(settings: Settings, tmp_path: Path) -> None:
    load(settings, 0, 20_000)
    with workers(settings, tmp_path) as start:
        first = start("w1")
        until_state_grows(settings, 2_000)
        first.signal(signal.SIGKILL)
        first.wait()
        load(settings, 20_000, 21_000)
        start("w1")
        until_applied(settings, *SOURCES)
    assert_exactly_once(settings, *SOURCES)


@pytest.mark.kafka
def test_a_stopped_worker_is_fenced_and_the_other_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    load(settings, 0, EVENTS)
    with workers(settings, tmp_path) as start:
        zombie = start("w1")
        until_state_grows(settings, 1_000)
        zombie.signal(signal.SIGSTOP)
        other = start("w2")
        load(settings, EVENTS, EVENTS + 1_000)
        until_applied(settings, *SOURCES)
        zombie.signal(signal.SIGCONT)
        load(settings, EVENTS + 1_000, EVENTS + 2_000)
        until_applied(settings, *SOURCES)
        other.signal(signal.SIGTERM)
        assert other.wait() == 0
    assert_exactly_once(settings, *SOURCES)
