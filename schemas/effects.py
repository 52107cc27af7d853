"""State records of the market's pooled effects: what the products of a tape partition share.

Sums of a day are kept in fixed point (`SCALE` parts to 1): integers add up to the same total in any
order, so products may close their epochs in any order.
"""

from msgspec import Struct, field

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
    ``last_exogenous`` and ``last_rival`` stood when the last epoch began, ``move`` and
    ``move_exogenous`` are how its price differed from the one before.
    """

    ln_price: float
    control: float
    of_rival: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    of_memory: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    of_control: Sensitivity = (0.0, 0.0, 0.0, 0.0)
    last_price: float | None = None
    last_exogenous: float = 0.0
    last_rival: float | None = None
    move: float | None = None
    move_exogenous: float = 0.0


class CategoryEffects(Struct, kw_only=True):
    """Effects of one category: evidence so far, and today's sums in fixed point.

    ``evidence`` and ``today`` hold, for each regressor of `models.demand.market_effects` in its
    order, its row of the precision's upper triangle and its score (precision times mean).
    ``follow`` are sums over price moves z (exogenous), x (own), y (rival): zz, zx, zy, xx, xy, yy,
    and their count.
    """

    today: list[int]
    evidence: tuple[float, ...]
    rival: Effect = Effect()
    memory: Effect = Effect()
    follow_today: list[int]
    follow: tuple[float, ...] = ()
    follow_rate: Effect = Effect()


class Today(Struct, kw_only=True):
    """What a partition counts from one day tick to the next, as whole numbers.

    ``rate_micro``: order lines a day, in millionths, that the open epochs of known products expect
    on a day like any other; ``expected_micro``: what that comes to over the day; ``orders``: their
    order lines. ``channels``: order lines by channel and bin of ln(P / P_mem); ``segments``: the
    same by segment of customers.
    """

    orders: int = 0
    rate_micro: int = 0
    expected_micro: int = 0
    channels: dict[str, list[int]] = {}
    searches: list[int] = field(default_factory=lambda: [0, 0, 0])
    segments: dict[str, list[int]] = {}


class SearchEffect(Struct, kw_only=True):
    """How far searches run ahead of visits: sums of z z, z y and weights, and the effect.

    z is ln(searches / their average) of a report, y ln(visits / their average) of the next.
    """

    evidence: tuple[float, float, float] = (0.0, 0.0, 0.0)
    effect: Effect = Effect()


class DayEffects(Struct, kw_only=True):
    """The calendar in force, and the belief about days: normal in the coefficients of ``names``.

    ``cov`` is the upper triangle by rows.
    """

    calendar: dict[str, tuple[str, ...]] = {}
    names: list[str] = []
    mean: list[float] = []
    cov: list[float] = []


class ChannelEffects(Struct, kw_only=True):
    """Order lines so far by channel (or segment) and price bin, the fitted logits, and the slopes.

    ``level`` and ``slope`` are parameters of the multinomial logit; ``shares`` and ``effects`` are
    each channel's share of demand at the remembered price, and its elasticity beside the average.
    Segments of customers have a record of their own, of the same kind.
    """

    counts: dict[str, list[float]] = {}
    level: dict[str, float] = {}
    slope: dict[str, float] = {}
    shares: dict[str, float] = {}
    effects: dict[str, Effect] = {}
