"""A simulated shop that knows its truth, for demos, tests and measurements.

It is a closed loop: each step takes the prices published so far and gives the events of the next
hour. Everything follows from the seed and the prices: the same ones give the same bytes, and other
prices meet the same visitors. docs/simulator.md describes the world and what it leaves out.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from models.simulator import simulator_events as events
from models.simulator.simulator_customers import (
    DAY_MS,
    HOUR_MS,
    Customers,
    Purchase,
    Step,
    draw_visits,
    season,
)
from models.simulator.simulator_market import Market
from models.simulator.simulator_records import RecordBook, SourceRecord
from models.simulator.simulator_truth import ShopSettings, Truth, draw_truth
from models.simulator.world_demand import Demand
from models.simulator.world_truth import Bools, Draws, Floats, Ints
from schemas.events import rfc3339, time_ms


class _Later(NamedTuple):
    """Units of an order that come back, cancelled or returned."""

    at_ms: int
    product: int
    line: events.Line
    quantity: int
    price_minor: int
    is_cancellation: bool


class Shop:
    """A shop, its customers, rivals and suppliers.

    Parameters
    ----------
    seed : of everything random
    products : at the start; ``settings`` has the rest, and wins
    settings : how the shop is drawn
    truth : its products, where they are not to be drawn; as many as the settings say

    Attributes
    ----------
    now_ms : simulated time at which the next step begins, Unix milliseconds
    totals : counts of orders, units, lost orders and returned units, and the contribution margin
        in minor units of EUR, as the shop's books would show them
    """

    def __init__(
        self,
        seed: int,
        products: int = 100,
        settings: ShopSettings | None = None,
        truth: Truth | None = None,
    ) -> None:
        self.seed = seed
        self.settings = settings or ShopSettings(products=products)
        self._draws = Draws(seed)
        self.catalogue = draw_truth(self.settings, self._draws) if truth is None else truth
        self.totals: Counter[str] = Counter()
        self._book = RecordBook(self.settings, self._draws.rng("records"))
        self._start_ms = time_ms(datetime.fromisoformat(self.settings.start))
        self.now_ms = self._start_ms
        self._step_ms = self.settings.step_hours * HOUR_MS
        self._time_text = events.TimeText()
        self._skus = [sku.encode() for sku in self.catalogue.skus]
        self._orders = 0
        self._later: dict[int, list[_Later]] = {}  # by the number of the step
        self.shown_minor: list[int | None] = [None] * len(self._skus)
        self._price_minor = self.catalogue.list_price_minor.copy()
        self.units_sold = np.zeros(len(self._skus), np.int64)
        self._visits = np.zeros(len(self._skus), np.int64)
        self._searches = np.zeros(len(self._skus), np.int64)
        self._market = Market(self.catalogue, self.settings, self._draws)
        self._customers = Customers(self.catalogue, self.settings)
        self._promotions = 0

    def step(self, prices: Mapping[str, int]) -> list[SourceRecord]:
        """Let one step of time pass.

        Parameters
        ----------
        prices : SKU -> published price, minor units; a product without one shows its list price

        Returns
        -------
        (topic, value) in time order; a value is None only where bad records are asked for
        """
        start_ms = self.now_ms
        day, in_day_ms = divmod(start_ms - self._start_ms, DAY_MS)
        if in_day_ms == 0:
            self._begin_day(start_ms, day)
        restocked = self._give_back(start_ms)
        self._arrivals(start_ms)
        self._show(start_ms, prices)
        rng = self._draws.rng("step", self._step_number(start_ms))  # no draw depends on prices
        self._rivals(start_ms, rng)
        self._sell(start_ms, rng)
        for i, quantity in restocked:  # back on the shelf from the next step on
            self._market.on_hand[i] += quantity
        self.now_ms = start_ms + self._step_ms
        if (self.now_ms - self._start_ms) % (self.settings.traffic_hours * HOUR_MS) == 0:
            self._count_traffic()
        listed = [self.catalogue.skus[i] for i in np.flatnonzero(self.listed).tolist()]
        return self._book.close(self.now_ms, listed)

    @property
    def repeats(self) -> int:
        """How many records were sent twice."""
        return self._book.repeats

    @property
    def bad_records(self) -> Counter[str]:
        """How many of each kind of bad record were sent."""
        return self._book.bad_records

    @property
    def listed(self) -> Bools:
        """Which products [n] are on sale."""
        return self._market.listed

    @property
    def cost_minor(self) -> Floats:
        """What a unit of each product [n] costs at present, minor units."""
        return self._market.cost_minor

    @property
    def on_hand(self) -> Ints:
        """Units on the shelf [n] at present."""
        return np.array(self._market.on_hand)

    @property
    def demand(self) -> Demand:
        """The true demand of the present day."""
        return self._market.demand

    @property
    def ln_price(self) -> Floats:
        """Ln of the shown price over the list price [n]."""
        return np.asarray(np.log(self._price_minor / self.catalogue.list_price_minor))

    def rival_ratio(self) -> Floats:
        """Mean ln(rival / list) [n] of the offers that can be bought; NaN without one."""
        return self._market.rival_ratio()

    def schedule_promotion(self, i: int, from_ms: int, to_ms: int, depth: float) -> None:
        """Tell of a reduction of product ``i`` by the share ``depth``; whoever prices makes it."""
        self._promotions += 1
        sku, at = self.catalogue.skus[i], self._time_text(self.now_ms)
        value = events.promotion_scheduled(at, sku, self._promotions, from_ms, to_ms, depth)
        self._book.add(self.now_ms, "controls", value)

    # -- what happens in a step, in this order

    def _begin_day(self, at_ms: int, day: int) -> None:
        market, catalogue = self._market, self.catalogue
        at = self._time_text(at_ms)
        if day == 0 and self.settings.world.calendar:
            value = events.calendar_published(at, self.settings.world.calendar)
            self._book.add(at_ms, "controls", value)
        for i in np.flatnonzero(catalogue.products.listed_from == day).tolist():
            self._list(at_ms, at, i)
        for i in market.retired(day):
            self._book.add(
                at_ms,
                "products",
                events.event(
                    "product_retired",
                    f"retired-{catalogue.skus[i]}",
                    at,
                    catalogue.skus[i],
                    reason="replaced",
                ),
            )
        for i in market.new_day(day, self.ln_price):
            cost = {
                "unit_cost_minor": int(market.cost_minor[i]),
                "return_handling_cost_minor": int(catalogue.return_cost_minor[i]),
            }
            sku = catalogue.skus[i]
            self._book.add(
                at_ms,
                "products",
                events.event("cost_changed", f"cost-{sku}-{day}", at, sku, **cost),
            )
        for i in market.reorder(at_ms, day):
            self._tell_stock(at_ms, i, "counted")

    def _list(self, at_ms: int, at: bytes, i: int) -> None:
        catalogue, sku = self.catalogue, self.catalogue.skus[i]
        old, anchor = int(catalogue.products.predecessor[i]), catalogue.anchors[i]
        fields: dict[str, Any] = {
            "category": catalogue.categories[i],
            "attributes": catalogue.attributes(i),
            "family": catalogue.families[i],
            "predecessor": catalogue.skus[old] if old >= 0 else None,
            "role": catalogue.roles[i],
            "anchors": [catalogue.skus[anchor]] if anchor >= 0 else [],
            "unit_cost_minor": None,
            "return_handling_cost_minor": int(catalogue.return_cost_minor[i]),
            "list_price_minor": int(catalogue.list_price_minor[i]),
            "vat_rate": self.settings.vat_rate,
            "fee_rate": self.settings.fee_rate,
        }
        if self._market.tells_cost(i):
            fields["unit_cost_minor"] = int(self._market.cost_minor[i])
        self._book.add(
            at_ms, "products", events.event("product_listed", f"listed-{sku}", at, sku, **fields)
        )
        self._market.enter(i)
        self._tell_stock(at_ms, i, "first_stock")
        for rival in range(int(catalogue.rivals[i])):
            self._tell_rival(at_ms, i, rival)

    def _give_back(self, at_ms: int) -> list[tuple[int, int]]:
        """Tell what comes back in this step; returns (product, units)."""
        back = sorted(self._later.pop(at_ms // self._step_ms, ()))
        for item in back:
            sku = self._skus[item.product]
            at = self._time_text(item.at_ms)
            if item.is_cancellation:
                value = events.order_cancelled(at, sku, item.line, item.quantity)
                self._book.add(item.at_ms, "orders", value)
                self.totals["units_cancelled"] += item.quantity
                self.totals["contribution_minor"] -= self._margin_minor(item)
                continue
            cost_minor = int(self.catalogue.return_cost_minor[item.product])
            refund_minor = item.quantity * item.price_minor
            self._book.add(
                item.at_ms,
                "returns",
                events.order_returned(at, sku, item.line, item.quantity, refund_minor, cost_minor),
            )
            self.totals["units_returned"] += item.quantity
            self.totals["contribution_minor"] -= (
                self._margin_minor(item) + item.quantity * cost_minor
            )
        return [(item.product, item.quantity) for item in back]

    def _arrivals(self, at_ms: int) -> None:
        for i in self._market.arrived(at_ms):
            self._tell_stock(at_ms, i, "replenished")

    def _show(self, at_ms: int, prices: Mapping[str, int]) -> None:
        at = self._time_text(at_ms)
        skus, shown, listed = self.catalogue.skus, self.shown_minor, self._market.listed
        for i in np.flatnonzero(listed).tolist():
            price_minor = prices.get(skus[i])
            if price_minor is None:
                price_minor = int(self.catalogue.list_price_minor[i])
            if price_minor == shown[i]:
                continue
            shown[i] = self._price_minor[i] = price_minor
            value = events.event(
                "price_applied",
                f"price-{skus[i]}-{at.decode()}",
                at,
                skus[i],
                price_minor=price_minor,
            )
            self._book.add(at_ms, "products", value)

    def _rivals(self, start_ms: int, rng: np.random.Generator) -> None:
        at_ms = start_ms + rng.integers(self._step_ms, size=self.catalogue.rival_base.shape)
        for i, rival in self._market.move_rivals(self.ln_price, self._step_ms / DAY_MS, rng):
            self._tell_rival(int(at_ms[i, rival]), i, rival)

    def _sell(self, start_ms: int, rng: np.random.Generator) -> None:
        days = season(start_ms, self._step_ms)
        visits = draw_visits(self._market, days, rng)
        self._visits += visits
        searches = self._market.search_rate_per_day()
        if searches is not None:
            apart = self._draws.rng("searches", self._step_number(start_ms))
            self._searches += apart.poisson(searches * days)
        step = Step(start_ms, self._step_ms)
        lines: dict[int, list[int]] = {}  # order and lines so far, by basket
        x = self.ln_price
        for purchase in self._customers.purchases(self._market, x, visits, step, rng):
            self._order(purchase, lines)

    def _order(self, wanted: Purchase, baskets: dict[int, list[int]]) -> None:
        i, at_ms = wanted.product, wanted.at_ms
        in_stock = self._market.on_hand[i]
        if in_stock < 1:
            self.totals["orders_lost"] += 1
            return
        quantity = min(wanted.quantity, in_stock)
        price_minor = self.shown_minor[i]
        assert price_minor is not None  # only listed products have visits
        line = self._next_line(wanted.basket, baskets)
        segment = "new" if wanted.is_new_customer else "returning"
        value = events.order_placed(
            self._time_text(at_ms),
            self._skus[i],
            line,
            quantity,
            price_minor,
            segment,
            wanted.channel,
        )
        self._book.add(at_ms, "orders", value)
        # what comes back is told in a later step
        back_ms = max(wanted.back_at_ms, at_ms - at_ms % self._step_ms + self._step_ms)
        item = _Later(back_ms, i, line, quantity, price_minor, wanted.is_cancelled)
        self.totals["orders"] += 1
        self.totals["units"] += quantity
        self.totals["contribution_minor"] += self._margin_minor(item)
        self.units_sold[i] += quantity
        self._market.on_hand[i] = in_stock - quantity
        if in_stock == quantity:
            self._tell_stock(at_ms, i, "sold_out")
        if wanted.comes_back:
            self._later.setdefault(item.at_ms // self._step_ms, []).append(item)

    def _count_traffic(self) -> None:
        at_ms = self.now_ms
        from_time = self._time_text(at_ms - self.settings.traffic_hours * HOUR_MS)
        at = self._time_text(at_ms)
        visits = self._visits.tolist()
        counts_searches = self._market.search_rate_per_day() is not None
        for i in np.flatnonzero(self._market.listed).tolist():
            found = int(self._searches[i]) if counts_searches else None
            value = events.traffic_counted(at, self._skus[i], from_time, visits[i], found)
            self._book.add(at_ms, "traffic", value)
        self._visits[:] = 0
        self._searches[:] = 0

    # -- smaller parts

    def _step_number(self, start_ms: int) -> int:
        return (start_ms - self._start_ms) // self._step_ms

    def _next_line(self, basket: int, baskets: dict[int, list[int]]) -> events.Line:
        """Number the line of an order; those of one basket share the order's number."""
        if basket in baskets:
            baskets[basket][1] += 1
            return events.Line(*baskets[basket])
        self._orders += 1
        if basket >= 0:
            baskets[basket] = [self._orders, 1]
        return events.Line(self._orders, 1)

    def _tell_stock(self, at_ms: int, i: int, reason: str) -> None:
        sku = self.catalogue.skus[i]
        inbound, eta_ms = self._market.inbound(i)
        eta = None if eta_ms is None else rfc3339(eta_ms)
        self._book.add(
            at_ms,
            "inventory",
            events.event(
                "inventory_changed",
                f"stock-{sku}-{self._book.next_number()}",
                self._time_text(at_ms),
                sku,
                on_hand=self._market.on_hand[i],
                inbound=inbound,
                inbound_eta=eta,
                reason=reason,
            ),
        )

    def _tell_rival(self, at_ms: int, i: int, rival: int) -> None:
        sku = self.catalogue.skus[i]
        fields = self._market.rival_offer(i, rival)
        event_id = f"rival-{sku}-{self._book.next_number()}"
        at = self._time_text(at_ms)
        self._book.add(
            at_ms,
            "competitor-prices",
            events.event("competitor_price_observed", event_id, at, sku, **fields),
        )

    def _margin_minor(self, item: _Later) -> int:
        kept = round(self.settings.kept_share * item.price_minor)
        return item.quantity * (kept - int(self._market.cost_minor[item.product]))
