"""Trials below the minimum resale price, where the market is below it already.

A trial needs a rival's plausible price below the minimum, enough of the product's orders in the
channels that the policy names, and an exploration budget that is not overspent. What it gives up,
``a (minimum - P)`` per expected unit as if demand did not react, is charged to that budget. It runs
for ``days_max`` from the first price below the minimum; then the minimum holds again, and there is
no other trial for ``rest_days``.
"""

from msgspec.structs import replace

from models.fold.partition import PartitionState
from schemas.events import DAY_MS
from schemas.policy import GuardPolicy, ResaleTrial
from schemas.state import CatalogueEntry, SkuState, TrialState

ORDERS_MIN = 20  # order lines before a share of channels is believed


def count(partition: PartitionState, state: SkuState, channel: str | None) -> None:
    """Count an order line of a product that may be tried, by whether its channel is meant."""
    trial = partition.trial_of(partition.catalogue[state.sku])
    if trial is None:
        return
    known = state.trial or TrialState()
    meant = channel in trial.channels
    state.trial = replace(known, lines=known.lines + 1, lines_meant=known.lines_meant + meant)


def floor_minor(
    partition: PartitionState,
    state: SkuState,
    entry: CatalogueEntry,
    lowest_minor: float | None,
    now_ms: int,
) -> float | None:
    """The market's lowest plausible price, where a trial may run; None where none may."""
    trial = partition.trial_of(entry)
    if trial is None or state.trial is None or state.trial.lines < ORDERS_MIN:
        return None
    if state.trial.lines_meant < trial.channel_share_min * state.trial.lines:
        return None
    if not _is_open(state.trial.since_ms, trial, now_ms):
        return None
    return lowest_minor if _budget_is_left(partition, entry.currency) else None


def _budget_is_left(partition: PartitionState, currency: str) -> bool:
    """Whether probes and trials spent less than their budget, as of the last day tick."""
    ledger = partition.manifest.exploration.get(currency)
    share = partition.policy.decision.exploration_budget_profit_share
    return share > 0.0 and (ledger is None or ledger.budget_price <= 1.0)


def _is_open(since_ms: int | None, trial: ResaleTrial, now_ms: int) -> bool:
    if since_ms is None or now_ms < since_ms + int(trial.days_max * DAY_MS):
        return True
    return now_ms >= since_ms + int((trial.days_max + trial.rest_days) * DAY_MS)


def ends_ms(partition: PartitionState, state: SkuState, entry: CatalogueEntry) -> int | None:
    """When a running trial must end; None where the published price is none."""
    if state.trial is None or state.trial.since_ms is None or state.trial.is_over:
        return None
    trial = partition.trial_of(entry)
    if trial is None:
        return None
    if below_minor(partition, entry, state.published_minor) <= 0:
        return None
    return state.trial.since_ms + int(trial.days_max * DAY_MS)


def is_over(partition: PartitionState, state: SkuState, entry: CatalogueEntry, now_ms: int) -> bool:
    """Whether a trial has run its time and the way back is to be asked for, once."""
    end_ms = ends_ms(partition, state, entry)
    if end_ms is None or state.trial is None or now_ms < end_ms:
        return False
    state.trial = replace(state.trial, is_over=True)
    return True


def cost_per_day_minor(
    partition: PartitionState, entry: CatalogueEntry, price_minor: int, units_per_day: float
) -> float:
    """What a trial gives up a day: on each expected unit, as if demand did not react."""
    if partition.trial_of(entry) is None:
        return 0.0
    return below_minor(partition, entry, price_minor) * entry.kept_share * units_per_day


def below_minor(partition: PartitionState, entry: CatalogueEntry, price_minor: int | None) -> int:
    """How far a price lies below the minimum resale price; 0 where it does not."""
    if price_minor is None:
        return 0
    agreed = max(
        (minimum_minor(entry, place.guards) for place in partition.guards_of(entry)), default=0
    )
    return max(agreed - price_minor, 0)


def minimum_minor(entry: CatalogueEntry, policy: GuardPolicy) -> int:
    """The highest minimum resale price of the markets that a policy names; 0: none."""
    agreed = entry.minimum_resale_price_minor
    return max((agreed.get(name, 0) for name in policy.minimum_resale_price_markets), default=0)


def published(
    partition: PartitionState, state: SkuState, entry: CatalogueEntry, price_minor: int, now_ms: int
) -> None:
    """Note when a trial begins."""
    trial = partition.trial_of(entry)
    if trial is None or below_minor(partition, entry, price_minor) == 0:
        return
    known = state.trial or TrialState()
    if known.since_ms is None or now_ms >= known.since_ms + int(trial.days_max * DAY_MS):
        state.trial = replace(known, since_ms=now_ms, is_over=False)
