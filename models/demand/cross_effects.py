"""How the prices of a product's partners in its family move its demand: sparse cross elasticities.

Beside the own coefficients theta a product has terms ``c = (C_1 .. C_k, d)`` with regressors
``w = (mean ln P_j/P_ref_j .. , mean control of the partners)`` over the epoch, and
``ln mu = x'theta + c'w + ln E``. Both are believed jointly, so what the data cannot tell apart
stays uncertain: a partner whose price never moved teaches nothing, and one that always moves with
the own price only their sum. A catalogue prior says which sign is likely; pricing uses an effect
only as far as it is known (`models.demand.cross_prior`). At most 8 partners a product.
docs/science/cross.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from models.demand import demand
from models.demand.cross_prior import Relation, relation
from models.demand.demand import VARIANCE_MIN, DemandForecast, DemandSettings
from models.demand.epoch import Observation
from schemas.events import DAY_MS
from schemas.learned import Coefficients, CrossEffects, DemandPosterior
from schemas.state import CatalogueEntry

PARTNERS_MAX = 8
OWN = 4
CONTROL_SD = 0.5
CROSS_MAX = 5.0  # |C_j|: twice what any study of categories has reported
WALK_PER_DAY = 2e-5  # variance of C_j; an effect stays learnable for ever
IDLE_SD = 0.1  # a partner known this well to have no effect makes room for another

Vector = Sequence[float]


class Term(NamedTuple):
    """What the partners add to ln mu: mean, variance, covariance with the own coefficients."""

    mean: float
    variance: float
    own_cov: Coefficients


def choose_partners(
    effects: CrossEffects | None, entry: CatalogueEntry, candidates: Sequence[CatalogueEntry]
) -> CrossEffects | None:
    """Take in new partners while there is room, by what the catalogue expects of them.

    In a larger family a partner that is known to have no effect makes room for the next
    candidate, one at a time. None where there is no candidate.

    Parameters
    ----------
    candidates : the other products of the family that have shown a price
    """
    if not candidates:
        return effects
    effects = effects or CrossEffects(
        partners=(), mean=(0.0,), cov=(CONTROL_SD**2,), own_cov=(0.0,) * OWN,
        own_variances=(0.0, 0.0, 0.0, 0.0), tried=0,
    )  # fmt: skip
    relations = {found.sku: relation(entry, found) for found in candidates}
    ranked = sorted(relations, key=lambda sku: (-_size(relations[sku]), sku))
    waiting = [sku for sku in ranked if sku not in effects.partners]
    while waiting and len(effects.partners) < PARTNERS_MAX:
        effects = _with_partner(effects, waiting[0], relations[waiting[0]])
        del waiting[0]
    idle = _idle(effects)
    if waiting and idle is not None:
        chosen = waiting[effects.tried % len(waiting)]
        effects = _with_partner(_without(effects, idle), chosen, relations[chosen])
        effects = replace(effects, tried=effects.tried + 1)
    return effects


def _size(found: Relation) -> float:
    return abs(found.mean) + found.sd


def _idle(effects: CrossEffects) -> int | None:
    for index in range(len(effects.partners)):
        mean, sd = effect(effects, index)
        if sd < IDLE_SD and abs(mean) < sd:
            return index
    return None


def _with_partner(effects: CrossEffects, sku: str, prior: Relation) -> CrossEffects:
    k = len(effects.partners)
    cov = _square(effects.cov, k + 1)
    for row in cov:
        row.insert(k, 0.0)
    cov.insert(k, [0.0] * k + [prior.sd**2, 0.0])
    at = OWN * k
    return replace(
        effects,
        partners=(*effects.partners, sku),
        mean=(*effects.mean[:k], prior.mean, effects.mean[k]),
        cov=_triangle(cov),
        own_cov=(*effects.own_cov[:at], *(0.0,) * OWN, *effects.own_cov[at:]),
    )


def _without(effects: CrossEffects, index: int) -> CrossEffects:
    """Forget a partner: the other terms keep their marginal belief."""
    cov = _square(effects.cov, len(effects.mean))
    del cov[index]
    for row in cov:
        del row[index]
    at = OWN * index
    return replace(
        effects,
        partners=effects.partners[:index] + effects.partners[index + 1 :],
        mean=effects.mean[:index] + effects.mean[index + 1 :],
        cov=_triangle(cov),
        own_cov=effects.own_cov[:at] + effects.own_cov[at + OWN :],
    )


def effect(effects: CrossEffects, index: int) -> tuple[float, float]:
    """Mean and sd of d ln units / d ln price of a partner."""
    size = len(effects.mean)
    diagonal = index * size - index * (index - 1) // 2
    return effects.mean[index], math.sqrt(effects.cov[diagonal])


def term(posterior: DemandPosterior, effects: CrossEffects, regressors: Vector) -> Term:
    """What partners' prices add to ln mu.

    Parameters
    ----------
    regressors : ln P_j/P_ref_j in the order of the partners, then their mean control

    Raises
    ------
    ValueError : not one number for each term
    """
    cov = _square(effects.cov, len(regressors))
    variance = sum(
        [
            w * sum([c * v for c, v in zip(row, regressors, strict=True)], 0.0)
            for w, row in zip(regressors, cov, strict=True)
        ],
        0.0,
    )
    own = _own_cov(posterior, effects)
    b, eps, eta, delta = (
        sum([w * row[i] for w, row in zip(regressors, own, strict=True)], 0.0) for i in range(OWN)
    )
    mean = sum([c * w for c, w in zip(effects.mean, regressors, strict=True)], 0.0)
    return Term(mean, max(variance, 0.0), (b, eps, eta, delta))


def add(observation: Observation, found: Term) -> Observation:
    """The observation with the partners' part of ln mu in its offset."""
    return observation._replace(
        offset=observation.offset + found.mean,
        offset_variance=observation.offset_variance + found.variance,
    )


def beside(
    forecast: DemandForecast, found: Term, ln_rival: float | None, control: float
) -> DemandForecast:
    """The forecast at the partners' present prices, with what that adds to its covariance.

    Parameters
    ----------
    ln_rival, control : as the forecast was made with
    """
    b, eps, eta, delta = found.own_cov
    level = b + control * delta + (0.0 if ln_rival is None else ln_rival * eta)
    return forecast._replace(
        demand_per_day=forecast.demand_per_day * math.exp(found.mean),
        v_bb=max(forecast.v_bb + found.variance + 2.0 * level, VARIANCE_MIN),
        v_be=forecast.v_be + eps,
    )


def learn(
    posterior: DemandPosterior,
    effects: CrossEffects,
    observation: Observation,
    regressors: Vector,
    now_ms: int,
    settings: DemandSettings = demand.DEFAULT_SETTINGS,
) -> tuple[DemandPosterior, CrossEffects]:
    """Update own coefficients and cross effects with one closed epoch, jointly.

    The same Laplace update as `models.demand.demand.learn`, in 4 + k + 1 coefficients: ``O(k^2)``.

    Parameters
    ----------
    observation : without the partners' part
    regressors : see `term`
    """
    effects = _walked(effects, now_ms - posterior.updated_ms)
    found = term(posterior, effects, regressors)
    moved = demand.update(posterior, add(observation, found), now_ms, settings, found.own_cov)
    features = observation.features
    rival = 0.0 if features.ln_rival is None else features.ln_rival
    x = (1.0, features.ln_price, rival, features.control)
    own, cov = _own_cov(posterior, effects), _square(effects.cov, len(regressors))
    # direction: covariance of each term with ln mu
    direction = [
        sum([a * b for a, b in zip(row, regressors, strict=True)], 0.0)
        + sum([a * b for a, b in zip(beside, x, strict=True)], 0.0)
        for row, beside in zip(cov, own, strict=True)
    ]
    own_direction = _own_direction(posterior, x, found.own_cov, now_ms, settings)
    gain = moved.gain
    for i, v_i in enumerate(direction):
        own[i] = [c - gain * v_i * v for c, v in zip(own[i], own_direction, strict=True)]
        for j, v_j in enumerate(direction):
            cov[i][j] -= gain * v_i * v_j
        cov[i][i] = max(cov[i][i], VARIANCE_MIN)
    means = [
        min(max(mean + v * moved.step, -CROSS_MAX), CROSS_MAX)
        for mean, v in zip(effects.mean, direction, strict=True)
    ]
    learned = replace(
        effects,
        mean=tuple(means),
        cov=_triangle(cov),
        own_cov=tuple(c for row in own for c in row),
        own_variances=_variances(moved.posterior),
    )
    return moved.posterior, learned


def _walked(effects: CrossEffects, waited_ms: int) -> CrossEffects:
    days = min(max(waited_ms, 0) / DAY_MS, demand.STEP_DAYS_MAX)
    cov = _square(effects.cov, len(effects.mean))
    for index, row in enumerate(cov):
        row[index] += WALK_PER_DAY * days
    return replace(effects, cov=_triangle(cov))


def _own_direction(
    posterior: DemandPosterior,
    x: Vector,
    own_cov: Coefficients,
    now_ms: int,
    settings: DemandSettings,
) -> list[float]:
    """Covariance of each own coefficient with ln mu, after the walk that the update makes."""
    days = min(max(now_ms - posterior.updated_ms, 0) / DAY_MS, demand.STEP_DAYS_MAX)
    cov = _square(posterior.cov, OWN)
    cov[0][0] += settings.level_walk_per_day * days
    cov[1][1] += settings.elasticity_walk_per_day * days
    return [
        sum([a * b for a, b in zip(row, x, strict=True)], 0.0) + beside
        for row, beside in zip(cov, own_cov, strict=True)
    ]


def _own_cov(posterior: DemandPosterior, effects: CrossEffects) -> list[list[float]]:
    """Covariance with the own coefficients, a row of four a term.

    It is that of the last joint update. Where the own belief was changed elsewhere since (a new
    prior, a widening after drift) it holds no more: independence keeps the joint belief proper.
    """
    if effects.own_variances != _variances(posterior):
        return [[0.0] * OWN for _ in effects.mean]
    own = effects.own_cov
    return [list(own[OWN * i : OWN * i + OWN]) for i in range(len(effects.mean))]


def _variances(posterior: DemandPosterior) -> Coefficients:
    cov = posterior.cov
    return cov[0], cov[4], cov[7], cov[9]


def _square(triangle: Vector, size: int) -> list[list[float]]:
    rows = [[0.0] * size for _ in range(size)]
    entries = iter(triangle)
    for i in range(size):
        for j in range(i, size):
            rows[i][j] = rows[j][i] = next(entries)
    return rows


def _triangle(rows: list[list[float]]) -> tuple[float, ...]:
    return tuple(rows[i][j] for i in range(len(rows)) for j in range(i, len(rows)))
