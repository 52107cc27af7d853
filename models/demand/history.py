"""What a tape taught, product by product: the closed epochs that offline training reads.

An `EpochHistory` is an observer of the fold (`PartitionState.observer`); it only looks on. Memory
is bounded: at most 20,000 products, of which it keeps those with the lowest digests of their SKU,
and the last 128 epochs of each. What it holds does not depend on the order of partitions.
"""

import heapq
import math
from array import array
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.demand.epoch import Observation
from schemas.events import DAY_MS
from schemas.learned import OpenEpoch
from schemas.state import CatalogueEntry

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PRODUCTS_MAX = 20_000
EPOCHS_MAX = 128  # of one product
NUMBERS = 9  # of one epoch: end, price, rival and whether known, control, orders, exposure, mark-up


class Episodes(NamedTuple):
    """Epochs as arrays [product, epoch], padded at the end; products sorted by SKU.

    ``exposure_days`` is 0 in the padding. ``ln_rival`` is 0 where ``rival_known`` is False.
    ``ln_markup`` is the exposure-weighted mean of a product; only where ``costed``.
    """

    skus: list[str]
    categories: list[str]
    attributes: list[Mapping[str, float | str]]
    end_days: Floats
    ln_price: Floats
    ln_rival: Floats
    rival_known: Bools
    control: Floats
    orders: Floats
    exposure_days: Floats
    ln_markup: Floats  # [product]
    costed: Bools  # [product]

    def take(self, index: NDArray[np.int64]) -> "Episodes":
        """The products at ``index`` [k], in that order."""
        chosen = index.tolist()
        return Episodes(
            [self.skus[i] for i in chosen],
            [self.categories[i] for i in chosen],
            [self.attributes[i] for i in chosen],
            self.end_days[index],
            self.ln_price[index],
            self.ln_rival[index],
            self.rival_known[index],
            self.control[index],
            self.orders[index],
            self.exposure_days[index],
            self.ln_markup[index],
            self.costed[index],
        )

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return int(np.count_nonzero(self.exposure_days))


class EpochHistory:
    """Collects closed epochs; give it to `PartitionState.observer`.

    Parameters
    ----------
    products_max, epochs_max : what is kept at most, 72 bytes an epoch

    Attributes
    ----------
    noted : epochs so far, those included that are not kept any more
    """

    def __init__(self, products_max: int = PRODUCTS_MAX, epochs_max: int = EPOCHS_MAX) -> None:
        self._products_max = products_max
        self._numbers_max = epochs_max * NUMBERS
        self._epochs: dict[str, array[float]] = {}
        self._entries: dict[str, CatalogueEntry] = {}
        self._kept: list[tuple[int, str]] = []  # heap: the highest digest first
        self._cut: int | None = None  # digests from here on are not kept; None: no limit yet
        self.noted = 0

    def __call__(
        self, entry: CatalogueEntry, epoch: OpenEpoch, seen: Observation, now_ms: int
    ) -> None:
        """Note one closed epoch.

        The exposure has what is believed of the market's other effects in it.
        """
        if not self._admits(entry.sku):
            return
        self.noted += 1
        self._entries[entry.sku] = entry
        (price, rival, control), cost = seen.features, entry.unit_cost_minor
        known, costed = rival is not None, cost is not None and cost > 0
        kept = self._epochs[entry.sku]
        if len(kept) >= self._numbers_max:
            del kept[:NUMBERS]
        kept.extend((
            now_ms / DAY_MS,
            price,
            0.0 if rival is None else rival,
            float(known),
            control,
            seen.orders,
            seen.exposure_days * math.exp(seen.offset),
            math.log(epoch.price_minor * entry.kept_share / cost) if cost and costed else 0.0,
            float(costed),
        ))  # fmt: skip

    def __len__(self) -> int:
        return len(self._epochs)

    def _admits(self, sku: str) -> bool:
        if sku in self._epochs:
            return True
        digest = sku_digest(sku)
        if self._cut is not None and digest >= self._cut:
            return False
        self._epochs[sku] = array("d")
        heapq.heappush(self._kept, (-digest, sku))
        if len(self._kept) > self._products_max:
            dropped, name = heapq.heappop(self._kept)
            self._cut = -dropped
            del self._epochs[name]
            self._entries.pop(name, None)
        return sku in self._epochs

    def episodes(self) -> Episodes:
        """Everything collected, as arrays."""
        skus = sorted(self._entries)
        longest = max((len(self._epochs[sku]) for sku in skus), default=0) // NUMBERS
        found = np.zeros((len(skus), longest, NUMBERS))
        for row, sku in enumerate(skus):
            epochs = np.frombuffer(self._epochs[sku]).reshape(-1, NUMBERS)
            found[row, : len(epochs)] = epochs
        end_days, price, rival, known, control, orders, exposure, markup, costed = np.moveaxis(
            found, -1, 0
        )
        weight = exposure * costed
        total = weight.sum(axis=1)
        entries = [self._entries[sku] for sku in skus]
        return Episodes(
            skus=skus,
            categories=[entry.category for entry in entries],
            attributes=[entry.attributes for entry in entries],
            end_days=end_days,
            ln_price=price,
            ln_rival=rival,
            rival_known=known > 0.0,
            control=control,
            orders=orders,
            exposure_days=exposure,
            ln_markup=(weight * markup).sum(axis=1) / np.where(total > 0.0, total, 1.0),
            costed=total > 0.0,
        )


def sku_digest(sku: str) -> int:
    """A number that scatters SKUs evenly, the same in every process: below 2^64."""
    return int.from_bytes(blake2b(sku.encode(), digest_size=8).digest(), "big")
