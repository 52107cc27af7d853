"""Where the fold keeps the market's pooled effects: what epochs read of them, and teach them."""

import math
from typing import NamedTuple

from msgspec.structs import replace

from models.demand import channels, day_effects, following, market_effects, searches
from models.demand.demand import Z_MAX
from models.demand.epoch import Observation
from models.demand.market_effects import Features
from models.fold.partition import PartitionState
from schemas.effects import MarketMemory
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior, OpenEpoch
from schemas.outputs import MarketEffect
from schemas.state import SkuState, Traffic

KNOWN_VARIANCE = 0.3  # of the log level: products known better count in the day's expectation
MICRO = 1_000_000


class Beside(NamedTuple):
    """An observation with the pooled effects in its offset, and what it teaches them."""

    seen: Observation
    features: Features
    days: float


def beside(
    partition: PartitionState, state: SkuState, epoch: OpenEpoch, seen: Observation
) -> Beside:
    """Put the effects in use into an observation's offset.

    With a traffic feed the calendar is in the visits already, so it stays out.
    """
    effects = market_effects.of_category(partition, partition.catalogue[state.sku].category)
    days = (epoch.accrued_ms - epoch.start_ms) / DAY_MS
    goal = partition.policy_of(partition.catalogue[state.sku]).objective
    found = market_effects.features(epoch, state.market, days, goal)
    offset = effects.rival.used * found.rival + effects.memory.used * found.gap
    offset += channels.mixture(partition.channels, epoch.ln_price)[0]
    if epoch.visits is None:
        offset += partition.day_factors.mean_log(epoch.start_ms, epoch.accrued_ms)
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
    following.teach(effects, memory, epoch)
    partition.touch(f"effects/{category}")
    sensitivities = market_effects.remember(memory, after, found.seen, found.features, settings)
    faded = math.exp(-found.days / market_effects.MEMORY_DAYS)
    move, move_exogenous = following.moved(memory, epoch)
    state.market = MarketMemory(
        ln_price=round(epoch.ln_price + (memory.ln_price - epoch.ln_price) * faded, 6),
        control=round(epoch.control + (memory.control - epoch.control) * faded, 6),
        of_rival=sensitivities[0],
        of_memory=sensitivities[1],
        of_control=sensitivities[2],
        last_price=round(epoch.ln_price, 6),
        last_exogenous=round(epoch.ln_price - epoch.control, 6),
        last_rival=None if epoch.ln_rival is None else round(epoch.ln_rival, 6),
        move=move,
        move_exogenous=move_exogenous,
    )


def opened(partition: PartitionState, state: SkuState, now_ms: int) -> None:
    """Let a product's new epoch count in what its partition expects of the day.

    Only products whose level is known and whose exposure is time; for others the rate is 0, and
    their orders are not compared with it either.
    """
    epoch, posterior = state.epoch, state.posterior
    if epoch is None or posterior is None or epoch.visits is not None or epoch.in_stock is False:
        return
    if posterior.cov[0] > KNOWN_VARIANCE:
        return
    b, eps, eta, delta = posterior.mean
    effects = market_effects.of_category(partition, partition.catalogue[state.sku].category)
    goal = partition.policy_of(partition.catalogue[state.sku]).objective
    found = market_effects.features(epoch, state.market, 1.0, goal)
    log_rate = b + eps * epoch.ln_price + eta * (epoch.ln_rival or 0.0) + delta * epoch.control
    log_rate += effects.rival.used * found.rival + effects.memory.used * found.gap
    rate = round(MICRO * math.exp(min(max(log_rate, -Z_MAX), market_effects.LOG_RATE_MAX)))
    state.epoch = replace(epoch, rate_micro=rate)
    _expect(partition, rate, now_ms)


def closed(partition: PartitionState, epoch: OpenEpoch, now_ms: int) -> None:
    """Take an ended epoch out of what its partition expects of the rest of the day."""
    if epoch.rate_micro:
        _expect(partition, -epoch.rate_micro, now_ms)


def _expect(partition: PartitionState, rate_micro: int, now_ms: int) -> None:
    today, day = partition.today, partition.manifest.returns_day
    today.rate_micro += rate_micro
    if day is not None:
        left_ms = min(max((day + 1) * DAY_MS - now_ms, 0), DAY_MS)
        today.expected_micro += rate_micro * left_ms // DAY_MS
    partition.touch("today")


def ordered(partition: PartitionState, state: SkuState, channel: str, segment: str) -> None:
    """Count an order line of an open epoch: for the day, for its channel and its segment."""
    epoch, today = state.epoch, partition.today
    if epoch is None:
        return
    if epoch.rate_micro:
        today.orders += 1
    gap = 0.0 if state.market is None else epoch.ln_price - state.market.ln_price
    channels.count(today.channels, channel, gap)
    channels.count(today.segments, segment, gap)
    partition.touch("today")


def searched(before: Traffic, after: Traffic, count: int | None, days: float) -> Traffic:
    """Traffic with a report's searches taken up."""
    if count is None:
        return after
    per_day = count / days
    average = before.searches_per_day
    if average is None:
        return replace(after, searches_per_day=per_day, search_log=0.0, report_days=days)
    weight = min(days / searches.AVERAGE_DAYS, 1.0)
    return replace(
        after,
        searches_per_day=average + weight * (per_day - average),
        search_log=round(searches.log_ratio(count, average * days), 6),
        report_days=days,
    )


def new_day(partition: PartitionState, day: int) -> None:
    """At the first tick of an event day: read the lessons of the days before."""
    last = partition.manifest.returns_day
    today = partition.today
    if last is not None:
        if day == last + 1:
            expected = today.expected_micro / MICRO
            day_effects.learn_day(partition.days, last, today.orders, expected)
            partition.touch("days")
        partition.day_factors = day_effects.in_use(partition.days)
        channels.new_day(partition.channels, today.channels)
        channels.new_day(partition.segments, today.segments)
        searches.new_day(partition.searches, today)
        market_effects.new_day(partition)
        following.new_day(partition)
        partition.touch("channels")
        partition.touch("segments")
        partition.touch("searches")
    today.orders, today.channels, today.searches = 0, {}, [0, 0, 0]
    today.segments = {}
    today.expected_micro = today.rate_micro
    partition.touch("today")


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
    partition: PartitionState,
    state: SkuState,
    posterior: DemandPosterior,
    now_ms: int,
    horizon_days: float,
    ln_rival: float | None,
) -> Present:
    """The effects in use for one product now.

    A candidate price is judged as one that stays, so buyers come to remember it: memory moves the
    level by the gap of the present price and leaves the elasticity alone. The mix of channels is
    taken to first order around the present price.
    """
    effects = market_effects.of_category(partition, partition.catalogue[state.sku].category)
    told: list[MarketEffect] = []
    omega = elasticity = 0.0
    if ln_rival is not None and effects.rival.used != 0.0:
        omega = effects.rival.used
        told.append(MarketEffect("rival_threshold", omega, effects.rival.sd))
    x = 0.0 if state.epoch is None else state.epoch.ln_price
    if state.market is not None and state.epoch is not None and effects.memory.used != 0.0:
        gap = (x - state.market.ln_price) * market_effects.faded(horizon_days)
        _tell(
            told, "price_memory", effects.memory.used, effects.memory.sd, effects.memory.used * gap
        )
    log_mix, slope = channels.mixture(partition.channels, x)
    if slope != 0.0:
        elasticity += slope
        _tell(told, "channels", slope, channels.slope_sd(partition.channels), log_mix - slope * x)
    follow = effects.follow_rate
    goal = partition.policy_of(partition.catalogue[state.sku]).objective
    if goal.rival_response and ln_rival is not None and follow.used != 0.0:
        response = follow.used * posterior.mean[2]
        elasticity += response
        _tell(told, "rival_response", follow.used, follow.sd, -response * x)
    if state.traffic is None:
        to_ms = now_ms + round(horizon_days * DAY_MS)
        log_days = partition.day_factors.mean_log(now_ms, to_ms)
        if log_days != 0.0:
            _tell(told, "calendar", log_days, partition.day_factors.week_sd, log_days)
    else:
        log_searches = searches.log_factor(partition.searches, state.traffic, horizon_days)
        if log_searches != 0.0:
            found = partition.searches.effect
            _tell(told, "searches", found.used, found.sd, log_searches)
    level = sum([one.log_demand for one in told if one.log_demand is not None], 0.0)
    return Present(omega, level, elasticity, tuple(told))


def _tell(told: list[MarketEffect], name: str, used: float, sd: float, log_demand: float) -> None:
    told.append(MarketEffect(name, used, sd, log_demand))
