"""The event scripts: small deterministic generators, some of which answer our own prices.

All events of a step lie in its first minute, behind the tick that begins it, so that the order on
the tape does not depend on how a driver sends them.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from schemas.events import SOURCE_TYPES, rfc3339
from schemas.policy import policy_sha256
from streams.demo import SOURCE_ORDER
from streams.worker.ticks import tick_event
from tests.court.scenario import Part, Product, Scenario

START_MS = 1_736_121_600_000  # 2025-01-06T00:00Z
HOUR_MS = 3_600_000
HARM = "harm-"

TOPICS = {str(k.__struct_config__.tag): topic for topic, ks in SOURCE_TYPES.items() for k in ks}

Wanted = tuple[str, str | None, dict[str, Any]]  # type, SKU, fields


class Sent(NamedTuple):
    """A source record to send."""

    topic: str
    sku: str | None
    value: bytes


class World:
    """What the generators share: the prices that buyers see, and what is to come back."""

    def __init__(self, scenario: Scenario) -> None:
        self.products = {product.sku: product for product in scenario.catalogue}
        self.published: dict[str, int] = {}
        self.shown: dict[str, int] = {}  # what the shop shows of its own accord
        self.step_hours = scenario.step_hours
        self.owed: dict[tuple[int, str], float] = defaultdict(float)  # orders not yet whole
        self.orders = 0
        self.returns: dict[int, list[Wanted]] = defaultdict(list)  # by step

    def price(self, sku: str) -> int:
        listed = self.products[sku].list_price_minor
        return self.shown.get(sku) or self.published.get(sku) or listed


class Script:
    """The events of a scenario, step by step."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario)
        self._number = 0

    def step(self, number: int, published: dict[str, int]) -> list[Sent]:
        """The records of a step, in the order in which they are sent, the tick first."""
        self.world.published = dict(published)
        at_ms = step_ms(self.scenario, number)
        found: dict[str, list[Sent]] = defaultdict(list)
        wanted = [(False, one) for one in self._opening()] if number == 0 else []
        wanted += [(False, one) for one in self.world.returns.pop(number, [])]
        for index, part in enumerate(self.scenario.script):
            in_time = part.from_step <= number < part.to_step
            if in_time and (number - part.from_step) % part.every == 0:
                made = GENERATORS[part.generator](self.world, index, part, number)
                wanted += [(part.harm, one) for one in made]
        for harm, (kind, sku, fields) in wanted:
            self._number += 1
            event_id = f"{HARM if harm else ''}{kind}-{self._number}"
            time_text = rfc3339(at_ms + self._number % 50_000 + 1)
            event = {"type": kind, "event_id": event_id, "event_time": time_text}
            if sku is not None:
                event["sku"] = sku
                event["currency"] = "EUR"
            found[TOPICS[kind]].append(Sent(TOPICS[kind], sku, orjson.dumps(event | fields)))
        tick = Sent("controls", None, tick_event(at_ms))
        return [tick, *(one for topic in SOURCE_ORDER for one in found[topic.name])]

    def _opening(self) -> Iterator[Wanted]:
        for product in self.scenario.catalogue:
            yield "product_listed", product.sku, listing(product)
            if product.on_hand is not None:
                yield "inventory_changed", product.sku, {"on_hand": product.on_hand}
        if self.scenario.policy:
            text = self.scenario.policy
            yield "policy_published", None, {"policy": text, "policy_sha256": policy_sha256(text)}


def step_ms(scenario: Scenario, number: int) -> int:
    """When a step begins, Unix milliseconds."""
    return START_MS + round(number * scenario.step_hours * HOUR_MS)


def listing(product: Product) -> dict[str, Any]:
    """A listing's fields."""
    fields: dict[str, Any] = {
        "category": product.category,
        "unit_cost_minor": product.unit_cost_minor,
        "list_price_minor": product.list_price_minor,
        "vat_rate": product.vat_rate,
        "fee_rate": product.fee_rate,
    }
    if product.exit_date is not None:
        fields["exit_date"] = product.exit_date
    return fields


# -- generators: world, place in the script, part, step -> what happens


def event(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """Any event, for each product (or, without products, once): its type and fields."""
    fields = dict(part.settings)
    kind = fields.pop("type")
    if "policy" in fields:
        fields["policy_sha256"] = policy_sha256(fields["policy"])
    for sku in part.skus or [None]:
        yield kind, sku, fields


def relist(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """A catalogue feed sends listings again, with some fields of its own; None: left blank."""
    for sku in part.skus:
        fields = listing(world.products[sku]) | part.settings
        blank = fields.pop("blank", [])
        yield "product_listed", sku, {k: None if k in blank else v for k, v in fields.items()}


def follower(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """A rival that prices at a multiple of what we publish."""
    for sku in part.skus:
        price = max(round(world.price(sku) * part.settings["ratio"]), 1)
        yield (
            "competitor_price_observed",
            sku,
            {"competitor": part.settings.get("competitor", "follower"), "price_minor": price},
        )


def customers(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """Orders at the shown price, by constant elasticity and a factor that may change or swing.

    ``copies`` of each come as a feed repeats them: with the same event id, or as new events.
    ``return_share`` of them come back, after each of ``return_after_steps`` in turn.
    """
    wish = part.settings
    for sku in part.skus:
        price = world.price(sku)
        rate = wish["orders_per_day"] * world.step_hours / 24.0 * _factor(wish, step)
        reference = world.products[sku].list_price_minor
        rate *= (price / reference) ** wish["elasticity"]
        world.owed[index, sku] += rate
        for _ in range(math.floor(world.owed[index, sku])):
            world.owed[index, sku] -= 1.0
            yield from _order(world, wish, sku, price, step)


def _factor(wish: dict[str, Any], step: int) -> float:
    factor = 1.0
    for change_step, value in wish.get("factors", []):
        if step >= change_step:
            factor = value
    return factor * math.exp(_swing(wish, step))


def _swing(wish: dict[str, Any], step: int) -> float:
    """Demand that no feed tells of: its log, a wave of ``swing_steps``."""
    if "swing_log" not in wish:
        return 0.0
    return float(wish["swing_log"] * math.sin(2.0 * math.pi * step / wish["swing_steps"]))


def _order(world: World, wish: dict[str, Any], sku: str, price: int, step: int) -> Iterator[Wanted]:
    world.orders += 1
    order_id = f"o{world.orders}"
    fields = {"order_id": order_id, "line_id": "1", "quantity": 1, "unit_price_minor": price}
    if "copies" in wish:
        at_ms = START_MS + round(step * world.step_hours * HOUR_MS)
        fields["event_time"] = rfc3339(at_ms + 50_000)
    yield "order_placed", sku, fields
    for copy in range(wish.get("copies", 0)):
        again = {"event_id": f"{HARM}{order_id}-{copy // 2}"}  # each is sent twice
        yield "order_placed", sku, fields | again
    share = wish.get("return_share", 0.0)
    before, now = math.floor((world.orders - 1) * share), math.floor(world.orders * share)
    if now > before:
        back = {"order_id": order_id, "line_id": "1", "quantity": 1, "refund_minor": price}
        delays = wish["return_after_steps"]
        world.returns[step + delays[now % len(delays)]].append(("order_returned", sku, back))


def shop_rule(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """A shop that sets its own price: by ``pass_through`` of the demand that it sees."""
    wish = part.settings
    for sku in part.skus:
        reference = world.products[sku].list_price_minor
        level = wish.get("level", 1.0)
        price = max(
            round(reference * level * math.exp(wish.get("pass_through", 0.0) * _swing(wish, step))),
            1,
        )
        world.shown[sku] = price
        yield "price_applied", sku, {"price_minor": price}


def shop_follows(world: World, index: int, part: Part, step: int) -> Iterator[Wanted]:
    """The shop shows our price again."""
    for sku in part.skus:
        world.shown.pop(sku, None)
        yield "price_applied", sku, {"price_minor": world.price(sku)}


GENERATORS = {
    "event": event,
    "relist": relist,
    "follower": follower,
    "customers": customers,
    "shop_rule": shop_rule,
    "shop_follows": shop_follows,
}
