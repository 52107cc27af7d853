"""Challengers: one step ahead, repeatable, and what they say about a product's level."""

import numpy as np
import pytest

from models.demand.challenger_members import FEATURES, PosteriorMember, Rows, epoch_features
from models.demand.challengers import challenge, forecast
from models.demand.history import Episodes
from models.demand.search_history import SearchHistory
from models.prior import prior_fit
from models.prior.training import TapeFacts, train
from schemas.codec import canonical
from schemas.learned import DemandPrior
from tests.models.catalogues import EPOCHS, catalogue


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return catalogue(3, each=8)


@pytest.fixture(scope="module")
def prior() -> DemandPrior:
    return prior_fit.fit(catalogue(4), "made up")


LABELS = np.arange(16) % 2


def test_the_document_names_every_member_and_is_the_same_every_time(
    prior: DemandPrior, episodes: Episodes
) -> None:
    ensemble = challenge(prior, episodes, LABELS, 7)
    assert [part.cluster for part in ensemble.clusters] == [0, 1]
    for part in ensemble.clusters:
        assert part.epochs == 8 * EPOCHS
        assert [one.name for one in part.members] == ["posterior", "linear", "forest", "boosting"]
        assert sum(one.weight for one in part.members) == pytest.approx(1.0)
        best = max(one.log_score for one in part.members)
        assert part.weighted_log_score > best - 0.05
    assert canonical(challenge(prior, episodes, LABELS, 7)) == canonical(ensemble)


def test_a_forecast_does_not_see_what_it_forecasts(prior: DemandPrior, episodes: Episodes) -> None:
    changed = episodes._replace(orders=episodes.orders.copy())
    changed.orders[:, 12] += 50.0
    products = np.arange(16)
    one, other = forecast(prior, episodes, products, 7), forecast(prior, changed, products, 7)
    for step in range(13):
        assert one.ln_rate[step].tolist() == other.ln_rate[step].tolist()
    later = np.abs(one.ln_rate[13] - other.ln_rate[13]).max(axis=1)
    assert (later > 0.01).all()


def test_a_posterior_far_from_the_pool_is_reported(prior: DemandPrior, episodes: Episodes) -> None:
    def make(prior: DemandPrior, episodes: Episodes, seed: int) -> dict[str, object]:
        return {"posterior": Wrong(prior, episodes), "twin": PosteriorMember(prior, episodes)}

    class Wrong(PosteriorMember):
        def forecast(self, rows: Rows) -> np.ndarray:
            return super().forecast(rows) + np.where(rows.product == 3, 2.0, 0.0)

    labels = np.zeros(16, dtype=np.int64)
    (outlier,) = challenge(prior, episodes, labels, 7, make=make).outliers  # type: ignore[arg-type]
    assert outlier.sku == "P003"
    assert outlier.posterior_per_day > 2.0 * outlier.ensemble_per_day
    assert challenge(prior, episodes, labels, 7).outliers == ()


def test_features_are_known_when_the_epoch_begins(prior: DemandPrior, episodes: Episodes) -> None:
    features, before = epoch_features(prior, episodes)
    assert features.shape == (16, EPOCHS, len(FEATURES))
    changed = episodes._replace(orders=episodes.orders.copy())
    changed.orders[:, 5] += 9.0
    again, before_again = epoch_features(prior, changed)
    assert again[:, :6].tolist() == features[:, :6].tolist()
    assert before_again[:, :6].tolist() == before[:, :6].tolist()
    assert (before_again[:, 6] > before[:, 6]).all()
    with pytest.raises(ValueError, match="not finite"):
        epoch_features(prior, episodes, np.full((16, EPOCHS, 1), np.nan))


def test_training_publishes_the_challengers_on_the_clusters_of_the_document() -> None:
    facts = TapeFacts({"0": 9}, "0" * 64)
    with_them = train(catalogue(5), facts, "made up", meta=False, challengers=SearchHistory()).prior
    assert with_them.clusters is not None
    assert with_them.ensemble is not None
    assert len(with_them.clusters.clusters) == 2
    assert [part.cluster for part in with_them.ensemble.clusters] == [0, 1]
    without = train(catalogue(5), facts, "made up", meta=False).prior
    assert without.ensemble is None
    assert without.clusters == with_them.clusters
