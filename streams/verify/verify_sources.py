"""Where verify reads a history: a broker, or files. Every read is by offset: no group is joined."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from confluent_kafka import Consumer

from schemas import topics
from schemas.errors import InputError, ServiceError
from schemas.state import Manifest
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.kafka.reader import log_range, read_to_end, require_partitions, stream_range
from streams.tape.exports import Export
from streams.tape.packed_files import open_packed, packed_faults
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import READ_DEADLINE_S, open_source
from streams.verify.verify_order import Entry

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

    def prices(self, partition: int) -> Iterator[Entry]:
        """A partition of `prices` from its beginning; one reader of it at a time."""

    def latest(self) -> Iterator[tuple[bytes, bytes]] | None:
        """Keys and values of `prices-latest`, the last of a key counts; None: no such topic."""

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

    def prices(self, partition: int) -> Iterator[Entry]:
        """The committed records; each partition has a client, since several are read in turns."""
        consumer = self._consumers.get(partition)
        if consumer is None:
            consumer = self._consumers[partition] = Consumer(
                {**reader_config(self._settings, "verify"), **SMALL_QUEUE}
            )
        begin, end = self._ranges[partition]
        for message in stream_range(consumer, self._topic, partition, begin, end):
            at_ms = message.timestamp()[1]
            yield Entry(message.value() or b"", partition, message.offset(), at_ms)

    def close(self) -> None:
        """Let the broker go."""
        for consumer in (self._consumer, *self._consumers.values()):
            consumer.close()

    def latest(self) -> Iterator[tuple[bytes, bytes]]:
        """Partition by partition."""
        topic = topic_name(self._settings, topics.PRICES_LATEST.name)
        for partition in range(require_partitions(self._consumer, topic)):
            begin, end = log_range(self._consumer, topic, partition)
            for message in stream_range(self._consumer, topic, partition, begin, end):
                yield message.key() or b"", message.value() or b""

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
        if not decisions.is_file():
            raise ServiceError(
                "file_unreachable", "it is no file.", where=str(decisions),
                field="--decisions", fix="Check the path.",
            )  # fmt: skip

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
        for placed in opened.records:
            if first <= placed.offset <= last:
                yield placed.offset, placed.value

    def tape_end(self, number: int) -> int:
        """A file has ended: nothing beyond is on the tape."""
        return 0

    def price_partitions(self) -> int:
        """One file."""
        return 1

    def prices(self, partition: int) -> Iterator[Entry]:
        """Its lines; a place is a line's number, from 1."""
        number = 0
        with packed_faults(self._path, lambda: number + 1), open_packed(self._path) as (_, lines):
            for number, line in enumerate(lines, start=1):
                yield Entry(line.rstrip(), partition, number)

    def latest(self) -> None:
        """A file of decisions has none beside it."""

    def thrown_ms(self) -> dict[int, int]:
        """None are known."""
        return {}

    def close(self) -> None:
        """Nothing stays open."""


class ExportHistory:
    """An exported folder, up to the last offsets whose decisions are all in it."""

    def __init__(self, folder: Path) -> None:
        self._export = Export(folder)
        self._folder = folder

    def committed(self) -> list[Committed]:
        """As its manifest says."""
        decided = self._export.manifest.decided
        if decided is None:
            raise InputError(
                "no_decisions", "the export has no decisions.", where=str(self._folder),
                fix="Export again with --decisions, or give them with --decisions FILE.",
            )  # fmt: skip
        return [
            Committed(decided.get(str(number), -1)) for number in range(self._export.partitions)
        ]

    def tape(self, number: int, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """A partition's segments; the first record must be among them."""
        begin = self._export.log("tape").partitions[number].first
        if last >= first and begin is not None and begin > first:
            raise InputError(
                "tape_cut", f"the tape begins at offset {begin}; expected {first}.",
                where=f"{self._folder}, tape[{number}]",
                fix="Give a checkpoint with --from-checkpoint.",
            )  # fmt: skip
        for placed in self._export.records("tape", number, after=first - 1, end=last + 1):
            yield placed.offset, placed.value

    def tape_end(self, number: int) -> int:
        """As far as it was exported."""
        last = self._export.log("tape").partitions[number].last
        return 0 if last is None else last + 1

    def price_partitions(self) -> int:
        """As the topic had them."""
        return len(self._export.log("prices").partitions)

    def prices(self, partition: int) -> Iterator[Entry]:
        """With the offsets that they had on the topic."""
        for placed in self._export.records("prices", partition):
            yield Entry(placed.value, partition, placed.offset)

    def latest(self) -> None:
        """It is not exported: it follows from the decisions."""

    def thrown_ms(self) -> dict[int, int]:
        """None are known."""
        return {}

    def close(self) -> None:
        """Nothing stays open."""
