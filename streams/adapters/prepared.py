"""The prepared form of Online Retail: a CSV whose rows are classed and matched already.

Columns ``seq, ts, invoice, kind, sku, qty, price, customer, country, service, dup, ref_seq,
ref_how``; ``products.csv.gz`` beside it, when there, brings the descriptions.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schemas.events import time_ms
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
from streams.adapters.text_file import open_text

COLUMNS = [
    "seq", "ts", "invoice", "kind", "sku", "qty", "price", "customer", "country", "service",
    "dup", "ref_seq", "ref_how",
]  # fmt: skip
PRODUCTS = "products.csv.gz"
KINDS = {
    "order": ORDER,
    "return": RETURN,
    "credit": RETURN,  # of goods; a credit of a service is a service row
    "adjust": ADJUSTMENT,
    "free": FREE,
    "baddebt": BAD_DEBT,
}
PROGRESS_ROWS = 5_000


def is_prepared(header: list[str]) -> bool:
    """Whether a CSV with this header is of the prepared form."""
    return header == COLUMNS


def read_prepared(path: Path, progress: Progress) -> Iterator[Row]:
    """Read the prepared form, row by row.

    Raises
    ------
    InputError : a cell that can't be read, with its line; a damaged archive
    ServiceError : the file can't be opened
    """
    descriptions = _descriptions(path.with_name(PRODUCTS))
    prices: dict[str, int] = {}
    clock, at_ms = "", 0
    with open_csv(path, progress) as (cells, line):
        next(cells)
        expected = len(COLUMNS)
        for number, row in enumerate(cells):
            if len(row) != expected:
                raise bad_cell(path, line(), "row", row, f"{expected} cells")
            seq, ts, invoice, kind, sku, qty, price, customer, country, service, _, ref, _ = row
            if ts != clock:
                clock, at_ms = ts, _minute_ms(path, line(), ts)
            price_minor = prices.get(price)
            if price_minor is None:
                price_minor = prices[price] = pence(path, line(), "price", price)
            try:
                if int(seq) != number:
                    raise bad_cell(path, line(), "seq", seq, f"{number}, without a gap")
                matched = int(ref) if ref else NO_MATCH
                if matched >= number:
                    raise bad_cell(path, line(), "ref_seq", ref, "the seq of an earlier row")
                yield Row(
                    number,
                    at_ms,
                    invoice,
                    SERVICE if service == "1" and kind != "baddebt" else KINDS[kind],
                    sku,
                    abs(int(qty)),
                    price_minor,
                    customer,
                    country,
                    descriptions.get(sku),
                    matched,
                )
            except (ValueError, KeyError) as error:
                raise bad_cell(path, line(), "row", row, f"readable cells ({error})") from None


def pence(path: Path, line: int, column: str, text: object) -> int:
    """A price in pounds as whole pence, nearest."""
    try:
        return round(float(text) * 100)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        raise bad_cell(path, line, column, text, "a price in pounds") from None


@contextmanager
def open_csv(
    path: Path, progress: Progress
) -> Iterator[tuple[Iterator[list[str]], Callable[[], int]]]:
    """The rows of a CSV, compressed or not, and the number of the last line read."""
    with open_text(path) as (text, position):
        reader = csv.reader(text)

        def cells() -> Iterator[list[str]]:
            for number, row in enumerate(reader):
                if not number % PROGRESS_ROWS:
                    progress(position())
                yield row
            progress(1.0)

        yield cells(), lambda: reader.line_num


def _descriptions(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with open_csv(path, lambda _: None) as (cells, _):
        next(cells)
        return {row[0]: row[1] for row in cells if len(row) > 1}


def _minute_ms(path: Path, line: int, text: str) -> int:
    try:
        return time_ms(datetime.fromisoformat(text).replace(tzinfo=UTC))
    except ValueError:
        raise bad_cell(path, line, "ts", text, "a time such as 2010-12-01T08:26") from None
