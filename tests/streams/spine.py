"""What the tests of the spine share: settings, events, workers in processes, and the truth.

The truth is computed from the source topics and the tape alone, in other code than the worker's.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer

from schemas.topics import SOURCES
from streams.kafka import admin, reader
from streams.settings import Settings
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import CountingFactory

ROOT = Path(__file__).parents[2]
SKUS = tuple(f"SKU-{number:02d}" for number in range(37))
EVENT_TIME = "2026-01-01T00:00:00.000Z"
WAIT_S = 60.0
POLL_S = 0.05
# For a child process: a shell that runs the tests in the background has SIGINT ignored.
HEED_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def new_prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"


def settings_for(bootstrap: str, prefix: str, worker_id: str = "w1", **worker: Any) -> Settings:
    """Settings with a short session, so that a take-over takes seconds."""
    return Settings(
        kafka={"bootstrap": bootstrap, "session_timeout_s": 6.0, "request_timeout_s": 30.0},
        worker={"id": worker_id, "partitions": 4, **worker},
        topics={"prefix": prefix},
    )


def fresh_topics(bootstrap: str, **worker: Any) -> Settings:
    """Settings with a prefix of their own and all topics made."""
    settings = settings_for(bootstrap, new_prefix(), **worker)
    admin.create_topics(settings, partitions=4)
    return settings


# -- events


def listing(sku: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "product_listed",
        "event_id": f"list-{sku}",
        "event_time": EVENT_TIME,
        "sku": sku,
        "currency": "EUR",
        "category": "test",
        **fields,
    }


def order(number: int, sku: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "type": "order_placed",
        "event_id": f"order-{number}",
        "event_time": EVENT_TIME,
        "sku": sku or SKUS[number % len(SKUS)],
        "currency": "EUR",
        "order_id": f"order-{number}",
        "line_id": "1",
        "quantity": 1,
        "unit_price_minor": 999,
        **fields,
    }


def returned(number: int, sku: str | None = None) -> dict[str, Any]:
    return {
        "type": "order_returned",
        "event_id": f"return-{number}",
        "event_time": EVENT_TIME,
        "sku": sku or SKUS[number % len(SKUS)],
        "currency": "EUR",
        "order_id": f"order-{number}",
        "line_id": "1",
        "quantity": 1,
        "refund_minor": 999,
    }


class Shop:
    """Writes source topics as other systems would: Java's partitioner, no transactions."""

    def __init__(self, settings: Settings) -> None:
        self.prefix = settings.topics.prefix
        self.producer = Producer(
            {
                "bootstrap.servers": settings.kafka.bootstrap,
                "partitioner": "murmur2_random",
                "message.max.bytes": 4 * 1024 * 1024,
            }
        )

    def send(self, topic: str, events: Iterable[dict[str, Any]], **record: Any) -> None:
        """Send events keyed by SKU and wait until the broker has them."""
        for event in events:
            self.raw(topic, event.get("sku"), orjson.dumps(event), **record)
        self.producer.flush()

    def raw(self, topic: str, key: str | None, value: bytes | None, **record: Any) -> None:
        while True:
            try:
                self.producer.produce(self.prefix + topic, key=key, value=value, **record)
                return
            except BufferError:
                self.producer.poll(0.1)

    def flush(self) -> None:
        self.producer.flush()


# -- reading


def read_topic(settings: Settings, topic: str) -> list[Any]:
    """All committed records of a topic, partition by partition."""
    name = settings.topics.prefix + topic
    with reader.opened(settings, "test") as consumer:
        return [
            message
            for partition in range(reader.partitions_of(consumer, name))
            for message in reader.read_to_end(consumer, name, partition, WAIT_S)
        ]


def fold_of_tape(settings: Settings) -> dict[str, int]:
    """Events per SKU by the tape: each source offset once, whatever else is there."""
    counts: Counter[str] = Counter()
    highest: dict[tuple[int, str, int], int] = defaultdict(lambda: -1)
    for message in read_topic(settings, "tape"):
        record = orjson.loads(message.value())
        source = record["source"]
        place = (message.partition(), source["topic"], source["partition"])
        if source["offset"] > highest[place]:
            highest[place] = source["offset"]
            counts[record["event"].get("sku", "controls")] += 1
    return dict(counts)


def state_of(settings: Settings) -> dict[str, int]:
    """Events per SKU by the state topic; the manifests left out."""
    counts: Counter[str] = Counter()
    latest = {
        (message.partition(), message.key()): orjson.loads(message.value())
        for message in read_topic(settings, "state")
    }
    for (_, key), value in latest.items():
        if key != b"manifest":
            counts[key.decode().removeprefix("count/")] += value
    return dict(counts)


def versions_of(settings: Settings) -> dict[str, list[int]]:
    """The versions published per SKU, in the order they stand on the topic."""
    versions: dict[str, list[int]] = defaultdict(list)
    for message in read_topic(settings, "prices"):
        body = orjson.loads(message.value())
        if body["sku"] != "controls":  # these come from every partition
            versions[body["sku"]].append(body["version"])
    return dict(versions)


def sent_of(settings: Settings, *topics: str) -> dict[str, int]:
    """Events per SKU by the source topics themselves."""
    counts: Counter[str] = Counter()
    for topic in topics:
        for message in read_topic(settings, topic):
            counts[orjson.loads(message.value())["sku"]] += 1
    return dict(counts)


def without_controls(counts: dict[str, int]) -> dict[str, int]:
    return {sku: count for sku, count in counts.items() if sku != "controls"}


def assert_exactly_once(settings: Settings, *topics: str) -> None:
    """State = fold(tape) = sources, and versions without a gap or a repeat."""
    sent = sent_of(settings, *topics)
    assert without_controls(fold_of_tape(settings)) == sent
    assert without_controls(state_of(settings)) == sent
    assert versions_of(settings) == {sku: list(range(1, n + 1)) for sku, n in sent.items()}


def with_a_worker(settings: Settings, action: Callable[[WorkerThread], object]) -> None:
    """Do something beside a worker; raises what ended the worker."""
    with WorkerThread(settings, CountingFactory()) as worker:
        action(worker)


# -- workers in processes of their own


class WorkerProcess:
    """A worker with the counting engine in its own process; its log is kept for assertions."""

    def __init__(self, settings: Settings, log: Path, worker_id: str) -> None:
        self.log = log
        self._file = log.open("ab")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.streams.spine_worker",
                settings.kafka.bootstrap,
                settings.topics.prefix,
                worker_id,
                settings.worker.role,
            ],
            stderr=self._file,
            stdout=self._file,
            cwd=ROOT,
        )

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = WAIT_S) -> int:
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text()

    def until_log(self, text: str, count: int = 1) -> None:
        """Wait until the log has the text, this often."""

        def found() -> bool:
            if self.process.poll() is not None and self.text().count(text) < count:
                raise AssertionError(f"worker ended ({self.process.poll()}):\n{self.text()}")
            return self.text().count(text) >= count

        wait_until(found, f"{text!r} in {self.log}")

    def end(self) -> None:
        """However it stands: it must not outlive its test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self._file.close()


@contextmanager
def workers(settings: Settings, folder: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts workers; all of them are gone at the end."""
    started: list[WorkerProcess] = []

    def start(worker_id: str = "w1", *, ready: bool = True) -> WorkerProcess:
        log = folder / f"{worker_id}-{len(started)}.log"
        worker = WorkerProcess(settings, log, worker_id)
        started.append(worker)
        if ready:
            worker.until_log("is ready")
        return worker

    try:
        yield start
    finally:
        for worker in started:
            worker.end()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition; the time limit is for failures only."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(POLL_S)


def until_applied(settings: Settings, *topics: str) -> None:
    """Wait until the state has as many events per SKU as the sources."""
    sent = sent_of(settings, *topics)
    wait_until(lambda: without_controls(state_of(settings)) == sent, f"state = {sent}", 120.0)


def until_state_grows(settings: Settings, least: int) -> None:
    """Wait until the state has this many events."""
    wait_until(lambda: sum(state_of(settings).values()) >= least, f"{least} events applied")


def source_ends(settings: Settings) -> dict[tuple[str, int], int]:
    """End offsets of the source topics."""
    ends = {}
    with reader.opened(settings, "test") as consumer:
        for topic in SOURCES:
            name = settings.topics.prefix + topic.name
            for partition in range(reader.partitions_of(consumer, name)):
                ends[topic.name, partition] = reader.log_range(consumer, name, partition)[1]
    return ends
