"""Searches as a leading indicator: what they say of the next report's visits.

    ln(visits / average), next report = beta ln(searches / average), this report + noise

Pooled over a partition, read at the day tick, and used for as long as one report covers.
"""

import math

from models.demand.pooled import effect
from schemas.effects import SCALE, SearchEffect, Today
from schemas.state import Traffic

NOISE_VARIANCE = 0.05  # of ln visits between reports, beside counting noise
PRIOR_SD = 1.0
VISITS_MIN = 1.0  # a report in which fewer are typical teaches nothing
LOG_MAX = 2.0
AVERAGE_DAYS = 7.0
KEPT_PER_DAY = 1.0 - 1.0 / 365.0


def teach(today: Today, before: Traffic, visits: int, days: float) -> None:
    """Add one report's visits, given the searches of the report before, in place."""
    typical = before.average_per_day * days
    if before.searches_per_day is None or typical < VISITS_MIN:
        return
    z, y = before.search_log, log_ratio(visits, typical)
    weight = SCALE / (1.0 / typical + NOISE_VARIANCE)
    for number, part in enumerate((z * z, z * y, 1.0)):
        today.searches[number] += round(weight * part)


def log_ratio(counted: float, typical: float) -> float:
    """ln(counted / typical), half a count added to both, within sane limits.

    >>> log_ratio(7, 7.0)
    0.0
    """
    found = math.log((counted + 0.5) / (typical + 0.5))
    return min(max(found, -LOG_MAX), LOG_MAX)


def new_day(searches: SearchEffect, today: Today) -> None:
    """Read the reports of the days before, in place."""
    zz, zy, weight = (
        old * KEPT_PER_DAY + new / SCALE
        for old, new in zip(searches.evidence, today.searches, strict=True)
    )
    searches.evidence = (zz, zy, weight)
    variance = 1.0 / (zz + 1.0 / PRIOR_SD**2)
    searches.effect = effect(zy * variance, variance)


def log_factor(searches: SearchEffect, traffic: Traffic, horizon_days: float) -> float:
    """What the last searches add to the log of visits over the horizon."""
    if traffic.searches_per_day is None or searches.effect.used == 0.0:
        return 0.0
    share = min(traffic.report_days / horizon_days, 1.0)
    return math.log1p(share * math.expm1(searches.effect.used * traffic.search_log))
