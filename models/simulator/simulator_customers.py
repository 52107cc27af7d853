"""Who visits the simulated shop, who orders, and what comes back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.simulator.simulator_market import Market
from models.simulator.simulator_truth import ShopSettings, Truth
from models.simulator.world_truth import Floats, Ints

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CANCEL_HOURS_MAX = 12
DELAY_SHAPE = 2.0  # of the gamma distribution of return delays
ORDER_SHARE_MAX = 0.9  # of visits
HOUR_WEIGHTS = np.array(
    [2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 10, 10, 9, 9, 9, 10, 11, 12, 13, 13, 11, 8, 4], dtype=float
)
WEEKDAY_WEIGHTS = np.array([1.05, 1.0, 0.98, 0.98, 0.97, 0.95, 1.07])  # Monday first


class Purchase(NamedTuple):
    """One order line as the customer wants it, and whether it will come back (and when).

    ``basket`` is equal in lines of one order, and -1 for an order of one line.
    """

    at_ms: int
    product: int
    quantity: int
    is_new_customer: bool
    channel: str
    is_cancelled: bool
    comes_back: bool
    back_at_ms: int
    basket: int


def season(start_ms: int, step_ms: int) -> float:
    """Days' worth of demand in a step: the weights of its hours and of its weekday."""
    hour = start_ms // HOUR_MS % 24
    weekday = (start_ms // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
    hours = HOUR_WEIGHTS[hour : hour + step_ms // HOUR_MS].sum() / HOUR_WEIGHTS.sum()
    return float(hours * WEEKDAY_WEIGHTS[weekday])


def draw_visits(market: Market, days: float, rng: np.random.Generator) -> Ints:
    """Visits [n] in a step that is worth ``days`` of demand."""
    return np.asarray(rng.poisson(market.visit_rate_per_day() * days), dtype=np.int64)


class Step(NamedTuple):
    """When a step begins, and how long it lasts; milliseconds."""

    start_ms: int
    length_ms: int


class Customers:
    """Turns visits into orders. Every visitor is drawn whole, whether an order comes of it or not:
    at a lower price the same visitors order, and more of them.
    """

    def __init__(self, truth: Truth, settings: ShopSettings) -> None:
        self._truth, self._settings = truth, settings
        shares = np.array(settings.channel_shares)
        self._channel_ends = np.cumsum(shares / shares.sum())[:-1]
        offsets = settings.world.channel_elasticity or (0.0,) * len(shares)
        self._channel_elasticity = np.array(offsets)

    def purchases(
        self, market: Market, x: Floats, visits: Ints, step: Step, rng: np.random.Generator
    ) -> list[Purchase]:
        """Draw the orders among ``visits`` [n] at ln prices over list ``x`` [n], in time order."""
        truth, settings, world = self._truth, self._settings, market.demand.settings
        visited = rng.permutation(np.repeat(np.arange(len(visits)), visits))
        count = len(visited)
        at_ms = step.start_ms + np.sort(rng.integers(step.length_ms, size=count))
        wish, size, newness, back, withdrawal, way, together = rng.random((7, count))
        cancel_ms = rng.integers(1, CANCEL_HOURS_MAX * HOUR_MS, count)
        scale_ms = settings.return_delay_days * DAY_MS / DELAY_SHAPE
        return_ms = rng.gamma(DELAY_SHAPE, scale_ms, count).astype(np.int64)
        channel = np.searchsorted(self._channel_ends, way)
        share = market.order_share(x)[visited]
        share = share * np.exp(self._channel_elasticity[channel] * x[visited])
        orders = np.flatnonzero(wish < np.minimum(share, ORDER_SHARE_MAX))
        product, at_ms = visited[orders], at_ms[orders]
        is_new = newness[orders] < world.new_customer_share
        plain, new = (market.demand.return_rate(x, new_customer=kind) for kind in (False, True))
        is_returned = back[orders] < np.where(is_new, new[product], plain[product])
        is_cancelled = withdrawal[orders] < settings.cancelled_share
        later_ms = np.where(is_cancelled, cancel_ms[orders], return_ms[orders])
        basket = self._baskets(product, together[orders] < settings.basket_share)
        joined = np.where(basket >= 0, basket, np.arange(len(product)))  # the anchor's customer
        columns = (
            at_ms[joined].tolist(),
            product.tolist(),
            _units(size[orders], truth.units_per_order[product]).tolist(),
            is_new[joined].tolist(),
            [settings.channels[k] for k in channel[orders][joined].tolist()],
            is_cancelled.tolist(),
            (is_cancelled | is_returned).tolist(),
            (at_ms[joined] + later_ms).tolist(),
            basket.tolist(),
        )
        return sorted(map(Purchase._make, zip(*columns, strict=True)), key=lambda row: row.at_ms)

    def _baskets(self, product: Ints, together: NDArray[np.bool_]) -> Ints:
        """Row of the anchor's order that each row joins or is, or -1: an order of one line."""
        truth = self._truth
        basket = np.full(len(product), -1)
        open_orders: dict[int, list[int]] = {}  # anchor's orders of the step, by its family
        for row, i in enumerate(product.tolist()):
            if truth.roles[i] == "anchor":
                open_orders.setdefault(int(truth.products.family[i]), []).append(row)
        held: set[tuple[int, int]] = set()
        for row, i in enumerate(product.tolist() if open_orders else ()):
            if truth.roles[i] != "addition" or not together[row]:
                continue
            rows = open_orders.get(int(truth.products.family[i]), ())
            anchor_row = next((k for k in rows if (k, i) not in held), None)
            if anchor_row is not None:
                held.add((anchor_row, i))
                basket[row] = basket[anchor_row] = anchor_row
        return basket


def _units(uniform: Floats, mean: Floats) -> Ints:
    """Units of an order: geometric from 1 with that mean, by inversion."""
    ln_more = np.log1p(-1.0 / np.where(mean > 1.0, mean, 2.0))
    units = 1 + np.floor(np.log1p(-uniform) / ln_more)
    return np.where(mean > 1.0, units, 1).astype(np.int64)
