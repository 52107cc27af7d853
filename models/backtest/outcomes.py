"""What was sold and returned, by product and event day: from events, no model."""

import math
from array import array
from collections import deque
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from models.backtest.columns import Integers, Outcomes
from models.fold.partition import PartitionState
from schemas.events import DAY_MS, OrderCancelled, OrderPlaced, OrderReturned, SkuEvent

LINE_DAYS_MAX = 180  # a return or cancellation later than that stands on its own day
NUMBERS = len(Outcomes._fields)
ORDERS, UNITS, REVENUE, RETURNED, REFUND, COST, KEPT, HANDLING = range(2, NUMBERS)


class _Line(NamedTuple):
    day: int
    units: int
    price_minor: int


class OutcomeBook:
    """Adds up by product and day. Memory is bounded by the lines of the last `LINE_DAYS_MAX` days.

    Rows are written once their day has passed; what comes later for it is a row of its own, and
    rows of one product and day are added at the end.

    Parameters
    ----------
    state : the fold's, whose catalogue says what a unit costs when an event is applied
    """

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._lines: dict[int, _Line] = {}
        self._lines_by_day: deque[tuple[int, list[int]]] = deque()
        self._open: dict[tuple[int, int], list[float]] = {}
        self._rows = array("d")
        self._day = -1

    def note(self, product: int, event: SkuEvent, now_ms: int) -> None:
        """Take an applied event of a product, which is known by its number."""
        if isinstance(event, OrderPlaced):
            self._new_day(now_ms // DAY_MS)
            day = event.event_time_ms // DAY_MS
            self._keep_line(event, day)
            row = self._row(product, day, event.sku)
            row[ORDERS] += 1
            row[UNITS] += event.quantity
            row[REVENUE] += event.quantity * event.unit_price_minor
        elif isinstance(event, OrderCancelled):
            self._cancel(product, event)
        elif isinstance(event, OrderReturned):
            line = self._lines.get(_digest(event.sku, event.order_id, event.line_id))
            day = event.event_time_ms // DAY_MS if line is None else line.day
            row = self._row(product, day, event.sku if line is None else None)
            row[RETURNED] += event.quantity
            row[REFUND] += event.refund_minor

    def _cancel(self, product: int, event: OrderCancelled) -> None:
        key = _digest(event.sku, event.order_id, event.line_id)
        line = self._lines.get(key)
        if line is None:
            return
        units = min(event.quantity, line.units)
        row = self._row(product, line.day, None)
        row[ORDERS] -= units == line.units
        row[UNITS] -= units
        row[REVENUE] -= units * line.price_minor
        self._lines[key] = line._replace(units=line.units - units)

    def _keep_line(self, event: OrderPlaced, day: int) -> None:
        key = _digest(event.sku, event.order_id, event.line_id)
        self._lines[key] = _Line(day, event.quantity, event.unit_price_minor)
        self._lines_by_day[-1][1].append(key)

    def _new_day(self, day: int) -> None:
        if day <= self._day:
            return
        self._day = day
        self._lines_by_day.append((day, []))
        while self._lines_by_day[0][0] < day - LINE_DAYS_MAX:
            for key in self._lines_by_day.popleft()[1]:
                self._lines.pop(key, None)
        self._write()

    def _row(self, product: int, day: int, sku: str | None) -> list[float]:
        """The open row; with a SKU it notes what a unit of it costs now."""
        row = self._open.get((product, day))
        if row is None:
            row = self._open[(product, day)] = [product, day, *[0.0] * 5, *[math.nan] * 3]
        if sku is not None:
            entry = self._state.catalogue[sku]
            cost, handling = entry.unit_cost_minor, entry.return_handling_cost_minor
            row[KEPT] = entry.kept_share
            if cost is not None:
                row[COST] = cost
                share = self._state.policy_of(entry).objective.return_handling_cost_share
                row[HANDLING] = share * cost
            if handling is not None:
                row[HANDLING] = handling
        return row

    def _write(self) -> None:
        for row in self._open.values():
            self._rows.extend(row)
        self._open.clear()

    def outcomes(self, place: Integers) -> Outcomes:
        """The sums; ``place`` [product] gives each product's final number."""
        self._write()
        rows = np.frombuffer(self._rows).reshape(-1, NUMBERS).copy()
        if not len(rows):
            return _columns(rows)
        rows[:, 0] = place[rows[:, 0].astype(np.int64)]
        # rows that know the cost stand last in their group, in the order of writing
        rows = rows[np.lexsort((np.isfinite(rows[:, KEPT]), rows[:, 1], rows[:, 0]))]
        new = np.any(np.diff(rows[:, :2], axis=0) != 0, axis=1)
        first = np.concatenate([[0], np.flatnonzero(new) + 1])
        last = np.concatenate([first[1:], [len(rows)]]) - 1
        found = rows[last]
        found[:, ORDERS:COST] = np.add.reduceat(rows[:, ORDERS:COST], first, axis=0)
        return _columns(found)


def _columns(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Outcomes:
    product, day = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    return Outcomes(product, day, *rows[:, 2:].T)


def _digest(*parts: str) -> int:
    digest = blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
