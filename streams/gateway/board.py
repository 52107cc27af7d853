"""The board: the last decision of each product, what alerts say of it, and what the desk is told.

A pure view, touched by one thread. A product's row is made of three sources that come in any order:
its decision (``prices``), its breaker and whether it can be priced (``alerts``), its family
(``routes``).
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import orjson

from models.pricing.ledger import Case, blocked_case, cases_of, rank
from schemas.events import DAY_MS, time_ms
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from streams.explain.decisions import DRIFT_DAYS
from streams.explain.ledger_text import CASE_WORDS
from streams.gateway.breaker_board import BreakerBoard
from streams.gateway.history import Histories, Past
from streams.gateway.judged import BREAKER, COLUMNS, FAMILY, HELD_BY, STATUS, Judged
from streams.gateway.subjects import Subjects

BLOCKED = "blocked"


class Decided(NamedTuple):
    """A decision as it was read; ``judged`` is None where that is to come later."""

    sku: str
    version: int
    value: bytes
    past: Past
    judged: Judged | None


class Routed(NamedTuple):
    """Which family a product is in."""

    sku: str
    family: str


class Board:
    """What the desk shows.

    Attributes
    ----------
    subjects : what changed, for the desk's stream
    breakers : circuit breakers
    histories : past decisions in short
    blocked : why a product can't be priced, by SKU
    """

    def __init__(self, process: str, history_records_max: int) -> None:
        self.subjects = Subjects(process)
        self.breakers = BreakerBoard()
        self.histories = Histories(history_records_max)
        self.blocked: dict[str, str] = {}
        self._values: dict[str, tuple[int, bytes]] = {}
        self._offers: dict[str, dict[str, DiscountOffered]] = {}
        self._judged: dict[str, Judged] = {}
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._cases: dict[str, Case] = {}
        self._families: dict[str, str] = {}
        self._family_sizes: Counter[str] = Counter()
        self._drifted: dict[str, tuple[int, str]] = {}
        self._newest_ms = 0  # of alerts: drift is news for a week of their time

    # -- what comes

    def decide(self, batch: Iterable[Decided]) -> None:
        """Take decisions; one that is not above the last of its product is passed over."""
        for one in batch:
            known = self._values.get(one.sku)
            if known is not None and one.version <= known[0]:
                continue
            self._values[one.sku] = one.version, one.value
            self.histories.add(one.sku, one.past)
            if one.judged is not None:
                self._judged[one.sku] = one.judged
                self._refresh(one.sku)

    def judge(self, batch: Iterable[tuple[str, Judged]]) -> None:
        """Take what was computed later; what was decided anew meanwhile is passed over."""
        for sku, found in batch:
            if self._values[sku][0] == found.version and self._judged.get(sku) != found:
                self._judged[sku] = found
                self._refresh(sku)

    def unjudged(self) -> list[tuple[str, bytes]]:
        """Products whose row is to come, with their last decision."""
        return [
            (sku, value)
            for sku, (version, value) in self._values.items()
            if sku not in self._judged or self._judged[sku].version != version
        ]

    def alert(self, batch: Iterable[Alert]) -> None:
        """Take alerts."""
        for one in batch:
            at_ms = time_ms(datetime.fromisoformat(one.at))
            self._newest_ms = max(self._newest_ms, at_ms)
            if one.kind == "breaker_changed":
                self._breaker_changed(one)
            elif one.sku is None:
                continue
            elif one.kind == "product_blocked":
                prefix = f"{one.sku} is not priced: "
                self.blocked[one.sku] = one.message.removeprefix(prefix)
                self._refresh(one.sku)
            elif one.kind == "product_unblocked":
                self.blocked.pop(one.sku, None)
                self._refresh(one.sku)
            elif one.kind == "drift":
                self._drifted[one.sku] = at_ms, one.message
                self._refresh(one.sku)

    def route(self, batch: Iterable[Routed]) -> None:
        """Take routes."""
        for one in batch:
            before = self._families.get(one.sku)
            if before == one.family:
                continue
            if before is not None:
                self._family_sizes[before] -= 1
            self._families[one.sku] = one.family
            self._family_sizes[one.family] += 1
            self._refresh(one.sku)

    def offer(self, batch: Iterable[DiscountOffered]) -> None:
        """Take discounts; each replaces what was offered to its segment before."""
        for one in batch:
            self._offers.setdefault(one.sku, {})[one.segment] = one

    # -- what is asked

    @property
    def cursor(self) -> str:
        """Where the desk's stream stands."""
        return self.subjects.name(self.subjects.place)

    def rows(self) -> list[tuple[Any, ...]]:
        """A row for each product, in the order of `COLUMNS`."""
        return list(self._rows.values())

    def judgements(self) -> list[tuple[tuple[Any, ...], Judged]]:
        """Rows with what they were made of."""
        return [(self._rows[sku], found) for sku, found in self._judged.items()]

    def row(self, sku: str) -> tuple[Any, ...] | None:
        """A product's row."""
        return self._rows.get(sku)

    def decision(self, sku: str) -> PriceDecided | None:
        """A product's last decision, whole."""
        found = self._values.get(sku)
        return None if found is None else msgspec.json.decode(found[1], type=PriceDecided)

    def offers(self, sku: str) -> tuple[DiscountOffered, ...]:
        """A product's discounts, by segment."""
        return tuple(one for _, one in sorted(self._offers.get(sku, {}).items()))

    def drift(self, sku: str) -> str | None:
        """What drift was told of a product in the last week."""
        found = self._drifted.get(sku)
        if found is None or found[0] <= self._newest_ms - DRIFT_DAYS * DAY_MS:
            return None
        return found[1]

    def family_size(self, family: str) -> int | None:
        """How many products a family has; None: there is no such family."""
        return self._family_sizes[family] or None

    def knows(self, sku: str) -> bool:
        """Whether anything is known of a product."""
        return sku in self._values or sku in self.blocked or sku in self._families

    def cases(self) -> list[Case]:
        """What needs a person, by money at stake."""
        for sku in [sku for sku in self._drifted if self.drift(sku) is None]:
            del self._drifted[sku]
            self._refresh(sku)
        return sorted(self._cases.values(), key=rank)

    def breaker_entries(self) -> list[dict[str, Any]]:
        """The catalogue's breaker, and every other that is not closed."""
        scopes = [("catalogue", None), *self.breakers.not_closed()]
        return [self._breaker_entry(kind, name) for kind, name in scopes]

    # -- inside

    def _breaker_changed(self, alert: Alert) -> None:
        found = self.breakers.take(alert)
        if found is None:
            return
        kind, name = found.kind, found.name
        self.subjects.changed(
            "breaker", (kind, name), lambda: orjson.dumps(self._breaker_entry(kind, name))
        )
        if alert.sku is not None:
            self._refresh(alert.sku)

    def _breaker_entry(self, kind: str, name: str | None) -> dict[str, Any]:
        products: int | None = 1
        if kind == "family":
            products = self.family_size(name or "")
        elif kind == "catalogue":
            products = len(self._families)
        return self.breakers.entry(kind, name, products)

    def _refresh(self, sku: str) -> None:
        """Make a product's row and case anew."""
        found, reason = self._judged.get(sku), self.blocked.get(sku)
        if found is None and reason is None:
            return  # nothing is decided yet, and nothing wrong is known
        row = list(found.row if found is not None else _empty(sku))
        row[FAMILY] = self._families.get(sku)
        if reason is not None:
            row[HELD_BY] = BLOCKED
            if found is None:
                row[STATUS] = BLOCKED
        changed = self.breakers.of_sku(sku)
        if changed is not None and (
            found is None or (changed.partition, changed.offset) >= found.place
        ):
            row[BREAKER] = changed.state
        self._rows[sku] = tuple(row)
        self.subjects.changed("row", sku, lambda: orjson.dumps(self._rows[sku]))
        self._set_case(sku, found, reason)

    def _set_case(self, sku: str, found: Judged | None, reason: str | None) -> None:
        before = len(self._cases)
        case = None if found is None else found.case
        drift = self.drift(sku)
        if reason is not None:
            case = blocked_case(sku, reason, self.decision(sku))
        elif found is not None and drift is not None:
            decision = self.decision(sku)
            case = None if decision is None else next(cases_of(decision, drift), None)
        if case is None:
            self._cases.pop(sku, None)
        else:
            self._cases[sku] = case
        if len(self._cases) != before:
            self.subjects.changed(
                "exceptions", None, lambda: orjson.dumps({"found": len(self._cases)})
            )


def labelled(case: Case) -> dict[str, Any]:
    """A case as the desk shows it: with its kind in words."""
    return {**msgspec.to_builtins(case), "label": CASE_WORDS[case.kind]}


def _empty(sku: str) -> tuple[Any, ...]:
    return tuple(sku if name == "sku" else None for name in COLUMNS)
