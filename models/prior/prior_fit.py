"""Offline empirical Bayes: a demand prior from the epochs of a whole catalogue.

Each product's evidence is its likelihood's quadratic at the joint mode of all its epochs (Laplace),
under the prior of the round before; `models.prior.empirical_bayes.refresh` then runs EM to
convergence. Coefficients stand still here: the random walk is for tracking a product, not for
learning where products begin.
"""

from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.demand.history import Episodes
from models.prior.empirical_bayes import Member, refresh
from models.prior.prior import (
    DEFAULT_PRIOR,
    adapt,
    coefficients,
    number,
    packed,
    prior_sha256,
    standardised,
)
from schemas.learned import DemandPosterior, DemandPrior

Floats = NDArray[np.float64]

ROUNDS = 3  # of new modes under the prior learned so far
EM_STEPS = 60
NEWTON_STEPS = 25
STEP_MAX = 1.0  # in any coefficient: Newton's method is damped far from the mode
MODE_TOLERANCE = 1e-6
LN_MEAN_MAX = 30.0
DISPERSION_MIN, DISPERSION_MAX = 0.005, 1.0
OUTLIER_SDS = 6.0
LERNER_ELASTICITY_MAX = -1.25  # mark-ups are compared where they are finite
SHARE_PRIOR, SHARE_PRIOR_CATEGORIES = 0.5, 5.0  # the expert's share before a category has told


class Beliefs(NamedTuple):
    """Normal beliefs about products: mean [n, 4], covariance [n, 4, 4]."""

    mean: Floats
    cov: Floats


def fit(
    episodes: Episodes, source: str, *, base: DemandPrior = DEFAULT_PRIOR, rounds: int = ROUNDS
) -> DemandPrior:
    """Learn a prior from a catalogue's epochs.

    Parameters
    ----------
    episodes : of one product or more
    base : keeps the weight of a few products and categories, and starts the search

    Raises
    ------
    ValueError : there is no product

    Notes
    -----
    Cost: `O(products * epochs)` for a round, then `O(products)` for an EM step. Source: B. Efron,
    C. Morris (1973), JASA 68(341).
    """
    if not episodes.skus:
        raise ValueError("episodes had no product; expected one or more")
    dispersion = base.dispersion
    prior = base
    for _ in range(rounds):
        initial = beginnings(prior, episodes)
        posterior = posteriors(episodes, initial, dispersion)
        members = _members(episodes, initial, posterior)
        prior = refresh(base, members, source, em_steps=EM_STEPS)
        dispersion = dispersion_of(episodes, posterior)
    prior = replace(prior, dispersion=dispersion)
    return with_habits(with_attribute_covariance(prior, episodes), episodes, posterior)


def update(prior: DemandPrior, episodes: Episodes, source: str) -> DemandPrior:
    """Keep a prior fresh: ten EM steps from where it stands, over the epochs of the present.

    Raises
    ------
    ValueError : there is no product
    """
    if not episodes.skus:
        raise ValueError("episodes had no product; expected one or more")
    initial = beginnings(prior, episodes)
    posterior = posteriors(episodes, initial, prior.dispersion)
    fresh = refresh(prior, _members(episodes, initial, posterior), source)
    fresh = replace(fresh, dispersion=dispersion_of(episodes, posterior))
    return with_habits(with_attribute_covariance(fresh, episodes), episodes, posterior)


def beginnings(prior: DemandPrior, episodes: Episodes) -> Beliefs:
    """What a document says of each product before its first epoch."""
    known = prior_sha256(prior)
    found = [
        adapt(prior, category, attributes, 0, prior_hash=known)[0]
        for category, attributes in zip(episodes.categories, episodes.attributes, strict=True)
    ]
    mean = np.array([one.mean for one in found]).reshape(-1, 4)
    return Beliefs(mean, unpacked(np.array([one.cov for one in found]).reshape(-1, 10)))


def features(episodes: Episodes) -> Floats:
    """Regressors [n, epoch, 4] in the order of the coefficients; an unknown rival's term is out."""
    ones = np.ones_like(episodes.ln_price)
    return np.stack((ones, episodes.ln_price, episodes.ln_rival, episodes.control), axis=-1)


def posteriors(episodes: Episodes, initial: Beliefs, dispersion: float) -> Beliefs:
    """Laplace's approximation at the joint mode of all epochs of each product.

    The log posterior is concave in the coefficients, so that Newton's method finds its one mode.
    """
    x = features(episodes)
    told = episodes.exposure_days > 0.0
    log_exposure = np.log(np.where(told, episodes.exposure_days, 1.0))
    orders = np.where(told, episodes.orders, 0.0)
    precision = np.linalg.inv(initial.cov)
    theta = initial.mean.copy()
    for _ in range(NEWTON_STEPS):
        z = np.clip(np.einsum("ntk,nk->nt", x, theta) + log_exposure, -LN_MEAN_MAX, LN_MEAN_MAX)
        mu = np.exp(z)
        scale = 1.0 + dispersion * mu
        score = np.where(told, (orders - mu) / scale, 0.0)
        weight = np.where(told, mu * (1.0 + dispersion * orders) / scale**2, 0.0)
        hessian = precision + np.einsum("ntj,nt,ntk->njk", x, weight, x, optimize=True)
        pull = np.einsum("ntk,nt->nk", x, score)
        pull -= np.einsum("njk,nk->nj", precision, theta - initial.mean)
        step = np.linalg.solve(hessian, pull[..., None])[..., 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        theta = theta + step * np.minimum(1.0, STEP_MAX / np.maximum(size, STEP_MAX))
        if size.max(initial=0.0) < MODE_TOLERANCE:
            break
    return Beliefs(theta, np.linalg.inv(hessian))


def dispersion_of(episodes: Episodes, posterior: Beliefs) -> float:
    """phi of the order counts by the method of moments: ``E (n - mu)^2 = mu + phi mu^2``.

    Epochs far above their expectation count at most six of its sds, so that one flood of orders
    does not make all counts look like noise.
    """
    told = episodes.exposure_days > 0.0
    z = np.einsum("ntk,nk->nt", features(episodes), posterior.mean)
    mu = np.exp(np.clip(z, -LN_MEAN_MAX, LN_MEAN_MAX)) * episodes.exposure_days
    limit = OUTLIER_SDS**2 * (mu + DISPERSION_MAX * mu * mu)
    square = np.minimum((episodes.orders - mu) ** 2, limit)
    excess = float(np.sum(np.where(told, square - mu, 0.0)))
    scale = float(np.sum(np.where(told, mu * mu, 0.0)))
    found = excess / scale if scale > 0.0 else DISPERSION_MAX
    return min(max(found, DISPERSION_MIN), DISPERSION_MAX)


def standard_attributes(prior: DemandPrior, episodes: Episodes) -> Floats:
    """The document's attributes [n, attribute], over its sds; a missing one is at the mean."""
    rows = np.zeros((len(episodes.skus), len(prior.attribute_effects)))
    for row, attributes in enumerate(episodes.attributes):
        for column, (name, effect) in enumerate(prior.attribute_effects.items()):
            value = number(attributes.get(name))
            rows[row, column] = 0.0 if value is None else standardised(value, effect)
    return rows


def with_attribute_covariance(prior: DemandPrior, episodes: Episodes) -> DemandPrior:
    """Note how the standardised attributes of the products spread, for `models.prior.coldstart`."""
    names = list(prior.attribute_effects)
    rows = standard_attributes(prior, episodes)
    if not names or len(rows) <= len(names):
        return replace(prior, attribute_cov=())
    # a hundredth of independent spread keeps it invertible where attributes are collinear
    cov = 0.99 * np.atleast_2d(np.cov(rows.T)) + 0.01 * np.eye(len(names))
    return replace(prior, attribute_cov=tuple(cov[np.triu_indices(len(names))].tolist()))


def with_habits(prior: DemandPrior, episodes: Episodes, posterior: Beliefs) -> DemandPrior:
    """Note what categories were sold at, and how much an expert who knows it deserves to count.

    Each known category is taken for an unknown one: the model has the mean and the attributes, the
    expert the habit of the other categories. The expert's share is the weight that would have
    brought the blend of their ln mark-ups nearest to the best one, Lerner's at the posterior
    elasticity (at most -1.25, where it is still finite), steadied by five categories at a half.
    """
    categories = np.array(episodes.categories)
    names = sorted(dict.fromkeys(categories[episodes.costed].tolist()))
    if not names:
        return prior
    of = np.searchsorted(names, categories[episodes.costed])
    habits = np.bincount(of, episodes.ln_markup[episodes.costed]) / np.bincount(of)
    without = prior.mean[1] + standard_attributes(prior, episodes)[episodes.costed] @ np.array(
        [effect.weights[1] for effect in prior.attribute_effects.values()]
    )
    best, model = _ln_markup(posterior.mean[episodes.costed, 1]), _ln_markup(without)
    others = (habits.sum() - habits) / max(len(names) - 1, 1)
    share = SHARE_PRIOR
    apart = model - others[of]
    if len(names) > 1 and np.any(apart):
        found = float(np.clip(apart @ (model - best) / (apart @ apart), 0.0, 1.0))
        weight = SHARE_PRIOR_CATEGORIES
        share = (len(names) * found + weight * SHARE_PRIOR) / (len(names) + weight)
    markups = dict(zip(names, np.exp(habits).tolist(), strict=True))
    known = {
        name: replace(effect, habit_markup=markups.get(name, effect.habit_markup))
        for name, effect in prior.categories.items()
    }
    mean = float(np.exp(habits.mean()))
    return replace(prior, categories=known, habit_markup=mean, expert_share=share)


def _ln_markup(elasticity: Floats) -> Floats:
    """ln of Lerner's mark-up over unit cost."""
    elastic = np.minimum(elasticity, LERNER_ELASTICITY_MAX)
    return np.asarray(np.log(elastic / (1.0 + elastic)))


def _members(episodes: Episodes, initial: Beliefs, posterior: Beliefs) -> list[Member]:
    before, after = records(initial), records(posterior)
    columns = zip(
        episodes.skus, episodes.categories, episodes.attributes, after, before, strict=True
    )
    return [Member(*column) for column in columns]


def records(beliefs: Beliefs) -> list[DemandPosterior]:
    """Beliefs as the fold keeps them, with nothing counted yet."""
    return [
        DemandPosterior(
            mean=coefficients(mean.tolist()), cov=packed(cov), epochs=0, orders=0, updated_ms=0
        )
        for mean, cov in zip(beliefs.mean, beliefs.cov, strict=True)
    ]


def unpacked(cov: Floats) -> Floats:
    """Full matrices [n, 4, 4] from upper triangles by rows [n, 10]."""
    full = np.zeros((len(cov), 4, 4))
    rows, columns = np.triu_indices(4)
    full[:, rows, columns] = cov
    full[:, columns, rows] = cov
    return full


def packed_rows(cov: Floats) -> Floats:
    """Upper triangles by rows [n, 10] from full matrices [n, 4, 4]."""
    rows, columns = np.triu_indices(4)
    return np.asarray((0.5 * (cov + np.swapaxes(cov, 1, 2)))[:, rows, columns])
