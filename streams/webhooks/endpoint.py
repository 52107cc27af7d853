"""One endpoint: it reads ``prices-latest`` in a group of its own and tells the receiver.

One coroutine reads, calls and commits in turn. So there is one call at a time, a product's prices
arrive in order, and whatever an endpoint does holds up nobody but itself. Kafka's client is asked
in a thread; callbacks of a rebalance run there, inside of a read.
"""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from schemas.codec import plan
from schemas.topics import PRICES_LATEST
from streams.edge.commits import commit_moved
from streams.edge.price import Price
from streams.kafka import reader
from streams.kafka.kafka_settings import QUIET, client_config, edge_group_id, secret, topic_name
from streams.settings_webhooks import EndpointSettings
from streams.webhooks.attempts import Attempts, Pace, State
from streams.webhooks.message import headers_of, message_of
from streams.webhooks.metrics import WebhookMetrics
from streams.webhooks.pending import Change, Pending

log = logging.getLogger(__name__)

READ_RECORDS = 500
READ_WAIT_S = 0.05
# Before a call all that is there is read, so that it carries the newest; for so long at most.
DRAIN_S = 1.0
COMMIT_S = 1.0
STOP_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024
POLL_INTERVAL_MS = 300_000  # a call lasts 60 s at most
GONE = 410


class _Described(msgspec.Struct):
    category: str = ""


class _Told(Price, frozen=True, kw_only=True):
    """A price, and what filters look at."""

    record: _Described | None = None


plan(_Told)
_DECODER = msgspec.json.Decoder(_Told)


def group_of(settings: Any, endpoint: str) -> str:
    """The consumer group whose offsets are an endpoint's position."""
    return edge_group_id(settings, f"webhook-{endpoint}")


class Endpoint:
    """A receiver, from `run` until ``ending`` is set.

    Parameters
    ----------
    settings : the loaded configuration
    endpoint : one of ``webhooks.endpoints``
    client : sends; shared
    executor : with a thread for each endpoint
    is_stopped : whether the kill switch is on
    """

    def __init__(
        self,
        settings: Any,
        endpoint: EndpointSettings,
        client: httpx.AsyncClient,
        executor: Executor,
        is_stopped: Callable[[], bool],
        metrics: WebhookMetrics,
    ) -> None:
        hooks = settings.webhooks
        self.name = endpoint.name
        self.ending = threading.Event()
        self._settings = settings
        self._given = endpoint
        self._client = client
        self._executor = executor
        self._is_stopped = is_stopped
        self._metrics = metrics
        self._topic = topic_name(settings, PRICES_LATEST.name)
        self._pending = Pending()
        pace = Pace(
            1.0 / endpoint.requests_per_second, hooks.retry_base_s, hooks.retry_max_s,
            hooks.dead_after_s, hooks.dead_interval_s,
        )  # fmt: skip
        self._attempts = Attempts(pace, random.Random())
        self._secrets = [secret(endpoint.secret)]
        if endpoint.secret_previous is not None:
            self._secrets.append(secret(endpoint.secret_previous))
        self._committed: dict[int, int] = {}
        self._commit_due_s = 0.0
        self._limit: asyncio.Timeout | None = None

    @property
    def state(self) -> State:
        """What is to be thought of it."""
        return self._attempts.state

    @property
    def waiting(self) -> int:
        """Products whose newest price it has not been told."""
        return len(self._pending)

    async def run(self) -> None:
        """Read and tell until ``ending`` is set, or the receiver says that it is gone.

        Raises
        ------
        ServiceError : Kafka refuses, or the topic is missing
        """
        consumer = await self._in_thread(self._open)
        try:
            while not self.ending.is_set() and self.state is not State.DISABLED:
                await self._in_thread(
                    self._read, consumer, 0.0 if self._may_call() else READ_WAIT_S
                )
                if self._may_call():
                    await self._call()
                self._metrics.told(self.name, len(self._pending), self.state)
                if time.monotonic() >= self._commit_due_s:
                    await self._in_thread(self._commit, consumer)
        finally:
            await self._in_thread(self._close, consumer)

    def end(self) -> None:
        """Ask for an end; a call under way may take a few seconds more."""
        self.ending.set()
        if self._limit is not None:
            soon_s = asyncio.get_running_loop().time() + STOP_S
            self._limit.reschedule(min(self._limit.when() or soon_s, soon_s))

    def _may_call(self) -> bool:
        return (
            bool(self._pending)
            and not self._is_stopped()
            and self._attempts.may_call(time.monotonic())
        )

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *arguments)

    # -- in a thread: Kafka

    def _open(self) -> Consumer:
        config = {
            **client_config(self._settings),
            **QUIET,
            "group.id": group_of(self._settings, self.name),
            "session.timeout.ms": int(self._settings.kafka.session_timeout_s * 1000),
            "max.poll.interval.ms": POLL_INTERVAL_MS,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
        consumer = Consumer(config)
        reader.require_partitions(consumer, self._topic, reader.OUTAGE_S)
        consumer.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        return consumer

    def _close(self, consumer: Consumer) -> None:
        self._commit(consumer)
        consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """From the beginning, below the committed offset only to learn which versions were told."""
        committed = reader.ask(
            lambda: consumer.committed(places, timeout=reader.ANSWER_S), self._topic
        )
        for place in committed:
            resume = max(place.offset, 0)
            _, end = reader.log_range(consumer, place.topic, place.partition)
            if resume > end:
                log.warning(
                    "webhook %s: %s[%d] ends before the committed offset: it was made anew, and "
                    "all is told again", self.name, place.topic, place.partition,
                )  # fmt: skip
                resume = 0
            self._pending.assign(place.partition, resume)
            self._committed[place.partition] = place.offset
        consumer.assign(
            [TopicPartition(place.topic, place.partition, OFFSET_BEGINNING) for place in places]
        )

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._commit(consumer)
        self._lost(consumer, places)

    def _lost(self, _: Consumer, places: list[TopicPartition]) -> None:
        for place in places:
            self._pending.revoke(place.partition)
            self._committed.pop(place.partition, None)

    def _read(self, consumer: Consumer, wait_s: float) -> None:
        """Read all that is there."""
        deadline_s = time.monotonic() + DRAIN_S
        while True:
            messages = consumer.consume(READ_RECORDS, wait_s)
            for message in messages:
                self._take(message)
            if len(messages) < READ_RECORDS or time.monotonic() > deadline_s:
                return

    def _take(self, message: Message) -> None:
        error, number, offset = message.error(), message.partition(), message.offset()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                # the end may lie behind a transaction's marker, which is no message
                self._pending.passed(number, offset)
            elif error.code() not in reader.PASSING:
                raise reader.unreachable(KafkaException(error), self._topic)
            return
        timestamp_ms, value = message.timestamp()[1], message.value()
        if value is None:
            sku = (message.key() or b"").decode(errors="replace")
            change = Change(sku, 0, None, number, offset, timestamp_ms)
            # of which category it was is not known: whoever asks for categories is told
            self._pending.offer(change, wanted=not self._given.skus or sku in self._given.skus)
            return
        try:
            told = _DECODER.decode(value)
        except msgspec.MsgspecError as wrong:
            log.error("webhook %s: %s[%d]@%d is no price: %s", self.name, self._topic, number,
                      offset, wrong)  # fmt: skip
            self._pending.passed(number, offset + 1)
            return
        price = msgspec.structs.asdict(told)
        del price["record"]
        change = Change(told.sku, told.version, Price(**price), number, offset, timestamp_ms)
        self._pending.offer(change, wanted=self._wants(told))

    def _wants(self, told: _Told) -> bool:
        given = self._given
        if not given.skus and not given.categories:
            return True
        category = None if told.record is None else told.record.category
        return told.sku in given.skus or category in given.categories

    def _commit(self, consumer: Consumer) -> None:
        """Commit what has moved."""
        self._commit_due_s = time.monotonic() + COMMIT_S
        commit_moved(consumer, self._topic, self._pending.positions(), self._committed)

    # -- on the loop: HTTP

    async def _call(self) -> None:
        changes = self._pending.take(self._given.prices_max)
        message = message_of(self.name, changes)
        before, began_s = self.state, time.monotonic()
        status, retry_after_s, why = await self._post(message)
        if status is not None and 200 <= status < 300:
            self._pending.delivered(changes)
            self._attempts.delivered(began_s)
            self._metrics.calls.labels(self.name, "delivered").inc()
            self._metrics.prices.labels(self.name).inc(len(changes))
        elif status == GONE:
            self._attempts.disable()
            self._metrics.calls.labels(self.name, "gone").inc()
        else:
            self._pending.failed(changes)
            self._attempts.failed(began_s, time.monotonic(), retry_after_s)
            self._metrics.calls.labels(self.name, "failed").inc()
        if self.state is not before:
            self._tell(why)

    def _tell(self, why: str) -> None:
        level = logging.ERROR if self.state in (State.DEAD, State.DISABLED) else logging.WARNING
        waiting = len(self._pending)
        log.log(level, "webhook %s is %s (%s), %d prices wait", self.name, self.state, why, waiting)

    async def _post(self, message: Any) -> tuple[int | None, float | None, str]:
        """One attempt: status or None, what ``Retry-After`` asks for, what happened in words."""
        headers = headers_of(message, self._secrets, datetime.now(UTC))
        try:
            async with (
                asyncio.timeout(self._given.timeout_s) as self._limit,
                self._client.stream(
                    "POST", secret(self._given.url), content=message.body, headers=headers
                ) as response,
            ):
                size = 0
                async for part in response.aiter_raw():
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        break  # nobody reads it; the connection is closed
                after_s = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
                return response.status_code, after_s, f"status {response.status_code}"
        except TimeoutError:
            return None, None, f"no answer within {self._given.timeout_s:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, None, type(error).__name__  # its text may hold the address
        finally:
            self._limit = None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: a number or a date; None when it is neither.

    >>> retry_after("120", datetime(2026, 1, 1, tzinfo=UTC))
    120.0
    >>> retry_after("Thu, 01 Jan 2026 00:01:00 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    60.0
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - now).total_seconds())
