"""Debian's Burrow beside a broker that it is too old for.

Burrow 1.2.1 speaks Kafka up to 2.1 and wants a ZooKeeper. Kafka 4 no longer answers its question
for ends of logs (ListOffsets version 0), and writes commits in a version (4) that it can't decode.
So it is given what it knows: `OldBroker` answers in the protocol of Kafka 0.8.2 with what the real
broker has, commit by commit and end by end, and `NoZooKeeper` lets it start. What Burrow then does,
its own reading of commits, its windows and its evaluator, is Burrow's.
"""

import json
import shutil
import socket
import socketserver
import struct
import subprocess
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from streams.kafka import reader
from streams.lag.commit_log import COMMIT_LOG, decode_commit

PROGRAM = "Burrow"
START_S = 30.0
POLL_S = 0.05


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


class _Handler(socketserver.BaseRequestHandler):
    """Frames of a length and a body, in and out."""

    def exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self.request.recv(size - len(got))
            if not part:
                raise EOFError
            got += part
        return got

    def frame(self) -> bytes:
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def reply(self, body: bytes) -> None:
        self.request.sendall(struct.pack(">i", len(body)) + body)

    def handle(self) -> None:
        with suppress(EOFError, OSError):  # Burrow is gone
            self.serve()

    def serve(self) -> None:
        raise NotImplementedError


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    owner: Any = None


@contextmanager
def listening(handler: type[_Handler], owner: Any = None) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), handler) as server:
        server.owner = owner
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class NoZooKeeper(_Handler):
    """Says yes to everything that Burrow asks of ZooKeeper: it only creates nodes."""

    def serve(self) -> None:
        hello = self.frame()
        (timeout_ms,) = struct.unpack_from(">i", hello, 12)
        self.reply(struct.pack(">iiqi", 0, timeout_ms, 1, 16) + bytes(16))
        while True:
            request = self.frame()
            xid, operation = struct.unpack_from(">ii", request)
            path = b""
            if operation == 1:  # create: the path comes back
                path = request[8 : 12 + struct.unpack_from(">i", request, 8)[0]]
            self.reply(struct.pack(">iqi", xid, 1, 0) + path)


class OldBroker:
    """A broker of Kafka 0.8.2 in front of a real one, for some topics.

    Parameters
    ----------
    topics : topic -> its number of partitions
    """

    def __init__(self, bootstrap: str, topics: dict[str, int]) -> None:
        self.topics = {**topics, COMMIT_LOG: 1}
        self.address = ("", 0)
        self.changed = threading.Condition()
        self.commits: list[bytes] = []  # messages of our one commit partition
        self.ends_told = 0  # answers that had the ends of topics
        self.following = False  # Burrow waits for commits
        self._config = {
            "bootstrap.servers": bootstrap, "group.id": "old-broker", "enable.auto.commit": False,
            "isolation.level": "read_committed", "fetch.wait.max.ms": 10,
        }  # fmt: skip
        self._asking = threading.Lock()
        self._asker = Consumer(self._config)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._copy_commits, daemon=True)

    @contextmanager
    def running(self) -> Iterator[str]:
        self._thread.start()
        with listening(_OldBrokerHandler, self) as address:
            host, port = address.split(":")
            self.address = host, int(port)
            yield address
        self._ending.set()
        self._thread.join()
        self._asker.close()

    def end(self, topic: str, partition: int) -> int:
        if topic == COMMIT_LOG:
            return len(self.commits)
        with self._asking:
            return reader.log_range(self._asker, topic, partition)[1]

    def wait_for_ends(self) -> None:
        """Wait until Burrow has been told ends that are from now on."""
        with self.changed:
            # the answer under way may be of before: the one after it is not
            wanted = self.ends_told + 2
            assert self.changed.wait_for(lambda: self.ends_told >= wanted, 30)

    def _copy_commits(self) -> None:
        consumer = Consumer(self._config)
        count = len(consumer.list_topics(COMMIT_LOG, timeout=10).topics[COMMIT_LOG].partitions)
        places = [TopicPartition(COMMIT_LOG, number) for number in range(count)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign(places)
        while not self._ending.is_set():
            for message in consumer.consume(100, POLL_S):
                if message.error() is None and message.value() is not None:
                    self._take(message.key(), message.value(), message.timestamp()[1])
        consumer.close()

    def _take(self, key: bytes, value: bytes, written_ms: int) -> None:
        commit = decode_commit(key, value, written_ms)
        if commit is None:
            return
        old_value = struct.pack(">hqhqq", 1, commit.offset, 0, commit.time_ms, -1)
        body = struct.pack(">bb", 0, 0)
        for part in (key, old_value):
            body += struct.pack(">i", len(part)) + part
        message = struct.pack(">I", zlib.crc32(body)) + body
        with self.changed:
            at = struct.pack(">qi", len(self.commits), len(message))
            self.commits.append(at + message)
            self.changed.notify_all()


class _OldBrokerHandler(_Handler):
    """Kafka's protocol, version 0 of three requests."""

    def serve(self) -> None:
        answers = {1: self.fetch, 2: self.list_offsets, 3: self.metadata}
        while True:
            request = Reader(self.frame())
            api, version, correlation = request.take(">hhi")
            request.text()
            assert (api in answers, version) == (True, 0), (api, version)
            self.reply(struct.pack(">i", correlation) + answers[api](request))

    @property
    def broker(self) -> OldBroker:
        return self.server.owner

    def metadata(self, request: "Reader") -> bytes:
        host, port = self.broker.address
        (count,) = request.take(">i")
        names = [request.text() for _ in range(count)] or list(self.broker.topics)
        out = struct.pack(">ii", 1, 1) + text(host) + struct.pack(">ii", port, len(names))
        for name in names:
            partitions = self.broker.topics.get(name, 0)
            out += struct.pack(">h", 0 if partitions else 3) + text(name)
            out += struct.pack(">i", partitions)
            for number in range(partitions):
                out += struct.pack(">hiiiiii", 0, number, 1, 1, 1, 1, 1)
        return out

    def list_offsets(self, request: "Reader") -> bytes:
        request.take(">i")
        (topics,) = request.take(">i")
        out, asked = struct.pack(">i", topics), set()
        for _ in range(topics):
            name = request.text()
            asked.add(name)
            (partitions,) = request.take(">i")
            out += text(name) + struct.pack(">i", partitions)
            for _ in range(partitions):
                number, time_ms, _ = request.take(">iqi")
                offset = 0 if time_ms == -2 else self.broker.end(name, number)
                out += struct.pack(">ihiq", number, 0, 1, offset)
        if asked - {COMMIT_LOG}:
            with self.broker.changed:
                self.broker.ends_told += 1
                self.broker.changed.notify_all()
        return out

    def fetch(self, request: "Reader") -> bytes:
        _, wait_ms, _, topics, *_ = request.take(">iiii")
        assert topics == 1
        name = request.text()
        _, number, offset, _ = request.take(">iiqi")
        commits, changed = self.broker.commits, self.broker.changed
        with changed:
            self.broker.following = True
            changed.notify_all()
            changed.wait_for(lambda: len(commits) > offset, wait_ms / 1000)
            messages = b"".join(commits[offset:])
            end = len(commits)
        out = struct.pack(">i", 1) + text(name) + struct.pack(">i", 1)
        return out + struct.pack(">ihqi", number, 0, end, len(messages)) + messages


class Reader:
    """Takes values from the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return found

    def text(self) -> str:
        (length,) = self.take(">h")
        self.at += length
        return self.data[self.at - length : self.at].decode()


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


CONFIG = """
[general]
pidfile="{folder}/burrow.pid"
[logging]
filename="{folder}/burrow.log"
level="warn"
[zookeeper]
servers=["{zookeeper}"]
timeout=6
root-path="/burrow"
[client-profile.old]
client-id="burrow"
kafka-version="0.8.2"
[cluster.real]
class-name="kafka"
servers=["{broker}"]
client-profile="old"
topic-refresh=1
offset-refresh=1
[consumer.real]
class-name="kafka"
cluster="real"
servers=["{broker}"]
client-profile="old"
[httpserver.default]
address="127.0.0.1:{port}"
[storage.default]
class-name="inmemory"
workers=1
intervals=10
min-distance=0
[evaluator.default]
class-name="caching"
expire-cache=1
"""


class Burrow:
    """A running Burrow's answers."""

    def __init__(self, port: int, broker: OldBroker) -> None:
        self._port = port
        self.broker = broker

    def partitions(self, group: str) -> dict[tuple[str, int], dict[str, Any]]:
        """What it says of each partition of a group (``/lag`` names all); none if it knows none."""
        path = f"http://127.0.0.1:{self._port}/v3/kafka/real/consumer/{group}/lag"
        try:
            with urllib.request.urlopen(path, timeout=10) as answer:
                found = json.loads(answer.read())["status"]
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return {}
        return {(row["topic"], row["partition"]): row for row in found["partitions"]}


@contextmanager
def burrow(bootstrap: str, topics: dict[str, int], folder: Path) -> Iterator[Burrow]:
    """Burrow, following all commits from here on."""
    broker = OldBroker(bootstrap, topics)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with listening(NoZooKeeper) as zookeeper, broker.running() as address:
        (folder / "burrow.toml").write_text(
            CONFIG.format(folder=folder, zookeeper=zookeeper, broker=address, port=port)
        )
        program = subprocess.Popen(
            [PROGRAM, "-config-dir", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with broker.changed:
                started = broker.changed.wait_for(
                    lambda: broker.following and broker.ends_told > 0, START_S
                )
            assert started, (folder / "burrow.log").read_text()[-2000:]
            yield Burrow(port, broker)
        finally:
            program.terminate()
            program.wait(10)
