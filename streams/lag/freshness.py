"""How fresh prices are in event time: what the pricer has applied against what waits for it."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from msgspec import Struct

from schemas.codec import decode_event
from schemas.errors import EventError, InputError
from schemas.topics import CONTROLS, SOURCES, STATE, TAPE
from streams.kafka.kafka_settings import QUIET, client_config, reader_config, topic_name
from streams.kafka.reader import PASSING, unreachable
from streams.lag.broker import CONNECT_TIMEOUT_S, GroupLag, Place, list_offsets

# An operator's command carries the time of a desk, which may be far from a replayed history's.
CLOCKED = tuple(topic for topic in SOURCES if topic != CONTROLS)
TAIL_RECORDS = 5  # read at the end of a partition: the last may be markers, which are no records
READ_TIMEOUT_S = 10.0
NO_STATE = "the pricer has written no state of this partition yet"
NO_TICK = "no clock tick has reached this partition yet"
NO_EVENTS = "no event that can be read is in the source topics"
NOT_ALL = "how much of the source topics was read is not known"


class Freshness(Struct, frozen=True, kw_only=True):
    """One tape partition: the event time its prices rest on, and the newest that waits.

    ``behind_ms`` is 0 where nothing waits: prices rest on all there is. ``unknown`` says why
    something is None.
    """

    partition: int
    event_time_applied_ms: int | None  # the partition's clock, which moves by ticks of a minute
    event_time_newest_ms: int | None  # of all source topics
    behind_ms: int | None
    tape_waiting: int  # records of this partition not yet applied
    unknown: str | None = None


class _Manifest(Struct):
    position: int = -1
    clock_ms: int | None = None


_manifest = msgspec.json.Decoder(_Manifest)


def price_freshness(settings: Any, groups: Iterable[GroupLag]) -> list[Freshness]:
    """Per tape partition, how far prices are behind in event time.

    Parameters
    ----------
    groups : our own groups as `LagObserver.look` gave them: what intake has read

    Raises
    ------
    ServiceError : the broker can't be reached
    """
    client = client_config(settings)
    admin = AdminClient({**client, **QUIET})
    try:
        topics = admin.list_topics(timeout=CONNECT_TIMEOUT_S).topics
        names = [topic_name(settings, topic.name) for topic in (STATE, TAPE, *CLOCKED)]
        places = [
            (name, number)
            for name in names
            if name in topics
            for number in sorted(topics[name].partitions)
        ]
        ends = {
            place: int(found.offset)
            for place, found in list_offsets(
                admin, dict.fromkeys(places, OffsetSpec.latest())
            ).items()
        }
        read = [place for place in places if place[0] != topic_name(settings, TAPE.name)]
        tails = last_records(settings, {place: ends[place] for place in read})
    except KafkaException as error:
        raise unreachable(error, f"Kafka at {settings.kafka.bootstrap}") from error
    newest_ms = _newest(settings, tails)
    waiting = _sources_waiting(settings, groups)
    tape = topic_name(settings, TAPE.name)
    return [
        _freshness(number, ends[tape, number], _state(settings, tails, number), newest_ms, waiting)
        for name, number in places
        if name == tape
    ]


def _freshness(
    partition: int,
    tape_end: int,
    manifest: _Manifest | None,
    newest_ms: int | None,
    sources_waiting: bool | None,
) -> Freshness:
    """Pure, so that every case can be listed in a test."""
    applied_ms = None if manifest is None else manifest.clock_ms
    tape_waiting = max(0, tape_end - (manifest.position if manifest is not None else -1) - 1)
    behind_ms: int | None = None
    unknown: str | None = None
    if tape_waiting == 0 and sources_waiting is False:
        behind_ms = 0
    elif manifest is None:
        unknown = NO_STATE
    elif applied_ms is None:
        unknown = NO_TICK
    elif newest_ms is None:
        unknown = NO_EVENTS
    elif tape_waiting == 0 and sources_waiting is None:
        unknown = NOT_ALL
    else:
        behind_ms = max(0, newest_ms - applied_ms)
    return Freshness(
        partition=partition,
        event_time_applied_ms=applied_ms,
        event_time_newest_ms=newest_ms,
        behind_ms=behind_ms,
        tape_waiting=tape_waiting,
        unknown=unknown,
    )


def _sources_waiting(settings: Any, groups: Iterable[GroupLag]) -> bool | None:
    """Whether intake has something to read; None where it is not known of some partition."""
    names = {topic_name(settings, topic.name) for topic in CLOCKED}
    lags = {
        (row.topic, row.partition): row.consumer_lag_messages
        for group in groups
        for row in group.partitions
        if row.topic in names
    }
    if any(lag is not None and lag > 0 for lag in lags.values()):
        return True
    return None if not lags or None in lags.values() else False


def _newest(settings: Any, tails: Mapping[Place, list[Message]]) -> int | None:
    found = []
    for topic in CLOCKED:
        for (name, _), messages in tails.items():
            if name != topic_name(settings, topic.name):
                continue
            for message in messages:
                try:
                    accepted = decode_event(
                        topic.name, message.key(), message.value(), message.headers() or ()
                    )
                except EventError:
                    continue  # it will be, or is, a dead letter
                found.append(accepted.event.event_time_ms)
    return max(found, default=None)


def _state(settings: Any, tails: Mapping[Place, list[Message]], partition: int) -> _Manifest | None:
    """The last manifest: each transaction ends with one."""
    place = topic_name(settings, STATE.name), partition
    for message in reversed(tails.get(place, [])):
        if message.key() == b"manifest" and message.value() is not None:
            try:
                return _manifest.decode(message.value())
            except msgspec.MsgspecError as error:
                raise InputError(
                    "torn_state", f"{error}.", where=f"{place[0]}[{partition}]", field="manifest",
                    fix="Only workers of one version may write this topic.",
                ) from error  # fmt: skip
    return None


def last_records(settings: Any, ends: Mapping[Place, int]) -> dict[Place, list[Message]]:
    """The last few committed records before each partition's end, oldest first.

    A partition that could not be read within `READ_TIMEOUT_S` is left out.
    """
    wanted = {place: end for place, end in ends.items() if end > 0}
    found: dict[Place, list[Message]] = {place: [] for place in ends if place not in wanted}
    if not wanted:
        return found
    consumer = Consumer({**reader_config(settings, "freshness"), "auto.offset.reset": "earliest"})
    reading: dict[Place, list[Message]] = {place: [] for place in wanted}
    deadline = time.monotonic() + READ_TIMEOUT_S
    try:
        consumer.assign(
            [TopicPartition(*place, max(0, end - TAIL_RECORDS)) for place, end in wanted.items()]
        )
        while len(found) < len(ends) and (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                continue
            place, error = (message.topic(), message.partition()), message.error()
            if error is None:
                reading[place].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                found[place] = reading[place]
            elif error.code() not in PASSING:
                raise KafkaException(error)
    finally:
        consumer.close()
    return found
