"""What one product's market looks like to the fold: its own price, its rivals, its open epoch."""

import math
from typing import NamedTuple

from models.breaker import breaker
from models.demand import demand, effects_book
from models.demand.epoch import accrue, closes, observation, open_epoch
from models.family import family_book
from models.fold import lessons, watch
from models.fold.lessons import Finding
from models.fold.partition import PartitionState
from models.guards import promotions, resale_trial
from schemas.events import DAY_MS, HOUR_MS
from schemas.policy import DecisionPolicy
from schemas.state import CatalogueEntry, SkuState


class Closed(NamedTuple):
    """An epoch that ended: its order lines, orders over the upper forecast, what was found."""

    orders: int
    sales_ratio: float | None
    findings: tuple[Finding, ...] = ()


class RivalView(NamedTuple):
    """The robust rival price (minor units, None when none is usable) and how many stand for it."""

    robust_minor: float | None
    used: int
    seen: int
    age_ms: int | None
    lowest_minor: float | None = None


def own_price_minor(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry
) -> int | None:
    """The price that buyers see: what the shop says it shows, else ours, else the list price.

    A fold that is told what history showed takes that for ours.
    """
    if state.applied_minor is not None:
        return state.applied_minor
    ours = partition.shown.get(state.sku) if partition.is_told else state.published_minor
    return entry.list_price_minor if ours is None else ours


def rival_view(state: SkuState, now_ms: int, policy: DecisionPolicy) -> RivalView:
    """Median of the rivals that are listed, fresh, well matched and plausible.

    Plausible: within ``rival_plausible_ratio`` of the reference price, so that one decimal slip
    of a rival moves nothing.
    """
    usable: list[float] = []
    oldest_ms = now_ms
    for name in sorted(state.rivals):
        rival = state.rivals[name]
        if rival.price_minor is None or state.reference_price_minor is None:
            continue
        fresh = now_ms - rival.seen_ms <= policy.rival_age_days_max * DAY_MS
        ratio = rival.price_minor / state.reference_price_minor
        plausible = 1.0 / policy.rival_plausible_ratio <= ratio <= policy.rival_plausible_ratio
        matched = rival.match_confidence >= policy.rival_match_confidence_min
        if fresh and plausible and matched:
            usable.append(float(rival.price_minor))
            oldest_ms = min(oldest_ms, rival.seen_ms)
    if not usable:
        return RivalView(None, 0, len(state.rivals), None)
    usable.sort()
    middle = len(usable) // 2
    median = usable[middle] if len(usable) % 2 else 0.5 * (usable[middle - 1] + usable[middle])
    return RivalView(median, len(usable), len(state.rivals), now_ms - oldest_ms, usable[0])


def in_stock(state: SkuState) -> bool | None:
    """Whether the product can be sold; None where no stock was ever reported."""
    return None if state.stock is None else state.stock.on_hand > 0


def log_rival(state: SkuState, view: RivalView) -> float | None:
    """ln(P_c / P_ref), or None."""
    if view.robust_minor is None or state.reference_price_minor is None:
        return None
    return math.log(view.robust_minor / state.reference_price_minor)


def close_epoch(partition: PartitionState, state: SkuState, now_ms: int) -> Closed | None:
    """End the open epoch at event time ``now_ms`` and learn from it."""
    epoch, posterior = state.epoch, state.posterior
    if epoch is None or posterior is None:
        return None
    state.epoch = None
    effects_book.closed(partition, epoch, now_ms)
    reference_visits = state.traffic.reference_per_day if state.traffic else None
    found = lessons.release(partition, state, now_ms)
    posterior = state.posterior or posterior
    ended, doubts = lessons.plausible_traffic(
        accrue(epoch, now_ms), state, now_ms, partition.policy.learning
    )
    bare = observation(ended, reference_visits)
    if bare is None:
        return Closed(0, None, tuple(found))
    beside = effects_book.beside(partition, state, ended, bare)
    seen = family_book.expected(partition, state, beside.seen, now_ms)
    highest = demand.upper_expected_orders(posterior, seen)
    learned, news = lessons.admit(partition, state, ended, seen, now_ms)
    if learned is not None:
        before = state.posterior or posterior
        state.posterior = family_book.learn(
            partition, state, before, beside.seen._replace(orders=learned.orders), now_ms
        )
        effects_book.learned(partition, state, ended, before, beside._replace(seen=learned))
        entry = partition.catalogue[state.sku]
        if partition.observer is not None:
            partition.observer(entry, epoch, learned, now_ms)
        if partition.watch is not None:
            partition.watch.closed(
                watch.Closed(entry, epoch, posterior, learned, state.posterior, now_ms)
            )
    ratio = seen.orders / highest if highest > 0.0 else None
    return Closed(seen.orders, ratio, (*found, *doubts, *news))


def begin_epoch(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry, now_ms: int
) -> None:
    """Open an epoch at the product's present price, if it has one, and set its end."""
    if open_anew(partition, state, entry, now_ms):
        reschedule(partition, state)


def open_anew(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry, now_ms: int
) -> bool:
    """`begin_epoch` for callers that `reschedule` the product themselves; whether one began."""
    price_minor = own_price_minor(partition, state, entry)
    if entry.retired or price_minor is None or state.reference_price_minor is None:
        return False
    policy = partition.policy_of(entry).decision
    state.enough_ms = None
    state.epoch = open_epoch(
        now_ms,
        price_minor,
        state.reference_price_minor,
        rival_minor=rival_view(state, now_ms, policy).robust_minor,
        exogenous_log=state.exogenous_log,
        in_stock=in_stock(state),
        traffic_feed=state.traffic is not None,
    )
    family_book.begin(partition, state, state.epoch)
    effects_book.opened(partition, state, now_ms)
    return True


def count_on(partition: PartitionState, state: SkuState, now_ms: int) -> None:
    """Note when the open epoch first had orders enough to close, and look at it in that round."""
    epoch = state.epoch
    if epoch is None:
        return
    countable = epoch.orders if epoch.visits is None else epoch.covered_orders
    enough = countable >= partition.policy.decision.epoch_orders_close
    if enough == (state.enough_ms is not None):
        return
    state.enough_ms = now_ms if enough else None
    reschedule(partition, state)


def reschedule(partition: PartitionState, state: SkuState) -> None:
    """Set when the product is next looked at, from its state alone.

    Whichever comes first: the end of its epoch, the end of its breaker's cool-down, the renewal
    of a discount, the beginning or end of a promotion or an emergency cap, or at once where it is
    to be decided anew. Being a function of the state, it does not matter how many changes of the
    state were made before it was called.
    """
    policy = partition.policy.decision
    ends: list[int] = [0] if state.decide_anew is not None else []
    epoch = state.epoch
    if epoch is not None:
        end_ms = epoch.start_ms + int(policy.epoch_days_max * DAY_MS)
        if state.enough_ms is not None:
            young_ms = epoch.start_ms + int(policy.epoch_days_min * DAY_MS)
            end_ms = min(end_ms, max(young_ms, state.enough_ms))
        ends.append(next_round(end_ms, policy))
    limits = partition.policy_of(partition.catalogue[state.sku]).breaker
    cool_ms = breaker.cool_down_ends_ms(state.breaker, limits)
    if cool_ms is not None:
        ends.append(next_round(cool_ms, policy))
    offers = partition.offers.get(state.sku)
    if offers is not None:
        renew_ms = min(offer.renew_ms for offer in offers.standing.values())
        ends.append(next_round(renew_ms, policy))
    trial_ms = resale_trial.ends_ms(partition, state, partition.catalogue[state.sku])
    if trial_ms is not None:
        ends.append(next_round(trial_ms, policy))
    edge_ms = promotions.next_edge_ms(partition, state)
    if edge_ms is not None:
        ends.append(edge_ms)
    partition.schedule(state, min(ends, default=None))


def epoch_is_over(partition: PartitionState, state: SkuState, now_ms: int) -> bool:
    """Whether age or orders end the open epoch."""
    epoch = state.epoch
    if epoch is None:
        return False
    reason = closes(
        epoch,
        now_ms,
        partition.policy.decision,
        price_minor=epoch.price_minor,
        ln_rival=epoch.ln_rival,
        in_stock=epoch.in_stock,
    )
    return reason is not None


def next_round(at_ms: int, policy: DecisionPolicy) -> int:
    """The first decision round at or after a time: rounds make waves that price together."""
    interval_ms = int(policy.interval_hours * HOUR_MS)
    return -(-at_ms // interval_ms) * interval_ms
