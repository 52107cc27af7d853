"""A product's own return level, and its return rate as the curve that pricing gets."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from models.returns.logistic import log_odds, sigmoid
from models.returns.return_features import Sale
from models.returns.returns import ReturnSnapshot, Slope
from schemas.learned import ReturnLevel

LEVEL_PRIOR_RETURNS = 12.0  # products of one category differ by a factor of about 1 +- 0.3
LEVEL_RATIO_MIN, LEVEL_RATIO_MAX = 0.25, 4.0
LEVEL_HALF_LIFE_DAYS = 180.0
SEGMENTS_MAX = 8
CURVE_EDGE = 1e-3  # R stays this share of the range away from its bounds
SLOPE_MAX = 5.0
RETURN_RATE_MIN, RETURN_RATE_MAX = 0.0, 0.9


class ReturnCurve(NamedTuple):
    """``R(P) = r_min + (r_max - r_min) sigmoid(intercept + slope_log ln(P/P_ref))`` and its sd.

    ``slope`` is what is believed of d logit R / d ln P; ``slope_log`` has it shrunk.
    """

    r_min: float
    r_max: float
    intercept: float
    slope_log: float
    sd: float
    slope: Slope

    def rate(self, ln_price: float) -> float:
        """Return rate at ln(P / P_ref)."""
        return self.r_min + (self.r_max - self.r_min) * sigmoid(
            self.intercept + self.slope_log * ln_price
        )


def shrunk(slope: Slope) -> float:
    """The slope that may move prices: its mean times ``mean^2 / (mean^2 + sd^2)``, within +-5.

    A slope as large as its sd counts half; one that is not known moves nothing.

    >>> shrunk(Slope(1.0, 1.0)), shrunk(Slope(0.0, 1.0))
    (0.5, 0.0)
    """
    square = slope.mean * slope.mean
    if square == 0.0:
        return 0.0
    found = slope.mean * square / (square + slope.sd * slope.sd)
    return min(max(found, -SLOPE_MAX), SLOPE_MAX)


def probability_positive(slope: Slope) -> float:
    """P(a dearer price brings more returns): that the slope is above 0."""
    return 0.5 * math.erfc(-slope.mean / (slope.sd * math.sqrt(2.0)))


def learn_level(
    level: ReturnLevel | None,
    day: int,
    expected: float,
    returned: float,
    sold: Mapping[str, float] | None = None,
) -> ReturnLevel:
    """Add what a product's cohorts taught on one day to its level, after forgetting.

    The half-life is 180 days. At most ``SEGMENTS_MAX`` segments are kept; a further one is left out
    of the mix.

    Parameters
    ----------
    expected, returned : returns that the pool expected of what taught, and those that came, units
    sold : units that taught for the first time, by segment
    """
    if level is None:
        level = ReturnLevel(expected_returns=0.0, returned_units=0.0, day=day)
    kept, segments = 1.0, level.segments
    if day > level.day:
        kept = 0.5 ** ((day - level.day) / LEVEL_HALF_LIFE_DAYS)
        segments = {name: units * kept for name, units in segments.items()}
    if sold:
        segments = dict(segments)
        for name, units in sold.items():
            if units > 0.0 and (name in segments or len(segments) < SEGMENTS_MAX):
                segments[name] = segments.get(name, 0.0) + units
    return ReturnLevel(
        expected_returns=max(level.expected_returns * kept + expected, 0.0),
        returned_units=level.returned_units * kept + returned,
        day=max(day, level.day),
        segments=segments,
    )


def level_ratio(level: ReturnLevel | None) -> float:
    """A product's returns over the pool's expectation, shrunk to 1, within 0.25 to 4."""
    if level is None:
        return 1.0
    ratio = (LEVEL_PRIOR_RETURNS + level.returned_units) / (
        LEVEL_PRIOR_RETURNS + level.expected_returns
    )
    return min(max(ratio, LEVEL_RATIO_MIN), LEVEL_RATIO_MAX)


def product_rate(snapshot: ReturnSnapshot, level: ReturnLevel | None, sale: Sale) -> float:
    """Return rate of one product's sale: the pool's times the product's level, below 1."""
    return min(snapshot.rate(sale) * level_ratio(level), 1.0 - CURVE_EDGE)


def curve(
    snapshot: ReturnSnapshot,
    level: ReturnLevel | None,
    category: str,
    *,
    month: int | None = None,
    ln_rival: float | None = None,
    r_min: float = RETURN_RATE_MIN,
    r_max: float = RETURN_RATE_MAX,
    segment: str | None = None,
) -> ReturnCurve:
    """Return rate of a product as a curve in ln(P / P_ref), for the objective.

    The pooled rate is averaged over the product's segments, multiplied by its level ratio, and
    bounded; the curve has that value at P_ref and the logistic model's shrunk slope there. The
    rival keeps its price. Its sd has two parts: the product's level and the pool's weights.

    Parameters
    ----------
    month : of the decision, 1 to 12
    ln_rival : ln(P_c / P_ref)
    r_min, r_max : bounds of R, 0 <= r_min < r_max < 1
    segment : the curve of its customers alone; None: of all as they are mixed

    Raises
    ------
    ValueError : the bounds are not in that order
    """
    if not 0.0 <= r_min < r_max < 1.0:
        raise ValueError(f"r_min, r_max were {r_min}, {r_max}; expected 0 <= r_min < r_max < 1")
    mix = sorted(level.segments.items()) if level is not None else []
    if segment is not None:
        mix = [(segment, 1.0)]
    total = sum([units for _, units in mix], 0.0)
    shares: list[tuple[str | None, float]] = (
        [(name, units / total) for name, units in mix] if total > 0.0 else [(None, 1.0)]
    )
    slope = snapshot.slope(category, rival=ln_rival is not None)
    known = shrunk(slope)
    pooled = growth = variance = 0.0
    for segment, share in shares:
        rate, doubt = snapshot.at_reference((category, segment, month), ln_rival)
        pooled += share * rate
        growth += share * rate * (1.0 - rate) * known
        variance += share * (1.0 - rate) ** 2 * doubt
    span = r_max - r_min
    position = (pooled * level_ratio(level) - r_min) / span
    position = min(max(position, CURVE_EDGE), 1.0 - CURVE_EDGE)
    rate = r_min + span * position
    returned = 0.0 if level is None else level.returned_units
    relative = 1.0 / (LEVEL_PRIOR_RETURNS + returned) + variance
    return ReturnCurve(
        r_min=r_min,
        r_max=r_max,
        intercept=log_odds(position),
        slope_log=rate * growth / pooled / (span * position * (1.0 - position)),
        sd=min(rate * math.sqrt(relative), span),
        slope=slope,
    )
