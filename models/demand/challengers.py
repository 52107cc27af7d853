"""Challengers: other models forecast what the posterior forecasts, cluster by cluster.

They run offline, on products that taught none of what is published. Every forecast is one step
ahead. What is published is the outcome (weights, scores, members that diverged, products whose
posterior lies far from the ensemble), as a part of the prior; no price uses it.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from models.demand.challenger_members import Floats, Ints, Member, Rows, epoch_features, members
from models.demand.ensemble import DEFAULT_SETTINGS, EnsembleSettings, Pool
from models.demand.history import Episodes
from schemas.learned import (
    ClusterEnsemble,
    DemandPrior,
    Ensemble,
    LevelOutlier,
    MemberAlert,
    MemberScore,
)

MakeMembers = Callable[[DemandPrior, Episodes, int], Mapping[str, Member]]

POSTERIOR = "posterior"
OUTLIER_LOG_RATIO = float(np.log(2.0))  # between the posterior's level and the ensemble's
OUTLIER_EPOCHS = 4  # the last ones of a product, whose mean is compared
OUTLIERS_MAX = 50


class Forecast(NamedTuple):
    """All members' forecasts of one cluster, step by step.

    ``ln_rate`` [member, row] per step; ``days``: the event day at which a step's epochs end.
    """

    names: tuple[str, ...]
    days: list[int]
    rows: list[Rows]
    ln_rate: list[Floats]


class Outcome(NamedTuple):
    """What a pool made of a cluster's forecasts: means of ln P over rows.

    ``weights`` [member] by step; ``levels``: ln orders per day by the posterior and by the pool, of
    each product's last epochs.
    """

    pool: Pool
    rows: int
    members: Floats  # [member]
    average: float
    weighted: float
    weights: list[Floats]
    levels: dict[int, list[tuple[float, float]]]


def forecast(
    prior: DemandPrior,
    episodes: Episodes,
    products: Ints,
    seed: int,
    signals: Floats | None = None,
    make: MakeMembers = members,
) -> Forecast:
    """Run every member over the epochs of one cluster, in the order of the days they end at.

    Parameters
    ----------
    products : [k] which of the episodes are the cluster's
    signals : see `models.demand.challenger_members.epoch_features`
    make : makes the members by name
    """
    found = make(prior, episodes, seed)
    features, before = epoch_features(prior, episodes, signals)
    told = np.zeros_like(episodes.exposure_days, dtype=np.bool_)
    told[products] = episodes.exposure_days[products] > 0.0
    days = np.floor(episodes.end_days).astype(np.int64)
    result = Forecast(tuple(found), [], [], [])
    for day in np.unique(days[told]).tolist():
        product, epoch = np.nonzero(told & (days == day))
        # a product's second epoch of a day would see the first one's answer: the last one stands
        last = np.append(product[1:] != product[:-1], True)
        i, j = product[last], epoch[last]
        rows = Rows(
            i, j, features[i, j], before[i, j], episodes.exposure_days[i, j], episodes.orders[i, j]
        )
        result.days.append(day)
        result.rows.append(rows)
        result.ln_rate.append(np.stack([member.forecast(rows) for member in found.values()]))
        for member in found.values():
            member.learn(rows)
    return result


def combine(found: Forecast, settings: EnsembleSettings = DEFAULT_SETTINGS) -> Outcome:
    """Pool a cluster's forecasts."""
    pool = Pool(len(found.names), settings)
    count, average, weighted = 0, 0.0, 0.0
    by_member = np.zeros(len(found.names))
    weights: list[Floats] = []
    levels: dict[int, list[tuple[float, float]]] = {}
    for rows, ln_rate in zip(found.rows, found.ln_rate, strict=True):
        scores = pool.step(ln_rate, rows.ln_rate_before, rows.exposure_days, rows.orders)
        count += len(rows.orders)
        average += float(scores.average.sum())
        weighted += float(scores.weighted.sum())
        by_member += scores.members.sum(axis=1)
        weights.append(scores.weights)
        pooled = scores.ln_mean - np.log(rows.exposure_days)
        own = ln_rate[found.names.index(POSTERIOR)] if POSTERIOR in found.names else pooled
        for product, *pair in zip(
            rows.product.tolist(), own.tolist(), pooled.tolist(), strict=True
        ):
            kept = levels.setdefault(product, [])
            kept.append((pair[0], pair[1]))
            del kept[:-OUTLIER_EPOCHS]
    divisor = max(count, 1)
    return Outcome(
        pool, count, by_member / divisor, average / divisor, weighted / divisor, weights, levels
    )


def challenge(
    prior: DemandPrior,
    episodes: Episodes,
    labels: Ints,
    seed: int,
    settings: EnsembleSettings = DEFAULT_SETTINGS,
    signals: Floats | None = None,
    make: MakeMembers = members,
) -> Ensemble:
    """Run the challengers over products that the prior was not trained on.

    Parameters
    ----------
    labels : [product] cluster of each
    signals : see `models.demand.challenger_members.epoch_features`
    make : makes a cluster's members by name
    """
    parts: list[ClusterEnsemble] = []
    alerts: list[MemberAlert] = []
    outliers: list[LevelOutlier] = []
    for label in np.unique(labels).tolist():
        products = np.flatnonzero(labels == label)
        found = forecast(prior, episodes, products, seed, signals, make)
        outcome = combine(found, settings)
        if not outcome.rows:
            continue
        parts.append(_part(label, found, outcome))
        alerts.extend(
            MemberAlert(
                day=found.days[alert.step],
                cluster=label,
                member=found.names[alert.member],
                event=alert.event,
                reason=alert.reason,
            )
            for alert in outcome.pool.alerts
        )
        outliers.extend(_outliers(episodes, outcome))
    outliers.sort(
        key=lambda one: (-abs(np.log(one.posterior_per_day / one.ensemble_per_day)), one.sku)
    )
    return Ensemble(
        clusters=tuple(parts), alerts=tuple(alerts), outliers=tuple(outliers[:OUTLIERS_MAX])
    )


def _part(label: int, found: Forecast, outcome: Outcome) -> ClusterEnsemble:
    scores = tuple(
        MemberScore(
            name=name,
            log_score=float(outcome.members[place]),
            weight=float(outcome.pool.weights[place]),
            suspended=bool(outcome.pool.suspended[place]),
        )
        for place, name in enumerate(found.names)
    )
    return ClusterEnsemble(
        cluster=label,
        epochs=outcome.rows,
        members=scores,
        average_log_score=outcome.average,
        weighted_log_score=outcome.weighted,
    )


def _outliers(episodes: Episodes, outcome: Outcome) -> list[LevelOutlier]:
    """Products whose posterior lies a factor of two from the pool over their last epochs.

    What the whole cluster's posteriors have in common (their median) is left out: that is the
    member's calibration, not the product's.
    """
    whole = {k: pairs for k, pairs in outcome.levels.items() if len(pairs) == OUTLIER_EPOCHS}
    if not whole:
        return []
    means = np.array([np.mean(pairs, axis=0) for pairs in whole.values()])
    away = means[:, 0] - means[:, 1]
    far = np.abs(away - np.median(away)) > OUTLIER_LOG_RATIO
    return [
        LevelOutlier(
            sku=episodes.skus[product],
            posterior_per_day=float(np.exp(own)),
            ensemble_per_day=float(np.exp(pooled)),
        )
        for product, (own, pooled), is_far in zip(whole, means.tolist(), far, strict=True)
        if is_far
    ]
