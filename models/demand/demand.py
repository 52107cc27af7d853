"""Online demand and elasticity of one product, with uncertainty.

Orders of an epoch are negative binomial with mean ``mu = E exp(x'theta)`` and variance
``mu + phi mu^2``; ``x = (1, ln P/P_ref, ln P_c/P_ref, u)``, and ``theta = (b, eps, eta, delta)`` is
normal. One epoch touches theta only along ``z = x'theta``, so the Laplace update is a search for
the mode in one dimension, then a rank-one change: `O(d^2)`, no matrix library. Derivation, units,
and what is not identified: docs/science/demand.md.
"""

import math
from functools import cache
from math import exp, inf, isfinite, log
from statistics import NormalDist
from typing import NamedTuple

from msgspec.structs import replace

from models.demand.epoch import Features, Observation
from schemas.events import DAY_MS
from schemas.learned import Coefficients, Covariance, DemandPosterior

Z_MAX = 60.0  # |ln mu| stays below: exp never overflows, and no shop sells e^60 a day
NEWTON_STEPS_MAX = 40
MODE_TOLERANCE = 1e-8  # the step taken after it leaves an error near its square
VARIANCE_MIN = 1e-9
STEP_DAYS_MAX = 365.0
COEFFICIENT_MAX = 50.0
UPPER_SDS = 2.0


class DemandSettings(NamedTuple):
    """Constants of the demand model.

    ``dispersion`` phi, no unit; ``level_walk_per_day`` and ``elasticity_walk_per_day``: variance
    that a day adds to b and eps; ``missing_rival_sd``: sd of ln(P_c/P_ref) while it is unknown;
    ``size_prior_lines``: order lines that the prior of one unit per line is worth;
    ``size_cap_multiple``: a line counts at most this multiple of the mean; ``size_lines_max``:
    memory of the mean, in lines.
    """

    dispersion: float = 0.2
    level_walk_per_day: float = 2e-3
    elasticity_walk_per_day: float = 1e-4
    missing_rival_sd: float = 0.1
    size_prior_lines: float = 5.0
    size_cap_multiple: float = 10.0
    size_lines_max: float = 2000.0


DEFAULT_SETTINGS = DemandSettings()


class DemandForecast(NamedTuple):
    """Demand for the objective, the control held at its present value.

    ``demand_per_day``: order lines per day of typical traffic at the reference price;
    ``v_bb``, ``v_be``, ``v_ee``: covariance of the log level (rival and control terms included) and
    the elasticity, so that ``tau^2 = v_bb + 2 v_be ln(P/P_ref) + v_ee ln(P/P_ref)^2``.
    """

    demand_per_day: float
    elasticity: float
    v_bb: float
    v_be: float
    v_ee: float


def learn(
    posterior: DemandPosterior,
    observation: Observation,
    now_ms: int,
    settings: DemandSettings = DEFAULT_SETTINGS,
) -> DemandPosterior:
    """Update the belief with one closed epoch at event time ``now_ms``.

    Laplace approximation of a negative-binomial count under a normal prior, after a random walk of
    b and eps over the days since the last update (at most 365). Without a rival price the cross
    elasticity is not touched and its unknown term is added to the noise (a Schmidt-Kalman consider
    update): missing is not an observed 0. The observation's offset enters the mean as it is, and
    its variance the noise in the same way.

    Parameters
    ----------
    observation : orders >= 0, exposure_days > 0, finite features and offset, its variance >= 0
    now_ms : event time; a time before the last update adds no walk

    Raises
    ------
    ValueError : an input is not finite, orders are below 0 or exposure is not above 0

    Notes
    -----
    Source: T. Minka (2001), Expectation propagation, section 3 (assumed density);
    S. F. Schmidt (1966), Application of state-space methods to navigation problems.
    """
    return update(posterior, observation, now_ms, settings).posterior


class Update(NamedTuple):
    """An updated belief, and how the epoch moved it.

    Whatever has covariance c with ln mu moves by ``c * step``, and a covariance of two such by
    ``-c c' gain``: how the terms of an offset are learned beside the coefficients.
    """

    posterior: DemandPosterior
    step: float
    gain: float


def update(
    posterior: DemandPosterior,
    observation: Observation,
    now_ms: int,
    settings: DemandSettings = DEFAULT_SETTINGS,
    offset_cov: Coefficients = (0.0, 0.0, 0.0, 0.0),
) -> Update:
    """`learn`, and the step of ln mu, where the offset is believed jointly with the coefficients.

    Parameters
    ----------
    offset_cov : covariance of the observation's offset with each coefficient
    """
    _check(observation)
    b, eps, eta, delta = posterior.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = posterior.cov
    waited_ms = now_ms - posterior.updated_ms
    if waited_ms > 0:
        days = min(waited_ms / DAY_MS, STEP_DAYS_MAX)
        c_bb += settings.level_walk_per_day * days
        c_ee += settings.elasticity_walk_per_day * days
    p, rival, u = observation.features
    r = 0.0 if rival is None else rival
    # v = V x, the direction in which one epoch moves the coefficients
    o_b, o_e, o_n, o_d = offset_cov
    v_b = c_bb + c_be * p + c_bn * r + c_bd * u + o_b
    v_e = c_be + c_ee * p + c_en * r + c_ed * u + o_e
    v_n = c_bn + c_en * p + c_nn * r + c_nd * u + o_n
    v_d = c_bd + c_ed * p + c_nd * r + c_dd * u + o_d
    spread = v_b + v_e * p + v_n * r + v_d * u + observation.offset_variance
    spread += o_b + o_e * p + o_n * r + o_d * u
    if rival is None:
        spread += settings.missing_rival_sd**2 * (eta * eta + c_nn)
    z_0 = b + eps * p + eta * r + delta * u + observation.offset + log(observation.exposure_days)
    z, information = _mode(z_0, spread, observation.orders, settings.dispersion)
    step = (z - z_0) / spread
    k = information / (1.0 + information * spread)
    k_b, k_e, k_n = k * v_b, k * v_e, k * v_n
    moved_eta, moved_nn = (eta, c_nn) if rival is None else (eta + v_n * step, c_nn - k_n * v_n)
    mean = (b + v_b * step, eps + v_e * step, moved_eta, delta + v_d * step)
    cov = (
        c_bb - k_b * v_b,
        c_be - k_b * v_e,
        c_bn - k_b * v_n,
        c_bd - k_b * v_d,
        c_ee - k_e * v_e,
        c_en - k_e * v_n,
        c_ed - k_e * v_d,
        moved_nn,
        c_nd - k_n * v_d,
        c_dd - k * v_d * v_d,
    )
    moved = _with_sizes(posterior, *_within_limits(mean, cov), observation, now_ms, settings)
    return Update(moved, step, k)


def _within_limits(mean: Coefficients, cov: Covariance) -> tuple[Coefficients, Covariance]:
    """Keep coefficients and variances where arithmetic is safe; no real shop comes near.

    A variance is only ever raised, which keeps the matrix positive definite.
    """
    b, eps, eta, delta = mean
    limit = COEFFICIENT_MAX
    if not (
        -limit < b < limit
        and -limit < eps < limit
        and -limit < eta < limit
        and -limit < delta < limit
    ):
        mean = (_bounded(b), _bounded(eps), _bounded(eta), _bounded(delta))
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = cov
    low = VARIANCE_MIN
    if c_bb < low or c_ee < low or c_nn < low or c_dd < low:
        c_bb, c_ee, c_nn, c_dd = max(c_bb, low), max(c_ee, low), max(c_nn, low), max(c_dd, low)
        cov = (c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd)
    return mean, cov


def _check(observation: Observation) -> None:
    (price, rival, control), orders, exposure_days, _, _, offset, variance = observation
    if not isfinite(price + control + (rival or 0.0)):
        raise ValueError(f"features were {observation.features}; expected finite numbers")
    if orders < 0:
        raise ValueError(f"orders was {orders}; expected 0 or more")
    if not 0.0 < exposure_days < inf:
        raise ValueError(f"exposure_days was {exposure_days}; expected a finite number above 0")
    if not (isfinite(offset) and 0.0 <= variance < inf):
        raise ValueError(
            f"offset, offset_variance were {offset}, {variance}; expected finite numbers, the "
            "variance 0 or above"
        )


def _mode(z_0: float, spread: float, orders: int, dispersion: float) -> tuple[float, float]:
    """Root z of (z - z_0)/spread = (n - mu)/(1 + phi mu), mu = e^z, and the information there.

    The left side rises and the right side falls, so the root is unique and lies between z_0 and
    z_0 plus the right side at z_0 times the spread. Newton, kept inside that bracket.
    """
    start = min(max(z_0, -Z_MAX), Z_MAX)
    mu = exp(start)
    pull = spread * (orders - mu) / (1.0 + dispersion * mu)
    low, high = (
        (start, min(start + pull, Z_MAX)) if pull >= 0.0 else (max(start + pull, -Z_MAX), start)
    )
    precision, gain = 1.0 / spread, 1.0 + dispersion * orders
    # start near the root: the count as a normal measurement of z with its own information
    weight = (orders + 0.5) / gain
    z = (start * precision + log(orders + 0.5) * weight) / (precision + weight)
    information = 0.0
    for _ in range(NEWTON_STEPS_MAX):
        if not low <= z <= high:
            z = 0.5 * (low + high)
        mu = exp(z)
        scale = 1.0 + dispersion * mu
        information = mu * gain / (scale * scale)
        slope = (z - start) * precision - (orders - mu) / scale
        if slope > 0.0:
            high = z
        else:
            low = z
        step = slope / (precision + information)
        z -= step
        if -MODE_TOLERANCE < step < MODE_TOLERANCE:
            break
    return z + (z_0 - start), information


def _bounded(coefficient: float) -> float:
    return min(max(coefficient, -COEFFICIENT_MAX), COEFFICIENT_MAX)


def _with_sizes(
    posterior: DemandPosterior,
    mean: Coefficients,
    cov: Covariance,
    observation: Observation,
    now_ms: int,
    settings: DemandSettings,
) -> DemandPosterior:
    lines = posterior.size_lines + observation.lines
    units = posterior.size_units + observation.capped_units
    kept = min(1.0, settings.size_lines_max / lines) if lines > 0.0 else 1.0
    return DemandPosterior(
        mean=mean,
        cov=cov,
        epochs=posterior.epochs + 1,
        orders=posterior.orders + observation.orders,
        updated_ms=max(now_ms, posterior.updated_ms),
        size_lines=lines * kept,
        size_units=units * kept,
        begun_ms=posterior.begun_ms,
    )


def mean_units_per_order(
    posterior: DemandPosterior, settings: DemandSettings = DEFAULT_SETTINGS
) -> float:
    """Units per order line, at least about 1, shrunk to 1 while few lines were seen."""
    prior = settings.size_prior_lines
    return (prior + posterior.size_units) / (prior + posterior.size_lines)


def units_cap(posterior: DemandPosterior, settings: DemandSettings = DEFAULT_SETTINGS) -> int:
    """Units that one order line counts at most: a multiple (default 10) of the present mean.

    So one order can't move the mean by more than ``multiple / (prior lines + lines)`` of itself.
    """
    return max(int(settings.size_cap_multiple * mean_units_per_order(posterior, settings)), 1)


def forecast(
    posterior: DemandPosterior,
    ln_rival: float | None,
    control: float,
    settings: DemandSettings = DEFAULT_SETTINGS,
) -> DemandForecast:
    """Demand at the reference price in the present market, with its covariance.

    Posterior means are plugged in. While no rival is known its term is left out of the mean and
    its spread added to ``v_bb``.

    Parameters
    ----------
    ln_rival : ln(P_c / P_ref), or None
    control : present u; it stays there when candidate prices are compared

    Raises
    ------
    ValueError : an argument is not finite
    """
    if not isfinite(control + (ln_rival or 0.0)):
        raise ValueError(f"ln_rival, control were {ln_rival}, {control}; expected finite numbers")
    b, eps, eta, delta = posterior.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = posterior.cov
    r, u = (0.0 if ln_rival is None else ln_rival), control
    v_bb = c_bb + r * r * c_nn + u * u * c_dd + 2.0 * (r * c_bn + u * c_bd + r * u * c_nd)
    if ln_rival is None:
        v_bb += settings.missing_rival_sd**2 * (eta * eta + c_nn)
    level = min(max(b + eta * r + delta * u, -Z_MAX), Z_MAX)
    return DemandForecast(
        demand_per_day=exp(level),
        elasticity=eps,
        v_bb=max(v_bb, VARIANCE_MIN),
        v_be=c_be + r * c_en + u * c_ed,
        v_ee=c_ee,
    )


def expected_orders(
    posterior: DemandPosterior, features: Features, exposure_days: float, offset: float = 0.0
) -> float:
    """Order lines expected in an exposure (days of typical traffic), posterior means plugged in.

    ``offset``: see `models.demand.epoch.Observation`.
    """
    forecast_now = forecast(posterior, features.ln_rival, features.control)
    change = min(max(forecast_now.elasticity * features.ln_price + offset, -Z_MAX), Z_MAX)
    return forecast_now.demand_per_day * exp(change) * exposure_days


def upper_expected_orders(posterior: DemandPosterior, observation: Observation) -> float:
    """Order lines of an observation expected at most: e to two sd of the log over the expectation.

    For a product whose level is not known yet this is far above the expectation, so that sales
    beyond it mean that something is wrong, and not that nothing was known.
    """
    features = observation.features
    belief = forecast(posterior, features.ln_rival, features.control)
    x = features.ln_price
    variance = max(belief.v_bb + 2.0 * belief.v_be * x + belief.v_ee * x * x, 0.0)
    variance += observation.offset_variance
    expected = expected_orders(posterior, features, observation.exposure_days, observation.offset)
    return expected * math.exp(min(UPPER_SDS * math.sqrt(variance), Z_MAX))


def elasticity_interval(posterior: DemandPosterior, coverage: float = 0.90) -> tuple[float, float]:
    """Central interval of the elasticity that holds ``coverage`` (0 to 1) of the posterior."""
    half = _normal_quantile(0.5 + 0.5 * coverage) * math.sqrt(posterior.cov[4])
    return posterior.mean[1] - half, posterior.mean[1] + half


@cache
def _normal_quantile(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def probability_inelastic(posterior: DemandPosterior) -> float:
    """P(eps >= -1): where it is large a price increase never pays for itself in the model."""
    sd = math.sqrt(posterior.cov[4])
    return 0.5 * math.erfc((-1.0 - posterior.mean[1]) / (sd * math.sqrt(2.0)))


def rebase(posterior: DemandPosterior, ln_shift: float) -> DemandPosterior:
    """Restate the belief after P_ref was multiplied by exp(``ln_shift``), exactly.

    Price, rival and control are all logs relative to P_ref, so each falls by the shift:
    ``b' = b + (eps + eta + delta) shift``, a linear map of a normal. Every forecast at the same
    prices in money stays as it was.
    """
    s = ln_shift
    b, eps, eta, delta = posterior.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = posterior.cov
    sum_b, sum_e = c_be + c_bn + c_bd, c_ee + c_en + c_ed
    sum_n, sum_d = c_en + c_nn + c_nd, c_ed + c_nd + c_dd
    mean = (_bounded(b + s * (eps + eta + delta)), eps, eta, delta)
    cov = (
        max(c_bb + 2.0 * s * sum_b + s * s * (sum_e + sum_n + sum_d), VARIANCE_MIN),
        c_be + s * sum_e,
        c_bn + s * sum_n,
        c_bd + s * sum_d,
        c_ee,
        c_en,
        c_ed,
        c_nn,
        c_nd,
        c_dd,
    )
    return replace(posterior, mean=mean, cov=cov)
