"""What changed since a cursor, as one document: JSON, or CSV for marketplaces and shelf labels."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from streams.edge.price import Price
from streams.gateway.cursor import Cursor
from streams.gateway.window import Window

COLUMNS = Price.__struct_fields__
WITHDRAWN = "withdrawn"
# What a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Page(NamedTuple):
    """Prices that changed, those that were withdrawn, and where to go on."""

    bodies: list[bytes]
    withdrawn: list[str]
    cursor: str
    more: bool

    def json(self) -> bytes:
        """The page as JSON."""
        return json_document(
            self.bodies, withdrawn=self.withdrawn, cursor=self.cursor, more=self.more
        )

    def csv(self) -> bytes:
        """The page as CSV (RFC 4180, UTF-8): a header, and a line for each price.

        A withdrawn price has its SKU and the status ``withdrawn``. Text that a spreadsheet would
        take for a formula has an apostrophe before it.
        """
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(COLUMNS)
        for body in self.bodies:
            price = msgspec.json.decode(body, type=Price)
            lines.writerow([_cell(getattr(price, name)) for name in COLUMNS])
        for sku in self.withdrawn:
            cells = {"sku": _cell(sku), "status": WITHDRAWN}
            lines.writerow([cells.get(name, "") for name in COLUMNS])
        return text.getvalue().encode()


def page_of(window: Window, since: Cursor, limit: int) -> Page:
    """What changed since a cursor, at most ``limit`` products."""
    found, behind, more = window.changes(since, limit)
    return Page(
        [one.body for one in found if one.body is not None],
        [one.sku for one in found if one.body is None],
        str(behind),
        more,
    )


def json_document(prices: Sequence[bytes], **others: Any) -> bytes:
    """``{"prices": [...], ...}`` of prices that are JSON already."""
    rest = orjson.dumps(others)[1:]
    return b'{"prices":[' + b",".join(prices) + b"]," + rest


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else value
