"""Effects of the market on demand that the products of a partition share, by category.

    ln mean = (the product's own terms) - omega g(ln P/P_c) + psi ln(P/P_mem) + calendar

Each closed epoch is a lesson: the surprise that is left after the product's own belief, and the
features that the belief has not taken up already. Lessons add up in fixed point and are read at
the day tick. docs/science/market-effects.md has the derivation and what is not identified.
"""

import math
from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

from msgspec.structs import replace

from models.demand.demand import Z_MAX, DemandSettings
from models.demand.epoch import Observation
from models.demand.pooled import Matrix, effect, known_share, posterior, settled
from models.fold.partition import PartitionState
from schemas.effects import SCALE, CategoryEffects, MarketMemory, Sensitivity
from schemas.learned import DemandPosterior, OpenEpoch
from schemas.policy import ObjectivePolicy
from schemas.state import SkuState

RIVAL_WIDTH = 0.03  # of the bend g, in log price, as in the objective
MEMORY_DAYS = 30.0  # time constant of the price that buyers remember
EVIDENCE_KEPT_PER_DAY = 1.0 - 1.0 / 730.0  # evidence of two years ago has lost two thirds
SPREAD_MAX = 1.0  # variance of ln demand above which a product is too unknown to teach others
SURPRISE_SDS_MAX = 4.0
FEATURE_MAX = 2.0
LOG_RATE_MAX = 16.0  # ln order lines a day that one product is expected to reach at most
REGRESSORS = 5
SUMS = REGRESSORS * (REGRESSORS + 3) // 2
PLACES = tuple((i, j) for i in range(REGRESSORS) for j in range(i, REGRESSORS + 1))
# Prior sds of psi, of the memory gap's reacting part, and of the prior's common errors; the
# sd of omega is the policy's. Then the sds of all five between categories.
POOL_SDS = (1.0, 4.0, 2.0, 8.0)
CATEGORY_SDS = (0.5, 0.2, 0.5, 2.0, 2.0)
SENSITIVITY_MIN = 1e-3
FOLLOW_SUMS = 7


class Features(NamedTuple):
    """Regressors of the pooled effects in one epoch.

    ``rival`` is -g(ln P/P_c). ln(P/P_mem) has two parts: ``memory``, the exogenous part, and
    ``control``, what reacted to demand. psi acts on both; what a price that reacts shows beside
    psi is the demand it reacted to, so the second part has a coefficient of its own.
    """

    rival: float
    memory: float
    control: float

    @property
    def gap(self) -> float:
        """ln(P/P_mem), mean of the epoch."""
        return self.memory + self.control


def bend(ln_ratio: float, tau: float) -> float:
    """g: how far a price lies above its rival's threshold, smoothed; log price.

    Parameters
    ----------
    ln_ratio : ln(P / P_c)
    tau : the threshold, ln(P / P_c)
    """
    z = (ln_ratio - tau) / RIVAL_WIDTH
    return RIVAL_WIDTH * (max(z, 0.0) + math.log1p(exp(-abs(z))))


def faded(days: float) -> float:
    """Mean over ``days`` of what is left of a gap to the remembered price, 0 to 1.

    >>> round(faded(30.0), 4), faded(0.0)
    (0.6321, 1.0)
    """
    scaled = days / MEMORY_DAYS
    return -math.expm1(-scaled) / scaled if scaled > 1e-9 else 1.0


def features(
    epoch: OpenEpoch, memory: MarketMemory | None, days: float, goal: ObjectivePolicy
) -> Features:
    """Features of an epoch of ``days`` at its price; no rival and no memory give zero."""
    rival = exogenous = control = 0.0
    if epoch.ln_rival is not None:
        rival = -min(bend(epoch.ln_price - epoch.ln_rival, goal.rival_threshold_log), FEATURE_MAX)
    if memory is not None:
        left = faded(days)
        control = _limited((epoch.control - memory.control) * left)
        exogenous = _limited((epoch.ln_price - memory.ln_price) * left) - control
    return Features(rival, exogenous, control)


def _limited(feature: float) -> float:
    return min(max(feature, -FEATURE_MAX), FEATURE_MAX)


def of_category(partition: PartitionState, category: str) -> CategoryEffects:
    """Effects of a category; those of one never seen are unknown and not used."""
    return partition.effects.get(category) or new_effects()


def new_effects() -> CategoryEffects:
    """Effects of a category before its first lesson."""
    return CategoryEffects(today=[0] * SUMS, evidence=(0.0,) * SUMS, follow_today=[0] * FOLLOW_SUMS)


def teach(
    effects: CategoryEffects,
    memory: MarketMemory,
    before: DemandPosterior,
    seen: Observation,
    found: Features,
    settings: DemandSettings,
) -> None:
    """Add a closed epoch's lesson to the category's sums of the day, in place.

    Parameters
    ----------
    before : the product's belief before it learned the epoch
    seen : the epoch, with the effects in use in its offset
    """
    ln_mean, spread, open_price, open_control = _predicted(before, seen, settings)
    if spread > SPREAD_MAX:
        return
    mean = exp(min(max(ln_mean + 0.5 * spread, -Z_MAX), Z_MAX))
    variance = 1.0 / mean + (1.0 + settings.dispersion) * exp(spread) - 1.0
    limit = SURPRISE_SDS_MAX * math.sqrt(variance)
    surprise = min(max(seen.orders / mean - 1.0, -limit), limit)
    rival = _untaken(found.rival, memory.of_rival, seen)
    remembered = _untaken(found.memory, memory.of_memory, seen)
    control = _untaken(found.control, memory.of_control, seen)
    weight = SCALE / variance
    aim = surprise + rival * effects.rival.used + (remembered + control) * effects.memory.used
    row = (rival, remembered, control, open_price, open_control, aim)
    effects.today = [
        summed + int(weight * row[i] * row[j])
        for summed, (i, j) in zip(effects.today, PLACES, strict=True)
    ]


def _predicted(
    belief: DemandPosterior, seen: Observation, settings: DemandSettings
) -> tuple[float, float, float, float]:
    """Log of an observation's mean under a belief, the variance of that log, and its covariance
    with eps and delta: how a common error of the prior shows that was not learned away yet.
    """
    b, eps, eta, delta = belief.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = belief.cov
    p, rival, u = seen.features
    r = 0.0 if rival is None else rival
    spread = c_bb + p * p * c_ee + r * r * c_nn + u * u * c_dd
    spread += 2.0 * (p * c_be + r * c_bn + u * c_bd + p * r * c_en + p * u * c_ed + r * u * c_nd)
    spread += seen.offset_variance
    if rival is None:
        spread += settings.missing_rival_sd**2 * (eta * eta + c_nn)
    ln_mean = b + eps * p + eta * r + delta * u + seen.offset + log(seen.exposure_days)
    v_e = c_be + p * c_ee + r * c_en + u * c_ed
    v_d = c_bd + p * c_ed + r * c_nd + u * c_dd
    return ln_mean, max(spread, 0.0), v_e, v_d


def _untaken(feature: float, sensitivity: Sensitivity, seen: Observation) -> float:
    """What of a feature the product's coefficients have not taken up."""
    p, rival, u = seen.features
    r = 0.0 if rival is None else rival
    d_b, d_e, d_n, d_d = sensitivity
    return feature + d_b + d_e * p + d_n * r + d_d * u


def remember(
    memory: MarketMemory,
    after: DemandPosterior,
    seen: Observation,
    found: Features,
    settings: DemandSettings,
) -> tuple[Sensitivity, Sensitivity, Sensitivity]:
    """Follow how a product's coefficients depend on the pooled effects through one more epoch.

    The coefficients' mean moves by ``V x J`` per unit of the log mean (V after the update, J the
    information at its mode), so ``D <- D - V x J (f + x'D)``: the sensitivity filter. In the order
    of the features.

    Parameters
    ----------
    after : the product's belief after it learned the epoch
    """
    b, eps, eta, delta = after.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = after.cov
    p, rival, u = seen.features
    r = 0.0 if rival is None else rival
    z = b + eps * p + eta * r + delta * u + seen.offset + log(seen.exposure_days)
    mean = exp(min(max(z, -Z_MAX), Z_MAX))
    scale = 1.0 + settings.dispersion * mean
    gain = mean * (1.0 + settings.dispersion * seen.orders) / (scale * scale)
    m_b = gain * (c_bb + c_be * p + c_bn * r + c_bd * u)
    m_e = gain * (c_be + c_ee * p + c_en * r + c_ed * u)
    m_n = 0.0 if rival is None else gain * (c_bn + c_en * p + c_nn * r + c_nd * u)
    m_d = gain * (c_bd + c_ed * p + c_nd * r + c_dd * u)

    def filtered(sensitivity: Sensitivity, feature: float) -> Sensitivity:
        d_b, d_e, d_n, d_d = sensitivity
        untaken = feature + d_b + d_e * p + d_n * r + d_d * u
        return (
            round(d_b - m_b * untaken, 6),
            round(d_e - m_e * untaken, 6),
            round(d_n - m_n * untaken, 6),
            round(d_d - m_d * untaken, 6),
        )

    return (
        filtered(memory.of_rival, found.rival),
        filtered(memory.of_memory, found.memory),
        filtered(memory.of_control, found.control),
    )


def new_day(partition: PartitionState) -> None:
    """Read the lessons of the days before: estimate each category's effects, and put them in use.

    Whether an effect is in use is decided by all categories together, how large it is by each.
    Where what is used changes, each product's belief is restated as if it had been learned so.
    """
    names = sorted(partition.effects)
    for name in names:
        _add_up(partition.effects[name])
        partition.touch(f"effects/{name}")
    sensitivity = partition.policy.objective.rival_sensitivity
    sds = (max(sensitivity, SENSITIVITY_MIN), *POOL_SDS)
    total = [math.fsum(partition.effects[name].evidence[k] for name in names) for k in range(SUMS)]
    mean, cov = _normal(total, (0.0,) * REGRESSORS, sds)
    shares = [known_share(mean[k] * mean[k] / cov[k][k]) for k in range(2)]
    if mean[0] < 0.0 or sensitivity == 0.0:
        shares[0] = 0.0
    moves: dict[str, tuple[float, float]] = {}
    for name in names:
        effects = partition.effects[name]
        own, own_cov = _normal(effects.evidence, mean, CATEGORY_SDS)
        before = effects.rival.used, effects.memory.used
        found = effect(max(own[0], 0.0), own_cov[0][0], share=shares[0])
        effects.rival = settled(effects.rival, found)
        effects.memory = settled(effects.memory, effect(own[1], own_cov[1][1], share=shares[1]))
        change = effects.rival.used - before[0], effects.memory.used - before[1]
        if change != (0.0, 0.0):
            moves[name] = change
    if moves:
        for sku in sorted(partition.skus):
            change = moves.get(partition.catalogue[sku].category, (0.0, 0.0))
            restate(partition, partition.skus[sku], *change)


def _add_up(effects: CategoryEffects) -> None:
    kept = EVIDENCE_KEPT_PER_DAY
    effects.evidence = tuple(
        old * kept + new / SCALE for old, new in zip(effects.evidence, effects.today, strict=True)
    )
    effects.today = [0] * SUMS


def _normal(
    evidence: Sequence[float], mean: Sequence[float], sds: Sequence[float]
) -> tuple[list[float], Matrix]:
    """Posterior of the coefficients; a row of evidence is a row of the triangle, then its score."""
    information: Matrix = [[0.0] * REGRESSORS for _ in range(REGRESSORS)]
    score, parts = [0.0] * REGRESSORS, iter(evidence)
    for i in range(REGRESSORS):
        for j in range(i, REGRESSORS):
            information[i][j] = information[j][i] = next(parts)
        score[i] = next(parts)
    return posterior(information, score, mean, [1.0 / (sd * sd) for sd in sds])


def restate(partition: PartitionState, state: SkuState, rival: float, memory: float) -> None:
    """Move a product's belief to what it would be with other values of the effects in use.

    Parameters
    ----------
    rival, memory : by how much omega and psi in use changed
    """
    known, belief = state.market, state.posterior
    if known is None or belief is None or (rival == 0.0 and memory == 0.0):
        return
    b, eps, eta, delta = (
        m + rival * d + memory * (e + f)
        for m, d, e, f in zip(
            belief.mean, known.of_rival, known.of_memory, known.of_control, strict=True
        )
    )
    state.posterior = replace(belief, mean=(b, eps, eta, delta))
    partition.touch(f"sku/{state.sku}")
