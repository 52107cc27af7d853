"""Exports of Google Analytics 4: a report as CSV, or events of its BigQuery export as JSON lines.

Names are those of the Data API and of the reports: items viewed are ``view_item`` events, items
viewed in a list ``view_item_list`` events. https://support.google.com/analytics/answer/7029846 has
the schema of the BigQuery export, whose times are microseconds of UTC.
"""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from streams.adapters.report_rows import PROGRESS_LINES, Columns, read_report
from streams.adapters.rows import Progress
from streams.adapters.text_file import open_text
from streams.adapters.traffic import (
    BAD_ROW,
    BAD_TIME,
    NO_PRODUCT,
    Stretch,
    TrafficBook,
    bucket,
    product_of,
)

COLUMNS = {
    "sku": ("Item ID", "itemId", "item_id"),
    "hour": ("Date + hour (YYYYMMDDHH)", "dateHour"),
    "date": ("Date", "date", "event_date"),
    "visits": ("Items viewed", "itemsViewed", "Item view events", "itemViewEvents"),
    "impressions": ("Items viewed in list", "itemsViewedInList", "Item list view events",
                    "itemListViewEvents"),
    "searches": ("Searches",),
}  # fmt: skip
ITEM_FIELD = "item_id"
VIEW, LIST_VIEW, SEARCH = "view_item", "view_item_list", "view_search_results"
OTHER_EVENT = "other_event"
TIME_MAX_US = 253_402_300_800_000_000  # the year 10000


def read_ga4(
    path: Path,
    columns: dict[str, str],
    zone: ZoneInfo,
    bucket_hours: int,
    book: TrafficBook,
    progress: Progress,
) -> None:
    """Add an export's rows to ``book``: JSON lines by their name (``.jsonl``), else a report.

    Parameters
    ----------
    columns : the user's own names by field; in JSON lines, ``sku`` names the item's field
    zone : of the property, for a report's days and hours
    bucket_hours : length of the stretches into which single events are gathered
    """
    if path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
        _read_events(path, columns.get("sku", ITEM_FIELD), bucket_hours, book, progress)
    else:
        read_report(path, Columns(COLUMNS, columns), zone, book, progress)


def _read_events(
    path: Path, item_field: str, bucket_hours: int, book: TrafficBook, progress: Progress
) -> None:
    with open_text(path) as (text, position):
        for number, line in enumerate(text):
            if not number % PROGRESS_LINES:
                progress(position())
            if not line.strip():
                continue
            book.count(_add(line, item_field, bucket_hours, book))
        progress(1.0)


def _add(line: str, item_field: str, bucket_hours: int, book: TrafficBook) -> str | None:
    """Add the items of one event, or say why not."""
    try:
        event: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return BAD_ROW
    if not isinstance(event, dict):
        return BAD_ROW
    kind = event.get("event_name")
    if kind not in (VIEW, LIST_VIEW, SEARCH):
        return OTHER_EVENT
    stretch = _stretch(event.get("event_timestamp"), bucket_hours)
    if stretch is None:
        return BAD_TIME
    items = event.get("items") or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return BAD_ROW
    products = [product_of(item.get(item_field)) for item in items]
    if not any(products):
        return NO_PRODUCT
    for sku in products:
        if sku is None:
            book.report.items_skipped[NO_PRODUCT] += 1
            continue
        book.add(
            sku,
            stretch,
            visits=int(kind == VIEW),
            impressions=1 if kind == LIST_VIEW else None,
            searches=1 if kind == SEARCH else None,
        )
    return None


def _stretch(timestamp: object, bucket_hours: int) -> Stretch | None:
    """BigQuery writes its 64-bit integers as JSON strings."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | str):
        return None
    try:
        at_us = int(timestamp)
    except ValueError:
        return None
    return bucket(at_us // 1000, bucket_hours) if 0 < at_us < TIME_MAX_US else None
