"""What an endpoint has still to be told: the last change of each product, and how far that reaches.

A change waits under its product's name until it was delivered or a newer one took its place, so
there is never more than one per product. The position of a partition is the offset below which
everything was delivered, superseded or not for this endpoint: whoever starts there misses nothing.
"""

from collections.abc import Iterable
from typing import NamedTuple

from streams.edge.price import Price


class Change(NamedTuple):
    """A product's newest price, or its removal (``price`` is None), and where it was read."""

    sku: str
    version: int
    price: Price | None
    partition: int
    offset: int
    timestamp_ms: int


class Pending:
    """One endpoint's waiting changes. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: dict[str, Change] = {}
        self._retry: tuple[str, ...] = ()
        self._resume: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._seen: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def assign(self, partition: int, resume: int) -> None:
        """Take a partition over. What stands below ``resume`` was delivered: it is learned only.

        It must be read from its beginning, so that something old that stands late is known for old.
        """
        self.revoke(partition)
        self._resume[partition] = self._next[partition] = resume
        self._seen[partition] = {}

    def revoke(self, partition: int) -> None:
        """Forget a partition; another may have it now."""
        for places in (self._resume, self._next, self._seen):
            places.pop(partition, None)
        self._waiting = {
            sku: change for sku, change in self._waiting.items() if change.partition != partition
        }

    def offer(self, change: Change, *, wanted: bool) -> bool:
        """Take the next change that was read; False when it is nothing new to this endpoint."""
        if not self.passed(change.partition, change.offset + 1):
            return False
        seen = self._seen[change.partition]
        known = seen.get(change.sku, 0)
        newer = change.version > known if change.price is not None else known > 0
        if not newer:
            return False
        seen[change.sku] = max(known, change.version)
        if not wanted or change.offset < self._resume[change.partition]:
            self._waiting.pop(change.sku, None)
            return False
        self._waiting[change.sku] = change._replace(version=seen[change.sku])
        return True

    def passed(self, partition: int, after: int) -> bool:
        """Note that the partition was read up to this offset; False when it is not ours."""
        if partition not in self._next:
            return False
        self._next[partition] = max(self._next[partition], after)
        return True

    def take(self, limit: int) -> list[Change]:
        """The next to deliver: products of a failed message first, as they are now.

        They go on waiting until `delivered`.
        """
        again = [self._waiting[sku] for sku in self._retry if sku in self._waiting]
        if again:
            return again[:limit]
        return [change for change, _ in zip(self._waiting.values(), range(limit), strict=False)]

    def delivered(self, changes: Iterable[Change]) -> None:
        """These have arrived; what took their place meanwhile goes on waiting."""
        for change in changes:
            if self._waiting.get(change.sku) == change:
                del self._waiting[change.sku]
        self._retry = ()

    def failed(self, changes: Iterable[Change]) -> None:
        """These have not arrived, or it is not known: the next message is about the same."""
        self._retry = tuple(change.sku for change in changes)

    def positions(self) -> dict[int, int]:
        """Partition -> where whoever comes after this one should go on."""
        found = dict(self._next)
        for change in self._waiting.values():
            if change.offset < found[change.partition]:
                found[change.partition] = change.offset
        return found
