"""Single products over time, for the report: those with most at stake."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from models.backtest.columns import INPUTS, Decisions, Epochs, Floats, Integers, Products
from schemas.backtest import PricePoint, ProductSeries
from schemas.events import rfc3339

PRODUCTS_SHOWN = 24
BELIEFS_SHOWN = 100  # of a product's closed epochs, spread evenly
_UNIT_COST = INPUTS.index("unit_cost")


def product_series(
    products: Products,
    decisions: Mapping[str, Decisions],
    epochs: Epochs,
    baseline: str,
    at_stake_minor: Mapping[str, float],
    shown: int = PRODUCTS_SHOWN,
) -> tuple[ProductSeries, ...]:
    """Price paths and beliefs of the products with most at stake, the largest first.

    Parameters
    ----------
    decisions : by policy
    at_stake_minor : by SKU, in minor units of its currency; products without are ranked last, by
        SKU. Amounts of several currencies are compared as they are.
    """
    ranked = sorted(
        range(len(products.skus)),
        key=lambda at: (-abs(at_stake_minor.get(products.skus[at], 0.0)), products.skus[at]),
    )
    return tuple(
        _series(at, products, decisions, epochs, baseline, at_stake_minor)
        for at in ranked[:shown]
        if any(bool(np.any(found.product == at)) for found in decisions.values())
    )


def _series(
    at: int,
    products: Products,
    decisions: Mapping[str, Decisions],
    epochs: Epochs,
    baseline: str,
    at_stake_minor: Mapping[str, float],
) -> ProductSeries:
    seen = _rows(epochs.product, at)
    rival = np.exp(epochs.ln_rival[seen]) * epochs.reference_minor[seen]
    own = decisions[baseline]
    priced = _rows(own.product, at)
    cost = own.inputs[priced, _UNIT_COST] * own.reference_minor[priced]
    known = np.isfinite(cost)
    return ProductSeries(
        sku=products.skus[at],
        category=products.categories[at],
        currency=products.currencies[at],
        at_stake_minor=at_stake_minor.get(products.skus[at]),
        prices={
            name: path(found.at_ms[rows], found.price_minor[rows])
            for name, found in decisions.items()
            for rows in [_rows(found.product, at)]
        },
        shown=path(epochs.begin_ms[seen], epochs.price_minor[seen]),
        unit_cost=path(own.at_ms[priced][known], np.round(cost[known], 4)),
        rival=path(epochs.begin_ms[seen], np.round(rival, 2)),
        elasticity=tuple(_beliefs(epochs, seen)),
    )


def _rows(product: Integers, at: int) -> slice:
    """The rows of one product; rows are in the order of products."""
    begin, end = np.searchsorted(product, (at, at + 1))
    return slice(int(begin), int(end))


def path(at_ms: Integers, minor: Floats) -> tuple[PricePoint, ...]:
    """Where a price changes [row]; NaN is no price, and is told only after there was one."""
    found: list[PricePoint] = []
    before: float | None = None
    for time, value in zip(at_ms.tolist(), minor.tolist(), strict=True):
        now = None if math.isnan(value) else value
        if now != before:
            found.append(PricePoint(at=rfc3339(time), minor=now))
        before = now
    return tuple(found)


def _beliefs(epochs: Epochs, seen: slice) -> Iterable[tuple[str, float, float]]:
    """(day, mean, sd) of the elasticity after each of some epochs, the last among them."""
    rows = np.arange(seen.start, seen.stop)
    if len(rows) > BELIEFS_SHOWN:
        rows = rows[np.linspace(0, len(rows) - 1, BELIEFS_SHOWN).round().astype(int)]
    for row in rows.tolist():
        day = rfc3339(int(epochs.end_ms[row]))[:10]
        sd = math.sqrt(float(epochs.posterior_cov[row, 1, 1]))
        yield day, float(epochs.posterior_mean[row, 1]), sd
