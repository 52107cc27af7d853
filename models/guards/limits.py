"""What the guards of one decision look at: catalogue, present price, rivals, stock, the rest.

Guards that need more than one product's numbers are worked out here, as bounds of `found`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from models.demand import demand
from models.family import ladders
from models.fold.market import RivalView
from models.fold.partition import PartitionState
from models.guards import adaptive_step, guards, promotions, resale_trial
from models.kernel.objective import RIVAL_WIDTH, Row
from schemas.events import DAY_MS
from schemas.scopes import PlacedGuards
from schemas.state import CatalogueEntry, SkuState

STEP_MAX = 1.0 - 1e-9  # a fall of everything has no logarithm
LOG_UNITS_MAX = 50.0  # keeps a strange belief finite


class Situation(NamedTuple):
    """One product at the moment of a decision; ``row`` is normalised by the reference price."""

    state: SkuState
    entry: CatalogueEntry
    row: Row
    rivals: RivalView
    bounded: bool  # by the canary step of a half-open breaker
    now_ms: int
    loss_leader: bool = False  # its family earns more while it waives its margin
    asked: promotions.Present = promotions.NOTHING


def allowed(
    partition: PartitionState, at: Situation, placed: Sequence[PlacedGuards] | None = None
) -> guards.Feasible:
    """The prices that all guards allow together.

    Parameters
    ----------
    placed : the guards of some places; without them those of every market and channel

    Raises
    ------
    ValueError : the product has no cost or reference price, and so no floor
    """
    placed = placed or partition.guards_of(at.entry)
    found = guards.placed_bounds(inputs(partition, at, placed), placed)
    return guards.feasible(found, placed[0].guards.tick_minor)


def inputs(
    partition: PartitionState, at: Situation, placed: Sequence[PlacedGuards]
) -> guards.GuardInputs:
    """What the guards of some places look at. Raises as `allowed` does."""
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
        stock_cover_days=stock_cover_days(at),
        trial_floor_minor=resale_trial.floor_minor(
            partition, state, entry, at.rivals.lowest_minor, at.now_ms
        ),
        found=_found(partition, at, placed),
        loss_leader=at.loss_leader,
        sale_below_cost_lawful=_sale_below_cost_lawful(partition),
        return_minor=at.asked.return_minor,
    )


def _sale_below_cost_lawful(partition: PartitionState) -> bool:
    """Whether every market that the policy names allows it: a price is one for all of them."""
    markets = partition.policy.markets.values()
    return bool(markets) and all(market.sale_below_cost_lawful for market in markets)


def _found(
    partition: PartitionState, at: Situation, placed: Sequence[PlacedGuards]
) -> tuple[guards.Bound, ...]:
    """Bounds that need more than one product's present numbers."""
    return (
        *ladders.bounds(partition, at.entry),
        *promotions.bounds(at.asked),
        *_adaptive_steps(partition, at, placed),
    )


def _adaptive_steps(
    partition: PartitionState, at: Situation, placed: Sequence[PlacedGuards]
) -> Iterator[guards.Bound]:
    """The longest steps whose risk each place's policy takes."""
    previous, reference = at.state.published_minor, at.state.reference_price_minor
    for place, policy in placed:
        if previous is None or reference is None or not policy.adaptive_step.tolerances:
            continue
        reach = adaptive_step.Steps(
            -math.log1p(-min(policy.step_ratio_max, STEP_MAX)), math.log1p(policy.step_ratio_max)
        )
        steps = adaptive_step.longest(
            policy.adaptive_step,
            at.row,
            previous / reference,
            _revenue_share(partition, at, previous / reference),
            reach,
        )
        name = "/".join(part for part in place if part is not None)
        yield guards.Bound(
            "adaptive_step",
            previous * math.exp(-steps.down),
            previous * math.exp(min(steps.up, reach.up)),
            name,
        )


def _revenue_share(partition: PartitionState, at: Situation, price: float) -> float:
    """The product's share of what its family is expected to sell, in money, at present prices.

    Partners' demand is what their own belief says at their published price.
    """
    own = units_per_day(at.row, price) * price * (at.state.reference_price_minor or 0)
    total = own
    for sku in partition.families[at.entry.family]:
        state, entry = partition.skus[sku], partition.catalogue[sku]
        posterior, published = state.posterior, state.published_minor
        reference = state.reference_price_minor
        if sku == at.entry.sku or entry.retired or entry.currency != at.entry.currency:
            continue
        if posterior is None or published is None or reference is None:
            continue
        log_units = posterior.mean[0] + posterior.mean[1] * math.log(published / reference)
        units = math.exp(min(log_units, LOG_UNITS_MAX)) * demand.mean_units_per_order(posterior)
        total += units * published
    return own / total if total > 0.0 else 1.0


def stock_cover_days(at: Situation) -> float | None:
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
