"""A simulated shop that knows its truth, for demos, tests and measurements.

It is a closed loop: each step takes the prices published so far and gives the events of the next
hour. Everything follows from the seed and the prices: the same ones give the same bytes.
docs/simulator.md describes the world and what it leaves out.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from models import simulator_events as events
from models.simulator_customers import (
    DAY_MS,
    HOUR_MS,
    Purchase,
    draw_purchases,
    draw_visits,
    season,
)
from models.simulator_market import Market
from models.simulator_records import RecordBook, SourceRecord
from models.simulator_truth import Bools, Floats, ShopSettings, Truth, draw_truth
from schemas.codec import canonical
from schemas.events import rfc3339, time_ms


class _Later(NamedTuple):
    """Units of an order that come back, cancelled or returned."""

    at_ms: int
    product: int
    order: int
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

    Attributes
    ----------
    now_ms : simulated time at which the next step begins, Unix milliseconds
    totals : counts of orders, units, lost orders and returned units, and the contribution margin
        in minor units of EUR, as the shop's books would show them
    """

    def __init__(
        self, seed: int, products: int = 100, settings: ShopSettings | None = None
    ) -> None:
        self.seed = seed
        self.settings = settings or ShopSettings(products=products)
        self._rng = np.random.default_rng(seed)
        self.catalogue: Truth = draw_truth(self.settings, self._rng)
        self.totals: Counter[str] = Counter()
        self._book = RecordBook(self.settings, self._rng)
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
        self._market = Market(self.catalogue, self.settings, self._rng)

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
        self._rivals(start_ms)
        self._sell(start_ms)
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

    def truth(self) -> dict[str, Any]:
        """What no event tells: parameters, present costs and the best prices, as plain values."""
        kept = self.settings.kept_share
        x = np.log(self._price_minor / self.catalogue.list_price_minor)
        y, z = self._market.rival_ratio(), self._market.family_move(x)
        cost = self._market.cost_minor
        best = self.catalogue.best_prices_minor(y, z, cost, kept)
        best_x = np.log(best / self.catalogue.list_price_minor)
        profit = self.catalogue.profit_per_day_minor
        return {
            "seed": self.seed,
            "at": rfc3339(self.now_ms),
            "currency": events.CURRENCY,
            "settings": {
                name: getattr(self.settings, name) for name in self.settings.__dataclass_fields__
            },
            "totals": dict(sorted(self.totals.items())),
            "repeats": self.repeats,
            "bad_records": dict(sorted(self.bad_records.items())),
            "products": self.catalogue.as_dict()
            | {
                "unit_cost_minor": np.rint(cost).astype(int).tolist(),
                "shown_price_minor": self._price_minor.tolist(),
                "best_price_minor": best.tolist(),
                "profit_per_day_minor": profit(x, y, z, cost, kept).tolist(),
                "best_profit_per_day_minor": profit(best_x, y, z, cost, kept).tolist(),
            },
        }

    def truth_json(self) -> bytes:
        """The truth as canonical JSON: the same shop gives the same bytes."""
        return canonical(self.truth())

    # -- what happens in a step, in this order

    def _begin_day(self, at_ms: int, day: int) -> None:
        market, catalogue = self._market, self.catalogue
        at = self._time_text(at_ms)
        for i in np.flatnonzero(catalogue.listed_day == day).tolist():
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
        for i in market.new_day(day):
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
        heir = int(catalogue.predecessor[i])
        fields: dict[str, Any] = {
            "category": catalogue.categories[i],
            "attributes": {
                "quality": float(catalogue.quality[i]),
                "weight_kg": float(catalogue.weight_kg[i]),
            },
            "family": catalogue.families[i],
            "predecessor": catalogue.skus[heir] if heir >= 0 else None,
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
                value = events.order_cancelled(at, sku, item.order, item.quantity)
                self._book.add(item.at_ms, "orders", value)
                self.totals["units_cancelled"] += item.quantity
                self.totals["contribution_minor"] -= self._margin_minor(item)
                continue
            cost_minor = int(self.catalogue.return_cost_minor[item.product])
            refund_minor = item.quantity * item.price_minor
            self._book.add(
                item.at_ms,
                "returns",
                events.order_returned(at, sku, item.order, item.quantity, refund_minor, cost_minor),
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

    def _rivals(self, start_ms: int) -> None:
        x = np.log(self._price_minor / self.catalogue.list_price_minor)
        moved = self._market.move_rivals(x, self._step_ms / DAY_MS)
        for i, rival in moved:
            at_ms = start_ms + int(self._rng.integers(self._step_ms))
            self._tell_rival(at_ms, i, rival)

    def _sell(self, start_ms: int) -> None:
        x = np.log(self._price_minor / self.catalogue.list_price_minor)
        visits = draw_visits(self._market, season(start_ms, self._step_ms), self._rng)
        self._visits += visits
        purchases = draw_purchases(
            self.catalogue,
            self._market,
            self.settings,
            x,
            visits,
            start_ms,
            self._step_ms,
            self._rng,
        )
        for purchase in purchases:
            self._order(purchase)

    def _order(self, wanted: Purchase) -> None:
        i, at_ms = wanted.product, wanted.at_ms
        in_stock = self._market.on_hand[i]
        if in_stock < 1:
            self.totals["orders_lost"] += 1
            return
        quantity = min(wanted.quantity, in_stock)
        price_minor = self.shown_minor[i]
        assert price_minor is not None  # only listed products have visits
        self._orders += 1
        segment = "new" if wanted.is_new_customer else "returning"
        value = events.order_placed(
            self._time_text(at_ms),
            self._skus[i],
            self._orders,
            quantity,
            price_minor,
            segment,
            wanted.channel,
        )
        self._book.add(at_ms, "orders", value)
        # what comes back is told in a later step
        back_ms = max(wanted.back_at_ms, at_ms - at_ms % self._step_ms + self._step_ms)
        item = _Later(back_ms, i, self._orders, quantity, price_minor, wanted.is_cancelled)
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
        for i in np.flatnonzero(self._market.listed).tolist():
            value = events.traffic_counted(at, self._skus[i], from_time, visits[i])
            self._book.add(at_ms, "traffic", value)
        self._visits[:] = 0

    # -- smaller parts

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
