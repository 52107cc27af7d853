"""How far an epoch's count lies from what was forecast.

The count is negative binomial about a mean whose logarithm is normal with variance s. It has mean
``m = e^(z_0 + s/2)`` and variance ``m + d m^2`` with ``d = (1 + phi) e^s - 1``, so the residual
``(n - m)/sd`` has mean 0 and variance 1 under the model, however wide the belief is.
"""

from math import exp, log, sqrt
from typing import NamedTuple

from models.demand.demand import DEFAULT_SETTINGS, Z_MAX, DemandSettings
from models.demand.epoch import Observation
from schemas.learned import DemandPosterior

SPREAD_MAX = 30.0  # of the log mean: beyond it a forecast says nothing


class Surprise(NamedTuple):
    """A count against its forecast.

    ``expected``: order lines; ``dispersion``: d; ``residual``: sd above the forecast;
    ``price_distance``: of the epoch's log price from where the elasticity's error would not show.
    """

    expected: float
    dispersion: float
    residual: float
    price_distance: float

    @property
    def sd(self) -> float:
        """Standard deviation of the forecast count, order lines."""
        return sqrt(self.expected + self.dispersion * self.expected**2)


def surprise(
    posterior: DemandPosterior,
    observation: Observation,
    settings: DemandSettings = DEFAULT_SETTINGS,
) -> Surprise:
    """Compare a closed epoch's orders with the forecast, before they are learned.

    Parameters
    ----------
    observation : as `models.demand.demand.learn` takes it

    >>> from models.demand.epoch import Features
    >>> belief = DemandPosterior(
    ...     mean=(0.0, -2.0, 0.0, 0.0), epochs=0, orders=0, updated_ms=0,
    ...     cov=(0.04, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.01, 0.0, 0.01))
    >>> found = surprise(belief, Observation(Features(0.1, 0.0, 0.0), orders=20, exposure_days=10))
    >>> [round(part, 2) for part in found]
    [8.36, 0.25, 2.28, 0.1]
    """
    b, eps, eta, delta = posterior.mean
    c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = posterior.cov
    p, rival, u = observation.features
    r = 0.0 if rival is None else rival
    v_e = c_be + c_ee * p + c_en * r + c_ed * u
    spread = c_bb + p * (c_be + v_e) + r * r * c_nn + u * u * c_dd
    spread += 2.0 * (r * c_bn + u * c_bd + r * u * c_nd) + p * (r * c_en + u * c_ed)
    spread += observation.offset_variance
    if rival is None:
        spread += settings.missing_rival_sd**2 * (eta * eta + c_nn)
    spread = min(max(spread, 0.0), SPREAD_MAX)
    z_0 = b + eps * p + eta * r + delta * u + observation.offset
    z_0 += log(observation.exposure_days)
    expected = exp(min(max(z_0 + 0.5 * spread, -Z_MAX), Z_MAX))
    dispersion = (1.0 + settings.dispersion) * exp(spread) - 1.0
    sd = sqrt(expected + dispersion * expected**2)
    return Surprise(expected, dispersion, (observation.orders - expected) / sd, v_e / c_ee)
