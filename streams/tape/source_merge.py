"""The source topics merged by event time: a reconstruction, where no tape was kept.

Declared order: event time, topic rank, partition, offset. Within a partition the order of its
offsets stays: a record that is older than one before it counts as of that one's time, which is how
intake would have met it; how many these are, and by how much, is told. A record whose time can't be
read, or is ahead of intake's clock, stands at the time before it, and becomes a dead letter when
placed. At most a chunk of each partition is in memory.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from confluent_kafka import Consumer
from msgspec import Struct

from schemas.codec import Headers, decode_event
from schemas.errors import EventError
from schemas.tape import Source
from schemas.topics import (
    COMPETITOR_PRICES,
    CONTROLS,
    INVENTORY,
    ORDERS,
    PRODUCTS,
    RETURNS,
    SOURCES,
    TRAFFIC,
)
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.kafka.reader import log_range, read_range, require_partitions
from streams.tape.tape_builder import AHEAD_MS_MAX, NEVER_MS, Placed, TapeBuilder
from streams.tape.tape_kafka import READ_DEADLINE_S

# Who comes first at the same event time: what others need to be known or priced by.
ORDER = (PRODUCTS, CONTROLS, INVENTORY, COMPETITOR_PRICES, TRAFFIC, ORDERS, RETURNS)
RANK = {topic.name: rank for rank, topic in enumerate(ORDER)}
assert set(ORDER) == set(SOURCES)
CHUNK_RECORDS = 5_000
TICK_SOURCE = "reconstruction"  # the source named by ticks that no source topic has; no topic

Progress = Callable[[float], None]


class Raw(NamedTuple):
    """A record of a source topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Disorder(Struct):
    """How far partitions were from the order of event time; grows while they are read.

    ``missing``: partitions, as ``topic/number``, whose records below an offset are gone.
    """

    out_of_order: int = 0
    out_of_order_ms_max: int = 0
    missing: dict[str, int] = {}


class Place(NamedTuple):
    """Where a record stands in the declared order."""

    at_ms: int
    rank: int
    partition: int
    offset: int


def placed_in_time(
    records: Iterable[Raw], latest_ms: int, disorder: Disorder
) -> Iterator[tuple[Place, Raw]]:
    """A partition's records with their places, which never fall."""
    clock_ms = NEVER_MS
    for raw in records:
        at_ms = _event_time_ms(raw)
        if at_ms is not None and at_ms <= latest_ms:
            if at_ms < clock_ms:
                disorder.out_of_order += 1
                late_ms = clock_ms - at_ms
                disorder.out_of_order_ms_max = max(disorder.out_of_order_ms_max, late_ms)
            clock_ms = max(clock_ms, at_ms)
        yield Place(clock_ms, RANK[raw.topic], raw.partition, raw.offset), raw


def _event_time_ms(raw: Raw) -> int | None:
    try:
        return decode_event(raw.topic, raw.key, raw.value, raw.headers).event.event_time_ms
    except EventError:
        return None


def merged(
    partitions: Iterable[Iterable[Raw]], latest_ms: int, disorder: Disorder
) -> Iterator[Raw]:
    """The records of all partitions in the declared order; one of each is held."""
    streams = [placed_in_time(records, latest_ms, disorder) for records in partitions]
    for _, raw in heapq.merge(*streams, key=lambda pair: pair[0]):
        yield raw


def reconstructed(
    settings: Any, builder: TapeBuilder, disorder: Disorder, progress: Progress | None
) -> Iterator[Placed]:
    """The tape of the source topics, up to the ends that they have now.

    Raises
    ------
    ServiceError : the broker does not answer, or a topic is missing
    """
    latest_ms = time.time_ns() // 1_000_000 + AHEAD_MS_MAX
    config = {
        **reader_config(settings, "sources"),
        "queued.min.messages": CHUNK_RECORDS,  # not much more than is asked for at a time
        "fetch.queue.backoff.ms": 5,  # not a second, in which the next partition waits
        "queued.max.messages.kbytes": 8 * 1024,
    }
    consumer = Consumer(config)
    try:
        ranges = list(_ranges(consumer, settings, disorder))
        total = max(sum(end - begin for _, _, begin, end in ranges), 1)
        streams = [_chunks(consumer, settings, *one) for one in ranges]
        for done, raw in enumerate(merged(streams, latest_ms, disorder), start=1):
            if progress is not None and not done % 1000:
                progress(done / total)
            source = Source(raw.topic, raw.partition, raw.offset)
            yield from builder.append(
                raw.topic, raw.value, raw.key, source=source, headers=raw.headers
            )
    finally:
        consumer.close()


def _ranges(
    consumer: Consumer, settings: Any, disorder: Disorder
) -> Iterator[tuple[str, int, int, int]]:
    for topic in ORDER:
        name = topic_name(settings, topic.name)
        for number in range(require_partitions(consumer, name)):
            begin, end = log_range(consumer, name, number)
            if begin:
                disorder.missing[f"{topic.name}/{number}"] = begin
            yield topic.name, number, begin, end


def _chunks(
    consumer: Consumer, settings: Any, topic: str, partition: int, begin: int, end: int
) -> Iterator[Raw]:
    """A partition's records; the one consumer is turned to it for a chunk at a time."""
    name = topic_name(settings, topic)
    while begin < end:
        found = read_range(consumer, name, partition, begin, end, READ_DEADLINE_S)
        chunk = list(islice(found, CHUNK_RECORDS))
        found.close()
        if not chunk:
            return
        for one in chunk:
            if one.offset() >= end:
                return
            yield Raw(topic, partition, one.offset(), one.key(), one.value(), one.headers())
        begin = chunk[-1].offset() + 1
