"""The effective prices as a shop reads them: ``prices-latest``, up to what is there now."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import topics
from schemas.errors import ServiceError
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.kafka.reader import CONSUME_RECORDS_MAX, CONSUME_WAIT_S, log_range, require_partitions

READ_TIMEOUT_S = 20.0


class Move(msgspec.Struct):
    """What a shop needs of a price decision, and what a person wants to see of it."""

    sku: str
    version: int
    price_minor: int | None
    previous_minor: int | None
    currency: str
    margin_pct: float | None
    decided_at: str
    reasons: tuple[str, ...]


class LatestPrices:
    """Follows ``prices-latest``. Context manager.

    Parameters
    ----------
    settings : kafka and topics sections of the settings
    isolation : ``read_uncommitted`` on the embedded broker, which has no transactions

    Attributes
    ----------
    prices : SKU -> the newest effective price, minor units
    """

    def __init__(self, settings: Any, isolation: str = "read_committed") -> None:
        self.prices: dict[str, int] = {}
        self._name = topic_name(settings, topics.PRICES_LATEST.name)
        self._consumer = Consumer(
            {**reader_config(settings, "prices"), "isolation.level": isolation}
        )
        self._next: dict[int, int] = {}

    def __enter__(self) -> "LatestPrices":
        count = require_partitions(self._consumer, self._name)
        self._next = dict.fromkeys(range(count), 0)
        self._consumer.assign([TopicPartition(self._name, number, 0) for number in self._next])
        return self

    def __exit__(self, *error: Any) -> None:
        self._consumer.close()

    def read(self) -> Iterator[Move]:
        """Effective prices published since the last look, up to the present end.

        Raises
        ------
        ServiceError : the broker does not answer, or the end was not reached in time
        """
        ends = {number: log_range(self._consumer, self._name, number)[1] for number in self._next}
        deadline = time.monotonic() + READ_TIMEOUT_S
        while any(self._next[number] < end for number, end in ends.items()):
            for message in self._consumer.consume(CONSUME_RECORDS_MAX, CONSUME_WAIT_S):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise ServiceError(
                        "prices_unreadable", f"{error.str()}.", where=message.topic()
                    )
                # the end may lie behind a transaction's marker, which is no message
                self._next[message.partition()] = message.offset() + (error is None)
                if error is None and message.value() is not None:
                    move = msgspec.json.decode(message.value(), type=Move)
                    if move.price_minor is not None:
                        self.prices[move.sku] = move.price_minor
                    yield move
            if time.monotonic() > deadline:
                raise ServiceError(
                    "prices_missing", f"read up to {self._next} of {ends}.", where=self._name
                )
