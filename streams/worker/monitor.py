"""The monitor: moves of an event day summed over the whole catalogue, whoever prices its parts.

A partition bounds its own moves; P partitions together could make P times as many of one kind. The
owner of ``controls`` therefore follows the committed state of all partitions (prices, catalogue
entries, policies and clocks, in the words of the fold) and puts ``breaker_tripped`` on ``controls``
when the whole is beyond the limits of a policy in force. It does so once an event day: after that
people decide, as the fold does not count the moves of a day that a breaker has judged. The state
topic has all that it needs, so a restart reads it and knows the same.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from models.breaker.moves import Moved, beyond, day_of, is_move, most_at_one_price
from schemas import topics
from schemas.errors import InputError, PricemakerError, ServiceError
from schemas.events import DAY_MS, EPOCH, MILLISECOND, BreakerTripped, Scope, rfc3339
from schemas.policy import BreakerPolicy
from schemas.scopes import parse_policy
from schemas.state import SkuState
from streams.controls import controls
from streams.kafka import reader
from streams.kafka.kafka_settings import reader_config, topic_name

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
READ_DEADLINE_S = 600.0
SHOWN_MAX = 10  # SKUs named in the evidence
_PRICE_FIELDS = ("published_minor", "day_open_minor", "day_open")
_LAST = SkuState.__struct_fields__.index("day_open") + 1


class _Entry(msgspec.Struct):
    family: str
    currency: str
    retired: bool


class _Policy(msgspec.Struct):
    policy: str


class _Manifest(msgspec.Struct):
    clock_ms: int | None = None


# Fields of a product's record stand by place: those before are skipped, those behind not read.
_Prices: Any = msgspec.defstruct(
    "_Prices",
    [
        (name, int | None if name in _PRICE_FIELDS else msgspec.Raw)
        for name in SkuState.__struct_fields__[:_LAST]
    ],
    array_like=True,
)
_entry = msgspec.json.Decoder(_Entry)
_policy = msgspec.json.Decoder(_Policy)
_manifest = msgspec.json.Decoder(_Manifest)
_prices = msgspec.msgpack.Decoder(_Prices)


class WholeCatalogue:
    """What the partitions' state records say together of an event day's moves. Pure."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._moved: dict[str, tuple[int, int, int]] = {}  # SKU -> day, price before and now
        self._policies: dict[int, BreakerPolicy] = {}
        self.clock_ms: int | None = None
        self.changed = False

    @property
    def day(self) -> int | None:
        """The event day of the furthest clock; None before the first tick."""
        return day_of(self.clock_ms)

    def take(self, partition: int, key: str, value: bytes | None) -> None:
        """Take in a record of the state topic; None for one that is no more."""
        kind, _, name = key.partition("/")
        if kind == "sku":
            self._take_price(name, value)
        elif kind == "catalogue":
            self._entries.pop(name, None)
            if value is not None:
                self._entries[name] = _entry.decode(value)
        elif value is None:
            return
        elif key == "policy":
            limits = parse_policy(_policy.decode(value).policy).base.breaker
            self.changed |= self._policies.get(partition) != limits
            self._policies[partition] = limits
        elif key == "manifest":
            self._take_clock(_manifest.decode(value).clock_ms)

    def _take_price(self, sku: str, value: bytes | None) -> None:
        known = self._moved.pop(sku, None)
        if value is not None:
            found = _prices.decode(value)
            day, before, now = found.day_open, found.day_open_minor, found.published_minor
            if None not in (day, before, now) and before != now:
                self._moved[sku] = (day, before, now)
        self.changed |= self._moved.get(sku) != known

    def _take_clock(self, clock_ms: int | None) -> None:
        if clock_ms is None or (self.clock_ms is not None and clock_ms <= self.clock_ms):
            return
        before, self.clock_ms = self.day, clock_ms
        if self.day != before:
            self.changed = True
            for sku in [sku for sku, (day, *_) in self._moved.items() if day < clock_ms // DAY_MS]:
                del self._moved[sku]

    def judge(self) -> BreakerTripped | None:
        """What is to be told of the day: its moves are beyond the limits of a policy in force."""
        self.changed = False
        clock_ms, day = self.clock_ms, self.day
        if clock_ms is None or day is None:
            return None
        for limits in dict.fromkeys(self._policies.values()) or (BreakerPolicy(),):
            least = min(limits.catalogue_moved_count_min, limits.same_price_count_max)
            if len(self._moved) < least:
                continue
            moves = self._moves(day, limits.catalogue_move_ratio)
            products = sum(not entry.retired for entry in self._entries.values())
            reasons = beyond(list(moves.values()), products, limits)
            if reasons:
                return BreakerTripped(
                    event_id=event_id(day),
                    event_time=EPOCH + clock_ms * MILLISECOND,
                    scope=Scope("catalogue"),
                    reason="; ".join(reasons),
                    evidence={
                        "moved": len(moves),
                        "products": products,
                        "at_one_price": most_at_one_price(list(moves.values()))[0],
                        "skus": sorted(moves)[:SHOWN_MAX],
                    },
                )
        return None

    def _moves(self, day: int, ratio: float) -> dict[str, Moved]:
        found = {}
        for sku, (then, before, now) in self._moved.items():
            entry = self._entries.get(sku)
            if then != day or entry is None or entry.retired:
                continue
            if is_move(before, now, ratio):
                found[sku] = Moved(entry.family, entry.currency, before, now)
        return found


def event_id(day: int) -> str:
    """Of the one event that may be told of a day.

    >>> event_id(20454)
    'monitor-2026-01-01'
    """
    return f"monitor-{rfc3339(day * DAY_MS)[:10]}"


class Monitor:
    """Follows the state topic and tells ``controls``.

    Parameters
    ----------
    on_error : called, from its thread, with what ended it: nobody may price unwatched
    isolation : ``read_uncommitted`` on the embedded broker, which has no transactions
    """

    def __init__(
        self,
        settings: Any,
        on_error: Callable[[BaseException], None],
        isolation: str = "read_committed",
    ) -> None:
        self._settings = settings
        self._on_error = on_error
        self._config = {**reader_config(settings, "monitor"), "isolation.level": isolation}
        self._topic = topic_name(settings, topics.STATE.name)
        self._consumer: Consumer | None = None
        self._next: dict[int, int] = {}
        self._whole = WholeCatalogue()
        self._told_day: int | None = None
        self._owns = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    # -- in a worker

    def own(self, owns: bool) -> None:
        """Work from now on, or rest: the owner of ``controls`` is another worker."""
        if not owns:
            self._owns.clear()
            return
        self._owns.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread and let the connection go."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._forget()

    def _run(self) -> None:
        try:
            while not self._ending.wait(LOOK_EVERY_S):
                if self._owns.is_set():
                    self.look()
                else:
                    self._forget()
        except (KafkaException, PricemakerError) as error:
            self._on_error(error)

    def _forget(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer, self._next, self._whole = None, {}, WholeCatalogue()

    # -- one look

    def look(self) -> bool:
        """Read the state up to its present end and judge the day; whether something was told.

        Raises
        ------
        ServiceError : the broker does not answer
        """
        if not self._read():
            return False
        day = self._whole.day
        if not self._whole.changed or day is None or day == self._told_day:
            return False
        found = self._whole.judge()
        if found is None:
            return False
        self._told_day = day
        if self._is_told(found.event_id):
            return False
        log.warning("catalogue breakers are tripped: %s", found.reason)
        controls.send(self._settings, found)
        return True

    def _read(self) -> bool:
        """Read up to the present end; False when the worker ends or rests before."""
        consumer = self._consumer or self._open()
        ends = {
            number: reader.log_range(consumer, self._topic, number, reader.OUTAGE_S)[1]
            for number in self._next
        }
        deadline = time.monotonic() + READ_DEADLINE_S
        while any(self._next[number] < end for number, end in ends.items()):
            if self._ending.is_set() or (self._thread is not None and not self._owns.is_set()):
                return False
            for message in consumer.consume(reader.CONSUME_RECORDS_MAX, reader.CONSUME_WAIT_S):
                self._take(message)
            if time.monotonic() > deadline:
                raise ServiceError(
                    "read_too_slow", f"read up to {self._next} of {ends}.", where=self._topic
                )
        return True

    def _open(self) -> Consumer:
        consumer = self._consumer = Consumer(self._config)
        count = reader.require_partitions(consumer, self._topic, reader.OUTAGE_S)
        self._next = {
            number: reader.log_range(consumer, self._topic, number, reader.OUTAGE_S)[0]
            for number in range(count)
        }
        consumer.assign([TopicPartition(self._topic, *place) for place in self._next.items()])
        return consumer

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is None:
            self._next[message.partition()] = message.offset() + 1
            key = message.key().decode()
            try:
                self._whole.take(message.partition(), key, message.value())
            except msgspec.MsgspecError as broken:
                raise InputError(
                    "torn_state", f"{broken}.", where=f"{self._topic}[{message.partition()}]",
                    field=key, fix="Only workers of one version may write this topic.",
                ) from broken  # fmt: skip
        elif error.code() == KafkaError._PARTITION_EOF:
            # it may lie behind a transaction's marker, which is no message
            self._next[message.partition()] = message.offset()
        elif error.code() not in reader.PASSING:
            raise reader.unreachable(KafkaException(error), self._topic)

    def _is_told(self, wanted: str) -> bool:
        """Whether a monitor before this one has told it: ``controls`` has the event."""
        topic = topic_name(self._settings, topics.CONTROLS.name)
        needle = b'"%b"' % wanted.encode()
        with reader.opened(self._settings, "monitor") as consumer:
            found = [
                needle in (message.value() or b"")
                for message in reader.read_to_end(consumer, topic, 0, READ_DEADLINE_S)
            ]
        return any(found)
