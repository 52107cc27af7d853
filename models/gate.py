"""The publisher gate: a second look at floor, ceiling, step, currency and age of a price.

It shares no code with the guards and no state with the engine: it keeps its own entry per SKU,
fed by catalogue events and by what was published. It can only hold a price, never change one.
"""

import math
from collections.abc import Iterator

from schemas.events import DAY_MS, CostChanged, HandedOver, ProductListed, ProductRetired
from schemas.outputs import PriceDecided
from schemas.policy import GuardPolicy
from schemas.state import GateEntry

ROUNDING = 1e-9  # relative slack for bounds that are products of floats

Limit = tuple[str, float, float]  # name, lowest and highest price in minor units


def listed(entry: GateEntry | None, event: ProductListed, expert_markup_ratio: float) -> GateEntry:
    """The entry after a listing."""
    kept = (1.0 - event.fee_rate) / (1.0 + event.vat_rate)
    found = GateEntry(
        currency=event.currency,
        unit_cost_minor=event.unit_cost_minor,
        kept_share=kept,
        list_price_minor=event.list_price_minor,
        retired=False,
        published_minor=entry.published_minor if entry else None,
        published_day=entry.published_day if entry else None,
        day_open_minor=entry.day_open_minor if entry else None,
        minimum_resale_price_minor=event.minimum_resale_price_minor,
        reference_price_minor=entry.reference_price_minor if entry else None,
    )
    if entry is None and isinstance(event.handed_over, HandedOver):
        found.reference_price_minor = event.handed_over.reference_price_minor
    _fix_reference(found, expert_markup_ratio)
    return found


def cost_changed(entry: GateEntry, event: CostChanged, expert_markup_ratio: float) -> None:
    """A new unit cost, or that it is no longer known."""
    entry.unit_cost_minor = event.unit_cost_minor
    _fix_reference(entry, expert_markup_ratio)


def _fix_reference(entry: GateEntry, expert_markup_ratio: float) -> None:
    """The first list price, or the expert's mark-up on the first cost: it never changes again."""
    if entry.reference_price_minor is None:
        entry.reference_price_minor = entry.list_price_minor
    if entry.reference_price_minor is None and entry.unit_cost_minor is not None:
        marked_up = expert_markup_ratio * entry.unit_cost_minor / entry.kept_share
        entry.reference_price_minor = math.ceil(marked_up)


def retired(entry: GateEntry, event: ProductRetired) -> None:
    """Nothing more may be published for the product."""
    entry.retired = True


def check(
    entry: GateEntry | None,
    price_minor: int,
    currency: str,
    policy: GuardPolicy,
    clock_ms: int,
    decided_ms: int,
) -> tuple[str, ...]:
    """Reasons to hold a price; empty when it may pass.

    Ceilings and step limits yield to what stands before them, and only as far as a tick needs: a
    cost above the ceiling must not force a sale below cost, nor a step limit one above the ceiling.
    """
    if entry is None:
        return ("gate: product was never listed",)
    reasons: list[str] = []
    if entry.retired:
        reasons.append("gate: product is retired")
    if currency != entry.currency:
        reasons.append(f"gate: currency {currency} is not the catalogue's {entry.currency}")
    if decided_ms < clock_ms - DAY_MS:
        reasons.append("gate: decision is more than a day older than the tape's clock")
    if entry.unit_cost_minor is None:
        return (*reasons, "gate: no unit cost, so no floor")
    kept_minor = price_minor * entry.kept_share
    if kept_minor < entry.unit_cost_minor * (1.0 - ROUNDING):
        reasons.append("gate: below cost")
    margin_minor = kept_minor - entry.unit_cost_minor
    if margin_minor < policy.margin_floor_ratio * kept_minor - ROUNDING * kept_minor:
        reasons.append("gate: below the margin floor")
    resale_minor = _minimum_resale_price(entry, policy)
    if price_minor < resale_minor:
        reasons.append("gate: below the minimum resale price")
    least = entry.unit_cost_minor / (entry.kept_share * (1.0 - policy.margin_floor_ratio))
    low, high, tick = max(least, resale_minor), math.inf, policy.tick_minor
    for name, lowest, highest in _limits(entry, policy, decided_ms):
        lowest, highest = min(lowest, high - tick), max(highest, low + tick)
        if not lowest * (1.0 - ROUNDING) <= price_minor <= highest * (1.0 + ROUNDING):
            reasons.append(f"gate: beyond the {name}")
        low, high = max(low, lowest), min(high, highest)
    return tuple(reasons)


def _minimum_resale_price(entry: GateEntry, policy: GuardPolicy) -> int:
    agreed = entry.minimum_resale_price_minor
    return max((agreed.get(name, 0) for name in policy.minimum_resale_price_markets), default=0)


def _limits(entry: GateEntry, policy: GuardPolicy, decided_ms: int) -> Iterator[Limit]:
    """Ceilings, the reference band, and steps, the strongest first."""
    if entry.list_price_minor is not None:
        yield "list price ceiling", 0.0, entry.list_price_minor * policy.ceiling_list_price_ratio
    reference = entry.reference_price_minor
    if reference is not None:
        yield "reference ceiling", 0.0, reference * policy.ceiling_reference_ratio
        yield "reference floor", reference * policy.floor_reference_ratio, math.inf
    if entry.published_day == decided_ms // DAY_MS and entry.day_open_minor is not None:
        yield _step("day's step limit", entry.day_open_minor, policy.day_step_ratio_max, policy)
    if entry.published_minor is not None:
        yield _step("step limit", entry.published_minor, policy.step_ratio_max, policy)


def _step(name: str, anchor_minor: int, ratio: float, policy: GuardPolicy) -> Limit:
    """Prices so near to another one; less than a tick away is rounding."""
    room = max(anchor_minor * ratio, policy.tick_minor - 1)
    return name, anchor_minor - room, anchor_minor + room


def published(entry: GateEntry, price_minor: int, decided_ms: int) -> None:
    """Remember a price that went out, and the price that its day began with."""
    day = decided_ms // DAY_MS
    if entry.published_day != day:
        before = entry.published_minor
        entry.day_open_minor = price_minor if before is None else before
        entry.published_day = day
    entry.published_minor = price_minor


def decision_is_sound(decision: PriceDecided) -> tuple[str, ...]:
    """The outbox's last look at a decision about to be published, from its own fields alone."""
    if decision.status == "held":
        return ()
    record = decision.record
    if decision.price_minor is None or record is None:
        return ("outbox: a published decision lacks its price or record",)
    reasons = []
    if decision.price_minor * record.kept_share < record.unit_cost_minor * (1.0 - ROUNDING):
        reasons.append("outbox: below cost")
    if record.breaker.state == "OPEN" and decision.status != "reverted":
        reasons.append("outbox: the breaker is open")
    if "OPEN" in (record.breaker.family, record.breaker.catalogue):
        reasons.append("outbox: a breaker above the product is open")
    return tuple(reasons)
