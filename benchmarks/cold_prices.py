"""The prices that `benchmarks.cold_start` compares, and what they truly earn."""

import numpy as np
from msgspec.structs import replace

from models.demand.history import Episodes
from models.pricing.pose import CASE_ELASTICITY_MAX
from models.prior import coldstart
from models.prior.prior import adapt
from models.simulator.world import (
    LN_PRICE_MAX,
    LN_PRICE_MIN,
    PRICE_GRID,
    Floats,
    World,
    margin,
    return_rate,
)
from schemas.learned import DemandPosterior, DemandPrior


def best_ln_price(world: World, index: np.ndarray, elasticity: Floats) -> Floats:
    """The price [product] that the objective chooses at these elasticities, returns known."""
    products = world.products.take(index)
    share = world.settings.kept_share
    profits = np.stack([
        np.exp(elasticity * x) * margin(products, np.full(len(index), x), share)
        for x in PRICE_GRID
    ])  # fmt: skip
    best = np.argmax(profits, axis=0)
    inner = np.clip(best, 1, len(PRICE_GRID) - 2)
    left, here, right = (profits[inner + step, np.arange(len(best))] for step in (-1, 0, 1))
    bend = left - 2.0 * here + right
    shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)
    shift = np.where(best == inner, np.clip(shift, -1.0, 1.0), 0.0)
    return np.asarray(PRICE_GRID[best] + shift * (PRICE_GRID[1] - PRICE_GRID[0]))


def hedged_ln_price(
    world: World,
    index: np.ndarray,
    prior: DemandPrior,
    elasticity: Floats,
    variance: Floats,
    cold: Episodes,
) -> Floats:
    """The engine's aim before the expert's share: hedged where the category is unknown."""
    away = np.zeros(len(index))
    for row, category in enumerate(cold.categories):
        belief = as_posterior(prior, float(variance[row]))
        cases = coldstart.category_cases(prior, category, belief)
        away[row] = cases[1] if cases else 0.0
    limit = np.maximum(elasticity, CASE_ELASTICITY_MAX)
    low = best_ln_price(world, index, elasticity - away)
    high = best_ln_price(world, index, np.minimum(elasticity + away, limit))
    return np.where(away > 0.0, 0.5 * (low + high), best_ln_price(world, index, elasticity))


def closed_form(world: World, index: np.ndarray, elasticity: Floats) -> Floats:
    """ln of |eps| / (|eps| - 1) (C + R c_r / (1 - R)) / a [product], R at the reference price."""
    products = world.products.take(index)
    rate = return_rate(products, np.zeros(len(index)))
    cost = products.unit_cost + rate * products.return_cost / (1.0 - rate)
    elastic = np.minimum(elasticity, -1.01)
    price = elastic / (1.0 + elastic) * cost / world.settings.kept_share
    return np.asarray(np.clip(np.log(price), LN_PRICE_MIN, LN_PRICE_MAX))


def expert(world: World, index: np.ndarray, prior: DemandPrior, cold: Episodes) -> Floats:
    """ln price [product] of cost plus by the known categories' habit."""
    markup = np.array([coldstart.expert_markup(prior, name, 2.0) for name in cold.categories])
    cost = world.products.take(index).unit_cost
    price = np.log(markup * cost / world.settings.kept_share)
    return np.asarray(np.clip(price, LN_PRICE_MIN, LN_PRICE_MAX))


def shares(prior: DemandPrior, variance: Floats) -> Floats:
    """`coldstart.expert_share` of each product, from its elasticity's variance."""
    return np.array([
        coldstart.expert_share(prior, as_posterior(prior, found)) for found in variance.tolist()
    ])  # fmt: skip


def as_posterior(prior: DemandPrior, variance: float) -> DemandPosterior:
    """A belief with that variance of the elasticity; nothing else of it is asked."""
    start = adapt(prior, "", {}, 0)[0]
    return replace(start, cov=(*start.cov[:4], variance, *start.cov[5:]))


def profits(world: World, index: np.ndarray, ln_price: Floats) -> Floats:
    """True profit [product] at a price, the rival where it stands."""
    everywhere = np.zeros(world.settings.products)
    everywhere[index] = ln_price
    return np.asarray(world.steady_profit(everywhere, follows=False)[index])
