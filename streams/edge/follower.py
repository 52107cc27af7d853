"""Following a topic in a thread of its own, by hand: explicit offsets, no group, no commits."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import InputError, ServiceError
from schemas.topics import Topic
from streams.kafka import reader
from streams.kafka.kafka_settings import reader_config, topic_name

log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 500
POLL_S = 0.02
PREFETCH_KB = 8 * 1024  # waits in the client, at most; its default is 64 MB for each follower
# A quiet topic says nothing of an outage: the client's statistics do. It reconnects by itself.
STATISTICS_MS = 1_000
CONNECTED = ("UP", "UPDATE")


class Record(NamedTuple):
    """One record as it was read; ``value`` is None for a tombstone."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def sku(self) -> str:
        """The key of a record that is about a product."""
        return (self.key or b"").decode(errors="replace")


class TopicFollower:
    """Reads a topic from some offsets on, for ever, and hands every batch to ``take``.

    ``take`` runs in the follower's thread; while it works nothing more is read, so what waits is
    bounded. Records of one partition come in order; partitions take turns.

    Parameters
    ----------
    settings : the loaded configuration
    topic : from `schemas.topics`
    name : of the reader, for the broker's logs
    take : called with up to `BATCH_RECORDS_MAX` records
    on_error : called once, from the thread, with what ended it
    starts : partition -> first offset to read; a partition that is missing is read from its
        beginning, and one whose log begins later from there; one beyond the end is an error
    isolation : ``read_uncommitted`` on the embedded broker, which has no transactions
    on_caught_up : called once, from the thread, when all that was there at the start was taken

    Attributes
    ----------
    caught_up : set after that
    error : what ended it, if anything did
    """

    def __init__(
        self,
        settings: Any,
        topic: Topic,
        name: str,
        take: Callable[[list[Record]], None],
        on_error: Callable[[BaseException], None] = lambda error: None,
        *,
        starts: Mapping[int, int] | None = None,
        isolation: str = "read_committed",
        on_caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.caught_up = threading.Event()
        self._config = {
            **reader_config(settings, name),
            "isolation.level": isolation,
            "queued.min.messages": 2 * BATCH_RECORDS_MAX,
            "queued.max.messages.kbytes": PREFETCH_KB,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._look,
        }
        self._topic = topic_name(settings, topic.name)
        self._take = take
        self._on_error = on_error
        self._on_caught_up = on_caught_up
        self._starts = dict(starts or {})
        self._next: dict[int, int] = {}
        self._away = False
        self._settled = threading.Event()  # caught up, or ended by an error
        self.error: BaseException | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{name}", daemon=True)

    def start(self) -> "TopicFollower":
        """Begin to read."""
        self._thread.start()
        return self

    def wait_caught_up(self, deadline_s: float) -> None:
        """Wait until all that was there at the start has been taken.

        Raises
        ------
        ServiceError : it took longer than ``deadline_s``
        BaseException : what ended the follower before that
        """
        if not self._settled.wait(deadline_s):
            raise ServiceError(
                "read_too_slow",
                f"reading what is there took more than {deadline_s:.0f} s.",
                where=self._topic,
                fix="Check the broker's load, and start again.",
            )
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End the thread; a batch in hand is finished first."""
        self._ending.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def positions(self) -> dict[int, int]:
        """Partition -> the offset after the last record that was taken."""
        return dict(self._next)

    @property
    def broker_away(self) -> bool:
        """Whether there was no connection to any broker, a second ago or less."""
        return self._away

    def _run(self) -> None:
        consumer = Consumer(self._config)
        try:
            ends = self._assign(consumer)
            while not self._ending.is_set():
                self._step(consumer)
                if not self.caught_up.is_set() and all(
                    self._next[number] >= end for number, end in ends.items()
                ):
                    self._on_caught_up()
                    self.caught_up.set()
                    self._settled.set()
        except Exception as error:  # also of take: nobody may serve prices that no longer move
            self.error = error
            self._settled.set()
            self._on_error(error)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> dict[int, int]:
        ends: dict[int, int] = {}
        for number in range(reader.require_partitions(consumer, self._topic, reader.OUTAGE_S)):
            begin, end = reader.log_range(consumer, self._topic, number, reader.OUTAGE_S)
            start = max(begin, self._starts.get(number, begin))
            if start > end:
                raise InputError(
                    "beyond_the_end",
                    f"reading was to go on at offset {start}, but the log ends at {end}.",
                    where=f"{self._topic}[{number}]",
                    fix="The topic was made anew; start from its beginning.",
                )
            self._next[number], ends[number] = start, end
        consumer.assign(
            [TopicPartition(self._topic, number, offset) for number, offset in self._next.items()]
        )
        return ends

    def _step(self, consumer: Consumer) -> None:
        records: list[Record] = []
        after: dict[int, int] = {}
        for message in consumer.consume(BATCH_RECORDS_MAX, POLL_S):
            error, number = message.error(), message.partition()
            if error is None:
                records.append(
                    Record(number, message.offset(), message.key(), message.value(),
                           message.timestamp()[1], message.headers() or ())
                )  # fmt: skip
                after[number] = message.offset() + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                # the end may lie behind a transaction's marker, which is no message
                after[number] = max(after.get(number, 0), message.offset())
            elif error.code() not in reader.PASSING:
                raise reader.unreachable(KafkaException(error), self._topic)
        if records:
            self._take(records)
        self._next.update(after)

    def _look(self, statistics: str) -> None:
        brokers = orjson.loads(statistics)["brokers"].values()
        away = not any(broker["state"] in CONNECTED for broker in brokers)
        if away != self._away:
            self._away = away
            log.warning(
                "%s: %s", self._topic, "no broker answers" if away else "the broker is back"
            )
