"""A day's lessons, summed by circumstances. Sums are exact, so no order of lessons changes them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.returns.maturing import Floats, Kind, Sales
from models.returns.return_features import BIN, LN_PRICE_LIMIT, Sale

BINS_MAX = round(LN_PRICE_LIMIT / BIN)  # bins of a log price ratio go from -BINS_MAX to BINS_MAX
BINS = 2 * BINS_MAX + 1
QUANTUM = 2.0**-30  # of a unit: whole numbers of it add up exactly, to 8 million units a group


def exact_sums(group: NDArray[np.intp], column: Floats) -> Floats:
    """Sums of a column [n] by group [groups], each number to the nearest ``QUANTUM``."""
    found = np.bincount(group, np.rint(column / QUANTUM)) * QUANTUM
    return found.astype(np.float64)


def bins(ln_ratio: Floats) -> NDArray[np.intp]:
    """`models.returns.return_features.log_bin` of each log price ratio."""
    clipped = np.clip(ln_ratio, -LN_PRICE_LIMIT, LN_PRICE_LIMIT)
    return np.rint(clipped / BIN).astype(np.intp)


def require_finite(sales: Sales) -> None:
    """Raise ValueError where a log price ratio is not finite; a rival may be unknown (NaN)."""
    if not np.isfinite(sales.ln_price).all() or np.isinf(sales.ln_rival).any():
        raise ValueError("a log price ratio was not finite; expected finite numbers")


def grouped(
    sales: Sales, positives: Floats, exposure: Floats
) -> Iterator[tuple[Sale, float, float]]:
    """Each group's circumstances at its mean log prices, by what was sold, and its sums.

    A group: one kind, one bin of either log price ratio. They come in the order of their kinds.
    """
    kinds, kind, price, rival = sales
    if not len(positives):
        return
    require_finite(sales)
    by_name = sorted(range(len(kinds)), key=lambda place: _named(kinds[place]))
    rank = np.empty(len(kinds), dtype=np.intp)
    rank[by_name] = np.arange(len(kinds))
    known = ~np.isnan(rival)
    rival = np.where(known, rival, 0.0)
    code = (rank[kind] * BINS + bins(price) + BINS_MAX) * (BINS + 1)
    code += np.where(known, bins(rival) + BINS_MAX + 1, 0)
    codes, first, group, count = np.unique(
        code, return_index=True, return_inverse=True, return_counts=True
    )
    weight = np.maximum(positives + np.abs(exposure), QUANTUM)
    total = exact_sums(group, weight)
    alone = count == 1
    ln_price = np.where(alone, price[first], exact_sums(group, weight * price) / total)
    ln_rival = np.where(alone, rival[first], exact_sums(group, weight * rival) / total)
    for place, own, other, is_known, came, exposed in zip(
        kind[first].tolist(),
        ln_price.tolist(),
        ln_rival.tolist(),
        (codes % (BINS + 1) > 0).tolist(),
        exact_sums(group, positives).tolist(),
        exact_sums(group, exposure).tolist(),
        strict=True,
    ):
        category, segment, month = kinds[place]
        yield Sale(category, segment, month, own, other if is_known else None), came, exposed


def _named(kind: Kind) -> tuple[str, str, int]:
    """A kind in a form that has an order."""
    category, segment, month = kind
    return category or "", segment or "", month or 0
