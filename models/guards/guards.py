"""Guards: limits that no price may cross, as intervals, in the order in which they yield.

Every guard is an interval of allowed prices. Stronger guards come first: a weaker one that no
longer meets what the stronger allow gives way, and the decision says so. The rest share a
non-empty interval, so clamping to them one after another ends inside all of them (projection
onto intervals with a common point), and each one's cost can be told apart.

A guard is added by a line in `STRENGTH` and its interval in `bounds`, or, where it needs more than
numbers of one product, as a `Bound` in `GuardInputs.found` (see `models.guards.limits`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.policy import GuardPolicy
from schemas.scopes import PlacedGuards

# Strongest first: floors, then the other laws, ceilings and the band, then how far a price may
# move, then what follows the market: it is approached step by step.
STRENGTH = (
    "cost_floor",
    "margin_floor",
    "minimum_resale_price",
    "announced_reduction",
    "emergency_cap",
    "list_price_ceiling",
    "reference_ceiling",
    "reference_floor",
    "day_step",
    "step",
    "canary_step",
    "adaptive_step",
    "ladder",
    "competitor_ceiling",
    "competitor_floor",
    "stock_cover",
)
FLOORS = ("cost_floor", "margin_floor", "minimum_resale_price")
_LEGAL = ("cost_floor", "minimum_resale_price", "announced_reduction", "emergency_cap")
_CHANGE = ("day_step", "step", "canary_step", "adaptive_step")
_COMMERCIAL = tuple(guard for guard in STRENGTH if guard not in _LEGAL and guard not in _CHANGE)
FLOAT_SLACK = 1e-13  # relative: some roundings of a float, far below a tick of any price
_STRENGTH_RANK = {guard: rank for rank, guard in enumerate(STRENGTH)}
# Commercial rules first, then legal ones, then limits of change: what a legal rule costs is what
# it costs beyond the shop's own rules.
_CLAMP_RANK = {guard: rank for rank, guard in enumerate((*_COMMERCIAL, *_LEGAL, *_CHANGE))}


class Bound(NamedTuple):
    """Prices that one guard allows, minor units; ``low`` 0 or ``high`` inf: not limited there.

    ``place``: the market and channel whose rule it is, where a price has several.
    """

    guard: str
    low_minor: float
    high_minor: float
    place: str = ""

    @property
    def name(self) -> str:
        """The guard, and where it holds."""
        return f"{self.guard} ({self.place})" if self.place else self.guard


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
    place: str = ""


class GuardInputs(NamedTuple):
    """What guards look at; money in minor units, None where it is not known.

    ``minimum_resale_price_minor`` by market; ``loss_leader``: the family earns more while this
    product's floor is waived. ``found`` are bounds that were worked out elsewhere.
    """

    unit_cost_minor: int
    kept_share: float
    reference_price_minor: int
    list_price_minor: int | None
    minimum_resale_price_minor: dict[str, int]
    previous_minor: int | None
    day_anchor_minor: int | None
    canary_step_ratio: float | None = None
    rival_minor: float | None = None
    stock_cover_days: float | None = None
    loss_leader: bool = False
    sale_below_cost_lawful: bool = False
    trial_floor_minor: float | None = None
    found: tuple[Bound, ...] = ()
    return_minor: int | None = None


class Rounding(NamedTuple):
    """Whole prices: multiples of ``tick_minor``, with one of the endings where there is one."""

    tick_minor: int
    ending_modulus_minor: int = 100
    endings_minor: tuple[int, ...] = ()


def rounding_of(policy: GuardPolicy) -> Rounding:
    """How a policy rounds."""
    return Rounding(policy.tick_minor, policy.ending_modulus_minor, policy.endings_minor)


def placed_bounds(inputs: GuardInputs, placed: Sequence[PlacedGuards]) -> tuple[Bound, ...]:
    """Each guard's interval over all places, strongest first: a price keeps those of every one."""
    found = list(inputs.found)
    for place, policy in placed:
        name = "" if len(placed) == 1 else "/".join(part for part in place if part is not None)
        for bound in bounds(inputs, policy):
            found.append(bound._replace(place=name) if name else bound)
    return _joined(found)


def _joined(found: Iterable[Bound]) -> tuple[Bound, ...]:
    """One interval for each guard, the strongest first; the tighter side names the place."""
    joined: dict[str, Bound] = {}
    for bound in found:
        known = joined.get(bound.guard)
        if known is None:
            joined[bound.guard] = bound
            continue
        low = max(known.low_minor, bound.low_minor)
        high = max(min(known.high_minor, bound.high_minor), low)
        tighter = bound if (low, high) != (known.low_minor, known.high_minor) else known
        joined[bound.guard] = tighter._replace(low_minor=low, high_minor=high)
    return tuple(_exact(joined[guard]) for guard in sorted(joined, key=_STRENGTH_RANK.__getitem__))


def _exact(bound: Bound) -> Bound:
    """A bound that only a float's last digits keep from a whole minor unit is that unit.

    168 over a kept margin of 0.7 is 240, not 240.00000000000003: the next tick would be a cent off.
    """
    low, high = _whole(bound.low_minor), _whole(bound.high_minor)
    if (low, high) == (bound.low_minor, bound.high_minor):
        return bound
    return bound._replace(low_minor=low, high_minor=high)


def _whole(price_minor: float) -> float:
    if price_minor == math.inf:
        return price_minor
    nearest = round(price_minor)
    return float(nearest) if abs(price_minor - nearest) <= FLOAT_SLACK * nearest else price_minor


def bounds(inputs: GuardInputs, policy: GuardPolicy) -> list[Bound]:
    """Each guard's interval in one place.

    Cost floor: ``a P >= C``; margin floor: ``(a P - C) / (a P) >= m``, with ``a`` the share of
    the shown price that the shop keeps. A step limit needs a previous price; the way back to the
    price before an announced reduction that has ended (``return_minor``) is no step.
    """
    found = _floors(inputs, policy)
    if inputs.list_price_minor is not None:
        ceiling = inputs.list_price_minor * policy.ceiling_list_price_ratio
        found.append(Bound("list_price_ceiling", 0.0, ceiling))
    reference = inputs.reference_price_minor
    found.append(Bound("reference_ceiling", 0.0, reference * policy.ceiling_reference_ratio))
    found.append(Bound("reference_floor", reference * policy.floor_reference_ratio, math.inf))
    if inputs.day_anchor_minor is not None:
        found.append(
            _around(
                "day_step", inputs.day_anchor_minor, policy.day_step_ratio_max, inputs.return_minor
            )
        )
    if inputs.previous_minor is not None:
        found.append(
            _around("step", inputs.previous_minor, policy.step_ratio_max, inputs.return_minor)
        )
        if inputs.canary_step_ratio is not None:
            found.append(_around("canary_step", inputs.previous_minor, inputs.canary_step_ratio))
    return found + _market_bounds(inputs, policy)


def _floors(inputs: GuardInputs, policy: GuardPolicy) -> list[Bound]:
    """Cost, margin and agreed minimum; a loss leader waives what the policy and the law allow."""
    floor = inputs.unit_cost_minor / inputs.kept_share
    waives = policy.loss_leader if inputs.loss_leader else "off"
    below_cost = waives == "cost_floor" and inputs.sale_below_cost_lawful
    ratio = policy.loss_leader_cost_ratio_min if below_cost else 1.0
    found = [Bound("cost_floor", floor * ratio, math.inf)]
    if waives == "off":
        found.append(Bound("margin_floor", floor / (1.0 - policy.margin_floor_ratio), math.inf))
    agreed = [
        inputs.minimum_resale_price_minor[market]
        for market in policy.minimum_resale_price_markets
        if market in inputs.minimum_resale_price_minor
    ]
    if agreed:
        least = float(max(agreed))
        if inputs.trial_floor_minor is not None and policy.minimum_resale_price_trial is not None:
            depth = policy.minimum_resale_price_trial.depth_ratio_max
            least = min(least, max(inputs.trial_floor_minor, least * (1.0 - depth)))
        found.append(Bound("minimum_resale_price", least, math.inf))
    return found


def _market_bounds(inputs: GuardInputs, policy: GuardPolicy) -> list[Bound]:
    """What follows rivals and stock."""
    found = []
    if inputs.rival_minor is not None:
        if policy.competitor_index_max is not None:
            ceiling = inputs.rival_minor * policy.competitor_index_max
            found.append(Bound("competitor_ceiling", 0.0, ceiling))
        if policy.competitor_index_min is not None:
            floor = inputs.rival_minor * policy.competitor_index_min
            found.append(Bound("competitor_floor", floor, math.inf))
    cover, previous = inputs.stock_cover_days, inputs.previous_minor
    if cover is not None and previous is not None:
        least, most = policy.stock_cover_days_min, policy.stock_cover_days_max
        if least is not None and cover < least:
            found.append(Bound("stock_cover", float(previous), math.inf))
        elif most is not None and cover > most:
            found.append(Bound("stock_cover", 0.0, float(previous)))
    return found


def _around(guard: str, price_minor: int, ratio: float, return_minor: int | None = None) -> Bound:
    high = max(price_minor * (1.0 + ratio), return_minor or 0.0)
    return Bound(guard, price_minor * (1.0 - ratio), high)


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
        gave_way.append(bound.name)
        nearest = _nearest_tick(bound, low, high, tick_minor)
        low = high = nearest
        active.append(bound._replace(low_minor=nearest, high_minor=nearest))
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
    if allowed.low_minor <= price_minor <= allowed.high_minor:
        return ()
    moves: list[Move] = []
    for bound in sorted(allowed.active, key=_clamp_rank):
        after = float(min(max(price_minor, bound.low_minor), bound.high_minor))
        if after != price_minor:
            moves.append(Move(bound.guard, after, price_minor, after, bound.place))
            price_minor = after
    return tuple(moves)


def _clamp_rank(bound: Bound) -> int:
    return _CLAMP_RANK[bound.guard]


def round_price(price_minor: float, allowed: Feasible, rounding: Rounding) -> int:
    """The nearest ending inside the allowed interval, or tick where that holds none.

    Half-way goes down, for the buyer; never beyond a bound: it snaps to the safe side.
    """
    lowest, highest = _ticks(allowed, rounding.tick_minor)
    found = None
    for ending in rounding.endings_minor:
        near = _nearest_ending(price_minor, lowest, highest, rounding.ending_modulus_minor, ending)
        if near is not None and (
            found is None or (abs(near - price_minor), near) < (abs(found - price_minor), found)
        ):
            found = near
    if found is not None:
        return found
    nearest = math.ceil(price_minor / rounding.tick_minor - 0.5) * rounding.tick_minor
    return int(min(max(nearest, lowest), highest))


def _nearest_ending(
    price_minor: float, lowest: float, highest: float, modulus: int, ending: int
) -> int | None:
    least = math.ceil((lowest - ending) / modulus)
    most = math.floor((highest - ending) / modulus) if highest < math.inf else math.inf
    if least > most:
        return None
    nearest = math.ceil((price_minor - ending) / modulus - 0.5)
    return int(min(max(nearest, least), most)) * modulus + ending


def _ticks(allowed: Feasible, tick_minor: int) -> tuple[float, float]:
    lowest = _tick_at_or_above(allowed.low_minor, tick_minor)
    return lowest, _tick_at_or_below(allowed.high_minor, tick_minor)


def ends_well(price_minor: int, rounding: Rounding) -> bool:
    """Whether a price is a tick, with one of the endings where the policy names some."""
    ending = price_minor % rounding.ending_modulus_minor
    return price_minor % rounding.tick_minor == 0 and (
        not rounding.endings_minor or ending in rounding.endings_minor
    )


def violations(price_minor: int, allowed: Feasible, tick_minor: int = 1) -> tuple[str, ...]:
    """The active guards that a price breaks: none, for any price that leaves this module."""
    broken = [
        bound.name
        for bound in allowed.active
        if not bound.low_minor <= price_minor <= bound.high_minor
    ]
    return (*broken, "tick") if price_minor % tick_minor else tuple(broken)


def _tick_at_or_above(price_minor: float, tick_minor: int) -> float:
    return max(math.ceil(price_minor / tick_minor), 1) * tick_minor


def _tick_at_or_below(price_minor: float, tick_minor: int) -> float:
    return math.floor(price_minor / tick_minor) * tick_minor if price_minor < math.inf else math.inf
