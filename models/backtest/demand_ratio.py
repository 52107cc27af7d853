"""What another price would have sold, as a ratio to what the shown price sold, over draws.

    ln Q(P)/Q(P_0) = (eps + kappa eta) d - omega (g(r + (1 - kappa) d) - g(r)) + curve / 2 (h^2)

with d = ln P/P_0, r = ln P_0/P_c - tau, g the bend at the rival's price, kappa the share of our
moves that rivals make too. h is how far P lies outside the prices that were charged; there the
elasticity itself is less known: it changes with ln P at a rate of mean 0.

Stock that is not ordered again sells S = E[min(D, q)]. Stock that is ordered when it runs low sells
out while the delivery is on its way, and faster sales are out for longer. With a share f of the
time sold out at the shown price, lead times exponential, and k the stock at which is ordered over
what the mean lead time sells, a ratio rho of demand sells (units a cycle over its length, a renewal
reward)

    1 / ((1 - f) / rho + f exp(k (1 - 1 / rho)))
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from models.backtest.columns import INPUTS, Decisions, Epochs, Floats, Integers
from models.backtest.hindsight import EXPOSURE_DAYS_MIN, by_product
from models.backtest.pieces import Pieces
from models.kernel.objective import RIVAL_WIDTH, STOCK_UNITS_MIN
from schemas.events import DAY_MS

CURVE_SD = 1.0  # d eps / d ln P: 0 for constant elasticity, about eps for logit demand
CURVE_COMMON_SHARE = 0.5  # of its variance, common to the catalogue
OMEGA_RELATIVE_SD = 0.3
RANGE_SHARE = 0.05  # of exposure, left out at each end of the prices charged
LN_RATIO_MAX = 5.0
REORDER_COVER, REORDER_COVER_SD, REORDER_COVER_MIN = 1.6, 0.7, 0.2  # k, and how little is known
OUT_PRIOR_DAYS = 30.0  # of the catalogue's sold-out share in a product's
REPLENISHED_SHARE = 0.25  # of what stock falls it must have risen, to count as ordered again
FOLLOW_SD, FOLLOW_MAX = 0.5, 1.0  # as in `models.demand.following`
MOVE_MAX, NOISE_SD_MIN = 0.5, 0.01


class Circumstances(NamedTuple):
    """What the ratio needs of each piece [piece]; no draw enters here.

    ``rival_gap`` is ln(P_0 / P_c) - tau, NaN without a rival. ``outside`` is (h of the price)^2
    less (h of the shown price)^2. ``out_share`` is f, 0 where stock is unlimited or not ordered
    again. ``stock`` is NaN but where it is not ordered again; ``wanted`` are the units that the
    shown price would sell over the horizon that the stock is for, ``spread`` the variance of their
    log without the noise of single sales.
    """

    move: Floats
    rival_gap: Floats
    omega: Floats
    outside: Floats
    out_share: Floats
    stock: Floats
    wanted: Floats
    spread: Floats


class Draw(NamedTuple):
    """Draws of what the ratio depends on: [draw, product], the rest [draw]."""

    elasticity: Floats
    rival: Floats
    curve: Floats
    omega: Floats
    follow: Floats
    reorder_cover: Floats


def charged_range(epochs: Epochs, products: int) -> tuple[Floats, Floats]:
    """Ln prices [product] that 5 % of the exposure lie below, and above; NaN without any."""
    low, high = np.full(products, np.nan), np.full(products, np.nan)
    ln_price = np.log(epochs.price_minor)
    order = np.lexsort((ln_price, epochs.product))
    bounds = np.searchsorted(epochs.product[order], np.arange(products + 1))
    for i in range(products):
        rows = order[bounds[i] : bounds[i + 1]]
        if not len(rows):
            continue
        passed = np.cumsum(np.maximum(epochs.exposure_days[rows], 1e-6))
        at = np.searchsorted(passed, np.array([RANGE_SHARE, 1.0 - RANGE_SHARE]) * passed[-1])
        low[i], high[i] = ln_price[rows[np.minimum(at, len(rows) - 1)]]
    return low, high


def follow_rate(epochs: Epochs) -> tuple[float, float]:
    """How much of our own moves rivals make too: mean and sd, over the catalogue.

    The exogenous part z of a move dx is the instrument for what the rival does after it, dy:
    kappa = sum z dy / sum z dx, drawn to 0 by a prior of sd 0.5.
    """
    product, ln_price = epochs.product, np.log(epochs.price_minor)
    if len(product) < 3:
        return 0.0, FOLLOW_SD
    exogenous = ln_price - epochs.control
    x, z = ln_price[1:-1] - ln_price[:-2], exogenous[1:-1] - exogenous[:-2]
    ln_rival = epochs.ln_rival + np.log(epochs.reference_minor)
    y = ln_rival[2:] - ln_rival[1:-1]
    same = (product[2:] == product[:-2]) & ~np.isnan(y)
    small = np.maximum(np.maximum(np.abs(x), np.abs(z)), np.abs(np.nan_to_num(y))) <= MOVE_MAX
    rows = same & small & ((x != 0.0) | (z != 0.0))
    x, y, z = x[rows], y[rows], z[rows]
    zx, zz = float(z @ x), float(z @ z)
    if zx <= 0.0 or zz <= 0.0:
        return 0.0, FOLLOW_SD
    kappa = float(z @ y) / zx
    noise = max(float(np.mean((y - kappa * x) ** 2)), NOISE_SD_MIN**2)
    information = zx * zx / (noise * zz)
    precision = information + 1.0 / FOLLOW_SD**2
    mean = min(max(kappa * information / precision, -FOLLOW_MAX), FOLLOW_MAX)
    return mean, precision**-0.5


def sold_out_share(epochs: Epochs, policy: Decisions, products: int) -> Floats:
    """Share of the time [product] in which stock that is ordered again was sold out.

    NaN for a product whose stock is unlimited or was not ordered again. Time between a product's
    epochs is time sold out.
    """
    stock = policy.inputs[:, INPUTS.index("stock")]
    limited = policy.inputs[:, INPUTS.index("unlimited")] == 0.0
    same = (policy.product[1:] == policy.product[:-1]) & limited[1:] & limited[:-1]
    change = np.where(same, stock[1:] - stock[:-1], 0.0) if len(stock) else np.zeros(0)
    rises = by_product(policy.product[1:], np.maximum(change, 0.0), products)
    falls = by_product(policy.product[1:], np.maximum(-change, 0.0), products)
    ordered = (rises > 0.0) & (rises >= REPLENISHED_SHARE * falls)
    taught = epochs.exposure_days >= EXPOSURE_DAYS_MIN
    product, begin, end = (c[taught] for c in (epochs.product, epochs.begin_ms, epochs.end_ms))
    open_days = by_product(product, (end - begin) / DAY_MS, products)
    edges = np.searchsorted(product, np.arange(products + 1))
    some = np.flatnonzero(edges[1:] > edges[:-1])
    span_days = np.zeros(products)
    span_days[some] = (end[edges[some + 1] - 1] - begin[edges[some]]) / DAY_MS
    out_days = np.where(ordered, np.maximum(span_days - open_days, 0.0), 0.0)
    total = float(span_days[ordered].sum())
    typical = float(out_days.sum()) / total if total > 0.0 else 0.0
    share = (out_days + OUT_PRIOR_DAYS * typical) / (span_days + OUT_PRIOR_DAYS)
    return np.where(ordered, share, np.nan)


def circumstances(
    pieces: Pieces,
    epochs: Epochs,
    policy: Decisions,
    price_minor: Floats,
    row: Integers,
    charged: tuple[Floats, Floats],
    out_share: Floats,
) -> Circumstances:
    """Collect what the ratio of one policy's prices needs.

    Parameters
    ----------
    price_minor, row : the policy's price and its decision in force, each [piece]
    charged : from `charged_range`
    out_share : from `sold_out_share`
    """
    ln_price, ln_shown = np.log(price_minor), np.log(pieces.shown_minor)
    ln_rival = epochs.ln_rival[pieces.epoch] + np.log(epochs.reference_minor[pieces.epoch])
    low, high = (bound[pieces.product] for bound in charged)
    products = len(charged[0])
    tau = _last_known(policy, "rival_tau", products)
    omega = _last_known(policy, "rival_omega", products)
    out = out_share[pieces.product]
    stock, wanted, spread = _stock(pieces, policy, np.where(np.isnan(out), row, -1))
    return Circumstances(
        move=ln_price - ln_shown,
        rival_gap=ln_shown - ln_rival - tau[pieces.product],
        omega=omega[pieces.product],
        outside=_beyond(ln_price, low, high) ** 2 - _beyond(ln_shown, low, high) ** 2,
        out_share=np.where(np.isnan(out), 0.0, out),
        stock=stock,
        wanted=wanted,
        spread=spread,
    )


def take(found: Circumstances, rows: slice) -> Circumstances:
    """The circumstances of some pieces."""
    return Circumstances._make(column[rows] for column in found)


def sales_ratio(found: Circumstances, product: Integers, draws: Draw) -> Floats:
    """Units sold at the policy's price over those at the shown price [draw, piece].

    One row of ones [1, piece] where every price is the shown one.

    Parameters
    ----------
    product : of each piece [piece]
    """
    if not (found.move.any() or found.outside.any()):
        return np.ones((1, len(product)))
    rival_known = ~np.isnan(found.rival_gap)
    follow = draws.follow[:, None] * rival_known
    eta = np.where(rival_known, draws.rival[:, product], 0.0)
    ln_ratio = (draws.elasticity[:, product] + follow * eta) * found.move
    ln_ratio += 0.5 * draws.curve[:, product] * found.outside
    if found.omega.any():
        gap = np.where(rival_known, found.rival_gap, 0.0)
        extra = _bend(gap + (1.0 - follow) * found.move) - _bend(gap)
        ln_ratio -= draws.omega[:, None] * np.where(rival_known, found.omega * extra, 0.0)
    ratio = np.exp(np.clip(ln_ratio, -LN_RATIO_MAX, LN_RATIO_MAX))
    ordered = np.flatnonzero(found.out_share > 0.0)
    if len(ordered):
        out, slower = found.out_share[ordered], 1.0 / ratio[:, ordered]
        longer = np.exp(draws.reorder_cover[:, None] * (1.0 - slower))
        ratio[:, ordered] = 1.0 / ((1.0 - out) * slower + out * longer)
    limited = np.flatnonzero(~np.isnan(found.stock))
    if len(limited):
        columns = found.wanted[limited], found.stock[limited], found.spread[limited]
        wanted, stock, spread = columns
        sold = _sales(wanted * ratio[:, limited], stock, spread)
        ratio[:, limited] = sold / _sales(wanted, stock, spread)
    return np.asarray(ratio)


def _sales(wanted: Floats, stock: Floats, spread: Floats) -> Floats:
    """S = E[min(D, q)] of lognormal demand, as `models.kernel.objective.censored_sales`."""
    deviation = np.sqrt(np.log1p(spread + 1.0 / wanted))
    d1 = np.log(wanted / stock) / deviation + 0.5 * deviation
    return np.asarray(wanted * special.ndtr(-d1) + stock * special.ndtr(d1 - deviation))


def _bend(ln_ratio: Floats) -> Floats:
    return np.asarray(RIVAL_WIDTH * np.logaddexp(0.0, ln_ratio / RIVAL_WIDTH))


def _beyond(ln_price: Floats, low: Floats, high: Floats) -> Floats:
    return np.maximum(np.maximum(low - ln_price, ln_price - high), 0.0)


def _stock(pieces: Pieces, policy: Decisions, row: Integers) -> tuple[Floats, Floats, Floats]:
    """Stock, units wanted of it at the shown price, and the spread of their log; NaN: unlimited."""
    if not len(policy.inputs):
        none = np.full(len(row), np.nan)
        return none, none, none
    place = np.maximum(row, 0)
    inputs = dict(zip(INPUTS, policy.inputs[place].T, strict=True))
    limited = (row >= 0) & (inputs["unlimited"] == 0.0)  # False, too, where there is no record
    x = np.log(pieces.shown_minor / policy.reference_minor[place])
    ln_change = np.clip(inputs["elasticity"] * x, -LN_RATIO_MAX, LN_RATIO_MAX)
    wanted = inputs["demand_per_day"] * inputs["horizon_days"] * np.exp(ln_change)
    return (
        np.where(limited, np.maximum(inputs["stock"], STOCK_UNITS_MIN), np.nan),
        np.where(limited, wanted, np.nan),
        np.where(limited, inputs["demand_volatility"] ** 2, np.nan),
    )


def _last_known(policy: Decisions, name: str, products: int) -> Floats:
    """A column of each product's last decision with a record [product]; 0 without one."""
    column = policy.inputs[:, INPUTS.index(name)]
    known = np.flatnonzero(~np.isnan(column))
    found = np.zeros(products)
    found[policy.product[known]] = column[known]  # rows stand in time order: the last one stays
    return found
