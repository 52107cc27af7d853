"""What moves together: prices of the day, values stamped on the catalogue, and when it is too much.

Products of one family move together by design, and prices that stood at one price before may well
stand at one again. So products count as unrelated by their families and by where they came from:
the smaller of the number of families and the number of prices before.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from schemas.events import DAY_MS
from schemas.policy import BreakerPolicy
from schemas.state import CatalogueEntry, SkuState


class Moved(NamedTuple):
    """A product's move: its family, where it came from, and the price (or value) it came to.

    ``before_minor`` and ``after_minor`` in minor units of ``currency``.
    """

    family: str
    currency: str
    before_minor: int
    after_minor: int


def is_move(before_minor: int, after_minor: int, ratio: float) -> bool:
    """Whether a price moved by at least ``ratio`` of where it was.

    >>> is_move(1000, 1050, 0.05), is_move(1000, 951, 0.05)
    (True, False)
    """
    return abs(after_minor - before_minor) >= ratio * before_minor * (1.0 - 1e-9)


def unrelated(moves: Iterable[tuple[str, int]]) -> int:
    """How many of the moves (family, value before) to one value have nothing to do with another.

    >>> unrelated([("a", 500), ("b", 500), ("c", 900), ("c", 950)])
    3
    """
    families: dict[str, None] = {}
    befores: dict[int, None] = {}
    for family, before_minor in moves:
        families[family] = befores[before_minor] = None
    return min(len(families), len(befores))


def most_at_one_price(moves: Sequence[Moved]) -> tuple[int, Moved | None]:
    """The largest number of unrelated products at one price, and one of them."""
    at: dict[tuple[str, int], list[Moved]] = defaultdict(list)
    for moved in moves:
        at[moved.currency, moved.after_minor].append(moved)
    if not at:
        return 0, None
    best: tuple[int, Moved | None] = (1, at[min(at)][0])
    for place in sorted([place for place, found in at.items() if len(found) > 1]):
        count = unrelated([(moved.family, moved.before_minor) for moved in at[place]])
        if count > best[0]:
            best = count, at[place][0]
    return best


def beyond(moves: Sequence[Moved], products: int, limits: BreakerPolicy) -> tuple[str, ...]:
    """Why the moves of a day are too many, in words with their numbers; empty when they are not.

    Parameters
    ----------
    moves : one a product, of at least ``limits.catalogue_move_ratio``
    products : on sale, of which the moved are a share
    """
    reasons: list[str] = []
    share = limits.catalogue_moved_share_max
    if len(moves) >= limits.catalogue_moved_count_min and len(moves) > share * products:
        reasons.append(
            f"{len(moves)} of {products} products moved by {limits.catalogue_move_ratio:.0%} or "
            f"more, beyond a share of {share:g}"
        )
    count, one = most_at_one_price(moves)
    if one is not None and count > limits.same_price_count_max:
        reasons.append(
            f"{count} unrelated products moved to one price, {one.after_minor} minor units of "
            f"{one.currency}, beyond {limits.same_price_count_max}"
        )
    return tuple(reasons)


class DayMoves:
    """Products whose published price stands away from where their event day found it.

    It follows from the products' states, and is kept beside them so that no tick reads them all.
    """

    def __init__(self) -> None:
        self._moved: dict[str, tuple[int, Moved]] = {}  # by SKU, with the day

    def __len__(self) -> int:
        return len(self._moved)

    def note(self, state: SkuState, entry: CatalogueEntry, ratio: float) -> None:
        """Look at a product after its price, or the ratio that counts, changed."""
        self._moved.pop(state.sku, None)
        opened, price = state.day_open_minor, state.published_minor
        if state.day_open is None or opened is None or price is None:
            return
        if is_move(opened, price, ratio):
            moved = Moved(entry.family, entry.currency, opened, price)
            self._moved[state.sku] = (state.day_open, moved)

    def forget(self, day: int) -> None:
        """Forget the moves of days before this one."""
        for sku in [sku for sku, (then, _) in self._moved.items() if then < day]:
            del self._moved[sku]

    def of_day(self, day: int) -> dict[str, Moved]:
        """The moves of an event day, by SKU."""
        return {sku: moved for sku, (then, moved) in self._moved.items() if then == day}


class Stamps:
    """Values that catalogue events set on products today where another stood before.

    It follows from the catalogue entries (``CatalogueEntry.stamped``), like `DayMoves`.
    """

    def __init__(self) -> None:
        self._day: int | None = None
        self._at: dict[tuple[str, str, int], dict[str, tuple[str, int]]] = {}

    def note(self, day: int, before: CatalogueEntry | None, after: CatalogueEntry) -> None:
        """Take in an entry that changed: what it was stamped with before counts no more."""
        if self._day != day:
            self._day, self._at = day, {}
        for value in _stamped(before, day):
            self._at.get(value, {}).pop(after.sku, None)
        for value, came_from in zip(_stamped(after, day), _before(after, day), strict=True):
            self._at.setdefault(value, {})[after.sku] = (after.family, came_from)

    def count(self, day: int, entry: CatalogueEntry) -> tuple[int, str, int]:
        """Unrelated products that have a value of this entry's stamped on today: the most of its
        values, with that value's name and minor units.
        """
        best = (0, "", 0)
        for what, currency, value in _stamped(entry, day):
            found = unrelated(self._at.get((what, currency, value), {}).values())
            if found > best[0]:
                best = found, what, value
        return best


def stamped(known: CatalogueEntry, now: CatalogueEntry, day: int) -> dict[str, tuple[int, int]]:
    """What ``now.stamped`` is after a catalogue event: changed values with day and value before.

    A value that was not known before is no change.
    """
    before, after = _values(known), _values(now)
    kept = {what: at for what, at in known.stamped.items() if at[0] == day}
    for what, value in after.items():
        if what in before and before[what] != value:
            kept[what] = (day, before[what])
    return kept


def day_of(clock_ms: int | None) -> int | None:
    """The event day of a partition's clock; None before its first tick."""
    return None if clock_ms is None else clock_ms // DAY_MS


def _values(entry: CatalogueEntry) -> dict[str, int]:
    found = {f"minimum_resale_price_minor/{market}": price
             for market, price in sorted(entry.minimum_resale_price_minor.items())}  # fmt: skip
    if entry.unit_cost_minor is not None:
        found["unit_cost_minor"] = entry.unit_cost_minor
    if entry.list_price_minor is not None:
        found["list_price_minor"] = entry.list_price_minor
    return found


def _stamped(entry: CatalogueEntry | None, day: int) -> Iterator[tuple[str, str, int]]:
    if entry is None:
        return
    values = _values(entry)
    for what, (then, _) in sorted(entry.stamped.items()):
        if then == day and what in values:
            yield what, entry.currency, values[what]


def _before(entry: CatalogueEntry, day: int) -> Iterator[int]:
    values = _values(entry)
    for what, (then, before) in sorted(entry.stamped.items()):
        if then == day and what in values:
            yield before
