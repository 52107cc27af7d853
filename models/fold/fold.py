"""The fold: what one tape record does to the state of its partition.

Observing a record updates state and may ask for decisions; pricing them is left to
`models.fold.engine`, which may put several into one wave. Nothing here depends on how the tape was
cut into batches.
"""

from hashlib import blake2b
from typing import Any

from models.breaker import breaker_scopes
from models.fold import catalogue_events, control_events, market_events
from models.fold.context import Context, Output, Placed, Refused
from models.fold.partition import PartitionState
from schemas import events, tape, topics
from schemas.errors import VALUE_CHARACTERS_MAX
from schemas.state import SkuState

RECENT_EVENTS = 24  # a source's own repeat is found among the last so many events of its SKU
DIGEST_BYTES = 6  # two of a SKU's last events agree once in 10^13

_SKU_HANDLERS: dict[type[events.Event], Any] = {
    events.OrderPlaced: market_events.order_placed,
    events.OrderCancelled: market_events.order_cancelled,
    events.OrderReturned: market_events.order_returned,
    events.CompetitorPriceObserved: market_events.competitor_price_observed,
    events.InventoryChanged: market_events.inventory_changed,
    events.TrafficCounted: market_events.traffic_counted,
    events.PriceApplied: market_events.price_applied,
    events.CostChanged: catalogue_events.cost_changed,
    events.ProductRetired: catalogue_events.product_retired,
}
_CONTROL_HANDLERS: dict[type[events.Event], Any] = {
    events.PolicyPublished: control_events.policy_published,
    events.PriorPublished: control_events.prior_published,
    events.CalendarPublished: control_events.calendar_published,
    events.PromotionScheduled: control_events.promotion_scheduled,
    events.OperatorCommand: control_events.operator_command,
    events.BreakerTripped: breaker_scopes.tripped,
    events.EngineChanged: control_events.engine_changed,
}


def admit(partition: PartitionState, offset: int, record: tape.TapeRecord) -> Context | None:
    """Take note of a record's place; None for one whose source offset has been seen.

    An append may have happened twice: of each source partition only what lies above the highest
    offset seen is taken. Records are admitted in tape order.
    """
    source, manifest = record.source, partition.manifest
    manifest.position = offset
    place = f"{source.topic}/{source.partition}"
    if source.offset <= manifest.high_water.get(place, -1):
        manifest.counts.duplicates += 1
        return None
    manifest.high_water[place] = source.offset
    return Context(partition, offset, record.event.event_time_ms)


def observe(context: Context, record: tape.TapeRecord, value: bytes) -> None:
    """Fold an admitted record into the state; the context has what it leads to.

    What contradicts the state becomes a dead letter, at once. Records of one product are observed
    in tape order; those of others may have been observed before.

    Parameters
    ----------
    record, value : the record, decoded and as bytes
    """
    counts = context.partition.manifest.counts
    try:
        applied = _apply(context, record.event, record.source.topic)
    except Refused as refusal:
        counts.dead_letters += 1
        context.outputs.append(_dead_letter(context, record, value, refusal))
        return
    if applied:
        counts.applied += 1
        if context.partition.watch is not None:
            context.partition.watch.applied(record.event, context.now_ms)
    else:
        counts.duplicates += 1


def _apply(context: Context, event: events.AnyEvent, topic: str) -> bool:
    """Dispatch; False for a repeat: an event seen before, or a tick not above the clock."""
    partition = context.partition
    if isinstance(event, events.ClockTicked):
        return control_events.clock_ticked(context, event)
    if not isinstance(event, events.SkuEvent):
        _CONTROL_HANDLERS[type(event)](context, event)
        return True
    state = partition.skus.get(event.sku)
    if state is None:
        if not isinstance(event, events.ProductListed):
            raise Refused("unknown_product", "sku", event.sku, "a product listed before")
        catalogue_events.product_listed(context, event)
        _remember(partition.skus[event.sku], _digest(topic, event.event_id))
        return True
    digest = _digest(topic, event.event_id)
    if _is_repeat(state, digest):
        return False
    partition.touch(f"sku/{event.sku}")
    if isinstance(event, events.ProductListed):
        catalogue_events.product_listed(context, event)
    else:
        _SKU_HANDLERS[type(event)](context, state, partition.catalogue[event.sku], event)
    _remember(state, digest)  # not one that was refused: it may come again once its cause is cured
    return True


def _digest(topic: str, event_id: str) -> bytes:
    return blake2b(f"{topic}/{event_id}".encode(), digest_size=DIGEST_BYTES).digest()


def _is_repeat(state: SkuState, digest: bytes) -> bool:
    """Whether an event is among the SKU's last applied ones."""
    seen = state.recent_events
    at = seen.find(digest)
    while at > 0 and at % DIGEST_BYTES:  # found across the border of two
        at = seen.find(digest, at + 1)
    return at >= 0


def _remember(state: SkuState, digest: bytes) -> None:
    state.recent_events = state.recent_events[-DIGEST_BYTES * (RECENT_EVENTS - 1) :] + digest


def _dead_letter(
    context: Context, record: tape.TapeRecord, value: bytes, refusal: Refused
) -> Placed:
    source, partition, offset = record.source, context.partition, context.offset
    number = partition.manifest.partition
    shown = "" if refusal.value is None else str(refusal.value)[:VALUE_CHARACTERS_MAX]
    failed_at = events.rfc3339(record.event.event_time_ms)
    headers = {
        "dl_id": f"{source.topic}-{source.partition}-{source.offset}",
        "dl_topic": source.topic,
        "dl_partition": str(source.partition),
        "dl_offset": str(source.offset),
        "dl_timestamp_ms": str(record.event.event_time_ms),
        "dl_stage": "fold",
        "dl_error": refusal.code,
        "dl_message": f"{source.topic}[{source.partition}]@{source.offset}: {refusal}",
        "dl_field": refusal.field,
        "dl_value": shown,
        "dl_expected": refusal.expected,
        "dl_attempts": "1",
        "dl_application": "pricemaker",
        "dl_version": partition.engine,
        "dl_failed_at": failed_at,
        "dl_tape": f"{number}-{offset}",
    }
    sku = getattr(record.event, "sku", None)
    return Placed(
        offset,
        Output(
            topics.DEAD_LETTER.name,
            None if sku is None else sku.encode(),
            tape.raw_event(value),
            tuple((name, text.encode()) for name, text in headers.items()),
        ),
    )
