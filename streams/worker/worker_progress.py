"""How far a worker is, for feeders that pace themselves and for tests that wait."""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.topics import SOURCES, TAPE
from streams.kafka import reader
from streams.kafka.kafka_settings import client_config, topic_name
from streams.lag.broker import first_timestamps

ANSWER_S = 10.0
RECHECK_S = 0.2  # a wait looks again this often even when nothing is reported done

Partition = tuple[str, int]  # topic without prefix, partition


class WorkerProgress:
    """Offsets that are done, per source and tape partition. For any thread.

    *Done* is durable: a source record is on the tape or among the dead letters, a tape record's
    effects are committed. The value is the offset after the last done one.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._prefix_length = len(settings.topics.prefix)
        self._changed = threading.Condition()
        self._done: dict[Partition, int] = {}
        self._assigned: frozenset[Partition] | None = None
        self._failure: BaseException | None = None
        self._admin: AdminClient | None = None

    # -- what the worker reports (topics with prefix)

    def start(self, topic: str, partition: int, offset: int) -> None:
        """A partition is ours from here, to be read from ``offset``."""
        self.done(topic, partition, offset)

    def assign(self, partitions: Iterable[Partition] | None) -> None:
        """These are ours, taken over; None: a rebalance is under way."""
        with self._changed:
            self._assigned = (
                None
                if partitions is None
                else frozenset(
                    (topic[self._prefix_length :], number) for topic, number in partitions
                )
            )

    def done(self, topic: str, partition: int, next_offset: int) -> None:
        """Everything below ``next_offset`` is done."""
        with self._changed:
            self._done[topic[self._prefix_length :], partition] = next_offset
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The worker has ended: waits end with this error."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def close(self) -> None:
        """Let the broker go; the offsets stay."""
        self._admin = None

    # -- what others ask

    def offsets(self) -> dict[Partition, int]:
        """The offset after the last done record of each partition this worker has had."""
        with self._changed:
            return dict(self._done)

    def assigned(self) -> dict[Partition, int] | None:
        """The same of the partitions that are ours now; None while a rebalance is under way."""
        with self._changed:
            if self._assigned is None:
                return None
            return {place: self._done[place] for place in self._assigned}

    def waiting(self, offsets: Mapping[Partition, int]) -> set[Partition]:
        """Those of some places behind whose offset a record stands; markers are none.

        Raises
        ------
        ServiceError : the broker does not answer
        """
        prefix = self._settings.topics.prefix
        places = {(f"{prefix}{topic}", number): at for (topic, number), at in offsets.items()}
        try:
            found = first_timestamps(client_config(self._settings), places)
        except KafkaException as error:
            raise reader.unreachable(error, "worker") from error
        return {
            (topic[self._prefix_length :], number)
            for (topic, number), timestamp_ms in found.items()
            if timestamp_ms is not None
        }

    def wait_for(self, topic: str, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until everything below ``offset`` is done; False when the time is over.

        Raises
        ------
        BaseException : what ended the worker
        """
        return self._wait_until({(topic, partition): offset}, time.monotonic() + timeout_s)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until all there is in the source topics is on the tape, and all of that is applied.

        Meant for one worker that has all partitions, and a feeder that waits for it: what others
        send meanwhile is waited for too. Ticks that the worker proposes on the way are included.

        Returns
        -------
        False when the time is over.

        Raises
        ------
        BaseException : what ended the worker
        ServiceError : the broker does not answer
        """
        deadline = time.monotonic() + timeout_s
        sources = [topic.name for topic in SOURCES]
        ends = self.end_offsets(sources)
        while True:
            if not self._wait_until(ends, deadline):
                return False
            if not self._wait_until(self.end_offsets([TAPE.name]), deadline):
                return False
            again = self.end_offsets(sources)
            if again == ends:
                return True
            ends = again

    def end_offsets(self, topics: list[str]) -> dict[Partition, int]:
        """The offset after the last record of each partition that has any.

        Raises
        ------
        ServiceError : the broker does not answer
        """
        return reader.ask(lambda: self._ask_end_offsets(topics), ", ".join(topics))

    def _ask_end_offsets(self, topics: list[str]) -> dict[Partition, int]:
        # Held by hand: the worker may end, and close this, while the answer is on its way.
        admin = self._admin
        if admin is None:
            admin = self._admin = AdminClient(client_config(self._settings))
        wanted = {
            TopicPartition(name, partition): OffsetSpec.latest()
            for name in (topic_name(self._settings, topic) for topic in topics)
            for partition in admin.list_topics(name, timeout=ANSWER_S).topics[name].partitions
        }
        found = admin.list_offsets(wanted, request_timeout=ANSWER_S)
        ends = {tp: future.result(2 * ANSWER_S).offset for tp, future in found.items()}
        return {
            (tp.topic[self._prefix_length :], tp.partition): end
            for tp, end in ends.items()
            if end > 0
        }

    def _wait_until(self, ends: Mapping[Partition, int], deadline: float) -> bool:
        def reached() -> bool:
            if self._failure is not None:
                raise self._failure
            return all(self._done.get(partition, -1) >= end for partition, end in ends.items())

        with self._changed:
            while not reached():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, RECHECK_S))
        return True
