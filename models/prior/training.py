"""Training of the demand prior: candidates, their trial on held-out products, and the document."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from models.demand.challengers import challenge
from models.demand.history import Episodes
from models.demand.search_history import SearchHistory
from models.prior import prior_fit
from models.prior.champion import Forecasts, champion, forecasts, held_out, score
from models.prior.clusters import assign, with_clusters
from models.prior.maml import meta_train
from models.prior.prior import DEFAULT_PRIOR
from schemas.learned import CandidateScore, DemandPrior, Ensemble, TrainingRecord

CHALLENGED_MAX = 300  # products: an adaptive forest takes about a millisecond an epoch
CHALLENGERS_SEED = 1
PRODUCTS_MIN = 10  # below it nothing can be held out, and nothing is learned
UNTRAINED = "default prior"
EMPIRICAL_BAYES = "empirical Bayes"
FIRST_ORDER = "MAML, first order"
SECOND_ORDER = "MAML, second order"

Fit = Callable[[Episodes, str], DemandPrior]


class Trained(NamedTuple):
    """A prior, and how the candidates forecast what they had not seen.

    ``by_orders_seen`` has for each candidate the mean log likelihood of epochs that began with so
    many orders (`models.prior.champion.ORDERS_SEEN`; None where there was no such epoch).
    """

    prior: DemandPrior
    by_orders_seen: dict[str, list[float | None]]


class TapeFacts(NamedTuple):
    """Where the epochs come from: last offsets by partition, and the hash of the records."""

    positions: dict[str, int]
    tape_sha256: str


def train(
    episodes: Episodes,
    tape: TapeFacts,
    source: str,
    *,
    meta: bool = True,
    challengers: SearchHistory | None = None,
) -> Trained:
    """Fit every candidate without the held-out products, and the best of them with all.

    Parameters
    ----------
    meta : whether meta-learning takes part as the challenger of empirical Bayes
    challengers : searches that the tape has, where other models are to forecast the held-out
        products beside the posterior; they see the searches of the days before

    Raises
    ------
    ValueError : fewer than 10 products have an epoch
    """
    if len(episodes.skus) < PRODUCTS_MIN:
        raise ValueError(
            f"products with a closed epoch were {len(episodes.skus)}; expected {PRODUCTS_MIN} "
            "or more"
        )
    aside = held_out(episodes)
    if np.count_nonzero(aside) < 2:  # a small catalogue whose SKUs happen to scatter badly
        aside = np.arange(len(aside)) % 2 == 0
    taught, tried = episodes.take(np.flatnonzero(~aside)), episodes.take(np.flatnonzero(aside))
    fits = _candidates(meta)
    first = fits[EMPIRICAL_BAYES](taught, source)
    trials = {UNTRAINED: forecasts(DEFAULT_PRIOR, tried), EMPIRICAL_BAYES: forecasts(first, tried)}
    for name in fits:
        if name != EMPIRICAL_BAYES:
            trials[name] = forecasts(fits[name](taught, source), tried)
    rivals = {name: found for name, found in trials.items() if name != UNTRAINED}
    best = champion(rivals, EMPIRICAL_BAYES)
    scores = tuple(score(name, found) for name, found in trials.items())
    prior = with_clusters(fits[best](episodes, source), episodes)
    if challengers is not None:
        prior = replace(prior, ensemble=_challenged(first, prior, tried, challengers))
    return Trained(_recorded(prior, episodes, tape, best, scores), _rows(trials))


def _challenged(
    first: DemandPrior, prior: DemandPrior, tried: Episodes, searches: SearchHistory
) -> Ensemble:
    """The challengers on held-out products, by the clusters of the document to be published."""
    chosen = tried.take(np.arange(min(len(tried.skus), CHALLENGED_MAX)))
    pairs = zip(chosen.categories, chosen.attributes, strict=True)
    labels = [assign(prior, category, attributes) for category, attributes in pairs]
    return challenge(
        first, chosen, np.array(labels), CHALLENGERS_SEED, signals=searches.signals(chosen)
    )


def refreshed(prior: DemandPrior, episodes: Episodes, tape: TapeFacts, source: str) -> DemandPrior:
    """The prior kept fresh by two EM steps; scores, clusters and ensemble stay as trained.

    Raises
    ------
    ValueError : there is no product
    """
    fresh = prior_fit.update(prior, episodes, source)
    before = prior.training
    name, scores = (EMPIRICAL_BAYES, ()) if before is None else (before.champion, before.scores)
    return _recorded(fresh, episodes, tape, name, scores)


def _candidates(meta: bool) -> dict[str, Fit]:
    fits: dict[str, Fit] = {EMPIRICAL_BAYES: prior_fit.fit}
    if meta:
        fits[FIRST_ORDER] = lambda episodes, source: meta_train(
            prior_fit.fit(episodes, source), episodes, source, second_order=False
        )
        fits[SECOND_ORDER] = lambda episodes, source: meta_train(
            prior_fit.fit(episodes, source), episodes, source, second_order=True
        )
    return fits


def _recorded(
    prior: DemandPrior,
    episodes: Episodes,
    tape: TapeFacts,
    champion_name: str,
    scores: tuple[CandidateScore, ...],
) -> DemandPrior:
    record = TrainingRecord(
        champion=champion_name,
        products=len(episodes.skus),
        epochs=episodes.epochs,
        orders=int(episodes.orders.sum()),
        tape_sha256=tape.tape_sha256,
        positions=dict(sorted(tape.positions.items())),
        scores=scores,
    )
    return replace(prior, training=record)


def _rows(trials: Mapping[str, Forecasts]) -> dict[str, list[float | None]]:
    return {name: found.by_orders_seen() for name, found in trials.items()}
