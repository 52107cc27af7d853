"""Puts an ordered stream of source records on Kafka's source topics."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.errors import ServiceError
from schemas.topics import CONTROLS
from streams.kafka.kafka_settings import QUIET, producer_config, topic_name
from streams.tape.event_files import SourceRecord, event_key

IN_FLIGHT_MAX = 20_000
POLL_EVERY = 500
POLL_S = 0.1
DELIVERY_DEADLINE_S = 120.0
BY_KEY = -1  # the partitioner chooses
KEYLESS_PARTITION = 0  # so that the same file always gives the same source positions

Pace = Callable[[int], None]


class Fed(NamedTuple):
    """What was delivered: records by topic, and the offset after the last by (topic, partition)."""

    records: dict[str, int]
    ends: dict[tuple[str, int], int]


class Feeder:
    """Sends records keyed by SKU, in order per key, each delivery checked.

    Parameters
    ----------
    settings : kafka, worker and topics sections of the settings
    pace : called with the number of records sent so far before each further ``POLL_EVERY``;
        blocks for as long as the feeder should wait

    Notes
    -----
    The producer is idempotent and uses Java's partitioner. A record whose SKU can't be read goes
    to partition 0. At most ``IN_FLIGHT_MAX`` records are unconfirmed at any time.
    """

    def __init__(self, settings: Any, pace: Pace | None = None) -> None:
        self._settings = settings
        self._pace = pace
        self._prefix_length = len(settings.topics.prefix)
        self._producer = Producer(
            {
                **producer_config(settings),
                "linger.ms": 20,
                **QUIET,
                "message.timeout.ms": int(DELIVERY_DEADLINE_S * 1000),
                "queue.buffering.max.messages": 2 * IN_FLIGHT_MAX,
            }
        )
        self._failed: KafkaError | None = None
        self._failed_topic = ""
        self._records: dict[str, int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self.sent = 0
        self.delivered = 0

    def feed(self, records: Iterable[SourceRecord]) -> Fed:
        """Send all records and wait until each is confirmed.

        Raises
        ------
        ServiceError : a record was not confirmed; what was sent before it may be on the topics
        """
        for topic, value in records:
            if not self.sent % POLL_EVERY:
                self._breathe()
            self.send(topic, value)
        self.flush()
        return Fed(dict(self._records), dict(self._ends))

    def send(self, topic: str, value: bytes | None, partition: int = BY_KEY) -> None:
        """Send one record, to its key's partition if none is named; ``flush`` makes sure of it."""
        name = topic_name(self._settings, topic)
        key = None if topic == CONTROLS.name else event_key(value)
        if key is None:
            partition = KEYLESS_PARTITION
        while True:
            try:
                self._producer.produce(name, value, key, partition, self._on_delivery)
                break
            except BufferError:
                self._producer.poll(POLL_S)
                self._raise_failure()
        self.sent += 1
        self._records[topic] = self._records.get(topic, 0) + 1

    def flush(self) -> None:
        """Wait until everything sent is confirmed.

        Raises
        ------
        ServiceError : something was not
        """
        self._producer.flush(DELIVERY_DEADLINE_S)
        self._raise_failure()
        if self.delivered != self.sent:
            raise ServiceError(
                "delivery_unconfirmed",
                f"{self.sent - self.delivered} of {self.sent} records were not confirmed "
                f"in {DELIVERY_DEADLINE_S:.0f} s.",
                where=self._settings.kafka.bootstrap,
                fix="Check the broker (pricemaker doctor) and feed again: repeats are found by "
                "event_id.",
            )

    def _breathe(self) -> None:
        self._producer.poll(0)
        while self.sent - self.delivered > IN_FLIGHT_MAX:
            self._producer.poll(POLL_S)
            self._raise_failure()
        self._raise_failure()
        if self._pace is not None:
            self._pace(self.sent)

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed, self._failed_topic = error, message.topic()
            return
        self.delivered += 1
        source = message.topic()[self._prefix_length :]
        self._ends[source, message.partition()] = message.offset() + 1

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise ServiceError(
                "delivery_failed",
                f"the broker did not take a record: {self._failed.str()}.",
                where=self._failed_topic,
                fix="Check that the topics exist (pricemaker topics check) and the broker is up.",
            ) from KafkaException(self._failed)
