"""The guards once more, in other code: which prices may be published, from the tape alone.

It follows catalogue, policy, operator commands, rivals and published prices of one tape partition,
and knows nothing of demand. Limits are intervals from the strongest to the weakest; one that leaves
no tick between yields to the stronger ones, which then allow a single price. What follows demand
(adaptive step, stock cover, canary) it cannot know: a weaker limit that gave way to one of those is
taken on the record's word. So is the prior price that an announced reduction is taken off (it has a
brute force of its own); that one runs or has just ended is read from the tape.
"""

import math
import statistics
import tomllib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

SLACK = 1e-9  # relative: bounds are products of floats
DAY_MS = 86_400_000
WEAK = ("ladder", "competitor_ceiling", "competitor_floor")
ORDER = (
    "cost floor", "margin floor", "minimum resale price", "announced reduction",
    "list price ceiling", "reference ceiling", "reference floor", "step limit of the day",
    "step limit", *WEAK,
)  # fmt: skip
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
    category: str = ""
    role: str = "plain"
    rivals: dict[str, tuple[int | None, int]] = field(default_factory=dict)  # price, when
    reductions: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)  # from, to
    begins_ms: list[int] = field(default_factory=list)  # of those ever announced
    seen_minor: list[int] = field(default_factory=list)  # as one was announced after it began
    published_ms: int = 0
    published: list[tuple[int, int]] = field(default_factory=list)  # when, price
    applied: list[tuple[int, int]] = field(default_factory=list)


DEFAULTS: dict[str, Any] = {
    "margin_floor_ratio": 0.05,
    "ceiling_list_price_ratio": 1.0,
    "ceiling_reference_ratio": 2.0,
    "floor_reference_ratio": 0.4,
    "step_ratio_max": 0.1,
    "day_step_ratio_max": 0.2,
    "minimum_resale_price_markets": [],
    "tick_minor": 1,
    "ending_modulus_minor": 100,
    "endings_minor": [],
}
SELECTORS = {"skus": "sku", "families": "family", "categories": "category", "roles": "role"}


class Oracle:
    """Follows one tape partition; ``observe`` each entry, then ``judge`` its decisions."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.products: dict[str, Product] = {}
        self.clock_ms: int | None = None
        self.now_ms = 0
        self.killed = False
        self.kill_expires_ms: int | None = None

    def observe(self, event: dict[str, Any], *, applied: bool) -> None:
        """Take one tape record in."""
        event_ms = _ms(event["event_time"])
        clock_ms = event_ms if self.clock_ms is None else self.clock_ms
        self.now_ms = max(clock_ms, event_ms)
        if not applied:
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
        product.category, product.role = event["category"], event.get("role", "plain")
        self._fix_reference(product)

    def _competitor_price_observed(self, event: dict[str, Any]) -> None:
        offered = event.get("listed", True) and event.get("in_stock", True)
        sound = event.get("match_confidence", 1.0) >= 0.5
        price, seen_ms = event["price_minor"], _ms(event["event_time"])
        known = self.products[event["sku"]].rivals
        if known.get(event["competitor"], (None, -1))[1] <= seen_ms:
            known[event["competitor"]] = (price if offered and sound else None, seen_ms)

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
            markup = self.document.get("objective", {}).get("expert_markup_ratio", 2.0)
            product.reference_minor = math.ceil(markup * product.cost_minor / product.kept_share)

    def _product_retired(self, event: dict[str, Any]) -> None:
        self.products[event["sku"]].retired = True

    def _promotion_scheduled(self, event: dict[str, Any]) -> None:
        begins_ms, ends_ms = _ms(event["from_time"]), _ms(event["to_time"])
        for sku in event["skus"]:
            if sku in self.products:
                product = self.products[sku]
                product.reductions.pop((event["kind"], begins_ms), None)
                if not event["announced"]:
                    continue
                product.reductions[event["kind"], begins_ms] = (begins_ms, ends_ms)
                product.begins_ms.append(begins_ms)
                if begins_ms <= self.now_ms:
                    for series in (product.published, product.applied):
                        product.seen_minor += [price for _, price in series[-1:]]

    def _price_applied(self, event: dict[str, Any]) -> None:
        shown = self.products[event["sku"]].applied
        shown.append((_ms(event["event_time"]), event["price_minor"]))

    def _policy_published(self, event: dict[str, Any]) -> None:
        self.document = tomllib.loads(event["policy"])

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
        price, guards = decision["price_minor"], self._guards(product)
        tick = guards[0]["tick_minor"]
        for stops, why in (
            (self.killed, "the kill switch is on"),
            (product.stopped, "an operator stopped the product"),
            (product.retired, "the product is retired"),
            (decision["currency"] != product.currency, f"currency {decision['currency']}"),
            (price % tick, f"{price} is no tick"),
            (product.cost_minor is None, "no cost is known"),
        ):
            if stops:
                wrong.append(why)
        if product.cost_minor is not None:
            record = decision["record"]
            highest = [one["highest_minor"] for one in record.get("prior_prices", [])]
            wrong += self._outside(product, price, guards, record["gave_way"], highest)
        self._remember(product, price)
        return wrong

    def judge_quote(self, request: dict[str, Any], quote: dict[str, Any]) -> list[str]:
        """What is wrong with a price that was quoted after the entry just observed.

        One that is held is the last good price, and one without conditions the price in force.
        """
        product = replace(self.products[quote["sku"]])
        asked = {name: value for name, value in request.items() if (name, value) != ("quantity", 1)}
        plain = asked == {"sku": quote["sku"]} and product.published_minor is not None
        if plain or any(flag.startswith("held: ") for flag in quote["flags"]):
            same = quote["price_minor"] == product.published_minor
            return [] if same else [f"held at {quote['price_minor']}"]
        if self.killed or product.stopped or product.retired:
            return ["nothing may be quoted but the last good price"]
        product.cost_minor = request.get("unit_cost_minor") or product.cost_minor
        guards = self._guards(product, request.get("market"), request.get("channel"))
        gave_way = [flag.removeprefix("gave way: ") for flag in quote["flags"]]
        return self._outside(product, quote["price_minor"], guards, gave_way, [])

    def _guards(
        self, product: Product, market_only: str | None = None, channel_only: str | None = None
    ) -> list[dict[str, Any]]:
        """The guards of each market and channel that hold for a product, or of one of them."""
        found = []
        for market in list(self.document.get("markets", {})) or [None]:
            for channel in self.document.get("channels", []) or [None]:
                if market_only not in (None, market) or channel_only not in (None, channel):
                    continue
                guards = DEFAULTS | self.document.get("guards", {})
                for scope in self.document.get("scopes", []):
                    named = scope["select"]
                    takes = all(
                        getattr(product, SELECTORS[kind]) in named[kind]
                        for kind in SELECTORS
                        if kind in named
                    )
                    here = market in named.get("markets", [market]) and channel in named.get(
                        "channels", [channel]
                    )
                    if takes and here:
                        guards |= scope.get("guards", {})
                found.append(guards)
        return found

    def _outside(
        self,
        product: Product,
        price: int,
        guards: list[dict[str, Any]],
        gave_way: list[str],
        announced_minor: list[int],
    ) -> list[str]:
        """Guards that the price breaks and that no stronger guard overrules."""
        tick = guards[0]["tick_minor"]
        low, high = 0.0, math.inf
        wrong = []
        limits = [limit for one in guards for limit in self._limits(product, one)]
        limits += self._ladders(product)
        if self._reduced(product):
            limits += [("announced reduction", 0.0, float(one)) for one in announced_minor]
        for name in ORDER:
            mine = [limit for limit in limits if limit[0] == name]
            if not mine or (name in WEAK and any(said.startswith(name) for said in gave_way)):
                continue
            least = max(limit[1] for limit in mine)
            most = max(min(limit[2] for limit in mine), least)
            new_low, new_high = max(low, least), min(high, most)
            if _up(new_low, tick) > new_high * (1 + SLACK):
                low = high = _nearest(least, most, low, high, tick)
            else:
                low, high = new_low, new_high
            if not low * (1 - SLACK) <= price <= high * (1 + SLACK):
                wrong.append(f"{price} breaks {name}: {low:.2f} to {high:.2f} is allowed")
                break
        if not wrong and not self._ends(price, guards[0]) and "ending" not in gave_way:
            wrong.append(f"{price} has no ending of the policy")
        return wrong

    @staticmethod
    def _ends(price: int, guards: dict[str, Any]) -> bool:
        endings = guards["endings_minor"]
        return not endings or price % guards["ending_modulus_minor"] in endings

    def _ladders(self, product: Product) -> list[tuple[str, float, float]]:
        """Against what neighbours cost now; pack sizes' units never dearer."""
        limits = []
        for ladder in self.document.get("ladders", []):
            skus = ladder["skus"]
            for below, above in pairwise(skus):
                other = {below: above, above: below}.get(product.sku)
                beside = self.products.get(other or "")
                if beside is None or beside.retired or beside.published_minor is None:
                    continue
                price, least = beside.published_minor, ladder.get("ratio_min", 1.0)
                most = ladder.get("ratio_max", math.inf)
                if "units" in ladder:
                    units = ladder["units"]
                    most = min(most, units[skus.index(above)] / units[skus.index(below)])
                limits.append(
                    ("ladder", least * price, most * price)
                    if product.sku == above
                    else ("ladder", price / most, price / least)
                )
        return limits

    def _rival_minor(self, product: Product) -> float | None:
        if product.reference_minor is None:
            return None
        usable = [
            price
            for price, seen_ms in product.rivals.values()
            if price is not None
            and self.now_ms - seen_ms <= 7 * DAY_MS
            and 1 / 3 <= price / product.reference_minor <= 3
        ]
        return statistics.median(usable) if usable else None

    def _limits(self, product: Product, guards: dict[str, Any]) -> list[tuple[str, float, float]]:
        assert product.cost_minor is not None
        floor = product.cost_minor / product.kept_share
        limits = [
            ("cost floor", floor, math.inf),
            ("margin floor", floor / (1 - guards["margin_floor_ratio"]), math.inf),
        ]
        resale = product.resale_minor or {}
        markets = [resale[m] for m in guards["minimum_resale_price_markets"] if m in resale]
        if markets:
            limits.append(("minimum resale price", max(markets), math.inf))
        if product.list_minor is not None:
            most = product.list_minor * guards["ceiling_list_price_ratio"]
            limits.append(("list price ceiling", 0.0, most))
        if product.reference_minor is not None:
            reference = product.reference_minor
            highest = reference * guards["ceiling_reference_ratio"]
            limits.append(("reference ceiling", 0.0, highest))
            lowest = reference * guards["floor_reference_ratio"]
            limits.append(("reference floor", lowest, math.inf))
        before = product.published_minor
        day_open = product.day_open_minor if product.day == self.now_ms // DAY_MS else before
        for name, anchor, ratio in (
            ("step limit of the day", day_open, guards["day_step_ratio_max"]),
            ("step limit", before, guards["step_ratio_max"]),
        ):
            if anchor is not None:
                most = max(anchor * (1 + ratio), self._way_back(product))
                limits.append((name, anchor * (1 - ratio), most))
        rival = self._rival_minor(product)
        if rival is not None and "competitor_index_max" in guards:
            limits.append(("competitor_ceiling", 0.0, rival * guards["competitor_index_max"]))
        if rival is not None and "competitor_index_min" in guards:
            limits.append(("competitor_floor", rival * guards["competitor_index_min"], math.inf))
        return limits

    def _reduced(self, product: Product) -> bool:
        return any(begins <= self.now_ms < ends for begins, ends in product.reductions.values())

    def _way_back(self, product: Product) -> int:
        """The highest price before reductions, where one ended since the last publication.

        What is published as one begins is its own price, none before it; of one that is announced
        after it began, what was published until then.
        """
        spans = product.reductions.values()
        if not any(product.published_ms < ends <= self.now_ms for _, ends in spans):
            return 0
        before = [
            price
            for begins in product.begins_ms
            for series in (product.published, product.applied)
            for price in [price for at_ms, price in series if at_ms < begins][-1:]
        ]
        return max(before + product.seen_minor, default=0)

    def _remember(self, product: Product, price: int) -> None:
        day = self.now_ms // DAY_MS
        product.published.append((self.now_ms, price))
        product.published_ms = self.now_ms
        if product.day != day:
            before = product.published_minor
            product.day, product.day_open_minor = day, price if before is None else before
        product.published_minor = price


def _ms(text: str) -> int:
    return round((datetime.fromisoformat(text) - EPOCH).total_seconds() * 1000)


def _nearest(least: float, most: float, low: float, high: float, tick: int) -> float:
    """The tick from low to high that lies nearest to least..most; the lower of two."""
    around = _up(low, tick), _down(min(most, high), tick), _up(max(least, low), tick)
    allowed = [one for one in around if low * (1 - SLACK) <= one <= high * (1 + SLACK)]
    return min(allowed, key=lambda one: (max(least - one, one - most), one))


def _up(price: float, tick: int) -> float:
    return max(math.ceil(price / tick - SLACK), 1) * tick


def _down(price: float, tick: int) -> float:
    return math.floor(price / tick + SLACK) * tick
