"""The projector: carries ``prices-latest`` to Redis, and makes it anew there after a flush.

A follower's thread reads Kafka and writes to Redis, batch by batch; while Redis is away it asks
again and again and nothing more is read. What is there at the start is read to its end first, and
of each product only the last is written: nobody sees an old price come back while the feed is made
anew. The main thread looks once a second whether the feed is still what was written, and begins
again from the feed's own position when it is not. What it has done is committed for a consumer
group, for monitoring only: the position is in Redis.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import redis
from confluent_kafka import Consumer
from redis.backoff import ExponentialWithJitterBackoff

from schemas.errors import CheckFailed
from schemas.topics import PRICES_LATEST
from streams.edge.commits import commit_moved
from streams.edge.follower import Record, TopicFollower
from streams.edge.price import Price, prices_of
from streams.edge.projector_metrics import ProjectorMetrics
from streams.edge.redis_client import (
    is_passing,
    redis_client,
    redis_error,
    warn_of_eviction,
)
from streams.edge.redis_feed import Change, FeedLost, Move, RedisFeed
from streams.edge.switch import PriceSwitch
from streams.kafka import admin
from streams.kafka.kafka_settings import (
    edge_group_id,
    reader_config,
    topic_name,
)
from streams.tracing import Tracing, end_spans

log = logging.getLogger(__name__)

CHECK_S = 1.0
WRITE_MAX = 100  # changes in one script: while it runs Redis serves nobody else
ONCE_STEP_S = SWITCH_STEP_S = 0.02
BACKOFF_BASE_S, BACKOFF_MAX_S = 0.05, 2.0
# How long Redis may be away at the start, or in a run that is to end, before it is an error.
PATIENCE_S = 15.0

Answer = TypeVar("Answer")


class Summary(NamedTuple):
    """What a projector has done."""

    records: int
    accepted: int
    rebuilds: int
    unreadable: int
    positions: dict[int, int]


class Stopped(Exception):
    """The projector was asked to end while it waited for Redis."""


class Projector:
    """Carries prices to Redis until it is stopped.

    Several may run at once: versions make that harmless, and useless.

    Parameters
    ----------
    settings : the loaded configuration
    metrics : what it tells Prometheus
    tracing : where to send spans; without it there are none
    client : for Redis; by default as the settings say
    """

    def __init__(
        self,
        settings: Any,
        *,
        metrics: ProjectorMetrics | None = None,
        tracing: Tracing | None = None,
        client: redis.Redis | None = None,
    ) -> None:
        self._settings = settings
        self._client = client or redis_client(settings, "projector")
        self._topic = topic_name(settings, PRICES_LATEST.name)
        self._feed = RedisFeed(
            self._client, settings.redis.prefix, admin.topic_id(settings, self._topic),
            settings.redis.changes_max,
        )  # fmt: skip
        self._metrics = metrics or ProjectorMetrics()
        self._tracing = tracing
        self._switch = PriceSwitch(settings, self._fail)
        self._ending = threading.Event()
        self._lost = threading.Event()
        self._error: BaseException | None = None
        self._positions: dict[int, int] = {}
        self._gathered: dict[str, Change] | None = None  # until all that is there was read
        self._moves: dict[int, Move] = {}
        self._records = self._accepted = self._rebuilds = self._unreadable = 0
        self._redis_away = False
        self._broker_away = False
        self._started = False
        self._patient = False
        self._looked_s = time.monotonic()

    # -- from any thread

    def stop(self) -> None:
        """Ask for an end; what is in hand is finished, or left for the next start."""
        self._ending.set()

    def alive(self) -> str | None:
        """What would be mended by a restart: None while the main thread moves or waits."""
        limit_s = 10 * (CHECK_S + self._settings.redis.timeout_s)
        silent_s = time.monotonic() - self._looked_s
        return f"no sign of life for {silent_s:.0f} s" if silent_s > limit_s else None

    def ready(self) -> str | None:
        """Why prices do not flow: None while they do."""
        if not self._started:
            return "starting"
        if self._switch.on:
            return "the kill switch is on"
        if self._redis_away:
            return "Redis takes no prices"
        return "Kafka does not answer" if self._broker_away else None

    @property
    def summary(self) -> Summary:
        """What was done so far."""
        return Summary(
            self._records, self._accepted, self._rebuilds, self._unreadable,
            dict(sorted(self._positions.items())),
        )  # fmt: skip

    # -- the main thread

    def rebuild(self) -> int:
        """Delete the feed, so that the next run makes it from the beginning; keys deleted.

        Raises
        ------
        ConfigError, ServiceError : Redis refuses or does not answer
        """
        return self._ask(self._feed.forget)

    def run(self, *, once: bool = False) -> Summary:
        """Project until stopped, or, ``once``, until all is there that was at the start.

        Raises
        ------
        ConfigError : Redis refuses, or holds the feed of another topic
        ServiceError : Kafka does not answer, or Redis at the start
        CheckFailed : ``once``, while the kill switch is on
        """
        try:
            self._switch.start()
            self._ask(lambda: warn_of_eviction(self._client))
            with _Commits(self._settings, self._topic) as commits:
                while not self._follow(commits, once) and not self._ending.is_set():
                    self._rebuilds += 1
                    self._metrics.rebuilds.inc()
        except Stopped:
            pass
        finally:
            self._switch.close()
        if self._error is not None:
            raise self._error
        return self.summary

    def _follow(self, commits: "_Commits", once: bool) -> bool:
        """Follow the topic from the feed's position on; False when the feed was lost."""
        starts = self._ask(self._feed.begin)
        log.info("the feed goes on from %s", starts or "the beginning")
        self._positions = dict(starts)
        self._gathered, self._moves = {}, {}
        self._lost.clear()
        follower = TopicFollower(
            self._settings, PRICES_LATEST, "projector", self._take, self._fail, starts=starts,
            on_caught_up=self._write_gathered,
        ).start()  # fmt: skip
        self._started, self._patient = True, not once
        try:
            while not (self._ending.is_set() or self._lost.is_set()):
                caught_up = follower.caught_up.is_set()
                self._look(follower, commits)
                if once and caught_up:
                    break
                if once and self._switch.on:
                    self._ending.set()
                    raise CheckFailed(
                        "kill_switch_on", "the kill switch is on: no price is passed on.",
                        fix="Wait until it is released: pricemaker kill-switch status",
                    )  # fmt: skip
                self._lost.wait(ONCE_STEP_S if once else CHECK_S)
        finally:
            follower.close()
        return not self._lost.is_set()

    def _look(self, follower: TopicFollower, commits: "_Commits") -> None:
        """Look whether all is well, and tell how far it has come."""
        self._looked_s = time.monotonic()
        self._broker_away = follower.broker_away
        self._metrics.told(self._redis_away, self._switch.on)
        try:
            self._feed.check(dict(self._positions))
        except FeedLost as lost:
            self._tell_lost(lost)
        except redis.RedisError as error:
            if not is_passing(error):
                raise redis_error(error) from None
            self._away(error)
        else:
            self._back()
            if self._gathered is None and not self._lost.is_set():
                commits.commit(follower.positions)

    # -- the follower's thread

    def _take(self, records: list[Record]) -> None:
        changes = {} if self._gathered is None else self._gathered
        for record, price in prices_of(records, self._topic, self._left_out):
            self._add(changes, record, price)
        for record in records:
            known = self._positions.get(record.partition, 0)
            self._moves[record.partition] = Move(known, record.offset + 1)
        self._records += len(records)
        self._metrics.read.inc(len(records))
        if self._gathered is None:
            spans: dict[int, Any] = {}
            if self._tracing is not None:
                headers = ((number, record.headers) for number, record in enumerate(records))
                spans = self._tracing.begin("project", headers)
            self._write(changes)
            end_spans(spans)

    def _write_gathered(self) -> None:
        self._write(self._gathered or {})
        self._gathered = None

    def _write(self, changes: dict[str, Change]) -> None:
        """Write changes; the position moves with the last of them."""
        items = list(changes.items())
        parts = [dict(items[at : at + WRITE_MAX]) for at in range(0, len(items), WRITE_MAX)] or [{}]
        still = {number: Move(move.known, move.known) for number, move in self._moves.items()}
        for part in parts:
            while self._switch.on and not (self._lost.is_set() or self._ending.is_set()):
                self._lost.wait(SWITCH_STEP_S)
            if self._lost.is_set() or self._ending.is_set():
                return
            moves = self._moves if part is parts[-1] else still
            try:
                accepted = self._ask(lambda part=part, moves=moves: self._feed.write(part, moves))
            except FeedLost as lost:
                self._tell_lost(lost)
                return
            except Stopped:
                return
            self._accepted += accepted
            self._metrics.accepted.inc(accepted)
        self._positions.update({number: move.after for number, move in self._moves.items()})
        self._moves = {}

    def _left_out(self) -> None:
        self._unreadable += 1
        self._metrics.unreadable.inc()

    def _add(self, changes: dict[str, Change], record: Record, price: Price | None) -> None:
        """Keep the last of each product, and the highest version seen of it."""
        seen = changes.get(record.sku if price is None else price.sku)
        if price is None:
            changes[record.sku] = Change(seen.version if seen else 0, None)
        elif seen is None or seen.version < price.version:
            changes[price.sku] = Change(price.version, price)

    def _tell_lost(self, lost: FeedLost) -> None:
        if not self._lost.is_set():
            log.warning("Redis was flushed, replaced or set back (%s): the feed begins again", lost)
            self._lost.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._ending.set()

    # -- Redis, from both threads

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        """Call Redis; while it is away, again and again. At the start it must answer in time."""
        backoff = ExponentialWithJitterBackoff(BACKOFF_MAX_S, BACKOFF_BASE_S)
        began_s, failures = time.monotonic(), 0
        while True:
            try:
                answer = call()
            except redis.RedisError as error:
                late = time.monotonic() - began_s > PATIENCE_S
                if (late and not self._patient) or not is_passing(error):
                    raise redis_error(error) from None
                self._away(error)
                failures += 1
                if self._ending.wait(backoff.compute(failures)):
                    raise Stopped from None
            else:
                self._back()
                return answer

    def _away(self, error: redis.RedisError) -> None:
        if not self._redis_away:
            self._redis_away = True
            log.warning("Redis takes no prices (%s): they wait in Kafka", type(error).__name__)
        self._metrics.failures.inc()

    def _back(self) -> None:
        if self._redis_away:
            self._redis_away = False
            log.warning("Redis takes prices again")


class _Commits:
    """Commits positions for a group that nobody joins, so that its lag shows."""

    def __init__(self, settings: Any, topic: str) -> None:
        group = edge_group_id(settings, "projector")
        self._topic = topic
        self._committed: dict[int, int] = {}
        self._consumer = Consumer({**reader_config(settings, "projector"), "group.id": group})

    def __enter__(self) -> "_Commits":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def commit(self, positions: dict[int, int]) -> None:
        """Commit what has moved."""
        commit_moved(self._consumer, self._topic, positions, self._committed)
