"""What rules cost over time, and why expected profit changed, from decisions as they come.

The ledger of one moment (`models.pricing.ledger`) holds until the product's next decision; here it
is weighted with how long it held. The P&L explain (`models.pnl.pnl`) is added up by event day.
"""

import math

from msgspec import Struct

from models.backtest.day_book import decided_ms, valid_days
from models.pnl import pnl
from models.pnl.pnl import Valuation
from models.pricing.ledger import Charge, charges
from schemas.backtest import ExplainedDay, LedgerLine
from schemas.events import DAY_MS, rfc3339
from schemas.outputs import PriceDecided

REVALUATION = "revaluation"
STEPS = 4  # of the path between two decisions: a quarter of the time that 16 take


class RuleSum(Struct):
    """Cost of one rule in minor units times days, and how many products it moved."""

    minor_days: float = 0.0
    products: int = 0


class _Standing(Struct):
    currency: str
    since_ms: int
    valid_days: float
    charges: tuple[Charge, ...]


class RuleBook:
    """Takes one policy's decisions in tape order. Memory: a decision's charges a product."""

    def __init__(self) -> None:
        self._standing: dict[str, _Standing] = {}
        self._sums: dict[tuple[str, str], RuleSum] = {}
        self._moved: dict[tuple[str, str, str], None] = {}

    def decided(self, decision: PriceDecided) -> None:
        """What stood until now is over; without a record it goes on."""
        if decision.record is None:
            return
        now_ms = decided_ms(decision)
        self._add(decision.sku, now_ms)
        found = tuple(one for one in charges(decision) if one.cost_per_day_minor != 0.0)
        self._standing[decision.sku] = _Standing(
            decision.currency, now_ms, valid_days(decision), found
        )

    def finish(self, end_ms: int) -> dict[tuple[str, str], RuleSum]:
        """The sums to the tape's end, by currency and rule; the book is done."""
        for sku in self._standing:
            self._add(sku, end_ms)
        return self._sums

    def _add(self, sku: str, now_ms: int) -> None:
        standing = self._standing.get(sku)
        if standing is None:
            return
        days = min(max((now_ms - standing.since_ms) / DAY_MS, 0.0), standing.valid_days)
        for charge in standing.charges:
            found = self._sums.setdefault((standing.currency, charge.rule), RuleSum())
            found.minor_days += days * charge.cost_per_day_minor
            if (place := (standing.currency, charge.rule, sku)) not in self._moved:
                self._moved[place] = None
                found.products += 1


def ledger_lines(
    policy: str, parts: list[dict[tuple[str, str], RuleSum]], days: float
) -> tuple[LedgerLine, ...]:
    """The ledger of all partitions, by currency and the dearest first.

    Parameters
    ----------
    days : length of the tape, above 0
    """
    found = [
        LedgerLine(
            policy=policy,
            currency=currency,
            rule=rule,
            products=sum(one.products for one in rows),
            cost_per_day_minor=math.fsum(one.minor_days for one in rows) / days,
        )
        for currency, rule in sorted({place for part in parts for place in part})
        for rows in [[part[currency, rule] for part in parts if (currency, rule) in part]]
    ]
    return tuple(sorted(found, key=lambda one: (one.currency, -one.cost_per_day_minor, one.rule)))


class ExplainBook:
    """P&L explain of one policy's published decisions, added up by day of the later one.

    Pairs wait until they fill the kernel's tile. Memory: a valuation a product.
    """

    def __init__(self) -> None:
        self._last: dict[str, Valuation] = {}
        self._pairs: list[tuple[Valuation, Valuation]] = []
        self._places: list[tuple[str, int]] = []
        self._days: dict[tuple[str, int], dict[str, float]] = {}

    def decided(self, decision: PriceDecided) -> None:
        """Explain the way from the product's last published decision to this one."""
        found = pnl.valuation_of(decision)
        if found is None:
            return
        before = self._last.get(decision.sku)
        self._last[decision.sku] = found
        if before is None:
            return
        self._pairs.append((before, found))
        self._places.append((decision.currency, decided_ms(decision) // DAY_MS))
        if len(self._pairs) == pnl.TILE:
            self._explain()

    def finish(self) -> dict[tuple[str, int], dict[str, float]]:
        """Terms and revaluation by currency and event day; the book is done."""
        self._explain()
        return self._days

    def _explain(self) -> None:
        for place, change in zip(self._places, pnl.explain(self._pairs, STEPS), strict=True):
            day = self._days.setdefault(place, dict.fromkeys((*pnl.TERMS, REVALUATION), 0.0))
            for name, value in change.terms.items():
                day[name] += value
            day[REVALUATION] += change.revaluation_minor
        self._pairs.clear()
        self._places.clear()


def explained_days(
    policy: str, parts: list[dict[tuple[str, int], dict[str, float]]]
) -> tuple[ExplainedDay, ...]:
    """The explained days of all partitions, by currency and day; terms that are 0 are left out."""
    found = []
    for currency, day in sorted({place for part in parts for place in part}):
        rows = [part[currency, day] for part in parts if (currency, day) in part]
        sums = {name: math.fsum(row[name] for row in rows) for name in rows[0]}
        residual = sums.pop(REVALUATION)
        found.append(
            ExplainedDay(
                policy=policy,
                currency=currency,
                day=rfc3339(day * DAY_MS)[:10],
                terms={name: value for name, value in sums.items() if value != 0.0},
                residual_minor=residual,
            )
        )
    return tuple(found)
