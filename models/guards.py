"""Guards: limits that no price may cross, as intervals, in the order in which they yield.

Every guard is an interval of allowed prices. Stronger guards come first: a weaker one that no
longer meets what the stronger allow gives way, and the decision says so. The rest share a
non-empty interval, so clamping to them one after another ends inside all of them (projection
onto intervals with a common point), and each one's cost can be told apart.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from schemas.policy import GuardPolicy


class Bound(NamedTuple):
    """Prices that one guard allows, minor units; ``low`` 0 or ``high`` inf: not limited there."""

    guard: str
    low_minor: float
    high_minor: float


class Feasible(NamedTuple):
    """The common interval of the guards that hold, and which gave way."""

    low_minor: float
    high_minor: float
    active: tuple[Bound, ...]
    gave_way: tuple[str, ...]


class Move(NamedTuple):
    """A guard moved the price."""

    guard: str
    bound_minor: float
    before_minor: float
    after_minor: float


class GuardInputs(NamedTuple):
    """What guards look at; money in minor units, None where it is not known."""

    unit_cost_minor: int
    kept_share: float
    reference_price_minor: int
    list_price_minor: int | None
    minimum_resale_price_minor: int | None
    previous_minor: int | None
    day_anchor_minor: int | None
    canary_step_ratio: float | None = None


def bounds(inputs: GuardInputs, policy: GuardPolicy) -> tuple[Bound, ...]:
    """Each guard's interval, strongest first.

    Cost floor: ``a P >= C``; margin floor: ``(a P - C) / (a P) >= m``, with ``a`` the share of
    the shown price that the shop keeps. A step limit needs a previous price.
    """
    cost_floor = inputs.unit_cost_minor / inputs.kept_share
    found = [
        Bound("cost_floor", cost_floor, math.inf),
        Bound("margin_floor", cost_floor / (1.0 - policy.margin_floor_ratio), math.inf),
    ]
    if inputs.minimum_resale_price_minor is not None:
        found.append(Bound("minimum_resale_price", inputs.minimum_resale_price_minor, math.inf))
    if inputs.list_price_minor is not None:
        ceiling = inputs.list_price_minor * policy.ceiling_list_price_ratio
        found.append(Bound("list_price_ceiling", 0.0, ceiling))
    reference = inputs.reference_price_minor
    found.append(Bound("reference_ceiling", 0.0, reference * policy.ceiling_reference_ratio))
    found.append(Bound("reference_floor", reference * policy.floor_reference_ratio, math.inf))
    if inputs.day_anchor_minor is not None:
        found.append(_around("day_step", inputs.day_anchor_minor, policy.day_step_ratio_max))
    if inputs.previous_minor is not None:
        found.append(_around("step", inputs.previous_minor, policy.step_ratio_max))
        if inputs.canary_step_ratio is not None:
            found.append(_around("canary_step", inputs.previous_minor, inputs.canary_step_ratio))
    return tuple(found)


def _around(guard: str, price_minor: int, ratio: float) -> Bound:
    return Bound(guard, price_minor * (1.0 - ratio), price_minor * (1.0 + ratio))


def feasible(found: Sequence[Bound], tick_minor: int) -> Feasible:
    """Intersect guards from the strongest on.

    A guard that leaves no tick between gives way, and only as far as it must: the one price left
    is the allowed tick nearest to it.
    """
    low, high = 0.0, math.inf
    active: list[Bound] = []
    gave_way: list[str] = []
    for bound in found:
        new_low, new_high = max(low, bound.low_minor), min(high, bound.high_minor)
        if _tick_at_or_above(new_low, tick_minor) <= new_high:
            low, high = new_low, new_high
            active.append(bound)
            continue
        gave_way.append(bound.guard)
        nearest = _nearest_tick(bound, low, high, tick_minor)
        low = high = nearest
        active.append(Bound(bound.guard, nearest, nearest))
    return Feasible(low, high, tuple(active), tuple(gave_way))


def _nearest_tick(bound: Bound, low_minor: float, high_minor: float, tick_minor: int) -> float:
    """The tick from ``low_minor`` to ``high_minor`` nearest to a bound that holds none of them.

    As near below as above: the lower one, for the buyer.
    """
    lowest = _tick_at_or_above(low_minor, tick_minor)
    below = _tick_at_or_below(min(bound.high_minor, high_minor), tick_minor)
    above = _tick_at_or_above(max(bound.low_minor, low_minor), tick_minor)
    if below < lowest:
        return above
    if above > high_minor:
        return below
    return below if bound.low_minor - below <= above - bound.high_minor else above


def clamp(price_minor: float, allowed: Feasible) -> tuple[Move, ...]:
    """Clamp to the active guards: commercial first, then legal, then the limits of change."""
    moves: list[Move] = []
    for bound in sorted(allowed.active, key=lambda bound: _LEDGER_ORDER.index(bound.guard)):
        after = min(max(price_minor, bound.low_minor), bound.high_minor)
        if after != price_minor:
            moves.append(Move(bound.guard, after, price_minor, after))
            price_minor = after
    return tuple(moves)


FLOORS = ("cost_floor", "margin_floor", "minimum_resale_price")
_LEDGER_ORDER = (
    "margin_floor",
    "list_price_ceiling",
    "reference_ceiling",
    "reference_floor",
    "cost_floor",
    "minimum_resale_price",
    "day_step",
    "step",
    "canary_step",
)


def round_to_tick(price_minor: float, allowed: Feasible, tick_minor: int) -> int:
    """The nearest tick inside the allowed interval; half-way goes down, for the buyer."""
    lowest = _tick_at_or_above(allowed.low_minor, tick_minor)
    highest = _tick_at_or_below(allowed.high_minor, tick_minor)
    nearest = math.ceil(price_minor / tick_minor - 0.5) * tick_minor
    return int(min(max(nearest, lowest), highest))


def violations(price_minor: int, allowed: Feasible) -> tuple[str, ...]:
    """The active guards that a price breaks: none, for any price that leaves this module."""
    return tuple(
        bound.guard
        for bound in allowed.active
        if not bound.low_minor <= price_minor <= bound.high_minor
    )


def _tick_at_or_above(price_minor: float, tick_minor: int) -> float:
    return max(math.ceil(price_minor / tick_minor), 1) * tick_minor


def _tick_at_or_below(price_minor: float, tick_minor: int) -> float:
    return math.floor(price_minor / tick_minor) * tick_minor if price_minor < math.inf else math.inf
