"""Model-agnostic meta-learning of the demand prior, in JAX.

The meta-parameters are those of the published prior: mean, attribute weights, category offsets and
the covariance S between products. The inner loop is one natural-gradient step from a product's
prior on its first epochs,

    theta' = theta_0 + V' g,   V' = (S^-1 + F)^-1,

g the score and F the Fisher information of the negative-binomial likelihood, linearised where the
product's own orders put its level: S is both the inner step's preconditioner and a belief. The
outer loss is the predictive log likelihood of the product's later epochs, the coefficients' spread
V' integrated out. Second order differentiates through the step; first order (FOMAML) takes the
step as it came.

Source: C. Finn, P. Abbeel, S. Levine (2017), *Model-agnostic meta-learning*, ICML; the natural
gradient is S. Amari's (1998), *Neural Computation* 10; Adam D. Kingma's and J. Ba's (2015), ICLR.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from msgspec.structs import replace

from models.demand.history import Episodes, sku_digest
from models.prior.prior import coefficients, matrix, packed
from models.prior.prior_fit import features, standard_attributes, unpacked
from schemas.learned import DemandPrior

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

INNER_EPOCHS = (0, 7, 28)  # products take turns: how many first epochs their inner step sees
OUTER_EPOCHS = 56
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
LN_MEAN_MAX = 12.0
COVARIANCE_PULL_PRODUCTS = 50.0  # what the covariance that S starts from is worth
EPOCHS_WORTH = 8.0  # independent ones that a product's later epochs are counted as
B1, B2, TINY = 0.9, 0.999, 1e-8


class MamlSettings(NamedTuple):
    """How long and how fast the outer loop learns."""

    steps: int = 150
    learning_rate: float = 0.002
    batch_products: int = 512
    seed: int = 1


DEFAULT_SETTINGS = MamlSettings()


class _Meta(NamedTuple):
    """Meta-parameters; ``factor`` is S's Cholesky factor with the logs of its diagonal."""

    mean: Array  # [4]
    weights: Array  # [attribute, 4]
    offsets: Array  # [category, 4]
    factor: Array  # [4, 4]


class _Tasks(NamedTuple):
    """Products as tasks: inner and outer epochs, arrays [product, epoch, ...]."""

    attributes: Array  # [product, attribute]
    category: Array  # [product]
    dispersion: Array  # [product], phi of its counts
    x: Array  # [product, inner, 4]
    orders: Array
    exposure: Array  # 0: padding, or not seen by this product's inner step
    later_x: Array  # [product, outer, 4]
    later_orders: Array
    later_exposure: Array


def meta_train(
    prior: DemandPrior,
    episodes: Episodes,
    source: str,
    *,
    second_order: bool,
    settings: MamlSettings = DEFAULT_SETTINGS,
) -> DemandPrior:
    """Go on from an empirical-Bayes prior by meta-learning.

    Parameters
    ----------
    prior : fitted on the same products; the search starts there and is held near it
    second_order : differentiate through the inner step; else S keeps its value, which only the
        inner step sees

    Raises
    ------
    ValueError : the prior lacks a category of the episodes, or there is no product

    Notes
    -----
    Seeded and deterministic. Cost: `O(steps * batch * epochs)`.
    """
    if not episodes.skus:
        raise ValueError("episodes had no product; expected one or more")
    names = sorted(dict.fromkeys(episodes.categories))
    missing = [name for name in names if name not in prior.categories]
    if missing:
        raise ValueError(f"the prior had no category {missing[0]!r}; expected it fitted before")
    start = _meta(prior, names)
    tasks = _tasks(prior, episodes, names)
    errors = np.array([prior.categories[name].cov for name in names])
    certainty = jnp.linalg.inv(jnp.array(unpacked(errors)))
    learned = _outer_loop(
        start, tasks, certainty, _batches(len(episodes.skus), settings), settings, second_order
    )
    return _document(prior, names, learned, source)


def _batches(products: int, settings: MamlSettings) -> Array:
    """Which products each outer step sees [step, batch]: shuffled passes over all of them."""
    rng = np.random.default_rng(settings.seed)
    size = min(settings.batch_products, products)
    passes = -(-settings.steps * size // products)
    order = np.concatenate([rng.permutation(products) for _ in range(passes)])
    return jnp.array(order[: settings.steps * size].reshape(settings.steps, size))


@jax.jit(static_argnames=("settings", "second_order"))
def _outer_loop(
    start: _Meta,
    tasks: _Tasks,
    certainty: Array,
    batches: Array,
    settings: MamlSettings,
    second_order: bool,
) -> _Meta:
    """Adam with a learning rate that falls to 0; the mean of the last quarter of its iterates."""
    products = tasks.category.shape[0]

    def loss(meta: _Meta, batch: Array) -> Array:
        if not second_order:  # nothing but the inner step sees S: it stays as it is, exactly
            meta = meta._replace(factor=start.factor)
        chosen = jax.tree.map(lambda column: column[batch], tasks)
        pulled = _pull(meta, start, certainty) / products
        return -_later_log_likelihood(meta, chosen, second_order).mean() + pulled / EPOCHS_WORTH

    def step(number: Array, carry: tuple[_Meta, ...]) -> tuple[_Meta, ...]:
        meta, first, second, total = carry
        slope = jax.grad(loss)(meta, batches[number])
        first = jax.tree.map(lambda m, g: B1 * m + (1.0 - B1) * g, first, slope)
        second = jax.tree.map(lambda v, g: B2 * v + (1.0 - B2) * g * g, second, slope)
        t = number + 1.0
        rate = settings.learning_rate * (1.0 - number / settings.steps)
        meta = jax.tree.map(
            lambda p, m, v: p - rate * (m / (1 - B1**t)) / (jnp.sqrt(v / (1 - B2**t)) + TINY),
            meta,
            first,
            second,
        )
        late = jnp.where(number >= settings.steps - averaged, 1.0 / averaged, 0.0)
        return meta, first, second, jax.tree.map(lambda a, p: a + late * p, total, meta)

    averaged = max(settings.steps // 4, 1)
    zero = jax.tree.map(jnp.zeros_like, start)
    carry: tuple[_Meta, ...] = (start, zero, zero, zero)
    *_, mean_of_late = lax.fori_loop(0, settings.steps, step, carry)
    return _Meta(*mean_of_late)


def _later_log_likelihood(meta: _Meta, tasks: _Tasks, second_order: bool) -> Array:
    """Predictive log likelihood [product] of a product's later epochs, mean over them."""
    theta, spread = _inner_step(meta, tasks)
    if not second_order:
        begun = _begun(meta, tasks)
        theta = begun + lax.stop_gradient(theta - begun)
        spread = lax.stop_gradient(spread)
    z = jnp.einsum("ntk,nk->nt", tasks.later_x, theta)
    variance = jnp.einsum("ntj,njk,ntk->nt", tasks.later_x, spread, tasks.later_x)
    sd = jnp.sqrt(jnp.maximum(variance, 1e-12))
    at = jnp.array(NODES)
    logs = _log_likelihood(
        z[..., None] + sd[..., None] * at, tasks.later_orders[..., None],
        tasks.later_exposure[..., None], tasks.dispersion[:, None, None],
    )  # fmt: skip
    weights = jnp.log(jnp.array(NODE_WEIGHTS / NODE_WEIGHTS.sum()))
    told = tasks.later_exposure > 0.0
    found = jnp.where(told, jax.scipy.special.logsumexp(logs + weights, axis=-1), 0.0)
    return found.sum(axis=1) / jnp.maximum(told.sum(axis=1), 1)


def _log_likelihood(z: Array, orders: Array, exposure: Array, phi: Array) -> Array:
    """Negative-binomial log likelihood, without the terms that no parameter moves."""
    safe = jnp.where(exposure > 0.0, exposure, 1.0)
    log_mean = jnp.clip(z + jnp.log(safe), -LN_MEAN_MAX, LN_MEAN_MAX)
    return orders * log_mean - (orders + 1.0 / phi) * jnp.log1p(phi * jnp.exp(log_mean))


def _begun(meta: _Meta, tasks: _Tasks) -> Array:
    """theta_0 [product, 4]."""
    return meta.mean + tasks.attributes @ meta.weights + meta.offsets[tasks.category]


def _covariance_of(factor: Array) -> Array:
    lower = jnp.tril(factor, -1) + jnp.diag(jnp.exp(jnp.diag(factor)))
    return lower @ lower.T


def _inner_step(meta: _Meta, tasks: _Tasks) -> tuple[Array, Array]:
    """theta' [product, 4] and V' [product, 4, 4] after one natural-gradient step."""
    phi = tasks.dispersion[:, None]
    begun = _begun(meta, tasks)
    z = jnp.einsum("ntk,nk->nt", tasks.x, begun)
    told = tasks.exposure > 0.0
    z = jnp.clip(z + jnp.log(jnp.where(told, tasks.exposure, 1.0)), -LN_MEAN_MAX, LN_MEAN_MAX)
    # the level is soon known and may be far from theta_0: linearise where the orders put it
    foreseen = jnp.where(told, jnp.exp(z), 0.0).sum(axis=1)
    shift = jnp.log((tasks.orders * told).sum(axis=1) + 1.0) - jnp.log(foreseen + 1.0)
    mu = jnp.exp(z + shift[:, None])
    weight = jnp.where(told, mu / (1.0 + phi * mu), 0.0)
    score = jnp.where(told, (tasks.orders - mu) / (1.0 + phi * mu), 0.0)
    information = jnp.einsum("ntj,nt,ntk->njk", tasks.x, weight, tasks.x)
    spread = jnp.linalg.inv(jnp.linalg.inv(_covariance_of(meta.factor)) + information)
    gradient = jnp.einsum("ntk,nt->nk", tasks.x, score + weight * shift[:, None])
    return begun + jnp.einsum("njk,nk->nj", spread, gradient), spread


def _pull(meta: _Meta, start: _Meta, certainty: Array) -> Array:
    """Half the squared distance from empirical Bayes, in its own posterior errors.

    Later epochs alone say little about elasticities: the level's spread hides them. So the search
    is held where the joint likelihood put it, as surely as that knew it.
    """
    moved = meta.offsets + meta.mean - start.offsets - start.mean
    offsets = jnp.einsum("cj,cjk,ck->", moved, certainty, moved)
    turned = meta.weights - start.weights
    weights = jnp.einsum("aj,jk,ak->", turned, certainty.sum(axis=0), turned)
    ratio = jnp.linalg.inv(_covariance_of(start.factor)) @ _covariance_of(meta.factor)
    spread = jnp.trace(ratio) - jnp.linalg.slogdet(ratio)[1] - 4.0  # Wishart: 0 at the start
    return jnp.asarray(0.5 * (offsets + weights + COVARIANCE_PULL_PRODUCTS * spread))


def _meta(prior: DemandPrior, names: list[str]) -> _Meta:
    lower = np.linalg.cholesky(matrix(prior.cov))
    factor = np.tril(lower, -1) + np.diag(np.log(np.diag(lower)))
    weights = [effect.weights for effect in prior.attribute_effects.values()]
    return _Meta(
        mean=jnp.array(prior.mean),
        weights=jnp.array(weights).reshape(-1, 4),
        offsets=jnp.array([prior.categories[name].offset for name in names]),
        factor=jnp.array(factor),
    )


def _tasks(prior: DemandPrior, episodes: Episodes, names: list[str]) -> _Tasks:
    inner = np.array([INNER_EPOCHS[sku_digest(sku) % len(INNER_EPOCHS)] for sku in episodes.skus])
    told = np.count_nonzero(episodes.exposure_days, axis=1)
    inner = np.minimum(inner, np.maximum(told - 1, 0))  # at least one epoch is left to forecast
    x, longest = features(episodes), max(INNER_EPOCHS)
    width = episodes.orders.shape[1]
    number = np.arange(width)
    first = np.where(number < inner[:, None], episodes.exposure_days, 0.0)[:, :longest]
    at = np.minimum(inner[:, None] + np.arange(OUTER_EPOCHS), width - 1)
    rows = np.arange(len(inner))[:, None]
    within = inner[:, None] + np.arange(OUTER_EPOCHS) < width
    index = {name: position for position, name in enumerate(names)}
    category = [index[name] for name in episodes.categories]
    return _Tasks(
        attributes=jnp.array(standard_attributes(prior, episodes)),
        category=jnp.array(category),
        dispersion=jnp.full(len(category), prior.dispersion),
        x=jnp.array(x[:, :longest]),
        orders=jnp.array(episodes.orders[:, :longest]),
        exposure=jnp.array(first),
        later_x=jnp.array(x[rows, at]),
        later_orders=jnp.array(episodes.orders[rows, at]),
        later_exposure=jnp.array(np.where(within, episodes.exposure_days[rows, at], 0.0)),
    )


def _document(prior: DemandPrior, names: list[str], learned: _Meta, source: str) -> DemandPrior:
    """The learned meta-parameters as a prior; what they do not touch stays as it was."""
    offsets = dict(zip(names, np.asarray(learned.offsets).tolist(), strict=True))
    weights = np.asarray(learned.weights).tolist()
    return replace(
        prior,
        source=source,
        mean=coefficients(np.asarray(learned.mean).tolist()),
        cov=packed(np.asarray(_covariance_of(learned.factor))),
        categories={
            name: replace(effect, offset=coefficients(offsets[name])) if name in offsets else effect
            for name, effect in prior.categories.items()
        },
        attribute_effects={
            name: replace(effect, weights=coefficients(found))
            for (name, effect), found in zip(prior.attribute_effects.items(), weights, strict=True)
        },
    )
