"""The publisher gate: a second look at floor, ceiling, step, currency and age of a price.

It shares no code with the guards and no state with the engine: it keeps its own entry per SKU,
fed by catalogue events and by what was published. It can only hold a price, never change one.
"""

import math
from collections.abc import Iterator, Mapping

from models.guards import gate_reductions
from models.guards.gate_reductions import Leeway
from models.guards.gate_rules import GateRules
from schemas.events import DAY_MS, CostChanged, HandedOver, ProductListed, ProductRetired
from schemas.outputs import PriceDecided
from schemas.policy import EmergencyCap, GuardPolicy, ResaleTrial
from schemas.state import GateEntry

ROUNDING = 1e-9  # relative slack for bounds that are products of floats

Limit = tuple[str, float, float]  # name, lowest and highest price in minor units


def listed(entry: GateEntry | None, event: ProductListed, rules: GateRules) -> GateEntry:
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
        sku=event.sku,
        family=event.family or event.sku if entry is None else entry.family,
        category=event.category,
        role=event.role,
        trial_since_ms=entry.trial_since_ms if entry else None,
        published_ms=entry.published_ms if entry else None,
        applies=entry.applies if entry else False,
        shown=entry.shown if entry else (),
        reductions=entry.reductions if entry else (),
    )
    if entry is None and isinstance(event.handed_over, HandedOver):
        found.reference_price_minor = event.handed_over.reference_price_minor
    _fix_reference(found, rules)
    return found


def cost_changed(entry: GateEntry, event: CostChanged, rules: GateRules) -> None:
    """A new unit cost, or that it is no longer known."""
    entry.unit_cost_minor = event.unit_cost_minor
    _fix_reference(entry, rules)


def _fix_reference(entry: GateEntry, rules: GateRules) -> None:
    """The first list price, or the expert's mark-up on the first cost: it never changes again."""
    if entry.reference_price_minor is None:
        entry.reference_price_minor = entry.list_price_minor
    if entry.reference_price_minor is None and entry.unit_cost_minor is not None:
        marked_up = rules.markup(entry) * entry.unit_cost_minor / entry.kept_share
        entry.reference_price_minor = math.ceil(marked_up)


def retired(entry: GateEntry, event: ProductRetired) -> None:
    """Nothing more may be published for the product."""
    entry.retired = True


def check(
    entry: GateEntry | None,
    price_minor: int,
    currency: str,
    rules: GateRules,
    gates: Mapping[str, GateEntry],
    clock_ms: int,
    decided_ms: int,
    caps: tuple[EmergencyCap, ...] = (),
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
    policy = rules.of(entry)
    floors = _floors(entry, policy, rules.below_cost_lawful(), decided_ms)
    for name, least in floors:
        if price_minor < least * (1.0 - ROUNDING):
            reasons.append(f"gate: below {name}")
    low, high, tick = _floor_kept(entry, policy, price_minor, floors), math.inf, policy.tick_minor
    leeway = gate_reductions.leeway(entry, caps, decided_ms, rules.prior_price_days(entry))
    for name, lowest, highest in _limits(entry, policy, leeway, decided_ms):
        lowest, highest = min(lowest, high - tick), max(highest, low + tick)
        if not lowest * (1.0 - ROUNDING) <= price_minor <= highest * (1.0 + ROUNDING):
            reasons.append(f"gate: beyond the {name}")
        low, high = max(low, lowest), min(high, highest)
    before = entry.published_minor
    for name, lowest, highest in rules.ladder_limits(entry, gates):
        # What leads back to the ladder may take several steps; what leads away from it may not.
        lowest, highest = min(lowest, high - tick), max(highest, low + tick)
        if before is not None:
            lowest, highest = min(lowest, before), max(highest, before)
        if not lowest * (1.0 - ROUNDING) <= price_minor <= highest * (1.0 + ROUNDING):
            reasons.append(f"gate: off the ladder {name}")
    return tuple(reasons)


def _floors(
    entry: GateEntry, policy: GuardPolicy, below_cost_lawful: bool, now_ms: int
) -> list[tuple[str, float]]:
    """Each floor's name and lowest price; an anchor may lack what the policy lets it waive."""
    cost = (entry.unit_cost_minor or 0) / entry.kept_share
    waives = policy.loss_leader if entry.role == "anchor" else "off"
    below_cost = waives == "cost_floor" and below_cost_lawful
    found = [("cost", cost * policy.loss_leader_cost_ratio_min if below_cost else cost)]
    if waives == "off":
        found.append(("the margin floor", cost / (1.0 - policy.margin_floor_ratio)))
    resale = float(_minimum_resale_price(entry, policy))
    trial = policy.minimum_resale_price_trial
    if trial is not None and _may_try(entry, trial, now_ms):
        resale *= 1.0 - trial.depth_ratio_max
    return [*found, ("the minimum resale price", resale)]


def _floor_kept(
    entry: GateEntry, policy: GuardPolicy, price_minor: int, floors: list[tuple[str, float]]
) -> float:
    """The highest floor that a price keeps: the gate cannot know whether one that may be waived is.

    Ceilings yield to the floor that was not.
    """
    cost = (entry.unit_cost_minor or 0) / entry.kept_share
    margin = cost / (1.0 - policy.margin_floor_ratio)
    full = max(margin, float(_minimum_resale_price(entry, policy)))
    return max(*(least for _, least in floors), min(full, float(price_minor)))


def _may_try(entry: GateEntry, trial: ResaleTrial, now_ms: int) -> bool:
    """Whether a trial below the minimum resale price runs, or the rest after the last is over."""
    if entry.trial_since_ms is None:
        return True
    days = (now_ms - entry.trial_since_ms) / DAY_MS
    return days <= trial.days_max or days >= trial.days_max + trial.rest_days


def _minimum_resale_price(entry: GateEntry, policy: GuardPolicy) -> int:
    agreed = entry.minimum_resale_price_minor
    return max((agreed.get(name, 0) for name in policy.minimum_resale_price_markets), default=0)


def _limits(
    entry: GateEntry, policy: GuardPolicy, leeway: Leeway, decided_ms: int
) -> Iterator[Limit]:
    """Ceilings, the reference band, and steps, the strongest first."""
    yield "announced reduction", 0.0, leeway.ceiling
    if entry.list_price_minor is not None:
        yield "list price ceiling", 0.0, entry.list_price_minor * policy.ceiling_list_price_ratio
    reference = entry.reference_price_minor
    if reference is not None:
        yield "reference ceiling", 0.0, reference * policy.ceiling_reference_ratio
        least = reference * policy.floor_reference_ratio
        yield "reference floor", min(least, leeway.down_to - policy.tick_minor - 1.0), math.inf
    if entry.published_day == decided_ms // DAY_MS and entry.day_open_minor is not None:
        anchor, ratio = entry.day_open_minor, policy.day_step_ratio_max
        yield _step("day's step limit", anchor, ratio, policy, leeway)
    if entry.published_minor is not None:
        yield _step("step limit", entry.published_minor, policy.step_ratio_max, policy, leeway)


def _step(name: str, anchor_minor: int, ratio: float, policy: GuardPolicy, leeway: Leeway) -> Limit:
    """Prices so near to another one; less than a tick away is rounding."""
    room = max(anchor_minor * ratio, policy.tick_minor - 1)
    low = min(anchor_minor - room, leeway.down_to - policy.tick_minor - 1.0)
    return name, low, max(anchor_minor + room, leeway.back_to)


def published(entry: GateEntry, price_minor: int, decided_ms: int, rules: GateRules) -> None:
    """Remember a price that went out, the price that its day began with, and a trial's begin."""
    policy = rules.of(entry)
    trial = policy.minimum_resale_price_trial
    if trial is not None and price_minor < _minimum_resale_price(entry, policy):
        since_ms = entry.trial_since_ms
        if since_ms is None or (decided_ms - since_ms) / DAY_MS > trial.days_max:
            entry.trial_since_ms = decided_ms
    day = decided_ms // DAY_MS
    if entry.published_day != day:
        before = entry.published_minor
        entry.day_open_minor = price_minor if before is None else before
        entry.published_day = day
    entry.published_ms = decided_ms
    if entry.published_minor != price_minor and not entry.applies:
        gate_reductions.shown(entry, price_minor, decided_ms)
    entry.published_minor = price_minor


def applied(entry: GateEntry, price_minor: int, at_ms: int) -> None:
    """Remember a price that the shop says it shows; from then on only such are seen."""
    entry.applies = True
    gate_reductions.shown(entry, price_minor, at_ms)


def decision_is_sound(decision: PriceDecided) -> tuple[str, ...]:
    """The outbox's last look at a decision about to be published, from its own fields alone."""
    if decision.status == "held":
        return ()
    record = decision.record
    if decision.price_minor is None or record is None:
        return ("outbox: a published decision lacks its price or record",)
    reasons = []
    led = record.family is not None and record.family.waived == "cost_floor"
    floor_minor = record.unit_cost_minor * (1.0 - ROUNDING)
    if decision.price_minor * record.kept_share < floor_minor and not led:
        reasons.append("outbox: below cost")
    if record.breaker.state == "OPEN" and decision.status != "reverted":
        reasons.append("outbox: the breaker is open")
    if "OPEN" in (record.breaker.family, record.breaker.catalogue):
        reasons.append("outbox: a breaker above the product is open")
    return tuple(reasons)
