"""What a closed epoch may teach: caution with counts and traffic that nothing forecast.

In this order: traffic is at least what the orders imply; a count far above its forecast waits in
quarantine, where cancellations still reach it; what is learned counts at most so many sd above the
forecast; a break of demand widens the belief first. docs/science/bad-data.md has the table.
"""

import math
from typing import Any, NamedTuple

from msgspec.structs import replace

from models.breaker import breaker
from models.demand import demand, drift
from models.demand.epoch import Observation, observation
from models.demand.surprise import Surprise, surprise
from models.fold.partition import PartitionState
from models.fold.watch import Closed
from schemas.events import DAY_MS, HOUR_MS, rfc3339
from schemas.learned import DriftSums, OpenEpoch, Quarantine
from schemas.outputs import AlertKind
from schemas.policy import LearningPolicy
from schemas.state import SkuState


class Finding(NamedTuple):
    """Something a person should know of a product; it becomes an alert."""

    kind: AlertKind
    message: str
    evidence: dict[str, Any]


def plausible_traffic(
    epoch: OpenEpoch, state: SkuState, now_ms: int, policy: LearningPolicy
) -> tuple[OpenEpoch, list[Finding]]:
    """The epoch with at least the visits that its orders imply, and what was wrong."""
    if epoch.visits is None:
        return epoch, []
    implied = epoch.covered_orders / policy.conversion_ratio_max
    if implied <= epoch.visits:
        return epoch, []
    message = f"{epoch.covered_orders} order lines in {epoch.visits:g} visits"
    found = quality(
        state, now_ms, message, {"orders": epoch.covered_orders, "visits": epoch.visits}
    )
    return replace(epoch, visits=implied), found


def admit(
    partition: PartitionState, state: SkuState, epoch: OpenEpoch, seen: Observation, now_ms: int
) -> tuple[Observation | None, list[Finding]]:
    """What of an epoch's observation is learned now, None while it waits, and what was found.

    Where demand broke, the product's belief is wider afterwards and its breaker half open.
    """
    posterior, policy = state.posterior, partition.policy.learning
    if posterior is None:
        return None, []
    compared = surprise(posterior, seen, partition.demand_settings)
    if policy.quarantine_hours > 0.0 and compared.residual > policy.quarantine_surprise_sd:
        return None, _quarantine(state, epoch, seen, compared, now_ms, policy)
    return _accepted(partition, state, seen, compared, now_ms)


def release(partition: PartitionState, state: SkuState, now_ms: int) -> list[Finding]:
    """Learn what waited in quarantine, from its release on; called when an epoch closes."""
    held = state.quarantine
    if held is None or now_ms < held.release_ms:
        return []
    return _release(partition, state, held, now_ms)


def _release(
    partition: PartitionState, state: SkuState, held: Quarantine, now_ms: int
) -> list[Finding]:
    state.quarantine = None
    reference_visits = state.traffic.reference_per_day if state.traffic else None
    seen = observation(held.epoch, reference_visits)
    if seen is None or state.posterior is None:
        return []
    seen = seen._replace(offset=held.offset, offset_variance=held.offset_variance)
    before = state.posterior
    compared = surprise(before, seen, partition.demand_settings)
    admitted, found = _accepted(partition, state, seen, compared, now_ms)
    state.posterior = demand.learn(state.posterior, admitted, now_ms, partition.demand_settings)
    if partition.observer is not None:
        partition.observer(partition.catalogue[state.sku], held.epoch, admitted, now_ms)
    if partition.watch is not None:
        entry = partition.catalogue[state.sku]
        partition.watch.closed(Closed(entry, held.epoch, before, admitted, state.posterior, now_ms))
    return found


def _accepted(
    partition: PartitionState, state: SkuState, seen: Observation, compared: Surprise, now_ms: int
) -> tuple[Observation, list[Finding]]:
    """Watch for a break, then cap the count."""
    policy = partition.policy.learning
    sums = state.drift or DriftSums()
    sums, drifted = drift.watch(sums, compared, seen.orders, policy)
    state.drift = None if sums == DriftSums() else sums
    found: list[Finding] = []
    if drifted is not None and state.posterior is not None:
        found.append(_drifted(partition, state, drifted, seen, compared, now_ms))
        partition.manifest.counts.drifts += 1
        state.posterior = drift.widened(state.posterior, policy)
        compared = surprise(state.posterior, seen, partition.demand_settings)
    most = math.floor(compared.expected + policy.surprise_sd_max * compared.sd)
    return seen._replace(orders=min(seen.orders, most)), found


def _drifted(
    partition: PartitionState,
    state: SkuState,
    drifted: drift.Drifted,
    seen: Observation,
    compared: Surprise,
    now_ms: int,
) -> Finding:
    before = state.breaker.state
    limits = partition.policy_of(partition.catalogue[state.sku]).breaker
    state.breaker = breaker.after_drift(state.breaker, f"demand drifted: {drifted}", now_ms, limits)
    if before != breaker.OPEN and state.breaker.state == breaker.OPEN:
        partition.manifest.counts.breaker_trips += 1
    evidence = {
        "drifted": drifted,
        "orders": seen.orders,
        "expected_orders": compared.expected,
        "ln_price": seen.features.ln_price,
        "breaker": [before, state.breaker.state],
    }
    then = "is a bounded step"
    if state.breaker.state == breaker.OPEN:
        then = "waits for the breaker's cool-down"
    message = f"demand drifted: {drifted}; the next move {then}"
    return Finding("drift", message, evidence)


def _quarantine(
    state: SkuState,
    epoch: OpenEpoch,
    seen: Observation,
    compared: Surprise,
    now_ms: int,
    policy: LearningPolicy,
) -> list[Finding]:
    """Hold an epoch back; one that waits already takes it in, under its own price and release."""
    held = state.quarantine
    if held is not None:
        state.quarantine = replace(held, epoch=_merged(held.epoch, epoch))
        return []
    release_ms = now_ms + int(policy.quarantine_hours * HOUR_MS)
    state.quarantine = Quarantine(
        epoch=epoch,
        release_ms=release_ms,
        offset=seen.offset,
        offset_variance=seen.offset_variance,
    )
    message = (
        f"{seen.orders} order lines where {compared.expected:.3g} were expected: not learned "
        f"before {rfc3339(release_ms)}"
    )
    evidence = {
        "orders": seen.orders,
        "expected_orders": compared.expected,
        "residual_sd": compared.residual,
    }
    return quality(state, now_ms, message, evidence)


def _merged(first: OpenEpoch, second: OpenEpoch) -> OpenEpoch:
    visits = first.visits
    if visits is not None and second.visits is not None:
        visits += second.visits
    return replace(
        first,
        accrued_ms=second.accrued_ms,
        orders=first.orders + second.orders,
        units=first.units + second.units,
        capped_units=first.capped_units + second.capped_units,
        exposure_days=first.exposure_days + second.exposure_days,
        visits=visits,
        covered_orders=first.covered_orders + second.covered_orders,
    )


def quality(state: SkuState, now_ms: int, message: str, evidence: dict[str, Any]) -> list[Finding]:
    """A finding of bad data; at most one a product and event day, so that no feed floods."""
    day = now_ms // DAY_MS
    if state.quality_day == day:
        return []
    state.quality_day = day
    return [Finding("data_quality", message, evidence)]
