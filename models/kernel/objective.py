"""The profit of one SKU over its horizon as a function of its price.

Every quantity is normalised by the SKU's reference price: inside this room the reference price is
1, and money is a multiple of it. Demand and stock are units, time is days. The equations stand in
``docs/objective.md``; the numbers in brackets below refer to it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from models.kernel.elementary import (
    log1p,
    log1p_ratio,
    normal_cdf,
    normal_density,
    sigmoid,
    softplus,
)

# Cents of a large price need more than float32's 24 bits, and the solver brackets to 1e-9.
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

RIVAL_WIDTH = 0.03  # width of the bend at a rival's price, in log price
STOCK_UNITS_MIN = 1e-6  # an empty shelf is priced as the limit of a nearly empty one
SMALL_STOCK_UNITS_MAX = 8  # up to here the sum over the negative binomial is exact


class Row(NamedTuple):
    """What the objective of one SKU depends on, normalised by its reference price.

    Inside kernels the same record holds arrays of shape [tile] instead of floats.
    """

    unit_cost: float  # C, above 0
    return_cost: float  # c_r, cost of handling one return
    kept_share: float  # a = (1 - fee) / (1 + vat): what the shop keeps of the shown price
    horizon_days: float  # T, above 0
    demand_per_day: float  # units at the reference price, before the rival term; above 0
    elasticity: float  # eps = d ln units / d ln price, normally below 0
    rival_price: float  # P_c, robust; above 0, without effect when rival_omega is 0
    rival_omega: float  # omega >= 0, extra elasticity above the rival's threshold
    rival_tau: float  # tau, the threshold lies at rival_price * exp(tau)
    demand_volatility: float  # sigma, coefficient of variation of demand over the horizon
    stock: float  # q, units; ignored when unlimited is 1
    unlimited: float  # 1.0 or 0.0
    holding_cost_per_day: float  # h, per unit and day
    continuation_value: float  # v, worth of a unit left at the end
    risk_aversion: float  # gamma, 0 to 0.5, no unit
    target_leftover: float  # L*, units, above 0
    value_volatility: float  # w, relative, per square root of a day
    level_variance: float  # v_bb, posterior variance of the log demand level
    level_elasticity_covariance: float  # v_be
    elasticity_variance: float  # v_ee
    return_min: float  # R = min + (max - min) sigmoid(intercept + linear P + log ln P)
    return_max: float
    return_intercept: float
    return_linear: float
    return_log: float
    return_rate_sd: float  # sd of R, 0 or above
    exact_small_stock: float  # 1.0 or 0.0: sum the negative binomial while stock <= 8
    lower: float  # bounds of the search, 0 < lower < upper
    upper: float
    # What partners of the family earn a day at this row's reference price, their prices fixed, and
    # how that moves with this row's price: A P^c, c = d ln units / d ln price of their demand.
    # Where effects fade, up is a constant (c = 0) and down falls with the own elasticity.
    partner_profit_up: float = 0.0  # of those who sell more as this one gets dearer (c >= 0)
    partner_elasticity_up: float = 0.0
    partner_profit_down: float = 0.0  # of those who sell less, or what fades (c < 0)
    partner_elasticity_down: float = 0.0
    price_weight: float = 1.0  # what is maximised, see weights()
    cost_weight: float = 1.0
    unit_weight: float = 0.0


class Weights(NamedTuple):
    """What a kept unit counts: price_weight a P - cost_weight C + unit_weight C.

    ``cost_weight`` also weighs the handling of returns and what leftovers cost.
    """

    price_weight: float
    cost_weight: float
    unit_weight: float


#: Where the last units no longer move (stock is short), profit decides.
TIE_BREAK = 1e-3

_WEIGHTS = {
    "profit": Weights(1.0, 1.0, 0.0),
    "revenue": Weights(1.0, 0.0, 0.0),
    "units": Weights(TIE_BREAK, TIE_BREAK, 1.0),
}


def weights(maximise: str) -> Weights:
    """Return the row's weights for a policy's ``objective.maximise``.

    ``revenue`` is what the shop keeps of sales after refunds. ``units`` are units kept by buyers,
    each valued at the unit cost, which keeps the objective an amount of money; a thousandth of
    the profit is added, so that a price that sells out anyway is not given away.

    Raises
    ------
    KeyError : not ``profit``, ``revenue`` or ``units``
    """
    return _WEIGHTS[maximise]


#: A harmless valid row: it fills the unused places of a tile.
PADDING = Row(
    unit_cost=0.5,
    return_cost=0.0,
    kept_share=1.0,
    horizon_days=1.0,
    demand_per_day=1.0,
    elasticity=-2.0,
    rival_price=1.0,
    rival_omega=0.0,
    rival_tau=0.0,
    demand_volatility=0.0,
    stock=1.0,
    unlimited=1.0,
    holding_cost_per_day=0.0,
    continuation_value=0.5,
    risk_aversion=0.0,
    target_leftover=1.0,
    value_volatility=0.0,
    level_variance=0.0,
    level_elasticity_covariance=0.0,
    elasticity_variance=0.0,
    return_min=0.0,
    return_max=0.0,
    return_intercept=0.0,
    return_linear=0.0,
    return_log=0.0,
    return_rate_sd=0.0,
    exact_small_stock=0.0,
    lower=0.5,
    upper=2.0,
)


class Fixed(NamedTuple):
    """The parts of a row that do not move with its price, each [tile]; loops compute them once."""

    log_demand: Array  # ln of units over the horizon at the reference price
    log_threshold: Array  # ln price at which the rival's term bends
    stock: Array  # units, made safe for unlimited rows
    log_stock: Array
    limited: Array  # bool
    exact: Array  # bool
    overage: ArrayLike  # C + h T - v, cost of a unit left
    weighted_overage: ArrayLike  # the same in the objective
    weighted_share: ArrayLike  # price_weight a
    weighted_cost: ArrayLike  # (cost_weight - unit_weight) C
    weighted_handling: ArrayLike  # cost_weight c_r
    value_risk: ArrayLike  # gamma/2 w^2 T C / L*
    variance_floor: Array  # (1e-6 C)^2, keeps the derivative of the square root finite
    partner_up: ArrayLike  # T times the partners' profits a day
    partner_down: ArrayLike


class Terms(NamedTuple):
    """The objective and what it is made of, at one price."""

    objective: Array  # Pi: what is maximised, after the risk terms, with what partners earn
    expected_profit: Array  # m S - (C + h T - v) L, whatever is maximised
    mean_demand: Array  # Q, units over the horizon
    expected_sales: Array  # S, units over the horizon
    sales_fill: Array  # N(-d1), the share of a small demand rise that is sold
    return_rate: Array  # R
    margin: Array  # m, per unit sold, after returns
    profit_sd: Array  # sqrt(Var), of what is maximised


def fixed_parts(row: Row) -> Fixed:
    """Return what :func:`terms` needs of ``row`` and no price moves."""
    limited = jnp.asarray(row.unlimited) < 0.5
    stock = jnp.where(limited, jnp.maximum(row.stock, STOCK_UNITS_MIN), 1.0)
    small = (stock <= SMALL_STOCK_UNITS_MAX) & (jnp.asarray(row.exact_small_stock) > 0.5)
    holding = row.holding_cost_per_day * row.horizon_days
    risk = 0.5 * row.risk_aversion * row.value_volatility**2 * row.horizon_days
    overage = row.unit_cost + holding - row.continuation_value
    return Fixed(
        log_demand=jnp.log(row.demand_per_day * row.horizon_days),
        log_threshold=jnp.log(row.rival_price) + row.rival_tau,
        stock=stock,
        log_stock=jnp.log(stock),
        limited=limited,
        exact=limited & small,
        overage=overage,
        weighted_overage=row.cost_weight * overage,
        weighted_share=row.price_weight * row.kept_share,
        weighted_cost=(row.cost_weight - row.unit_weight) * row.unit_cost,
        weighted_handling=row.cost_weight * row.return_cost,
        value_risk=risk * row.unit_cost / row.target_leftover,
        variance_floor=jnp.square(1e-6 * row.unit_cost),
        partner_up=row.horizon_days * row.partner_profit_up,
        partner_down=row.horizon_days * row.partner_profit_down,
    )


@jax.custom_jvp
def censored_sales(
    mean: Array, stock: Array, log_ratio: Array, spread: Array
) -> tuple[Array, Array]:
    """Return E[min(D, q)] and N(-d1) for lognormal demand D [3].

    Parameters
    ----------
    mean : [...], Q, units
    stock : [...], q, units
    log_ratio : [...], ln(Q / q)
    spread : [...], s, sd of ln D, above 0

    Notes
    -----
    A stock of q short of a call on demand (Black 1976). Its own derivative rule uses the identity
    Q phi(d1) = q phi(d2): a third of the work of differentiating through d1 and d2, and no
    cancellation.
    """
    d1 = log_ratio / spread + 0.5 * spread
    fill = normal_cdf(-d1)
    return mean * fill + stock * normal_cdf(d1 - spread), fill


@censored_sales.defjvp
def _censored_sales_jvp(
    primals: tuple[Array, Array, Array, Array], tangents: tuple[Array, Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    mean, stock, log_ratio, spread = primals
    mean_dot, stock_dot, log_ratio_dot, spread_dot = tangents
    sales, fill = censored_sales(mean, stock, log_ratio, spread)
    slope = log_ratio / spread
    d1 = slope + 0.5 * spread
    density = normal_density(d1)
    sold_out = normal_cdf(d1 - spread)
    sales_dot = fill * mean_dot + sold_out * stock_dot - mean * density * spread_dot
    d1_dot = log_ratio_dot / spread + (0.5 - slope / spread) * spread_dot
    return (sales, fill), (sales_dot, -density * d1_dot)


def counted_sales(mean: Array, stock: Array, dispersion: Array) -> Array:
    """Return E[min(D, q)] for negative-binomial demand, summed exactly for q <= 8 [4].

    Parameters
    ----------
    mean : [...], Q, units
    stock : [...], q, units, at most SMALL_STOCK_UNITS_MAX, whole or not
    dispersion : [...], sigma^2 + tau^2, 0 or above; 0 is Poisson demand

    Notes
    -----
    The probabilities follow by recursion, P(k) = P(k-1) r (1 + (k-1) phi) / k with
    r = Q / (1 + phi Q), without a gamma function; the sum of (q - k) P(k) is nested as Horner's
    rule nests a polynomial. The derivative by stock is the one to the right, P(D > q): what one
    more unit is worth.
    """
    widened = dispersion * mean
    step = mean / (1.0 + widened)
    wide_step = dispersion * step
    short = jnp.zeros_like(mean)
    for count in range(SMALL_STOCK_UNITS_MAX, 0, -1):
        growth = (step + (count - 1) * wide_step) * (1.0 / count)
        gap = jnp.where(stock >= count, stock - count, 0.0)
        short = growth * (gap + short)
    return stock - jnp.exp(-mean * log1p_ratio(widened)) * (stock + short)


def terms(log_price: Array, row: Row, fixed: Fixed) -> Terms:
    """Return the objective and its parts at ``log_price`` [..., tile] (ln of price / reference)."""
    price = jnp.exp(log_price)
    bend = softplus((log_price - fixed.log_threshold) / RIVAL_WIDTH)
    log_mean = fixed.log_demand + row.elasticity * log_price - row.rival_omega * RIVAL_WIDTH * bend
    mean = jnp.exp(log_mean)
    tau2 = row.level_variance + log_price * (
        2.0 * row.level_elasticity_covariance + log_price * row.elasticity_variance
    )
    dispersion = row.demand_volatility**2 + jnp.where(tau2 < 0.0, 0.0, tau2)

    score = row.return_intercept + row.return_linear * price + row.return_log * log_price
    return_rate = row.return_min + (row.return_max - row.return_min) * sigmoid(score)
    earned = row.kept_share * price - row.unit_cost
    margin = earned * (1.0 - return_rate) - row.return_cost * return_rate
    counted = fixed.weighted_share * price - fixed.weighted_cost
    worth = counted * (1.0 - return_rate) - fixed.weighted_handling * return_rate

    # Unlimited rows take a spread of their own, so that the branch they mask stays finite.
    spread = jnp.sqrt(log1p(jnp.where(fixed.limited, dispersion, 1.0) + 1.0 / mean))
    sales, fill = censored_sales(mean, fixed.stock, log_mean - fixed.log_stock, spread)
    small = jnp.where(fixed.exact, fixed.stock, 1.0)
    sales = jnp.where(fixed.exact, counted_sales(mean, small, dispersion), sales)
    sales = jnp.where(fixed.limited, sales, mean)
    fill = jnp.where(fixed.limited, fill, 1.0)

    left = jnp.where(fixed.limited, fixed.stock - sales, 0.0)
    off_target = jnp.where(fixed.limited, left - row.target_leftover, 0.0)
    variance = (
        jnp.square(worth * mean * fill) * dispersion
        + jnp.square((counted + fixed.weighted_handling) * sales * row.return_rate_sd)
        + fixed.variance_floor
    )
    profit_sd = jnp.sqrt(variance)
    expected_profit = margin * sales - fixed.overage * left
    own = worth * sales - fixed.weighted_overage * left
    own = own - fixed.value_risk * jnp.square(off_target) - row.risk_aversion * profit_sd
    partners = fixed.partner_up * jnp.exp(row.partner_elasticity_up * log_price)
    partners += fixed.partner_down * jnp.exp(row.partner_elasticity_down * log_price)
    objective = jnp.asarray(own + partners)
    return Terms(objective, expected_profit, mean, sales, fill, return_rate, margin, profit_sd)


def slope_and_curvature(log_price: Array, row: Row, fixed: Fixed) -> tuple[Array, Array]:
    """Return the first and second derivative of the objective by ln price, each [..., tile]."""

    def value(x: Array) -> Array:
        return terms(x, row, fixed).objective

    def slope(x: Array) -> Array:
        tangent: Array = jax.jvp(value, (x,), (jnp.ones_like(x),))[1]
        return tangent

    found: tuple[Array, Array] = jax.jvp(slope, (log_price,), (jnp.ones_like(log_price),))
    return found
