"""What the publisher gate knows of announced reductions: its own memory and its own arithmetic.

It shares no code with `models.guards.prior_price` and asks less: the ceiling is over a day less
than the shortest window of a market with such a rule, so the gate holds only what breaks the
announcement in all of them. Steps and the reference floor give way for a reduction or an emergency
cap, down to what the lowest price it remembers could demand; steps also back to the price before
it.
"""

import math
from typing import NamedTuple

from schemas.events import DAY_MS, PromotionScheduled, time_ms
from schemas.policy import EmergencyCap
from schemas.state import GateEntry

REMEMBERED_MS = 70 * DAY_MS
SHOWN_MAX = 128


class Leeway(NamedTuple):
    """A ceiling, and how far beyond its limits a step may go; minor units."""

    ceiling: float = math.inf
    down_to: float = math.inf
    back_to: float = 0.0


def announced(entry: GateEntry, event: PromotionScheduled) -> None:
    """Remember a reduction; the same kind and beginning again replaces or withdraws it."""
    from_ms = time_ms(event.from_time)
    kept = [one for one in entry.reductions if (one[3], one[0]) != (event.kind, from_ms)]
    if event.announced:
        kept.append((from_ms, time_ms(event.to_time), event.depth, event.kind))
    entry.reductions = tuple(sorted(kept))


def shown(entry: GateEntry, price_minor: int, at_ms: int) -> None:
    """Remember a price that buyers see from now on; what ended long ago is forgotten."""
    kept = [*entry.shown, (at_ms, price_minor)][-SHOWN_MAX:]
    while len(kept) > 1 and kept[1][0] < at_ms - REMEMBERED_MS:
        del kept[0]
    entry.shown = tuple(kept)
    entry.reductions = tuple(one for one in entry.reductions if one[1] > at_ms - REMEMBERED_MS)


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
    for from_ms, to_ms, depth, _ in entry.reductions:
        if from_ms <= now_ms < to_ms:
            if prior_days is not None:
                ceilings.append(_ceiling(entry, from_ms, depth, prior_days))
            down.append(lowest * (1.0 - depth))
        elif to_ms <= now_ms and (entry.published_ms or 0) < to_ms:
            first_ms = _first(entry, from_ms)
            before = [price for at_ms, price in entry.shown if at_ms < first_ms]
            back.append(float(before[-1] if before else 0))
    for cap in caps:
        if time_ms(cap.from_time) <= now_ms < time_ms(cap.expires_at):
            down.append(lowest * cap.ratio)
    return Leeway(min(ceilings), min(down), max(back))


def _first(entry: GateEntry, from_ms: int) -> int:
    """Where the run of reductions without a break that this one is in began."""
    for other, until, _, _ in sorted(entry.reductions, reverse=True):
        if other < from_ms <= until:
            from_ms = other
    return from_ms


def _ceiling(entry: GateEntry, from_ms: int, depth: float, prior_days: int) -> float:
    """Of a reduction that deepens another the prior price may lie before that: no ceiling."""
    if any(other < from_ms <= until for other, until, _, _ in entry.reductions):
        return math.inf
    ends = [at_ms for at_ms, _ in entry.shown[1:]] + [from_ms]
    seen = [
        price
        for (at_ms, price), end_ms in zip(entry.shown, ends, strict=True)
        if at_ms < from_ms and end_ms > from_ms - (prior_days - 1) * DAY_MS
    ]
    return min(seen) * (1.0 - depth) if seen else math.inf
