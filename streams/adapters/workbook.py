"""The original form of Online Retail: the publisher's workbook, or its CSV export.

Its rows are neither classed nor matched, so that is done here, by these rules in this order.

Class: an invoice that begins with A is a bad debt. A stock code from ``SERVICE_CODES``, or a gift
voucher, is a service. A row at price 0 is free if its quantity is above 0, else an adjustment of
stock. An invoice that begins with C is a return; so is any other negative quantity. The rest are
orders.

Match: a return gives back the last earlier order line of the same customer and product that has at
least as many units left, an equal price preferred over an equal quantity, both over neither;
failing that, the last one with any units left. A row without a customer matches nothing.
"""

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook

from schemas.errors import InputError, ServiceError
from schemas.events import time_ms
from streams.adapters.prepared import PROGRESS_ROWS, open_csv, pence
from streams.adapters.rows import (
    ADJUSTMENT,
    BAD_DEBT,
    FREE,
    NO_MATCH,
    ORDER,
    RETURN,
    SERVICE,
    Progress,
    Row,
    bad_cell,
)

SERVICE_CODES = frozenset(
    {"POST", "DOT", "M", "C2", "D", "S", "B", "PADS", "AMAZONFEE", "BANK CHARGES", "CRUK"}
)
VOUCHER_PREFIX = "GIFT_"
COLUMNS = {  # by the name without case and spaces
    "invoiceno": "invoice",
    "invoice": "invoice",
    "stockcode": "sku",
    "description": "description",
    "quantity": "quantity",
    "invoicedate": "at",
    "unitprice": "price",
    "price": "price",
    "customerid": "customer",
    "country": "country",
}
REQUIRED = ("invoice", "sku", "description", "quantity", "at", "price", "customer", "country")

Cells = Iterator[tuple[int, list[Any]]]  # line number and cells


def classify(invoice: str, sku: str, quantity: int, price_is_zero: bool) -> str:
    """Return the kind of a row of the original form."""
    if invoice.startswith("A"):
        return BAD_DEBT
    if sku in SERVICE_CODES or sku.startswith(VOUCHER_PREFIX):
        return SERVICE
    if price_is_zero:
        return FREE if quantity > 0 else ADJUSTMENT
    if invoice.startswith("C") or quantity < 0:
        return RETURN
    return ORDER


class Matcher:
    """Finds the order line that a return gives back; about 100 bytes a row."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], list[int]] = {}  # (customer, SKU) -> row numbers
        self._left = array("i")  # units not given back yet, by row number
        self._quantity = array("i")
        self._price_minor = array("q")

    def match(self, kind: str, customer: str, sku: str, quantity: int, price_minor: int) -> int:
        """Take the next row; returns the number of the matched order row, or ``NO_MATCH``."""
        number = len(self._left)
        matched = NO_MATCH
        if kind == RETURN and customer:
            matched = self._find(self._lines.get((customer, sku), []), quantity, price_minor)
            if matched != NO_MATCH:
                self._left[matched] -= min(quantity, self._left[matched])
        is_order = kind == ORDER and customer != ""
        if is_order:
            self._lines.setdefault((customer, sku), []).append(number)
        self._left.append(quantity if is_order else 0)
        self._quantity.append(quantity)
        self._price_minor.append(price_minor)
        return matched

    def _find(self, lines: list[int], quantity: int, price_minor: int) -> int:
        def rank(number: int) -> tuple[bool, bool, bool, int]:
            return (
                self._left[number] >= quantity,
                self._price_minor[number] == price_minor,
                self._quantity[number] == quantity,
                number,
            )

        return max((line for line in lines if self._left[line]), key=rank, default=NO_MATCH)


def read_original(path: Path, progress: Progress, *, day_first: bool = False) -> Iterator[Row]:
    """Read the original workbook (``.xlsx``) or CSV, class and match its rows.

    Parameters
    ----------
    day_first : how to read dates such as 1/12/2010 in a CSV; by default the month is first

    Raises
    ------
    InputError : a missing column, or a cell that can't be read, with its line
    ServiceError : the file can't be opened
    """
    matcher = Matcher()
    number = 0
    cells = (
        _workbook_cells(path, progress) if path.suffix == ".xlsx" else _csv_cells(path, progress)
    )
    place = _places(path, next(cells, (1, []))[1])
    read_time = _TimeReader(path, day_first)
    for line, row in cells:
        if row[place["invoice"]] in (None, ""):
            continue  # a workbook may end in empty rows
        invoice = _text(row[place["invoice"]]).upper()
        sku = _text(row[place["sku"]]).upper()
        customer = _text(row[place["customer"]])
        quantity = _quantity(path, line, row[place["quantity"]])
        price_minor = pence(path, line, "UnitPrice", row[place["price"]])
        kind = classify(invoice, sku, quantity, float(row[place["price"]]) == 0)
        matched = matcher.match(kind, customer, sku, abs(quantity), price_minor)
        yield Row(
            number,
            read_time(line, row[place["at"]]),
            invoice,
            kind,
            sku,
            abs(quantity),
            price_minor,
            customer,
            _text(row[place["country"]]),
            _text(row[place["description"]]) or None,
            matched,
        )
        number += 1


def _places(path: Path, header: list[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, name in enumerate(header):
        column = COLUMNS.get(_text(name).replace(" ", "").lower())
        if column is not None:
            found[column] = place
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise InputError(
            "missing_column",
            f"no column for {', '.join(missing)}; the header is {header}.",
            where=f"{path}:1",
            expected="InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, "
            "CustomerID, Country",
            fix="Give the Online Retail workbook, its CSV export, or the prepared CSV.",
        )
    return found


def _text(cell: Any) -> str:
    """A cell as text; numbers that a spreadsheet made floats lose their ``.0``."""
    if cell is None:
        return ""
    return str(cell).strip().removesuffix(".0")


def _quantity(path: Path, line: int, cell: Any) -> int:
    try:
        return int(float(cell))
    except (TypeError, ValueError, OverflowError):
        raise bad_cell(path, line, "Quantity", cell, "a whole number") from None


class _TimeReader:
    """Reads InvoiceDate; the clock is the shop's own and taken as UTC."""

    def __init__(self, path: Path, day_first: bool) -> None:
        self._path = path
        day, month = ("%d", "%m") if day_first else ("%m", "%d")
        self._formats = (f"{day}/{month}/%Y %H:%M", f"{day}/{month}/%y %H:%M")
        self._last: tuple[Any, int] = ("", 0)

    def __call__(self, line: int, cell: Any) -> int:
        if cell == self._last[0]:
            return self._last[1]
        moment = cell if isinstance(cell, datetime) else self._parse(line, str(cell))
        at_ms = time_ms(moment.replace(tzinfo=UTC))
        self._last = (cell, at_ms)
        return at_ms

    def _parse(self, line: int, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
        for form in self._formats:
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set by the caller
            except ValueError:
                continue
        raise bad_cell(
            self._path,
            line,
            "InvoiceDate",
            text,
            f"a time such as {self._formats[0]} (--day-first)",
        )


def _csv_cells(path: Path, progress: Progress) -> Cells:
    with open_csv(path, progress) as (rows, line):
        for row in rows:
            yield line(), row


def _workbook_cells(path: Path, progress: Progress) -> Cells:
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, ValueError) as error:
        raise InputError(
            "damaged_file",
            f"not a readable workbook ({error}).",
            where=str(path),
            fix="Copy the file again.",
        ) from error
    except OSError as error:
        raise ServiceError(
            "file_unreachable", f"{error.strerror or error}.", where=str(path)
        ) from error
    try:
        sheet = book.worksheets[0]
        rows_total = max(sheet.max_row or 1, 1)
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            if not number % PROGRESS_ROWS:
                progress(number / rows_total)
            yield number, list(row)
        progress(1.0)
    finally:
        book.close()
