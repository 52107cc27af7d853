"""Return rate of a sold unit: two pooled models, their average, and its calibration.

One logistic model in log odds (River, `models.returns.logistic`) and one product of factors
(`models.returns.return_factors`) of one tape partition learn the same lessons of
`models.returns.maturing`, at day ticks only. Their average in log odds is recalibrated on closed
cohorts. A product's own level and the curve that pricing gets stand in
`models.returns.return_curve`.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from river import base

from models.returns.logistic import (
    LEVEL,
    Posterior,
    PosteriorLogistic,
    WeightPrior,
    log_odds,
    sigmoid,
)
from models.returns.maturing import Floats, Kind, Lessons, Sales
from models.returns.return_delays import NO_DELAYS, delay_shares, learn_delays
from models.returns.return_factors import RATE_MAX, RATE_MIN, FactorRates
from models.returns.return_features import BIN, LN_PRICE_LIMIT, Sale, clip_ln
from models.returns.return_groups import BINS_MAX, bins, exact_sums, grouped, require_finite
from schemas.learned import ReturnPool

PRIOR_RATE = 0.1  # until returns are seen; a common order of size for general merchandise
PRIORS = {  # of log odds; a walk of 1e-4 a day is a sd of 0.19 a year
    LEVEL: WeightPrior(0.0, 0.5**2, 1e-4),
    "category": WeightPrior(0.0, 0.4**2, 2e-5),
    "segment": WeightPrior(0.0, 0.4**2, 2e-5),
    "month": WeightPrior(0.0, 0.2**2, 2e-5),
    "price": WeightPrior(0.0, 1.0, 1e-4),
    "price_category": WeightPrior(0.0, 0.3**2, 2e-5),
    "rival": WeightPrior(0.0, 0.5**2, 1e-4),
}
DENSE = (LEVEL, "price", "rival")
CALIBRATION_PRIORS = {
    LEVEL: WeightPrior(0.0, 0.1**2, 1e-5),
    "log_odds": WeightPrior(1.0, 0.1**2, 1e-5),  # stays above 0.6: the order of rates stays
}
CALIBRATION_DENSE = (LEVEL, "log_odds")
CALIBRATION_BIN = 0.2  # of log odds: closed cohorts of one are summed at their mean
FEATURES_MAX = 4096


class Slope(NamedTuple):
    """Posterior of d logit R / d ln P: its mean and sd, normal."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class ReturnSnapshot:
    """The pooled models as of a day tick; nothing changes it.

    ``weights`` and ``posterior``: of the logistic model. ``calibration``: (shift, slope) of log
    odds around ``intercept``. ``delay_shares``: share of returns that come by each age of
    ``DELAY_DAYS``.
    """

    intercept: float
    weights: Mapping[str, float]
    posterior: Posterior
    factors: FactorRates
    calibration: tuple[float, float]
    delay_shares: tuple[float, ...]
    _kinds: dict[Kind, tuple[float, float, float]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _bins: dict[tuple[str, int], float] = field(default_factory=dict, repr=False, compare=False)
    _at_reference: dict[tuple[Kind, float | None], tuple[float, float]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _slopes: dict[tuple[str | None, bool], Slope] = field(
        default_factory=dict, repr=False, compare=False
    )

    def logits(self, sale: Sale) -> tuple[float, float]:
        """Log odds by the logistic model and by the product of factors, each alone.

        An unseen category or segment is average.
        """
        category, segment, month, ln_price, ln_rival = sale
        kinds = self._kinds.get((category, segment, month))
        if kinds is None:  # the cohorts of a day share a few of them
            kinds = self._kinds[category, segment, month] = self._of_kinds(sale)
        logit, slope, product = kinds
        price = clip_ln(ln_price)
        logit += slope * price
        product *= self._of_bin("price", price)
        if ln_rival is not None:
            rival = clip_ln(ln_rival)
            logit += self.weights.get("rival", 0.0) * rival
            product *= self._of_bin("rival", rival)
        return logit, log_odds(min(max(product, RATE_MIN), RATE_MAX))

    def _of_bin(self, kind: str, clipped: float) -> float:
        """The factor of a clipped log price ratio's bin; a snapshot is asked for few, often."""
        place = kind, round(clipped / BIN)
        found = self._bins.get(place)
        if found is None:
            found = self._bins[place] = self.factors.value(f"{kind}={place[1]}")
        return found

    def average_logit(self, sale: Sale) -> float:
        """Log odds of the two models' average, before calibration."""
        logistic, factors = self.logits(sale)
        return 0.5 * (logistic + factors)

    def rate(self, sale: Sale) -> float:
        """Return rate, above 0 and below 1."""
        shift, slope = self.calibration
        return sigmoid(self.intercept + shift + slope * (self.average_logit(sale) - self.intercept))

    def rates(self, sales: Sales) -> Floats:
        """`rate` of each row.

        Raises
        ------
        ValueError : a log price ratio is not finite
        """
        shift, steepness = self.calibration
        average = self.average_logits(sales)
        calibrated = self.intercept + shift + steepness * (average - self.intercept)
        found: Floats = 1.0 / (1.0 + np.exp(-np.clip(calibrated, -30.0, 30.0)))
        return found

    def average_logits(self, sales: Sales) -> Floats:
        """`average_logit` of each row.

        Raises
        ------
        ValueError : a log price ratio is not finite
        """
        require_finite(sales)
        price, rival = sales.ln_price, sales.ln_rival
        logit, slope, product = self._of_each_kind(sales)
        price = np.clip(price, -LN_PRICE_LIMIT, LN_PRICE_LIMIT)
        logit = logit + slope * price
        product = product * self._factors_of_bins("price")[bins(price) + BINS_MAX]
        known = ~np.isnan(rival)
        if known.any():
            rival = np.clip(np.where(known, rival, 0.0), -LN_PRICE_LIMIT, LN_PRICE_LIMIT)
            logit = logit + self.weights.get("rival", 0.0) * rival
            factors = self._factors_of_bins("rival")[bins(rival) + BINS_MAX]
            product = product * np.where(known, factors, 1.0)
        product = np.clip(product, RATE_MIN, RATE_MAX)
        found: Floats = 0.5 * (logit + np.log(product / (1.0 - product)))
        return found

    def _of_each_kind(self, sales: Sales) -> tuple[Floats, Floats, Floats]:
        """Log odds at the reference price, slope in log price, and product of factors, by row."""
        found = []
        for kind in sales.kinds:
            known = self._kinds.get(kind)
            if known is None:
                known = self._kinds[kind] = self._of_kinds(Sale(*kind, 0.0))
            found.append(known)
        table = np.array(found, dtype=np.float64).reshape(-1, 3)[sales.kind]
        return table[:, 0], table[:, 1], table[:, 2]

    def _factors_of_bins(self, name: str) -> Floats:
        """The factors of all bins of a log price ratio, from the lowest."""
        numbers = range(-BINS_MAX, BINS_MAX + 1)
        return np.array([self.factors.value(f"{name}={number}") for number in numbers])

    def _of_kinds(self, sale: Sale) -> tuple[float, float, float]:
        """Log odds at the reference price, slope in log price, and product of factors."""
        names, weights = sale.kinds(), self.weights
        logit = self.intercept + fsum(weights.get(name, 0.0) for name in names)
        return logit, self.slope(sale.category, rival=False).mean, self.factors.product(names)

    def at_reference(self, kind: Kind, ln_rival: float | None) -> tuple[float, float]:
        """`rate` and `variance` of sales at the reference price; products of a kind share them."""
        found = self._at_reference.get((kind, ln_rival))
        if found is None:
            sale = Sale(*kind, 0.0, ln_rival)
            found = self._at_reference[kind, ln_rival] = self.rate(sale), self.variance(sale)
        return found

    def variance(self, sale: Sale) -> float:
        """Posterior variance of the log odds."""
        return self.posterior.variance(sale.row())

    def slope(self, category: str | None, *, rival: bool) -> Slope:
        """d logit R / d ln P where the rival, if there is one, keeps its price.

        The category's own part is pooled; without a category it is the average slope. A rival's
        ln(P_c / P) falls as P rises.
        """
        known = self._slopes.get((category, rival))
        if known is not None:
            return known
        along = {"price": 1.0}
        if category is not None:
            along[f"price_category={category}"] = 1.0
        if rival:
            along["rival"] = -1.0
        mean = fsum(self.weights.get(name, 0.0) * value for name, value in along.items())
        found = Slope(mean, self.posterior.variance(along) ** 0.5)
        self._slopes[category, rival] = found
        return found


class ReturnRateModel(base.Classifier):
    """Probability that a sold unit comes back.

    Rows have ``ln_price``, ln(P / P_ref), and may have ``category``, ``segment``, ``month`` and
    ``ln_rival``, ln(P_c / P). What is absent is of unknown kind: it has the average effect and
    teaches nothing about it. A row without ``ln_price`` is not learned, and is predicted at the
    reference price.

    Parameters
    ----------
    prior_rate
        Return rate before anything was learned, above 0 and below 1.

    Examples
    --------
    >>> model = ReturnRateModel(prior_rate=0.1)
    >>> row = {"category": "shoes", "segment": "all", "ln_price": 0.0}
    >>> for unit in range(200):
    ...     model.learn_one(row, unit % 10 < 3)
    >>> round(model.predict_proba_one(row)[True], 2)
    0.28
    """

    def __init__(self, prior_rate: float = PRIOR_RATE):
        if not 0.0 < prior_rate < 1.0:
            raise ValueError(f"prior_rate was {prior_rate}; expected above 0 and below 1")
        self.prior_rate = prior_rate
        self._intercept = log_odds(prior_rate)
        self._logistic = PosteriorLogistic(self._intercept, PRIORS, DENSE)
        self._factors = FactorRates(prior_rate)
        self._calibrator = PosteriorLogistic(self._intercept, CALIBRATION_PRIORS, CALIBRATION_DENSE)
        self._delays = list(NO_DELAYS)

    @classmethod
    def restore(cls, pool: ReturnPool) -> "ReturnRateModel":
        """Return the model whose `state` was ``pool``; its future is identical to the byte."""
        model = cls(pool.prior_rate)
        model._logistic.restore(pool.logistic)
        model._calibrator.restore(pool.calibration)
        model._factors = FactorRates(
            pool.prior_rate, {name: (came, due) for name, came, due in pool.factors}
        )
        model._delays = list(pool.delays)
        return model

    def state(self) -> ReturnPool:
        """Return all that the model remembers."""
        return ReturnPool(
            prior_rate=self.prior_rate,
            logistic=self._logistic.state(),
            factors=tuple((name, *pair) for name, pair in sorted(self._factors.counts.items())),
            calibration=self._calibrator.state(),
            delays=tuple(self._delays),
        )

    def learn_one(self, x: dict[Hashable, Any], y: bool | str | int, w: float = 1.0) -> None:
        """Learn ``w`` units of one row, returned (``y``) or not; a negative ``w`` retracts."""
        if "ln_price" in x:
            self._learn(_sale(x), w if y else 0.0, w)

    def predict_proba_one(
        self, x: dict[Hashable, Any], **kwargs: Any
    ) -> dict[bool | str | int, float]:
        """Return the probabilities of a return (True) and of none (False)."""
        rate = self.snapshot().rate(_sale(x))
        return {False: 1.0 - rate, True: rate}

    def learn_lessons(self, lessons: Lessons) -> None:
        """Learn what cohorts taught at one day tick, in an order that is their own.

        Lessons are summed by circumstances and bins of log prices, at their means: so the result
        depends neither on the order of the rows nor on how lessons were stored.
        """
        self._logistic.walk()
        self._calibrator.walk()
        for group in grouped(lessons.sales, lessons.positives, lessons.exposure):
            self._learn(*group)
        self._calibrate(lessons.of_closed())
        self._delays = learn_delays(self._delays, lessons.delays)

    def snapshot(self) -> ReturnSnapshot:
        """Copy what pricing needs, as of now."""
        learned = self._calibrator.means()
        return ReturnSnapshot(
            intercept=self._intercept,
            weights=self._logistic.means(),
            posterior=self._logistic.posterior(),
            factors=self._factors.copy(),
            calibration=(learned[LEVEL], learned["log_odds"]),
            delay_shares=delay_shares(self._delays),
        )

    def _learn(self, sale: Sale, positives: float, exposure: float) -> None:
        """Teach both models one group; beyond ``FEATURES_MAX`` no new feature is begun."""
        row, names = sale.row(), sale.factors()
        if len(self._logistic) + len(row) > FEATURES_MAX:
            row = {name: value for name, value in row.items() if name in self._logistic}
        if len(self._factors.counts) + len(names) > FEATURES_MAX:
            names = [name for name in names if name in self._factors.counts]
        self._logistic.learn(row, positives, exposure - positives)
        self._factors.learn(names, positives, exposure)

    def _calibrate(self, closed: Lessons) -> None:
        """Compare the average of today's models with what closed cohorts came to."""
        if not len(closed.exposure):
            return
        position = self.snapshot().average_logits(closed.sales) - self._intercept
        _, group = np.unique(np.rint(position / CALIBRATION_BIN), return_inverse=True)
        weight = closed.final_returned + closed.final_kept
        columns = (closed.final_returned, closed.final_kept, weight * position, weight)
        for returned, kept, weighted, total in zip(
            *(exact_sums(group, column).tolist() for column in columns), strict=True
        ):
            if total > 0.0:
                self._calibrator.learn({LEVEL: 1.0, "log_odds": weighted / total}, returned, kept)


def _sale(x: Mapping[Any, Any]) -> Sale:
    category, segment = x.get("category"), x.get("segment")
    month, rival = x.get("month"), x.get("ln_rival")
    return Sale(
        None if category is None else str(category),
        None if segment is None else str(segment),
        None if month is None else int(month),
        clip_ln(float(x.get("ln_price", 0.0))),
        None if rival is None else clip_ln(float(rival)),
    )
