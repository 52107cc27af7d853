"""A quote: what is asked, and what is answered. The tiers and the equations: ``docs/quotes.md``."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.codec import plan
from schemas.money import PriceMinor

QUANTITY_MAX = 1_000_000
NAME_CHARACTERS_MAX = 200

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]


class QuoteRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be quoted; a field left out stands for what is known of the product now.

    ``segment``: its discount is taken off. ``quantity``: units sold at once, priced per unit.
    ``market``, ``channel``: only the guards that hold there. ``unit_cost_minor`` and
    ``stock_units`` (on hand) are supposed instead of the known ones.
    """

    sku: Name
    segment: Name | None = None
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] = 1
    market: Name | None = None
    channel: Name | None = None
    unit_cost_minor: PriceMinor | None = None
    stock_units: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None

    @property
    def is_placed(self) -> bool:
        """Whether only some places' guards are asked for."""
        return self.market is not None or self.channel is not None

    @property
    def supposes(self) -> bool:
        """Whether something is supposed that is not so."""
        return self.unit_cost_minor is not None or self.stock_units is not None

    @property
    def reckons(self) -> bool:
        """Whether the price in force is not what is asked about."""
        return self.supposes or self.is_placed


class Quote(Struct, frozen=True, kw_only=True):
    """A price for what was asked, in minor units a unit, and what it rests on.

    ``tier`` answered: ``L1`` remembered it, ``L2`` reckoned it with the light model, ``L3`` is the
    full engine; ``source`` is the tier that made a remembered one. ``error_bound``: how far the
    price may be from the full engine's, relative; 0 where it is its own. ``version`` is the
    product's last decision, ``price_id`` the price that is in force, ``list_price_minor``, null
    where none is. ``guards`` moved the price; ``flags`` say what else to know.

    ``reservation_minor``: below it the sale is worth less than keeping the units; null where only
    one unit was asked for. ``discount_minor`` and ``disclosure``: of the segment. ``as_of`` and
    ``valid_until`` are event times.
    """

    sku: str
    price_minor: int
    currency: str
    quantity: int
    tier: str
    source: str
    error_bound: float
    version: int
    price_id: str | None
    list_price_minor: int | None
    as_of: str
    valid_until: str | None
    guards: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    reservation_minor: float | None = None
    discount_minor: int = 0
    disclosure: str | None = None


plan(QuoteRequest, Quote)
