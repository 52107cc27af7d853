"""Looking at a broker from outside, with plain confluent-kafka clients."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tests.crash.evidence import Place, Record, Sample

ANSWER_S = 10.0
LOOK_S = 1.0
READ_S = 60.0


class Group:
    """What the broker says of a consumer group."""

    def __init__(self, state: ConsumerGroupState, members: int) -> None:
        self.stable = state == ConsumerGroupState.STABLE
        self.members = members


class Observer:
    """Reads offsets and records. ``topics`` are without prefix.

    Offsets are asked for through consumers that never join: unlike an admin client they find a
    broker again that was killed and came back.
    """

    def __init__(self, bootstrap: str, prefix: str, group: str, topics: Sequence[str]) -> None:
        self.prefix = prefix
        self.group_id = group
        self.topics = topics
        self._client = {"bootstrap.servers": bootstrap, "log_level": 2}
        self._asker = self._consumer(group, "read_uncommitted")
        self._partitions: list[TopicPartition] = []
        self._seen: dict[Place, int] = {}

    def sample(self) -> Sample | None:
        """What is committed, and then where topics end; None while the broker can't say.

        Ends are high watermarks, not the last stable offsets: a worker killed within a transaction
        holds those back until another one aborts it, for others' records that are in the log.
        Whether what lies below an end was committed in the end is seen by :meth:`read`.

        A broker that was killed comes back with the high watermarks of its last checkpoint, some
        seconds old, until it has looked at its logs: ends that lie below what was committed, or
        below ends seen before, are none.
        """
        try:
            if not self._partitions:
                self._partitions = [p for topic in self.topics for p in self._of(topic)]
            found = self._asker.committed(self._partitions, timeout=LOOK_S)
            committed = {self._place(tp): tp.offset for tp in found if tp.offset >= 0}
            ends = {self._place(tp): self._end(tp) for tp in self._partitions}
        except KafkaException:
            return None
        if any(ends[place] < offset for place, offset in (*committed.items(), *self._seen.items())):
            return None
        self._seen = ends
        return Sample(committed, ends)

    def group(self) -> Group | None:
        """The group's state; None while the broker can't say."""
        admin = AdminClient(self._client)
        try:
            asked = admin.describe_consumer_groups([self.group_id], request_timeout=ANSWER_S)
            found = asked[self.group_id].result()
        except KafkaException:
            return None
        return Group(found.state, len(found.members))

    def read(self) -> dict[str, list[Record]]:
        """Every committed record of every topic, partition by partition."""
        found: dict[str, list[Record]] = {topic: [] for topic in self.topics}
        with closing(self._consumer(f"{self.prefix}verifier")) as consumer:
            wanted = [p for topic in self.topics for p in self._of(topic)]
            consumer.assign([TopicPartition(tp.topic, tp.partition, 0) for tp in wanted])
            for topic, record in self._until_ends(consumer, len(wanted)):
                found[topic.removeprefix(self.prefix)].append(record)
        for records in found.values():
            records.sort(key=lambda record: (record.partition, record.offset))
        return found

    def close(self) -> None:
        """Let go of the broker."""
        self._asker.close()

    def _until_ends(self, consumer: Consumer, partitions: int) -> Iterator[tuple[str, Record]]:
        ended: set[tuple[str, int]] = set()
        deadline = time.monotonic() + READ_S
        while len(ended) < partitions:
            assert time.monotonic() < deadline, f"topics were not read in {READ_S:.0f} s"
            for message in consumer.consume(5_000, timeout=0.1):
                error = message.error()
                if error is None:
                    headers = tuple(message.headers() or ())
                    place = (message.partition(), message.offset())
                    what = (message.key(), message.value(), headers, message.timestamp()[1])
                    yield message.topic(), Record(*place, *what)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add((message.topic(), message.partition()))
                else:
                    raise KafkaException(error)

    def _consumer(self, group: str, isolation: str = "read_committed") -> Consumer:
        return Consumer(
            {
                **self._client,
                "group.id": group,
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.message.max.bytes": 8 << 20,
            }
        )

    def _end(self, place: TopicPartition) -> int:
        return int(self._asker.get_watermark_offsets(place, timeout=LOOK_S, cached=False)[1])

    def _of(self, topic: str) -> list[TopicPartition]:
        name = self.prefix + topic
        found = self._asker.list_topics(name, timeout=ANSWER_S).topics[name]
        return [TopicPartition(name, partition) for partition in sorted(found.partitions)]

    def _place(self, tp: TopicPartition) -> Place:
        return tp.topic.removeprefix(self.prefix), tp.partition
