"""How long returns take: the share G(a) of the returns to come that have come by age a, learned.

What came in an age bin is counted against what came before it. An age that no cohort has reached
yet can't be counted: there G follows from the ages that have been, by candidates of one shape
(gamma, shape 2, several means), weighted by how well they explain the counts, but not as if the
shape were certain. They are a prior worth a few returns; where there are counts, the counts decide.
"""

import math
from collections.abc import Iterable
from math import fsum

import numpy as np
from numpy.typing import NDArray

from schemas.learned import DELAY_DAYS

CANDIDATE_MEAN_DAYS = (4.0, 5.0, 6.0, 7.0, 8.0, 9.5, 11.0, 13.0, 16.0, 20.0)
MEAN_DAYS, MEAN_LN_SD = 10.0, 0.4  # most shops take returns for 14 to 30 days
TRUST = 0.5  # of the likelihood in the candidates' shape
PRIOR_RETURNS = 20.0
MEMORY_RETURNS = 5000.0
LN_WEIGHT_MIN = -30.0  # a candidate that is ruled out keeps next to nothing

Delays = list[tuple[float, float]]
Floats = NDArray[np.float64]


def learn_delays(delays: Delays, seen: Iterable[tuple[int, float, float]]) -> Delays:
    """Add (bin, returns in it, returns before it) of cohorts that have passed the bin."""
    rows, learned = list(seen), []
    for age, pair in enumerate(delays, start=1):
        came = fsum([pair[0], *(row[1] for row in rows if row[0] == age)])
        before = fsum([pair[1], *(row[2] for row in rows if row[0] == age)])
        kept = MEMORY_RETURNS / max(came + before, MEMORY_RETURNS)
        learned.append((came * kept, before * kept))
    return learned


def delay_shares(delays: Delays) -> tuple[float, ...]:
    """G at each age of ``DELAY_DAYS``: of the returns up to a bin, the share that came before it.

    Young cohorts can't have shown their late returns, so plain counts would lean to short delays.
    Source: S. W. Lagakos, L. M. Barraj, V. De Gruttola (1988), Biometrika 75, right truncation.
    """
    weights = _weights(delays)
    shares = [1.0]
    for age in range(len(delays), 0, -1):
        came, before = delays[age - 1]
        for weight, shape in zip(weights, _CANDIDATES, strict=True):
            came += PRIOR_RETURNS * weight * (shape[age] - shape[age - 1])
            before += PRIOR_RETURNS * weight * shape[age - 1]
        shares.append(shares[-1] * before / (came + before))
    return tuple(reversed(shares))


def shares_by_age(shares: tuple[float, ...], age_days: Floats) -> Floats:
    """G at any ages [n], between the ages of ``DELAY_DAYS`` on a straight line; 0 before the order.

    >>> shares_by_age((0.1, 0.3, 0.6, 0.9, 1.0), np.array([-1.0, 5.0, 70.0])).tolist()
    [0.0, 0.2, 1.0]
    """
    ages = np.clip(age_days, 0.0, DELAY_DAYS[-1])
    after = np.minimum(np.searchsorted(DELAY_DAYS, ages, side="right"), len(DELAY_DAYS) - 1)
    days, known = np.array([0.0, *DELAY_DAYS]), np.array([0.0, *shares])
    part = (ages - days[after]) / (days[after + 1] - days[after])
    found: Floats = known[after] + part * (known[after + 1] - known[after])
    return found


def _weights(delays: Delays) -> list[float]:
    """Posterior of the candidates: binomial likelihood of each bin against what came before."""
    found = []
    for mean_days, shape in zip(CANDIDATE_MEAN_DAYS, _CANDIDATES, strict=True):
        ln_likelihood = 0.0
        for age, (came, before) in enumerate(delays, start=1):
            share = shape[age - 1] / shape[age]
            ln_likelihood += came * math.log1p(-share) + before * math.log(share)
        far = math.log(mean_days / MEAN_DAYS) / MEAN_LN_SD
        found.append(TRUST * ln_likelihood - 0.5 * far * far)
    best = max(found)
    raw = [math.exp(max(one - best, LN_WEIGHT_MIN)) for one in found]
    return [one / sum(raw) for one in raw]


def _gamma_shares(mean_days: float) -> tuple[float, ...]:
    """G of a gamma distribution of shape 2, cut at the last age."""
    ages = [2.0 * days / mean_days for days in DELAY_DAYS]
    came = [1.0 - math.exp(-age) * (1.0 + age) for age in ages]
    return tuple(share / came[-1] for share in came)


_CANDIDATES = [_gamma_shares(mean_days) for mean_days in CANDIDATE_MEAN_DAYS]
NO_DELAYS: Delays = [(0.0, 0.0)] * (len(DELAY_DAYS) - 1)
