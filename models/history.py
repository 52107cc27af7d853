"""What a tape taught, product by product: the closed epochs that offline training reads.

An `EpochHistory` is an observer of the fold (`PartitionState.observer`); it only looks on. Memory
is bounded: at most 20,000 products, of which it keeps those with the lowest digests of their SKU,
and the last 128 epochs of each. What it holds does not depend on the order of partitions.
"""

import heapq
import math
from collections import deque
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.epoch import Observation
from schemas.events import DAY_MS
from schemas.learned import OpenEpoch
from schemas.state import CatalogueEntry

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PRODUCTS_MAX = 20_000
EPOCHS_MAX = 128  # of one product


class Taught(NamedTuple):
    """One closed epoch: event time of its end, days; features; count and exposure; mark-up.

    The exposure has what is believed of the market's other effects in it.
    """

    end_days: float
    ln_price: float
    ln_rival: float | None
    control: float
    orders: int
    exposure_days: float
    ln_markup: float | None  # ln of price over (unit cost / kept share); None without a cost


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
    products_max, epochs_max : what is kept at most
    """

    def __init__(self, products_max: int = PRODUCTS_MAX, epochs_max: int = EPOCHS_MAX) -> None:
        self._products_max = products_max
        self._epochs_max = epochs_max
        self._epochs: dict[str, deque[Taught]] = {}
        self._entries: dict[str, CatalogueEntry] = {}
        self._kept: list[tuple[int, str]] = []  # heap: the highest digest first
        self._cut = -1  # digests from here on are not kept any more; -1: no limit yet

    def __call__(
        self, entry: CatalogueEntry, epoch: OpenEpoch, seen: Observation, now_ms: int
    ) -> None:
        """Note one closed epoch."""
        if not self._admits(entry.sku):
            return
        self._entries[entry.sku] = entry
        ln_markup = None
        if entry.unit_cost_minor:
            ln_markup = math.log(epoch.price_minor * entry.kept_share / entry.unit_cost_minor)
        features = seen.features
        self._epochs[entry.sku].append(
            Taught(
                now_ms / DAY_MS,
                features.ln_price,
                features.ln_rival,
                features.control,
                seen.orders,
                seen.exposure_days * math.exp(seen.offset),
                ln_markup,
            )
        )

    def __len__(self) -> int:
        return len(self._epochs)

    def _admits(self, sku: str) -> bool:
        if sku in self._epochs:
            return True
        digest = sku_digest(sku)
        if self._cut >= 0 and digest >= self._cut:
            return False
        self._epochs[sku] = deque(maxlen=self._epochs_max)
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
        longest = max((len(self._epochs[sku]) for sku in skus), default=0)
        shape = (len(skus), longest)
        columns = {name: np.zeros(shape) for name in Taught._fields[:6]}
        known = np.zeros(shape, dtype=np.bool_)
        ln_markup, costed = np.zeros(len(skus)), np.zeros(len(skus), dtype=np.bool_)
        for row, sku in enumerate(skus):
            weighed = weight = 0.0
            for column, taught in enumerate(self._epochs[sku]):
                known[row, column] = taught.ln_rival is not None
                for name, value in zip(Taught._fields[:6], taught[:6], strict=True):
                    if value is not None:
                        columns[name][row, column] = value
                if taught.ln_markup is not None:
                    weighed += taught.ln_markup * taught.exposure_days
                    weight += taught.exposure_days
            costed[row] = weight > 0.0
            ln_markup[row] = weighed / weight if weight > 0.0 else 0.0
        entries = [self._entries[sku] for sku in skus]
        return Episodes(
            skus,
            [entry.category for entry in entries],
            [entry.attributes for entry in entries],
            columns["end_days"],
            columns["ln_price"],
            columns["ln_rival"],
            known,
            columns["control"],
            columns["orders"],
            columns["exposure_days"],
            ln_markup,
            costed,
        )


def sku_digest(sku: str) -> int:
    """A number that scatters SKUs evenly, the same in every process: below 2^64."""
    return int.from_bytes(blake2b(sku.encode(), digest_size=8).digest(), "big")
