"""The demand update of many products at once, in arrays: for training and benchmarks.

The same arithmetic as `models.demand.demand.learn`, to 1e-12 (exp and log may differ in the last
place). The fold keeps to the scalar update, whose bytes do not depend on the batch.
"""

import numpy as np
from numpy.typing import NDArray

from models.demand.demand import (
    COEFFICIENT_MAX,
    DEFAULT_SETTINGS,
    MODE_TOLERANCE,
    NEWTON_STEPS_MAX,
    STEP_DAYS_MAX,
    VARIANCE_MIN,
    Z_MAX,
    DemandSettings,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_ROWS = 4096  # the some thirty columns of a block stay in the processor's cache


def learn_many(
    mean: Floats,
    cov: Floats,
    ln_price: Floats,
    ln_rival: Floats,
    control: Floats,
    orders: Floats | Ints,
    exposure_days: Floats,
    days: Floats,
    settings: DemandSettings = DEFAULT_SETTINGS,
    offset: Floats | None = None,
    offset_variance: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Update the beliefs of n products, each with one closed epoch of its own.

    Parameters
    ----------
    mean : [n, 4] coefficients (b, eps, eta, delta); not changed
    cov : [n, 10] covariances, upper triangles by rows; not changed
    ln_price, control : [n] finite, as in `models.demand.epoch.Features`
    ln_rival : [n] ln(P_c / P_ref), NaN where no rival is known
    orders : [n] order lines, at least 0
    exposure_days : [n] days of typical traffic, above 0
    days : [n] days since the last update; at most 365 widen the belief, below 0 none
    offset : [n] known part of ln demand, such as a season; none where not given
    offset_variance : [n] its variance, at least 0; none where not given

    Returns
    -------
    mean [n, 4] and cov [n, 10] afterwards, new arrays

    Raises
    ------
    ValueError : a column's length is not n, a number is not finite, orders are below 0, exposure
        is not above 0

    >>> start = np.array([[0.0, -2.0, 0.2, 0.0]])
    >>> spread = np.array([[1.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.04, 0.0, 0.25]])
    >>> one = np.ones(1)
    >>> mean, _ = learn_many(start, spread, 0.1 * one, np.nan * one, 0 * one, 3 * one, one, one)
    >>> mean.round(3).tolist()
    [[0.824, -1.979, 0.2, 0.0]]
    """
    n = len(mean)
    none = np.zeros(n)
    columns: list[Floats | Ints] = [
        ln_price, ln_rival, control, orders, exposure_days, days,
        none if offset is None else offset, none if offset_variance is None else offset_variance,
    ]  # fmt: skip
    _check(mean, cov, columns)
    learned_mean, learned_cov = np.empty((n, 4)), np.empty((n, 10))
    for start in range(0, n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block = [np.asarray(column[rows], dtype=np.float64) for column in columns]
        means, covs = _learn_block(
            np.ascontiguousarray(mean[rows].T), np.ascontiguousarray(cov[rows].T), block, settings
        )
        learned_mean[rows] = means.T
        learned_cov[rows] = covs.T
    return learned_mean, learned_cov


def _check(mean: Floats, cov: Floats, columns: list[Floats | Ints]) -> None:
    n = len(mean)
    if mean.shape != (n, 4) or cov.shape != (n, 10):
        raise ValueError(f"shapes were {mean.shape}, {cov.shape}; expected ({n}, 4), ({n}, 10)")
    if any(column.shape != (n,) for column in columns):
        raise ValueError(f"columns were {[c.shape for c in columns]}; expected ({n},) each")
    ln_price, ln_rival, control, orders, exposure_days, days, offset, variance = columns
    for column in (mean, cov, ln_price, control, orders, exposure_days, days, offset, variance):
        if not np.isfinite(column).all():
            raise ValueError("a number was not finite; only ln_rival may be NaN")
    if np.isinf(ln_rival).any():
        raise ValueError("ln_rival was infinite; expected finite numbers, or NaN where unknown")
    if (orders < 0).any() or (variance < 0).any() or not (exposure_days > 0.0).all():
        raise ValueError("expected orders and variances of 0 or more, exposure_days above 0")


def _learn_block(
    mean: Floats, cov: Floats, columns: list[Floats], settings: DemandSettings
) -> tuple[Floats, Floats]:
    """`learn_many` on columns: mean [4, n], cov [10, n]."""
    p, ln_rival, u, orders, exposure_days, days, offset, offset_variance = columns
    b, eps, eta, delta = mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = cov
    walked = np.clip(days, 0.0, STEP_DAYS_MAX)
    c_bb = c_bb + settings.level_walk_per_day * walked
    c_ee = c_ee + settings.elasticity_walk_per_day * walked
    unknown = np.isnan(ln_rival)
    r = np.where(unknown, 0.0, ln_rival)
    v_b = c_bb + c_be * p + c_bn * r + c_bd * u
    v_e = c_be + c_ee * p + c_en * r + c_ed * u
    v_n = c_bn + c_en * p + c_nn * r + c_nd * u
    v_d = c_bd + c_ed * p + c_nd * r + c_dd * u
    spread = v_b + v_e * p + v_n * r + v_d * u + offset_variance
    spread = spread + np.where(unknown, settings.missing_rival_sd**2 * (eta * eta + c_nn), 0.0)
    z_0 = b + eps * p + eta * r + delta * u + offset + np.log(exposure_days)
    z, information = _modes(z_0, spread, orders, settings.dispersion)
    step = (z - z_0) / spread
    k = information / (1.0 + information * spread)
    k_b, k_e, k_n = k * v_b, k * v_e, k * v_n
    moved_eta = np.where(unknown, eta, eta + v_n * step)
    moved_nn = np.where(unknown, c_nn, c_nn - k_n * v_n)
    learned = np.stack((b + v_b * step, eps + v_e * step, moved_eta, delta + v_d * step))
    low = VARIANCE_MIN
    covariance = np.stack((
        np.maximum(c_bb - k_b * v_b, low),
        c_be - k_b * v_e,
        c_bn - k_b * v_n,
        c_bd - k_b * v_d,
        np.maximum(c_ee - k_e * v_e, low),
        c_en - k_e * v_n,
        c_ed - k_e * v_d,
        np.maximum(moved_nn, low),
        c_nd - k_n * v_d,
        np.maximum(c_dd - k * v_d * v_d, low),
    ))  # fmt: skip
    return np.clip(learned, -COEFFICIENT_MAX, COEFFICIENT_MAX), covariance


def _modes(z_0: Floats, spread: Floats, orders: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """`models.demand.demand._mode` of each row; a row that has converged waits for the others."""
    start = np.clip(z_0, -Z_MAX, Z_MAX)
    mu = np.exp(start)
    end = np.clip(start + spread * (orders - mu) / (1.0 + dispersion * mu), -Z_MAX, Z_MAX)
    low, high = np.minimum(start, end), np.maximum(start, end)
    precision, gain = 1.0 / spread, 1.0 + dispersion * orders
    weight = (orders + 0.5) / gain
    z = (start * precision + np.log(orders + 0.5) * weight) / (precision + weight)
    information = np.zeros(len(z))
    moving = np.ones(len(z), dtype=np.bool_)
    for _ in range(NEWTON_STEPS_MAX):
        outside = moving & ~((low <= z) & (z <= high))
        if outside.any():
            z = np.where(outside, 0.5 * (low + high), z)
        mu = np.exp(z)
        scale = 1.0 + dispersion * mu
        information = np.where(moving, mu * gain / (scale * scale), information)
        slope = (z - start) * precision - (orders - mu) / scale
        above = slope > 0.0
        high, low = np.where(above, z, high), np.where(above, low, z)
        step = np.where(moving, slope / (precision + information), 0.0)
        z = z - step
        moving = moving & (np.abs(step) >= MODE_TOLERANCE)
        if not moving.any():
            break
    return z + (z_0 - start), information
