"""Logistic regression with a normal posterior: River's model, stepping along its covariance.

River's `LogisticRegression` holds the weights, predicts and differentiates; its optimizer is ours:
a step goes along ``V x / (1 + J x'Vx)`` instead of a constant rate, V the weights' posterior
covariance and J the information of the step. That is the extended Kalman filter of a logistic
regression. A few named weights have a full covariance, all others a variance each, since a
catalogue has hundreds of categories. Weights are pooled partially: each starts at its kind's prior.

Source: T. Graepel, J. Quinonero Candela, T. Borchert, R. Herbrich (2010), Web-scale Bayesian
click-through rate prediction, ICML, for the factorised posterior of weights seen in a stream.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from river import linear_model, optim
from river.utils import VectorDict

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


class PosteriorStep(optim.base.Optimizer):
    """Moves each weight by ``direction[name]`` times the derivative of the loss."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.direction: dict[str, float] = {}

    def _step_with_dict(self, w: Any, g: Any) -> Any:
        derivative = g[LEVEL]
        for name, length in self.direction.items():
            w[name] -= length * derivative
        return w


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
        self._priors, self._dense = priors, dense
        self._step = PosteriorStep()
        self._glm = linear_model.LogisticRegression(
            optimizer=self._step, intercept_init=intercept, intercept_lr=0.0
        )
        self._glm._weights = VectorDict({name: priors[name].mean for name in dense})
        self._variances = {name: priors[name].variance for name in dense}
        self._cross = dict.fromkeys(_pairs(dense), 0.0)
        self._known_limits: dict[str, tuple[str, float, float]] = {}

    def __len__(self) -> int:
        return len(self._variances)

    def __contains__(self, name: str) -> bool:
        return name in self._variances

    def restore(self, stored: LogisticWeights) -> None:
        """Take over what `state` gave; the future is identical to the byte."""
        self._glm._weights = VectorDict({name: mean for name, mean, _ in stored.weights})
        self._variances = {name: variance for name, _, variance in stored.weights}
        self._cross = dict(zip(_pairs(self._dense), stored.cross, strict=True))

    def state(self) -> LogisticWeights:
        """Return all that is remembered, by name."""
        means = self._glm.weights
        return LogisticWeights(
            weights=tuple(
                (name, means[name], variance) for name, variance in sorted(self._variances.items())
            ),
            cross=tuple(self._cross.values()),
        )

    def means(self) -> dict[str, float]:
        """A copy of the weights."""
        return dict(self._glm.weights)

    def posterior(self) -> "Posterior":
        """A copy of the covariance, as of now."""
        return Posterior(dict(self._variances), dict(self._cross), self._priors)

    def walk(self) -> None:
        """Let a day pass: what is known wears off, up to the prior's doubt."""
        for name, variance in self._variances.items():
            prior = self._prior(name)
            if variance < prior.variance:
                self._variances[name] = min(variance + prior.walk_variance, prior.variance)

    def learn(self, row: dict[str, float], positives: float, negatives: float) -> None:
        """Learn weighted labels of one row; negative weights retract.

        Large weights are taken in shares, so that no step outruns what the posterior allows. In a
        share both labels are learned in turn, and neither long has the last word.
        """
        for name in row:
            if name not in self._variances:
                prior = self._prior(name)
                self._variances[name] = prior.variance
                self._glm._weights[name] = prior.mean
        limits = [self._limits(name) for name in row]
        weight, left = abs(positives) + abs(negatives), 1.0
        while weight > 0.0 and left > 0.0:
            along = self._along(row)
            spread = sum([value * along[name] for name, value in row.items()])
            outrun = spread * weight * SIGMOID_SLOPE_MAX * left / STEP_INFORMATION
            share = left / outrun if outrun > 1.0 else left
            rate = sigmoid(self._glm._raw_dot_one(row))
            information = max(positives + negatives, 0.0) * share * rate * (1.0 - rate)
            gain = 1.0 / (1.0 + information * spread)
            self._step.direction = {name: along[name] * gain for name in row}
            if positives:
                self._glm.learn_one(row, True, w=positives * share)
            if negatives:
                self._glm.learn_one(row, False, w=negatives * share)
            self._limit(limits)
            self._narrow(row, along, information * gain)
            left -= share

    def _limits(self, name: str) -> tuple[str, float, float]:
        """A weight, its prior mean, and how far it may go from there."""
        found = self._known_limits.get(name)
        if found is None:
            prior = self._prior(name)
            far = MEAN_LIMIT_SDS * math.sqrt(prior.variance)
            found = self._known_limits[name] = name, prior.mean, far
        return found

    def _limit(self, limits: list[tuple[str, float, float]]) -> None:
        weights = self._glm._weights
        for name, mean, far in limits:
            moved = weights[name] - mean
            if abs(moved) > far:
                weights[name] = mean + math.copysign(far, moved)

    def _along(self, row: Mapping[str, float]) -> dict[str, float]:
        """V x: what a unit of evidence on this row says of each weight."""
        along = {name: self._variances[name] * value for name, value in row.items()}
        for (first, second), covariance in self._cross.items():
            if covariance and (first in row or second in row):
                along[first] = along.get(first, 0.0) + covariance * row.get(second, 0.0)
                along[second] = along.get(second, 0.0) + covariance * row.get(first, 0.0)
        return along

    def _narrow(self, row: Mapping[str, float], along: Mapping[str, float], factor: float) -> None:
        """Condition on the row. A weight that is not in it is considered, not learned: its
        variance stays and only its covariances follow (S. F. Schmidt, 1966)."""
        for name in row:
            self._variances[name] -= along[name] * along[name] * factor
        for first, second in self._cross:
            if (first in row or second in row) and first in along and second in along:
                self._cross[first, second] -= along[first] * along[second] * factor

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
