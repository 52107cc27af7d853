"""What an onlooker of a fold is told: applied events, closed epochs, prices that buyers see.

An onlooker only looks on: nothing that it does may reach the state.
"""

from typing import NamedTuple, Protocol

from models.demand.epoch import Observation
from schemas.events import AnyEvent
from schemas.learned import DemandPosterior, OpenEpoch
from schemas.state import CatalogueEntry


class Shown(NamedTuple):
    """A price that buyers see from a place on the tape on, event time ``now_ms``.

    ``applied``: the shop reported it, and ``follows`` is whether it was our price then; else it was
    seen because we published it.
    """

    offset: int
    now_ms: int
    sku: str
    price_minor: int
    applied: bool = False
    follows: bool = True


class Closed(NamedTuple):
    """An epoch that taught: the belief before it, what it taught, the belief after it.

    ``seen`` has the orders that were learned, those of ``epoch`` are all.
    """

    entry: CatalogueEntry
    epoch: OpenEpoch
    before: DemandPosterior
    seen: Observation
    after: DemandPosterior
    now_ms: int


class Watch(Protocol):
    """An onlooker; products of a family are told in tape order."""

    def applied(self, event: AnyEvent, now_ms: int) -> None:
        """An event changed the state; repeats and dead letters are not told."""

    def closed(self, closed: Closed) -> None:
        """An epoch taught."""

    def shown(self, shown: Shown) -> None:
        """Buyers see another price."""
