"""What no event tells of a simulated shop, as columns: its products, and each day's truth."""

from typing import Any

import numpy as np

from models.simulator.simulator import Shop
from models.simulator.world_truth import NEVER, RIVAL_WIDTH, Floats
from schemas.events import rfc3339

BEST_PRICE_GRID = np.exp(np.linspace(-0.9, 0.9, 361))  # over list price: steps of 0.5 %


def profit_per_day_minor(shop: Shop, x: Floats) -> Floats:
    """Expected contribution margin [n] of an average day, minor units, with enough stock.

    Parameters
    ----------
    x : ln prices over list [n]; rivals, costs and the family's other prices stay as they are
    """
    demand, catalogue, world = shop.demand, shop.catalogue, shop.settings.world
    returned = np.zeros(len(x))
    for share, is_new in (
        (1.0 - world.new_customer_share, False),
        (world.new_customer_share, True),
    ):
        returned = returned + share * demand.return_rate(x, new_customer=is_new)
    effects = demand.own_effects(x, shop.rival_ratio(), steady=True) + demand.channels(x)
    ln_rate = catalogue.products.level + effects + demand.family_effects(shop.ln_price)
    units = np.exp(ln_rate) * catalogue.units_per_order
    kept_minor = shop.settings.kept_share * catalogue.list_price_minor * np.exp(x)
    margin_minor = kept_minor - shop.cost_minor
    return np.asarray(
        units * (margin_minor * (1 - returned) - catalogue.return_cost_minor * returned)
    )


def best_ln_price(shop: Shop) -> Floats:
    """Ln of the most profitable price over list [n] on a grid of 0.5 %, all else as it is."""
    n = len(shop.catalogue.skus)
    best, best_profit = np.zeros(n), np.full(n, -np.inf)
    for x in np.log(BEST_PRICE_GRID):
        profit = profit_per_day_minor(shop, np.full(n, x))
        better = profit > best_profit
        best, best_profit = np.where(better, x, best), np.where(better, profit, best_profit)
    return np.asarray(best)


def product_columns(shop: Shop) -> dict[str, Any]:
    """The products' true parameters as they were drawn, a row each."""
    catalogue, products = shop.catalogue, shop.catalogue.products
    until, old = products.listed_until.tolist(), products.predecessor.tolist()
    return {
        "sku": list(catalogue.skus),
        "category": list(catalogue.categories),
        "family": [
            family or sku for family, sku in zip(catalogue.families, catalogue.skus, strict=True)
        ],
        "role": list(catalogue.roles),
        "predecessor": [catalogue.skus[i] if i >= 0 else None for i in old],
        "listed_from_day": products.listed_from.tolist(),
        "listed_until_day": [day if day != NEVER else None for day in until],
        "list_price_minor": catalogue.list_price_minor.tolist(),
        "unit_cost_minor": catalogue.first_cost_minor.tolist(),
        "return_cost_minor": catalogue.return_cost_minor.tolist(),
        "demand_rate_per_day": catalogue.demand_rate_per_day.tolist(),
        "orders_per_visit": catalogue.conversion.tolist(),
        "units_per_order": catalogue.units_per_order.tolist(),
        "elasticity": products.elasticity.tolist(),
        "cross_price_elasticity": products.cross_price_elasticity.tolist(),
        "dearer_penalty": products.dearer_penalty.tolist(),
        "return_logit": products.return_logit.tolist(),
        "return_slope": products.return_slope.tolist(),
        "family_elasticity": [_cross(shop, i) for i in range(len(catalogue.skus))],
    }


def day_columns(shop: Shop) -> dict[str, Any]:
    """The truth of the day that has just ended, a row for each product on sale."""
    demand, catalogue = shop.demand, shop.catalogue
    x, y = shop.ln_price, shop.rival_ratio()
    kink_slope = 1.0 / (1.0 + np.exp(-(x - y - RIVAL_WIDTH) / RIVAL_WIDTH))
    penalty = np.where(np.isnan(y), 0.0, catalogue.products.dearer_penalty * kink_slope)
    best = best_ln_price(shop)
    listed = np.flatnonzero(shop.listed)
    columns = {
        "shown_price_minor": np.rint(catalogue.list_price_minor * np.exp(x)).astype(np.int64),
        "unit_cost_minor": np.rint(shop.cost_minor).astype(np.int64),
        "rate_per_day": np.exp(demand.ln_rate(x, y)),
        "shock": demand.shock,
        "elasticity": demand.elasticity,
        "elasticity_at_price": demand.elasticity - penalty,
        "return_rate": demand.return_rate(x),
        "best_price_minor": np.rint(catalogue.list_price_minor * np.exp(best)).astype(np.int64),
        "profit_per_day_minor": profit_per_day_minor(shop, x),
        "best_profit_per_day_minor": profit_per_day_minor(shop, best),
    }
    return {
        "day": [rfc3339(shop.now_ms - 1)[:10]] * len(listed),
        "sku": [catalogue.skus[i] for i in listed.tolist()],
        **{name: column[listed].tolist() for name, column in columns.items()},
    }


def _cross(shop: Shop, i: int) -> list[dict[str, Any]]:
    """Elasticities of product ``i``'s demand to the prices of the family's other members."""
    products, skus = shop.catalogue.products, shop.catalogue.skus
    return [
        {"sku": skus[member], "elasticity": float(effect)}
        for member, effect in zip(
            products.members[i].tolist(), products.cross[i].tolist(), strict=True
        )
        if member >= 0 and effect != 0.0
    ]
