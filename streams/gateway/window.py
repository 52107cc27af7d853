"""The shop window: the effective price of each product, and what changed since a place.

A pure view of ``prices-latest``, touched by one thread. Each partition's prices are kept in the
order of their offsets, so what changed since a cursor is found from the end on, at the cost of what
changed; no log of changes is kept. Whoever is behind gets the last price of each product alone.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.edge.price import Price
from streams.gateway.cursor import Cursor, cursor_at

MADE_MAX = 8  # places whose changes are kept ready: most streams stand at the newest

Made = TypeVar("Made")


class Shown(NamedTuple):
    """A product in the window; ``body`` is the price as JSON, None where it was withdrawn."""

    sku: str
    partition: int
    offset: int
    version: int
    body: bytes | None


class Taken(NamedTuple):
    """A record of ``prices-latest``: a price, or None for a tombstone."""

    sku: str
    partition: int
    offset: int
    price: Price | None


class Changes(NamedTuple):
    """What changed: ``behind`` is the cursor behind it, ``more`` whether that is not all."""

    found: list[Shown]
    behind: Cursor
    more: bool


class Window:
    """Prices by SKU.

    Parameters
    ----------
    topic : names the topic in cursors (`streams.gateway.cursor.Cursor`)

    Attributes
    ----------
    count : products that have a price
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.count = 0
        self._prices: dict[str, Shown] = {}
        self._by_partition: dict[int, dict[str, Shown]] = {}  # in the order of offsets
        self._next: dict[int, int] = {}
        self._made: dict[Hashable, Any] = {}

    def get(self, sku: str) -> Shown | None:
        """The product, if it has an effective price."""
        found = self._prices.get(sku)
        return found if found is not None and found.body is not None else None

    def take(self, records: Iterable[Taken]) -> int:
        """Show what is newer than what is shown; returns how many prices changed.

        A version that is not above the last one is passed over. A tombstone withdraws the price; it
        has no version, and a later price needs a higher one than the withdrawn.
        """
        changed = 0
        self._made.clear()
        for record in records:
            self._next[record.partition] = record.offset + 1
            known = self._prices.get(record.sku)
            if record.price is None:
                if known is None or known.body is None:
                    continue
                version, body = known.version, None
            else:
                version = record.price.version
                if known is not None and version <= known.version:
                    continue
                body = msgspec.json.encode(record.price)
            shown = Shown(record.sku, record.partition, record.offset, version, body)
            self.count += (body is not None) - (known is not None and known.body is not None)
            if known is not None:
                del self._by_partition[known.partition][record.sku]
            self._by_partition.setdefault(record.partition, {})[record.sku] = shown
            self._prices[record.sku] = shown
            changed += 1
        return changed

    @property
    def cursor(self) -> Cursor:
        """Behind everything that was taken."""
        return cursor_at(self.topic, self._next)

    def changes(self, since: Cursor, limit: int) -> Changes:
        """What changed since a cursor, in the order of partitions and offsets.

        A place of ``since`` that lies ahead of this gateway's stays where it is.
        """
        places = dict(since.places)
        found: list[Shown] = []
        for number in sorted(self._next):
            for one in _behind(self._by_partition.get(number, {}), places.get(number, 0)):
                if len(found) == limit:
                    return Changes(found, cursor_at(self.topic, places), True)
                places[number] = one.offset + 1
                found.append(one)
            places[number] = max(places.get(number, 0), self._next[number])
        return Changes(found, cursor_at(self.topic, places), False)

    def once(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` makes of the window; once for all who ask, until something is taken."""
        if what not in self._made:
            if len(self._made) >= MADE_MAX:
                self._made.clear()
            self._made[what] = make()
        found: Made = self._made[what]
        return found


def _behind(shown: dict[str, Shown], offset: int) -> Iterator[Shown]:
    """Those at or behind an offset, in order."""
    found = []
    for one in reversed(shown.values()):
        if one.offset < offset:
            break
        found.append(one)
    return reversed(found)
