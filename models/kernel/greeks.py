"""The sensitivities of one SKU's objective at a given price, by automatic differentiation.

What each field means, its unit, its sign and its bump stand in one table: ``docs/objective.md``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from models.kernel.objective import Fixed, Row, Terms, fixed_parts, slope_and_curvature, terms


class Greeks(NamedTuple):
    """Sensitivities at one price.

    Kernels give them normalised by the reference price; :func:`to_minor` turns them into minor
    units. ``rho`` and ``price_stock`` are None when stock is unlimited: there is no stock to bump.
    """

    delta: float  # d Pi / d P
    gamma: float  # d2 Pi / d P2
    vega: float  # d Pi / d sigma
    rho: float | None  # d Pi / d q, to the right
    vanna: float  # d2 Pi / d P d sigma
    theta: float  # -d Pi / d T, per day passed
    vega_elasticity: float  # d Pi / d sd(eps)
    vega_return: float  # d Pi / d sd(R)
    elasticity_slope: float  # d Pi / d eps
    level_slope: float  # d Pi / d b, b the log of the demand level
    price_stock: float | None  # d2 Pi / d P d q
    cost_slope: float  # d Pi / d C, the shares h / C and v / C held
    handling_slope: float  # d Pi / d c_r
    return_slope: float  # d Pi / d r_0, r_0 the return rate's intercept in logits
    rival_slope: float  # d Pi / d ln P_c, through the rival's threshold


class _Bumped(NamedTuple):
    """The inputs that the reverse pass differentiates by."""

    demand_volatility: Array
    stock: Array
    horizon_days: Array
    elasticity: Array
    demand_per_day: Array
    level_variance: Array
    return_rate_sd: Array
    unit_cost: Array
    holding_cost_per_day: Array
    continuation_value: Array
    return_cost: Array
    return_intercept: Array
    rival_tau: Array


def objective_and_slope(price: Array, row: Row, fixed: Fixed) -> tuple[Array, Array]:
    """Return Pi and d Pi / d P at ``price`` [..., tile], normalised."""

    def value(at: Array) -> Array:
        return terms(jnp.log(at), row, fixed).objective

    found: tuple[Array, Array] = jax.jvp(value, (price,), (jnp.ones_like(price),))
    return found


def greeks_at(price: Array, row: Row) -> tuple[Terms, tuple[Array, ...]]:
    """Return the objective's terms and its sensitivities at ``price`` [tile], normalised.

    The sensitivities are in the order of :class:`Greeks`.

    One forward pass (by price) over one reverse pass (by everything else) gives all but delta and
    gamma, which two forward passes give four times faster. ``vega_elasticity`` holds the
    correlation between level and elasticity, so the covariance moves with sd(eps).
    """

    log_price = jnp.log(price)

    def value(at: Array, bumped: _Bumped) -> tuple[Array, Terms]:
        moved = row._replace(**bumped._asdict())
        parts = terms(at, moved, fixed_parts(moved))
        return jnp.sum(parts.objective), parts

    def gradient(at: Array) -> tuple[_Bumped, Terms]:
        found: tuple[_Bumped, Terms] = jax.grad(value, argnums=1, has_aux=True)(at, bumped)
        return found

    bumped = _Bumped(*(jnp.asarray(getattr(row, name)) for name in _Bumped._fields))
    (first, parts), (second, _) = jax.jvp(gradient, (log_price,), (1.0 / price,))
    slope, curvature = slope_and_curvature(log_price, row, fixed_parts(row))

    elasticity_sd = jnp.sqrt(row.elasticity_variance)
    known = elasticity_sd == 0.0
    correlated = row.level_elasticity_covariance / jnp.where(known, 1.0, elasticity_sd)
    per_sd = 2.0 * log_price * (jnp.where(known, 0.0, correlated) + log_price * elasticity_sd)
    beside_cost = row.holding_cost_per_day * first.holding_cost_per_day
    beside_cost += row.continuation_value * first.continuation_value
    greeks = {
        "delta": slope / price,
        "gamma": (curvature - slope) / jnp.square(price),
        "vega": first.demand_volatility,
        "rho": first.stock,
        "vanna": second.demand_volatility,
        "theta": -first.horizon_days,
        "vega_elasticity": first.level_variance * per_sd,
        "vega_return": first.return_rate_sd,
        "elasticity_slope": first.elasticity,
        "level_slope": first.demand_per_day * row.demand_per_day,
        "price_stock": second.stock,
        "cost_slope": first.unit_cost + beside_cost / row.unit_cost,
        "handling_slope": first.return_cost,
        "return_slope": first.return_intercept,
        "rival_slope": first.rival_tau,  # a log too: the threshold lies at ln P_c + tau
    }
    return parts, tuple(greeks[name] for name in Greeks._fields)


def to_minor(greeks: Greeks, reference_price_minor: float) -> Greeks:
    """Return normalised Greeks in minor units of the reference price's currency.

    Profit scales with the reference price, and price and costs do too, so ``delta``, ``vanna``,
    ``price_stock``, ``cost_slope`` and ``handling_slope`` keep their value (units, but for
    ``price_stock``, which has none), and ``gamma`` is divided.
    """
    unit = reference_price_minor
    return Greeks(
        delta=greeks.delta,
        gamma=greeks.gamma / unit,
        vega=greeks.vega * unit,
        rho=None if greeks.rho is None else greeks.rho * unit,
        vanna=greeks.vanna,
        theta=greeks.theta * unit,
        vega_elasticity=greeks.vega_elasticity * unit,
        vega_return=greeks.vega_return * unit,
        elasticity_slope=greeks.elasticity_slope * unit,
        level_slope=greeks.level_slope * unit,
        price_stock=greeks.price_stock,
        cost_slope=greeks.cost_slope,
        handling_slope=greeks.handling_slope,
        return_slope=greeks.return_slope * unit,
        rival_slope=greeks.rival_slope * unit,
    )
