"""The events of a run: a simulated shop, its operators, its mistakes; all from one seed."""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from models.simulator.simulator import Shop
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_truth import ShopSettings
from schemas.events import rfc3339, time_ms
from streams.tape.event_files import event_key

TICK_EVERY = 150  # records between two explicit ticks
DUPLICATE_EVERY = 90  # records between two that are sent again
SECRET_EVERY = 400  # records between two orders that carry what no log may hold
WRONG_CURRENCY_EVERY = 500  # records between two orders in a currency that is not the product's
SECRET = "card-4929-1234-5678-9012"


class Item(NamedTuple):
    """One source record to send; ``listing``: it must be confirmed before what follows."""

    topic: str
    key: bytes | None
    value: bytes | None
    listing: bool = False


def feed(seed: int, records: int, products: int = 150) -> list[Item]:
    """``records`` items: a shop's events with bad ones, repeats, controls and ticks among them."""
    shop = Shop(seed, settings=ShopSettings(products=products, bad_share=0.01))
    return list(islice(_spiced(shop, seed, records), records))


def _events(shop: Shop, seed: int) -> Iterator[tuple[str, bytes | None]]:
    habit = CostPlusHabit(shop, seed)
    while True:
        yield from shop.step(habit.prices())


def _spiced(shop: Shop, seed: int, records: int) -> Iterator[Item]:
    commands = dict(_commands(shop, records))
    at = shop.settings.start
    last_tick = ""
    for number, (topic, value) in enumerate(_events(shop, seed)):
        yield Item(topic, event_key(value), value, b'"product_listed"' in (value or b""))
        if value is not None and b'"order_placed"' in value and b'"bad-' not in value:
            order = orjson.loads(value)
            at = order["event_time"]
            yield from _mistakes(number, order)
        if number in commands:
            yield _control(at, number, commands[number])
        if number % TICK_EVERY == 0 and at > last_tick:
            last_tick = at
            yield _control(at, number, {"type": "clock_ticked"})
        if number % DUPLICATE_EVERY == 0 and topic != "products":
            yield Item(topic, event_key(value), value)


def _mistakes(number: int, order: dict[str, Any]) -> Iterator[Item]:
    key = order["sku"].encode()
    if number % SECRET_EVERY < SECRET_EVERY // 20:
        # Unknown fields are ignored; the second copy is refused for its quantity.
        for quantity in (1, -1):
            event_id = f"card-{number}-{quantity}"
            change = {"event_id": event_id, "quantity": quantity, "payment": SECRET}
            yield Item("orders", key, orjson.dumps(order | change))
    if number % WRONG_CURRENCY_EVERY < WRONG_CURRENCY_EVERY // 25:
        change = {"event_id": f"usd-{number}", "currency": "USD"}
        yield Item("orders", key, orjson.dumps(order | change))


def _control(at: str, number: int, fields: dict[str, Any]) -> Item:
    event = {"event_id": f"control-{number}-{fields['type']}", "event_time": at, **fields}
    return Item("controls", None, orjson.dumps(event))


def _commands(shop: Shop, records: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What operators do, by the number of the shop's event after which they do it."""
    sku, other = shop.catalogue.skus[0], shop.catalogue.skus[1]
    start_ms = time_ms(datetime.fromisoformat(shop.settings.start))
    days = {day: rfc3339(start_ms + day * 86_400_000) for day in (2, 3, 400)}
    catalogue, one = {"kind": "catalogue"}, {"kind": "sku", "name": sku}
    calendar = {"2025-01-06": ["pay_day"], "2025-01-20": ["pay_day"]}
    text = orjson.dumps(calendar, option=orjson.OPT_SORT_KEYS)
    steps: list[dict[str, Any]] = [
        policy('[guards]\nmargin_floor_ratio = 0.12\nstep_ratio_max = 0.05\n'),
        {
            "type": "calendar_published",
            "calendar": calendar,
            "calendar_sha256": hashlib.sha256(text).hexdigest(),
        },
        {
            "type": "promotion_scheduled", "skus": [sku, other], "from_time": days[2],
            "to_time": days[3], "kind": "winter", "announced": True, "depth": 0.1,
        },
        command("breaker_trip", one),
        policy("[guards]\nmargin_floor_ratio = 0.2\n") | {"policy_sha256": "0" * 64},
        policy("[guards]\nno_such_guard = 1\n"),
        command("breaker_reset", one),
        command("kill_switch_on", catalogue),
        command("kill_switch_off", catalogue),
        command("kill_switch_on", one),
        command("breaker_trip", {"kind": "family", "name": other}),
        policy("[guards]\nceiling_list_price_ratio = 0.95\n[decision]\nepoch_days_max = 3.0\n"),
        command("breaker_reset", catalogue),
        command("kill_switch_on", catalogue) | {"expires_at": days[400]},
        command("kill_switch_off", catalogue),
    ]  # fmt: skip
    for number, fields in enumerate(steps, 1):
        yield number * records // (len(steps) + 3), fields


def policy(text: str) -> dict[str, Any]:
    """A policy and its hash."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return {"type": "policy_published", "policy": text, "policy_sha256": sha256}


def command(name: str, scope: dict[str, Any]) -> dict[str, Any]:
    """An operator's command."""
    return {
        "type": "operator_command",
        "command": name,
        "actor": "crash harness",
        "reason": "scripted",
        "scope": scope,
    }
