"""Small normal models in natural parameters, and how far an estimate is to be used.

Evidence for coefficients beta is an information matrix A and a score h: with a normal prior of
precision L and mean m the posterior is ``N(P (h + L m), P)``, ``P = (A + L)^-1``. Evidence adds up,
so products, days and categories can be summed in any order once the sums are exact.
"""

import math
from collections.abc import Sequence

from schemas.effects import SCALE, Effect

Matrix = list[list[float]]

DOUBT_SDS = 2.0  # an effect of fewer sd than this is not used at all


def fixed(value: float) -> int:
    """A number in fixed point, whose sums are exact."""
    return round(value * SCALE)


def inverse(matrix: Matrix) -> Matrix:
    """Inverse of a symmetric positive definite matrix, by Cholesky; `O(n^3)`, small n.

    Raises
    ------
    ValueError : a pivot is not above 0
    """
    n = len(matrix)
    lower = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i][j] - sum([lower[i][k] * lower[j][k] for k in range(j)], 0.0)
            if i == j:
                if not rest > 0.0:
                    raise ValueError(f"pivot {i} was {rest}; expected a positive definite matrix")
                lower[i][i] = math.sqrt(rest)
            else:
                lower[i][j] = rest / lower[j][j]
    columns = []
    for unit in range(n):
        forward = [0.0] * n
        for i in range(n):
            known = sum([lower[i][k] * forward[k] for k in range(i)], 0.0)
            forward[i] = ((i == unit) - known) / lower[i][i]
        column = [0.0] * n
        for i in reversed(range(n)):
            known = sum([lower[k][i] * column[k] for k in range(i + 1, n)], 0.0)
            column[i] = (forward[i] - known) / lower[i][i]
        columns.append(column)
    return columns


def posterior(
    information: Matrix, score: Sequence[float], mean: Sequence[float], precision: Sequence[float]
) -> tuple[list[float], Matrix]:
    """Mean and covariance of a normal posterior; ``precision`` is the prior's diagonal."""
    n = len(mean)
    total = [[information[i][j] + precision[i] * (i == j) for j in range(n)] for i in range(n)]
    cov = inverse(total)
    pull = [score[i] + precision[i] * mean[i] for i in range(n)]
    return [sum([cov[i][j] * pull[j] for j in range(n)], 0.0) for i in range(n)], cov


def known_share(distance: float, doubt: float = DOUBT_SDS**2) -> float:
    """The share (0 to 1) of an effect that is used: positive-part shrinkage to zero.

    Parameters
    ----------
    distance : squared estimate over its variance, above 0; of several coefficients, their sum
    doubt : distance up to which nothing is used

    Notes
    -----
    Source: W. James, C. Stein (1961), Estimation with quadratic loss, in its positive-part form.

    >>> known_share(4.0), known_share(16.0)
    (0.0, 0.75)
    """
    return max(0.0, 1.0 - doubt / distance) if distance > 0.0 else 0.0


def effect(mean: float, variance: float, *, share: float | None = None) -> Effect:
    """An effect and what of it is used; ``share`` where a larger pool decides that."""
    used = known_share(mean * mean / variance) if share is None else share
    return Effect(mean, math.sqrt(variance), mean * used)


def settled(before: Effect, now: Effect, revision_sds: float = 0.25) -> Effect:
    """``now``, but with the value in use before where that hardly differs.

    A change of what is used restates products; small ones wait until they have added up.
    """
    small = abs(now.used - before.used) <= revision_sds * now.sd
    if small and (now.used == 0.0) == (before.used == 0.0):
        return Effect(now.mean, now.sd, before.used)
    return now
