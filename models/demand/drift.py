"""Drift of a product's demand: CUSUM of log-likelihood ratios, one epoch a step.

A belief follows slow change by its random walk; a break leaves counts that are too high, or too
low, epoch after epoch. Four alternatives run against the forecast: a level that is twice or half of
it, an elasticity that is one higher or lower. For each, the log of the ratio of likelihoods is
summed and never kept below 0; at a threshold (nats) the break is accepted. Then the belief is
widened, the breaker allows one bounded step, and exploration begins again.

Source: E. S. Page (1954), Continuous inspection schemes, Biometrika 41; G. Lorden (1971),
Procedures for reacting to a change in distribution, Ann. Math. Statist. 42.
"""

from math import exp, log, log1p
from typing import Literal

from msgspec.structs import replace

from models.demand.surprise import Surprise
from schemas.learned import DemandPosterior, DriftSums
from schemas.policy import LearningPolicy

EVIDENCE_MAX = 3.0  # nats that one epoch counts at most: a single outlier is no drift
LEVEL_LOG = log(2.0)
ELASTICITY_STEP = 1.0
ELASTICITY_LOG_MAX = LEVEL_LOG  # a price far from where the belief was learned claims no more

Drifted = Literal["level up", "level down", "less elastic", "more elastic"]
DRIFTED: tuple[Drifted, ...] = ("level up", "level down", "less elastic", "more elastic")


def watch(
    sums: DriftSums, seen: Surprise, orders: int, policy: LearningPolicy
) -> tuple[DriftSums, Drifted | None]:
    """Take in one epoch; the sums afterwards, at rest if a break is accepted, and which one.

    >>> sums, drifted, epochs = DriftSums(), None, 0
    >>> while drifted is None:
    ...     forecast = Surprise(expected=10.0, dispersion=0.2, residual=0.0, price_distance=0.0)
    ...     sums, drifted = watch(sums, forecast, 30, LearningPolicy())
    ...     epochs += 1
    >>> (epochs, drifted, sums == DriftSums())
    (2, 'level up', True)
    """
    slope = min(max(ELASTICITY_STEP * seen.price_distance, -ELASTICITY_LOG_MAX), ELASTICITY_LOG_MAX)
    found = (
        _summed(sums.level_up, seen, orders, LEVEL_LOG),
        _summed(sums.level_down, seen, orders, -LEVEL_LOG),
        _summed(sums.less_elastic, seen, orders, slope),
        _summed(sums.more_elastic, seen, orders, -slope),
    )
    highest = max(found)
    if highest > policy.drift_evidence_nats:
        return DriftSums(), DRIFTED[found.index(highest)]
    level_up, level_down, less, more = found
    return (
        DriftSums(level_up=level_up, level_down=level_down, less_elastic=less, more_elastic=more),
        None,
    )


def _summed(total: float, seen: Surprise, orders: int, ln_ratio: float) -> float:
    """Add ln of the likelihood at mean ``m e^ln_ratio`` over that at ``m``; never below 0."""
    spread = seen.dispersion * seen.expected
    change = log1p(spread * exp(ln_ratio)) - log1p(spread)
    evidence = orders * ln_ratio - (orders + 1.0 / seen.dispersion) * change
    return max(0.0, total + min(evidence, EVIDENCE_MAX))


def widened(posterior: DemandPosterior, policy: LearningPolicy) -> DemandPosterior:
    """The belief after a break: means stay, level and elasticity become less certain.

    Variances are only added, so the covariance stays positive definite.
    """
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = posterior.cov
    c_bb += policy.drift_level_sd**2
    c_ee += policy.drift_elasticity_sd**2
    return replace(posterior, cov=(c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd))
