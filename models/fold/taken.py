"""Decisions of another engine, which the fold takes as the actions that history was made of."""

from typing import NamedTuple, Protocol

from schemas.outputs import PriceDecided


class Successor(NamedTuple):
    """What a product's next decision says of the one before it."""

    previous_minor: int | None
    version: int


class Taken(NamedTuple):
    """A published decision, and its bytes.

    ``successor`` is given where the product's next decision contradicts this one: the price that
    it found is not this one's, or its version does not follow.
    """

    decision: PriceDecided
    value: bytes
    successor: Successor | None = None


class Actions(Protocol):
    """History as the fold may ask for it, in any order within a batch."""

    def of(self, sku: str, offset: int) -> Taken | None:
        """The decision on a product at a tape offset; None to follow the fold's own."""

    def compared(self, taken: Taken, fields: dict[str, tuple[object, object]]) -> None:
        """Told what of a decision lies beyond its bounds: path -> (published, recomputed)."""
