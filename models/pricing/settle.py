"""Settle a decision: no-change band, breaker, gate, publication, and what the state remembers."""

from typing import Literal, NamedTuple

from msgspec.structs import replace

from models.breaker import breaker, breaker_scopes
from models.breaker.evidence import evidence_of
from models.demand import demand
from models.fold.context import Output, Placed, alert
from models.fold.market import close_epoch, open_anew, reschedule
from models.fold.partition import PartitionState
from models.fold.taken import Taken
from models.fold.watch import Shown
from models.guards import gate, guards, promises, promotions, resale_trial
from models.guards.moving import FORCED_SMALL, TOO_SMALL, WITHIN_BAND, explored, is_unseen
from models.kernel.tile import Evaluation
from models.pricing import approvals, exploration
from models.pricing.path import EXPERT, EXPLORATION, OPTIMUM, PricePath, gave_way
from models.pricing.pose import Posed
from models.pricing.quote import acceptable
from models.pricing.record import build_record, minor_greeks
from models.prior import coldstart
from models.returns.liability import Marked
from models.returns.toxicity import last_move
from schemas import topics
from schemas.codec import canonical
from schemas.events import DAY_MS, rfc3339
from schemas.outputs import PriceDecided, TapePosition
from schemas.state import BreakerState

Status = Literal["published", "held", "reverted"]


class Verdict(NamedTuple):
    """Whether a price goes out, and why or why not."""

    status: Status
    reasons: tuple[str, ...]


class Priced(NamedTuple):
    """A decision with its price, before it is judged.

    ``at`` was evaluated with the chosen price last (its Greeks), ``steps_at`` over the path's,
    ``back`` at the price before the last move, where policy says to go back to it. ``marked`` are
    the product's open orders. ``action`` is what another engine decided here, with the decision of
    this one (`models.pricing.follow`).
    """

    posed: Posed
    path: PricePath
    at: Evaluation
    steps_at: Evaluation
    chosen_minor: int
    back: Evaluation | None
    marked: Marked
    action: "tuple[Taken, Priced] | None" = None


class Judged(NamedTuple):
    """What breaker, gate and approval say of a price; ``assessed`` are the breaker's reasons."""

    verdict: Verdict
    after: BreakerState
    assessed: tuple[str, ...]
    wait: approvals.Wait | None


def settle(partition: PartitionState, priced: Priced, judged: Judged | None = None) -> list[Placed]:
    """Judge the chosen price, publish or hold it, and update the product's state.

    ``judged`` is given where another engine has judged it.
    """
    posed, path, at, steps_at, chosen_minor, back, marked, _ = priced
    state, request = posed.state, posed.request
    verdict, after, assessed, wait = judged or judge(partition, priced)
    if verdict.status == "reverted" and back is not None and state.unproven_minor is not None:
        at, chosen_minor = back, state.unproven_minor
    outputs = _breaker_alert(partition, posed, after, assessed)
    outputs += breaker_scopes.count_family(
        partition, posed.entry.family, request.offset, request.now_ms
    )
    if wait is not None:
        outputs += approvals.note(partition, posed, chosen_minor, path.exogenous_log, wait)
    if wait is None or not wait.proposed:
        state.pending = None  # a newer decision takes the place of what waited
    state.version += 1
    decision = _decision(partition, posed, path, at, steps_at, chosen_minor, verdict, after, marked)
    value = canonical(decision)
    counts = partition.manifest.counts
    counts.decisions += 1
    counts.published += decision.status == "published"
    counts.held += decision.status == "held"
    counts.reverted += decision.status == "reverted"
    key = state.sku.encode()
    outputs.append(Placed(request.offset, Output(topics.PRICES.name, key, value)))
    if decision.status != "held":
        outputs.append(Placed(request.offset, Output(topics.PRICES_LATEST.name, key, value)))
        counts.probes += path.aim == EXPLORATION and chosen_minor == path.wanted_minor
        exploration.book(
            partition,
            state,
            posed.entry.currency,
            at.expected_profit * posed.reference_minor / posed.full.horizon_days,
            decision.exploration_cost_per_day_minor,
        )
        outputs.extend(_remember(partition, posed, path, chosen_minor))
    outputs.extend(_graduation(partition, posed))
    outputs.extend(promises.broken(partition, posed, decision.price_minor))
    state.stock_at_decision_units = None if state.stock is None else state.stock.on_hand
    reschedule(partition, state)
    partition.touch(f"sku/{state.sku}")
    return outputs


def judge(partition: PartitionState, priced: Priced) -> Judged:
    """Say whether a price goes out, waits or is held; nothing is changed."""
    posed, path, at, steps_at, chosen_minor, back, _, _ = priced
    state, request = posed.state, posed.request
    evidence = evidence_of(partition, posed, path, at, chosen_minor)
    assessed = breaker.assess(evidence, posed.policy.breaker)
    after = breaker.after_assessment(posed.breaker, assessed, request.now_ms)
    if path.aim == EXPERT and after.state == breaker.CLOSED:
        reason = "elasticity not yet known to be below -1"
        since_ms = state.breaker.since_ms if state.breaker.state == breaker.HALF_OPEN else None
        after = breaker.half_open(since_ms or request.now_ms, reason)
    above = breaker_scopes.above(partition, posed)
    if above and posed.breaker.state == breaker.HALF_OPEN and after.state == breaker.CLOSED:
        after = posed.breaker  # a canary that is held has not passed
    verdict = _verdict(partition, posed, path, after, above, chosen_minor)
    if back is not None and not above and after.state == breaker.OPEN:
        verdict = _reverted(partition, posed, verdict, back)
    wait = None
    if verdict.status == "published":
        wait = approvals.waits(partition, posed, steps_at, chosen_minor)
    if wait is not None:
        verdict = Verdict("held", wait.reasons)
    return Judged(verdict, after, assessed, wait)


def _graduation(partition: PartitionState, posed: Posed) -> list[Placed]:
    """Let a product graduate, once: from here on its price is the model's alone."""
    state, request = posed.state, posed.request
    known = state.passport
    if known is None or known.graduated_ms is not None:
        return []
    if not coldstart.may_graduate(posed.posterior, posed.policy):
        return []
    state.passport = replace(known, graduated_ms=request.now_ms)
    low, high = demand.elasticity_interval(posed.posterior)
    message = f"{state.sku} is known by its own orders: elasticity {low:.2f} to {high:.2f}"
    evidence = {
        "orders": posed.posterior.orders,
        "elasticity_low": low,
        "elasticity_high": high,
        "confidence": coldstart.confidence(partition.prior, posed.posterior),
        "rule": coldstart.graduation_rule(posed.policy),
    }
    return [
        alert(partition, request.offset, request.now_ms, "graduated", state.sku, message, evidence)
    ]


def _reverted(partition: PartitionState, posed: Posed, held: Verdict, back: Evaluation) -> Verdict:
    """Back to the price before the move that tripped; held where guards or gate forbid that."""
    price_minor = posed.state.unproven_minor
    if price_minor is None or not back.finite or _forbidden(partition, posed, price_minor):
        return held
    return Verdict("reverted", held.reasons)


def _forbidden(partition: PartitionState, posed: Posed, price_minor: int) -> tuple[str, ...]:
    """Guards and gate that a price would break."""
    broken = guards.violations(price_minor, posed.allowed, posed.policy.guards.tick_minor)
    return tuple(f"guard broken: {guard}" for guard in broken) + gate.check(
        partition.gates.get(posed.state.sku),
        price_minor,
        posed.entry.currency,
        partition.gate_rules,
        partition.gates,
        posed.request.clock_ms,
        posed.request.now_ms,
        partition.policy.emergency_caps,
    )


def _verdict(
    partition: PartitionState,
    posed: Posed,
    path: PricePath,
    after: BreakerState,
    above: tuple[str, ...],
    chosen_minor: int,
) -> Verdict:
    holding: list[str] = []
    if after.state == breaker.OPEN:
        holding.extend(f"breaker: {reason}" for reason in after.reasons)
    holding.extend(above)
    holding.extend(_forbidden(partition, posed, chosen_minor))
    previous = posed.state.published_minor
    stayed = []
    if previous is not None and chosen_minor != path.wanted_minor:
        stayed = [TOO_SMALL if is_unseen(posed, path, previous) else WITHIN_BAND]
    if holding:
        return Verdict("held", (*holding, *stayed))
    reasons = [f"trigger: {posed.request.trigger}", *stayed]
    if posed.request.approval is not None:
        reasons.append(f"approved by {posed.request.approval.actor}")
    if not stayed and path.aim != OPTIMUM:
        reasons.append(path.aim)
    reasons.extend(f"guard: {move.guard}" for move in path.moves)
    reasons.extend(f"gave way: {guard}" for guard in gave_way(posed, path))
    if not stayed and previous is not None and is_unseen(posed, path, previous):
        reasons.append(FORCED_SMALL)
    return Verdict("published", tuple(reasons))


def _breaker_alert(
    partition: PartitionState,
    posed: Posed,
    after: BreakerState,
    assessed: tuple[str, ...],
) -> list[Placed]:
    state = posed.state
    before, state.breaker = state.breaker, after
    passed = [before.state]
    for step in (posed.breaker.state, after.state):
        if step != passed[-1]:
            passed.append(step)
    if len(passed) == 1:
        return []
    if after.state == breaker.OPEN:
        partition.manifest.counts.breaker_trips += 1
    message = f"{' -> '.join(passed)}: {'; '.join(after.reasons) or 'canary passed'}"
    evidence = {"states": passed, "reasons": list(assessed)}
    request = posed.request
    return [
        alert(
            partition,
            request.offset,
            request.now_ms,
            "breaker_changed",
            state.sku,
            message,
            evidence,
        )
    ]


def _decision(
    partition: PartitionState,
    posed: Posed,
    path: PricePath,
    at: Evaluation,
    steps_at: Evaluation,
    chosen_minor: int,
    verdict: Verdict,
    after: BreakerState,
    marked: Marked,
) -> PriceDecided:
    state, request = posed.state, posed.request
    effective = verdict.status != "held"
    price_minor = chosen_minor if effective else state.published_minor
    number = partition.manifest.partition
    units_per_day = max(at.expected_sales, 0.0) / posed.full.horizon_days if at.finite else 0.0
    valid_ms = request.now_ms + int(posed.policy.decision.valid_days * DAY_MS)
    return PriceDecided(
        price_id=f"{number}-{request.offset}-{state.sku}",
        sku=state.sku,
        version=state.version,
        status=verdict.status,
        price_minor=price_minor,
        wanted_minor=path.wanted_minor if verdict.status == "reverted" else chosen_minor,
        previous_minor=state.published_minor,
        currency=posed.entry.currency,
        margin_pct=None if price_minor is None else _margin_pct(posed, price_minor),
        decided_at=rfc3339(request.now_ms),
        effective_from=rfc3339(request.now_ms) if effective else None,
        valid_until=rfc3339(valid_ms) if effective else None,
        reasons=verdict.reasons,
        confidence=round(coldstart.confidence(partition.prior, posed.posterior), 4),
        acceptable=acceptable(posed, at, chosen_minor) if at.finite else None,
        exogenous_log=exogenous_log_of(posed, path, chosen_minor),
        greeks=minor_greeks(at, posed) if at.finite else None,
        record=(
            build_record(partition, posed, path, at, steps_at, after, chosen_minor, marked)
            if at.finite and steps_at.finite
            else None
        ),
        tape=TapePosition(number, request.offset),
        engine=partition.engine,
        policy_sha256=partition.policy_sha256,
        prior_sha256=partition.prior_sha256,
        exploration_cost_per_day_minor=resale_trial.cost_per_day_minor(
            partition, posed.entry, chosen_minor, units_per_day
        )
        + exploration.cost_per_day_minor(
            partition, posed, at, chosen_minor, exogenous_log_of(posed, path, chosen_minor)
        ),
        exploration=explored(posed, path),
    )


def exogenous_log_of(posed: Posed, path: PricePath, chosen_minor: int) -> float:
    """What exploration added to the chosen log price; a price that stays keeps its part.

    One that goes back has none: it reacts to what buyers did.
    """
    if chosen_minor == path.wanted_minor:
        return path.exogenous_log
    if chosen_minor == posed.state.published_minor:
        return posed.state.published_exogenous_log
    return 0.0


def _margin_pct(posed: Posed, price_minor: int) -> float:
    kept = price_minor * posed.entry.kept_share
    return round(100.0 * (kept - posed.unit_cost_minor) / kept, 3)


def _remember(
    partition: PartitionState, posed: Posed, path: PricePath, chosen_minor: int
) -> list[Placed]:
    """Note a published price; where buyers see ours, its epoch begins now.

    What was found when the epoch before it closed is told.
    """
    state, now_ms = posed.state, posed.request.now_ms
    day = now_ms // DAY_MS
    if state.day_open != day:
        state.day_open = day
        state.day_open_minor = chosen_minor
        if state.published_minor is not None:
            state.day_open_minor = state.published_minor
    partition.gates[state.sku].applies |= partition.is_told
    gate.published(partition.gates[state.sku], chosen_minor, now_ms, partition.gate_rules)
    resale_trial.published(partition, state, posed.entry, chosen_minor, now_ms)
    partition.touch(f"gate/{state.sku}")
    state.published_exogenous_log = exogenous_log_of(posed, path, chosen_minor)
    moved = state.published_minor != chosen_minor
    seen = moved and state.applied_minor is None and not partition.is_told
    if seen:
        promotions.shown(partition, state, posed.entry, chosen_minor, now_ms)
    proven = not moved or chosen_minor == state.unproven_minor
    state.unproven_minor = None if proven else state.published_minor
    state.published_minor, state.published_ms = chosen_minor, now_ms
    ratio = partition.policy.breaker.catalogue_move_ratio
    partition.moves.note(state, posed.entry, ratio)
    if not seen:
        return []
    if partition.watch is not None:
        partition.watch.shown(Shown(posed.request.offset, now_ms, state.sku, chosen_minor))
    state.price_move = last_move(state.price_move, chosen_minor, now_ms)
    state.exogenous_log = None
    closed = close_epoch(partition, state, now_ms)
    open_anew(partition, state, posed.entry, now_ms)
    return [
        alert(
            partition,
            posed.request.offset,
            now_ms,
            found.kind,
            state.sku,
            found.message,
            found.evidence,
        )
        for found in (closed.findings if closed else ())
    ]
