"""Which family and tape partition a SKU belongs to: a table that follows the topic ``routes``.

The products intake is its only writer, and writes a route after the listing is on the tape. So
whoever finds a SKU here knows that its listing precedes whatever he appends for it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from aiokafka.partitioner import murmur2
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import ConfigError, InputError, ServiceError
from schemas.topics import PRODUCTS, ROUTES
from streams.kafka import kafka_settings, reader
from streams.kafka.kafka_settings import topic_name
from streams.worker.transport import BatchAbandoned

log = logging.getLogger(__name__)

POLL_S = 0.1
CATCH_UP_DEADLINE_S = reader.OUTAGE_S
LISTING_POLL_S = 0.05
LISTING_LOG_S = 10.0


class Route(NamedTuple):
    """Where a SKU's events go."""

    family: str
    partition: int


def tape_partition(family: str, partitions: int) -> int:
    """The tape partition of a family: Java's murmur2 of its name, so that any client agrees."""
    return int((murmur2(family.encode()) & 0x7FFFFFFF) % partitions)


def encode_route(sku: str, route: Route) -> bytes:
    """The value of a route's record; its key is the SKU."""
    return orjson.dumps({"sku": sku, "family": route.family, "partition": route.partition})


class RouteTable:
    """All routes in memory. ``get`` is for any thread; ``catch_up`` and ``settle`` block."""

    def __init__(self, settings: Any, on_failure: Callable[[BaseException], None]) -> None:
        self._settings = settings
        self._on_failure = on_failure
        self._topic = topic_name(settings, ROUTES.name)
        self._products = topic_name(settings, PRODUCTS.name)
        self._routes: dict[str, Route] = {}
        self._passed: dict[int, int] = {}  # partition -> offset read up to
        self._advanced = threading.Condition()
        self._stopping = threading.Event()
        self._asking = threading.Lock()  # one question to the broker at a time
        self._thread = threading.Thread(target=self._follow, name="routes", daemon=True)
        group = kafka_settings.group_id(settings)
        self._follower = Consumer(kafka_settings.reader_config(settings, "routes"))
        self._asker = Consumer(
            {**kafka_settings.reader_config(settings, "routes"), "group.id": group}
        )

    def get(self, sku: str) -> Route | None:
        """The route, if it is known yet."""
        return self._routes.get(sku)

    def add(self, sku: str, route: Route) -> None:
        """Know a route that was just written, without waiting to read it."""
        self._routes[sku] = route

    def check_partitions(self, partitions: int) -> None:
        """Check that every route still follows from its family and the tape's partition count.

        Raises
        ------
        ConfigError : the tape had another number of partitions when a route was made
        """
        for sku, route in list(self._routes.items()):
            if tape_partition(route.family, partitions) != route.partition:
                raise ConfigError(
                    "tape_partitions_changed",
                    f"sku {sku!r} is routed to tape partition {route.partition}, which is wrong "
                    f"for {partitions} partitions.",
                    where=self._topic,
                    field="tape partitions",
                    value=partitions,
                    expected="the number the tape was made with: it never changes",
                    fix="Make new topics under another topics.prefix and replay the sources.",
                )

    def start(self) -> None:
        """Follow the topic and return once all that is there now is known.

        Raises
        ------
        ServiceError : the broker does not answer, or the topic is missing
        """
        count = reader.require_partitions(self._follower, self._topic)
        assignment = []
        for partition in range(count):
            begin, _ = reader.log_range(self._follower, self._topic, partition)
            self._passed[partition] = begin
            assignment.append(TopicPartition(self._topic, partition, begin))
        self._follower.assign(assignment)
        self._thread.start()
        self.catch_up()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._follower.close()
        self._asker.close()

    def catch_up(self) -> None:
        """Return when everything that is in the topic now has been read.

        Raises
        ------
        ServiceError : it took longer than ``CATCH_UP_DEADLINE_S``
        """
        with self._asking:
            ends = self._ends(self._topic, len(self._passed))
        with self._advanced:
            if not self._advanced.wait_for(
                lambda: all(self._passed[partition] >= end for partition, end in ends.items()),
                CATCH_UP_DEADLINE_S,
            ):
                raise ServiceError(
                    "routes_too_slow",
                    f"routes were not read up to {ends} in {CATCH_UP_DEADLINE_S:.0f} s.",
                    where=self._topic,
                    fix="Check the broker and restart the worker.",
                )

    def settle(self, wanted: Callable[[], bool]) -> None:
        """Wait until every listing sent before now is known; what is unknown then is not listed.

        The products intake, wherever it runs, must have passed the present end of ``products``;
        then the routes that it wrote must be read. A long backlog of listings takes its time.

        Parameters
        ----------
        wanted : asked again and again; the wait ends when it says no

        Raises
        ------
        BatchAbandoned : no longer wanted
        ServiceError : the broker does not answer
        """
        with self._asking:
            count = reader.require_partitions(self._asker, self._products, reader.OUTAGE_S)
            ends = self._ends(self._products, count)
        told = time.monotonic()
        while not self._listings_passed(ends):
            if not wanted() or self._stopping.wait(LISTING_POLL_S):
                raise BatchAbandoned(self._products)
            if time.monotonic() - told > LISTING_LOG_S:
                told = time.monotonic()
                log.warning("still waiting until the listings before an unknown SKU are read")
        self.catch_up()

    def _ends(self, topic: str, partitions: int) -> dict[int, int]:
        return {
            partition: reader.log_range(self._asker, topic, partition, reader.OUTAGE_S)[1]
            for partition in range(partitions)
        }

    def _listings_passed(self, ends: dict[int, int]) -> bool:
        places = [TopicPartition(self._products, partition) for partition in ends]
        with self._asking:
            committed = reader.ask(
                lambda: self._asker.committed(places, timeout=reader.ANSWER_S),
                self._products,
                reader.OUTAGE_S,
            )
            return all(self._passed_by(place, ends[place.partition]) for place in committed)

    def _passed_by(self, committed: TopicPartition, end: int) -> bool:
        """Whether no record is left below ``end``: transaction markers have offsets, too."""
        begin, _ = reader.log_range(
            self._asker, self._products, committed.partition, reader.OUTAGE_S
        )
        start = max(committed.offset, begin)  # below 0: nothing is committed yet
        if start >= end:
            return True
        left = reader.read_range(
            self._asker, self._products, committed.partition, start, end, CATCH_UP_DEADLINE_S
        )
        return next(left, None) is None

    def _follow(self) -> None:
        try:
            while not self._stopping.is_set():
                for message in self._follower.consume(reader.CONSUME_RECORDS_MAX, POLL_S):
                    self._take(message)
        except Exception as error:
            self._on_failure(error)

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.retriable() or error.code() == KafkaError._ALL_BROKERS_DOWN:
                return
            raise reader.unreachable(KafkaException(error), self._topic)
        if error is None:
            self._store(message)
        with self._advanced:
            after = message.offset() + (1 if error is None else 0)
            self._passed[message.partition()] = after
            self._advanced.notify_all()

    def _store(self, message: Any) -> None:
        where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        try:
            record = orjson.loads(message.value())
            route = Route(record["family"], record["partition"])
            self._routes[record["sku"]] = route
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                "torn_route",
                f"not a route: {error}.",
                where=where,
                fix="Only the products intake writes this topic; remove the record's key.",
            ) from None
