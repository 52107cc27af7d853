"""Exports of Yandex.Metrica: an e-commerce report, or the log of the Logs API.

The Logs API has a row per hit (``ym:pv:``) or per visit (``ym:s:``), with arrays for the products
of its e-commerce events: ``detail`` is a view of a product's page, ``view_item_list`` one in a
list. Older logs of visits have ``ym:s:impressionsProductID``, the products that were viewed.
https://yandex.com/dev/metrika/en/logs/fields/hits and .../visits describe the fields. Times are in
the counter's time zone.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.errors import InputError
from streams.adapters.report_rows import PROGRESS_LINES, Columns, read_report
from streams.adapters.rows import Progress
from streams.adapters.text_file import open_text
from streams.adapters.traffic import (
    BAD_ROW,
    BAD_TIME,
    NO_PRODUCT,
    TrafficBook,
    bucket,
    local_ms,
    product_of,
)

COLUMNS = {
    "sku": ("ym:s:productID", "Product ID", "ID товара", "Идентификатор товара"),
    "hour": (),
    "date": ("ym:s:date", "Date of visit", "Дата визита", "Date", "Дата"),
    "visits": ("ym:s:productImpressions", "Product views", "Просмотры товаров", "Просмотры товара"),
    "impressions": (),
    "searches": (),
}
DETAIL, IN_LIST = "detail", "view_item_list"
NO_EVENT = "no_product_view"
_ELEMENT = re.compile(r"'((?:[^'\\]|\\.)*)'|([^',\[\]\s]+)")


class LogFields(NamedTuple):
    """The fields of a log: products, their kinds of event (or None: all are views), and times."""

    product: str
    kind: str | None
    at: str


LOGS = (
    LogFields("ym:pv:productID", "ym:pv:productEventType", "ym:pv:dateTime"),
    LogFields("ym:s:eventsProductID", "ym:s:eventsProductType", "ym:s:eventsProductEventTime"),
    LogFields("ym:s:impressionsProductID", None, "ym:s:impressionsDateTime"),
)


def read_metrica(
    path: Path,
    columns: dict[str, str],
    zone: ZoneInfo,
    bucket_hours: int,
    book: TrafficBook,
    progress: Progress,
) -> None:
    """Add an export's rows to ``book``; a log is told from a report by its header.

    Parameters
    ----------
    columns : the user's own names by field; in a log, ``sku`` names the field of products
    zone : of the counter
    bucket_hours : length of the stretches into which single views are gathered
    """
    with open_text(path) as (text, _):
        header = next(csv.reader(text, delimiter="\t"), [])
    for log in LOGS:
        if log.product in header:
            _read_log(path, header, log, columns, zone, bucket_hours, book, progress)
            return
    read_report(path, Columns(COLUMNS, columns), zone, book, progress)


def array(text: str) -> list[str]:
    r"""The elements of an array as the Logs API writes it: ``array(r"[\'a\',\'b\']")`` is a, b."""
    text = text.strip().strip('"').replace("\\'", "'")
    found = _ELEMENT.finditer(text)
    return [match[1] if match[1] is not None else match[2] for match in found]


def _read_log(
    path: Path,
    header: list[str],
    log: LogFields,
    columns: dict[str, str],
    zone: ZoneInfo,
    bucket_hours: int,
    book: TrafficBook,
    progress: Progress,
) -> None:
    names = [columns.get("sku", log.product), log.at, *([log.kind] if log.kind else [])]
    missing = [name for name in names if name not in header]
    if missing:
        raise InputError(
            "missing_column",
            f"no field {', '.join(missing)}; the header is {header}.",
            where=f"{path}:1",
            expected=", ".join(names),
            fix="Ask the Logs API for these fields.",
        )
    places = [header.index(name) for name in names]
    with open_text(path) as (text, position):
        rows = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        for number, row in enumerate(rows):
            if not number % PROGRESS_LINES:
                progress(position())
            if not row:
                continue
            book.count(_add(row, places, zone, bucket_hours, book))
        progress(1.0)


def _add(
    row: list[str], places: Sequence[int], zone: ZoneInfo, bucket_hours: int, book: TrafficBook
) -> str | None:
    """Add the products of one row, or say why not."""
    if len(row) <= max(places):
        return BAD_ROW
    products, times = array(row[places[0]]), _times(row[places[1]])
    if not products:
        return NO_EVENT
    kinds = array(row[places[2]]) if len(places) > 2 else [DETAIL] * len(products)
    if len(times) == 1:
        times = times * len(products)  # a hit has one time
    if not len(products) == len(kinds) == len(times):
        return BAD_ROW
    used, reason = 0, NO_EVENT
    for text, kind, at in zip(products, kinds, times, strict=True):
        if kind not in (DETAIL, IN_LIST):
            continue
        sku, at_ms = product_of(text), local_ms(at, zone)
        if sku is None or at_ms is None:
            reason = NO_PRODUCT if sku is None else BAD_TIME
            book.report.items_skipped[reason] += 1
            continue
        in_list = 1 if kind == IN_LIST else None
        book.add(sku, bucket(at_ms, bucket_hours), visits=int(kind == DETAIL), impressions=in_list)
        used += 1
    return None if used else reason


def _times(text: str) -> list[str]:
    """One time of a hit, or the array of a visit's."""
    return array(text) if text.lstrip(' "').startswith("[") else [text]
