"""What the publisher gate knows of announced reductions: its own memory and its own arithmetic.

It shares no code with `models.guards.prior_price` and asks less: the ceiling is over a day less
than the shortest window of a market with such a rule, so the gate holds only what breaks the
announcement in all of them. Steps and the reference floor give way for a reduction or an emergency
cap, down to what the lowest price it remembers could demand; steps also back to the price before
it.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from schemas.events import DAY_MS, PromotionScheduled, time_ms
from schemas.policy import EmergencyCap
from schemas.state import GateEntry, GateReduction

REMEMBERED_MS = 70 * DAY_MS
SHOWN_MAX = 128
REDUCTIONS_MAX = 128


class Leeway(NamedTuple):
    """A ceiling, and how far beyond its limits a step may go; minor units."""

    ceiling: float = math.inf
    down_to: float = math.inf
    back_to: float = 0.0


def announced(entry: GateEntry, event: PromotionScheduled, now_ms: int) -> None:
    """Remember a reduction; the same kind and beginning again replaces or withdraws it.

    What was seen before it began stays what it was.
    """
    from_ms, to_ms = time_ms(event.from_time), time_ms(event.to_time)
    planned = GateReduction(from_ms, to_ms, event.depth, event.kind, event.announced)
    kept = []
    for one in entry.reductions:
        if (one.kind, one.from_ms) != (event.kind, from_ms):
            kept.append(one)
        else:
            planned = replace(planned, deepens=one.deepens, before_minor=one.before_minor)
    kept.append(planned)
    entry.reductions = tuple(sorted(kept, key=lambda one: (one.from_ms, one.kind)))
    _begin(entry, now_ms)


def shown(entry: GateEntry, price_minor: int, at_ms: int) -> None:
    """Remember a price that buyers see from now on; what ended long ago is forgotten.

    A reduction that no price was published after is kept, for the way back from it is to come.
    """
    _begin(entry, at_ms)
    kept = [*entry.shown, (at_ms, price_minor)][-SHOWN_MAX:]
    forgotten_ms, published_ms = at_ms - REMEMBERED_MS, entry.published_ms or 0
    while len(kept) > 1 and kept[1][0] < forgotten_ms:
        del kept[0]
    entry.shown = tuple(kept)
    entry.reductions = tuple(
        one for one in entry.reductions if one.to_ms > min(forgotten_ms, published_ms)
    )[-REDUCTIONS_MAX:]


def _begin(entry: GateEntry, now_ms: int) -> None:
    """Remember the price before reductions that have begun, be it before they were announced."""
    found = list(entry.reductions)
    for index, one in enumerate(found):
        if one.announced and one.from_ms <= now_ms and one.deepens is None:
            earlier = _deepened(found, one)
            before = [other.before_minor for other in earlier if other.before_minor is not None]
            before += [price for _, price in entry.shown[-1:]]
            found[index] = replace(
                one, deepens=bool(earlier), before_minor=max(before, default=None)
            )
    entry.reductions = tuple(found)


def _deepened(known: Iterable[GateReduction], one: GateReduction) -> list[GateReduction]:
    """The reductions in whose course, or as they end, another begins."""
    return [
        other for other in known if other.announced and other.from_ms < one.from_ms <= other.to_ms
    ]


def leeway(
    entry: GateEntry, caps: tuple[EmergencyCap, ...], now_ms: int, prior_days: int | None
) -> Leeway:
    """What reductions and caps ask and allow now; of caps, whatever product they are for.

    ``prior_days``: the shortest window that any market's prior price has; None: no market has one.
    """
    lowest = min((price for _, price in entry.shown), default=None)
    if lowest is None:
        return Leeway()
    ceilings, down, back = [math.inf], [math.inf], [0.0]
    for one in entry.reductions:
        if not one.announced:
            continue
        if one.from_ms <= now_ms < one.to_ms:
            if prior_days is not None:
                ceilings.append(_ceiling(entry, one, prior_days))
            down.append(lowest * (1.0 - one.depth))
        elif (entry.published_ms or 0) < one.to_ms <= now_ms and one.before_minor is not None:
            back.append(float(one.before_minor))
    for cap in caps:
        if time_ms(cap.from_time) <= now_ms < time_ms(cap.expires_at):
            down.append(lowest * cap.ratio)
    return Leeway(min(ceilings), min(down), max(back))


def _ceiling(entry: GateEntry, one: GateReduction, prior_days: int) -> float:
    """Of a reduction that deepens another the prior price may lie before that: no ceiling."""
    deepens = _deepened(entry.reductions, one) if one.deepens is None else one.deepens
    if deepens:
        return math.inf
    from_ms = one.from_ms
    ends = [at_ms for at_ms, _ in entry.shown[1:]] + [from_ms]
    seen = [
        price
        for (at_ms, price), end_ms in zip(entry.shown, ends, strict=True)
        if at_ms < from_ms and end_ms > from_ms - (prior_days - 1) * DAY_MS
    ]
    return min(seen) * (1.0 - one.depth) if seen else math.inf
