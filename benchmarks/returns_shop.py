"""A shop that learns return rates the fold's way, and one that waits until lines expire."""

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from models.fold.partition import PartitionState
from models.returns import returns_book
from models.returns.logistic import sigmoid
from models.returns.maturing import Lessons, sales_of
from models.returns.return_curve import ReturnCurve, curve, learn_level, level_ratio, product_rate
from models.returns.return_features import Sale
from models.returns.returns import ReturnRateModel
from schemas.events import EPOCH, OrderPlaced, OrderReturned
from schemas.learned import OpenEpoch, ReturnLevel
from schemas.state import CatalogueEntry, SkuState

REFERENCE_MINOR = 1_000_000  # so that rounding to whole minor units does not show
EXPIRY_DAYS = 61
ECE_BINS = 10


class Shop:
    """Products in a partition of the fold; lines and returns go through `returns_book`."""

    def __init__(self, products: int, category: NDArray[np.int64]) -> None:
        self.partition = PartitionState(0, "benchmark")
        self.states: list[SkuState] = []
        self._coming: dict[int, list[OrderReturned]] = {}
        self._orders = 0
        self._day = 0
        for product in range(products):
            sku = f"p{product}"
            state = SkuState(sku=sku, reference_price_minor=REFERENCE_MINOR)
            self.states.append(state)
            self.partition.skus[sku] = state
            self.partition.catalogue[sku] = entry(sku, f"c{category[product]}")

    def begin(self, day: int) -> None:
        """The day's first tick, then the returns that came in."""
        self._day = day
        returns_book.new_day(self.partition, day)
        for event in self._coming.pop(day, []):
            returns_book.returned(self.partition, self.partition.skus[event.sku], event)

    def predict(self, product: int, sale: Sale) -> tuple[float, float, float]:
        """Rates of a sale: of the average, the logistic model and the factors, with level."""
        snapshot, level = self.partition.return_snapshot, self.states[product].returns
        ratio = level_ratio(level)
        logistic, factors = (sigmoid(logit) for logit in snapshot.logits(sale))
        return product_rate(snapshot, level, sale), logistic * ratio, factors * ratio

    def curve(self, product: int) -> ReturnCurve:
        """What pricing would get for a product, in an average month and beside no rival."""
        state = self.states[product]
        category = self.partition.catalogue[state.sku].category
        return curve(self.partition.return_snapshot, state.returns, category)

    def sell(
        self,
        product: int,
        sale: Sale,
        back: NDArray[np.bool_],
        delays: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        """Sell one line of one unit for each of ``back``, to return after ``delays`` days."""
        state = self.states[product]
        price_minor = round(REFERENCE_MINOR * float(np.exp(sale.ln_price)))
        known = None if sale.ln_rival is None else sale.ln_rival + sale.ln_price
        state.epoch = OpenEpoch(
            start_ms=0, accrued_ms=0, price_minor=price_minor, ln_price=sale.ln_price,
            ln_rival=known, control=0.0, in_stock=None,
        )  # fmt: skip
        for came, delay, part in zip(back, delays, rng.random(len(back)), strict=True):
            self._orders += 1
            at = EPOCH + timedelta(days=self._day + float(part))
            order = OrderPlaced(
                event_id=str(self._orders), event_time=at, sku=state.sku, currency="EUR",
                order_id=str(self._orders), line_id="1", quantity=1, unit_price_minor=price_minor,
                segment=sale.segment or "all",
            )  # fmt: skip
            returns_book.sold(
                self.partition, state, order, returns_book.line_of(self.partition, order)
            )
            if came:
                then = at + timedelta(days=float(delay))
                event = OrderReturned(
                    event_id=f"r{self._orders}", event_time=then, sku=state.sku, currency="EUR",
                    order_id=order.order_id, line_id="1", quantity=1, refund_minor=price_minor,
                )  # fmt: skip
                self._coming.setdefault((then - EPOCH).days, []).append(event)


class WaitingShop:
    """The same models, taught each line's outcome when it is 61 days old, and nothing before."""

    def __init__(self, category: NDArray[np.int64]) -> None:
        self.model = ReturnRateModel()
        self.snapshot = self.model.snapshot()
        self.levels: dict[int, ReturnLevel] = {}
        self._waiting: dict[int, list[tuple[int, Sale, float, float]]] = {}
        self._day = 0

    def begin(self, day: int) -> None:
        """Learn the lines that expired."""
        self._day = day
        waiting = self._waiting.pop(day - EXPIRY_DAYS, [])
        for product, sale, returned, kept in waiting:
            sold = returned + kept
            self.levels[product] = learn_level(
                self.levels.get(product),
                day,
                sold * self.snapshot.rate(sale),
                returned,
                {sale.segment or "all": sold},
            )
        if waiting:
            returned_units = np.array([returned for _, _, returned, _ in waiting])
            kept_units = np.array([kept for _, _, _, kept in waiting])
            self.model.learn_lessons(
                Lessons(
                    sales=sales_of([sale for _, sale, _, _ in waiting]),
                    positives=returned_units,
                    exposure=returned_units + kept_units,
                    delays=[],
                    closed=np.ones(len(waiting), dtype=np.bool_),
                    final_returned=returned_units,
                    final_kept=kept_units,
                )
            )
            self.snapshot = self.model.snapshot()

    def predict(self, product: int, sale: Sale) -> float:
        """Rate of a sale."""
        return product_rate(self.snapshot, self.levels.get(product), sale)

    def sell(self, product: int, sale: Sale, back: NDArray[np.bool_]) -> None:
        """Remember lines until they expire."""
        returned = float(back.sum())
        line = product, sale, returned, len(back) - returned
        self._waiting.setdefault(self._day, []).append(line)


def entry(sku: str, category: str) -> CatalogueEntry:
    """A product as listed."""
    return CatalogueEntry(
        sku=sku, family=sku, category=category, currency="EUR", attributes={},
        unit_cost_minor=None, return_handling_cost_minor=None, list_price_minor=None,
        minimum_resale_price_minor={}, kept_share=1.0, exit_ms=None, predecessor=None,
        retired=False, changed_ms=0,
    )  # fmt: skip


def calibration_error(said: NDArray[np.float64], outcome: NDArray[np.float64]) -> float:
    """Expected calibration error over ten bins of equal counts, ordered by what was said."""
    order = np.argsort(said, kind="stable")
    bins = np.array_split(order, ECE_BINS)
    gaps = [len(one) * abs(said[one].mean() - outcome[one].mean()) for one in bins]
    return float(sum(gaps) / len(said))
