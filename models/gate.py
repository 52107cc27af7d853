"""The publisher gate: a second look at floor, ceiling, step, currency and age of a price.

It shares no code with the guards and no state with the engine: it keeps its own entry per SKU,
fed by catalogue events and by what was published. It can only hold a price, never change one.
"""

from schemas.events import CostChanged, ProductListed, ProductRetired
from schemas.outputs import PriceDecided
from schemas.policy import GuardPolicy
from schemas.state import GateEntry

DAY_MS = 86_400_000
ROUNDING = 1e-9  # relative slack for bounds that are products of floats


def listed(entry: GateEntry | None, event: ProductListed) -> GateEntry:
    """The entry after a listing."""
    kept = (1.0 - event.fee_rate) / (1.0 + event.vat_rate)
    return GateEntry(
        currency=event.currency,
        unit_cost_minor=event.unit_cost_minor,
        kept_share=kept,
        list_price_minor=event.list_price_minor,
        retired=False,
        published_minor=entry.published_minor if entry else None,
        published_day=entry.published_day if entry else None,
        day_open_minor=entry.day_open_minor if entry else None,
    )


def cost_changed(entry: GateEntry, event: CostChanged) -> None:
    """A new unit cost, or that it is no longer known."""
    entry.unit_cost_minor = event.unit_cost_minor


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

    A ceiling or a step limit yields only upward, and only as far as the product's own floor
    demands (a cost above the ceiling must not force a sale below cost).
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
    least = entry.unit_cost_minor / (entry.kept_share * (1.0 - policy.margin_floor_ratio))
    forced_to = least + policy.tick_minor
    if entry.list_price_minor is not None:
        ceiling = entry.list_price_minor * policy.ceiling_list_price_ratio * (1.0 + ROUNDING)
        if price_minor > max(ceiling, forced_to):
            reasons.append("gate: above the list price ceiling")
    reasons.extend(_steps(entry, price_minor, policy, decided_ms, forced_to))
    return tuple(reasons)


def _steps(
    entry: GateEntry, price_minor: int, policy: GuardPolicy, decided_ms: int, forced_to: float
) -> list[str]:
    reasons = []
    limits = [(entry.published_minor, policy.step_ratio_max, "step limit")]
    if entry.published_day == decided_ms // DAY_MS:
        limits.append((entry.day_open_minor, policy.day_step_ratio_max, "day's step limit"))
    for anchor_minor, ratio, name in limits:
        if anchor_minor is None:
            continue
        highest = max(anchor_minor * (1.0 + ratio) * (1.0 + ROUNDING), forced_to)
        lowest = anchor_minor * (1.0 - ratio) * (1.0 - ROUNDING)
        if entry.list_price_minor is not None:
            lowest = min(lowest, entry.list_price_minor * policy.ceiling_list_price_ratio)
        if not lowest <= price_minor <= highest:
            reasons.append(f"gate: beyond the {name}")
    return reasons


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
    return tuple(reasons)
