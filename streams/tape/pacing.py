"""Pacing: by event time, or by a consumer group: no further than so many records ahead of it.

Source topics are read side by side. A year sent at once would put December's prices on the tape
before January's orders; a feeder that stays close to the worker keeps the topics in step, as they
are when events come in as they happen.
"""

import time
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import ServiceError
from schemas.topics import SOURCES, TAPE
from streams.kafka.kafka_settings import client_config, group_id, topic_name
from streams.kafka.reader import ask

ANSWER_S = 10.0
LOOK_PAUSE_S = 0.05
STANDSTILL_S = 120.0  # longer than a take-over lasts


class EventPace:
    """How long a record has to wait, so that event time passes ``speed`` times as fast as ours."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._begin: tuple[int, float] | None = None

    def wait_s(self, event_time_ms: int) -> float:
        """Seconds until this event time; the first one asked for is now. Below 0: late."""
        if self._begin is None:
            self._begin = event_time_ms, time.monotonic()
        begin_ms, begin_s = self._begin
        passed_s = (event_time_ms - begin_ms) / 1000.0 / self._speed
        return begin_s + passed_s - time.monotonic()


class GroupPace:
    """Blocks while the worker's group is more than ``ahead_max`` source records behind.

    Parameters
    ----------
    settings : kafka, worker and topics sections of the settings
    ahead_max : records that may be on the source topics and not yet taken in
    with_tape : count what waits on the tape, too: at 0 all that was sent has been priced
    standstill_s : how long the group may not move before the feeder gives up
    """

    def __init__(
        self,
        settings: Any,
        ahead_max: int,
        *,
        with_tape: bool = False,
        standstill_s: float = STANDSTILL_S,
    ) -> None:
        self._standstill_s = standstill_s
        self._admin = AdminClient(client_config(settings))
        self._group = group_id(settings)
        names = [source.name for source in SOURCES] + [TAPE.name] * with_tape
        self._topics = [topic_name(settings, name) for name in names]
        self._ahead_max = ahead_max

    def __call__(self, sent: int) -> None:
        """Wait until the group is near enough.

        Raises
        ------
        ServiceError : it has not moved for ``standstill_s``, or the broker does not answer
        """
        behind = self.behind()
        deadline = time.monotonic() + self._standstill_s
        while behind > self._ahead_max:
            time.sleep(LOOK_PAUSE_S)
            now_behind = self.behind()
            if now_behind != behind:
                behind, deadline = now_behind, time.monotonic() + self._standstill_s
            elif time.monotonic() > deadline:
                raise ServiceError(
                    "group_stands_still",
                    f"group {self._group} stayed {behind} records behind for "
                    f"{self._standstill_s:.0f} s.",
                    fix="Start a worker, or feed without --ahead.",
                )

    def behind(self) -> int:
        """Source records that are sent and not committed by the group.

        Raises
        ------
        ServiceError : the broker does not answer
        """
        return ask(self._ask_behind, f"group {self._group}")

    def _ask_behind(self) -> int:
        places = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in self._admin.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
        ]
        latest = dict.fromkeys(places, OffsetSpec.latest())
        ends = self._admin.list_offsets(latest, request_timeout=ANSWER_S)
        group = ConsumerGroupTopicPartitions(self._group, places)
        committed = self._admin.list_consumer_group_offsets([group])[self._group]
        taken = sum(max(at.offset, 0) for at in committed.result(ANSWER_S).topic_partitions)
        return sum(end.result(ANSWER_S).offset for end in ends.values()) - taken
