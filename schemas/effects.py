"""State records of the market's pooled effects: what the products of a tape partition share.

Sums of a day are kept in fixed point (`SCALE` parts to 1): integers add up to the same total in any
order, so products may close their epochs in any order.
"""

from msgspec import Struct

SCALE = 1 << 30

Sensitivity = tuple[float, float, float, float]


class Effect(Struct, frozen=True, gc=False):
    """A learned effect: its mean and sd, and what of it is used (0 while it is not known)."""

    mean: float = 0.0
    sd: float = 0.0
    used: float = 0.0


class MarketMemory(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What one product remembers of its market, logs relative to its reference price.

    ``ln_price`` is ln(P_mem / P_ref), ``control`` its part that reacted to demand. ``of_rival``,
    ``of_memory`` and ``of_control`` say by how much the demand coefficients (b, eps, eta, delta)
    would move per unit of omega, and of psi on the two parts of ln(P / P_mem). ``last_price``,
    ``last_exogenous`` and ``last_rival`` stood at the end of the last epoch.
    """

    ln_price: float
    control: float
    of_rival: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    of_memory: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    of_control: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    last_price: float | None = None
    last_exogenous: float = 0.0
    last_rival: float | None = None


class CategoryEffects(Struct, kw_only=True):
    """Effects of one category: evidence so far, and today's sums in fixed point.

    ``evidence`` and ``today`` hold, for each regressor of `models.market_effects` in its order, its
    row of the precision's upper triangle and its score (precision times mean). ``follow`` are sums
    over price moves z (exogenous), x (own), y (rival): zz, zx, zy, xx, xy, yy, and their count.
    """

    today: list[int]
    evidence: tuple[float, ...]
    rival: Effect = Effect()
    memory: Effect = Effect()
    follow_today: list[int]
    follow: tuple[float, ...] = ()
    follow_rate: Effect = Effect()
