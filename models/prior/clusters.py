"""Clusters of products with like characteristics and like elasticity: Ward's hierarchy.

A product's place is its standardised attributes, its category's effect on the elasticity and its
own posterior elasticity (which its uncertainty shrinks to what attributes and category say). The
number of clusters is the one whose mean silhouette is highest. The result is a part of the
published prior. docs/science/clusters.md says what it is good for, and what it is not.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from models.demand.history import Episodes, sku_digest
from models.prior import prior_fit
from models.prior.prior import adapt, number, standardised
from schemas.learned import Cluster, Clusters, DemandPrior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRODUCTS_MAX = 2_000  # of the hierarchy, whose memory grows by the square; the rest are assigned
CLUSTERS_MAX = 12
CLUSTER_PRODUCTS_MIN = 20  # a smaller one has no quantiles worth stating
PROBABILITIES = (0.5, 0.9, 0.99)  # of the quantiles in a cluster's table
SCALE_MIN = 1e-9


class Clustered(NamedTuple):
    """The document's part, and the cluster of each product [n]."""

    clusters: Clusters
    labels: Ints


def fit(prior: DemandPrior, episodes: Episodes) -> Clustered:
    """Cluster a catalogue under a trained prior.

    Parameters
    ----------
    episodes : of two products or more

    Raises
    ------
    ValueError : fewer than two products

    Notes
    -----
    Source: J. H. Ward (1963), JASA 58(301); P. J. Rousseeuw (1987), J. Computational and Applied
    Mathematics 20. Cost: `O(n^2)` in the at most 2,000 products of the hierarchy.
    """
    n = len(episodes.skus)
    if n < 2:
        raise ValueError(f"products were {n}; expected 2 or more")
    beliefs = prior_fit.posteriors(
        episodes, prior_fit.beginnings(prior, episodes), prior.dispersion
    )
    names = tuple(prior.attribute_effects)
    raw = np.array(
        [
            _place(prior, names, category, attributes, float(elasticity))
            for category, attributes, elasticity in zip(
                episodes.categories, episodes.attributes, beliefs.mean[:, 1], strict=True
            )
        ]
    )
    center, scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), SCALE_MIN)
    scale[-2] = scale[-1]  # a category's effect counts by its size in elasticity
    places = (raw - center) / scale
    sample = sorted(range(n), key=lambda row: sku_digest(episodes.skus[row]))[:PRODUCTS_MAX]
    sampled = places[sample]
    found, silhouette = _hierarchy(sampled)
    centroids = np.array([sampled[found == k].mean(axis=0) for k in range(found.max() + 1)])
    labels = _nearest(places, centroids)
    tables = _Tables(_residuals(episodes, beliefs, prior.dispersion), _deltas(episodes, beliefs))
    parts = tuple(
        _cluster(centroids[k], labels == k, beliefs, tables) for k in range(len(centroids))
    )
    clusters = Clusters(
        features=(*names, "category", "elasticity"),
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        silhouette=silhouette,
        probabilities=PROBABILITIES,
        clusters=parts,
    )
    return Clustered(clusters, labels)


def with_clusters(prior: DemandPrior, episodes: Episodes) -> DemandPrior:
    """The document with its catalogue's clusters; none for fewer than two products."""
    if len(episodes.skus) < 2:
        return prior
    return replace(prior, clusters=fit(prior, episodes).clusters)


def assign(prior: DemandPrior, category: str, attributes: Mapping[str, float | str]) -> int | None:
    """The cluster of a product that has shown nothing yet: the nearest centroid.

    Its elasticity is taken to be what category and attributes say of it. None where the document
    has no clusters.
    """
    clusters = prior.clusters
    if clusters is None:
        return None
    belief, _ = adapt(prior, category, attributes, 0, prior_hash="unused")
    names = clusters.features[:-2]
    place = np.array([_place(prior, names, category, attributes, belief.mean[1])])
    place = (place - np.array(clusters.center)) / np.array(clusters.scale)
    centroids = np.array([cluster.centroid for cluster in clusters.clusters])
    return int(_nearest(place, centroids)[0])


def _place(
    prior: DemandPrior,
    names: tuple[str, ...],
    category: str,
    attributes: Mapping[str, float | str],
    elasticity: float,
) -> list[float]:
    """Attributes over the document's sds (a missing one at its mean), category, elasticity."""
    place = []
    for name in names:
        value = number(attributes.get(name))
        effect = prior.attribute_effects[name]
        place.append(0.0 if value is None else standardised(value, effect))
    known = prior.categories.get(category)
    return [*place, 0.0 if known is None else known.offset[1], elasticity]


def _hierarchy(places: Floats) -> tuple[Ints, float]:
    """Labels [n] from 0 of the cut with the highest mean silhouette, and that silhouette.

    A cut with a cluster of too few products is not considered; without any cut all are one cluster.
    """
    n = len(places)
    tree = linkage(places, method="ward")
    distances = squareform(pdist(places))
    best, best_silhouette = np.zeros(n, np.int64), 0.0
    for count in range(2, CLUSTERS_MAX + 1):
        labels = _by_size(fcluster(tree, count, criterion="maxclust").astype(np.int64) - 1)
        sizes = np.bincount(labels)
        if len(sizes) < count or sizes.min() < CLUSTER_PRODUCTS_MIN:
            continue
        silhouette = _silhouette(distances, labels)
        if silhouette > best_silhouette:
            best, best_silhouette = labels, silhouette
    return best, best_silhouette


def _by_size(labels: Ints) -> Ints:
    """The same clusters, numbered from the largest; ties by their first product."""
    sizes = np.bincount(labels)
    first = [int(np.argmax(labels == label)) for label in range(len(sizes))]
    order = sorted(range(len(sizes)), key=lambda label: (-int(sizes[label]), first[label]))
    rank = np.empty(len(sizes), np.int64)
    rank[order] = np.arange(len(sizes))
    return np.asarray(rank[labels])


def _silhouette(distances: Floats, labels: Ints) -> float:
    """Mean of (b - a)/max(a, b): distance to the nearest other cluster against one's own."""
    members = np.eye(labels.max() + 1)[labels]
    sizes = members.sum(axis=0)
    sums = distances @ members
    rows = np.arange(len(labels))
    own = sums[rows, labels] / np.maximum(sizes[labels] - 1.0, 1.0)
    others = sums / sizes
    others[rows, labels] = np.inf
    nearest = others.min(axis=1)
    largest = np.maximum(np.maximum(own, nearest), SCALE_MIN)
    return float(((nearest - own) / largest).mean())


def _nearest(places: Floats, centroids: Floats) -> Ints:
    squares = ((places[:, None, :] - centroids) ** 2).sum(axis=2)
    return np.asarray(squares.argmin(axis=1), dtype=np.int64)


class _Tables(NamedTuple):
    """Absolute residual z [product, epoch] and scaled Delta [product]; NaN where there is none."""

    residual: Floats
    delta: Floats


def _cluster(
    centroid: Floats, members: NDArray[np.bool_], beliefs: prior_fit.Beliefs, tables: _Tables
) -> Cluster:
    elasticity, variance = beliefs.mean[members, 1], beliefs.cov[members, 1, 1]
    return Cluster(
        centroid=tuple(centroid.tolist()),
        products=int(members.sum()),
        elasticity_mean=float(elasticity.mean()) if members.any() else 0.0,
        elasticity_sd=math.sqrt(float(elasticity.var() + variance.mean()))
        if members.any()
        else 0.0,
        residual_quantiles=_quantiles(tables.residual[members]),
        delta_quantiles=_quantiles(tables.delta[members]),
    )


def _quantiles(values: Floats) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, PROBABILITIES).tolist()) if len(known) else ()


def _residuals(episodes: Episodes, beliefs: prior_fit.Beliefs, dispersion: float) -> Floats:
    """|n - mu| over its predictive sd, by epoch: the count's own noise and the posterior's."""
    x = prior_fit.features(episodes)
    told = episodes.exposure_days > 0.0
    exposure = np.where(told, episodes.exposure_days, 1.0)
    z = np.clip(np.einsum("ntk,nk->nt", x, beliefs.mean) + np.log(exposure), -30.0, 30.0)
    mu = np.exp(z)
    spread = np.einsum("ntj,njk,ntk->nt", x, beliefs.cov, x, optimize=True)
    sd = np.sqrt(mu + (dispersion + np.maximum(spread, 0.0)) * mu**2)
    return np.asarray(np.where(told, np.abs(episodes.orders - mu) / sd, np.nan))


def _deltas(episodes: Episodes, beliefs: prior_fit.Beliefs) -> Floats:
    """|d ln(profit) / d ln(price)| at the mean mark-up charged, without returns, stock and risk.

    Profit is (P - c) P^eps with c the cost over the kept share: 1/(1 - c/P) + eps.
    """
    cost_share = np.exp(-episodes.ln_markup)
    profitable = episodes.costed & (cost_share < 1.0)
    margin_share = np.where(profitable, 1.0 - cost_share, 1.0)
    delta = np.abs(1.0 / margin_share + beliefs.mean[:, 1])
    return np.asarray(np.where(profitable, delta, np.nan))
