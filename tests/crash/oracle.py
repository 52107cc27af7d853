"""The guards once more, in other code: which prices may be published, from the tape alone.

It follows catalogue, policy, operator commands and published prices of one tape partition, and
knows nothing of demand. Limits are intervals from the strongest to the weakest; one that leaves no
tick between yields to the stronger ones, which then allow a single price.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.policy import GuardPolicy
from schemas.scopes import parse_policy
from tests.crash.accounts import Entry

SLACK = 1e-9  # relative: bounds are products of floats
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Product:
    """What the catalogue and the published prices say of one product."""

    sku: str
    family: str
    currency: str = ""
    cost_minor: int | None = None
    kept_share: float = 1.0
    list_minor: int | None = None
    resale_minor: dict[str, int] | None = None
    reference_minor: int | None = None
    retired: bool = False
    stopped: bool = False  # by an operator's trip
    published_minor: int | None = None
    day: int | None = None
    day_open_minor: int | None = None


class Oracle:
    """Follows one tape partition; ``observe`` each entry, then ``judge`` its decisions."""

    def __init__(self) -> None:
        self.policy = parse_policy("").base
        self.products: dict[str, Product] = {}
        self.clock_ms: int | None = None
        self.now_ms = 0
        self.killed = False
        self.kill_expires_ms: int | None = None

    def observe(self, entry: Entry) -> None:
        """Take one tape record in."""
        event = entry.event
        event_ms = _ms(event["event_time"])
        clock_ms = event_ms if self.clock_ms is None else self.clock_ms
        self.now_ms = max(clock_ms, event_ms)
        if entry.fate != "applied":
            return
        take = getattr(self, f"_{event['type']}", None)
        if take is not None:
            take(event)

    def _product_listed(self, event: dict[str, Any]) -> None:
        sku = event["sku"]
        family = event.get("family") or sku
        product = self.products.setdefault(sku, Product(sku, family))
        product.currency = event["currency"]
        product.cost_minor = event.get("unit_cost_minor")
        product.kept_share = (1.0 - event.get("fee_rate", 0.0)) / (1.0 + event.get("vat_rate", 0.0))
        product.list_minor = event.get("list_price_minor")
        product.resale_minor = event.get("minimum_resale_price_minor")
        product.retired = False
        self._fix_reference(product)

    def _cost_changed(self, event: dict[str, Any]) -> None:
        product = self.products[event["sku"]]
        product.cost_minor = event["unit_cost_minor"]
        self._fix_reference(product)

    def _fix_reference(self, product: Product) -> None:
        if product.reference_minor is not None:
            return
        if product.list_minor is not None:
            product.reference_minor = product.list_minor
        elif product.cost_minor is not None:
            markup = self.policy.objective.expert_markup_ratio
            product.reference_minor = math.ceil(markup * product.cost_minor / product.kept_share)

    def _product_retired(self, event: dict[str, Any]) -> None:
        self.products[event["sku"]].retired = True

    def _policy_published(self, event: dict[str, Any]) -> None:
        self.policy = parse_policy(event["policy"]).base

    def _clock_ticked(self, event: dict[str, Any]) -> None:
        self.clock_ms = _ms(event["event_time"])
        if self.kill_expires_ms is not None and self.kill_expires_ms <= self.clock_ms:
            self.killed, self.kill_expires_ms = False, None

    def _operator_command(self, event: dict[str, Any]) -> None:
        if event["command"].startswith("kill_switch"):
            self.killed = event["command"] == "kill_switch_on"
            expires = event.get("expires_at") if self.killed else None
            self.kill_expires_ms = None if expires is None else _ms(expires)
            return
        kind, name = event["scope"]["kind"], event["scope"].get("name")
        for product in self.products.values():
            named = {"sku": product.sku, "family": product.family, "catalogue": None}[kind]
            if named == name and not product.retired:
                product.stopped = event["command"] == "breaker_trip"

    def judge(self, decision: dict[str, Any]) -> list[str]:
        """What is wrong with a decision made at the entry just observed."""
        product = self.products.get(decision["sku"])
        if product is None:
            return ["the product was never listed"]
        wrong = []
        if decision["status"] != "published":
            if decision["price_minor"] != product.published_minor:
                wrong.append(f"held at {decision['price_minor']}, not {product.published_minor}")
            return wrong
        price = decision["price_minor"]
        for stops, why in (
            (self.killed, "the kill switch is on"),
            (product.stopped, "an operator stopped the product"),
            (product.retired, "the product is retired"),
            (decision["currency"] != product.currency, f"currency {decision['currency']}"),
            (price % self.policy.guards.tick_minor, f"{price} is no tick"),
            (product.cost_minor is None, "no cost is known"),
        ):
            if stops:
                wrong.append(why)
        if product.cost_minor is not None:
            wrong += self._outside(product, price)
        self._remember(product, price)
        return wrong

    def _outside(self, product: Product, price: int) -> list[str]:
        """Guards that the price breaks and that no stronger guard overrules."""
        tick = self.policy.guards.tick_minor
        low, high = 0.0, math.inf
        wrong = []
        for name, least, most in self._limits(product):
            new_low, new_high = max(low, least), min(high, most)
            if _up(new_low, tick) > new_high * (1 + SLACK):
                low = high = _down(high, tick) if least > low else _up(low, tick)
            else:
                low, high = new_low, new_high
            if not low * (1 - SLACK) <= price <= high * (1 + SLACK):
                wrong.append(f"{price} breaks {name}: {low:.2f} to {high:.2f} is allowed")
                break
        return wrong

    def _limits(self, product: Product) -> list[tuple[str, float, float]]:
        guards: GuardPolicy = self.policy.guards
        assert product.cost_minor is not None
        floor = product.cost_minor / product.kept_share
        limits = [
            ("cost floor", floor, math.inf),
            ("margin floor", floor / (1 - guards.margin_floor_ratio), math.inf),
        ]
        resale = product.resale_minor or {}
        markets = [resale[m] for m in guards.minimum_resale_price_markets if m in resale]
        if markets:
            limits.append(("minimum resale price", max(markets), math.inf))
        if product.list_minor is not None:
            most = product.list_minor * guards.ceiling_list_price_ratio
            limits.append(("list price ceiling", 0.0, most))
        if product.reference_minor is not None:
            reference = product.reference_minor
            limits.append(("reference ceiling", 0.0, reference * guards.ceiling_reference_ratio))
            limits.append(("reference floor", reference * guards.floor_reference_ratio, math.inf))
        before = product.published_minor
        day_open = product.day_open_minor if product.day == self.now_ms // DAY_MS else before
        for name, anchor, ratio in (
            ("step limit of the day", day_open, guards.day_step_ratio_max),
            ("step limit", before, guards.step_ratio_max),
        ):
            if anchor is not None:
                limits.append((name, anchor * (1 - ratio), anchor * (1 + ratio)))
        return limits

    def _remember(self, product: Product, price: int) -> None:
        day = self.now_ms // DAY_MS
        if product.day != day:
            before = product.published_minor
            product.day, product.day_open_minor = day, price if before is None else before
        product.published_minor = price


def _ms(text: str) -> int:
    return round((datetime.fromisoformat(text) - EPOCH).total_seconds() * 1000)


def _up(price: float, tick: int) -> float:
    return max(math.ceil(price / tick - SLACK), 1) * tick


def _down(price: float, tick: int) -> float:
    return math.floor(price / tick + SLACK) * tick
