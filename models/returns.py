"""Return rate: a pooled logistic model with delayed labels, and a correction for each product.

The pool is River's logistic regression (category, segment, ln P/P_ref) of one tape partition; it
learns at day ticks only, from the lessons of `models.cohorts`. A product's own level multiplies it
(Gamma-Poisson), and pricing gets ``R(P) = R_min + (R_max - R_min) sigmoid(a + b ln P/P_ref)``.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from math import fsum
from typing import Any, NamedTuple

from river import base, linear_model, optim
from river.utils import VectorDict

from models.cohorts import Lesson
from schemas.learned import DELAY_DAYS, ReturnLevel, ReturnPool

PRIOR_RATE = 0.1  # until returns are seen; a common order of size for general merchandise
PRIOR_RELATIVE_SD = 0.5
LEARNING_RATE = 0.002  # a memory of several thousand units: the noise of R stays near 5 %
START_FACTOR, START_UNITS = 20.0, 150.0  # steps begin 20 times as long and shorten like 1/units
STEP_WEIGHT_MAX = 0.2  # a gradient step carries at most this learning rate times units
PRICE_SCALE = 0.2  # ln(P/P_ref) in units of its usual sd, so the slope learns as fast as the level
PRICE_LIMIT = 5.0  # scaled; beyond e^1 of the reference price the slope is not trusted
SLOPE_MAX = 5.0
FEATURES_MAX = 4096
LN_PRICE_BIN = 0.05  # lessons are summed by bins of this width, at their mean price
DELAY_PRIOR_SHARES = (0.12, 0.22, 0.28, 0.26, 0.12)
DELAY_PRIOR_RETURNS = 20.0
DELAY_MEMORY_RETURNS = 5000.0
LEVEL_PRIOR_RETURNS = 6.0  # products of one category differ by a factor of about 1 +- 0.4
LEVEL_RATIO_MIN, LEVEL_RATIO_MAX = 0.25, 4.0
LEVEL_HALF_LIFE_DAYS = 180.0
SEGMENTS_MAX = 8
CURVE_EDGE = 1e-3  # R stays this share of the range away from its bounds
RETURN_RATE_MIN, RETURN_RATE_MAX = 0.0, 0.9


class ReturnCurve(NamedTuple):
    """``R(P) = r_min + (r_max - r_min) sigmoid(intercept + slope_log ln(P/P_ref))`` and its sd."""

    r_min: float
    r_max: float
    intercept: float
    slope_log: float
    sd: float

    def rate(self, ln_price: float) -> float:
        """Return rate at ln(P / P_ref)."""
        return self.r_min + (self.r_max - self.r_min) * _sigmoid(
            self.intercept + self.slope_log * ln_price
        )


class ReturnSnapshot(NamedTuple):
    """The pooled model as of a day tick; nothing changes it.

    ``slope``: d logit R / d ln(P/P_ref). ``effects``: feature -> (weight, units learned).
    ``category_mean``, ``segment_mean``: (weight, 0.0) of an unseen one, the average of the seen.
    ``delay_shares``: share of returns that come by each age of ``DELAY_DAYS``.
    """

    intercept: float
    slope: float
    effects: Mapping[str, tuple[float, float]]
    category_mean: tuple[float, float]
    segment_mean: tuple[float, float]
    delay_shares: tuple[float, ...]

    def logit(self, category: str, segment: str | None, ln_price: float) -> float:
        """Log odds of a return; ``segment`` None is a buyer of unknown segment."""
        weight, _ = self.effects.get(f"category={category}", self.category_mean)
        effect, _ = (
            self.segment_mean
            if segment is None
            else self.effects.get(f"segment={segment}", self.segment_mean)
        )
        scaled = min(max(ln_price / PRICE_SCALE, -PRICE_LIMIT), PRICE_LIMIT)
        return self.intercept + weight + effect + self.slope * PRICE_SCALE * scaled

    def rate(self, category: str, segment: str | None, ln_price: float) -> float:
        """Return rate, above 0 and below 1."""
        return _sigmoid(self.logit(category, segment, ln_price))


class ReturnRateModel(base.Classifier):
    """Probability that a sold unit comes back, by category, segment and log price.

    River's `LogisticRegression` with plain SGD: it answers before the first event with the prior
    rate, and a step costs `O(features of one row)`, about 2 microseconds. Its steps begin long and
    shorten to a constant, so a young shop learns fast and an old one still follows a drift.

    Rows are ``{"category": str, "segment": str, "ln_price": float}``. An absent category or segment
    is of unknown kind and gets the average effect. A row without ``ln_price`` is not learned, and
    is predicted at the reference price.

    Parameters
    ----------
    prior_rate
        Return rate before anything was learned, above 0 and below 1.
    learning_rate
        Size of a gradient step for one unit in the long run, no unit.

    Examples
    --------
    >>> model = ReturnRateModel(prior_rate=0.1)
    >>> row = {"category": "shoes", "segment": "all", "ln_price": 0.0}
    >>> for unit in range(200):
    ...     model.learn_one(row, unit % 10 < 3)
    >>> round(model.predict_proba_one(row)[True], 2)
    0.28
    """

    def __init__(self, prior_rate: float = PRIOR_RATE, learning_rate: float = LEARNING_RATE):
        if not 0.0 < prior_rate < 1.0:
            raise ValueError(f"prior_rate was {prior_rate}; expected above 0 and below 1")
        self.prior_rate = prior_rate
        self.learning_rate = learning_rate
        self._glm = linear_model.LogisticRegression(
            optimizer=optim.SGD(learning_rate),
            intercept_lr=learning_rate,
            intercept_init=_logit(prior_rate),
        )
        self._units: dict[str, float] = {}
        self._delays = _prior_delays()

    @classmethod
    def restore(cls, pool: ReturnPool) -> "ReturnRateModel":
        """Return the model whose `state` was ``pool``; its future is identical to the byte."""
        model = cls(pool.prior_rate, pool.learning_rate)
        model._glm.intercept = pool.intercept
        model._glm.optimizer.n_iterations = pool.iterations
        model._glm._weights = VectorDict({name: weight for name, weight, _ in pool.features})
        model._units = {name: units for name, _, units in pool.features}
        model._delays = [list(pair) for pair in pool.delays]
        return model

    def state(self) -> ReturnPool:
        """Return all that the model remembers."""
        weights = self._glm.weights
        return ReturnPool(
            prior_rate=self.prior_rate,
            learning_rate=self.learning_rate,
            intercept=self._glm.intercept,
            iterations=self._glm.optimizer.n_iterations,
            features=tuple(
                (name, weights.get(name, 0.0), units) for name, units in sorted(self._units.items())
            ),
            delays=tuple((came, before) for came, before in self._delays),
        )

    def learn_one(self, x: dict[Hashable, Any], y: bool | str | int, w: float = 1.0) -> None:
        """Learn ``w`` units of one row, returned (``y``) or not; a negative ``w`` retracts."""
        row = self._row(x)
        if row is not None:
            self._descend(row, w if y else 0.0, 0.0 if y else w)
            self._note(row, abs(w))

    def predict_proba_one(
        self, x: dict[Hashable, Any], **kwargs: Any
    ) -> dict[bool | str | int, float]:
        """Return the probabilities of a return (True) and of none (False)."""
        rate = self.snapshot().rate(
            str(x.get("category")), x.get("segment"), float(x.get("ln_price", 0.0))
        )
        return {False: 1.0 - rate, True: rate}

    def learn_lessons(self, lessons: Iterable[Lesson]) -> None:
        """Learn what cohorts taught at one day tick, in an order that is their own.

        Lessons are summed by category, segment and price bin at their mean price. Sums are exactly
        rounded (`math.fsum`) and groups sorted, so the result depends neither on the order of the
        argument nor on how lessons were stored.
        """
        groups: dict[tuple[str, str, int], list[Lesson]] = {}
        delays: list[tuple[int, float, float]] = []
        for lesson in lessons:
            key = (lesson.category, lesson.segment, round(lesson.ln_price / LN_PRICE_BIN))
            groups.setdefault(key, []).append(lesson)
            delays += lesson.delays
        for key in sorted(groups):
            self._learn_group(groups[key])
        for age, pair in enumerate(self._delays, start=1):
            pair[0] = fsum([pair[0], *(came for bin_, came, _ in delays if bin_ == age)])
            pair[1] = fsum([pair[1], *(before for bin_, _, before in delays if bin_ == age)])
            kept = min(1.0, DELAY_MEMORY_RETURNS / (pair[0] + pair[1]))
            pair[0] *= kept
            pair[1] *= kept

    def snapshot(self) -> ReturnSnapshot:
        """Copy what pricing needs, as of now."""
        weights = self._glm.weights
        effects = {
            name: (weights.get(name, 0.0), units) for name, units in sorted(self._units.items())
        }
        slope, _ = effects.get("ln_price", (0.0, 0.0))
        return ReturnSnapshot(
            intercept=self._glm.intercept,
            slope=min(max(slope / PRICE_SCALE, -SLOPE_MAX), SLOPE_MAX),
            effects=effects,
            category_mean=(_mean_effect(effects, "category="), 0.0),
            segment_mean=(_mean_effect(effects, "segment="), 0.0),
            delay_shares=_delay_shares(self._delays),
        )

    def _learn_group(self, group: list[Lesson]) -> None:
        positives = fsum(lesson.positives for lesson in group)
        negatives = fsum(lesson.negatives for lesson in group)
        sizes = [lesson.positives + abs(lesson.negatives) for lesson in group]
        total = fsum(sizes)
        if total <= 0.0:
            return
        ln_price = fsum(n * one.ln_price for n, one in zip(sizes, group, strict=True)) / total
        first = group[0]
        row = self._row(
            {"category": first.category, "segment": first.segment, "ln_price": ln_price}
        )
        if row is not None:
            self._descend(row, positives, negatives)
            self._note(row, max(positives + negatives, 0.0))

    def _row(self, x: Mapping[Any, Any]) -> dict[str, float] | None:
        if "ln_price" not in x:
            return None
        scaled = min(max(float(x["ln_price"]) / PRICE_SCALE, -PRICE_LIMIT), PRICE_LIMIT)
        if not math.isfinite(scaled):
            raise ValueError(f"ln_price was {x['ln_price']}; expected a finite number")
        row = {f"{name}={x[name]}": 1.0 for name in ("category", "segment") if name in x}
        row["ln_price"] = scaled
        if len(self._units) + len(row) > FEATURES_MAX:
            row = {name: value for name, value in row.items() if name in self._units}
        return row

    def _note(self, row: dict[str, float], units: float) -> None:
        for name in row:
            self._units[name] = self._units.get(name, 0.0) + units

    def _descend(self, row: dict[str, float], positives: float, negatives: float) -> None:
        """Take gradient steps of bounded weight, both labels in turn, so neither has the last."""
        seen = self._units.get("ln_price", 0.0)
        factor = max(START_FACTOR / (1.0 + seen / START_UNITS), 1.0)
        positives, negatives = positives * factor, negatives * factor
        size = self.learning_rate * (abs(positives) + abs(negatives))
        steps = max(math.ceil(size / STEP_WEIGHT_MAX), 1)
        for _ in range(steps):
            if positives:
                self._glm.learn_one(row, True, w=positives / steps)
            if negatives:
                self._glm.learn_one(row, False, w=negatives / steps)


def learn_level(level: ReturnLevel | None, lesson: Lesson, day: int) -> ReturnLevel:
    """Add one cohort's lesson to its product's level, after forgetting (half-life 180 days).

    At most ``SEGMENTS_MAX`` segments are kept; a further one is left out of the mix.
    """
    if level is None:
        level = ReturnLevel(expected_returns=0.0, returned_units=0.0, day=day)
    kept = 0.5 ** (max(day - level.day, 0) / LEVEL_HALF_LIFE_DAYS)
    segments = {name: units * kept for name, units in level.segments.items()}
    if lesson.first_sold > 0.0 and (lesson.segment in segments or len(segments) < SEGMENTS_MAX):
        segments[lesson.segment] = segments.get(lesson.segment, 0.0) + lesson.first_sold
    return ReturnLevel(
        expected_returns=max(level.expected_returns * kept + lesson.expected, 0.0),
        returned_units=level.returned_units * kept + lesson.positives,
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


def curve(
    snapshot: ReturnSnapshot,
    level: ReturnLevel | None,
    category: str,
    r_min: float = RETURN_RATE_MIN,
    r_max: float = RETURN_RATE_MAX,
) -> ReturnCurve:
    """Return rate of a product as a curve in ln(P / P_ref), for the objective.

    The pooled rate is averaged over the product's segments, multiplied by its level ratio, and
    bounded; the curve has that value at P_ref and the pooled d ln R / d ln P there. Its sd has
    three parts: the product's level, the category's sample, and the pool's last steps.

    Parameters
    ----------
    r_min, r_max : bounds of R, 0 <= r_min < r_max < 1

    Raises
    ------
    ValueError : the bounds are not in that order
    """
    if not 0.0 <= r_min < r_max < 1.0:
        raise ValueError(f"r_min, r_max were {r_min}, {r_max}; expected 0 <= r_min < r_max < 1")
    mix = sorted(level.segments.items()) if level is not None else []
    total = sum(units for _, units in mix)
    shares: list[tuple[str | None, float]] = (
        [(name, units / total) for name, units in mix] if total > 0.0 else [(None, 1.0)]
    )
    rates = [(snapshot.rate(category, segment, 0.0), share) for segment, share in shares]
    pooled = sum(rate * share for rate, share in rates)
    growth = snapshot.slope * sum(rate * (1.0 - rate) * share for rate, share in rates) / pooled
    span = r_max - r_min
    position = (pooled * level_ratio(level) - r_min) / span
    position = min(max(position, CURVE_EDGE), 1.0 - CURVE_EDGE)
    rate = r_min + span * position
    _, units = snapshot.effects.get(f"category={category}", snapshot.category_mean)
    returned = 0.0 if level is None else level.returned_units
    relative = (
        1.0 / (LEVEL_PRIOR_RETURNS + returned)
        + 1.0 / (PRIOR_RELATIVE_SD**-2 + units * pooled / (1.0 - pooled))
        + 1.5 * LEARNING_RATE
    )
    return ReturnCurve(
        r_min=r_min,
        r_max=r_max,
        intercept=_logit(position),
        slope_log=rate * growth / (span * position * (1.0 - position)),
        sd=min(rate * math.sqrt(relative), span),
    )


def _mean_effect(effects: Mapping[str, tuple[float, float]], kind: str) -> float:
    seen = [effect for name, effect in effects.items() if name.startswith(kind)]
    total = sum(units for _, units in seen)
    return sum(weight * units for weight, units in seen) / total if total > 0.0 else 0.0


def _prior_delays() -> list[list[float]]:
    before, pairs = 0.0, []
    for share in DELAY_PRIOR_SHARES:
        pairs.append([DELAY_PRIOR_RETURNS * share, DELAY_PRIOR_RETURNS * before])
        before += share
    return pairs[1:]


def _delay_shares(delays: list[list[float]]) -> tuple[float, ...]:
    """G(age) from the share of returns that came in a bin, of those that came up to it.

    Young cohorts can't have shown their late returns, so plain counts would lean to short delays.
    Source: S. W. Lagakos, L. M. Barraj, V. De Gruttola (1988), Biometrika 75, right truncation.
    """
    shares = [1.0]
    for came, before in reversed(delays):
        shares.append(shares[-1] * before / (came + before))
    return tuple(reversed(shares))


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))


def _logit(rate: float) -> float:
    return math.log(rate / (1.0 - rate))


assert len(DELAY_PRIOR_SHARES) == len(DELAY_DAYS)
assert math.isclose(sum(DELAY_PRIOR_SHARES), 1.0)
