"""Order cohorts: sold units that wait for their returns.

A return comes days after its order, so an order is no negative yet. Each cohort teaches at ages of
3, 7, 14, 30 and 60 days. By age a share G(a) of the returns that will come has come: so a sold unit
counts as ``G(a)`` of a unit whose fate is known, and of those N G(a) the returned ones are
positives, the rest negatives: N R G to N (1 - R) G in expectation, whatever R is. A return waits
for the next of these ages and then takes a negative away, so both sides see the same window.
"""

import hashlib
from bisect import bisect_left
from typing import Literal, NamedTuple

from models.returns.return_features import Sale, month_of_day
from schemas.events import DAY_MS
from schemas.learned import DELAY_DAYS, ReturnCohort

LINE_UNITS_MAX = 10  # one order line is one decision: a bulk order counts as this many units
EARLY_DAYS_MAX = 1.0  # a return dated before its order: clocks differ by less than this
COHORT_LINES_MAX = 4096  # a record stays near 150 kB; further lines of that day are not tracked

AGES = len(DELAY_DAYS)

Sold = Literal["tracked", "late", "full"]
UnmatchedReason = Literal["no_order", "before_order", "expired", "over_returned"]


class Matched(NamedTuple):
    """A return that found its order line; ``unmatched_units`` exceed what was left of it."""

    units: int
    unmatched_units: int


class Unmatched(NamedTuple):
    """A return that teaches nothing: the caller counts its units."""

    units: int
    reason: UnmatchedReason


class Cancelled(NamedTuple):
    """Units taken out of a cohort, and when the line was ordered (event time)."""

    units: int
    ordered_ms: int
    whole_line: bool


def order_line_hash(order_id: str, line_id: str) -> str:
    """Name an order line by 16 hex digits (64-bit BLAKE2b), so that cohorts stay small.

    >>> order_line_hash("A-1", "1")
    '6aee2c0f3b3a476a'
    """
    text = f"{len(order_id)}:{order_id}{line_id}".encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def new_cohort(sku: str, segment: str, event_time_ms: int) -> ReturnCohort:
    """An empty cohort for the event day of an order."""
    return ReturnCohort(sku=sku, segment=segment, day=event_time_ms // DAY_MS)


def sell(
    cohort: ReturnCohort,
    line_hash: str,
    units: int,
    ln_price: float,
    event_time_ms: int,
    *,
    ln_rival: float | None = None,
    today: int | None = None,
) -> Sold:
    """Add an order line to the cohort of its event day, in place.

    ``late``: the cohort has begun to teach, or should have; ``full``: it has ``COHORT_LINES_MAX``
    lines. Such a line is not tracked, so a return of it is unmatched and neither is learned: no
    bias, less data.

    Parameters
    ----------
    units : at least 1
    ln_price : ln(P / P_ref) of the price paid
    ln_rival : ln(P_c / P) of the robust rival price at the order; None without one
    today : the clock's event day; None if the caller keeps orders of past days out by itself
    """
    if cohort.milestones_done > 0 or (today is not None and due(cohort, today)):
        return "late"
    sold, left, time_ms = cohort.lines.get(line_hash, (0, 0, event_time_ms % DAY_MS))
    if sold == 0 and len(cohort.lines) >= COHORT_LINES_MAX:
        return "full"
    weight = min(sold + units, LINE_UNITS_MAX) - min(sold, LINE_UNITS_MAX)
    cohort.lines[line_hash] = (sold + units, left + units, time_ms)
    cohort.sold += weight
    cohort.ln_price_sum += weight * ln_price
    cohort.units_left += units
    if ln_rival is not None:
        cohort.rival_sold += weight
        cohort.ln_rival_sum += weight * ln_rival
    return "tracked"


def give_back(
    cohort: ReturnCohort | None, line_hash: str, units: int, now_ms: int
) -> Matched | Unmatched:
    """Count returned units against their order line, in place.

    Without its order (``cohort`` None, or the line is not in it) a return is ``no_order``; dated
    more than a day before the order, ``before_order`` (less is a clock that differs); 60 days or
    more after the order it is ``expired``; where nothing is left of the line it is
    ``over_returned``. None of these is learned. More than is left is capped at what is left.
    """
    line = None if cohort is None else cohort.lines.get(line_hash)
    if cohort is None or line is None:
        return Unmatched(units, "no_order")
    sold, left, time_ms = line
    delay_days = (now_ms - cohort.day * DAY_MS - time_ms) / DAY_MS
    if delay_days < -EARLY_DAYS_MAX:
        return Unmatched(units, "before_order")
    if delay_days >= DELAY_DAYS[-1] or cohort.milestones_done == AGES:
        return Unmatched(units, "expired")
    if left == 0:
        return Unmatched(units, "over_returned")
    matched = min(units, left)
    delay_bin = sum([delay_days >= days for days in DELAY_DAYS])
    cohort.lines[line_hash] = (sold, left - matched, time_ms)
    cohort.units_left -= matched
    cohort.returned[max(delay_bin, cohort.milestones_done)] += _weight(sold, matched)
    return Matched(matched, units - matched)


def cancel(cohort: ReturnCohort | None, line_hash: str, units: int) -> Cancelled | None:
    """Take cancelled units out of their cohort, in place; None if the line is not known.

    A cancellation is no return: the units leave as if they had never been sold. What they taught
    as negatives before they left stays (cancellations come before delivery, so it is little).
    """
    line = None if cohort is None else cohort.lines.get(line_hash)
    if cohort is None or line is None or line[1] == 0:
        return None
    sold, left, time_ms = line
    units = min(units, left)
    removed = min(sold, LINE_UNITS_MAX) - min(sold - units, LINE_UNITS_MAX)
    kept = max(cohort.sold - removed, 0.0)
    share = kept / cohort.sold
    cohort.ln_price_sum *= share
    cohort.rival_sold *= share
    cohort.ln_rival_sum *= share
    cohort.sold = kept
    cohort.units_left -= units
    whole_line = units == sold
    if whole_line:
        del cohort.lines[line_hash]
    else:
        cohort.lines[line_hash] = (sold - units, left - units, time_ms)
    return Cancelled(units, cohort.day * DAY_MS + time_ms, whole_line)


def mean_ln_price(cohort: ReturnCohort) -> float:
    """ln(P / P_ref) paid, averaged over the cohort's weight; 0 (the reference) when empty."""
    return cohort.ln_price_sum / cohort.sold if cohort.sold > 0.0 else 0.0


def sale(cohort: ReturnCohort, category: str) -> Sale:
    """Circumstances of a cohort's sales, averaged; its rival is known if it was for most units."""
    ln_rival = None
    if cohort.rival_sold > 0.5 * cohort.sold:
        ln_rival = cohort.ln_rival_sum / cohort.rival_sold
    month = month_of_day(cohort.day)
    return Sale(category, cohort.segment, month, mean_ln_price(cohort), ln_rival)


def due(cohort: ReturnCohort, day: int) -> bool:
    """Whether the youngest unit has passed the next age by the start of event day ``day``."""
    done = cohort.milestones_done
    return done < AGES and day - cohort.day > DELAY_DAYS[done]


def ages_passed(elapsed_days: int) -> int:
    """How many ages a cohort's youngest unit has passed, whole event days after its own.

    >>> ages_passed(3), ages_passed(4), ages_passed(61)
    (0, 1, 5)
    """
    return bisect_left(DELAY_DAYS, elapsed_days)


def days_due(previous_day: int, day: int) -> list[int]:
    """Event days whose cohorts pass an age when the clock moves from one day to a later one.

    Rising. Cohorts of other days need not be looked at.

    >>> days_due(99, 100)
    [39, 69, 85, 92, 96]
    """
    passed = range(previous_day + 1, day + 1)
    return sorted({reached - age - 1: None for reached in passed for age in DELAY_DAYS})


def _weight(sold: int, units: int) -> float:
    return units * min(sold, LINE_UNITS_MAX) / sold
