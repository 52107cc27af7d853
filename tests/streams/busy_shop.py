"""A tape of more than 50,000 events with everything on it that a tape can hold.

A simulated shop that prices by habit, on a grid of half hours so that ticks do not outnumber
events, and what people and other systems add: policies with scopes, priors, a calendar, promotions,
operators' commands, trips, successors with and without a hand-over, late and bad events, records
that were appended twice, another engine. Seeded: always the same bytes.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from models.simulator.simulator import Shop
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_truth import ShopSettings
from schemas import tape
from schemas.events import DAY_MS, SOURCE_TYPES, EngineChanged, rfc3339
from schemas.tape import Source
from streams.controls.calendars import calendar_event
from streams.tape.event_files import SourceRecord
from streams.tape.tape_builder import Placed, TapeBuilder
from tests.models.tapes import event, policy

PARTITIONS = 4
SEED = 11
DAYS = 112
PRODUCTS = 40
EVENTS_LEAST = 50_000
STEPS_PER_DAY = 4
TWICE_EVERY = 401
NOW_MS = 1 << 41  # 2039: intake's clock, fixed, so that the same events are refused
MINUTES = re.compile(rb'("event_time":"[^"]{14})\d\d:\d\d\.\d{3}')
TOPICS = {str(k.__struct_config__.tag): topic for topic, ks in SOURCE_TYPES.items() for k in ks}

BASE = "[decision]\nexploration_budget_profit_share = 0.01\n"
NERVOUS = BASE + "[breaker]\nfast_sales_ratio = 1.01\nfast_sales_orders_min = 1\n"
SCOPED = (
    BASE
    + """
[guards]
step_ratio_max = 0.05
[discounts]
segments = ["new", "returning"]
market = "DE"
disclosure = "personalised by automated means"
depth_ratio_min = 0.0001
[markets.DE]
time_zone = "CET-1CEST,M3.5.0,M10.5.0/3"
[[scopes]]
select = {categories = ["lamps", "toys"]}
guards = {margin_floor_ratio = 0.12}
[[scopes]]
select = {markets = ["DE"]}
guards = {competitor_index_max = 1.3}
"""
)


def source_records() -> Iterator[SourceRecord]:
    """The source events, in the order in which they are sent."""
    shop = Shop(
        SEED,
        settings=ShopSettings(
            products=PRODUCTS, step_hours=24 // STEPS_PER_DAY, traffic_hours=6, family_share=0.5,
            bad_share=0.002, duplicate_share=0.005, promotion_rate=0.01, late_share=0.1,
        ),
    )  # fmt: skip
    habit = CostPlusHabit(shop, SEED)
    for step in range(DAYS * STEPS_PER_DAY):
        for topic, value in [*shop.step(habit.prices()), *_people(shop, step)]:
            yield topic, value and MINUTES.sub(_half_hour, value)


def _half_hour(found: re.Match[bytes]) -> bytes:
    minute = found[0][-9:-7]
    return found[1] + (b"30" if minute >= b"30" else b"00") + b":00.000"


def _people(shop: Shop, step: int) -> list[SourceRecord]:
    """What people and other systems do after a step."""
    day, in_day = divmod(step, STEPS_PER_DAY)
    if in_day:
        return []
    now_ms = shop.now_ms - 1
    found = []
    for number, (kind, fields) in enumerate(_happenings(shop, now_ms).get(day, [])):
        at_ms = now_ms - fields.pop("late_ms", 0)
        value = orjson.dumps(event(kind, at_ms, f"people-{day}-{number}", **fields))
        found.append((TOPICS[kind], value))
    if day == 20:
        table = {rfc3339(now_ms + days * DAY_MS)[:10]: ["sale"] for days in (5, 12, 40)}
        found.append(("controls", orjson.dumps(calendar_event(table, now_ms))))
    return found


def _happenings(shop: Shop, now_ms: int) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    sku, families = shop.catalogue.skus, shop.catalogue.families
    family = next(name for name in families if name is not None)
    learned = msgspec.structs.replace(DEFAULT_PRIOR, mean=(0.5, -2.2, 0.2, 0.0))
    prior = {"prior": msgspec.to_builtins(learned), "prior_sha256": prior_sha256(learned)}
    soon, later = rfc3339(now_ms + DAY_MS), rfc3339(now_ms + 8 * DAY_MS)
    belief = {"mean": [0.5, -2.4, 0.2, 0.0], "cov": [0.6, 0, 0, 0, 0.3, 0, 0, 0.04, 0, 0.6]}
    catalogue = {"kind": "catalogue"}
    return {
        10: [("policy_published", policy(NERVOUS))],
        16: [_command("breaker_reset", kind="catalogue"), ("policy_published", policy(SCOPED))],
        22: [("policy_published", policy(BASE, policy_sha256="0" * 64))],
        24: [("order_placed", {"sku": sku[0], "currency": "USD", "order_id": "usd"}),
             ("order_placed", {"sku": sku[1], "order_id": "late", "late_ms": 3 * DAY_MS}),
             ("inventory_changed", {"sku": sku[2], "on_hand": 9, "late_ms": DAY_MS})],
        28: [("promotion_scheduled", {"skus": list(sku[:5]), "from_time": soon,
                                      "to_time": later, "depth": 0.15})],
        30: [("order_placed", {"sku": sku[3], "order_id": f"burst-{i}"}) for i in range(60)],
        34: [_command("breaker_trip", kind="sku", name=sku[1]),
             _command("breaker_trip", kind="family", name=family)],
        38: [_command("breaker_reset", kind="family", name=family)],
        42: [("operator_command", {"command": "kill_switch_on", "expires_at": soon,
                                   "scope": catalogue}),
             ("cost_changed", {"sku": sku[6], "unit_cost_minor": 3000})],
        45: [("prior_published", prior)],
        48: [_command("approve", {"price_id": "0-1-X"}, kind="sku", name=sku[2]),
             _command("reject", {"price_id": "0-1-Y"}, kind="sku", name=sku[2])],
        52: [("breaker_tripped", {"scope": catalogue, "reason": "too many moves",
                                  "evidence": {"moved": 40}})],
        54: [_command("breaker_reset", kind="catalogue"), ("policy_published", policy(BASE))],
        58: [("product_listed", {"sku": "NEXT-1", "family": families[0] or sku[0],
                                 "predecessor": sku[0]}),
             ("product_listed", {"sku": "NEXT-2", "handed_over": {
                 "sku": sku[7], "reference_price_minor": 1000, **belief, "orders": 90,
                 "epochs": 12, "size_lines": 90.0, "size_units": 120.0}})],
        60: [("order_placed", {"sku": f"NEXT-{1 + i % 2}", "order_id": f"n-{i}"})
             for i in range(50)],
        70: [("product_retired", {"sku": sku[0]}), ("product_retired", {"sku": sku[4]})],
        75: [("product_listed", {"sku": sku[4], "family": families[4] or sku[4]})],
    }  # fmt: skip


def _command(
    command: str, more: dict[str, Any] | None = None, **scope: str
) -> tuple[str, dict[str, Any]]:
    return "operator_command", {"command": command, "scope": scope, **(more or {})}


def engine_changed(partition: int, at_ms: int) -> bytes:
    """The tape record that says that another engine prices from here on."""
    fields = {"fingerprint": "another", "previous": "an engine before", "worker": "w2"}
    value = orjson.dumps(
        {"type": "engine_changed", "event_id": f"engine-{partition}",
         "event_time": rfc3339(at_ms), **fields}
    )  # fmt: skip
    return tape.wrap(Source("engine", partition, 0), value)


def tape_records(records: list[SourceRecord]) -> tuple[list[Placed], int]:
    """The tape of these events, some records twice and another engine in the middle of it; and how
    many events were refused.
    """
    builder = TapeBuilder(PARTITIONS, now_ms=NOW_MS)
    placed: list[Placed] = []
    ends: Counter[int] = Counter()

    def put(partition: int, value: bytes) -> None:
        placed.append(Placed(partition, ends[partition], value))
        ends[partition] += 1

    for number, (topic, value) in enumerate(records):
        for one in builder.append(topic, value):
            for _ in range(2 if number % TWICE_EVERY == 1 else 1):
                put(one.partition, one.value)
        if number == len(records) // 2:
            at_ms = tape.decode(placed[-1].value).event.event_time_ms
            for partition in range(PARTITIONS):
                put(partition, engine_changed(partition, at_ms))
    return placed, builder.dead_letters


def every_type() -> set[str]:
    """The types that may stand on a tape, by the registry of events."""
    kinds = {str(kind.__struct_config__.tag) for kinds in SOURCE_TYPES.values() for kind in kinds}
    return kinds | {str(EngineChanged.__struct_config__.tag)}
