"""The order of decisions on `prices`, read once from end to end before anything is recomputed.

Of one tape partition the decisions stand in tape order in every partition of `prices`: one producer
writes them. What stands elsewhere is kept aside by its place, so that recomputing finds it. A
product's decisions follow each other: each finds the price that the one before left, and has the
next version. Memory: a few numbers a product, and what stands out of order, which is bounded.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from heapq import nlargest
from typing import NamedTuple

import msgspec
from msgspec import Struct

from models.fold.taken import Successor
from schemas.errors import CheckFailed
from schemas.outputs import TapePosition
from streams.verify.verification import Difference, Verification

DISPLACED_MAX = 1_000  # decisions out of order, and products' contradictions: beyond, no history
DIGEST_BYTES = 16
EFFECTIVE = ("published", "reverted")

Place = tuple[int, int]  # partition of `prices`, and where in it
Key = tuple[str, int]  # SKU and tape offset: a decision of a tape partition


class Entry(NamedTuple):
    """A record of `prices`: its bytes, its place, when it was written.

    ``at_ms`` is None where the source does not tell.
    """

    value: bytes
    partition: int
    place: int
    at_ms: int | None = None

    @property
    def where(self) -> str:
        """As people write it."""
        return f"prices[{self.partition}]@{self.place}"


class Sketch(Struct, gc=False):
    """What the order is judged by."""

    price_id: str
    sku: str
    version: int
    status: str
    price_minor: int | None
    previous_minor: int | None
    tape: TapePosition
    engine: str


class Published(NamedTuple):
    """A decision with its place on `prices`."""

    sketch: Sketch
    entry: Entry

    @property
    def key(self) -> Key:
        """SKU and tape offset."""
        return self.sketch.sku, self.sketch.tape.offset

    @property
    def tape(self) -> str:
        """Where it says that it stands on the tape."""
        return f"tape[{self.sketch.tape.partition}]@{self.sketch.tape.offset}"

    def difference(self, kind: str, **fields: object) -> Difference:
        """A finding about this decision."""
        found = {"price_id": self.sketch.price_id, "tape": self.tape, "sku": self.sketch.sku}
        return msgspec.convert(
            {"kind": kind, **found, "prices": self.entry.where, **fields}, Difference
        )


class Effective(NamedTuple):
    """The last effective decision of a product."""

    version: int
    digest: bytes
    partition: int
    offset: int
    at_ms: int | None


class Displaced(Struct):
    """A decision that stands out of order, and the one that shows it."""

    published: Published
    beside: Published


def _are_swapped(one: Published, other: Published) -> bool:
    """Whether two decisions of a partition of `prices` stand in another order than on the tape."""
    before = one.entry.place < other.entry.place
    return one.entry.partition == other.entry.partition and before != (
        one.sketch.tape.offset < other.sketch.tape.offset
    )


def _offset(published: Published) -> int:
    return published.sketch.tape.offset


_sketch = msgspec.json.Decoder(Sketch)


def sketched(entry: Entry) -> Published | None:
    """An entry's decision; None where it is none."""
    try:
        return Published(_sketch.decode(entry.value), entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Order:
    """What the scan of `prices` learned.

    Parameters
    ----------
    committed : the last tape offset to be verified, by tape partition
    """

    def __init__(self, committed: Sequence[int], found: Verification) -> None:
        self.displaced: list[dict[Key, list[Displaced]]] = [{} for _ in committed]
        self.skipped: set[Place] = set()  # the places of what is displaced
        self.homes: dict[str, list[int]] = {}  # the partitions of `prices` that a product is in
        self.used: list[dict[int, None]] = [{} for _ in committed]
        self.contradicted: dict[str, Successor] = {}
        self.effective: dict[str, Effective] = {}
        self.gaps: list[tuple[Published, Sketch]] = []
        self.beyond: list[Published] = []  # decisions at places not committed yet, or on no tape
        self._committed = committed
        self._found = found
        self._pending: dict[tuple[int, int], tuple[Published | None, Published]] = {}
        self._last: dict[tuple[int, str], Published] = {}  # without their bytes
        self._of_product: dict[tuple[int, str], list[Displaced]] = {}

    def scan(self, entries: Iterator[Entry]) -> None:
        """Read one partition of `prices`."""
        partition = 0
        for entry in entries:
            partition = entry.partition
            published = sketched(entry)
            if published is None:
                self._found.note(
                    Difference(
                        kind="unexpected",
                        price_id="(no decision)",
                        tape="(none)",
                        prices=entry.where,
                    )
                )
            else:
                self._look(published)
        for place in [place for place in self._pending if place[0] == partition]:
            self._in_order(self._pending.pop(place)[1])

    def _look(self, published: Published) -> None:
        at, home = published.sketch.tape, published.entry.partition
        exists = 0 <= at.partition < len(self._committed) and at.offset >= 0
        if exists and at.offset > self._committed[at.partition]:
            self.beyond.append(published)
            if len(self.beyond) >= 2 * DISPLACED_MAX:
                self.beyond = nlargest(DISPLACED_MAX, self.beyond, key=_offset)
            return
        self._found.decisions += 1
        known = self._found.engines_published
        known[published.sketch.engine] = known.get(published.sketch.engine, 0) + 1
        if not exists:
            self._found.note(published.difference("unexpected"))
            return
        self.used[at.partition][home] = None
        homes = self.homes.setdefault(published.sketch.sku, [])
        if home not in homes:
            homes.append(home)
        place = home, at.partition
        before, last = self._pending.get(place, (None, None))
        if last is None or last.sketch.tape.offset <= at.offset:
            if last is not None:
                self._in_order(last)
            self._pending[place] = (last, published)
        elif before is None or before.sketch.tape.offset <= at.offset:
            self._displace(last, published)  # it came too early
            self._pending[place] = (before, published)
        else:
            self._displace(published, last)  # it comes too late

    def _displace(self, published: Published, beside: Published) -> None:
        number = published.sketch.tape.partition
        product = number, published.sketch.sku
        known = self._last.get(product)
        if known is not None and _are_swapped(published, known):
            beside = known  # the product's own shows it best
        displaced = Displaced(published, beside)
        self.displaced[number].setdefault(published.key, []).append(displaced)
        self._of_product.setdefault(product, []).append(displaced)
        self.skipped.add((published.entry.partition, published.entry.place))
        self._limit(len(self.skipped), published)

    def _limit(self, count: int, published: Published) -> None:
        if count > DISPLACED_MAX:
            raise CheckFailed(
                "too_disordered",
                f"more than {DISPLACED_MAX} decisions stand out of the tape's order, or contradict "
                "the one before them.",
                where=published.entry.where,
                expected=f"each decision, such as {published.sketch.price_id}, after those before "
                "it on the tape",
                fix="Look at what stands before this place: the pricer does not write it so.",
            )

    def _in_order(self, published: Published) -> None:
        """A product's decision beside the one before it."""
        now = published.sketch
        product = now.tape.partition, now.sku
        before = self._last.get(product)
        known = None if before is None else before.sketch
        self._last[product] = published._replace(entry=published.entry._replace(value=b""))
        for displaced in self._of_product.get(product, ()):
            if _are_swapped(displaced.published, published):
                displaced.beside = published
        if now.status in EFFECTIVE:
            digest = blake2b(published.entry.value, digest_size=DIGEST_BYTES).digest()
            at = now.tape
            self.effective[now.sku] = Effective(
                now.version, digest, at.partition, at.offset, published.entry.at_ms
            )
        if known is None or known.price_id == now.price_id:
            return
        follows = now.version == known.version + 1
        if follows != (now.previous_minor == known.price_minor):
            self.contradicted[known.price_id] = Successor(now.previous_minor, now.version)
            self._limit(len(self.contradicted), published)
        if not follows and len(self.gaps) < DISPLACED_MAX:
            self.gaps.append((published, known))
