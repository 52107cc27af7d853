"""Small tapes for tests of the fold and the engine: events with sensible defaults, an engine that
takes them one at a time and says what came of each, and a simulated market with all that operators
and mistakes put on a tape.
"""

from collections import Counter
from typing import Any, NamedTuple

import msgspec
import orjson

from models.fold.engine import Batch, PartitionEngine
from models.kernel.tile import Kernel
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas import tape
from schemas.events import SOURCE_TYPES, EngineChanged, MoneyEvent, SkuEvent, rfc3339
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from schemas.policy import policy_sha256
from schemas.tape import Source
from streams.tape.tape_builder import TapeBuilder

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


def event(kind: str, at_ms: int, event_id: str, /, **fields: Any) -> dict[str, Any]:
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
        self, kind: str, at_ms: int, /, *, source_offset: int | None = None, **fields: Any
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
    discounts: list[DiscountOffered]

    @property
    def decision(self) -> PriceDecided:
        """The only decision."""
        (found,) = self.decisions
        return found


NOTHING = Seen([], [], [], [], [])


class Partition:
    """An engine and its tape, fed one event at a time."""

    def __init__(self, kernel: Kernel, partition: int = 0) -> None:
        self.engine = PartitionEngine.new(partition, kernel)
        self.tape = Tape()
        self.stored: dict[bytes, bytes] = {}

    def send(self, kind: str, at_ms: int, /, **fields: Any) -> Seen:
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
    found = Seen([], [], [], [], [])
    for output in batch.outputs:
        if output.topic == "prices":
            found.decisions.append(msgspec.json.decode(output.value, type=PriceDecided))
        elif output.topic == "prices-latest":
            found.latest.append(msgspec.json.decode(output.value, type=PriceDecided))
        elif output.topic == "alerts":
            found.alerts.append(msgspec.json.decode(output.value, type=Alert))
        elif output.topic == "discounts":
            found.discounts.append(msgspec.json.decode(output.value, type=DiscountOffered))
        else:
            assert output.topic == "dead-letter"
            headers = {name: value.decode() for name, value in output.headers}
            found.letters.append(Letter(output.key, orjson.loads(output.value), headers))
    return found


# -- a simulated market

STEPS_PER_DAY = 4
TWICE_EVERY = 23  # records between two that are appended twice


def simulated(kernel: Kernel, seed: int, days: int) -> list[Record]:
    """One tape partition of a small shop that follows our prices, step by step."""
    shop = Shop(
        seed,
        settings=ShopSettings(
            products=8, step_hours=24 // STEPS_PER_DAY, bad_share=0.01, family_share=0.9,
            start=rfc3339(START_MS),
        ),
    )  # fmt: skip
    builder = TapeBuilder(1, now_ms=at(days + 1))
    engine = PartitionEngine.new(0, kernel)
    prices: dict[str, int] = {}
    records: list[Record] = []
    for step in range(days * STEPS_PER_DAY):
        values = []
        for topic, value in [*shop.step(prices), *_spice(shop, step)]:
            values += [placed.value for placed in builder.append(topic, value)]
        if step == 70:
            values.append(_engine_changed(engine, shop.now_ms))
        for number, value in enumerate(values):
            twice = 2 if number % TWICE_EVERY == TWICE_EVERY - 1 else 1
            records += [(len(records) + again, value) for again in range(twice)]
        batch = engine.apply(records[engine.position + 1 :])
        prices |= {d.sku: d.price_minor for d in seen(batch).latest if d.price_minor is not None}
    return records


def _spice(shop: Shop, step: int) -> list[tuple[str, bytes]]:
    """What people and other systems do after a step."""
    now_ms = shop.now_ms - 1
    found = []
    for number, (kind, fields) in enumerate(_happenings(shop, now_ms).get(step, [])):
        value = orjson.dumps(event(kind, now_ms, f"spice-{step}-{number}", **fields))
        found.append((_KINDS[kind][0], value))
    return found


DISCOUNTS = """
[discounts]
segments = ["new", "returning"]
market = "DE"
disclosure = "personalised by automated means"
depth_ratio_min = 0.0001
[breaker]
established_orders = 3
inelastic_probability_max = 0.9
"""


def _happenings(shop: Shop, now_ms: int) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    sku = shop.catalogue.skus
    family = shop.catalogue.families[5] or sku[5]
    learned = msgspec.structs.replace(DEFAULT_PRIOR, mean=(0.5, -2.2, 0.2, 0.0))
    soon, later = rfc3339(now_ms + DAY_MS), rfc3339(now_ms + 3 * DAY_MS)
    return {
        10: [("policy_published",
              policy("[guards]\nstep_ratio_max = 0.05\nceiling_list_price_ratio = 1.5\n"
                     "[breaker]\nfast_sales_ratio = 1.01\nfast_sales_orders_min = 1\n"))],
        14: [("promotion_scheduled",
              {"skus": [sku[0], "ELSEWHERE"], "from_time": soon, "to_time": later, "depth": 0.1})],
        18: [_command("breaker_trip", kind="sku", name=sku[1])],
        22: [("policy_published", policy("[guards]\n", policy_sha256="0" * 64))],
        24: [("order_placed", {"sku": sku[0], "currency": "USD", "order_id": "usd"})],
        26: [_command("breaker_reset", kind="catalogue")],
        30: [("operator_command",
              {"command": "kill_switch_on", "expires_at": soon, "scope": {"kind": "catalogue"}}),
             ("cost_changed", {"sku": sku[6], "unit_cost_minor": 3000})],
        36: [("prior_published", {"prior": msgspec.to_builtins(learned),
                                  "prior_sha256": prior_sha256(learned)})],
        40: [("order_placed", {"sku": sku[2], "order_id": f"burst-{i}"}) for i in range(40)],
        44: [("cost_changed", {"sku": sku[3], "unit_cost_minor": None})],
        46: [("cost_changed", {"sku": sku[3], "unit_cost_minor": 2500})],
        50: [("product_retired", {"sku": sku[4]})],
        56: [("product_listed", {"sku": sku[4], "family": shop.catalogue.families[4]})],
        60: [("policy_published", policy(DISCOUNTS))],
        64: [_command("breaker_trip", kind="family", name=family)],
        68: [_command("breaker_reset", kind="family", name=family)],
    }  # fmt: skip


def _command(command: str, **scope: str) -> tuple[str, dict[str, Any]]:
    return "operator_command", {"command": command, "scope": scope}


def _engine_changed(engine: PartitionEngine, at_ms: int) -> bytes:
    previous = engine.kernel.fingerprint
    fields = {"fingerprint": "another", "previous": previous, "worker": "w2"}
    value = orjson.dumps(event("engine_changed", at_ms, "engine-0", **fields))
    return tape.wrap(Source("engine", 0, 0), value)
