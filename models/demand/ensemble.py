"""Combining forecasts of counts: equal weights, votes by predictive likelihood, and a watch.

Every member forecasts ln of the mean; its count is negative binomial around it. How far its means
lie from the counts (a factor), and the dispersion around them, are learned for each member from
what it has missed so far. The pool is the mixture of the members' distributions. A step's votes are

    ln w <- ln w + sum over rows of ln p(n),   w <- (1 - share) w + share / members

The second half is Herbster's and Warmuth's fixed share: no weight is lost for ever. A member that
diverges is taken out of the pool, watched, and let in again when it forecasts well enough.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class EnsembleSettings(NamedTuple):
    """Constants of the pool.

    ``share``: of all weight, spread evenly at each step;
    ``memory_steps`` of the rolling loss and of the calibration; ``loss_limit``: nats a row above
    the best member's rolling loss at which a member diverges; ``ratio_max``: a forecast further
    from the product's own rate than this factor is unusable; ``steps_min`` before the loss counts;
    ``clean_steps``: in a row, each within half the limit of the best, that let a member in again.
    """

    share: float = 0.02
    memory_steps: float = 8.0
    loss_limit: float = 0.5
    ratio_max: float = 1000.0
    steps_min: int = 4
    clean_steps: int = 6


DEFAULT_SETTINGS = EnsembleSettings()
LOSS_MAX = 20.0  # of one row, nats
FACTOR_MAX = 3.0  # that calibration corrects a member's mean by, at most
DISPERSIONS = np.geomspace(0.01, 5.0, 10)  # tried for each member
DISPERSION_START, START_WEIGHT = 0.5, 5.0
# at first each dispersion's distance from a wide start
START_LIKELIHOOD = -START_WEIGHT * np.log(DISPERSIONS / DISPERSION_START) ** 2
CALIBRATION_MEMORY = 8.0  # as a multiple of the pool's; one step's while suspended
FORGET_LOSS = 5.0  # nats a row above the best: no calibration explains that
CALIBRATION_ORDERS = 50.0  # of prior weight


class Alert(NamedTuple):
    """A member left the pool, or came back."""

    step: int
    member: int
    event: str  # "suspended" or "readmitted"
    reason: str


class Step(NamedTuple):
    """One step's scores, natural logs: by member [member, row], and of the pools [row].

    ``average`` pools all members equally, diverged ones too: what a plain average would have done.
    ``weights`` [member] are those that the step was forecast with; 0 where suspended.
    """

    members: Floats
    average: Floats
    weighted: Floats
    weights: Floats
    ln_mean: Floats  # [row] of the weighted pool


class Pool:
    """The weights of one cluster's members, step by step.

    Parameters
    ----------
    count : of members
    settings : constants
    """

    def __init__(self, count: int, settings: EnsembleSettings = DEFAULT_SETTINGS) -> None:
        self._settings = settings
        self.log_weights: Floats = np.full(count, -np.log(count))
        self.suspended: Bools = np.zeros(count, dtype=np.bool_)
        self.alerts: list[Alert] = []
        self._loss = np.zeros(count)  # rolling, nats a row
        self._clean = np.zeros(count, dtype=np.int64)
        self._steps = 0
        self._counted = np.full(count, CALIBRATION_ORDERS)  # orders, and those expected
        self._expected = np.full(count, CALIBRATION_ORDERS)
        self._likelihood = np.tile(START_LIKELIHOOD, (count, 1))  # ln P so far, with forgetting

    @property
    def weights(self) -> Floats:
        """Each member's part of the pool [member], 0 where suspended."""
        alive = ~self.suspended if not self.suspended.all() else np.ones_like(self.suspended)
        logs = np.where(alive, self.log_weights, -np.inf)
        return np.asarray(np.exp(logs - special.logsumexp(logs)))

    @property
    def dispersion(self) -> Floats:
        """Dispersion of the counts around each member's means [member]: the likeliest so far."""
        return np.asarray(DISPERSIONS[self._likelihood.argmax(axis=1)])

    def step(
        self, ln_rate: Floats, ln_usual: Floats, exposure_days: Floats, orders: Floats
    ) -> Step:
        """Score one step's rows, then learn from them.

        Parameters
        ----------
        ln_rate : [member, row] forecast ln(orders per day); NaN and infinity are caught
        ln_usual : [row] ln of the products' own rates, for the plausibility of forecasts
        exposure_days, orders : [row] days above 0, counts
        """
        limit = np.log(self._settings.ratio_max)
        usable = np.abs(ln_rate - ln_usual) <= limit  # NaN is not
        factor = np.clip(self._counted / self._expected, 1.0 / FACTOR_MAX, FACTOR_MAX)
        safe = np.where(usable, ln_rate, ln_usual)
        ln_mean = safe + np.log(exposure_days) + np.log(factor)[:, None]
        logs = _log_probability(orders, np.exp(ln_mean), self.dispersion[:, None])
        logs = np.where(usable, np.maximum(logs, -LOSS_MAX), -LOSS_MAX)
        weights = self.weights
        # what can't be used has no part in a mean, even before its member is suspended
        parts = weights[:, None] * usable
        parts = parts / np.maximum(parts.sum(axis=0), 1e-300)
        with np.errstate(divide="ignore"):
            weighted = special.logsumexp(logs, axis=0, b=weights[:, None])
        scores = Step(
            members=logs,
            average=np.asarray(special.logsumexp(logs, axis=0) - np.log(len(logs))),
            weighted=np.maximum(weighted, -LOSS_MAX),
            weights=weights,
            ln_mean=np.log(np.maximum((parts * np.exp(ln_mean)).sum(axis=0), 1e-300)),
        )
        self._calibrate(np.exp(ln_mean), factor, usable, orders)
        self._vote(logs)
        self._watch(logs, usable)
        self._steps += 1
        return scores

    def _vote(self, logs: Floats) -> None:
        raised = self.log_weights + logs.sum(axis=1)
        raised = raised - special.logsumexp(raised)
        share = self._settings.share
        even = np.log(share / len(raised))
        self.log_weights = np.logaddexp(np.log1p(-share) + raised, even)

    def _watch(self, logs: Floats, usable: Bools) -> None:
        settings = self._settings
        loss = -logs.mean(axis=1)
        fresh = 1.0 / settings.memory_steps if self._steps else 1.0
        self._loss = self._loss + fresh * (loss - self._loss)
        valid: Bools = np.asarray(usable.all(axis=1))
        inside = ~self.suspended & valid
        usual = self._loss[inside].min() if inside.any() else self._loss.min()
        best = loss[inside].min() if inside.any() else loss.min()
        for member in range(len(loss)):
            if not self.suspended[member]:
                late = self._steps >= settings.steps_min
                lost = late and self._loss[member] - usual > settings.loss_limit
                if lost or not valid[member]:
                    reason = "loss" if valid[member] else "unusable forecast"
                    self.suspended[member] = True
                    self._clean[member] = 0
                    self._forget(member)
                    self.alerts.append(Alert(self._steps, member, "suspended", reason))
                continue
            excess = loss[member] - best
            if not valid[member] or excess > FORGET_LOSS:
                self._forget(member)
            good = valid[member] and excess <= 0.5 * settings.loss_limit
            self._clean[member] = self._clean[member] + 1 if good else 0
            if self._clean[member] >= settings.clean_steps:
                self.suspended[member] = False
                self._loss[member] = usual
                self.log_weights[member] = np.log(settings.share / len(loss))
                self.alerts.append(Alert(self._steps, member, "readmitted", "loss"))

    def _forget(self, member: int) -> None:
        """Begin a member's calibration anew: what it missed while it diverged says nothing."""
        self._counted[member] = self._expected[member] = CALIBRATION_ORDERS
        self._likelihood[member] = START_LIKELIHOOD

    def _calibrate(self, mean: Floats, factor: Floats, usable: Bools, orders: Floats) -> None:
        memory = CALIBRATION_MEMORY * self._settings.memory_steps
        kept = np.where(self.suspended, 0.5, 1.0 - 1.0 / memory)
        known = np.where(usable, mean, 0.0)
        counted = np.where(usable, orders, 0.0)
        self._counted = kept * self._counted + counted.sum(axis=1)
        self._expected = kept * self._expected + known.sum(axis=1) / factor
        for place, dispersion in enumerate(DISPERSIONS):
            logs = _log_probability(orders, mean, np.array(dispersion))
            logs = np.where(usable, np.maximum(logs, -LOSS_MAX), 0.0)
            self._likelihood[:, place] = kept * self._likelihood[:, place] + logs.sum(axis=1)


def _log_probability(orders: Floats, mean: Floats, dispersion: Floats) -> Floats:
    """Ln P of negative binomial counts with variance mean + dispersion mean^2."""
    size = 1.0 / dispersion
    ways = special.gammaln(orders + size) - special.gammaln(size) - special.gammaln(orders + 1.0)
    share = dispersion * mean
    return np.asarray(ways - (orders + size) * np.log1p(share) + orders * np.log(share))
