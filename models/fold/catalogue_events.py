"""What listings, costs and retirements do: catalogue entry, gate entry and a product's prior."""

import math

from msgspec.structs import replace

from models.breaker import breaker_scopes, moves, slips
from models.fold.context import Context, Refused
from models.fold.market import begin_epoch, close_epoch
from models.fold.market_events import require_currency
from models.fold.partition import PartitionState
from models.guards import gate, promotions, resale_trial
from models.pricing import exploration
from models.prior import coldstart
from models.prior.prior import INHERITED, adapt, inherit, widened
from schemas.events import CostChanged, HandedOver, ProductListed, ProductRetired, rfc3339, time_ms
from schemas.learned import DemandPosterior
from schemas.state import CatalogueEntry, PriceWindow, SkuState

STAMPING = (ProductListed, CostChanged)  # the events that set costs and prices of products


def product_listed(context: Context, event: ProductListed) -> None:
    """List a product, or correct its entry. Its family, currency and reference price stay."""
    partition = context.partition
    known = partition.catalogue.get(event.sku)
    family = event.family or event.sku
    if known is None:
        _require_family(partition, event, family)
    else:
        require_currency(known, event.currency)
        if family != known.family:
            raise Refused("family_fixed", "family", family, f"{known.family}, fixed at listing")
    partition.catalogue[event.sku] = CatalogueEntry(
        sku=event.sku,
        family=family,
        category=event.category,
        currency=event.currency,
        attributes=event.attributes,
        unit_cost_minor=event.unit_cost_minor,
        return_handling_cost_minor=event.return_handling_cost_minor,
        list_price_minor=event.list_price_minor,
        minimum_resale_price_minor=event.minimum_resale_price_minor,
        kept_share=(1.0 - event.fee_rate) / (1.0 + event.vat_rate),
        exit_ms=None if event.exit_date is None else time_ms(event.exit_date),
        predecessor=event.predecessor,
        retired=False,
        changed_ms=context.now_ms,
        role=event.role,
        anchors=event.anchors,
        cost_ms=None if event.unit_cost_minor is None else event.event_time_ms,
    )
    if known is None:
        partition.join_family(partition.catalogue[event.sku])
    else:
        _stamp(context, known)
    known_to_gate = partition.gates.get(event.sku)
    partition.gates[event.sku] = gate.listed(known_to_gate, event, partition.gate_rules)
    partition.touch(f"catalogue/{event.sku}")
    partition.touch(f"gate/{event.sku}")
    state = partition.skus.get(event.sku)
    if state is None:
        state = _new_state(context, event)
        partition.skus[event.sku] = state
        partition.windows[event.sku] = PriceWindow(sku=event.sku, looked_ms=context.now_ms)
        partition.touch(f"window/{event.sku}")
    elif known is not None:
        _doubt_entry(context, state, known, event)
        if known.retired:
            _catch_up(context, state, partition.catalogue[event.sku])
        now = partition.catalogue[event.sku]
        partition.catalogue[event.sku] = slips.doubt(context, state, known, now)
    partition.touch(f"sku/{event.sku}")
    _reference(context, state)
    if state.epoch is None:
        begin_epoch(partition, state, partition.catalogue[event.sku], context.now_ms)
    context.ask(state, "catalogue")


def _catch_up(context: Context, state: SkuState, entry: CatalogueEntry) -> None:
    """Let what fell due while a product was retired pass: its listing has it decided in any case.

    Else its decision would make it due in the past, which no tick that comes before it expects.
    """
    state.decide_anew = None
    promotions.passed_edge(context.partition, state, context.now_ms)
    resale_trial.is_over(context.partition, state, entry, context.now_ms)


def _stamp(context: Context, known: CatalogueEntry) -> None:
    """Note what changed on a product that was listed before; the catalogue's breaker counts it."""
    partition = context.partition
    day = moves.day_of(partition.manifest.clock_ms)
    if day is not None:
        now = partition.catalogue[known.sku]
        now = replace(now, stamped=moves.stamped(known, now, day))
        partition.catalogue[known.sku] = now
        breaker_scopes.stamped(context, known, now)


def _doubt_entry(
    context: Context, state: SkuState, known: CatalogueEntry, event: ProductListed
) -> None:
    """Tell of a listing that contradicts the one before; it holds, and so does what was learned."""
    contradictions = []
    if event.category != known.category:
        contradictions.append(f"category {known.category} -> {event.category}")
    for name in sorted(event.attributes):
        before, now = known.attributes.get(name), event.attributes[name]
        if before is not None and isinstance(before, str) != isinstance(now, str):
            contradictions.append(f"{name} {before} -> {now}")
    if contradictions:
        message = f"listed anew with other facts: {'; '.join(contradictions)}"
        context.doubt(state, message, {"contradictions": contradictions})


def _new_state(context: Context, event: ProductListed) -> SkuState:
    partition = context.partition
    state = SkuState(sku=event.sku)
    predecessor = None
    if event.predecessor is not None and event.succession == "replaces":
        predecessor = partition.skus[event.predecessor]
    if event.predecessor is not None and event.succession == "demotes":
        _move_down(partition, partition.skus[event.predecessor])
    if isinstance(event.handed_over, HandedOver):
        state.posterior = _taken_over(event.handed_over, context.now_ms)
        state.reference_price_minor = event.handed_over.reference_price_minor
        state.prior_kind = f"{INHERITED}{event.handed_over.sku}"
    elif predecessor is not None and predecessor.posterior is not None:
        state.posterior = inherit(predecessor.posterior, context.now_ms)
        state.prior_kind = f"{INHERITED}{event.predecessor}"
    else:
        state.posterior, source = adapt(
            partition.prior,
            event.category,
            event.attributes,
            context.now_ms,
            prior_hash=partition.prior_sha256,
        )
        state.prior_kind = source.kind
    state.passport = coldstart.passport(partition.prior, partition.prior_sha256, event.attributes)
    return state


def _taken_over(found: HandedOver, now_ms: int) -> DemandPosterior:
    """The belief as it was: the same product goes on, under another SKU."""
    return DemandPosterior(
        mean=found.mean,
        cov=found.cov,
        epochs=found.epochs,
        orders=found.orders,
        updated_ms=now_ms,
        size_lines=found.size_lines,
        size_units=found.size_units,
        begun_ms=now_ms,
    )


def _move_down(partition: PartitionState, state: SkuState) -> None:
    """A product that stays below its successor sells to others now: its belief widens."""
    if state.posterior is not None:
        state.posterior = widened(state.posterior)
        partition.touch(f"sku/{state.sku}")


def _require_family(partition: PartitionState, event: ProductListed, family: str) -> None:
    related = [("anchors", sku) for sku in event.anchors]
    if event.predecessor is not None:
        related.append(("predecessor", event.predecessor))
    for field, sku in related:
        entry = partition.catalogue.get(sku)
        if entry is None or entry.family != family:
            raise Refused("not_in_family", field, sku, f"a listed product of family {family}")


def _reference(context: Context, state: SkuState) -> None:
    """Fix the reference price: the list price, else the expert's mark-up on cost."""
    entry = context.partition.catalogue[state.sku]
    if state.reference_price_minor is not None:
        return
    if entry.list_price_minor is not None:
        state.reference_price_minor = entry.list_price_minor
    elif entry.unit_cost_minor is not None:
        markup = context.partition.policy_of(entry).objective.expert_markup_ratio
        state.reference_price_minor = math.ceil(markup * entry.unit_cost_minor / entry.kept_share)


def cost_changed(
    context: Context, state: SkuState, entry: CatalogueEntry, event: CostChanged
) -> None:
    """A new unit cost reprices at once; a cost no longer known stops the product's pricing.

    One older than the cost in force is refused: feeds that retry send price lists out of order.
    """
    require_currency(entry, event.currency)
    partition = context.partition
    if entry.cost_ms is not None and event.event_time_ms < entry.cost_ms:
        raise Refused(
            "stale_cost", "event_time", event.event_time, f"{rfc3339(entry.cost_ms)} or later"
        )
    handling = event.return_handling_cost_minor
    now = replace(
        entry,
        unit_cost_minor=event.unit_cost_minor,
        return_handling_cost_minor=(
            entry.return_handling_cost_minor if handling is None else handling
        ),
        changed_ms=context.now_ms,
        cost_ms=event.event_time_ms,
    )
    partition.catalogue[state.sku] = slips.doubt(context, state, entry, now)
    _stamp(context, entry)
    gate.cost_changed(partition.gates[state.sku], event, partition.gate_rules)
    partition.touch(f"catalogue/{state.sku}")
    partition.touch(f"gate/{state.sku}")
    _reference(context, state)
    if state.epoch is None:
        begin_epoch(partition, state, partition.catalogue[state.sku], context.now_ms)
    context.ask(state, "cost")


def product_retired(
    context: Context, state: SkuState, entry: CatalogueEntry, event: ProductRetired
) -> None:
    """Stop pricing a product; what it learned and its versions stay."""
    partition = context.partition
    context.tell(state.sku, close_epoch(partition, state, context.now_ms))
    exploration.book(partition, state, entry.currency, 0.0, 0.0)
    partition.schedule(state, None)
    partition.catalogue[state.sku] = replace(entry, retired=True, changed_ms=context.now_ms)
    gate.retired(partition.gates[state.sku], event)
    partition.touch(f"catalogue/{state.sku}")
    partition.touch(f"gate/{state.sku}")
    context.ask(state, "retired")
