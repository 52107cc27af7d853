"""Where verify reads a history: a broker, or files. Every read is by offset: no group is joined."""

import gzip
import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from confluent_kafka import Consumer, Message

from schemas import topics
from schemas.errors import InputError, ServiceError
from schemas.state import Manifest
from streams.kafka_settings import reader_config, topic_name
from streams.reader import log_range, read_to_end, require_partitions, stream_range
from streams.tape_selection import SourceSpec
from streams.tape_sources import READ_DEADLINE_S, open_source
from streams.verify_order import Entry

PAGE_RECORDS = 1_000
SMALL_QUEUE = {"queued.max.messages.kbytes": 8_192}  # there is one reader a partition


class Committed(NamedTuple):
    """How far a tape partition is to be verified; ``manifest`` is the pricer's, where it is known.

    ``last_offset`` is -1 where nothing is.
    """

    last_offset: int
    manifest: Manifest | None = None


class History(Protocol):
    """A tape and what was published from it."""

    def committed(self) -> list[Committed]:
        """By tape partition; asked for before anything else is read."""

    def tape(self, number: int, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """A tape partition's records (offset, value) from ``first`` to ``last``."""

    def tape_end(self, number: int) -> int:
        """The offset after a tape partition's last record, as it is now."""

    def price_partitions(self) -> int:
        """How many partitions `prices` has."""

    def page(self, partition: int, place: int | None) -> list[Entry]:
        """Some entries of `prices` from a place on (None: its beginning); empty at the end."""

    def latest(self) -> Iterator[tuple[bytes, bytes]] | None:
        """The live records of `prices-latest`; None where there is no such topic."""

    def thrown_ms(self) -> dict[int, int]:
        """Offsets on `controls` of kill switches thrown on, with when each was written."""

    def close(self) -> None:
        """Let what is open go."""


class KafkaHistory:
    """The history on a broker, up to what the pricer had committed when it was asked."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._consumer = Consumer(reader_config(settings, "verify"))
        self._tape = topic_name(settings, topics.TAPE.name)
        self._topic = topic_name(settings, topics.PRICES.name)
        self._ranges: dict[int, tuple[int, int]] = {}
        self._consumers: dict[int, Consumer] = {}  # one a partition of `prices`
        self._streams: dict[int, tuple[int, Iterator[Message]]] = {}  # with the place they are at

    def committed(self) -> list[Committed]:
        """From the manifests, which the pricer writes with its decisions in one transaction."""
        count = require_partitions(self._consumer, self._tape)
        state, found = topic_name(self._settings, topics.STATE.name), []
        for number in range(count):
            manifest = None
            for message in read_to_end(self._consumer, state, number, READ_DEADLINE_S):
                if message.key() == b"manifest" and message.value() is not None:
                    manifest = msgspec.json.decode(message.value(), type=Manifest)
            found.append(Committed(-1 if manifest is None else manifest.position, manifest))
        for partition in range(require_partitions(self._consumer, self._topic)):
            self._ranges[partition] = log_range(self._consumer, self._topic, partition)
        return found

    def tape(self, number: int, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """From the broker; its first record must still be there."""
        if last < first:
            return
        begin, _ = log_range(self._consumer, self._tape, number)
        if begin > first:
            raise InputError(
                "tape_cut",
                f"the tape begins at offset {begin}; expected {first}.",
                where=f"{self._tape}[{number}]",
                fix="Give the checkpoint of a replay that went further with --from-checkpoint, "
                "or an export that has the beginning.",
            )
        for message in stream_range(self._consumer, self._tape, number, first, last + 1):
            yield message.offset(), message.value()

    def tape_end(self, number: int) -> int:
        """As the broker says."""
        return log_range(self._consumer, self._tape, number)[1]

    def price_partitions(self) -> int:
        """As the broker says."""
        return len(self._ranges)

    def page(self, partition: int, place: int | None) -> list[Entry]:
        """Up to `PAGE_RECORDS` committed records; read on where the last page ended."""
        begin, end = self._ranges[partition]
        place = begin if place is None else place
        at, stream = self._streams.pop(partition, (-1, iter(())))
        if at != place:
            consumer = self._consumers.get(partition)
            if consumer is None:
                consumer = self._consumers[partition] = Consumer(
                    {**reader_config(self._settings, "verify"), **SMALL_QUEUE}
                )
            stream = stream_range(consumer, self._topic, partition, place, end)
        found = [
            Entry(
                message.value() or b"",
                partition,
                message.offset(),
                message.offset() + 1,
                message.timestamp()[1],
            )
            for message in islice(stream, PAGE_RECORDS)
        ]
        if found:
            self._streams[partition] = (found[-1].next_place, stream)
        return found

    def close(self) -> None:
        """Let the broker go."""
        for consumer in (self._consumer, *self._consumers.values()):
            consumer.close()

    def latest(self) -> Iterator[tuple[bytes, bytes]]:
        """Partition by partition, the last value of each product."""
        topic = topic_name(self._settings, topics.PRICES_LATEST.name)
        for partition in range(require_partitions(self._consumer, topic)):
            live: dict[bytes, bytes] = {}
            for message in read_to_end(self._consumer, topic, partition, READ_DEADLINE_S):
                live[message.key() or b""] = message.value()
            yield from live.items()

    def thrown_ms(self) -> dict[int, int]:
        """By what the commands' records say; whether one is a command is seen on the tape."""
        topic = topic_name(self._settings, topics.CONTROLS.name)
        return {
            message.offset(): message.timestamp()[1]
            for message in read_to_end(self._consumer, topic, 0, READ_DEADLINE_S)
            if b'"kill_switch_on"' in (message.value() or b"")
        }


class FileHistory:
    """A tape from any source but Kafka and its decisions from a file, one JSON object a line.

    Decisions stand in the tape's order by tape partition, as ``replay --out`` writes them.
    """

    def __init__(self, settings: Any, spec: SourceSpec, decisions: Path) -> None:
        self._settings, self._spec, self._path = settings, spec, decisions
        self._file = _opened(decisions)

    def committed(self) -> list[Committed]:
        """To the end of the tape."""
        opened = open_source(self._spec, self._settings)
        last = [-1] * opened.partitions
        for placed in opened.records:
            last[placed.partition] = placed.offset
        return [Committed(offset) for offset in last]

    def tape(self, number: int, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """The source once more, of one partition."""
        opened = open_source(self._spec.only(frozenset([number])), self._settings)
        with opened.faults():
            for placed in opened.records:
                if first <= placed.offset <= last:
                    yield placed.offset, placed.value

    def tape_end(self, number: int) -> int:
        """A file has ended: nothing beyond is on the tape."""
        return 0

    def price_partitions(self) -> int:
        """One file."""
        return 1

    def page(self, partition: int, place: int | None) -> list[Entry]:
        """Some lines; a place is the offset of a line's first byte."""
        position, found = place or 0, []
        try:
            self._file.seek(position)
            for line in islice(self._file, PAGE_RECORDS):
                position += len(line)
                found.append(Entry(line.rstrip(), partition, position - len(line), position))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                "damaged_file",
                f"the archive ends too early or is damaged ({error}).",
                where=str(self._path),
                expected="a complete gzip file",
                fix="Copy or make the file again.",
            ) from error
        return found

    def latest(self) -> None:
        """A file of decisions has none beside it."""

    def thrown_ms(self) -> dict[int, int]:
        """None are known."""
        return {}

    def close(self) -> None:
        """Close the file of decisions."""
        self._file.close()


def _opened(path: Path) -> io.BufferedReader:
    try:
        if path.suffix == ".gz":
            return io.BufferedReader(gzip.open(path))  # type: ignore[arg-type]
        return path.open("rb")
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error}.", where=str(path), fix="Check the path and the file."
        ) from error
