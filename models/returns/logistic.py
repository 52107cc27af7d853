"""Logistic regression with a normal posterior, stepping along its covariance.

This is the arithmetic of River's `LogisticRegression` with an optimizer that steps along ``V x /
(1 + J x'Vx)`` instead of a constant rate, V the weights' posterior covariance and J the information
of the step: the extended Kalman filter of a logistic regression. It is written out, because a day
tick learns hundreds of rows; a test holds it to River's. A few named weights have a full
covariance, all others a variance each, since a catalogue has hundreds of categories. Weights are
pooled partially: each starts at its kind's prior.

Source: T. Graepel, J. Quinonero Candela, T. Borchert, R. Herbrich (2010), Web-scale Bayesian
click-through rate prediction, ICML, for the factorised posterior of weights seen in a stream.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from schemas.learned import LogisticWeights

LEVEL = "level"  # the feature that every row has, with value 1
STEP_INFORMATION = 0.2  # a step is taken for at most this much of x'Vx J, so a curve is followed
SIGMOID_SLOPE_MAX = 0.25
MEAN_LIMIT_SDS = 4.0  # no weight leaves its prior by more sds: garbage is forgotten again


class WeightPrior(NamedTuple):
    """A kind of weight before it is learned; it may wander by ``walk_variance`` a day."""

    mean: float
    variance: float
    walk_variance: float


class PosteriorLogistic:
    """Weights of a logistic regression with their posterior.

    Features are named ``kind`` or ``kind=value``; every row has ``LEVEL``.

    Parameters
    ----------
    intercept : log odds of a row without any other feature, fixed
    priors : by kind
    dense : names whose covariances are kept; all have a prior
    """

    def __init__(
        self, intercept: float, priors: Mapping[str, WeightPrior], dense: tuple[str, ...]
    ) -> None:
        self._intercept, self._priors, self._dense = intercept, priors, dense
        self._means = {name: priors[name].mean for name in dense}
        self._variances = {name: priors[name].variance for name in dense}
        self._cross = dict.fromkeys(_pairs(dense), 0.0)
        self._known_limits: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._variances)

    def __contains__(self, name: str) -> bool:
        return name in self._variances

    def restore(self, stored: LogisticWeights) -> None:
        """Take over what `state` gave; the future is identical to the byte."""
        self._means = {name: mean for name, mean, _ in stored.weights}
        self._variances = {name: variance for name, _, variance in stored.weights}
        self._cross = dict(zip(_pairs(self._dense), stored.cross, strict=True))

    def state(self) -> LogisticWeights:
        """Return all that is remembered, by name."""
        means = self._means
        return LogisticWeights(
            weights=tuple(
                (name, means[name], variance) for name, variance in sorted(self._variances.items())
            ),
            cross=tuple(self._cross.values()),
        )

    def means(self) -> dict[str, float]:
        """A copy of the weights."""
        return dict(self._means)

    def posterior(self) -> "Posterior":
        """A copy of the covariance, as of now."""
        return Posterior(dict(self._variances), dict(self._cross), self._priors)

    def walk(self) -> None:
        """Let a day pass: what is known wears off, up to the prior's doubt."""
        for name, variance in self._variances.items():
            prior = self._prior(name)
            if variance < prior.variance:
                self._variances[name] = min(variance + prior.walk_variance, prior.variance)

    def learn(self, row: Mapping[str, float], positives: float, negatives: float) -> None:
        """Learn weighted labels of one row; negative weights retract.

        Large weights are taken in shares, so that no step outruns what the posterior allows. In a
        share both labels are learned in turn, and neither long has the last word.
        """
        for name in row:
            if name not in self._variances:
                prior = self._prior(name)
                self._variances[name], self._means[name] = prior.variance, prior.mean
        weight, left = abs(positives) + abs(negatives), 1.0
        while weight > 0.0 and left > 0.0:
            along = self._along(row)
            spread, logit = 0.0, self._intercept
            for name, value in row.items():
                spread += value * along[name]
                logit += value * self._means[name]
            outrun = spread * weight * SIGMOID_SLOPE_MAX * left / STEP_INFORMATION
            share = left / outrun if outrun > 1.0 else left
            rate = sigmoid(logit)
            information = max(positives + negatives, 0.0) * share * rate * (1.0 - rate)
            gain = 1.0 / (1.0 + information * spread)
            step = gain * share * (1.0 - rate) * positives
            step -= gain * share * sigmoid(logit + spread * step) * negatives
            self._move(row, along, step, information * gain)
            left -= share

    def _along(self, row: Mapping[str, float]) -> dict[str, float]:
        """V x: what a unit of evidence on this row says of each weight."""
        variances = self._variances
        along = {name: variances[name] * value for name, value in row.items()}
        for (first, second), covariance in self._cross.items():
            if covariance and (first in row or second in row):
                along[first] = along.get(first, 0.0) + covariance * row.get(second, 0.0)
                along[second] = along.get(second, 0.0) + covariance * row.get(first, 0.0)
        return along

    def _move(
        self, row: Mapping[str, float], along: Mapping[str, float], step: float, factor: float
    ) -> None:
        """Move the weights of a row, and condition on it. A weight that is not in it is considered,
        not learned: its variance stays and only its covariances follow (S. F. Schmidt, 1966)."""
        means, variances, cross = self._means, self._variances, self._cross
        for name in row:
            length = along[name]
            variances[name] -= length * length * factor
            middle, far = self._known_limits.get(name) or self._limits(name)
            mean = means[name] + length * step
            outside = not -far <= mean - middle <= far
            means[name] = middle + math.copysign(far, mean - middle) if outside else mean
        for first, second in cross:
            if (first in row or second in row) and first in along and second in along:
                cross[first, second] -= along[first] * along[second] * factor

    def _limits(self, name: str) -> tuple[float, float]:
        """A weight's prior mean, and how far it may go from there."""
        prior = self._prior(name)
        found = prior.mean, MEAN_LIMIT_SDS * math.sqrt(prior.variance)
        self._known_limits[name] = found
        return found

    def _prior(self, name: str) -> WeightPrior:
        return self._priors[name.partition("=")[0]]


class Posterior(NamedTuple):
    """The covariance of the weights as of a moment; an unseen weight has its prior's variance."""

    variances: Mapping[str, float]
    cross: Mapping[tuple[str, str], float]
    priors: Mapping[str, WeightPrior]

    def variance(self, row: Mapping[str, float]) -> float:
        """Variance of the log odds of a row, or of any sum of weights."""
        total = 0.0
        for name, value in row.items():
            known = self.variances.get(name)
            if known is None:
                known = self.priors[name.partition("=")[0]].variance
            total += known * value * value
        for (first, second), covariance in self.cross.items():
            total += 2.0 * covariance * row.get(first, 0.0) * row.get(second, 0.0)
        return max(total, 0.0)


def sigmoid(logit: float) -> float:
    """Probability of log odds; strictly between 0 and 1."""
    return 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))


def log_odds(rate: float) -> float:
    """Log odds of a probability strictly between 0 and 1."""
    return math.log(rate / (1.0 - rate))


def _pairs(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
