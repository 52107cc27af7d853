"""Follow decisions of another engine: they are the actions, and this engine says what it would do.

Two engines (other processors, other libraries) differ in last bits, and now and then in a cent.
After a cent that differs, all that is learned from it differs too. So a history of another engine
is folded with its published decisions as what was done: price, status, breaker and the exogenous
part are theirs, beliefs are reckoned anew. Each is compared with this engine's decision at the same
place: the price within one step of the policy's rounding, the profit at the published price within
`PROFIT_RELATIVE_MAX`, and all that follows from the events alone exactly.

A decision that its product's next one contradicts (`Taken.successor`) was altered since: what is
followed is what history went on with.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from models.breaker import breaker
from models.fold.context import Placed
from models.fold.partition import PartitionState
from models.fold.taken import Taken
from models.guards import guards
from models.guards.moving import TOO_SMALL, WITHIN_BAND
from models.kernel.tile import Kernel
from models.pricing import approvals
from models.pricing import settle as settling
from models.pricing.settle import Judged, Priced, Verdict, exogenous_log_of, judge
from schemas import topics
from schemas.exploration import Exploration
from schemas.outputs import BreakerView, PriceDecided
from schemas.state import BreakerState

PROFIT_RELATIVE_MAX = 1e-6  # of the profit, or of `PROFIT_SCALE_SHARE` of revenue if that is more
PROFIT_SCALE_SHARE = 0.01  # at cost a profit is nothing but last bits
SHARE_ABSOLUTE_MAX = 0.002  # margin_pct is rounded to three digits
WAITING, REJECTED_BEFORE = "approval: ", "approval: rejected before"
PRICED = (topics.PRICES.name, topics.PRICES_LATEST.name)
EXACT = (
    "price_id", "sku", "version", "currency", "previous_minor", "decided_at", "effective_from",
    "valid_until", "tape", "policy_sha256", "prior_sha256",
)  # fmt: skip
EXACT_IN_RECORD = (
    "trigger", "unit_cost_minor", "kept_share", "category", "input_age_ms", "approval",
)  # fmt: skip


def take(partition: PartitionState, kernel: Kernel, priced: list[Priced]) -> list[Priced]:
    """Put published prices in the place of those just found, evaluated there; in one run.

    What is found for a decision stays in ``Priced.action``. Without actions nothing changes.
    """
    actions = partition.actions
    if actions is None:
        return priced
    taken = [actions.of(one.posed.state.sku, one.posed.request.offset) for one in priced]
    chosen = [
        one.chosen_minor if found is None else _price_minor(one, found)
        for one, found in zip(priced, taken, strict=True)
    ]
    moved = [
        (one, minor) for one, minor in zip(priced, chosen, strict=True) if minor != one.chosen_minor
    ]
    at = iter(
        kernel.evaluate(
            [one.posed.full for one, _ in moved],
            [[minor / one.posed.reference_minor] for one, minor in moved],
        )
    )
    return [
        one
        if found is None
        else _acted(one, found, minor)._replace(
            at=one.at if minor == one.chosen_minor else next(at)
        )
        for one, found, minor in zip(priced, taken, chosen, strict=True)
    ]


def _price_minor(own: Priced, taken: Taken) -> int:
    """The price that was decided on; what goes back to the last good price is left to `settle`."""
    found = taken.decision
    if found.status == "reverted" and own.back is not None:
        return own.chosen_minor
    minor = found.wanted_minor if found.status == "held" else found.price_minor
    after = taken.successor
    if after is not None and found.status != "held" and own.chosen_minor != minor:
        minor = after.previous_minor
    return own.chosen_minor if minor is None or minor <= 0 else minor


def _acted(own: Priced, taken: Taken, chosen_minor: int) -> Priced:
    path = own.path._replace(exogenous_log=taken.decision.exogenous_log)
    stayed = any(reason in (TOO_SMALL, WITHIN_BAND) for reason in taken.decision.reasons)
    if chosen_minor != own.chosen_minor and not stayed:
        path = path._replace(wanted_minor=chosen_minor)
    return own._replace(path=path, chosen_minor=chosen_minor, action=(taken, own))


def settle(partition: PartitionState, priced: Priced) -> list[Placed]:
    """Settle a decision as it was published, and tell what of it lies beyond its bounds.

    The outputs have the published bytes.
    """
    if priced.action is None or partition.actions is None:
        raise ValueError("a decision without an action; expected one that `take` found")
    taken, own = priced.action
    own = own._replace(posed=priced.posed)  # the round has been judged since
    judged, state = judge(partition, own), own.posed.state
    mine = _Own.of(own, judged)
    if taken.successor is not None and taken.successor.previous_minor == mine.price_minor:
        followed, as_judged = own._replace(action=None), judged
    else:
        followed, as_judged = priced, _judged(priced, taken.decision, judged)
    state.version = _version(taken, mine) - 1
    found, shown = [], None
    for placed in settling.settle(partition, followed, as_judged):
        if placed.output.topic in PRICED:
            shown = shown or msgspec.json.decode(placed.output.value, type=PriceDecided)
            placed = placed._replace(output=placed.output._replace(value=taken.value))
        found.append(placed)
    if shown is not None:
        partition.actions.compared(taken, _beyond(taken, shown, mine, own))
    return found


class _Own(NamedTuple):
    """What this engine would have published at the same place."""

    status: str
    price_minor: int | None
    wanted_minor: int
    exogenous_log: float
    version: int

    @classmethod
    def of(cls, own: Priced, judged: Judged) -> "_Own":
        state, status = own.posed.state, judged.verdict.status
        price = state.published_minor if status == "held" else own.chosen_minor
        wanted = own.chosen_minor
        if status == "reverted":
            price, wanted = state.unproven_minor, own.path.wanted_minor
        exogenous_log = exogenous_log_of(own.posed, own.path, own.chosen_minor)
        return cls(status, price, wanted, exogenous_log, state.version + 1)


def _version(taken: Taken, mine: _Own) -> int:
    if taken.successor is None or taken.decision.version == mine.version:
        return taken.decision.version
    return taken.successor.version - 1


def _judged(priced: Priced, published: PriceDecided, judged: Judged) -> Judged:
    """What breaker, gate and approval said, as far as the published decision tells."""
    after = judged.after
    if published.record is not None:
        after = _breaker(priced, after, published.record.breaker)
    reasons = tuple(reason for reason in published.reasons if reason.startswith(WAITING))
    wait = None
    if published.status == "held" and reasons:
        proposed = not any(reason.startswith(REJECTED_BEFORE) for reason in reasons)
        wait = approvals.Wait(reasons, proposed)
    verdict = Verdict(published.status, published.reasons)
    return Judged(verdict, after, judged.assessed, wait)


def _breaker(priced: Priced, own: BreakerState, told: BreakerView) -> BreakerState:
    if own.state == told.state:
        return replace(own, reasons=told.reasons)
    before, now_ms = priced.posed.breaker, priced.posed.request.now_ms
    if told.state == breaker.OPEN:
        return BreakerState(breaker.OPEN, now_ms, told.reasons, before.openings + 1)
    if told.state == breaker.HALF_OPEN:
        return BreakerState(breaker.HALF_OPEN, now_ms, told.reasons, before.openings)
    return BreakerState(breaker.CLOSED, now_ms, told.reasons)


def _beyond(
    taken: Taken, shown: PriceDecided, mine: _Own, own: Priced
) -> dict[str, tuple[object, object]]:
    """What of a published decision lies beyond its bounds.

    ``shown`` is the decision as reckoned here at the price that is followed.
    """
    published = taken.decision
    found: dict[str, tuple[object, object]] = {}

    def compare(path: str, one: object, other: object, same: bool) -> None:
        if not same:
            found[path] = (msgspec.to_builtins(one), msgspec.to_builtins(other))

    after = replace(shown, version=mine.version)
    for name in EXACT:
        one, other = getattr(published, name), getattr(after, name)
        compare(name, one, other, one == other)
    compare("status", published.status, mine.status, published.status == mine.status)
    rounding = guards.rounding_of(own.posed.policy.guards)
    near = mine.status != "held"
    price = published.price_minor
    contradicted = taken.successor is not None and taken.successor.previous_minor != price
    is_price = price == mine.price_minor or (
        near and not contradicted and within_step(price, mine.price_minor, rounding)
    )
    compare("price_minor", price, mine.price_minor, is_price)
    wanted = published.wanted_minor
    is_wanted = within_step(wanted, mine.wanted_minor, rounding)
    compare("wanted_minor", wanted, mine.wanted_minor, is_wanted)
    log_step = 2.0 * _step_minor(wanted, mine.wanted_minor, rounding) / max(mine.wanted_minor, 1)
    is_log = abs(published.exogenous_log - mine.exogenous_log) <= log_step + PROFIT_RELATIVE_MAX
    compare("exogenous_log", published.exogenous_log, mine.exogenous_log, is_log)
    one_coin, coin = published.exploration, shown.exploration
    compare("exploration", one_coin, coin, _is_same_coin(one_coin, coin, rounding))
    if "price_minor" not in found:
        one_margin, margin = published.margin_pct, shown.margin_pct
        compare("margin_pct", one_margin, margin, _is_close(one_margin, margin, SHARE_ABSOLUTE_MAX))
        _compare_records(published, shown, compare)
    return found


def _compare_records(
    published: PriceDecided,
    shown: PriceDecided,
    compare: Callable[[str, object, object, bool], None],
) -> None:
    one, other = published.record, shown.record
    if one is None or other is None:
        compare("record", one, other, one is other)
        return
    for name in EXACT_IN_RECORD:
        left, right = getattr(one, name), getattr(other, name)
        compare(f"record.{name}", left, right, left == right)
    revenue = (shown.price_minor or 0) * other.stock.expected_sales_units / other.stock.horizon_days
    scale = max(abs(other.expected_profit_per_day_minor), PROFIT_SCALE_SHARE * revenue)
    left, right = one.expected_profit_per_day_minor, other.expected_profit_per_day_minor
    near = abs(left - right) <= PROFIT_RELATIVE_MAX * scale
    compare("record.expected_profit_per_day_minor", left, right, near)


def _is_same_coin(
    one: Exploration | None, other: Exploration | None, rounding: guards.Rounding
) -> bool:
    if one is None or other is None:
        return one is other
    return (
        one.drew_up == other.drew_up
        and within_step(one.up_minor, other.up_minor, rounding)
        and within_step(one.down_minor, other.down_minor, rounding)
        and abs(one.up_probability - other.up_probability) <= PROFIT_RELATIVE_MAX
    )


def _is_close(one: float | None, other: float | None, absolute: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= absolute


def within_step(one: int | None, other: int | None, rounding: guards.Rounding) -> bool:
    """Whether two prices are no more than one step of a policy's rounding apart.

    A step is a tick; where the policy names endings, also from one such price to the next.

    >>> within_step(1000, 1001, guards.Rounding(1))
    True
    >>> within_step(1099, 1199, guards.Rounding(1, 100, (99,)))
    True
    >>> within_step(1098, 1199, guards.Rounding(1, 100, (99,)))
    False
    """
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _step_minor(one, other, rounding)


def _step_minor(one: int | None, other: int | None, rounding: guards.Rounding) -> int:
    """How far the next price lies above the lower of two, as the policy rounds; minor units."""
    tick = rounding.tick_minor
    if one is None or other is None or not rounding.endings_minor:
        return tick
    if not (guards.ends_well(one, rounding) and guards.ends_well(other, rounding)):
        return tick
    low, modulus = min(one, other), rounding.ending_modulus_minor
    return max(min((ending - low - 1) % modulus + 1 for ending in rounding.endings_minor), tick)
