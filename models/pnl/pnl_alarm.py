"""Drift alarm of P&L explain: days' orders against what the belief of LAG_DAYS before expects.

A belief follows a break by its random walk and so hides it; one of three weeks ago does not. Two
CUSUMs of log-likelihood ratios (negative binomial) run for demand that is lower or higher by a
documented ratio. The old belief's error is no independent noise but the same on every day, so both
hypotheses lie DOUBT_SDS of it towards the alternative. A sum of products is watched in the same
way.

Source: E. S. Page (1954), Continuous inspection schemes, Biometrika 41; G. Lorden (1971),
Procedures for reacting to a change in distribution, Ann. Math. Statist. 42.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

LAG_DAYS = 21  # whole weeks, so that weekdays meet weekdays
RATIOS = (("down", math.log(0.6)), ("up", math.log(1.6)))
DOUBT_SDS = 1.0
DOUBT_SD_MIN = 0.05  # of log demand: what no belief knows, such as effects that products share
DAY_NATS_MAX = 3.0  # that one day counts at most: a single outlier is no drift
ALARM_DAYS = 1000  # between false alarms of one product

Direction = Literal["down", "up"]


class Watched(Struct, frozen=True, kw_only=True):
    """A day's orders against a belief that can't know them; ``doubt_sd`` is of log demand."""

    orders: int
    expected: float
    dispersion: float
    doubt_sd: float


class Sums(NamedTuple):
    """Evidence for less and for more demand, nats; never below 0."""

    down: float = 0.0
    up: float = 0.0


def limit_nats(alarm_days: float) -> float:
    """Evidence above which the alarm fires: each of two CUSUMs fires at most e^-h a day (Lorden).

    >>> round(limit_nats(1000), 2)
    7.6
    """
    return math.log(2.0 * alarm_days)


def watch(sums: Sums, day: Watched, limit: float) -> tuple[Sums, Direction | None]:
    """Take in one day; the sums afterwards, at rest if the alarm fires, and which way.

    >>> half = Watched(orders=5, expected=10.0, dispersion=0.02, doubt_sd=0.1)
    >>> sums, fired, days = Sums(), None, 0
    >>> while fired is None:
    ...     sums, fired = watch(sums, half, limit_nats(1000))
    ...     days += 1
    >>> (days, fired, sums)
    (9, 'down', Sums(down=0.0, up=0.0))
    """
    if day.expected <= 0.0:
        return sums, None
    found = Sums(
        *(
            max(0.0, total + _evidence(day, ratio))
            for total, (_, ratio) in zip(sums, RATIOS, strict=True)
        )
    )
    if max(found) <= limit:
        return found, None
    return Sums(), "down" if found.down >= found.up else "up"


def _evidence(day: Watched, ln_ratio: float) -> float:
    doubt = DOUBT_SDS * max(day.doubt_sd, DOUBT_SD_MIN)
    mean = day.expected * math.exp(math.copysign(doubt, ln_ratio))
    if day.dispersion <= 0.0:
        nats = day.orders * ln_ratio - mean * math.expm1(ln_ratio)
    else:
        spread = day.dispersion * mean
        change = math.log1p(spread * math.exp(ln_ratio)) - math.log1p(spread)
        nats = day.orders * ln_ratio - (day.orders + 1.0 / day.dispersion) * change
    return min(nats, DAY_NATS_MAX)


def summed(days: Sequence[Watched]) -> Watched:
    """Products of one day as one: their counts and doubts are independent of each other.

    >>> one = Watched(orders=2, expected=3.0, dispersion=0.2, doubt_sd=0.2)
    >>> summed([one, one])
    Watched(orders=4, expected=6.0, dispersion=0.1, doubt_sd=0.1414213562373095)
    """
    mean = math.fsum(day.expected for day in days)
    spread = math.fsum(day.dispersion * day.expected**2 for day in days)
    doubt = math.fsum((day.doubt_sd * day.expected) ** 2 for day in days)
    return Watched(
        orders=sum(day.orders for day in days),
        expected=mean,
        dispersion=spread / mean**2 if mean > 0.0 else 0.0,
        doubt_sd=math.sqrt(doubt) / mean if mean > 0.0 else 0.0,
    )
