"""Rivals that follow: how much of our own price move a rival's price makes too.

    d ln P_c (after our move) = kappa d ln P + noise

Our price reacts to rivals as well, so the exogenous part z of our moves is the instrument:
kappa = sum z dy / sum z dx. Pooled by category, read at the day tick.
"""

import math

from models.demand.market_effects import FOLLOW_SUMS
from models.demand.pooled import effect, known_share
from models.fold.partition import PartitionState
from schemas.effects import SCALE, CategoryEffects, MarketMemory
from schemas.learned import OpenEpoch

PRIOR_SD, CATEGORY_SD = 0.5, 0.2
MOVE_MAX = 0.5  # of a log price; what lies beyond is a correction, not a move
NOISE_SD_MIN = 0.01  # of a rival's log move
KEPT_PER_DAY = 1.0 - 1.0 / 365.0
FOLLOW_MAX = 1.0


def teach(effects: CategoryEffects, memory: MarketMemory, epoch: OpenEpoch) -> None:
    """Add what the rival did after the move before this epoch to today's sums, in place."""
    if memory.move is None or memory.last_rival is None or epoch.ln_rival is None:
        return
    z, x, y = memory.move_exogenous, memory.move, epoch.ln_rival - memory.last_rival
    if max(abs(z), abs(x), abs(y)) > MOVE_MAX:
        return
    if x == 0.0 and z == 0.0:
        return
    parts = (z * z, z * x, z * y, x * x, x * y, y * y, 1.0)
    effects.follow_today = [
        summed + int(part * SCALE) for summed, part in zip(effects.follow_today, parts, strict=True)
    ]


def moved(memory: MarketMemory, epoch: OpenEpoch) -> tuple[float | None, float]:
    """How a closed epoch's log price differs from the one before it, and the exogenous part."""
    if memory.last_price is None:
        return None, 0.0
    exogenous = epoch.ln_price - epoch.control - memory.last_exogenous
    return round(epoch.ln_price - memory.last_price, 6), round(exogenous, 6)


def new_day(partition: PartitionState) -> None:
    """Read the moves of the days before and estimate each category's follow rate."""
    names = sorted(partition.effects)
    for name in names:
        effects = partition.effects[name]
        old = effects.follow or (0.0,) * FOLLOW_SUMS
        effects.follow = tuple(
            a * KEPT_PER_DAY + b / SCALE for a, b in zip(old, effects.follow_today, strict=True)
        )
        effects.follow_today = [0] * FOLLOW_SUMS
    columns = zip(*(partition.effects[name].follow for name in names), strict=True)
    total = tuple(math.fsum(column) for column in columns)
    pool, pool_information = _instrumented(total)
    precision = 1.0 / PRIOR_SD**2
    mean = pool * pool_information / (pool_information + precision)
    share = known_share(mean * mean * (pool_information + precision))
    for name in names:
        effects = partition.effects[name]
        own, information = _instrumented(effects.follow)
        within = 1.0 / CATEGORY_SD**2
        posterior = (own * information + mean * within) / (information + within)
        posterior = min(max(posterior, -FOLLOW_MAX), FOLLOW_MAX)
        effects.follow_rate = effect(posterior, 1.0 / (information + within), share=share)


def _instrumented(sums: tuple[float, ...]) -> tuple[float, float]:
    """Estimate of kappa and its information (0 where our price never moved by chance)."""
    if not sums:
        return 0.0, 0.0
    zz, zx, zy, xx, xy, yy, count = sums
    if not zx > 0.0 or not zz > 0.0:
        return 0.0, 0.0
    kappa = zy / zx
    noise = max((yy - 2.0 * kappa * xy + kappa * kappa * xx) / count, NOISE_SD_MIN**2)
    return kappa, zx * zx / (noise * zz)
