"""Lag in messages and seconds now, asked of the broker and of nobody else.

Seconds are exact: now less the timestamp of the one record at the committed offset, the next the
group would read. What is not known is None with the reason, never 0.

Messages are offsets between the committed one and the end. Transaction markers and records removed
by compaction have offsets too, so on transactional or compacted topics that is an upper bound; but
if no record stands at or after the committed offset, the lag is 0, whatever the offsets say.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec
from msgspec import Struct, structs

from streams.kafka.kafka_settings import QUIET
from streams.kafka.reader import unreachable
from streams.lag.rules import Rates, Status, worst

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0  # for all records at committed offsets of one group together
ATTEMPTS_MAX = 20
ATTEMPT_PAUSE_S = 0.25
# Said while a group's coordinator or a partition's leader starts or moves; it passes by itself.
PASSING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)

SETTLED = (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)

NEVER_COMMITTED = "never committed"
GONE = "the committed offset is no longer in the log"
BEYOND = "the committed offset lies beyond the end of the log"
NOT_READ = "the record at the committed offset could not be read in time"

Place = tuple[str, int]  # topic, partition
ClientConfig = Mapping[str, Any]  # as confluent-kafka takes it


class PartitionLag(Struct, frozen=True, kw_only=True):
    """How far one group is behind in one partition. ``unknown`` says why something is None."""

    topic: str
    partition: int
    offset_committed: int | None  # the next to read
    offset_end: int
    consumer_lag_messages: int | None
    consumer_lag_ms: int | None  # below 0 where a record's clock is ahead of this machine's
    unknown: str | None = None
    assigned: bool | None = None  # to a live member; None while the group rebalances
    status: Status = Status.UNKNOWN
    reason: str = "not judged"
    not_moving: bool | None = None  # see `streams.lag.rules.not_moving`
    commit_time_ms: int | None = None  # of the last commit that was seen
    rates: Rates = Rates()


class GroupLag(Struct, frozen=True, kw_only=True):
    """One group over all partitions it has committed, been assigned, or is expected to read."""

    group: str
    state: str
    members: int
    topics_missing: tuple[str, ...]
    partitions: tuple[PartitionLag, ...]

    @property
    def messages_sum(self) -> int | None:
        """Messages behind in all partitions; None when not all are known, or there are none."""
        counts = [row.consumer_lag_messages for row in self.partitions]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def lag_ms_max(self) -> int | None:
        """The partition furthest behind; None when not all are known, or there are none."""
        lags = [row.consumer_lag_ms for row in self.partitions]
        known = [lag for lag in lags if lag is not None]
        return max(known) if known and len(known) == len(lags) else None

    @property
    def status_worst(self) -> Status:
        """The worst partition's status; UNKNOWN without any, or where a topic is missing."""
        missing = [Status.UNKNOWN] if self.topics_missing else []
        return worst([*(row.status for row in self.partitions), *missing])


def wall_clock_ms() -> int:
    """Milliseconds since 1970 on this machine's clock."""
    return time.time_ns() // 1_000_000


def consumer_lag(
    client: ClientConfig,
    expected: Mapping[str, Collection[str]],
    now_ms: Callable[[], int] = wall_clock_ms,
) -> list[GroupLag]:
    """Measure the lag of some groups.

    Parameters
    ----------
    client : bootstrap and security settings as confluent-kafka takes them
    expected : group -> topics it should be reading; they are shown also where it has committed
        nothing. Any other topic the group has committed or been assigned is shown too.
    now_ms : the clock that record timestamps are compared with

    Raises
    ------
    ServiceError : the broker can't be reached or refuses
    """
    admin = AdminClient({**client, **QUIET})
    try:
        topics = admin.list_topics(timeout=CONNECT_TIMEOUT_S).topics
        partitions = {name: sorted(topic.partitions) for name, topic in topics.items()}
        groups = [_group(admin, group) for group in expected]
        wanted = [
            sorted({*expected[description.group_id], *_topics(description, committed)})
            for description, committed in groups
        ]
        existing = {topic for names in wanted for topic in names if topic in partitions}
        places = [(topic, number) for topic in sorted(existing) for number in partitions[topic]]
        begins = _offsets(admin, places, OffsetSpec.earliest())
        ends = _offsets(admin, places, OffsetSpec.latest())
        return [
            _measure(client, description, committed, names, begins, ends, now_ms)
            for (description, committed), names in zip(groups, wanted, strict=True)
        ]
    except KafkaException as error:
        raise unreachable(error, where(client)) from error


def known_groups(client: ClientConfig) -> list[str]:
    """The names of all consumer groups that the brokers know."""
    admin = AdminClient({**client, **QUIET})
    try:
        admin.list_topics(timeout=CONNECT_TIMEOUT_S)
        listing = _asked(lambda: admin.list_consumer_groups(request_timeout=REQUEST_TIMEOUT_S))
        if listing.errors:  # one broker did not answer: a list with holes would be wrong
            raise KafkaException(listing.errors[0])
    except KafkaException as error:
        raise unreachable(error, where(client)) from error
    return sorted(group.group_id for group in listing.valid)


def where(client: ClientConfig) -> str:
    """The brokers, for an error."""
    return f"Kafka at {client['bootstrap.servers']}"


def _asked(call: Callable[[], Any]) -> Any:
    """The result of an admin request's future."""
    return _repeated(lambda: call().result())


def _repeated(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, repeated while coordinators or leaders move."""
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return call()
        except KafkaException as error:
            if error.args[0].code() not in PASSING:
                raise
        time.sleep(ATTEMPT_PAUSE_S)
    return call()


def describe_group(admin: AdminClient, group: str) -> Any:
    """A consumer group's state and members, as confluent-kafka describes them.

    Raises
    ------
    KafkaException : the broker can't be reached or refuses
    """
    return _asked(
        lambda: admin.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[group]
    )


def _group(admin: AdminClient, group: str) -> tuple[Any, dict[Place, int]]:
    description = describe_group(admin, group)
    offsets = _asked(
        lambda: admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT_S
        )[group]
    )
    committed = {
        (found.topic, found.partition): found.offset
        for found in offsets.topic_partitions or ()
        if found.offset >= 0
    }
    return description, committed


def _topics(description: Any, committed: Iterable[Place]) -> set[str]:
    return {topic for topic, _ in [*_held(description), *committed]}


def _held(description: Any) -> set[Place]:
    """What the group's members have."""
    return {
        (place.topic, place.partition)
        for member in description.members
        if member.assignment
        for place in member.assignment.topic_partitions
    }


def _assigned(description: Any) -> set[Place] | None:
    """What the group's members have; None while nobody can say, since a rebalance is under way."""
    return _held(description) if description.state in SETTLED else None


def list_offsets(admin: AdminClient, specs: Mapping[Place, OffsetSpec]) -> dict[Place, Any]:
    """Ask for one offset per partition, with its timestamp where asked for ``max_timestamp``.

    Raises
    ------
    KafkaException : the broker can't be reached or refuses
    """
    wanted = {TopicPartition(*place): spec for place, spec in specs.items()}
    if not wanted:
        return {}

    def ask() -> dict[Place, Any]:
        futures = admin.list_offsets(
            wanted,
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        return {(at.topic, at.partition): future.result() for at, future in futures.items()}

    return _repeated(ask)


def _offsets(admin: AdminClient, places: list[Place], spec: OffsetSpec) -> dict[Place, int]:
    return {
        place: found.offset
        for place, found in list_offsets(admin, dict.fromkeys(places, spec)).items()
    }


def _measure(
    client: ClientConfig,
    description: Any,
    committed: Mapping[Place, int],
    topics: Iterable[str],
    begins: Mapping[Place, int],
    ends: Mapping[Place, int],
    now_ms: Callable[[], int],
) -> GroupLag:
    existing = {topic for topic, _ in ends}
    places = [place for place in sorted(ends) if place[0] in set(topics)]
    behind = {
        place: committed[place]
        for place in places
        if place in committed and begins[place] <= committed[place] < ends[place]
    }
    read = first_timestamps(client, behind)
    now = now_ms()
    assigned = _assigned(description)
    rows = [
        structs.replace(
            _row(place, committed.get(place), begins[place], ends[place], read, now),
            assigned=None if assigned is None else place in assigned,
        )
        for place in places
    ]
    return GroupLag(
        group=description.group_id,
        state=description.state.name.lower(),
        members=len(description.members),
        topics_missing=tuple(topic for topic in topics if topic not in existing),
        partitions=tuple(rows),
    )


def _row(
    place: Place,
    committed: int | None,
    begin: int,
    end: int,
    read: Mapping[Place, int | None],
    now_ms: int,
) -> PartitionLag:
    """One partition's lag from what was asked; pure, so that every case can be listed in a test."""
    messages: int | None = None
    lag_ms: int | None = None
    unknown: str | None = None
    if committed is None and begin == end:
        messages, lag_ms = 0, 0  # there is nothing to read
    elif committed is None:
        unknown = NEVER_COMMITTED
    elif committed > end:
        unknown = BEYOND
    elif committed == end:
        messages, lag_ms = 0, 0
    elif committed < begin:
        messages, unknown = end - committed, GONE
    elif place not in read:
        messages, unknown = end - committed, NOT_READ
    elif (timestamp_ms := read[place]) is None:
        messages, lag_ms = 0, 0  # nothing but markers up to the end
    else:
        messages, lag_ms = end - committed, now_ms - timestamp_ms
    return PartitionLag(
        topic=place[0],
        partition=place[1],
        offset_committed=committed,
        offset_end=end,
        consumer_lag_messages=messages,
        consumer_lag_ms=lag_ms,
        unknown=unknown,
    )


def first_timestamps(
    client: ClientConfig, offsets: Mapping[Place, int], timeout_s: float = READ_TIMEOUT_S
) -> dict[Place, int | None]:
    """The timestamp of the first record at or after each offset.

    None: there is no record up to the end. A place that could not be read in time is left out.
    Uncommitted transactions are read too: they are waiting work like any other.
    """
    if not offsets:
        return {}
    consumer = Consumer(
        {
            **client,
            **QUIET,
            "group.id": "pricemaker-lag",  # never joined, nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 1024,
        }
    )
    found: dict[Place, int | None] = {}
    deadline = time.monotonic() + timeout_s
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        while len(found) < len(offsets) and (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                continue
            place = (message.topic(), message.partition())
            error = message.error()
            if error is None:
                if place not in found:
                    found[place] = message.timestamp()[1]
                    consumer.pause([TopicPartition(*place)])
            elif error.code() == KafkaError._PARTITION_EOF:
                found.setdefault(place, None)
    finally:
        consumer.close()
    return found
