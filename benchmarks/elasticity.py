"""How well elasticities are learned in the reference world, against the floor and a naive estimate.

    python -m benchmarks.elasticity

Products of known categories are split: three quarters train the prior on 364 days of the shop's
habit, whose prices follow demand that nobody sees; the rest, and those of four unseen categories,
start from it and learn day by day. The floor is the spread of the true elasticity given category
and attributes: no one can know more before the first order. The naive estimate is the same update
with a flat prior and without the control.
"""

import time
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.harness import machine, write_result
from benchmarks.reference import (
    SEEDS,
    Belief,
    History,
    Index,
    begin,
    episodes_of,
    exchange_all,
    history_of,
    learn_day,
    learn_days,
    members,
    split,
    spread,
)
from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.prior.empirical_bayes import refresh
from models.prior.prior import DEFAULT_PRIOR
from models.prior.prior_fit import Beliefs, dispersion_of, fit, unpacked
from models.simulator.world import Products, World

Floats = NDArray[np.float64]

DAYS = 364
ORDERS = (0, 5, 10, 50, 100, 500)
ONLINE_DAYS, REFRESH_DAYS, DISPERSION_DAYS = 110, 10, 20
Z_90 = 1.6449


def unexplained(products: Products) -> Floats:
    """Elasticity [n] beyond what category and attributes say."""
    return products.elasticity - np.clip(products.elasticity_expected, -5.0, -1.1)


def after_orders(
    belief: Belief, history: History, index: Index, settings: DemandSettings
) -> dict[int, tuple[Belief, NDArray[np.bool_]]]:
    """Beliefs when each product had so many orders, and which products ever had."""
    snapshots = {
        count: (Belief(belief.mean.copy(), belief.cov.copy()), np.full(len(index), count == 0))
        for count in ORDERS
    }
    seen = np.zeros(len(index))
    for day in range(DAYS):
        belief = learn_day(belief, history, day, index, settings)
        seen += history.orders[day, index]
        for count, (kept, reached) in snapshots.items():
            new = (seen >= count) & ~reached
            kept.mean[new], kept.cov[new] = belief.mean[new], belief.cov[new]
            reached |= new
    return snapshots


def errors(belief: Belief, truth: Floats, floor: float) -> dict[str, float]:
    """RMSE over the floor, bias and coverage of the 90 % interval of the elasticity."""
    error, sd = belief.mean[:, 1] - truth, np.sqrt(belief.cov[:, 4])
    return {
        "rmse_over_floor": float(np.sqrt(np.mean(error**2))) / floor,
        "bias": float(np.mean(error)),
        "coverage_90": float(np.mean(np.abs(error) < Z_90 * sd)),
    }


def online_rmse(products: Products, history: History) -> float:
    """RMSE after 110 days from the default prior, the whole catalogue learning its own."""
    everyone = np.arange(len(products.level))
    prior, settings = DEFAULT_PRIOR, DEFAULT_SETTINGS
    belief = begun = begin(prior, products, everyone)
    for day in range(ONLINE_DAYS):
        belief = learn_day(belief, history, day, everyone, settings)
        if (day + 1) % REFRESH_DAYS:
            continue
        found = members(products, everyone, begun, belief, day + 1)
        lately = range(max(day + 1 - DISPERSION_DAYS, 0), day + 1)
        phi = dispersion_of(
            episodes_of(products, history, everyone, lately),
            Beliefs(belief.mean, unpacked(belief.cov)),
        )
        prior = replace(refresh(prior, found, "online", settings=settings), dispersion=phi)
        belief, begun = exchange_all(products, belief, begun, prior, settings, day + 1)
        settings = settings._replace(dispersion=phi)
    return float(np.sqrt(np.mean((belief.mean[:, 1] - products.elasticity) ** 2)))


def naive_bias(products: Products, history: History, index: Index) -> float:
    """Bias of the update without control and prior, over products with 500 orders."""
    flat = replace(
        DEFAULT_PRIOR,
        cov=(9.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0, 4.0, 0.0, 1e-6),
        category_cov=(1e-6, 0.0, 0.0, 0.0, 1e-6, 0.0, 0.0, 1e-6, 0.0, 1e-6),
        dispersion=0.05,
    )
    blind = history._replace(control=np.zeros_like(history.control))
    still = DemandSettings(0.05, 0.0, 0.0)
    learned = learn_days(begin(flat, products, index), blind, index, still, range(DAYS))
    many = history.orders[:, index].sum(axis=0) >= ORDERS[-1]
    return float(np.mean(learned.mean[many, 1] - products.elasticity[index][many]))


def measure(seed: int) -> dict[str, dict[str, float]]:
    """All figures of one seed, by row of the table."""
    world = World(seed)
    history, products = history_of(world.history(DAYS)), world.products
    train, held = split(products, seed)
    started = time.perf_counter()
    prior = fit(episodes_of(products, history, train, range(DAYS)), "habit")
    fit_s = time.perf_counter() - started
    settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
    rows: dict[str, dict[str, float]] = {
        "world": {
            "floor_sd": float(unexplained(products)[held].std()),
            "ln_price_sd": float(history.ln_price.std()),
            "fit_s": fit_s,
            "dispersion": prior.dispersion,
            "default_prior_rmse": errors(
                begin(DEFAULT_PRIOR, products, held), products.elasticity[held], 1.0
            )["rmse_over_floor"],
            "naive_bias_500_orders": naive_bias(products, history, held),
            "online_rmse_110_days": online_rmse(products, history),
        }
    }
    for name, index in (("held out", held), ("unseen category", np.flatnonzero(products.unseen))):
        floor = float(unexplained(products)[index].std())
        found = after_orders(begin(prior, products, index), history, index, settings)
        for count, (belief, reached) in found.items():
            row = errors(belief.take(reached), products.elasticity[index][reached], floor)
            rows[f"{name}, {count} orders"] = {"products": float(reached.sum()), **row}
    return rows


def main() -> None:
    """Print the figures of every seed and their spread."""
    by_seed = {seed: measure(seed) for seed in SEEDS}
    names = list(by_seed[SEEDS[0]])
    result: dict[str, Any] = {
        "seeds": list(SEEDS),
        "bars": {
            "held out, rmse_over_floor": "at most 1.05 at 0 to 10 orders, 0.80 at 500",
            "bias": "below 0.05 at 500 orders",
            "coverage_90": "0.87 to 0.95",
            "online_rmse_110_days": "at most 0.40",
        },
        "figures": {name: spread([by_seed[seed][name] for seed in SEEDS]) for name in names},
        "machine": machine("numpy"),
    }
    write_result("elasticity", result)


if __name__ == "__main__":
    main()
