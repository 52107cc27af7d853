"""What the tests of the edge share: effective prices as the pricer writes them, and a Redis that a
test may stop, slow down and throw away.
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from confluent_kafka import Producer

from schemas.topics import CONTROLS, PRICES_LATEST
from streams.kafka import admin, reader
from streams.kafka.kafka_settings import pricer_producer_config
from streams.settings import Settings
from tests.models.tapes import at, event
from tests.streams.spine import WAIT_S, new_prefix, settings_for, wait_until

DECIDED_AT = "2026-01-01T00:00:00.000Z"


def edge_topics(bootstrap: str) -> Settings:
    """Settings with a prefix of their own, and the topics that the edge reads."""
    settings = settings_for(bootstrap, new_prefix())
    created = admin.create_topics(settings, partitions=4, topics=(CONTROLS, PRICES_LATEST))
    made = {topic.topic for topic in created}
    with reader.opened(settings, "test") as consumer:  # a broker knows of them a little later
        wait_until(lambda: made <= set(consumer.list_topics(timeout=WAIT_S).topics), "the topics")
    return settings


def price(sku: str, version: int, **fields: Any) -> bytes:
    """A record of ``prices-latest``, as far as anybody at the edge reads it."""
    return orjson.dumps(
        {
            "type": "price_decided",
            "sku": sku,
            "version": version,
            "price_id": f"{sku}@{version}",
            "price_minor": 1_000 + version,
            "previous_minor": 999 + version,
            "currency": "EUR",
            "status": "published",
            "effective_from": DECIDED_AT,
            "valid_until": None,
            "decided_at": DECIDED_AT,
            "record": None,
        }
        | fields
    )


def switch(word: str, minute: int) -> bytes:
    """An operator's command: the kill switch ``on`` or ``off``."""
    made = event("operator_command", at(minutes=minute), f"{word}-{minute}",
                 command=f"kill_switch_{word}")  # fmt: skip
    return orjson.dumps(made)


class Pricer:
    """Writes ``prices-latest`` in transactions, as the pricer does; and ``controls``."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topics.prefix
        self._producer = Producer(pricer_producer_config(settings, 0))
        self._producer.init_transactions()

    def publish(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        """One transaction of (SKU, value); None is a tombstone."""
        self._write(PRICES_LATEST.name, records)

    def control(self, value: bytes) -> None:
        self._write(CONTROLS.name, [(None, value)])

    def _write(self, topic: str, records: Iterable[tuple[str | None, bytes | None]]) -> None:
        self._producer.begin_transaction()
        for key, value in records:
            while True:
                try:
                    self._producer.produce(self._prefix + topic, value, key=key)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        self._producer.commit_transaction()


class RedisServer:
    """A Redis of the test's own. ``persistent``: it keeps what it has over a restart."""

    def __init__(self, folder: Path, *arguments: str, persistent: bool = False) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        keep = ("--appendonly", "yes", "--appendfsync", "always") if persistent else ()
        self._command = [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
            "--dir", str(folder), *keep, *arguments,
        ]  # fmt: skip
        self._log = (folder / "redis.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True, **options)

    def start(self, **options: Any) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        client = self.client(**options)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, "Redis answers")

    def pause(self) -> None:
        """It keeps its connections and says nothing any more."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.kill()
        self._log.close()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def own_redis(folder: Path, *arguments: str, persistent: bool = False) -> Iterator[RedisServer]:
    """A server that runs, gone at the end; skips where there is no ``redis-server``."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server not found; install Redis")
    server = RedisServer(folder, *arguments, persistent=persistent)
    try:
        server.start()
        yield server
    finally:
        server.end()


def with_redis(settings: Settings, url: str, **fields: Any) -> Settings:
    """The settings with this Redis, and a key prefix like the topics'."""
    given = {"url": url, "prefix": settings.topics.prefix, "timeout_s": 0.3} | fields
    return settings.model_copy(update={"redis": type(settings.redis)(**given)})
