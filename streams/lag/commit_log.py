"""The commits of all groups, with their exact times, from the broker's own log of them.

``__consumer_offsets`` is where a broker keeps what groups commit. Its keys and values are in
Kafka's own binary form, versioned: `group_coordinator` schemas ``OffsetCommitKey`` and
``OffsetCommitValue`` of Apache Kafka (versions 0 to 4 are read here).
"""

import struct
import time
from collections.abc import Collection
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import InputError, ServiceError
from streams.kafka import reader
from streams.kafka.kafka_settings import QUIET
from streams.lag.broker import ClientConfig

COMMIT_LOG = "__consumer_offsets"
TAIL_RECORDS_MAX = 50_000  # per partition, read back at the start
READ_DEADLINE_S = 60.0
_COMMIT_KEYS = (0, 1)  # others are members, shares, transactions
_EPOCH_FROM, _EXPIRES_IN, _COMPACT_FROM, _VERSION_MAX = 3, 1, 4, 4


class Committed(NamedTuple):
    """A commit as it was written; ``offset`` is None when it was deleted or has expired."""

    group: str
    topic: str
    partition: int
    offset: int | None
    time_ms: int


def partition_of(group: str, partitions: int) -> int:
    """The partition of the commit log that has a group's commits, as Kafka chooses it.

    >>> partition_of("pricemaker", 50)
    15
    """
    units = group.encode("utf-16-be")
    number = 0
    for (unit,) in struct.iter_unpack(">H", units):
        number = (31 * number + unit) & 0xFFFFFFFF
    number -= (number & 0x80000000) << 1  # Java's int is signed
    return (0 if number == -0x80000000 else abs(number)) % partitions


def decode_commit(key: bytes, value: bytes | None, written_ms: int) -> Committed | None:
    """One record of the commit log; None when it is no commit.

    Parameters
    ----------
    written_ms : the record's own time, for a deletion, which has none

    Raises
    ------
    InputError : a version that is not known here, or torn
    """
    try:
        if struct.unpack_from(">h", key)[0] not in _COMMIT_KEYS:
            return None
        group, at = _text(key, 2)
        topic, at = _text(key, at)
        (partition,) = struct.unpack_from(">i", key, at)
        if value is None:
            return Committed(group, topic, partition, None, written_ms)
        offset, time_ms = _value(value)
    except (struct.error, UnicodeDecodeError) as error:
        raise InputError("torn_commit", f"a commit can't be read: {error}.") from error
    return Committed(group, topic, partition, offset, time_ms)


def _value(value: bytes) -> tuple[int, int]:
    version, offset = struct.unpack_from(">hq", value)
    if not 0 <= version <= _VERSION_MAX:
        raise InputError(
            "unknown_commit_version",
            f"a commit was written in version {version}; expected 0 to {_VERSION_MAX}.",
            field="version", value=version, expected=f"0 to {_VERSION_MAX}",
            fix="The broker is newer than this program: update it, or report this.",
        )  # fmt: skip
    at = 14 if version >= _EPOCH_FROM else 10
    if version >= _COMPACT_FROM:
        length, at = _varint(value, at)
        at += length - 1
    else:
        (length,) = struct.unpack_from(">h", value, at)
        at += 2 + length
    return offset, struct.unpack_from(">q", value, at)[0]


def _text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", data, at)
    text, at = data[at + 2 : at + 2 + length], at + 2 + length
    return text.decode(), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        (byte,) = struct.unpack_from(">B", data, at)
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


class CommitLog:
    """Reads the commits of some groups (None: of all), again and again up to the present end.

    The first `read` begins `TAIL_RECORDS_MAX` records before the end of each partition, so a
    window is there at once.
    """

    def __init__(self, client: ClientConfig, groups: Collection[str] | None = None) -> None:
        self._groups = None if groups is None else frozenset(groups)
        self._next: dict[int, int] = {}
        self._consumer = Consumer(
            {
                **client,
                **QUIET,
                "group.id": "pricemaker-lag",  # never joined, nothing is committed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,
            }
        )

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()

    def read(self) -> list[Committed]:
        """What was committed since the last read.

        Raises
        ------
        KafkaException : the broker refuses: the commit log may not be for everybody
        ServiceError : the broker does not answer in time
        InputError : a commit that can't be read
        """
        if not self._next and not self._assign():
            return []  # nobody has committed anything on these brokers yet
        ends = {number: self._range(number)[1] for number in self._next}
        found: list[Committed] = []
        deadline = time.monotonic() + READ_DEADLINE_S
        while any(self._next[number] < end for number, end in ends.items()):
            for message in self._consumer.consume(
                reader.CONSUME_RECORDS_MAX, reader.CONSUME_WAIT_S
            ):
                self._take(message, found)
            if time.monotonic() > deadline:
                raise ServiceError(
                    "read_too_slow", f"reading took more than {READ_DEADLINE_S:.0f} s.",
                    where=COMMIT_LOG,
                )  # fmt: skip
        return found

    def _assign(self) -> bool:
        count = reader.partitions_of(self._consumer, COMMIT_LOG)
        if not count:
            return False
        numbers = (
            range(count)
            if self._groups is None
            else sorted({partition_of(group, count) for group in self._groups})
        )
        for number in numbers:
            begin, end = self._range(number)
            self._next[number] = max(begin, end - TAIL_RECORDS_MAX)
        self._consumer.assign(
            [TopicPartition(COMMIT_LOG, number, at) for number, at in self._next.items()]
        )
        return bool(self._next)

    def _range(self, number: int) -> tuple[int, int]:
        return reader.log_range(self._consumer, COMMIT_LOG, number)

    def _take(self, message: Any, found: list[Committed]) -> None:
        error, number = message.error(), message.partition()
        if error is None:
            self._next[number] = message.offset() + 1
            key = message.key()
            if key is None:
                return
            commit = decode_commit(key, message.value(), message.timestamp()[1])
            if commit is not None and (self._groups is None or commit.group in self._groups):
                found.append(commit)
        elif error.code() == KafkaError._PARTITION_EOF:
            # it may lie behind a transaction's marker, which is no message
            self._next[number] = max(self._next[number], message.offset())
        elif error.code() not in reader.PASSING:
            raise KafkaException(error)
