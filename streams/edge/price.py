"""An effective price as a shop reads it: what of a decision concerns whoever shows the price."""

import msgspec

from schemas.codec import plan
from schemas.errors import InputError


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price to show, from ``prices-latest``. A higher version replaces a lower one, always."""

    sku: str
    version: int
    price_id: str
    price_minor: int
    previous_minor: int | None
    currency: str
    status: str
    effective_from: str | None
    valid_until: str | None
    decided_at: str


plan(Price)


def read_price(value: bytes, where: str) -> Price:
    """The price in a record of ``prices-latest``.

    Raises
    ------
    InputError : it is no price
    """
    try:
        return msgspec.json.decode(value, type=Price)
    except msgspec.MsgspecError as error:
        raise InputError(
            "not_a_price",
            f"the record is no effective price: {error}.",
            where=where,
            fix="Find out who writes to prices-latest besides the pricer.",
        ) from None
