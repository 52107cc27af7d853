"""What the whole tape tells of demand, product by product and all together, as draws.

A belief that decided knew the tape only up to its decision, and a policy that maximises profit
under it looks too good when judged by it (the optimiser's curse). So policies are judged by one
belief that has seen every epoch, drawn towards its category and the catalogue as far as these
agree: under such a posterior the best-looking choice is not overrated.

    y_i | theta_i           epochs of product i: the filter of `models.demand.demand`
    theta_i = (eps, eta, delta) ~ N(mu + c_k, Omega),  c_k ~ N(0, Psi),  k its category
    mu ~ N(m_0, S_0),  Omega and Psi diagonal, their variances inverse gamma

A Gibbs sampler draws all of it, mu and c with theta integrated out. So what is common to a
category or to the catalogue is uncertain in common, and does not average out over products.

Notes
-----
Source: J. E. Smith, R. L. Winkler (2006), The optimizer's curse, Management Science 52(3);
A. Gelman (2006), Prior distributions for variance parameters, Bayesian Analysis 1(3);
R. W. M. Wedderburn (1974), Quasi-likelihood functions, Biometrika 61(3).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from models.backtest.columns import Epochs, Floats, Integers
from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.demand.demand_batch import learn_many
from schemas.events import DAY_MS

BURN_IN = 100
EXPOSURE_DAYS_MIN = 1e-3
# The catalogue's mean (eps, eta, delta): the sources of `models.prior.prior.DEFAULT_PRIOR`, with
# the spread of a catalogue's mean instead of a product's.
MEAN = np.array([-2.62, 0.26, 0.0])
MEAN_SD = np.array([0.5, 0.2, 0.5])
# Spread between the products of a category and between categories; with four degrees of freedom
# some ten products outweigh it.
PRODUCT_SD = np.array([0.4, 0.1, 0.3])
CATEGORY_SD = np.array([0.4, 0.1, 0.1])
DEGREES = 4.0
WIDE_SD = np.array([3.0, 2.0, 1.0, 2.0])  # the filter starts so: level, eps, eta, delta
UPPER = np.triu_indices(4)
KNOWN_SPREAD_MAX = 1.0  # of ln mean: before the level is known no surprise is counted
SURPRISE_MAX = 16.0  # squared, over its variance: one freak order is not the rule


class Evidence(NamedTuple):
    """What the epochs say of (eps, eta, delta): information [product, 3, 3], score [product, 3].

    ``pearson`` is the mean squared surprise over its variance; where it is above 1 the
    information has been divided by it. ``centre_ms`` [product] is when the evidence was gathered,
    on average; 0 without any.
    """

    information: Floats
    score: Floats
    pearson: float
    centre_ms: Floats


class Belief(NamedTuple):
    """Draws of the coefficients: ``elasticity`` and ``rival`` [draw, product]."""

    elasticity: Floats
    rival: Floats


def evidence(
    epochs: Epochs, products: int, settings: DemandSettings = DEFAULT_SETTINGS
) -> Evidence:
    """Filter each product's epochs from a wide prior, and take that prior out again.

    The elasticity stands still over the tape: what is found is its average. The level walks.

    Parameters
    ----------
    epochs : rows in the order of product, then time; of less than 1e-3 days they teach nothing
    products : how many there are; one without epochs has no information
    """
    # an unknown rival's price matters as much as eta may be large, not as wide as it starts here
    usual, wide = (float(np.hypot(MEAN[1], sd)) for sd in (MEAN_SD[1], WIDE_SD[2]))
    still = settings._replace(
        elasticity_walk_per_day=0.0, missing_rival_sd=settings.missing_rival_sd * usual / wide
    )
    used = np.flatnonzero(epochs.exposure_days >= EXPOSURE_DAYS_MIN)
    seen = Epochs._make(column[used] for column in epochs)
    mean, cov = _start(seen, products)
    last_ms = np.full(products, -1, np.int64)
    total, count = 0.0, 0
    for rows in _rounds(seen.product):
        who = seen.product[rows]
        waited = (seen.end_ms[rows] - last_ms[who]) / DAY_MS
        days = np.where(last_ms[who] < 0, 0.0, waited)
        ln_price = np.log(seen.price_minor[rows] / seen.reference_minor[rows])
        columns = (
            ln_price, seen.ln_rival[rows], seen.control[rows], seen.orders[rows],
            seen.exposure_days[rows],
        )  # fmt: skip
        offset = seen.offset[rows]
        found = _surprises(mean[who], cov[who], columns, offset, still)
        total, count = total + float(found.sum()), count + len(found)
        mean[who], cov[who] = learn_many(mean[who], cov[who], *columns, days, still, offset)
        last_ms[who] = seen.end_ms[rows]
    pearson = total / count if count else 1.0
    information, score = _without_start(mean, cov)
    information[last_ms < 0] = score[last_ms < 0] = 0.0
    widened = max(pearson, 1.0)
    return Evidence(information / widened, score / widened, pearson, _centre(seen, products))


def draw(
    found: Evidence,
    category: Integers,
    draws: int,
    rng: np.random.Generator,
) -> Belief:
    """Draw the coefficients of all products together.

    Parameters
    ----------
    category : number of each product's category [product], from 0
    draws : how many, after a burn-in of 100
    """
    products, kinds = len(category), int(category.max()) + 1
    elasticity, rival = np.empty((draws, products)), np.empty((draws, products))
    omega, psi = PRODUCT_SD**2, CATEGORY_SD**2
    for step in range(-BURN_IN, draws):
        mu, offsets = _draw_means(found, category, kinds, omega, psi, rng)
        centre = mu + offsets[category]
        theta = _draw_products(found, centre, omega, rng)
        omega = _draw_variances(theta - centre, PRODUCT_SD, rng)
        psi = _draw_variances(offsets, CATEGORY_SD, rng)
        if step >= 0:
            elasticity[step], rival[step] = theta[:, 0], theta[:, 1]
    return Belief(elasticity, rival)


def by_product(product: Integers, values: Floats, products: int) -> Floats:
    """Sums [product] of values [row]."""
    return np.asarray(np.bincount(product, values, products), dtype=np.float64)


# -- evidence


def _start(seen: Epochs, products: int) -> tuple[Floats, Floats]:
    """Wide beliefs [product, 4] and [product, 10] around each product's rate of orders."""
    orders = by_product(seen.product, seen.orders, products)
    exposure = by_product(seen.product, seen.exposure_days, products)
    mean = np.zeros((products, 4))
    mean[:, 0] = np.log((orders + 0.5) / np.maximum(exposure, 1.0))
    mean[:, 1:] = MEAN
    return mean, np.tile(np.diag(WIDE_SD**2)[UPPER], (products, 1))


def _rounds(product: Integers) -> Iterator[Integers]:
    """Rows of the first epoch of every product, of the second, and so on."""
    if not len(product):
        return
    place = np.arange(len(product)) - np.searchsorted(product, product)
    order = np.argsort(place, kind="stable")
    yield from np.split(order, np.cumsum(np.bincount(place))[:-1])


def _surprises(
    mean: Floats,
    cov: Floats,
    columns: tuple[Floats, ...],
    offset: Floats,
    settings: DemandSettings,
) -> Floats:
    """Squared surprises over their variance, of the epochs whose level was known before."""
    ln_price, ln_rival, control, orders, exposure_days = columns
    known = ~np.isnan(ln_rival)
    x = np.stack([np.ones_like(ln_price), ln_price, np.where(known, ln_rival, 0.0), control], 1)
    spread = np.einsum("ni,nij,nj->n", x, _full(cov), x)
    clear = spread < KNOWN_SPREAD_MAX
    ln_mean = np.einsum("ni,ni->n", x, mean)[clear] + offset[clear] + np.log(exposure_days[clear])
    expected = np.exp(ln_mean + 0.5 * spread[clear])
    relative = (1.0 + settings.dispersion) * np.exp(spread[clear]) - 1.0
    variance = expected + relative * expected**2
    return np.asarray(np.minimum((orders[clear] - expected) ** 2 / variance, SURPRISE_MAX))


def _full(cov: Floats) -> Floats:
    """Matrices [n, 4, 4] of upper triangles by rows [n, 10]."""
    matrix = np.zeros((len(cov), 4, 4))
    matrix[:, UPPER[0], UPPER[1]] = cov
    matrix[:, UPPER[1], UPPER[0]] = cov
    return matrix


def _without_start(mean: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Information and score of (eps, eta, delta), the level integrated out, the start removed."""
    prior = np.diag(1.0 / WIDE_SD[1:] ** 2)
    posterior = np.linalg.inv(_full(cov)[:, 1:, 1:])
    score = np.einsum("nij,nj->ni", posterior, mean[:, 1:]) - prior @ MEAN
    values, vectors = np.linalg.eigh(posterior - prior)
    values = np.maximum(values, 0.0)  # rounding may leave a direction just below nothing
    return np.einsum("nij,nj,nkj->nik", vectors, values, vectors), score


def _centre(seen: Epochs, products: int) -> Floats:
    weight = np.maximum(seen.orders, 0.1)
    middle = 0.5 * (seen.begin_ms + seen.end_ms)
    total = by_product(seen.product, weight, products)
    moment = by_product(seen.product, weight * middle, products)
    return np.asarray(moment / np.where(total > 0.0, total, 1.0))


# -- the sampler


def _draw_means(
    found: Evidence,
    category: Integers,
    kinds: int,
    omega: Floats,
    psi: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """The catalogue's mean [3] and the categories' offsets [category, 3], products integrated out.

    A product with information L and score s says of its mean m: information L - L A^-1 L and
    score s - L A^-1 s, with A = L + Omega^-1; the same again from categories to the catalogue.
    """
    information, score = _integrated(found.information, found.score, omega)
    of_kind = np.zeros((kinds, 3, 3))
    score_of_kind = np.zeros((kinds, 3))
    np.add.at(of_kind, category, information)
    np.add.at(score_of_kind, category, score)
    above, score_above = _integrated(of_kind, score_of_kind, psi)
    prior = np.diag(1.0 / MEAN_SD**2)
    mu = _normal(above.sum(axis=0) + prior, score_above.sum(axis=0) + prior @ MEAN, rng)
    offsets = _normal(of_kind + np.diag(1.0 / psi), score_of_kind - of_kind @ mu, rng)
    return mu, offsets


def _draw_products(
    found: Evidence, centre: Floats, omega: Floats, rng: np.random.Generator
) -> Floats:
    return _normal(found.information + np.diag(1.0 / omega), found.score + centre / omega, rng)


def _draw_variances(deviations: Floats, sd: Floats, rng: np.random.Generator) -> Floats:
    """Inverse gamma posterior of the variances [3] of deviations [n, 3] from 0."""
    shape = 0.5 * (DEGREES + len(deviations))
    scale = 0.5 * (DEGREES * sd**2 + np.sum(deviations**2, axis=0))
    return np.asarray(scale / rng.gamma(shape, 1.0, 3))


def _integrated(information: Floats, score: Floats, variance: Floats) -> tuple[Floats, Floats]:
    gain = information @ np.linalg.inv(information + np.diag(1.0 / variance))
    return information - gain @ information, score - np.einsum("nij,nj->ni", gain, score)


def _normal(precision: Floats, score: Floats, rng: np.random.Generator) -> Floats:
    """A draw of N(precision^-1 score, precision^-1), for each of the leading rows."""
    lower = np.linalg.cholesky(precision)
    noise = rng.standard_normal(score.shape)
    mean = np.linalg.solve(precision, score[..., None])[..., 0]
    away = np.linalg.solve(np.swapaxes(lower, -1, -2), noise[..., None])[..., 0]
    return np.asarray(mean + away)
