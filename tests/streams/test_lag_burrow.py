"""Statuses of consumers against Burrow itself, against a hand-made oracle, and against the clock.

One run makes all situations side by side on a real broker. In each round records are produced,
Burrow and our observer see the new ends, then every group commits what its situation says.
"""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.lag import GroupLag, LagObserver, PartitionLag, Status
from streams.lag.broker import NEVER_COMMITTED, wall_clock_ms
from tests.conftest import IN_CI
from tests.streams.burrow import Burrow, burrow, is_installed
from tests.streams.spine import wait_until

ROUNDS = 5


class Situation(NamedTuple):
    """What happens to one partition, and what is to be said of it; ``None``: no commit."""

    why: str
    produced: tuple[int, ...]  # records, round by round
    committed: tuple[int | None, ...]  # offset, round by round
    status: Status
    burrow: str  # Burrow's word for it
    lag: int | None


SITUATIONS = {
    "caught-up": Situation(
        "commits the end", (5, 5, 5, 5, 5), (5, 10, 15, 20, 25), Status.OK, "OK", 0
    ),
    "gaining": Situation(
        "behind, but faster", (30, 1, 1, 1, 1), (2, 7, 12, 17, 22), Status.OK, "OK", 12
    ),
    "growing": Situation(
        "slower than what comes", (5, 5, 5, 5, 5), (2, 4, 6, 8, 10), Status.WARN, "WARN", 15
    ),
    "stopped": Situation(
        "died behind", (5, 5, 5, 5, 5), (2, 4, None, None, None), Status.STOP, "STOP", 21
    ),
    "stalled": Situation(
        "commits one offset", (5, 5, 5, 5, 5), (2, 2, 2, 2, 2), Status.STALL, "STALL", 23
    ),
    "rewound": Situation(
        "went back", (5, 5, 5, 5, 5), (3, 5, 7, 2, 4), Status.REWIND, "REWIND", 21
    ),
    "empty": Situation(
        "an empty topic", (0, 0, 0, 0, 0), (0, None, None, None, None), Status.OK, "OK", 0
    ),
    "compacted": Situation(
        "the committed offset lies where compaction took the records away",
        (6, 0, 0, 0, 0), (1, 1, 1, 1, 2), Status.OK, "OK", 7,
    ),
}  # fmt: skip
NEVER = "never"  # two partitions; the second was never committed


class Seen(NamedTuple):
    """Burrow's view and ours at one time; topic -> row, or (topic, partition) -> row."""

    burrow: dict[tuple[str, int], dict[str, Any]]
    watched: dict[tuple[str, int], PartitionLag]
    looked: dict[tuple[str, int], PartitionLag]
    groups: dict[str, GroupLag]
    looked_ms: tuple[int, int]
    produced_ms: dict[tuple[str, int], tuple[int, int]]  # (topic, offset) -> before and after


class Shop:
    """Topics and groups of one run: the group of a topic has its name."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"lag-{uuid.uuid4().hex[:8]}-"
        self.topics = {self.prefix + name: 1 for name in SITUATIONS} | {self.prefix + NEVER: 2}
        self.produced_ms: dict[tuple[str, int], tuple[int, int]] = {}
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._consumers = {
            topic: Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
            for topic in self.topics
        }
        self._ends = dict.fromkeys(self.topics, 0)
        made = self._admin.create_topics(
            [NewTopic(topic, count, 1, config=self._config(topic))
             for topic, count in self.topics.items()]
        )  # fmt: skip
        for future in made.values():
            future.result()

    def _config(self, topic: str) -> dict[str, str]:
        if topic != self.prefix + "compacted":
            return {}
        return {
            "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01",
            "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1",
        }  # fmt: skip

    def close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()
        for future in self._admin.delete_topics(list(self.topics)).values():
            future.result()

    def produce(self, topic: str, count: int, partition: int = 0) -> None:
        for _ in range(count):
            before_ms = wall_clock_ms()
            self._producer.produce(topic, b"{}", key=b"same", partition=partition)
            assert self._producer.flush(10) == 0
            if partition == 0:
                offset = self._ends[topic]
                self._ends[topic] += 1
                self.produced_ms[topic, offset] = before_ms, wall_clock_ms()

    def commit(self, topic: str, offset: int) -> None:
        place = TopicPartition(topic, 0, offset)
        self._consumers[topic].commit(offsets=[place], asynchronous=False)

    def compact(self, topic: str) -> None:
        """Let the broker take away all records but the last ones."""
        wait_until(lambda: self._first_offset(topic) > 1, "compaction")

    def _first_offset(self, topic: str) -> int:
        """Of the first record that is there; a compacted log still begins at 0."""
        self.produce(topic, 1)  # the segment that is written to is never compacted
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "first"})
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(10)
        consumer.close()
        assert message is not None
        assert message.error() is None
        return int(message.offset())


@pytest.fixture(scope="module")
def seen(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    if not is_installed() and not IN_CI:
        pytest.skip("Burrow is not installed: apt-get install burrow")
    shop = Shop(kafka_bootstrap)
    client = {"bootstrap.servers": kafka_bootstrap}
    groups = dict.fromkeys(shop.topics, ())
    observer = LagObserver(client, lambda: groups, tuple(groups))
    folder = tmp_path_factory.mktemp("burrow")
    try:
        with burrow(kafka_bootstrap, shop.topics, folder) as judge:
            for number in range(ROUNDS):
                play(shop, judge, observer, number)
            yield look(shop, judge, observer, client)
    finally:
        observer.close()
        shop.close()


def play(shop: Shop, judge: Burrow, observer: LagObserver, number: int) -> None:
    for name, situation in SITUATIONS.items():
        shop.produce(shop.prefix + name, situation.produced[number])
    shop.produce(shop.prefix + NEVER, 3)
    shop.produce(shop.prefix + NEVER, 3, partition=1)
    if number == 0:
        shop.compact(shop.prefix + "compacted")
    judge.broker.wait_for_ends()
    observer.look()
    for name, situation in SITUATIONS.items():
        offset = situation.committed[number]
        if offset is not None:
            shop.commit(shop.prefix + name, offset)
    shop.commit(shop.prefix + NEVER, 3 * (number + 1))


def look(shop: Shop, judge: Burrow, observer: LagObserver, client: dict[str, str]) -> Seen:
    """All three views; Burrow's when it has taken in the last commits."""
    last = {
        shop.prefix + name: [offset for offset in situation.committed if offset is not None][-1]
        for name, situation in SITUATIONS.items()
    } | {shop.prefix + NEVER: 3 * ROUNDS}

    def views() -> dict[tuple[str, int], dict[str, Any]]:
        return {
            place: row for topic in shop.topics for place, row in judge.partitions(topic).items()
        }

    def has_all() -> bool:
        rows = views()
        return all(
            (topic, 0) in rows and (rows[topic, 0]["end"] or {}).get("offset") == offset
            for topic, offset in last.items()
        )

    wait_until(has_all, "Burrow to have all commits")
    once = LagObserver(client, lambda: dict.fromkeys(shop.topics, ()), tuple(shop.topics))
    before_ms = wall_clock_ms()
    looked, watched = once.look(), observer.look()
    once.close()
    return Seen(
        short(shop, views()),
        *(
            short(shop, {(row.topic, row.partition): row
                         for group in found for row in group.partitions})
            for found in (watched, looked)
        ),
        {group.group.removeprefix(shop.prefix): group for group in watched},
        (before_ms, wall_clock_ms()),
        {(topic.removeprefix(shop.prefix), at): ms for (topic, at), ms in shop.produced_ms.items()},
    )  # fmt: skip


def short(shop: Shop, rows: dict[tuple[str, int], Any]) -> dict[tuple[str, int], Any]:
    return {(topic.removeprefix(shop.prefix), number): row for (topic, number), row in rows.items()}


@pytest.mark.kafka
@pytest.mark.parametrize("name", SITUATIONS)
def test_burrow_the_oracle_and_we_agree(seen: Seen, name: str) -> None:
    expected = SITUATIONS[name]
    place = name, 0
    assert {
        "Burrow": seen.burrow[place]["status"],
        "watched": seen.watched[place].status,
        "looked at once": seen.looked[place].status,
    } == {
        "Burrow": expected.burrow,
        "watched": expected.status,
        "looked at once": expected.status,
    }, (expected.why, seen.watched[place], seen.looked[place])
    if name != "compacted":  # how many records compaction needed is the broker's affair
        assert seen.watched[place].consumer_lag_messages == expected.lag
    assert seen.burrow[place]["current_lag"] == seen.watched[place].consumer_lag_messages


@pytest.mark.kafka
def test_a_partition_that_was_never_committed_is_unknown_not_well(seen: Seen) -> None:
    assert seen.burrow[NEVER, 0]["status"] == seen.watched[NEVER, 0].status == Status.OK
    # Burrow has no window for it, and calls that OK with a lag of 0.
    theirs = seen.burrow[NEVER, 1]
    assert (theirs["end"], theirs["complete"]) == (None, 0)
    for row in (seen.watched[NEVER, 1], seen.looked[NEVER, 1]):
        assert (row.status, row.reason, row.consumer_lag_messages, row.consumer_lag_ms) == (
            Status.UNKNOWN,
            NEVER_COMMITTED,
            None,
            None,
        )
    assert seen.groups[NEVER].status_worst == Status.UNKNOWN


@pytest.mark.kafka
@pytest.mark.parametrize("name", ["gaining", "growing", "stopped", "stalled", "rewound"])
def test_seconds_are_those_of_the_clock(seen: Seen, name: str) -> None:
    """The record at the committed offset was produced then, and looked at now."""
    for row in (seen.watched[name, 0], seen.looked[name, 0]):
        earliest, latest = seen.produced_ms[name, row.offset_committed]
        begin, end = seen.looked_ms
        assert begin - latest <= row.consumer_lag_ms <= end - earliest


@pytest.mark.kafka
def test_compacted_records_are_no_longer_waited_for(seen: Seen) -> None:
    """Seconds are those of the first record that is still there."""
    row = seen.watched["compacted", 0]
    _, first_latest = seen.produced_ms["compacted", row.offset_committed + 1]
    assert row.consumer_lag_ms < seen.looked_ms[1] - first_latest


@pytest.mark.kafka
def test_rates_and_the_time_to_catch_up(seen: Seen) -> None:
    gaining, growing = seen.watched["gaining", 0].rates, seen.watched["growing", 0].rates
    assert gaining.messages_out_per_s > gaining.messages_in_per_s > 0
    assert gaining.catch_up_s == pytest.approx(
        12 / (gaining.messages_out_per_s - gaining.messages_in_per_s)
    )
    assert growing.messages_in_per_s > growing.messages_out_per_s > 0
    assert growing.catch_up_s is None
    assert seen.watched["stopped", 0].rates.catch_up_s is None
    assert seen.watched["caught-up", 0].rates.catch_up_s == 0.0
