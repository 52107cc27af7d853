"""The published decisions of one tape partition, beside its recomputation: a bounded window.

Cursors stand in the partitions of `prices` that have any. A decision is asked for by SKU and tape
offset; its product's cursor reads on until it is there, or until one from further down the tape
shows that it is missing. What a cursor passes is held until it is asked for, or until the tape is
past it: then it should not be there.
"""

from collections.abc import Callable, Iterator

from schemas.errors import CheckFailed
from streams.verify.verification import Verification
from streams.verify.verify_order import Displaced, Entry, Key, Order, Published, sketched

WINDOW_DECISIONS_MAX = 250_000

Prices = Callable[[int], Iterator[Entry]]
"""The entries of a partition of `prices`, from its beginning."""


class Cursor:
    """The decisions of one tape partition in one partition of `prices`, in their order."""

    def __init__(self, entries: Iterator[Entry], number: int, order: Order, last: int) -> None:
        self._entries = _decisions(entries, number, order, last)
        self.head: Published | None = next(self._entries, None)

    def advance(self) -> None:
        """On to the next one."""
        self.head = next(self._entries, None)


def _decisions(
    entries: Iterator[Entry], number: int, order: Order, last: int
) -> Iterator[Published]:
    for entry in entries:
        if (entry.partition, entry.place) in order.skipped:
            continue
        published = sketched(entry)
        if published is None or published.sketch.tape.partition != number:
            continue
        if 0 <= published.sketch.tape.offset <= last:
            yield published


class Window:
    """Published decisions of a tape partition, up to its last committed offset."""

    def __init__(
        self, prices: Prices, number: int, order: Order, last: int, found: Verification
    ) -> None:
        self._number, self._order, self._found = number, order, found
        self._cursors = {
            partition: Cursor(prices(partition), number, order, last)
            for partition in sorted(order.used[number])
        }
        self._held: dict[Key, Published] = {}
        self._displaced = {key: list(held) for key, held in order.displaced[number].items()}

    def ask(self, sku: str, offset: int) -> Published | None:
        """The decision on a product at a tape offset, which stays in the window; None: none."""
        key = sku, offset
        if key not in self._held:
            for partition in self._order.homes.get(sku, ()):
                cursor = self._cursors.get(partition)
                if cursor is not None:
                    self._read_to(cursor, offset)
        if key in self._held:
            for again in self._displaced.pop(key, ()):
                self._found.note(again.published.difference("repeated"))
            return self._held[key]
        if key in self._displaced:
            displaced = self._displaced[key].pop(0)
            if not self._displaced[key]:
                del self._displaced[key]
            self._hold(displaced.published)
            self._found.note(
                displaced.published.difference("reordered", other=displaced.beside.sketch.price_id)
            )
            return displaced.published
        return None

    def _read_to(self, cursor: Cursor, offset: int) -> None:
        while (head := cursor.head) is not None and head.sketch.tape.offset <= offset:
            self._hold(head)
            cursor.advance()

    def _hold(self, published: Published) -> None:
        if published.key in self._held:
            self._found.note(published.difference("repeated"))
            return
        self._held[published.key] = published
        self._found.window_decisions = max(self._found.window_decisions, len(self._held))
        if len(self._held) > WINDOW_DECISIONS_MAX:
            raise CheckFailed(
                "window_exceeded",
                f"more than {WINDOW_DECISIONS_MAX:,} decisions wait to be recomputed.",
                where=published.entry.where,
                expected="decisions in the order of the tape",
                fix="Look at what stands there: it is not what the pricer writes.",
            )

    def drop(self, sku: str, offset: int) -> None:
        """A decision has been compared."""
        self._held.pop((sku, offset), None)

    def overtaken(self, position: int) -> list[Published]:
        """Decisions at or before a tape offset that nobody asked for; they leave the window."""
        for cursor in self._cursors.values():
            self._read_to(cursor, position)
        left = [one for one in self._held.values() if one.sketch.tape.offset <= position]
        for one in left:
            del self._held[one.key]
        return left

    def displaced(self) -> list[Displaced]:
        """What stands out of order and was never asked for."""
        return [one for held in self._displaced.values() for one in held]
