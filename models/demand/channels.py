"""Channels whose buyers react to price in their own way: shares of demand at another price.

    p_c(x) = s_c exp(d_c x) / sum,   x = ln(P / P_mem)

A multinomial logit on order lines by channel and price bin, pooled over a partition. Bins lie
around the remembered price: a product that is dear at all times then says nothing about slopes.
Segments of customers are learned in the same way, in a record of their own
(`models.pricing.discounts`).
"""

import math

from models.demand.pooled import Matrix, effect, inverse, known_share
from schemas.effects import ChannelEffects

BIN_LOG = 0.05
BINS_EACH_SIDE = 8
BINS = 2 * BINS_EACH_SIDE + 1
CHANNELS_MAX, CHANNELS_A_DAY_MAX = 8, 32
OTHER = "other"  # channels beyond the limit
SLOPE_SD, LEVEL_SD = 1.0, 10.0  # prior
ORDERS_MIN = 200.0  # order lines before the first fit
KEPT_PER_DAY = 1.0 - 1.0 / 365.0
STEP_MAX = 1.0


def place(ln_gap: float) -> int:
    """The bin of a log price above the remembered one; the outer bins are open."""
    middle = round(ln_gap / BIN_LOG)
    return min(max(middle, -BINS_EACH_SIDE), BINS_EACH_SIDE) + BINS_EACH_SIDE


def count(today: dict[str, list[int]], channel: str, ln_gap: float) -> None:
    """Count an order line, in place; of too many channels the last by name are added together.

    Which those are does not depend on the order in which products sell.
    """
    bins = today.get(channel)
    if bins is None:
        bins = today[channel] = [0] * BINS
    bins[place(ln_gap)] += 1
    if len(today) - (OTHER in today) > CHANNELS_A_DAY_MAX:
        last = max(name for name in today if name != OTHER)
        moved = today.pop(last)
        others = today.get(OTHER, [0] * BINS)
        today[OTHER] = [a + b for a, b in zip(others, moved, strict=True)]


def new_day(effects: ChannelEffects, today: dict[str, list[int]]) -> None:
    """Add a day's counts and take a Newton step from the last fit, in place."""
    for name in sorted({*effects.counts, *today}):
        known = name in effects.counts or len(effects.counts) < CHANNELS_MAX
        kept = name if known else OTHER
        old = effects.counts.get(kept, [0.0] * BINS)
        new = today.get(name, [0] * BINS)
        fading = KEPT_PER_DAY if kept == name else 1.0
        effects.counts[kept] = [a * fading + b for a, b in zip(old, new, strict=True)]
    names = sorted(effects.counts)
    if len(names) < 2 or sum(map(sum, effects.counts.values())) < ORDERS_MIN:
        return
    cov = _step(effects, names)
    _read(effects, names, cov)


def _step(effects: ChannelEffects, names: list[str]) -> Matrix:
    """One Newton step of the penalised multinomial likelihood; the covariance there."""
    n = len(names)
    values = [effects.level.get(name, 0.0) for name in names]
    values += [effects.slope.get(name, 0.0) for name in names]
    precision = [1.0 / LEVEL_SD**2] * n + [1.0 / SLOPE_SD**2] * n
    gradient = [-p * v for p, v in zip(precision, values, strict=True)]
    hessian = [[precision[i] * (i == j) for j in range(2 * n)] for i in range(2 * n)]
    for number in range(BINS):
        x = (number - BINS_EACH_SIDE) * BIN_LOG
        seen = [effects.counts[name][number] for name in names]
        total = sum(seen)
        if total <= 0.0:
            continue
        expected = shares_at(values[:n], values[n:], x)
        for i in range(n):
            miss = seen[i] - total * expected[i]
            gradient[i] += miss
            gradient[n + i] += miss * x
            for j in range(n):
                weight = total * expected[i] * ((i == j) - expected[j])
                hessian[i][j] += weight
                hessian[n + i][j] += weight * x
                hessian[i][n + j] += weight * x
                hessian[n + i][n + j] += weight * x * x
    cov = inverse(hessian)
    for i in range(2 * n):
        step = sum([cov[i][j] * gradient[j] for j in range(2 * n)], 0.0)
        values[i] += min(max(step, -STEP_MAX), STEP_MAX)
    effects.level = dict(zip(names, values[:n], strict=True))
    effects.slope = dict(zip(names, values[n:], strict=True))
    return cov


def shares_at(level: list[float], slope: list[float], x: float) -> list[float]:
    """Each channel's share of demand at ``x``."""
    logits = [a + d * x for a, d in zip(level, slope, strict=True)]
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _read(effects: ChannelEffects, names: list[str], cov: Matrix) -> None:
    """Slopes against their average, used as far as they are known together."""
    n = len(names)
    slope = [effects.slope[name] for name in names]
    shares = shares_at([effects.level[name] for name in names], slope, 0.0)
    average = sum([s * d for s, d in zip(shares, slope, strict=True)], 0.0)
    variances = []
    for i in range(n):
        row = [(i == j) - shares[j] for j in range(n)]
        variances.append(
            sum([row[a] * row[b] * cov[n + a][n + b] for a in range(n) for b in range(n)], 0.0)
        )
    gaps = [d - average for d in slope]
    distance = (
        sum([gap * gap / v for gap, v in zip(gaps, variances, strict=True)], 0.0) * (n - 1) / n
    )
    share = known_share(distance, _doubt(n - 1))
    effects.shares = dict(zip(names, shares, strict=True))
    effects.effects = {
        name: effect(gap, variance, share=share)
        for name, gap, variance in zip(names, gaps, variances, strict=True)
    }


def _doubt(freedom: int) -> float:
    """97.5 % of chi squared (E. B. Wilson, M. M. Hilferty, 1931)."""
    third = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - third + 1.96 * math.sqrt(third)) ** 3)


def mixture(effects: ChannelEffects, x: float) -> tuple[float, float]:
    """ln of what the mix of channels makes of demand at ``x``, and its slope there.

    The average elasticity is the product's own; with slopes d this is ``ln sum s exp(d x)``, 0 at
    x = 0 with slope 0, and bends upwards: dearer, those who hardly react remain.
    """
    if not effects.effects or not any(found.used for found in effects.effects.values()):
        return 0.0, 0.0
    used = [(effects.shares[name], effects.effects[name].used) for name in sorted(effects.shares)]
    weights = [share * math.exp(slope * x) for share, slope in used]
    total = sum(weights)
    slope = sum([w * d for w, (_, d) in zip(weights, used, strict=True)], 0.0) / total
    return math.log(total), slope


def slope_sd(effects: ChannelEffects) -> float:
    """Standard deviation of the mix's slope: of the channels' slopes, weighted by share."""
    parts = [(effects.shares[name], effects.effects[name].sd) for name in sorted(effects.shares)]
    return math.sqrt(sum([(share * sd) ** 2 for share, sd in parts], 0.0))
