"""The circuit breakers above a product's own: of its family, and of the catalogue of a partition.

They have the states of `models.breaker.breaker`. OPEN holds every product under it, HALF_OPEN
bounds the step of each for one decision round, after which it closes unless it was opened again. A
family's opens when too many of its products are open: its records stay in order, so it is counted
as decisions are settled. The catalogue's opens on what spans families, and that is read only where
the cut of the tape can't change it:

- a **round** (decisions of several families that one record asks for) is judged as a whole before
  any of it is settled;
- the **day's** published moves are read at a clock tick, once all decisions before are settled;
- a **stamp** (one cost, list price or minimum price on many products) is counted at its catalogue
  event, which waits for the decisions of its family; it reads no prices.

A decision that stands between keeps what held at its own place (`Request.catalogue`).
"""

from typing import Any

from models.breaker import breaker, moves
from models.breaker.breaker import HALF_OPEN, OPEN
from models.breaker.moves import Moved
from models.fold.context import Context, Placed, Refused, alert
from models.fold.market import next_round, reschedule
from models.fold.partition import PartitionState
from models.pricing.path import PricePath
from models.pricing.pose import Posed
from schemas.events import DAY_MS, BreakerTripped, OperatorCommand
from schemas.state import BreakerState, CatalogueEntry

CANARY_GUARD = "canary_step"
SHOWN_MAX = 10  # SKUs named in an alert's evidence
COOLED = "cool-down is over"
PASSED = "canary round passed"


# -- what a decision reads


def above(partition: PartitionState, posed: Posed) -> tuple[str, ...]:
    """Why prices of a product may not go out whatever they are: open breakers, the kill switch."""
    family = partition.family_breaker(posed.entry.family)
    found: list[str] = []
    for name, state in (("family", family), ("catalogue", posed.request.catalogue)):
        if state.state == OPEN:
            found.extend(f"{name} breaker: {reason}" for reason in state.reasons)
    if partition.manifest.kill_switch is not None:
        found.append(f"kill switch: {partition.manifest.kill_switch}")
    return tuple(found)


# -- the family


def count_family(partition: PartitionState, name: str, offset: int, now_ms: int) -> list[Placed]:
    """Count a family's open products after one of them changed; open it where they are many."""
    known = partition.family_breaker(name)
    if known.state == OPEN:
        return []
    limits = partition.policy.breaker
    on_sale = _on_sale(partition, name)
    opened = [sku for sku in on_sale if partition.skus[sku].breaker.state == OPEN]
    if len(opened) < limits.family_open_count_min:
        return []
    if len(opened) < limits.family_open_share_max * len(on_sale):
        return []
    reason = f"{len(opened)} of {len(on_sale)} products are open"
    evidence = {"open": opened[:SHOWN_MAX], "products": len(on_sale)}
    after = BreakerState(OPEN, now_ms, (reason,), known.openings + 1)
    set_family(partition, name, after)
    partition.manifest.counts.breaker_trips += 1
    found = _told(known, after, evidence)
    return [_alert(partition, offset, now_ms, f"family/{name}", found)]


def _on_sale(partition: PartitionState, family: str) -> list[str]:
    return [sku for sku in partition.families[family] if not partition.catalogue[sku].retired]


def set_family(partition: PartitionState, name: str, state: BreakerState) -> None:
    """Put a family's breaker into a state; a closed one is forgotten."""
    if state.state == breaker.CLOSED:
        partition.family_breakers.pop(name, None)
    else:
        partition.family_breakers[name] = state
    partition.touch(f"breaker/family/{name}")


# -- the catalogue


def set_catalogue(partition: PartitionState, state: BreakerState) -> None:
    """Put the catalogue's breaker into a state."""
    partition.catalogue_breaker = state
    partition.touch("breaker/catalogue")


def judge_round(
    partition: PartitionState, posed: list[Posed], paths: list[PricePath], chosen: list[int]
) -> tuple[BreakerState | None, list[Placed]]:
    """Judge a round before it is settled; the catalogue's breaker that holds for its decisions.

    Decisions of one family, or of several records, are no round: None. In a breaker that cooled
    down, what counts is what prices would do without the canary's bound; after an operator's
    reset, who has looked, what they do within it.

    Parameters
    ----------
    chosen : the price that each decision would publish, minor units
    """
    known = partition.catalogue_breaker
    if known.state == OPEN or not _is_round(posed):
        return None, []
    request, limits = posed[0].request, partition.policy.breaker
    day = request.clock_ms // DAY_MS
    found = _of_day(partition, day)
    unbounded = known.state == HALF_OPEN and breaker.RESET not in known.reasons
    for one, path, price_minor in zip(posed, paths, chosen, strict=True):
        found.pop(one.state.sku, None)
        opened = None if known.since_ms // DAY_MS == day else _day_open_minor(one, day)
        moved = _wants(one, path, price_minor, opened, unbounded=unbounded)
        if moved is not None and moves.is_move(
            moved.before_minor, moved.after_minor, limits.catalogue_move_ratio
        ):
            found[one.state.sku] = moved
    told = _open_catalogue(partition, found, request.offset, request.now_ms)
    return partition.catalogue_breaker, told


def _is_round(posed: list[Posed]) -> bool:
    first = posed[0]
    return all(one.request.offset == first.request.offset for one in posed) and any(
        one.entry.family != first.entry.family for one in posed
    )


def _wants(
    posed: Posed, path: PricePath, chosen_minor: int, opened_minor: int | None, *, unbounded: bool
) -> Moved | None:
    """A decision's move since its day began; None where its own breaker holds it, or at first."""
    state, entry = posed.state, posed.entry
    before = state.published_minor
    if before is None or posed.breaker.state == OPEN:
        return None
    canary = path.moves[-1] if path.moves and path.moves[-1].guard == CANARY_GUARD else None
    if unbounded and canary is not None and chosen_minor == path.wanted_minor:
        chosen_minor = round(canary.before_minor)
    return Moved(entry.family, entry.currency, opened_minor or before, chosen_minor)


def _day_open_minor(posed: Posed, day: int) -> int | None:
    return posed.state.day_open_minor if posed.state.day_open == day else None


def _of_day(partition: PartitionState, day: int) -> dict[str, Moved]:
    """The published moves of an event day; none on the day the breaker last changed.

    Those moves were judged then, and steps are bounded until it has closed again.
    """
    since_ms = partition.catalogue_breaker.since_ms
    if since_ms and since_ms // DAY_MS == day:
        return {}
    return partition.moves.of_day(day)


def may_trip(partition: PartitionState, waiting: int) -> bool:
    """Whether a tick could find too many moves, were all of the waiting decisions moves too."""
    limits, known = partition.policy.breaker, partition.moves
    if partition.catalogue_breaker.state == OPEN:
        return False
    if len(known) + waiting >= limits.catalogue_moved_count_min:
        return True
    if len(known) + waiting <= limits.same_price_count_max or partition.manifest.clock_ms is None:
        return False
    found = known.of_day(partition.manifest.clock_ms // DAY_MS)
    return moves.most_at_one_price(list(found.values()))[0] + waiting > limits.same_price_count_max


def _open_catalogue(
    partition: PartitionState, found: dict[str, Moved], offset: int, now_ms: int
) -> list[Placed]:
    limits = partition.policy.breaker
    if len(found) <= limits.same_price_count_max and len(found) < limits.catalogue_moved_count_min:
        return []
    products = sum([not entry.retired for entry in partition.catalogue.values()])
    reasons = moves.beyond(list(found.values()), products, limits)
    if not reasons:
        return []
    evidence = {
        "moved": len(found),
        "products": products,
        "at_one_price": moves.most_at_one_price(list(found.values()))[0],
        "skus": sorted(found)[:SHOWN_MAX],
    }
    return [open_catalogue(partition, reasons, evidence, offset, now_ms)]


def open_catalogue(
    partition: PartitionState,
    reasons: tuple[str, ...],
    evidence: dict[str, Any],
    offset: int,
    now_ms: int,
) -> Placed:
    """Open the catalogue's breaker, and tell people why."""
    known = partition.catalogue_breaker
    after = BreakerState(OPEN, now_ms, reasons, known.openings + 1)
    set_catalogue(partition, after)
    partition.manifest.counts.breaker_trips += known.state != OPEN
    return _alert(partition, offset, now_ms, "catalogue", _told(known, after, evidence))


def stamped(context: Context, known: CatalogueEntry, now: CatalogueEntry) -> None:
    """Count what a catalogue event changed on a product that was listed before.

    The catalogue opens with the event that makes them too many, so that its own decision is held.
    """
    partition = context.partition
    day = moves.day_of(partition.manifest.clock_ms)
    if day is None:
        return
    partition.stamps.note(day, known, now)
    limit = partition.policy.breaker.same_price_count_max
    if partition.catalogue_breaker.state == OPEN:
        return
    count, what, value = partition.stamps.count(day, now)
    if count <= limit:
        return
    reason = f"{count} unrelated products got one {what}, {value}, in a day, beyond {limit}"
    evidence = {"field": what, "value_minor": value, "products": count}
    context.outputs.append(
        open_catalogue(partition, (reason,), evidence, context.offset, context.now_ms)
    )
    context.catalogue = partition.catalogue_breaker


# -- the clock, and people


def next_change_ms(partition: PartitionState) -> int | None:
    """The first decision round in which a scope's breaker moves by itself."""
    known = [*partition.family_breakers.values(), partition.catalogue_breaker]
    found = [due for state in known if (due := _due_ms(partition, state)) is not None]
    return min(found, default=None)


def _due_ms(partition: PartitionState, state: BreakerState) -> int | None:
    decision = partition.policy.decision
    if state.state == HALF_OPEN:
        return next_round(state.since_ms + 1, decision)
    ends_ms = breaker.cool_down_ends_ms(state, partition.policy.breaker)
    return None if ends_ms is None else next_round(ends_ms, decision)


def clock_moved(context: Context) -> None:
    """Let what has cooled down half open, and close what a round left alone; read the day's moves.

    Every product under a breaker that half opens is decided anew.
    """
    partition, now_ms = context.partition, context.now_ms
    partition.moves.forget(now_ms // DAY_MS)
    for name in sorted(partition.family_breakers):
        known = partition.family_breakers[name]
        after = _moved_on(partition, known, now_ms)
        if after is None:
            continue
        set_family(partition, name, after)
        _tell(context, f"family/{name}", known, after)
        if after.state == HALF_OPEN:
            decide_anew(partition, _on_sale(partition, name))
    known = partition.catalogue_breaker
    after = _moved_on(partition, known, now_ms)
    if after is not None:
        set_catalogue(partition, after)
        _tell(context, "catalogue", known, after)
        if after.state == HALF_OPEN:
            decide_anew(partition, sorted(partition.skus))
    elif known.state != OPEN:
        found = _of_day(partition, now_ms // DAY_MS)
        context.outputs += _open_catalogue(partition, found, context.offset, now_ms)
    context.catalogue = partition.catalogue_breaker


def _moved_on(partition: PartitionState, known: BreakerState, now_ms: int) -> BreakerState | None:
    due_ms = _due_ms(partition, known)
    if due_ms is None or now_ms < due_ms:
        return None
    if known.state == HALF_OPEN:
        return BreakerState(since_ms=now_ms)
    return BreakerState(HALF_OPEN, now_ms, known.reasons, known.openings)


def decide_anew(partition: PartitionState, skus: list[str]) -> None:
    """Let the next tick decide products: what was held may be out of date."""
    for sku in skus:
        if not partition.catalogue[sku].retired:
            state = partition.skus[sku]
            state.decide_anew = "breaker cool-down"
            reschedule(partition, state)
            partition.touch(f"sku/{sku}")


def steer(context: Context, event: OperatorCommand, until_ms: int | None) -> None:
    """Trip or reset the breaker of a family or of the catalogue. A reset reaches those below too.

    Products' own breakers are `models.fold.control_events`' part.
    """
    partition, now_ms = context.partition, context.now_ms
    if event.command == "breaker_trip":
        wanted = breaker.tripped(now_ms, until_ms)
    else:
        wanted = breaker.reset(now_ms)
    by = f"by {event.actor}: {event.reason}"
    if event.scope.kind == "catalogue":
        known = partition.catalogue_breaker
        if wanted.state == OPEN or known.state == OPEN:
            set_catalogue(partition, wanted)
            _tell(context, "catalogue", known, wanted, by)
            context.catalogue = wanted
    for name in _families(partition, event):
        known = partition.family_breaker(name)
        if wanted.state == OPEN or known.state == OPEN:
            set_family(partition, name, wanted)
            _tell(context, f"family/{name}", known, wanted, by)


def tripped(context: Context, event: BreakerTripped) -> None:
    """Open the catalogue's breaker on what the monitor of all partitions found; it cools down."""
    if event.scope.kind != "catalogue":
        raise Refused("invalid_scope", "scope.kind", event.scope.kind, "catalogue")
    if context.partition.catalogue_breaker.state == OPEN:
        return
    reason = f"monitor: {event.reason}"
    context.outputs.append(
        open_catalogue(context.partition, (reason,), event.evidence, context.offset, context.now_ms)
    )


def _families(partition: PartitionState, event: OperatorCommand) -> list[str]:
    if event.scope.kind == "family" and event.scope.name in partition.families:
        return [event.scope.name]
    if event.scope.kind == "catalogue" and event.command == "breaker_reset":
        return sorted(partition.family_breakers)
    return []


# -- alerts


def _told(
    known: BreakerState, after: BreakerState, evidence: dict[str, Any], by: str | None = None
) -> tuple[str, dict[str, Any]]:
    why = by or "; ".join(after.reasons) or PASSED
    if by is None and after.state == HALF_OPEN:
        why = COOLED
    found = {"states": [known.state, after.state], "reasons": list(after.reasons), **evidence}
    return (
        f"{known.state} -> {after.state} {why}" if by else f"{known.state} -> {after.state}: {why}",
        found,
    )


def _tell(
    context: Context, scope: str, known: BreakerState, after: BreakerState, by: str | None = None
) -> None:
    found = _told(known, after, {}, by)
    context.outputs.append(_alert(context.partition, context.offset, context.now_ms, scope, found))


def _alert(
    partition: PartitionState,
    offset: int,
    now_ms: int,
    scope: str,
    told: tuple[str, dict[str, Any]],
) -> Placed:
    message, evidence = told
    kind, _, name = scope.partition("/")
    found = {"scope": kind, "name": name or None, **evidence}
    shown = f"{kind} {name}: " if name else f"{kind}: "
    return alert(
        partition, offset, now_ms, "breaker_changed", None, shown + message, found, subject=scope
    )
