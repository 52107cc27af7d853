"""Clusters: two made-up kinds of products are told apart, the same way in any order."""

import numpy as np
import pytest

from models.demand.history import Episodes
from models.prior import clusters, prior_fit
from schemas.codec import canonical
from schemas.learned import DemandPrior
from tests.models.catalogues import catalogue


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return catalogue(1)


@pytest.fixture(scope="module")
def prior(episodes: Episodes) -> DemandPrior:
    return prior_fit.fit(episodes, "made up")


def test_two_kinds_are_two_clusters(episodes: Episodes, prior: DemandPrior) -> None:
    found = clusters.fit(prior, episodes)
    kinds = np.arange(80) % 2
    assert found.labels.tolist() in (kinds.tolist(), (1 - kinds).tolist())
    assert found.clusters.features == ("size", "category", "elasticity")
    assert found.clusters.silhouette > 0.5
    means = sorted(cluster.elasticity_mean for cluster in found.clusters.clusters)
    assert means == pytest.approx([-3.5, -1.4], abs=0.3)  # shrunk to the prior's mean
    assert [cluster.products for cluster in found.clusters.clusters] == [40, 40]
    for cluster in found.clusters.clusters:
        middle, high, highest = cluster.residual_quantiles
        assert 0.1 < middle < high < highest < 4.0


def test_the_delta_quantiles_are_those_of_the_costed_products(
    episodes: Episodes, prior: DemandPrior
) -> None:
    found = clusters.fit(prior, episodes)
    beliefs = prior_fit.posteriors(
        episodes, prior_fit.beginnings(prior, episodes), prior.dispersion
    )
    charged = 1.0 / (1.0 - np.exp(-0.5))
    delta = np.abs(charged + beliefs.mean[:, 1])
    for label, cluster in enumerate(found.clusters.clusters):
        chosen = (found.labels == label) & episodes.costed
        assert cluster.delta_quantiles == pytest.approx(
            np.quantile(delta[chosen], clusters.PROBABILITIES).tolist()
        )
    unknown = episodes._replace(costed=np.zeros(80, dtype=np.bool_))
    for cluster in clusters.fit(prior, unknown).clusters.clusters:
        assert cluster.delta_quantiles == ()


def test_the_order_of_products_does_not_matter(episodes: Episodes, prior: DemandPrior) -> None:
    order = np.random.default_rng(5).permutation(80)
    whole, shuffled = clusters.fit(prior, episodes), clusters.fit(prior, episodes.take(order))
    assert whole.labels[order].tolist() == shuffled.labels.tolist()
    for one, other in zip(whole.clusters.clusters, shuffled.clusters.clusters, strict=True):
        assert one.centroid == pytest.approx(other.centroid)


def test_a_new_product_goes_to_the_nearest_centroid(episodes: Episodes, prior: DemandPrior) -> None:
    assert clusters.assign(prior, "bags", {"size": 1.0}) is None
    known = clusters.with_clusters(prior, episodes)
    labels = clusters.fit(prior, episodes).labels
    assert canonical(known) == canonical(clusters.with_clusters(prior, episodes))
    for size, row in ((1.0, 0), (9.0, 1)):
        assert clusters.assign(known, "bags", {"size": size}) == labels[row]
        assert clusters.assign(known, "never seen", {"size": size}) == labels[row]


def test_products_that_are_all_alike_are_one_cluster(prior: DemandPrior) -> None:
    few = catalogue(2, each=8)  # no cut leaves enough products in each cluster
    found = clusters.fit(prior, few)
    assert found.labels.tolist() == [0] * 16
    assert (found.clusters.silhouette, len(found.clusters.clusters)) == (0.0, 1)
    with pytest.raises(ValueError, match="expected 2 or more"):
        clusters.fit(prior, few.take(np.array([0])))
