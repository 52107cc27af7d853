"""Sums by event day of one policy's decisions on one tape partition, as the decisions come.

What is in force is valued as its own decision valued it. A product on sale is decided anew before
its price's validity ends; one of which nothing was decided for that long has left. Memory: a few
numbers a product, and a few a day.
"""

import math
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from models.kernel import valuation
from schemas.backtest import DaySeries
from schemas.events import DAY_MS, rfc3339, time_ms
from schemas.outputs import DecisionRecord, Greeks, PriceDecided

VALID_DAYS_UNKNOWN = 15.0  # where no price was effective yet


class Levels(NamedTuple):
    """What prices in force are worth a day, minor units; see `schemas.backtest.DaySeries`."""

    profit: float
    turnover: float  # at shown prices
    delta: float
    gamma: float
    vega: float


class Day(Struct):
    """One event day; ``levels`` at its end, None where no price is in force."""

    price_changes: int = 0
    decisions: int = 0
    held: int = 0
    levels: Levels | None = None


class _Product(Struct):
    currency: str
    day: int  # of the last decision
    valid_days: float = VALID_DAYS_UNKNOWN
    levels: Levels | None = None


class DayBook:
    """Takes decisions in tape order; days begin when their first decision comes."""

    def __init__(self) -> None:
        self._products: dict[str, _Product] = {}
        self._days: dict[str, dict[int, Day]] = {}
        self._day: int | None = None

    def decided(self, decision: PriceDecided) -> None:
        """Count a decision, and put its price in force where it is effective."""
        day = self._begin(decided_ms(decision) // DAY_MS)
        found = self._days.setdefault(decision.currency, {}).setdefault(day, Day())
        found.decisions += 1
        product = self._products.setdefault(decision.sku, _Product(decision.currency, day))
        product.day, product.currency = day, decision.currency
        if decision.status == "held":
            found.held += 1
            return
        product.valid_days = valid_days(decision)
        before = decision.previous_minor
        found.price_changes += before is not None and before != decision.price_minor
        if decision.record is not None and decision.greeks is not None:
            product.levels = _levels(decision, decision.record, decision.greeks)

    def finish(self, end_ms: int) -> dict[str, dict[int, Day]]:
        """All days to that of the tape's end, by currency; the book is done."""
        self._begin(end_ms // DAY_MS + 1)
        return self._days

    def _begin(self, day: int) -> int:
        """Close the days before this one; an earlier one is over already."""
        if self._day is None:
            self._day = day
        for closing in range(self._day, day):
            standing = self._in_force(closing)
            if not standing:
                break  # none comes back without a decision
            for currency, levels in standing.items():
                self._days.setdefault(currency, {}).setdefault(closing, Day()).levels = levels
        self._day = max(self._day, day)
        return self._day

    def _in_force(self, day: int) -> dict[str, Levels]:
        rows: dict[str, list[Levels]] = {}
        for product in self._products.values():
            if product.levels is not None and product.day > day - product.valid_days:
                rows.setdefault(product.currency, []).append(product.levels)
        return {currency: added(found) for currency, found in rows.items()}


def decided_ms(decision: PriceDecided) -> int:
    """When a decision was made, event time in ms."""
    return time_ms(datetime.fromisoformat(decision.decided_at))


def valid_days(decision: PriceDecided) -> float:
    """How long an effective price holds unless it is decided anew."""
    if decision.valid_until is None:
        return VALID_DAYS_UNKNOWN
    return (time_ms(datetime.fromisoformat(decision.valid_until)) - decided_ms(decision)) / DAY_MS


def added(rows: list[Levels]) -> Levels:
    """The sum, rounded once: it does not depend on the order of the rows."""
    return Levels(*(math.fsum(column) for column in zip(*rows, strict=True)))


def _levels(decision: PriceDecided, record: DecisionRecord, greeks: Greeks) -> Levels:
    price = float(decision.price_minor or 0)
    days = record.stock.horizon_days
    volatility = valuation.row_of(record.inputs).demand_volatility
    return Levels(
        profit=record.expected_profit_per_day_minor,
        turnover=price * record.stock.expected_sales_units / days,
        delta=price * greeks.delta / days,
        gamma=price * price * greeks.gamma / days,
        vega=volatility * greeks.vega / days,
    )


def day_series(policy: str, parts: list[dict[str, dict[int, Day]]]) -> tuple[DaySeries, ...]:
    """The days of all partitions together, by currency; days without anything are there too."""
    currencies = sorted({currency for part in parts for currency in part})
    found = []
    for currency in currencies:
        by_day = [part[currency] for part in parts if currency in part]
        numbers = range(min(min(one) for one in by_day), max(max(one) for one in by_day) + 1)
        days = [[one[day] for one in by_day if day in one] for day in numbers]
        levels = [_summed(rows) for rows in days]
        found.append(
            DaySeries(
                policy=policy,
                currency=currency,
                days=tuple(rfc3339(day * DAY_MS)[:10] for day in numbers),
                price_changes=tuple(sum(one.price_changes for one in rows) for rows in days),
                decisions=tuple(sum(one.decisions for one in rows) for rows in days),
                held=tuple(sum(one.held for one in rows) for rows in days),
                expected_profit_minor=_column(levels, "profit"),
                margin_ratio=tuple(
                    None if one is None or one.turnover <= 0.0 else one.profit / one.turnover
                    for one in levels
                ),
                delta_minor=_column(levels, "delta"),
                gamma_minor=_column(levels, "gamma"),
                vega_minor=_column(levels, "vega"),
            )
        )
    return tuple(found)


def _summed(rows: list[Day]) -> Levels | None:
    there = [one.levels for one in rows if one.levels is not None]
    return added(there) if there else None


def _column(levels: list[Levels | None], name: str) -> tuple[float | None, ...]:
    return tuple(None if one is None else float(getattr(one, name)) for one in levels)
