"""What controls do to a partition: policy, prior, promotions, operators' commands, the clock."""

import hashlib
import math

import msgspec

from models.breaker import breaker, breaker_scopes
from models.demand import day_effects, effects_book
from models.fold.context import Context, Refused, Request
from models.fold.market import close_epoch, epoch_is_over, next_round, open_anew, reschedule
from models.fold.partition import PartitionState
from models.guards import gate_reductions, promotions, resale_trial
from models.guards.prior_price import LATE_DAYS
from models.guards.promotions import PROMOTIONS_MAX
from models.pricing import approvals, discounts, exploration
from models.pricing.path import EPOCH
from models.prior import coldstart
from models.prior.prior import INHERITED, adapt, exchange, prior_sha256
from models.returns import returns_book
from schemas.codec import canonical
from schemas.errors import FieldError
from schemas.events import (
    DAY_MS,
    CalendarPublished,
    ClockTicked,
    EngineChanged,
    OperatorCommand,
    PolicyPublished,
    PriorPublished,
    PromotionScheduled,
    rfc3339,
    time_ms,
)
from schemas.learned import DemandPrior
from schemas.policy import policy_sha256
from schemas.state import Promotion, SkuState


def policy_published(context: Context, event: PolicyPublished) -> None:
    """Put a policy in force; every product is decided anew at the next tick."""
    partition = context.partition
    if policy_sha256(event.policy) != event.policy_sha256:
        raise Refused(
            "hash_mismatch", "policy_sha256", event.policy_sha256, policy_sha256(event.policy)
        )
    try:
        partition.set_policy(event.policy)
    except FieldError as error:
        raise Refused(
            error.code, "policy", event.policy[:200], error.expected or "a policy document"
        ) from None
    decide_all_anew(context.partition, "policy")


def decide_all_anew(partition: PartitionState, trigger: str) -> None:
    """Let the next tick decide every product on sale: what was held may be out of date."""
    for sku in sorted(partition.skus):
        if not partition.catalogue[sku].retired:
            state = partition.skus[sku]
            state.decide_anew = trigger
            reschedule(partition, state)
            partition.touch(f"sku/{sku}")


def prior_published(context: Context, event: PriorPublished) -> None:
    """Put a demand prior in force; products that a prior began change over to it.

    One that inherited its predecessor's belief keeps it.
    """
    try:
        prior = msgspec.convert(event.prior, DemandPrior)
    except msgspec.ValidationError as error:
        raise Refused("invalid_prior", "prior", str(event.prior)[:200], str(error)) from None
    if prior_sha256(prior) != event.prior_sha256:
        raise Refused("hash_mismatch", "prior_sha256", event.prior_sha256, prior_sha256(prior))
    partition = context.partition
    old, old_hash = partition.prior, partition.prior_sha256
    settings = partition.demand_settings
    partition.set_prior(prior)
    for sku in sorted(partition.skus):
        state, entry = partition.skus[sku], partition.catalogue[sku]
        if state.posterior is None or state.prior_kind.startswith(INHERITED):
            continue
        begun, _ = adapt(old, entry.category, entry.attributes, 0, prior_hash=old_hash)
        begins, source = adapt(
            prior, entry.category, entry.attributes, 0, prior_hash=event.prior_sha256
        )
        state.posterior = exchange(state.posterior, begun, begins, settings)
        state.prior_kind = source.kind
        graduated_ms = None if state.passport is None else state.passport.graduated_ms
        state.passport = coldstart.passport(
            prior, event.prior_sha256, entry.attributes, graduated_ms
        )
        partition.touch(f"sku/{sku}")


def calendar_published(context: Context, event: CalendarPublished) -> None:
    """Put a calendar of named days in force."""
    found = hashlib.sha256(canonical(event.calendar)).hexdigest()
    if found != event.calendar_sha256:
        raise Refused("hash_mismatch", "calendar_sha256", event.calendar_sha256, found)
    try:
        table = day_effects.parse_calendar(event.calendar)
    except FieldError as error:
        raise Refused(
            error.code, error.field or "calendar", error.value, error.expected or "a calendar"
        ) from None
    partition = context.partition
    partition.manifest.calendar_sha256 = found
    partition.days.calendar = table
    partition.day_factors = day_effects.in_use(partition.days)
    partition.touch("days")


def promotion_scheduled(context: Context, event: PromotionScheduled) -> None:
    """Remember a planned reduction of products of this partition."""
    partition, from_ms = context.partition, time_ms(event.from_time)
    oldest_ms = context.now_ms - LATE_DAYS * DAY_MS
    if event.announced and from_ms < oldest_ms:
        expected = f"{rfc3339(oldest_ms)} or later: what was shown before that is forgotten"
        raise Refused("too_late", "from_time", rfc3339(from_ms), expected)
    planned = Promotion(
        from_ms=from_ms,
        to_ms=time_ms(event.to_time),
        log_depth=math.log1p(-event.depth),
        announced=event.announced,
        kind=event.kind,
        depth=event.depth,
    )
    listed = [sku for sku in dict.fromkeys(event.skus) if sku in partition.skus]
    for sku in listed:
        if len(partition.windows[sku].promotions) >= PROMOTIONS_MAX:
            raise Refused("too_many", "skus", sku, f"at most {PROMOTIONS_MAX} promotions")
    for sku in listed:
        state = partition.skus[sku]
        promotions.plan(partition, state, planned, context.now_ms)
        gate_reductions.announced(partition.gates[sku], event, context.now_ms)
        partition.touch(f"gate/{sku}")
        if from_ms <= context.now_ms and not partition.catalogue[sku].retired:
            state.decide_anew = "promotion"
        reschedule(partition, state)
        partition.touch(f"sku/{sku}")


def operator_command(context: Context, event: OperatorCommand) -> None:
    """Trip or reset breakers in a scope, throw the kill switch, or answer what waits."""
    partition = context.partition
    expires_ms = None if event.expires_at is None else time_ms(event.expires_at)
    if expires_ms is not None and expires_ms <= context.now_ms:
        if event.command == "kill_switch_on":  # the outbox has held prices back until here
            decide_all_anew(context.partition, "kill switch off")
        raise Refused("expired", "expires_at", event.expires_at, "a time to come")
    if event.command in ("approve", "reject"):
        approvals.answer(context, event)
        return
    if event.command in ("kill_switch_on", "kill_switch_off"):
        if event.scope.kind != "catalogue":
            raise Refused("invalid_scope", "scope.kind", event.scope.kind, "catalogue")
        on = event.command == "kill_switch_on"
        partition.manifest.kill_switch = f"{event.actor}: {event.reason}" if on else None
        partition.manifest.kill_switch_expires_ms = expires_ms if on else None
        if not on:
            decide_all_anew(context.partition, "kill switch off")
        if on:
            _withdraw_discounts(context, sorted(partition.offers), "kill switch")
        evidence = {"actor": event.actor, "reason": event.reason, "on": on}
        context.alert("kill_switch", None, f"kill switch {'on' if on else 'off'}", evidence)
        return
    breaker_scopes.steer(context, event, expires_ms)
    for sku in sorted(partition.skus):
        entry = partition.catalogue[sku]
        if entry.retired or event.scope.name not in (None, sku, entry.family):
            continue
        if event.scope.kind == "sku" and event.scope.name != sku:
            continue
        if event.command == "breaker_trip":
            _withdraw_discounts(context, [sku], "breaker: manual trip")
        if event.command == "breaker_reset" or event.scope.kind == "sku":
            _steer(context, partition.skus[sku], event, expires_ms)


def _steer(
    context: Context, state: SkuState, event: OperatorCommand, expires_ms: int | None
) -> None:
    """Trip or reset a product's own breaker; a tripped one may go back to its last good price."""
    before = state.breaker.state
    if event.command == "breaker_trip":
        state.breaker = breaker.tripped(context.now_ms, expires_ms)
        context.partition.manifest.counts.breaker_trips += before != breaker.OPEN
        limits = context.partition.policy_of(context.partition.catalogue[state.sku]).breaker
        if limits.when_open == "revert" and state.unproven_minor is not None:
            context.ask(state, "breaker trip")
    else:
        context.ask(state, "breaker reset")
        if before != breaker.OPEN:
            return
        state.breaker = breaker.reset(context.now_ms)
    reschedule(context.partition, state)
    context.partition.touch(f"sku/{state.sku}")
    context.alert(
        "breaker_changed",
        state.sku,
        f"{before} -> {state.breaker.state} by {event.actor}: {event.reason}",
        {"from": before, "to": state.breaker.state, "actor": event.actor},
    )
    family = context.partition.catalogue[state.sku].family
    context.outputs += breaker_scopes.count_family(
        context.partition, family, context.offset, context.now_ms
    )


def _withdraw_discounts(context: Context, skus: list[str], reason: str) -> None:
    for sku in skus:
        request = Request(sku, reason, context.offset, context.now_ms, context.clock_ms)
        context.outputs.extend(discounts.withdraw(context.partition, request, reason))


def engine_changed(context: Context, event: EngineChanged) -> None:
    """From here on another engine prices: decisions carry its fingerprint."""
    context.partition.manifest.engine = event.fingerprint
    evidence = {"from": event.previous, "to": event.fingerprint, "worker": event.worker}
    context.alert("engine_changed", None, "another engine fingerprint prices", evidence)


def clock_ticked(context: Context, event: ClockTicked) -> bool:
    """Move the clock; True if it moved. What is due is looked at, in the order of due time."""
    partition, manifest = context.partition, context.partition.manifest
    now_ms = event.event_time_ms
    if manifest.clock_ms is not None and now_ms <= manifest.clock_ms:
        return False
    manifest.clock_ms = now_ms
    manifest.counts.ticks += 1
    expires_ms = manifest.kill_switch_expires_ms
    if expires_ms is not None and expires_ms <= now_ms:
        manifest.kill_switch = manifest.kill_switch_expires_ms = None
        decide_all_anew(context.partition, "kill switch off")
        context.alert("kill_switch", None, "kill switch off: it expired", {"on": False})
    day = now_ms // DAY_MS
    if manifest.returns_day != day:
        exploration.new_day(partition, day)
        effects_book.new_day(partition, day)
        returns_book.new_day(partition, day)
    breaker_scopes.clock_moved(context)
    for state in partition.take_due(now_ms):
        _look(context, state)
    return True


def _look(context: Context, state: SkuState) -> None:
    partition = context.partition
    partition.touch(f"sku/{state.sku}")
    entry = partition.catalogue[state.sku]
    limits = partition.policy_of(entry).breaker
    if entry.retired:
        return
    edge = promotions.passed_edge(partition, state, context.now_ms)
    if epoch_is_over(partition, state, context.now_ms):
        closed = close_epoch(partition, state, context.now_ms)
        open_anew(partition, state, entry, context.now_ms)
        context.ask(state, EPOCH, closed)
    elif state.decide_anew is not None:
        context.ask(state, state.decide_anew)
    elif edge is not None:
        context.ask(state, edge)
    elif breaker.cooled_down(state.breaker, context.now_ms, limits) != state.breaker:
        context.ask(state, "breaker cool-down")
    elif resale_trial.is_over(partition, state, entry, context.now_ms):
        context.ask(state, "trial ends")
    elif discounts.renewal_is_due(partition, state, context.now_ms):
        context.ask(state, "discount ends")
    state.decide_anew = None
    reschedule(partition, state)


def tick_reads(partition: PartitionState, event: ClockTicked, asked_ms: int, waiting: int) -> bool:
    """Whether a tick does more than move the clock, now that decisions wait since ``asked_ms``.

    It may look at what is due, also of what those decisions will schedule (their next round at
    the earliest), end a kill switch, move a family's or the catalogue's breaker (``waiting`` more
    moves could be too many for it), or let the return model learn.
    """
    now_ms, manifest = event.event_time_ms, partition.manifest
    earliest_ms = next_round(asked_ms, partition.policy.decision)
    if partition.due:
        earliest_ms = min(earliest_ms, partition.due[0][0])
    scope_ms = breaker_scopes.next_change_ms(partition)
    if scope_ms is not None:
        earliest_ms = min(earliest_ms, scope_ms)
    if manifest.kill_switch_expires_ms is not None:
        earliest_ms = min(earliest_ms, manifest.kill_switch_expires_ms)
    if now_ms >= earliest_ms or manifest.returns_day != now_ms // DAY_MS:
        return True
    return breaker_scopes.may_trip(partition, waiting)
