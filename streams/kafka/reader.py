"""Reading a topic partition to its end, by hand: explicit offsets, no group, no commits."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import ServiceError
from streams.kafka import kafka_settings

log = logging.getLogger(__name__)

CONSUME_RECORDS_MAX = 5_000
STREAM_RECORDS = 500
CONSUME_WAIT_S = 0.01  # a call returns only when this is over or that many records are there
ANSWER_S = 10.0
OUTAGE_S = 60.0  # how long a worker in the middle of its work waits for a broker that restarts
RETRY_S = 0.1
# What a client says while topics are being made, leaders move, coordinators load or the broker
# restarts.
PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._WAIT_COORD,
    }
)

Answer = TypeVar("Answer")


def ask(question: Callable[[], Answer], where: str, deadline_s: float = ANSWER_S) -> Answer:
    """Ask the broker, again while its answer is one that passes, until the deadline.

    Raises
    ------
    ServiceError : the last answer was an error
    """
    deadline = time.monotonic() + deadline_s
    told = False
    while True:
        try:
            return question()
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                raise unreachable(error, where) from error
            if not told:
                told = True
                log.info("%s: %s; asking for up to %.0f s", where, error.args[0].str(), deadline_s)
            time.sleep(RETRY_S)
        except TimeoutError as error:
            raise ServiceError(
                "broker_silent", "the broker did not answer in time.", where=where
            ) from error


def log_range(
    consumer: Consumer, topic: str, partition: int, deadline_s: float = ANSWER_S
) -> tuple[int, int]:
    """The first offset the broker holds, and the one after the last.

    Raises
    ------
    ServiceError : the broker does not answer, or has no such partition
    """
    place = TopicPartition(topic, partition)

    def question() -> tuple[int, int]:
        try:
            return consumer.get_watermark_offsets(place, timeout=ANSWER_S, cached=False)
        except KafkaException:
            # A client that lost its only broker may go on believing that nobody leads it.
            consumer.list_topics(topic, timeout=ANSWER_S)
            raise

    return ask(question, f"{topic}[{partition}]", deadline_s)


def partitions_of(consumer: Consumer, topic: str, deadline_s: float = ANSWER_S) -> int:
    """How many partitions a topic has; 0 when it does not exist.

    Raises
    ------
    ServiceError : the broker does not answer
    """
    answer = ask(lambda: consumer.list_topics(topic, timeout=ANSWER_S), topic, deadline_s)
    found = answer.topics[topic]
    return 0 if found.error is not None else len(found.partitions)


def require_partitions(consumer: Consumer, topic: str, deadline_s: float = ANSWER_S) -> int:
    """How many partitions a topic has.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic does not exist
    """
    count = partitions_of(consumer, topic, deadline_s)
    if not count:
        raise ServiceError(
            "topic_missing",
            "the topic does not exist.",
            where=topic,
            fix="Run: pricemaker topics create",
        )
    return count


def read_to_end(
    consumer: Consumer, topic: str, partition: int, deadline_s: float
) -> Iterator[Message]:
    """Every committed record of a partition, up to its end as it is now.

    Parameters
    ----------
    consumer : made with ``reader_config``; its assignment is replaced
    topic : the name on the broker
    deadline_s : the whole read must end by then

    Raises
    ------
    ServiceError : the broker does not answer, or the deadline passed
    """
    begin, end = log_range(consumer, topic, partition, deadline_s)
    yield from read_range(consumer, topic, partition, begin, end, deadline_s)


def read_live(
    consumer: Consumer, topic: str, partition: int, deadline_s: float
) -> dict[bytes, bytes]:
    """The live records of a compacted partition: the last value of each key, no tombstones.

    Raises
    ------
    ServiceError : the broker does not answer, or the deadline passed
    """
    records: dict[bytes, bytes] = {}
    for message in read_to_end(consumer, topic, partition, deadline_s):
        key, value = message.key() or b"", message.value()
        if value is None:
            records.pop(key, None)
        else:
            records[key] = value
    return records


def read_range(
    consumer: Consumer, topic: str, partition: int, begin: int, end: int, deadline_s: float
) -> Iterator[Message]:
    """The committed records at offsets from ``begin``, and all that follow until ``end`` is there.

    Raises
    ------
    ServiceError : the broker does not answer, or the deadline passed
    """
    if begin >= end:
        return
    consumer.unassign()  # without it the next partition's first fetch waits for the last one's
    consumer.assign([TopicPartition(topic, partition, begin)])
    deadline = time.monotonic() + deadline_s
    while True:
        for message in consumer.consume(CONSUME_RECORDS_MAX, CONSUME_WAIT_S):
            error, offset = message.error(), message.offset()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                if offset is not None and offset >= end:
                    return  # the last offsets may be transaction markers, which are no messages
            elif error.code() not in PASSING:
                raise unreachable(KafkaException(error), f"{topic}[{partition}]")
        if time.monotonic() > deadline:
            raise ServiceError(
                "read_too_slow",
                f"reading to offset {end} took more than {deadline_s:.0f} s.",
                where=f"{topic}[{partition}]",
                fix="Check the broker's load, or raise kafka.request_timeout_s.",
            )


def stream_range(
    consumer: Consumer, topic: str, partition: int, begin: int, end: int
) -> Iterator[Message]:
    """The committed records at offsets from ``begin`` to below ``end``, for as long as it takes.

    The caller may work in between: only a broker that is silent while it is asked is given up.

    Raises
    ------
    ServiceError : no record came for `OUTAGE_S`
    """
    if begin >= end:
        return
    consumer.unassign()
    consumer.assign([TopicPartition(topic, partition, begin)])
    asked = time.monotonic()
    while True:
        for message in consumer.consume(STREAM_RECORDS, CONSUME_WAIT_S):
            error, offset = message.error(), message.offset()
            if error is None and offset < end:
                yield message
                asked = time.monotonic()
            elif error is None or error.code() == KafkaError._PARTITION_EOF:
                if offset is not None and offset >= end:
                    return
            elif error.code() not in PASSING:
                raise unreachable(KafkaException(error), f"{topic}[{partition}]")
        if time.monotonic() - asked > OUTAGE_S:
            raise ServiceError(
                "broker_silent",
                f"no record before offset {end} came for {OUTAGE_S:.0f} s.",
                where=f"{topic}[{partition}]",
                fix="Check the broker.",
            )


@contextmanager
def opened(settings: Any, name: str) -> Iterator[Consumer]:
    """A reading consumer, closed at the end."""
    consumer = Consumer(kafka_settings.reader_config(settings, name))
    try:
        yield consumer
    finally:
        consumer.close()


def unreachable(error: KafkaException, where: str) -> ServiceError:
    """A client library's error as ours."""
    reason: KafkaError = error.args[0]
    return ServiceError(
        "broker_unreachable",
        f"the broker did not answer: {reason.str()} ({reason.name()}).",
        where=where,
        fix="Check that it runs and that kafka.bootstrap is right.",
    )
