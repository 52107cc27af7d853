"""Ladders: products of one family in ascending order, kept so whichever of them is published.

For neighbours with present prices p below and q above, ``q >= r p`` wanted: both may be decided
at the same place of the tape, and either or both of the new prices may be held. With the separator
``s = sqrt(p q / r)`` the lower one stays at or below ``min(s, q / r)`` and the upper one at or
above ``r max(s, p)``, and the ladder holds for old and new prices in any combination. The same
holds for ``q <= R p``, the other way round. A product without a present price bounds nobody.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from models.fold.partition import PartitionState
from models.guards.guards import Bound
from schemas.policy import Ladder
from schemas.scopes import Rung
from schemas.state import CatalogueEntry


class Ratios(NamedTuple):
    """How often the lower price goes into the upper one, least and most; None: not limited."""

    least: float | None
    most: float | None


def ratios(ladder: Ladder, lower: int) -> Ratios:
    """What holds between the product at ``lower`` and the next; a pack's unit never costs more."""
    most = ladder.ratio_max
    if ladder.units:
        by_units = ladder.units[lower + 1] / ladder.units[lower]
        most = by_units if most is None else min(most, by_units)
    return Ratios(ladder.ratio_min, most)


def bounds(partition: PartitionState, entry: CatalogueEntry) -> tuple[Bound, ...]:
    """What a product's ladders allow, one bound with both neighbours each."""
    own = _present_minor(partition, entry.sku)
    found = []
    for ladder, place in partition.document.rungs.get(entry.sku, ()):
        low, high = 0.0, math.inf
        for least, most in _sides(partition, Rung(ladder, place), own):
            low, high = max(low, least), min(high, most)
        if low > 0.0 or high < math.inf:
            found.append(Bound("ladder", low, max(low, high), ladder.name))
    return tuple(found)


def _sides(partition: PartitionState, rung: Rung, own: int | None) -> Iterator[tuple[float, float]]:
    ladder, place = rung
    if place > 0:
        below = _present_minor(partition, ladder.skus[place - 1])
        if below is not None:
            yield _above(ratios(ladder, place - 1), below, own)
    if place + 1 < len(ladder.skus):
        above = _present_minor(partition, ladder.skus[place + 1])
        if above is not None:
            yield _below(ratios(ladder, place), above, own)


def _above(between: Ratios, below: int, own: int | None) -> tuple[float, float]:
    """Prices of the upper product, over the lower one at ``below``."""
    low, high = 0.0, math.inf
    if between.least is not None:
        separator = below if own is None else math.sqrt(below * own / between.least)
        low = between.least * max(separator, below)
    if between.most is not None:
        separator = below if own is None else math.sqrt(below * own / between.most)
        high = between.most * min(separator, below)
    return low, high


def _below(between: Ratios, above: int, own: int | None) -> tuple[float, float]:
    """Prices of the lower product, under the upper one at ``above``."""
    low, high = 0.0, math.inf
    if between.least is not None:
        limit = above / between.least
        high = limit if own is None else min(math.sqrt(own * above / between.least), limit)
    if between.most is not None:
        limit = above / between.most
        low = limit if own is None else max(math.sqrt(own * above / between.most), limit)
    return low, high


def _present_minor(partition: PartitionState, sku: str) -> int | None:
    """The published price of a product on sale."""
    state, entry = partition.skus.get(sku), partition.catalogue.get(sku)
    if state is None or entry is None or entry.retired:
        return None
    return state.published_minor


def blocked_reason(partition: PartitionState, entry: CatalogueEntry) -> str | None:
    """Why a ladder keeps a product from being priced: its products are not of one family."""
    for ladder, _ in partition.document.rungs.get(entry.sku, ()):
        for sku in ladder.skus:
            other = partition.catalogue.get(sku)
            if other is not None and other.family != entry.family:
                return (
                    f"ladder {ladder.name}: {sku} is of family {other.family}, not {entry.family}"
                )
    return None
