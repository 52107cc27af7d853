"""What the guards of one decision look at: catalogue, present price, rivals, stock, the rest.

Guards that need more than one product's numbers are worked out here, as bounds of `found`.
"""

import math
from typing import NamedTuple

from models import guards, ladders
from models.market import RivalView
from models.objective import RIVAL_WIDTH, Row
from models.partition import PartitionState
from schemas.events import DAY_MS
from schemas.state import CatalogueEntry, SkuState


class Situation(NamedTuple):
    """One product at the moment of a decision; ``row`` is normalised by the reference price."""

    state: SkuState
    entry: CatalogueEntry
    row: Row
    rivals: RivalView
    bounded: bool  # by the canary step of a half-open breaker
    now_ms: int


def allowed(partition: PartitionState, at: Situation) -> guards.Feasible:
    """The prices that all guards allow together, in every market and channel.

    Raises
    ------
    ValueError : the product has no cost or reference price, and so no floor
    """
    placed = partition.guards_of(at.entry)
    found = guards.placed_bounds(_inputs(partition, at), placed)
    return guards.feasible(found, placed[0].guards.tick_minor)


def _inputs(partition: PartitionState, at: Situation) -> guards.GuardInputs:
    state, entry = at.state, at.entry
    if entry.unit_cost_minor is None or state.reference_price_minor is None:
        raise ValueError(f"{entry.sku} has no cost or no reference price; expected both")
    previous = state.published_minor
    same_day = state.day_open == at.now_ms // DAY_MS
    canary = partition.policy_of(entry).breaker.canary_step_ratio if at.bounded else None
    return guards.GuardInputs(
        unit_cost_minor=entry.unit_cost_minor,
        kept_share=entry.kept_share,
        reference_price_minor=state.reference_price_minor,
        list_price_minor=entry.list_price_minor,
        minimum_resale_price_minor=entry.minimum_resale_price_minor,
        previous_minor=previous,
        day_anchor_minor=state.day_open_minor if same_day else previous,
        canary_step_ratio=canary,
        rival_minor=at.rivals.robust_minor,
        stock_cover_days=_stock_cover_days(at),
        found=_found(partition, at),
    )


def _found(partition: PartitionState, at: Situation) -> tuple[guards.Bound, ...]:
    """Bounds that need more than one product's numbers."""
    return ladders.bounds(partition, at.entry)


def _stock_cover_days(at: Situation) -> float | None:
    """Days that the stock on hand lasts at the present price; None where either is not known."""
    previous, stock = at.state.published_minor, at.state.stock
    reference = at.state.reference_price_minor
    if previous is None or stock is None or reference is None:
        return None
    return stock.on_hand / units_per_day(at.row, previous / reference)


def units_per_day(row: Row, price: float) -> float:
    """Expected demand at a price over the reference price: the objective's Q over the horizon."""
    x = math.log(price)
    bend = (x - math.log(row.rival_price) - row.rival_tau) / RIVAL_WIDTH
    soft = max(bend, 0.0) + math.log1p(math.exp(-abs(bend)))
    return row.demand_per_day * math.exp(row.elasticity * x - row.rival_omega * RIVAL_WIDTH * soft)
