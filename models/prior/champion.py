"""Which prior is published: the one that forecasts held-out products best, one epoch ahead.

Before each epoch of a product that no candidate was trained on, its belief forecasts the count: a
negative binomial whose log mean is normal, by Gauss-Hermite quadrature. Then it learns the epoch by
the fold's own update, random walk included.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.demand.demand_batch import learn_many
from models.demand.history import Episodes, sku_digest
from models.prior.prior_fit import beginnings, features, packed_rows, unpacked
from schemas.learned import CandidateScore, DemandPrior

Floats = NDArray[np.float64]

HELD_OUT_EVERY = 5  # one product in so many teaches no candidate
ORDERS_SEEN = (0, 5, 10, 50, 100, 500)  # rows of the comparison: orders seen before the epoch
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
LN_MEAN_MAX = 30.0


class Forecasts(NamedTuple):
    """Predictive log likelihoods [product, epoch], and the orders seen before each epoch."""

    log_likelihood: Floats
    told: NDArray[np.bool_]
    seen: Floats

    def by_product(self) -> Floats:
        """Mean over its epochs [product]."""
        return np.asarray(
            np.where(self.told, self.log_likelihood, 0.0).sum(axis=1) / self.told.sum(axis=1)
        )

    def by_orders_seen(self) -> list[float | None]:
        """Mean over the epochs that began with so many orders, one number for each row."""
        edges = [*ORDERS_SEEN, np.inf]
        rows: list[float | None] = []
        for low, high in pairwise(edges):
            within = self.told & (self.seen >= low) & (self.seen < high)
            rows.append(float(self.log_likelihood[within].mean()) if within.any() else None)
        return rows


def held_out(episodes: Episodes) -> NDArray[np.bool_]:
    """Which products [n] teach no candidate: one in five by SKU, and none without an epoch."""
    chosen = [sku_digest(sku) % HELD_OUT_EVERY == 0 for sku in episodes.skus]
    return np.array(chosen, dtype=np.bool_) & (episodes.exposure_days > 0.0).any(axis=1)


def forecasts(prior: DemandPrior, episodes: Episodes) -> Forecasts:
    """Forecast every epoch from those before it, each product from its prior on."""
    settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
    belief = beginnings(prior, episodes)
    mean, cov = belief.mean, packed_rows(belief.cov)
    x = features(episodes)
    told = episodes.exposure_days > 0.0
    found = np.zeros_like(episodes.orders)
    last_days = episodes.end_days[:, 0].copy() if told.shape[1] else np.zeros(len(mean))
    for epoch in range(told.shape[1]):
        now = np.flatnonzero(told[:, epoch])
        days = episodes.end_days[now, epoch] - last_days[now]
        last_days[now] = episodes.end_days[now, epoch]
        exposure, orders = episodes.exposure_days[now, epoch], episodes.orders[now, epoch]
        found[now, epoch] = _log_predictive(
            x[now, epoch], mean[now], unpacked(cov[now]), days, orders, exposure, settings
        )
        rival = np.where(episodes.rival_known[now, epoch], episodes.ln_rival[now, epoch], np.nan)
        mean[now], cov[now] = learn_many(
            mean[now], cov[now], episodes.ln_price[now, epoch], rival,
            episodes.control[now, epoch], orders, exposure, days, settings,
        )  # fmt: skip
    seen = np.cumsum(episodes.orders, axis=1) - episodes.orders
    return Forecasts(found, told, seen)


def _log_predictive(
    x: Floats,
    mean: Floats,
    cov: Floats,
    days: Floats,
    orders: Floats,
    exposure: Floats,
    settings: DemandSettings,
) -> Floats:
    """ln P(orders) [n], the coefficients integrated out along x."""
    walk = days * (settings.level_walk_per_day + settings.elasticity_walk_per_day * x[:, 1] ** 2)
    variance = np.einsum("nj,njk,nk->n", x, cov, x) + walk
    z = np.einsum("nk,nk->n", x, mean) + np.log(exposure)
    nodes = z[:, None] + np.sqrt(np.maximum(variance, 0.0))[:, None] * NODES
    log_mean = np.clip(nodes, -LN_MEAN_MAX, LN_MEAN_MAX)
    phi, size, n = settings.dispersion, 1.0 / settings.dispersion, orders[:, None]
    logs = special.gammaln(n + size) - special.gammaln(size) - special.gammaln(n + 1.0)
    logs = logs + n * (log_mean + np.log(phi)) - (n + size) * np.log1p(phi * np.exp(log_mean))
    weights = NODE_WEIGHTS / NODE_WEIGHTS.sum()
    return np.asarray(special.logsumexp(logs, axis=1, b=weights))


def score(name: str, found: Forecasts) -> CandidateScore:
    """A candidate's figures over the held-out products.

    Raises
    ------
    ValueError : there are fewer than two products, so that no error can be stated
    """
    by_product = found.by_product()
    if len(by_product) < 2:
        raise ValueError(f"held-out products were {len(by_product)}; expected 2 or more")
    first = found.log_likelihood[np.arange(len(by_product)), found.told.argmax(axis=1)]
    return CandidateScore(
        name=name,
        products=len(by_product),
        log_likelihood=float(by_product.mean()),
        standard_error=float(by_product.std(ddof=1) / np.sqrt(len(by_product))),
        first_epoch=float(first.mean()),
    )


def champion(found: Mapping[str, Forecasts], incumbent: str) -> str:
    """The candidate to publish: a challenger replaces the incumbent only beyond its error.

    Its mean advantage over the same products must exceed that advantage's standard error; among
    such challengers the best.
    """
    base = found[incumbent].by_product()
    best, best_gain = incumbent, 0.0
    for name, one in found.items():
        gain = one.by_product() - base
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        if float(gain.mean()) > max(error, best_gain):
            best, best_gain = name, float(gain.mean())
    return best
