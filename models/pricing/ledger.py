"""The constraint ledger and the exceptions: what rules cost, and what needs a person first.

Both read decisions alone. The way from the best price to the one in the shop is a chain of steps,
each with the expected objective a day at its price, so that what the steps cost adds up to the
money left on the table: ``Pi(P*) - Pi(P)`` a day, P* the best price and P the one in the shop.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from msgspec import Struct

from schemas.outputs import DecisionRecord, PriceDecided

GUARD = "guard "
STAYS = "present price stays"
DRIFTED = "demand drifted"
STAKE_MINOR_MIN = 0.5  # a limit that costs less than half a minor unit a day is no exception

By = Literal["rule", "category", "sku"]
Kind = Literal[
    "blocked", "kill switch", "breaker", "gate", "guard", "approval", "rejected", "other",
    "drift", "gave way", "limited",
]  # fmt: skip


class Charge(NamedTuple):
    """What one rule of one decision costs a day, after risk; below 0: it brings something.

    ``shadow_price_per_day`` is what a minor unit more of room would bring, in minor units; None for
    what is no limit.
    """

    rule: str
    cost_per_day_minor: float
    shadow_price_per_day: float | None = None


def charges(decision: PriceDecided) -> tuple[Charge, ...]:
    """What stands between the best price and the one in the shop, in the order of the steps.

    A decision without a record has none.
    """
    record = decision.record
    if record is None:
        return ()
    shadows = {f"{GUARD}{clamp.guard}": abs(clamp.shadow_price) for clamp in record.clamps}
    found: list[Charge] = []
    before: float | None = None
    for step in record.steps:
        objective = step.objective_per_day_minor
        if objective is None:
            continue
        if before is not None:
            shadow = shadows.get(step.name)
            went_back = decision.status == "reverted" and step.name == STAYS
            rule = "reverted" if went_back else step.name.removeprefix(GUARD).replace("_", " ")
            found.append(
                Charge(
                    rule,
                    before - objective,
                    None if shadow is None else shadow / record.stock.horizon_days,
                )
            )
        before = objective
    holding = _holding(decision, record)
    return (*found, holding) if holding else tuple(found)


def _holding(decision: PriceDecided, record: DecisionRecord) -> Charge | None:
    """What holding a decision costs: the wanted price's objective less the present one's.

    Without a present price the product is not sold, which brings nothing.
    """
    if decision.status != "held":
        return None
    present = record.present_objective_per_day_minor or 0.0
    return Charge(f"held: {kind_of_hold(decision)}", record.objective_per_day_minor - present)


def left_on_table(decision: PriceDecided) -> float | None:
    """``Pi(P*) - Pi(P)`` a day, minor units; None where the decision has no record."""
    if decision.record is None:
        return None
    return sum(charge.cost_per_day_minor for charge in charges(decision))


_HOLDS: tuple[tuple[str, Kind], ...] = (
    # how a reason to hold begins, and what it is called
    ("kill switch", "kill switch"),
    ("breaker", "breaker"),
    ("family breaker", "breaker"),
    ("catalogue breaker", "breaker"),
    ("gate", "gate"),
    ("guard broken", "guard"),
    ("approval: rejected before", "rejected"),
    ("approval", "approval"),
)


def kind_of_hold(decision: PriceDecided) -> Kind:
    """What holds a decision, in a word: the first of its reasons that does."""
    for reason in decision.reasons:
        for beginning, kind in _HOLDS:
            if reason.startswith(beginning):
                return kind
    return "other"


# -- the ledger


class LedgerRow(Struct, frozen=True, kw_only=True):
    """What a rule, or all rules of a category or product, cost a day, in one currency.

    ``products`` it moves; ``gave_way``: products where it could not be kept; ``rules``: the parts
    of the cost, dearest first; ``room_per_day_minor``: what one minor unit more of room on each
    product would bring, null for what is no limit.
    """

    name: str
    currency: str
    products: int
    cost_per_day_minor: float
    gave_way: int
    room_per_day_minor: float | None
    rules: dict[str, float]


class _Sum:
    def __init__(self) -> None:
        self.products: dict[str, None] = {}
        self.gave_way: dict[str, None] = {}
        self.room: float | None = None
        self.rules: dict[str, float] = {}

    def add(self, sku: str, charge: Charge) -> None:
        self.products[sku] = None
        self.rules[charge.rule] = self.rules.get(charge.rule, 0.0) + charge.cost_per_day_minor
        if charge.shadow_price_per_day is not None:
            self.room = (self.room or 0.0) + charge.shadow_price_per_day


def ledger(decisions: Iterable[PriceDecided], by: By) -> tuple[LedgerRow, ...]:
    """What rules cost a day, by currency and the dearest first.

    Parameters
    ----------
    decisions : the last one of each product
    """
    sums: dict[tuple[str, str], _Sum] = {}
    for decision in decisions:
        record = decision.record
        if record is None:
            continue
        for charge in charges(decision):
            name = _name(decision, record, charge.rule, by)
            sums.setdefault((decision.currency, name), _Sum()).add(decision.sku, charge)
        for guard in record.gave_way:
            name = _name(decision, record, guard.replace("_", " "), by)
            sums.setdefault((decision.currency, name), _Sum()).gave_way[decision.sku] = None
    rows = [_row(name, currency, found) for (currency, name), found in sums.items()]
    return tuple(sorted(rows, key=lambda row: (row.currency, -row.cost_per_day_minor, row.name)))


def _name(decision: PriceDecided, record: DecisionRecord, rule: str, by: By) -> str:
    if by == "rule":
        return rule
    return decision.sku if by == "sku" else record.category or "unknown category"


def _row(name: str, currency: str, found: _Sum) -> LedgerRow:
    ranked = sorted(found.rules.items(), key=lambda item: (-item[1], item[0]))
    return LedgerRow(
        name=name,
        currency=currency,
        products=len(found.products),
        cost_per_day_minor=sum(found.rules[rule] for rule in sorted(found.rules)),
        gave_way=len(found.gave_way),
        room_per_day_minor=found.room,
        rules=dict(ranked),
    )


# -- exceptions


class Case(Struct, frozen=True, kw_only=True):
    """A product that a person should look at.

    ``at_stake_per_day_minor``: what the wanted price would earn more than the present one where a
    decision is held, else the money left on the table; null where nobody can tell, which ranks
    first. ``price_id``: what to approve or reject, where it waits.
    """

    sku: str
    kind: Kind
    at_stake_per_day_minor: float | None
    currency: str | None
    reasons: tuple[str, ...]
    decided_at: str | None
    price_id: str | None = None


def exceptions(
    decisions: Iterable[PriceDecided], blocked: dict[str, str], drifted: dict[str, str]
) -> tuple[Case, ...]:
    """One case per product that needs a person, by money at stake, in each currency.

    Parameters
    ----------
    decisions : the last one of each product
    blocked : why a product can't be priced, by SKU
    drifted : what drift was told of it, by SKU
    """
    last = {decision.sku: decision for decision in decisions}
    found = [blocked_case(sku, reason, last.get(sku)) for sku, reason in blocked.items()]
    for sku, decision in last.items():
        if sku not in blocked:
            found.extend(cases_of(decision, drifted.get(sku)))
    return tuple(sorted(found, key=rank))


def rank(case: Case) -> tuple[bool, str, float, str]:
    """The place of a case: what nobody can put a figure on first, then by money at stake."""
    stake = case.at_stake_per_day_minor
    return stake is not None, case.currency or "", -(stake or 0.0), case.sku


def blocked_case(sku: str, reason: str, decision: PriceDecided | None) -> Case:
    """The case of a product that can't be priced; ``decision`` is its last, if it has one."""
    return Case(
        sku=sku,
        kind="blocked",
        at_stake_per_day_minor=None,
        currency=None if decision is None else decision.currency,
        reasons=(reason,),
        decided_at=None if decision is None else decision.decided_at,
    )


def cases_of(decision: PriceDecided, drift: str | None) -> Iterator[Case]:
    """At most one case: what holds comes first, then drift, then what gave way, then limits."""
    record = decision.record
    told: tuple[Kind, float | None, tuple[str, ...]] | None = None
    if decision.status == "reverted":
        told = "breaker", left_on_table(decision), decision.reasons
    elif decision.status == "held":
        held = None if record is None else _holding(decision, record)
        stake = None if held is None else held.cost_per_day_minor
        told = kind_of_hold(decision), stake, decision.reasons
    elif record is not None:
        limits = [one for one in charges(decision) if one.shadow_price_per_day is not None]
        drifts = [one for one in record.breaker.reasons if one.startswith(DRIFTED)]
        if drifts or drift is not None:
            told = "drift", left_on_table(decision), tuple(drifts) or (drift or "",)
        elif record.gave_way:
            reasons = tuple(f"{name.replace('_', ' ')} gave way" for name in record.gave_way)
            told = "gave way", left_on_table(decision), reasons
        elif sum(one.cost_per_day_minor for one in limits) >= STAKE_MINOR_MIN:
            told = "limited", left_on_table(decision), tuple(one.rule for one in limits)
    if told is not None:
        kind, stake, reasons = told
        yield Case(
            sku=decision.sku,
            kind=kind,
            at_stake_per_day_minor=stake,
            currency=decision.currency,
            reasons=tuple(_plain(reason) for reason in reasons),
            decided_at=decision.decided_at,
            price_id=decision.price_id if kind == "approval" else None,
        )


def _plain(reason: str) -> str:
    """A reason without the word that its kind says already."""
    return re.sub(r"^(breaker|gate|kill switch|approval): ", "", reason)
