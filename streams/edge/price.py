"""An effective price as a shop reads it: what of a decision concerns whoever shows the price."""

import logging
from collections.abc import Callable, Iterable, Iterator

import msgspec

from schemas.codec import plan
from schemas.errors import InputError
from streams.edge.follower import Record

log = logging.getLogger(__name__)


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


def prices_of(
    records: Iterable[Record], topic: str, left_out: Callable[[], None] = lambda: None
) -> Iterator[tuple[Record, Price | None]]:
    """The prices in records of ``prices-latest``; None: it was taken away.

    A record that is no price is logged, left out and counted by ``left_out``: the others go on.

    Parameters
    ----------
    topic : its name on the broker, for the log
    """
    for record in records:
        if record.value is None:
            yield record, None
            continue
        try:
            price = read_price(record.value, f"{topic}[{record.partition}]@{record.offset}")
        except InputError as error:
            log.error("left out: %s", error)
            left_out()
            continue
        yield record, price
