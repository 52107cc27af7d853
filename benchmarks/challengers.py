"""The demand ensemble against its members, on weeks of the reference world.

    python -m benchmarks.challengers [--products N]

600 products teach the prior and its clusters. Held-out products are forecast one week ahead,
cluster by cluster. The score is the mean ln P of a product-week. Three questions, seeds 1, 2 and 3
each; constants were chosen on seeds 101 and 102:

- reference world: posterior, River's linear regression and adaptive random forest, boosted trees,
  the plain average of all, and the weighted pool;
- the same forecasts with one more member, which diverges (its error grows by 0.5 a week from week
  20 on, then it is NaN for four weeks, then it is cured);
- searches as a feature, in a world where they lead demand by three days, and in one where they say
  nothing; what they add to the best member that can use them, and to the pool.
"""

import argparse
import statistics
from typing import Any

import numpy as np

from benchmarks.harness import machine, write_result
from models.demand.challenger_members import Floats, Ints
from models.demand.challengers import Forecast, combine, forecast
from models.demand.history import Episodes
from models.prior import clusters, prior_fit
from models.prior.clusters import Clustered
from models.simulator.world import World, WorldSettings
from schemas.learned import DemandPrior

SEEDS = (1, 2, 3)
DAYS, WEEK = 364, 7
TEACHING = 600
SEARCH_EFFECT, SEARCHES_PER_ORDER = 0.3, 20.0
SEARCH_MEMORY_WEEKS = 8.0
DIVERGES_AT, NAN_WEEKS, CURED_AFTER = 20, (26, 30), 30


def weeks_of(world: World, index: Ints) -> tuple[Episodes, Floats]:
    """Whole weeks of some products as epochs, and ln searches of the days before each [n, week, 1].

    The searches of a week's last three days before it begins, over the product's own usual ones.
    """
    days = world.history(DAYS)
    n, weeks = len(index), DAYS // WEEK

    def by_week(name: str) -> Floats:
        return np.stack([getattr(day, name)[index] for day in days], axis=1).reshape(n, weeks, WEEK)

    price, exogenous = by_week("ln_price").mean(axis=2), by_week("exogenous_log").mean(axis=2)
    products = world.products.take(index)
    shape = (n, weeks)
    episodes = Episodes(
        [f"P{number:05}" for number in index],
        [f"c{number:02}" for number in products.category],
        [{f"a{k}": float(value) for k, value in enumerate(row)} for row in products.attributes],
        np.tile(np.arange(1.0, weeks + 1.0) * WEEK, (n, 1)),
        price,
        by_week("ln_rival").mean(axis=2),
        np.ones(shape, dtype=np.bool_),
        price - exogenous,
        by_week("orders").sum(axis=2).astype(float),
        np.full(shape, float(WEEK)),
        np.log(products.habit_markup),
        np.ones(n, dtype=np.bool_),
    )
    if days[0].searches is None:
        return episodes, np.zeros((n, weeks, 0))
    last = by_week("searches")[:, :, -3:].sum(axis=2).astype(float)
    signal, usual = np.zeros(shape), last[:, 0]
    for week in range(1, weeks):
        signal[:, week] = np.log((last[:, week - 1] + 1.0) / (usual + 1.0))
        usual = usual + (last[:, week - 1] - usual) / SEARCH_MEMORY_WEEKS
    return episodes, signal[:, :, None]


class Setting:
    """One seed's world: a prior from the teaching half, and held-out products with clusters."""

    def __init__(self, seed: int, products: int, settings: WorldSettings) -> None:
        world = World(seed, settings)
        seen = np.flatnonzero(~world.products.unseen)
        order = np.random.default_rng([seed, 11]).permutation(seen)
        count = TEACHING + products
        taught_index, tried_index = np.sort(order[:TEACHING]), np.sort(order[TEACHING:count])
        both, signals = weeks_of(world, np.concatenate((taught_index, tried_index)))
        self.taught = both.take(np.arange(TEACHING))
        self.tried = both.take(np.arange(TEACHING, count))
        self.signals = signals[TEACHING:]
        self.seed = seed
        self.truth = world.products.take(tried_index).elasticity
        self.prior: DemandPrior = prior_fit.fit(self.taught, "teaching half")
        self.clustered: Clustered = clusters.fit(self.prior, self.taught)
        known = clusters.with_clusters(self.prior, self.taught)
        self.labels = np.array(
            [
                clusters.assign(known, category, attributes)
                for category, attributes in zip(
                    self.tried.categories, self.tried.attributes, strict=True
                )
            ]
        )

    def forecasts(self, *, with_signals: bool = False) -> list[Forecast]:
        """All members' forecasts, one for each cluster that has a held-out product."""
        signals = self.signals if with_signals else None
        return [
            forecast(
                self.prior, self.tried, np.flatnonzero(self.labels == label), self.seed, signals
            )
            for label in np.unique(self.labels)
        ]


def scores(found: list[Forecast]) -> dict[str, float]:
    """Mean ln P of a product-week over all clusters, by member and pool."""
    outcomes = [combine(one) for one in found]
    rows = np.array([outcome.rows for outcome in outcomes])
    share = rows / rows.sum()
    result = {
        name: float(share @ [outcome.members[place] for outcome in outcomes])
        for place, name in enumerate(found[0].names)
    }
    result["average"] = float(share @ [outcome.average for outcome in outcomes])
    result["weighted"] = float(share @ [outcome.weighted for outcome in outcomes])
    return result


def with_diverging(found: Forecast) -> Forecast:
    """The same with one more member: the posterior's forecast, until it diverges."""
    ln_rate = []
    for week, rates in enumerate(found.ln_rate):
        bad = rates[found.names.index("posterior")].copy()
        if DIVERGES_AT <= week < CURED_AFTER:
            bad += 0.5 * (week - DIVERGES_AT + 1)
        if NAN_WEEKS[0] <= week < NAN_WEEKS[1]:
            bad[:] = np.nan
        ln_rate.append(np.vstack((rates, bad)))
    return found._replace(names=(*found.names, "diverging"), ln_rate=ln_rate)


def diverging(found: list[Forecast]) -> dict[str, Any]:
    """Scores with the diverging member, when it was caught and when it came back."""
    worse = [with_diverging(one) for one in found]
    bad = len(worse[0].names) - 1
    alerts = [
        (alert.event, alert.step)
        for one in worse
        for alert in combine(one).pool.alerts
        if alert.member == bad
    ]
    return {
        "scores": scores(worse),
        "suspended_in_week": sorted({step for event, step in alerts if event == "suspended"}),
        "readmitted_in_week": sorted({step for event, step in alerts if event == "readmitted"}),
        "other_members_suspended": sum(
            alert.member != bad for one in worse for alert in combine(one).pool.alerts
        ),
    }


def pooling(setting: Setting) -> dict[str, float]:
    """RMSE of held-out products' elasticity before their first order, with and without clusters."""
    beliefs = prior_fit.beginnings(setting.prior, setting.tried)
    expected, variance = beliefs.mean[:, 1], beliefs.cov[:, 1, 1]
    parts = setting.clustered.clusters.clusters
    mean = np.array([parts[label].elasticity_mean for label in setting.labels])
    sd = np.array([parts[label].elasticity_sd for label in setting.labels])
    both = (expected / variance + mean / sd**2) / (1.0 / variance + 1.0 / sd**2)
    return {
        "clusters": len(parts),
        "silhouette": setting.clustered.clusters.silhouette,
        "rmse_prior": _rmse(expected - setting.truth),
        "rmse_cluster_mean": _rmse(mean - setting.truth),
        "rmse_prior_and_cluster": _rmse(both - setting.truth),
    }


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def spread(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, lowest and highest over the seeds."""
    return {
        name: {
            "mean": round(statistics.fmean(run[name] for run in runs), 4),
            "low": round(min(run[name] for run in runs), 4),
            "high": round(max(run[name] for run in runs), 4),
        }
        for name in runs[0]
    }


def search_gain(seed: int, products: int, effect: float) -> dict[str, float]:
    """What the searches' feature adds to each member and pool, nats a product-week."""
    settings = WorldSettings(search_effect=effect, searches_per_order=SEARCHES_PER_ORDER)
    setting = Setting(seed, products, settings)
    without, told = scores(setting.forecasts()), scores(setting.forecasts(with_signals=True))
    return {name: told[name] - without[name] for name in without}


def measure(products: int) -> dict[str, Any]:
    """All questions over all seeds."""
    base, worse, pooled, lead, noise = [], [], [], [], []
    for seed in SEEDS:
        setting = Setting(seed, products, WorldSettings())
        found = setting.forecasts()
        base.append(scores(found))
        worse.append(diverging(found))
        pooled.append(pooling(setting))
        lead.append(search_gain(seed, products, SEARCH_EFFECT))
        noise.append(search_gain(seed, products, 0.0))
    with_bad = [run["scores"] for run in worse]
    loss = [
        with_bad[k]["weighted"] / max(base[k][n] for n in base[k] if n not in POOLS) - 1.0
        for k in range(len(SEEDS))
    ]
    return {
        "seeds": SEEDS,
        "held_out_products": products,
        "product_weeks_a_seed": products * DAYS // WEEK,
        "log_score": spread(base),
        "log_score_with_a_diverging_member": spread(with_bad),
        "weighted_loss_over_best_member_with_a_diverging_one": [round(one, 4) for one in loss],
        "diverging_member": [
            {name: run[name] for name in run if name != "scores"} for run in worse
        ],
        "gain_by_searches_that_lead": spread(lead),
        "gain_by_searches_that_say_nothing": spread(noise),
        "clusters": spread(pooled),
        **machine("numpy", "river", "scikit-learn", "scipy"),
    }


POOLS = ("average", "weighted")


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=80, help="held-out products a seed")
    write_result("challengers", measure(parser.parse_args().products))


if __name__ == "__main__":
    main()
