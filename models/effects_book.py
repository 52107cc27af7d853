"""Where the fold keeps the market's pooled effects: what epochs read of them, and teach them."""

import math
from typing import NamedTuple

from msgspec.structs import replace

from models import market_effects
from models.epoch import Observation
from models.market_effects import Features
from models.partition import PartitionState
from schemas.effects import MarketMemory
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior, OpenEpoch
from schemas.outputs import MarketEffect
from schemas.state import SkuState


class Beside(NamedTuple):
    """An observation with the pooled effects in its offset, and what it teaches them."""

    seen: Observation
    features: Features
    days: float


def beside(
    partition: PartitionState, state: SkuState, epoch: OpenEpoch, seen: Observation
) -> Beside:
    """Put the effects in use into an observation's offset."""
    effects = market_effects.of_category(partition, partition.catalogue[state.sku].category)
    days = (epoch.accrued_ms - epoch.start_ms) / DAY_MS
    found = market_effects.features(epoch, state.market, days, partition.policy.objective)
    offset = effects.rival.used * found.rival + effects.memory.used * found.gap
    return Beside(seen._replace(offset=seen.offset + offset), found, days)


def learned(
    partition: PartitionState,
    state: SkuState,
    epoch: OpenEpoch,
    before: DemandPosterior,
    found: Beside,
) -> None:
    """Teach the pool by an epoch that its product has just learned, and remember its price."""
    after = state.posterior
    if after is None:
        return
    memory = state.market or MarketMemory(
        ln_price=round(epoch.ln_price, 6), control=round(epoch.control, 6)
    )
    category = partition.catalogue[state.sku].category
    effects = partition.effects.get(category)
    if effects is None:
        effects = partition.effects[category] = market_effects.new_effects()
    settings = partition.demand_settings
    market_effects.teach(effects, memory, before, found.seen, found.features, settings)
    partition.touch(f"effects/{category}")
    memory = market_effects.remember(memory, after, found.seen, found.features, settings)
    faded = math.exp(-found.days / market_effects.MEMORY_DAYS)
    remembered = epoch.ln_price + (memory.ln_price - epoch.ln_price) * faded
    control = epoch.control + (memory.control - epoch.control) * faded
    state.market = replace(memory, ln_price=round(remembered, 6), control=round(control, 6))


def new_day(partition: PartitionState, day: int) -> None:
    """At the first tick of an event day: read the lessons of the days before."""
    if partition.manifest.returns_day is not None:
        market_effects.new_day(partition)


class Present(NamedTuple):
    """What the pooled effects do to one product's demand over the horizon to come.

    ``omega`` is the extra elasticity above the rival's threshold; ``log_level`` and ``elasticity``
    are added to the product's own. ``told`` are the effects in use, for the record.
    """

    omega: float
    log_level: float
    elasticity: float
    told: tuple[MarketEffect, ...]


def present(
    partition: PartitionState, state: SkuState, horizon_days: float, ln_rival: float | None
) -> Present:
    """The effects in use for one product now.

    A candidate price is judged as one that stays, so buyers come to remember it: memory moves the
    level by the gap of the present price and leaves the elasticity alone.
    """
    effects = market_effects.of_category(partition, partition.catalogue[state.sku].category)
    told: list[MarketEffect] = []
    omega = level = 0.0
    if ln_rival is not None and effects.rival.used != 0.0:
        omega = effects.rival.used
        told.append(MarketEffect("rival_threshold", omega, effects.rival.sd))
    if state.market is not None and state.epoch is not None and effects.memory.used != 0.0:
        gap = state.epoch.ln_price - state.market.ln_price
        level = effects.memory.used * gap * market_effects.faded(horizon_days)
        told.append(
            MarketEffect("price_memory", effects.memory.used, effects.memory.sd, round(level, 6))
        )
    return Present(omega, level, 0.0, tuple(told))
