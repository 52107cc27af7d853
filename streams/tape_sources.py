"""Where a tape can be read from: a tape file, an event file (placed as intake would), or Kafka."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer

from schemas import tape, topics
from schemas.errors import EngineError, InputError, ServiceError
from streams.event_files import read_events
from streams.kafka_settings import reader_config, topic_name
from streams.reader import log_range, read_range, require_partitions
from streams.tape_builder import Placed, TapeBuilder

Progress = Callable[[float], None]
KAFKA = "kafka"
READ_DEADLINE_S = 3600.0


class TapeSource(NamedTuple):
    """Tape records in order of their partitions' offsets, and what could not go on the tape."""

    partitions: int
    records: Iterator[Placed]
    refused: Callable[[], int]


def open_source(
    source: str,
    settings: Any,
    partitions: int,
    progress: Progress | None = None,
    after: Mapping[int, int] | None = None,
) -> TapeSource:
    """Open ``kafka``, a tape file or an event file (told apart by its first line).

    Parameters
    ----------
    after : with Kafka, begin after these offsets, by partition; a file is read from its beginning

    Raises
    ------
    InputError : the file is neither
    ServiceError : file or broker cannot be reached
    """
    if source == KAFKA:
        return _kafka(settings, progress, after or {})
    path = Path(source)
    try:
        with _opened(path) as lines:
            first = lines.readline()
        size = max(path.stat().st_size, 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, 1, error) from error
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error}.", where=source, fix="Check the path and the file."
        ) from error
    share = None if progress is None else (lambda position: progress(position / size))
    if first.startswith(b'{"tape":'):
        return TapeSource(partitions, _tape_file(path), lambda: 0)
    builder = TapeBuilder(partitions)
    return TapeSource(partitions, _built(builder, path, share), lambda: builder.dead_letters)


def _built(
    builder: TapeBuilder, path: Path, progress: Callable[[int], None] | None
) -> Iterator[Placed]:
    for topic, value in read_events(path, progress):
        yield from builder.append(topic, value)


def _opened(path: Path) -> Any:
    return io.BufferedReader(gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _tape_file(path: Path) -> Iterator[Placed]:
    number = 0
    try:
        with _opened(path) as lines:
            for line in lines:
                number += 1
                position, value = tape.parse_line(line)
                yield Placed(position.partition, position.offset, value)
    except EngineError as error:
        raise InputError(
            "bad_tape_line", error.message, where=f"{path}:{number}", value=error.value
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, number + 1, error) from error


def _damaged(path: Path, number: int, error: Exception) -> InputError:
    return InputError(
        "damaged_file",
        f"the archive ends too early or is damaged ({error}).",
        where=f"{path}:{number}",
        expected="a complete gzip file",
        fix="Copy or make the file again.",
    )


def _kafka(settings: Any, progress: Progress | None, after: Mapping[int, int]) -> TapeSource:
    topic = topic_name(settings, topics.TAPE.name)
    consumer = Consumer(reader_config(settings, "replay"))
    partitions = require_partitions(consumer, topic)
    records = _kafka_records(consumer, topic, partitions, progress, after)
    return TapeSource(partitions, records, lambda: 0)


def _kafka_records(
    consumer: Consumer,
    topic: str,
    partitions: int,
    progress: Progress | None,
    after: Mapping[int, int],
) -> Iterator[Placed]:
    ranges = []
    for number in range(partitions):
        begin, end = log_range(consumer, topic, number)
        ranges.append((max(begin, after.get(number, -1) + 1), end))
    total = max(sum(end - begin for begin, end in ranges), 1)
    done = 0
    try:
        for number, (begin, end) in enumerate(ranges):
            for message in read_range(consumer, topic, number, begin, end, READ_DEADLINE_S):
                done += 1
                if progress is not None and done % 1000 == 0:
                    progress(done / total)
                yield Placed(number, message.offset(), message.value())
    finally:
        consumer.close()
