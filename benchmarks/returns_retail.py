"""Return rates learned from the prepared Online Retail year, and how well they were calibrated."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.returns_shop import ECE_BINS, calibration_error, entry
from models.fold.partition import PartitionState
from models.returns import returns_book
from models.returns.cohorts import order_line_hash
from models.returns.return_curve import probability_positive, product_rate
from models.returns.return_features import Sale, month_of_ms
from schemas.codec import decode_event
from schemas.events import (
    DAY_MS,
    OrderCancelled,
    OrderPlaced,
    OrderReturned,
    PriceApplied,
    ProductListed,
    SkuEvent,
)
from schemas.learned import DELAY_DAYS
from schemas.state import SkuState
from streams.adapters.online_retail import ATTRIBUTION, Assumptions, Converter
from streams.adapters.prepared import read_prepared

WARM_UP_DAYS = 60
Floats = NDArray[np.float64]


class Line:
    """One order line: what was predicted of a unit of it, and what became of it."""

    __slots__ = ("cancelled", "category", "day", "predicted", "returned", "units")

    def __init__(self, day: int, category: str, units: int, predicted: float) -> None:
        self.day, self.category, self.units, self.predicted = day, category, units, predicted
        self.returned = self.cancelled = 0


class Year:
    """The events of the year through cohorts, lessons and models, as in the fold."""

    def __init__(self) -> None:
        self.partition = PartitionState(0, "benchmark")
        self.lines: dict[str, Line] = {}
        self.last_day = 0
        self.unmatched = 0

    def apply(self, event: SkuEvent) -> None:
        """One event, in order of time; the first of a day is its tick."""
        day = event.event_time_ms // DAY_MS
        if day > self.last_day:
            returns_book.new_day(self.partition, day)
            self.last_day = day
        if isinstance(event, ProductListed):
            self.partition.skus[event.sku] = SkuState(
                sku=event.sku, reference_price_minor=event.list_price_minor
            )
            self.partition.catalogue[event.sku] = entry(event.sku, event.category)
        elif isinstance(event, OrderPlaced):
            self._sell(event, day)
        elif isinstance(event, OrderCancelled):
            state = self.partition.skus[event.sku]
            if returns_book.cancelled(self.partition, state, event) is not None:
                line = self.lines.get(order_line_hash(event.order_id, event.line_id))
                if line is not None:
                    line.cancelled += event.quantity
        elif isinstance(event, OrderReturned):
            state = self.partition.skus[event.sku]
            line = self.lines.get(order_line_hash(event.order_id, event.line_id))
            self.unmatched += not returns_book.returned(self.partition, state, event)
            if line is not None and day - line.day < DELAY_DAYS[-1]:
                line.returned += event.quantity

    def _sell(self, event: OrderPlaced, day: int) -> None:
        state = self.partition.skus[event.sku]
        category = self.partition.catalogue[event.sku].category
        line = returns_book.line_of(self.partition, event)
        returns_book.sold(self.partition, state, event, line)
        reference = state.reference_price_minor
        if reference is None:
            return
        ln_price = float(np.log(event.unit_price_minor / reference))
        sale = Sale(category, event.segment, month_of_ms(event.event_time_ms), ln_price)
        rate = product_rate(self.partition.return_snapshot, state.returns, sale)
        name = order_line_hash(event.order_id, event.line_id)
        self.lines[name] = Line(day, category, event.quantity, rate)


def measure(path: Path) -> dict[str, Any]:
    """Replay the year and show reliability, Brier scores and ECE of lines whose fate is known.

    A line counts once, with the share of its units that came back within 60 days.
    """
    year, converter = Year(), Converter(Assumptions())
    for row in read_prepared(path, lambda part: None):
        for topic, value in converter.convert(row):
            event = decode_event(topic.decode(), None, value).event
            if isinstance(event, SkuEvent) and not isinstance(event, PriceApplied):
                year.apply(event)
    first = min(line.day for line in year.lines.values())
    known = [
        line
        for line in year.lines.values()
        if first + WARM_UP_DAYS <= line.day <= year.last_day - DELAY_DAYS[-1]
        and line.cancelled < line.units
    ]
    said = np.array([line.predicted for line in known])
    outcome = np.array([min(line.returned / (line.units - line.cancelled), 1.0) for line in known])
    slope = year.partition.return_snapshot.slope(None, rival=False)
    return {
        "attribution": ATTRIBUTION,
        "lines": len(known),
        "lines_before_warm_up_or_too_late_to_know": len(year.lines) - len(known),
        "returns_unmatched_or_expired": year.unmatched,
        "rate": round(float(outcome.mean()), 5),
        "rate_predicted": round(float(said.mean()), 5),
        "ece_bins": ECE_BINS,
        "ece": round(calibration_error(said, outcome), 5),
        "brier": _scores(known, said, outcome),
        "reliability": _reliability(said, outcome),
        "delay_shares": {
            str(days): round(share, 3)
            for days, share in zip(
                DELAY_DAYS, year.partition.return_snapshot.delay_shares, strict=True
            )
        },
        "slope": {
            "mean": round(slope.mean, 3),
            "sd": round(slope.sd, 3),
            "probability_positive": round(probability_positive(slope), 4),
        },
    }


def _scores(known: list[Line], said: Floats, outcome: Floats) -> dict[str, float]:
    """Brier scores, ours and of constants that know the whole year (in hindsight)."""
    names = np.array([line.category for line in known])
    by_category = np.zeros(len(known))
    for name in sorted(dict.fromkeys(names.tolist())):
        chosen = names == name
        by_category[chosen] = outcome[chosen].mean()
    rates = {
        "learned": said,
        "constant_in_hindsight": np.full(len(known), outcome.mean()),
        "constant_by_category_in_hindsight": by_category,
        "prior_rate": np.full(len(known), 0.1),
    }
    return {name: round(float(np.mean((one - outcome) ** 2)), 6) for name, one in rates.items()}


def _reliability(said: Floats, outcome: Floats) -> list[dict[str, float]]:
    bins = np.array_split(np.argsort(said, kind="stable"), ECE_BINS)
    return [
        {
            "lines": len(one),
            "predicted": round(float(said[one].mean()), 5),
            "returned": round(float(outcome[one].mean()), 5),
            "standard_error": round(float(outcome[one].std() / np.sqrt(len(one))), 5),
        }
        for one in bins
    ]
