"""Approval: a price beyond the policy's thresholds waits as held until a person answers.

A decision that waits is a proposal. It ends with the next decision on its product, whatever that
says: an approval or a rejection names the proposal's ``price_id``, and one that names another than
the product's present proposal is refused. An approved price is not taken on trust: it is decided at
the approval's own place on the tape, and guards, breaker and gate, as they are then in force, may
hold it. A rejected price is not proposed again, nor published, while nothing has changed: see
`Rejected`.
"""

import math
from typing import NamedTuple

from models.fold.context import Approval, Context, Placed, Refused, alert
from models.fold.market import rival_view
from models.fold.partition import PartitionState
from models.kernel.tile import Evaluation
from models.pricing.pose import Posed, blocked_reason
from schemas.events import HOUR_MS, OperatorCommand
from schemas.policy import ApprovalPolicy
from schemas.state import CatalogueEntry, Pending, Rejected, SkuState

TRIGGER = "approval"
SAME_PRICE_RATIO = 0.03  # prices no farther apart than this are one proposal
RIVAL_MOVE_RATIO = 0.03  # a rival that moved less has not changed


class Wait(NamedTuple):
    """Why a price waits; one that was rejected before waits without being proposed."""

    reasons: tuple[str, ...]
    proposed: bool


def waits(
    partition: PartitionState, posed: Posed, steps_at: Evaluation, chosen_minor: int
) -> Wait | None:
    """Whether a price that could go out waits for a person.

    Parameters
    ----------
    steps_at : evaluation with the present price last but one and the wanted price last
    """
    state = posed.state
    if posed.request.approval is not None or chosen_minor == state.published_minor:
        return None
    if _is_rejected(partition, posed, chosen_minor):
        return Wait(("approval: rejected before, and nothing has changed since",), False)
    limits = partition.policy_of(posed.entry).approval
    margin = 1.0 - posed.unit_cost_minor / (chosen_minor * posed.entry.kept_share)
    reasons = _beyond(limits, state.published_minor, chosen_minor, margin, steps_at)
    return Wait(tuple(f"approval: {reason}" for reason in reasons), True) if reasons else None


def _beyond(
    limits: ApprovalPolicy,
    present_minor: int | None,
    chosen_minor: int,
    margin: float,
    steps_at: Evaluation,
) -> list[str]:
    """The thresholds that a price is beyond, in words with its numbers."""
    found: list[str] = []
    if limits.margin_ratio_min is not None and margin < limits.margin_ratio_min:
        found.append(f"its margin is {margin:.1%}, below {limits.margin_ratio_min:.1%}")
    if present_minor is None:
        return [*found, "it is the product's first price"] if limits.first_price else found
    move = chosen_minor / present_minor - 1.0
    if limits.move_ratio_min is not None and abs(move) >= limits.move_ratio_min:
        found.append(f"it moves by {move:+.1%}, by {limits.move_ratio_min:.1%} or more")
    if limits.profit_at_stake_ratio_min is not None:
        before, after = steps_at.objectives[-2:]
        stake = abs(after - before) / abs(before) if before else math.inf
        if stake >= limits.profit_at_stake_ratio_min:
            found.append(
                f"{stake:.1%} of its profit is at stake, {limits.profit_at_stake_ratio_min:.1%} "
                "or more"
            )
    return found


def note(
    partition: PartitionState, posed: Posed, chosen_minor: int, exogenous_log: float, wait: Wait
) -> list[Placed]:
    """Remember a proposal, and tell people of it where it is a new one."""
    state, request = posed.state, posed.request
    if not wait.proposed:
        return []
    hours = partition.policy_of(posed.entry).approval.expires_hours
    before = state.pending
    state.pending = Pending(
        request.offset, chosen_minor, request.now_ms + int(hours * HOUR_MS), exogenous_log
    )
    if before is not None and before.wanted_minor == chosen_minor:
        return []
    evidence = {"price_id": price_id(partition, state.sku, request.offset), "price": chosen_minor}
    message = f"a price waits for approval: {'; '.join(wait.reasons)}"
    return [
        alert(
            partition, request.offset, request.now_ms, "approval", state.sku, message, evidence
        )
    ]  # fmt: skip


def price_id(partition: PartitionState, sku: str, offset: int) -> str:
    """The id of the decision that a tape record led to."""
    return f"{partition.manifest.partition}-{offset}-{sku}"


def answer(context: Context, event: OperatorCommand) -> None:
    """Approve or reject the price that waits; a product of another partition is left to it.

    Raises
    ------
    Refused : nothing waits, something else waits, it waited too long, or it can't be priced
    """
    partition, sku = context.partition, event.scope.name or ""
    state = partition.skus.get(sku)
    if state is None:
        return
    pending = _present_proposal(context, state, event)
    if event.command == "reject":
        state.rejected = Rejected(
            pending.wanted_minor, context.offset, *_inputs(partition, state, context.now_ms)
        )
        state.pending = None
        partition.touch(f"sku/{sku}")
        evidence = {"price_id": event.price_id, "actor": event.actor, "reason": event.reason}
        context.alert("approval", sku, f"rejected by {event.actor}: {event.reason}", evidence)
        return
    approval = Approval(
        str(event.price_id),
        pending.wanted_minor,
        pending.exogenous_log,
        event.actor,
        event.reason,
    )
    context.ask(state, TRIGGER, approval=approval)


def _present_proposal(context: Context, state: SkuState, event: OperatorCommand) -> Pending:
    partition, pending = context.partition, state.pending
    if pending is None:
        raise Refused(
            "nothing_waits", "price_id", event.price_id,
            f"a price of {state.sku} that waits: a newer decision took its place, or it was "
            "answered before",
        )  # fmt: skip
    present = price_id(partition, state.sku, pending.offset)
    if event.price_id != present:
        raise Refused("superseded", "price_id", event.price_id, f"{present}, which waits now")
    if pending.expires_ms <= context.now_ms:
        raise Refused("approval_expired", "price_id", event.price_id, "an answer before it expired")
    reason = blocked_reason(state, partition.catalogue[state.sku])
    if event.command == "approve" and reason is not None:
        raise Refused("not_priced", "price_id", event.price_id, f"a product on sale: {reason}")
    return pending


def _is_rejected(partition: PartitionState, posed: Posed, chosen_minor: int) -> bool:
    """Whether a price was rejected and nothing has changed since; one that has is forgotten."""
    state, rejected = posed.state, posed.state.rejected
    if rejected is None:
        return False
    published, cost, rival, in_stock, policy = _inputs(partition, state, posed.request.now_ms)
    same = (
        published == rejected.published_minor
        and cost == rejected.unit_cost_minor
        and in_stock == rejected.in_stock
        and policy == rejected.policy
        and _same_rival(rival, rejected.rival_minor)
    )
    return same and abs(chosen_minor / rejected.price_minor - 1.0) <= SAME_PRICE_RATIO


def _same_rival(one: int | None, other: int | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one / other - 1.0) < RIVAL_MOVE_RATIO


Inputs = tuple[int | None, int | None, int | None, bool, str]


def _inputs(partition: PartitionState, state: SkuState, now_ms: int) -> Inputs:
    """What a rejection depends on: present price, unit cost, robust rival, stock, policy."""
    entry: CatalogueEntry = partition.catalogue[state.sku]
    robust = rival_view(state, now_ms, partition.policy_of(entry).decision).robust_minor
    return (
        state.published_minor,
        entry.unit_cost_minor,
        None if robust is None else round(robust),
        state.stock is None or state.stock.on_hand > 0,
        partition.policy_sha256[:POLICY_DIGITS],
    )


POLICY_DIGITS = 8
