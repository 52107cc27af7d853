"""Cold start: captured profit of products that no model was trained on, by orders seen.

    python -m benchmarks.cold_start [--seeds 1 2 3] [--unseen-seeds 1 2 3 4 5] [--sizes 300 1000]

Each seed is a reference world (`models.simulator.world`) with 364 days of the shop's habit. Three
quarters of the products of the seen categories teach; the others, and those of the unseen
categories, start cold: from their prior they learn their own days by the fold's update, and are
priced when they have seen so many orders. *Capture* is the true profit at the chosen price over the
true best, the mean over products, and beside it weighted by profit; returns known, the rival where
it stands; the price is chosen by the objective without risk and stock, posterior means plugged in.
*Expert* is cost plus by the known categories' habit; *blend* is what the engine aims at;
*refreshed* is the blend where the prior is learned again every five days from all products, the
cold ones included, as `pricemaker train prior --every` does; *no pooling* begins every product at
the default mean with an elasticity's sd of 3, so that its own orders decide. The training-size
curve has 128 days, as much as a tape's training keeps.
"""

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from benchmarks.cold_prices import (
    best_ln_price,
    closed_form,
    expert,
    hedged_ln_price,
    profits,
    shares,
)
from benchmarks.harness import machine, write_result
from models.demand.demand import DEFAULT_SETTINGS
from models.demand.demand_batch import learn_many
from models.demand.history import EPOCHS_MAX, Episodes
from models.prior.empirical_bayes import Member, refresh
from models.prior.maml import meta_train
from models.prior.prior import DEFAULT_PRIOR, exchange
from models.prior.prior_fit import Beliefs, beginnings, fit, packed_rows, unpacked
from models.prior.prior_fit import posteriors as posteriors_of
from models.prior.prior_fit import records as posterior_records
from models.simulator.world import LN_PRICE_MAX, LN_PRICE_MIN, Floats, World, WorldSettings
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior, DemandPrior

DAYS = 364
ORDERS_SEEN = (0, 5, 10, 50, 100, 500)
TEACHING_SHARE = 0.75
REFRESH_DAYS, REFRESH_UNTIL_DAY = 5, 182
NO_POOLING = replace(
    DEFAULT_PRIOR, cov=(*DEFAULT_PRIOR.cov[:4], 9.0, *DEFAULT_PRIOR.cov[5:])
)  # an elasticity's sd of 3
CURVE_COLD = 1000  # products that start cold beside each size of the training-size curve
ATTRIBUTES = tuple(f"attribute_{number}" for number in range(6))
PACKAGES = ("numpy", "jax")


class Market(NamedTuple):
    """A world after its habit's history: what was seen, and who teaches and who starts cold."""

    world: World
    seen: dict[str, Floats]  # arrays [product, day]
    teaching: np.ndarray
    cold: np.ndarray
    unseen: np.ndarray


def live(
    seed: int, settings: WorldSettings, days: int = DAYS, teaching: int | None = None
) -> Market:
    """Let a world live by its habit; ``teaching`` products teach, or three quarters of the seen."""
    world = World(seed, settings)
    names = ("ln_price", "exogenous_log", "ln_rival", "orders")
    seen = {name: np.zeros((settings.products, days)) for name in names}
    for day in range(days):
        happened = world.step(*world.habit())
        for name in names:
            seen[name][:, day] = getattr(happened, name)
    known = np.random.default_rng([seed, 7]).permutation(np.flatnonzero(~world.products.unseen))
    count = round(TEACHING_SHARE * len(known)) if teaching is None else teaching
    unseen = np.flatnonzero(world.products.unseen)
    return Market(world, seen, np.sort(known[:count]), np.sort(known[count:]), unseen)


def episodes(market: Market, index: np.ndarray) -> Episodes:
    """The days of some products as epochs of a day."""
    products = market.world.products.take(index)
    columns = {name: column[index] for name, column in market.seen.items()}
    shape = columns["orders"].shape
    markup = np.log(market.world.settings.kept_share / products.unit_cost)
    return Episodes(
        skus=[f"P{number:06d}" for number in index],
        categories=[f"C{number:03d}" for number in products.category],
        attributes=[
            dict(zip(ATTRIBUTES, row, strict=True)) for row in products.attributes.tolist()
        ],
        end_days=np.tile(np.arange(1.0, shape[1] + 1.0), (shape[0], 1)),
        ln_price=columns["ln_price"],
        ln_rival=columns["ln_rival"],
        rival_known=np.ones(shape, dtype=np.bool_),
        control=columns["ln_price"] - columns["exogenous_log"],
        orders=columns["orders"],
        exposure_days=np.ones(shape),
        ln_markup=markup + columns["ln_price"].mean(axis=1),
        costed=np.ones(shape[0], dtype=np.bool_),
    )


class Belief(NamedTuple):
    """Elasticity's mean and variance [product] once so many orders were seen, and who saw them."""

    elasticity: Floats
    variance: Floats
    reached: np.ndarray


def learned(
    prior: DemandPrior, cold: Episodes, taught: list[Member] | None = None
) -> dict[int, Belief]:
    """Learn each product's own days from its prior on; beliefs at the first reach of each K.

    With ``taught`` the prior is refreshed on the way, from these products and the cold ones.
    """
    begun = beginnings(prior, cold)
    mean, cov = begun.mean, packed_rows(begun.cov)
    settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
    total = np.zeros(len(mean))
    found = {
        k: Belief(mean[:, 1].copy(), cov[:, 4].copy(), total >= k if k == 0 else total < 0)
        for k in ORDERS_SEEN
    }
    for day in range(cold.orders.shape[1]):
        ones = np.ones(len(mean))
        mean, cov = learn_many(
            mean, cov, cold.ln_price[:, day], cold.ln_rival[:, day], cold.control[:, day],
            cold.orders[:, day], ones, ones, settings,
        )  # fmt: skip
        if taught is not None and (day + 1) % REFRESH_DAYS == 0 and day < REFRESH_UNTIL_DAY:
            prior, begun, mean, cov = refreshed(prior, cold, taught, begun, mean, cov, day + 1)
        total = total + cold.orders[:, day]
        for k, belief in found.items():
            now = ~belief.reached & (total >= k)
            belief.elasticity[now], belief.variance[now] = mean[now, 1], cov[now, 4]
            belief.reached[now] = True
    return found


def refreshed(
    prior: DemandPrior,
    cold: Episodes,
    taught: list[Member],
    begun: Beliefs,
    mean: Floats,
    cov: Floats,
    days: int,
) -> tuple[DemandPrior, Beliefs, Floats, Floats]:
    """Learn the prior again after so many days, and let the cold products change over to it."""
    settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
    posteriors = records(Beliefs(mean, unpacked(cov)), days)
    initial = records(begun, 0)
    rows = zip(cold.skus, cold.categories, cold.attributes, posteriors, initial, strict=True)
    prior = refresh(prior, taught + [Member(*row) for row in rows], "refreshed", settings=settings)
    begins = beginnings(prior, cold)
    changed = [
        exchange(posterior, old, new, settings)
        for posterior, old, new in zip(posteriors, initial, records(begins, 0), strict=True)
    ]
    return prior, begins, np.array([p.mean for p in changed]), np.array([p.cov for p in changed])


def records(beliefs: Beliefs, days: int) -> list[DemandPosterior]:
    """Beliefs as the fold keeps them, ``days`` after they began."""
    return [replace(one, updated_ms=days * DAY_MS) for one in posterior_records(beliefs)]


def teachers(prior: DemandPrior, taught: Episodes) -> list[Member]:
    """The products that teach, with all that they have shown."""
    begun = beginnings(prior, taught)
    learned_all = posteriors_of(taught, begun, prior.dispersion)
    rows = zip(
        taught.skus, taught.categories, taught.attributes,
        records(learned_all, 0), records(begun, 0), strict=True,
    )  # fmt: skip
    return [Member(*row) for row in rows]


class Row(NamedTuple):
    """Capture of a policy at one K: ratio of sums, mean of ratios, products."""

    capture: float
    mean_ratio: float
    products: int


def captures(
    market: Market,
    index: np.ndarray,
    priors: Mapping[str, DemandPrior],
    taught: Episodes | None = None,
) -> dict[str, dict[int, Row]]:
    """Capture of every policy at every K; with ``taught`` the refreshed one too."""
    world, cold = market.world, episodes(market, index)
    best = profits(world, index, world.best_ln_price(follows=False)[index])
    beliefs = {name: learned(prior, cold) for name, prior in priors.items()}
    trained = priors["empirical Bayes"]
    if taught is not None:
        beliefs["refreshed"] = learned(trained, cold, teachers(trained, taught))
    by_expert = expert(world, index, trained, cold)
    rows: dict[str, dict[int, Row]] = {}

    def note(name: str, k: int, ln_price: Floats, reached: np.ndarray) -> None:
        earned = profits(world, index, np.clip(ln_price, LN_PRICE_MIN, LN_PRICE_MAX))[reached]
        ratio = float((earned / best[reached]).mean())
        capture = float(earned.sum() / best[reached].sum())
        rows.setdefault(name, {})[k] = Row(capture, ratio, int(reached.sum()))

    for k in ORDERS_SEEN:
        for name in priors:
            found = beliefs[name]
            note(name, k, best_ln_price(world, index, found[k].elasticity), found[k].reached)
        for name in ("empirical Bayes", "refreshed"):
            if name not in beliefs:
                continue
            belief = beliefs[name][k]
            share = shares(trained, belief.variance)
            aim = hedged_ln_price(world, index, trained, belief.elasticity, belief.variance, cold)
            blend = (1.0 - share) * aim + share * by_expert
            note("blend" if name == "empirical Bayes" else name, k, blend, belief.reached)
        belief = beliefs["empirical Bayes"][k]
        note("closed form", k, closed_form(world, index, belief.elasticity), belief.reached)
        note("expert", k, by_expert, belief.reached)
    return rows


def train_all(taught: Episodes) -> tuple[dict[str, DemandPrior], dict[str, float]]:
    """The candidates fitted on what was taught, and the CPU seconds of each, compiling too."""
    seconds: dict[str, float] = {}
    started = time.process_time()
    trained = fit(taught, "benchmark")
    seconds["empirical Bayes"] = time.process_time() - started
    priors = {"empirical Bayes": trained}
    for name, second_order in (("MAML, first order", False), ("MAML, second order", True)):
        started = time.process_time()
        priors[name] = meta_train(trained, taught, "benchmark", second_order=second_order)
        seconds[name] = seconds["empirical Bayes"] + time.process_time() - started
    return priors, seconds


def beliefs_at_zero(market: Market, index: np.ndarray, prior: DemandPrior) -> dict[str, float]:
    """Error of the prior mean of the elasticity over the irreducible floor, and coverage."""
    products = market.world.products.take(index)
    begun = beginnings(prior, episodes(market, index))
    error = begun.mean[:, 1] - products.elasticity
    limits = market.world.settings.elasticity_min, market.world.settings.elasticity_max
    unexplained = products.elasticity - np.clip(products.elasticity_expected, *limits)
    floor = float(np.sqrt(np.mean(unexplained**2)))
    within = np.abs(error) <= 1.645 * np.sqrt(begun.cov[:, 1, 1])
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "floor": floor,
        "rmse_over_floor": float(np.sqrt(np.mean(error**2))) / floor,
        "bias": float(error.mean()),
        "coverage_90": float(within.mean()),
    }


def size_curve(seed: int, sizes: list[int]) -> dict[str, Any]:
    """Capture at K = 0 and 10 of 1,000 cold products, by products that taught."""
    settings = WorldSettings(products=-(-(max(sizes) + CURVE_COLD) * 10 // 9) + 40)
    market = live(seed, settings, EPOCHS_MAX, max(sizes))
    cold, rng = market.cold[:CURVE_COLD], np.random.default_rng([seed, 8])
    order = rng.permutation(market.teaching)
    curve: dict[str, Any] = {}
    for size in sizes:
        priors, seconds = train_all(episodes(market, np.sort(order[:size])))
        rows = captures(market, cold, priors)
        curve[str(size)] = {
            name: {
                "capture_0": rows[name][0].mean_ratio,
                "capture_10": rows[name][10].mean_ratio,
                "rmse_over_floor": beliefs_at_zero(market, cold, prior)["rmse_over_floor"],
                "cpu_seconds": seconds[name],
            }
            for name, prior in priors.items()
        }
    return curve


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, sd over seeds and the values."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": round(statistics.fmean(values), 4),
        "sd": round(sd, 4),
        "by_seed": [round(value, 4) for value in values],
    }


def summed(found: list[dict[str, dict[int, Row]]]) -> dict[str, Any]:
    """Every policy's capture by K over the seeds."""
    return {
        name: {
            f"K={k}": {
                **spread([rows[name][k].mean_ratio for rows in found]),
                "weighted_by_profit": round(
                    statistics.fmean(rows[name][k].capture for rows in found), 4
                ),
                "products": sum(rows[name][k].products for rows in found),
            }
            for k in ORDERS_SEEN
        }
        for name in found[0]
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--unseen-seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--curve-seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000, 10000])
    arguments = parser.parse_args()
    facts = machine(*PACKAGES)
    seen, unseen, starts, unseen_starts, details = [], [], [], [], []
    for seed in sorted({*arguments.seeds, *arguments.unseen_seeds}):
        market = live(seed, WorldSettings())
        priors, seconds = train_all(episodes(market, market.teaching))
        tried = {"default prior": DEFAULT_PRIOR, "no pooling": NO_POOLING, **priors}
        if seed in arguments.seeds:
            seen.append(captures(market, market.cold, tried))
            starts.append(beliefs_at_zero(market, market.cold, priors["empirical Bayes"]))
            details.append({"seed": seed, "taught": len(market.teaching), "cpu_seconds": seconds})
        if seed in arguments.unseen_seeds:
            taught = episodes(market, market.teaching)
            unseen.append(captures(market, market.unseen, tried, taught))
            unseen_starts.append(beliefs_at_zero(market, market.unseen, priors["empirical Bayes"]))
    categories = WorldSettings().unseen_categories * len(arguments.unseen_seeds)
    write_result(
        "cold_start",
        {
            "seeds": arguments.seeds,
            "unseen_seeds": arguments.unseen_seeds,
            "unseen_categories": categories,
            "capture": summed(seen),
            "capture_unseen_categories": summed(unseen),
            "prior_elasticity": {key: spread([one[key] for one in starts]) for key in starts[0]},
            "prior_elasticity_unseen": {
                key: spread([one[key] for one in unseen_starts]) for key in unseen_starts[0]
            },
            "training": details,
            "training_size_curve": {
                f"seed {seed}": size_curve(seed, sorted(arguments.sizes))
                for seed in arguments.curve_seeds
            },
            "machine": facts,
        },
    )


if __name__ == "__main__":
    main()
