"""Small tapes for tests of the fold and the engine: events with sensible defaults, and an engine
that takes them one at a time and says what came of each.
"""

from collections import Counter
from typing import Any, NamedTuple

import msgspec
import orjson

from models.engine import Batch, PartitionEngine
from models.tile import Kernel
from schemas import tape
from schemas.events import SOURCE_TYPES, EngineChanged, MoneyEvent, SkuEvent, rfc3339
from schemas.outputs import Alert, PriceDecided
from schemas.policy import policy_sha256
from schemas.tape import Source

START_MS = 1_767_571_200_000  # 2026-01-05T00:00Z, a Monday
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

Record = tuple[int, bytes]

_KINDS = {
    str(kind.__struct_config__.tag): (topic, kind)
    for topic, kinds in SOURCE_TYPES.items()
    for kind in kinds
} | {"engine_changed": ("engine", EngineChanged)}

_DEFAULTS: dict[str, dict[str, Any]] = {
    "product_listed": {"category": "lamps", "unit_cost_minor": 500, "list_price_minor": 1000},
    "order_placed": {"line_id": "1", "quantity": 1, "unit_price_minor": 1000},
    "order_cancelled": {"line_id": "1", "quantity": 1},
    "order_returned": {"line_id": "1", "quantity": 1, "refund_minor": 1000},
    "competitor_price_observed": {"competitor": "rival"},
    "operator_command": {
        "actor": "kim",
        "reason": "drill",
        "scope": {"kind": "catalogue"},
    },
    "promotion_scheduled": {"kind": "winter", "announced": True},
}


def at(days: float = 0.0, hours: float = 0.0, minutes: float = 0.0) -> int:
    """Event time, Unix milliseconds, counted from the start of the tests' time."""
    return START_MS + round(days * DAY_MS + hours * HOUR_MS + minutes * MINUTE_MS)


def event(kind: str, at_ms: int, event_id: str, **fields: Any) -> dict[str, Any]:
    """An event as JSON values; what is not given has a plain default."""
    struct = _KINDS[kind][1]
    found = {"type": kind, "event_id": event_id, "event_time": rfc3339(at_ms)}
    if issubclass(struct, SkuEvent):
        found["sku"] = "A"
    if issubclass(struct, MoneyEvent):
        found["currency"] = "EUR"
    return found | _DEFAULTS.get(kind, {}) | fields


def policy(text: str, **fields: Any) -> dict[str, Any]:
    """Fields of a policy and its hash."""
    return {"policy": text, "policy_sha256": policy_sha256(text)} | fields


class Tape:
    """One tape partition as intake writes it; every source topic has one partition, from 0."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._source_ends: Counter[str] = Counter()

    def add(
        self, kind: str, at_ms: int, *, source_offset: int | None = None, **fields: Any
    ) -> Record:
        """Append an event; an append that happened twice repeats its ``source_offset``."""
        topic = _KINDS[kind][0]
        if source_offset is None:
            source_offset = self._source_ends[topic]
            self._source_ends[topic] += 1
        event_id = fields.pop("event_id", f"{topic}-{source_offset}")
        value = orjson.dumps(event(kind, at_ms, event_id, **fields))
        return self.add_value(Source(topic, 0, source_offset), value)

    def add_value(self, source: Source, value: bytes) -> Record:
        """Append an event's bytes."""
        self.records.append((len(self.records), tape.wrap(source, value)))
        return self.records[-1]


class Letter(NamedTuple):
    """A dead letter of the fold."""

    key: bytes | None
    value: dict[str, Any]
    headers: dict[str, str]


class Seen(NamedTuple):
    """What one event led to."""

    decisions: list[PriceDecided]
    latest: list[PriceDecided]
    alerts: list[Alert]
    letters: list[Letter]

    @property
    def decision(self) -> PriceDecided:
        """The only decision."""
        (found,) = self.decisions
        return found


NOTHING = Seen([], [], [], [])


class Partition:
    """An engine and its tape, fed one event at a time."""

    def __init__(self, kernel: Kernel, partition: int = 0) -> None:
        self.engine = PartitionEngine.new(partition, kernel)
        self.tape = Tape()
        self.stored: dict[bytes, bytes] = {}

    def send(self, kind: str, at_ms: int, **fields: Any) -> Seen:
        """Append an event to the tape and apply it."""
        return self.apply(self.tape.add(kind, at_ms, **fields))

    def apply(self, *records: Record) -> Seen:
        """Apply tape records as one batch, and keep the state records as a compacted topic does."""
        batch = self.engine.apply(records)
        keep(self.stored, batch)
        return seen(batch)

    def tick(self, at_ms: int) -> Seen:
        """Move the clock."""
        return self.send("clock_ticked", at_ms)

    @property
    def state(self) -> Any:
        """State of the product "A"."""
        return self.engine.state.skus["A"]


def keep(stored: dict[bytes, bytes], batch: Batch) -> None:
    """What a compacted topic keeps of a batch's state records."""
    for key, value in batch.state:
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


def seen(batch: Batch) -> Seen:
    """A batch's outputs, decoded, by topic."""
    found = Seen([], [], [], [])
    for output in batch.outputs:
        if output.topic == "prices":
            found.decisions.append(msgspec.json.decode(output.value, type=PriceDecided))
        elif output.topic == "prices-latest":
            found.latest.append(msgspec.json.decode(output.value, type=PriceDecided))
        elif output.topic == "alerts":
            found.alerts.append(msgspec.json.decode(output.value, type=Alert))
        else:
            assert output.topic == "dead-letter"
            headers = {name: value.decode() for name, value in output.headers}
            found.letters.append(Letter(output.key, orjson.loads(output.value), headers))
    return found
