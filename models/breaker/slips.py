"""Slips of the catalogue's feeds: a cost or list price that moves beyond belief.

A cost bounds every price, so one that is a hundred times too low or too high moves them all within
what the guards allow. Such a product's breaker opens: its last price stays, until a person resets
it or the feed sends a figure that is believable beside the last one that was.
"""

from msgspec.structs import replace

from models.breaker import breaker
from models.fold.context import Context
from schemas.state import BreakerState, CatalogueEntry, SkuState


def doubt(
    context: Context, state: SkuState, known: CatalogueEntry, now: CatalogueEntry
) -> CatalogueEntry:
    """The entry with the figures last believed, where ``now`` has others; opens and half-opens."""
    limit = context.partition.policy_of(now).breaker.entry_move_ratio_max
    doubted = known.believed if _is_open(state) else {}
    believed: dict[str, int] = {}
    reasons: list[str] = []
    for name, before, after in (
        ("unit cost", known.unit_cost_minor, now.unit_cost_minor),
        ("list price", known.list_price_minor, now.list_price_minor),
    ):
        base = doubted.get(name, before)
        if base is None or (after is None and name not in doubted):
            continue
        if after is None or not base / limit <= after <= base * limit:
            believed[name] = base
            reasons.append(f"{name} {base} -> {after} is {breaker.SLIP}: {limit:g} times at most")
    if reasons:
        kept = [reason for reason in state.breaker.reasons if reason == breaker.MANUAL]
        _move(
            context,
            state,
            BreakerState(
                breaker.OPEN, context.now_ms, (*reasons, *kept), state.breaker.openings + 1
            ),
        )
    elif doubted and breaker.MANUAL not in state.breaker.reasons:
        _move(context, state, breaker.half_open(context.now_ms, "believable again"))
    return replace(now, believed=believed)


def _is_open(state: SkuState) -> bool:
    return state.breaker.state == breaker.OPEN and breaker.waits_for_slip(state.breaker)


def _move(context: Context, state: SkuState, after: BreakerState) -> None:
    before, state.breaker = state.breaker, after
    opened = after.state == breaker.OPEN and before.state != breaker.OPEN
    context.partition.manifest.counts.breaker_trips += opened
    context.alert(
        "breaker_changed",
        state.sku,
        f"{before.state} -> {after.state}: {'; '.join(after.reasons)}",
        {"states": [before.state, after.state], "reasons": list(after.reasons)},
    )
