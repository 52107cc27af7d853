"""The baseline of the pricing benchmark: the same search, vectorised in numpy.

Same objective, grid, starts, steps and tolerance as ``models.kernel.solver``, with first and second
derivatives by hand and without the Greeks. It is as fast as numpy lets us make it: the price's
own quantities are computed once per point, the exact small-stock sum runs over the rows that need
it, and the second climb over the rows that have a second peak.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from models.kernel.objective import RIVAL_WIDTH, SMALL_STOCK_UNITS_MAX, STOCK_UNITS_MIN, Row
from models.kernel.solver import BRACKET_LOG, GRID_POINTS, NEWTON_STEPS_MAX

Floats = NDArray[np.float64]
_ROOT_TAU = 0.3989422804014327  # 1 / sqrt(2 pi)


class Catalogue(NamedTuple):
    """Rows as arrays [n], and what of them no price moves."""

    row: Any  # Row of arrays [n]
    log_demand: Floats
    log_threshold: Floats
    stock: Floats
    log_stock: Floats
    limited: NDArray[np.bool_]
    exact: NDArray[np.intp]  # indices of the rows with the exact small-stock sum
    overage: Floats
    value_risk: Floats


def prepare(matrix: Floats) -> Catalogue:
    """Return the rows of ``matrix`` [fields, n] with their fixed parts."""
    row: Any = Row._make(matrix)
    limited = row.unlimited < 0.5
    stock = np.where(limited, np.maximum(row.stock, STOCK_UNITS_MIN), 1.0)
    small = limited & (row.exact_small_stock > 0.5) & (stock <= SMALL_STOCK_UNITS_MAX)
    risk = 0.5 * row.risk_aversion * row.value_volatility**2 * row.horizon_days
    return Catalogue(
        row,
        np.log(row.demand_per_day * row.horizon_days),
        np.log(row.rival_price) + row.rival_tau,
        stock,
        np.log(stock),
        limited,
        np.flatnonzero(small),
        row.unit_cost + row.holding_cost_per_day * row.horizon_days - row.continuation_value,
        risk * row.unit_cost / row.target_leftover,
    )


def choose(catalogue: Catalogue, index: NDArray[np.intp]) -> Catalogue:
    """Return the rows at ``index``."""
    return prepare(np.array([field[index] for field in catalogue.row]))


def _sigmoid(z: Floats) -> Floats:
    small = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, small) / (1.0 + small)


def _poisson_start(mean: Floats, dispersion: Floats) -> Floats:
    """Return P(D = 0) = (1 + phi Q)^(-1/phi)."""
    widened = dispersion * mean
    tiny = widened < 1e-8
    ratio = np.where(tiny, 1.0, np.log1p(widened) / np.where(tiny, 1.0, widened))
    return np.exp(-mean * ratio)


def _demand(x: Floats, c: Catalogue) -> tuple[Floats, Floats, Floats]:
    """Return ln Q, Q, and the dispersion sigma^2 + tau^2 at log price ``x``."""
    row = c.row
    bend = np.logaddexp(0.0, (x - c.log_threshold) / RIVAL_WIDTH)
    log_mean = c.log_demand + row.elasticity * x - (RIVAL_WIDTH * row.rival_omega) * bend
    tau2 = (
        row.level_variance
        + (2.0 * row.level_elasticity_covariance + row.elasticity_variance * x) * x
    )
    return log_mean, np.exp(log_mean), row.demand_volatility**2 + np.maximum(tau2, 0.0)


def objective(x: Floats, c: Catalogue) -> Floats:
    """Return Pi at log price ``x`` [n]."""
    row = c.row
    price = np.exp(x)
    log_mean, mean, dispersion = _demand(x, c)
    score = row.return_intercept + row.return_linear * price + row.return_log * x
    returned = row.return_min + (row.return_max - row.return_min) * _sigmoid(score)
    earned = row.kept_share * price - row.unit_cost
    margin = earned * (1.0 - returned) - row.return_cost * returned
    spread = np.sqrt(np.log1p(dispersion + 1.0 / mean))
    d1 = (log_mean - c.log_stock) / spread + 0.5 * spread
    fill = ndtr(-d1)
    sales = mean * fill + c.stock * ndtr(d1 - spread)
    if c.exact.size:
        at = c.exact
        sales[at] = _counted(mean[at], c.stock[at], dispersion[at])
    sales = np.where(c.limited, sales, mean)
    fill = np.where(c.limited, fill, 1.0)
    left = np.where(c.limited, c.stock - sales, 0.0)
    off = np.where(c.limited, left - row.target_leftover, 0.0)
    variance = (
        (margin * mean * fill) ** 2 * dispersion
        + ((earned + row.return_cost) * sales * row.return_rate_sd) ** 2
        + (1e-6 * row.unit_cost) ** 2
    )
    risk = c.value_risk * off * off + row.risk_aversion * np.sqrt(variance)
    return margin * sales - c.overage * left - risk


def _counted(mean: Floats, stock: Floats, dispersion: Floats) -> Floats:
    chance = _poisson_start(mean, dispersion)
    step = mean / (1.0 + dispersion * mean)
    short = stock * chance
    for count in range(1, SMALL_STOCK_UNITS_MAX + 1):
        chance = chance * step * ((1.0 + dispersion * (count - 1)) / count)
        short += np.maximum(stock - count, 0.0) * chance
    return stock - short


Triple = tuple[Floats, Floats, Floats]  # a quantity with its first and second derivative by x


def _product(a: Triple, b: Triple) -> Triple:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + 2.0 * a[1] * b[1] + a[0] * b[2]


def _counted_triple(log_mean: Triple, dispersion: Triple, stock: Floats) -> Triple:
    """Return the exact sales and their derivatives, by the recursion of the probabilities."""
    level, slope, bend = log_mean
    mean = np.exp(level)
    q: Triple = (mean, mean * slope, mean * (slope * slope + bend))
    wide = _product(dispersion, q)
    base = 1.0 + wide[0]
    one = wide[1] / base
    step0 = mean / base  # Q / (1 + phi Q), and its logarithmic derivatives
    step1, step2 = slope - one, bend - wide[2] / base + one * one
    step: Triple = (step0, step0 * step1, step0 * (step1 * step1 + step2))
    phi = dispersion[0]
    safe = np.where(phi < 1e-8, 1.0, phi)
    logs: Triple = (np.log1p(wide[0]), one, wide[2] / base - one * one)
    r0 = 1.0 / safe
    r1 = -dispersion[1] * r0 * r0
    r2 = -dispersion[2] * r0 * r0 + 2.0 * dispersion[1] ** 2 * r0**3
    power = _product((r0, r1, r2), logs)
    power = tuple(np.where(phi < 1e-8, a, b) for a, b in zip(q, power, strict=True))
    chance0 = np.exp(-power[0])
    chance: Triple = (chance0, -power[1] * chance0, (power[1] ** 2 - power[2]) * chance0)
    short = [stock * part for part in chance]
    for count in range(1, SMALL_STOCK_UNITS_MAX + 1):
        share = (count - 1) / count
        growth = (1.0 / count + share * phi, share * dispersion[1], share * dispersion[2])
        chance = _product(chance, _product(step, growth))
        gap = np.maximum(stock - count, 0.0)
        for total, part in zip(short, chance, strict=True):
            total += gap * part
    return stock - short[0], -short[1], -short[2]


def slope_and_curvature(x: Floats, c: Catalogue) -> tuple[Floats, Floats]:
    """Return the first and second derivative of Pi by log price at ``x`` [n]."""
    row = c.row
    price = row.kept_share * np.exp(x)
    log_mean, mean, phi = _demand(x, c)
    above = _sigmoid((x - c.log_threshold) / RIVAL_WIDTH)
    l1 = row.elasticity - row.rival_omega * above
    l2 = (-1.0 / RIVAL_WIDTH) * row.rival_omega * above * (1.0 - above)
    q: Triple = (mean, mean * l1, mean * (l1 * l1 + l2))
    v_e = row.elasticity_variance
    phi1, phi2 = 2.0 * (row.level_elasticity_covariance + v_e * x), 2.0 * v_e

    rising = row.return_linear * (price / row.kept_share)
    r = _sigmoid(row.return_intercept + rising + row.return_log * x)
    span = row.return_max - row.return_min
    r1 = span * r * (1.0 - r)
    score1 = rising + row.return_log
    returned: Triple = (
        row.return_min + span * r,
        r1 * score1,
        r1 * ((1.0 - 2.0 * r) * score1 * score1 + rising),
    )
    kept = 1.0 - returned[0]
    refund = price - row.unit_cost + row.return_cost
    margin: Triple = (
        refund * kept - row.return_cost,
        price * kept - refund * returned[1],
        price * kept - 2.0 * price * returned[1] - refund * returned[2],
    )

    sales, fill = _censored_triple(c, log_mean, l1, l2, q, (phi, phi1, phi2))
    shock = _product(_product(margin, q), fill)
    quality = _product((refund, price, price), sales)
    v_r = row.return_rate_sd**2
    square, quality2 = _product(shock, shock), _product(quality, quality)
    variance = [
        a + v_r * b for a, b in zip(_product(square, (phi, phi1, phi2)), quality2, strict=True)
    ]
    sd = np.sqrt(variance[0] + (1e-6 * row.unit_cost) ** 2)
    sd1 = variance[1] / (2.0 * sd)
    sd2 = variance[2] / (2.0 * sd) - sd1 * sd1 / sd

    gross = _product(margin, sales)
    off = np.where(c.limited, c.stock - sales[0] - row.target_leftover, 0.0)
    pull = np.where(c.limited, c.overage + 2.0 * c.value_risk * off, 0.0)
    bent = np.where(c.limited, 2.0 * c.value_risk, 0.0) * sales[1] * sales[1]
    gamma = row.risk_aversion
    return (
        gross[1] + pull * sales[1] - gamma * sd1,
        gross[2] + pull * sales[2] - bent - gamma * sd2,
    )


def _censored_triple(
    c: Catalogue, log_mean: Floats, l1: Floats, l2: Floats, q: Triple, dispersion: Triple
) -> tuple[Triple, Triple]:
    """Return sales and fill with their derivatives, for limited, exact and unlimited rows."""
    mean = q[0]
    noise = 1.0 / mean
    u = dispersion[0] + noise
    u1, u2 = dispersion[1] - l1 * noise, dispersion[2] + (l1 * l1 - l2) * noise
    w1 = u1 / (1.0 + u)
    w2 = u2 / (1.0 + u) - w1 * w1
    s = np.sqrt(np.log1p(u))
    s1 = w1 / (2.0 * s)
    s2 = w2 / (2.0 * s) - s1 * s1 / s
    k = (log_mean - c.log_stock) / s
    k1 = (l1 - k * s1) / s
    k2 = (l2 - 2.0 * k1 * s1 - k * s2) / s
    d, d1, d2 = k + 0.5 * s, k1 + 0.5 * s1, k2 + 0.5 * s2
    density = _ROOT_TAU * np.exp(-0.5 * d * d)
    full = ndtr(-d)
    at_risk = mean * density
    sales = [
        mean * full + c.stock * ndtr(d - s),
        full * q[1] - at_risk * s1,
        full * q[2] - density * q[1] * (d1 + s1) + at_risk * (d * d1 * s1 - s2),
    ]
    fill = (full, -density * d1, density * (d * d1 * d1 - d2))
    if c.exact.size:
        at = c.exact
        counted = _counted_triple(
            (log_mean[at], l1[at], l2[at]),
            (dispersion[0][at], dispersion[1][at], dispersion[2][at]),
            c.stock[at],
        )
        for total, part in zip(sales, counted, strict=True):
            total[at] = part
    unlimited = (1.0, 0.0, 0.0)
    return (
        tuple(np.where(c.limited, a, b) for a, b in zip(sales, q, strict=True)),
        tuple(np.where(c.limited, a, b) for a, b in zip(fill, unlimited, strict=True)),
    )


def _grid(c: Catalogue) -> Floats:
    low, high = np.log(c.row.lower), np.log(c.row.upper)
    cell = (high - low) / (GRID_POINTS - 1)
    even = low + np.arange(GRID_POINTS)[:, None] * cell
    grid = even.copy()
    inner = grid[1:-1]
    for kink in (np.zeros_like(low), c.log_threshold):
        near = np.abs(even[1:-1] - kink) <= 0.5 * cell
        inner[near] = np.broadcast_to(kink, inner.shape)[near]
    return grid


def _climb(c: Catalogue, grid: Floats, index: NDArray[np.intp]) -> Floats:
    column = np.arange(index.size)
    x = grid[index, column]
    low = grid[np.maximum(index - 1, 0), column]
    high = grid[np.minimum(index + 1, GRID_POINTS - 1), column]
    last = high - low
    done = np.zeros(index.size, dtype=bool)
    for _ in range(NEWTON_STEPS_MAX):
        slope, curvature = slope_and_curvature(x, c)
        rising = slope > 0.0
        low, high = np.where(rising, x, low), np.where(rising, high, x)
        concave = curvature < 0.0
        move = -slope / np.where(concave, curvature, -1.0)
        target = x + move
        newton = concave & (target >= low) & (target <= high)
        newton &= np.abs(move) <= np.maximum(0.5 * last, BRACKET_LOG)
        fresh = np.where(done, x, np.where(newton, target, 0.5 * (low + high)))
        last = np.abs(fresh - x)
        done |= (newton & (last <= BRACKET_LOG)) | (high - low <= BRACKET_LOG)
        x = fresh
        if done.all():
            break
    return x


def solve(matrix: Floats) -> tuple[Floats, Floats]:
    """Return the best price [n] and Pi there [n] for ``matrix`` [fields, n]."""
    c = prepare(matrix)
    grid = _grid(c)
    height = np.array([objective(x, c) for x in grid])
    peak = np.full_like(height, -np.inf)
    higher_left = np.vstack([np.ones((1, height.shape[1]), bool), height[1:] >= height[:-1]])
    higher_right = np.vstack([height[:-1] > height[1:], np.ones((1, height.shape[1]), bool)])
    np.copyto(peak, height, where=higher_left & higher_right)
    first = peak.argmax(axis=0)
    column = np.arange(first.size)
    peak[first, column] = -np.inf
    second = peak.argmax(axis=0)
    x = _climb(c, grid, first)
    best = objective(x, c)
    again = np.flatnonzero(peak[second, column] > -np.inf)
    if again.size:
        part = choose(c, again)
        other = _climb(part, grid[:, again], second[again])
        other_best = objective(other, part)
        better = other_best > best[again]
        x[again[better]], best[again[better]] = other[better], other_best[better]
    return np.exp(x), best
