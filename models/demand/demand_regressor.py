"""The demand model behind River's estimator interface, for comparisons and ensembles."""

from collections.abc import Hashable, Mapping
from typing import Any

from river import base

from models.demand.demand import DemandSettings, expected_orders, learn
from models.demand.epoch import Features, Observation
from models.prior.prior import DEFAULT_PRIOR, adapt
from schemas.events import DAY_MS
from schemas.learned import Covariance, DemandPosterior


class DemandRegressor(base.Regressor):
    """Orders per day of one product, from log price, log rival price and control.

    Good where each product has few orders and the elasticity and its uncertainty are wanted; a
    step costs `O(d^2)` with d = 4, about 10 microseconds. Its memory does not grow.

    A row has ``ln_price``, ``ln_rival`` and ``control``, all logs relative to the reference price;
    other features are ignored. A missing value is never an observed 0: without ``ln_rival`` the
    cross elasticity is left out of the update, without ``control`` the whole price move counts as
    exogenous, without ``ln_price`` nothing is learned and the prediction is at the reference price.

    Parameters
    ----------
    dispersion
        Negative-binomial phi of a count, no unit.
    level_walk_per_day
        Variance that a day adds to the log level.
    elasticity_walk_per_day
        Variance that a day adds to the elasticity.
    elasticity_mean
        Prior mean of the own-price elasticity.
    elasticity_sd
        Prior sd of the own-price elasticity.

    Examples
    --------
    >>> model = DemandRegressor()
    >>> for day in range(60):
    ...     cheap = day % 2 == 0
    ...     model.learn_one({"ln_price": -0.1 if cheap else 0.1}, 6 if cheap else 4)
    >>> round(model.predict_one({"ln_price": 0.0}), 1)
    4.9
    >>> round(model.posterior.mean[1], 2)
    -2.29
    """

    def __init__(
        self,
        dispersion: float = 0.2,
        level_walk_per_day: float = 2e-3,
        elasticity_walk_per_day: float = 1e-4,
        elasticity_mean: float = -2.62,
        elasticity_sd: float = 0.94,
    ):
        self.dispersion = dispersion
        self.level_walk_per_day = level_walk_per_day
        self.elasticity_walk_per_day = elasticity_walk_per_day
        self.elasticity_mean = elasticity_mean
        self.elasticity_sd = elasticity_sd
        start, _ = adapt(DEFAULT_PRIOR, "", {}, 0)
        b, _, eta, delta = start.mean
        bb, _, bn, bd, _, _, _, nn, nd, dd = start.cov
        cov: Covariance = (bb, 0.0, bn, bd, elasticity_sd**2, 0.0, 0.0, nn, nd, dd)
        self.posterior = DemandPosterior(
            mean=(b, elasticity_mean, eta, delta), cov=cov, epochs=0, orders=0, updated_ms=0
        )

    @property
    def settings(self) -> DemandSettings:
        """The constants as `models.demand.demand` takes them."""
        return DemandSettings(
            dispersion=self.dispersion,
            level_walk_per_day=self.level_walk_per_day,
            elasticity_walk_per_day=self.elasticity_walk_per_day,
        )

    def learn_one(self, x: dict[Hashable, Any], y: float, w: float = 1.0) -> None:
        """Learn ``y`` orders (0 or more) in an exposure of ``w`` days; time passes by as much."""
        if "ln_price" not in x:
            return
        now_ms = self.posterior.updated_ms + round(w * DAY_MS)
        seen = Observation(_features(x), round(y), float(w))
        self.posterior = learn(self.posterior, seen, now_ms, self.settings)

    def predict_one(self, x: dict[Hashable, Any]) -> float:
        """Return the expected orders of one day."""
        return expected_orders(self.posterior, _features(x), 1.0)


def _features(x: Mapping[Any, Any]) -> Features:
    rival = x.get("ln_rival")
    return Features(
        ln_price=float(x.get("ln_price", 0.0)),
        ln_rival=None if rival is None else float(rival),
        control=float(x.get("control", 0.0)),
    )
