"""Reports of web analytics: a table of counts by product, and by day or hour.

Google Analytics puts lines before the header that begin with ``#``, among them the report's first
and last day; a report without a date column covers them all. The header's names are matched
without case, in English, as API names, and in Russian for Yandex.Metrica.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo

from streams.adapters.rows import Progress
from streams.adapters.text_file import open_text
from streams.adapters.traffic import (
    BAD_COUNT,
    BAD_ROW,
    BAD_TIME,
    DAY_HOURS,
    NO_PRODUCT,
    Stretch,
    TrafficBook,
    count_of,
    local_date,
    local_stretch,
    missing_column,
    product_of,
)

PROGRESS_LINES = 4096
FIELDS = ("sku", "date", "hour", "visits", "impressions", "searches")
OPTIONS = {"sku": "--sku-column", "visits": "--visits-column", "date": "--date-column"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names that a report may give its columns, by field; the first that is there is taken."""

    names: Mapping[str, Sequence[str]]
    chosen: Mapping[str, str] = field(default_factory=dict)  # the user's own, by field

    def places(self, header: list[str], where: str) -> dict[str, int]:
        """Where each field stands in a header.

        Raises
        ------
        InputError : no column for the product or the visits, or a chosen one is not there
        """
        plain = [name.strip().lower() for name in header]
        found: dict[str, int] = {}
        for wanted in FIELDS:
            chosen = self.chosen.get(wanted)
            names = [chosen] if chosen else self.names.get(wanted, ())
            places = [plain.index(name.lower()) for name in names if name.lower() in plain]
            if places:
                found[wanted] = places[0]
            elif chosen or wanted in ("sku", "visits"):
                raise missing_column(where, header, " or ".join(names), OPTIONS.get(wanted, ""))
        return found


def read_report(
    path: Path, columns: Columns, zone: ZoneInfo, book: TrafficBook, progress: Progress
) -> None:
    """Add a report's rows to ``book``.

    Raises
    ------
    InputError : no header, a missing column, no dates at all, or a damaged file
    ServiceError : the file can't be read
    """
    with open_text(path) as (text, position):
        lines = iter(text)
        notes, header_line = _head(lines)
        rows = csv.reader(chain([header_line], lines), delimiter=_delimiter(header_line))
        header = next(rows, [])
        where = f"{path}:{len(notes) + 1}"
        place = columns.places(header, where)
        period = _period(notes, zone)
        if "date" not in place and "hour" not in place and period is None:
            names = " or ".join(columns.names["date"])
            raise missing_column(where, header, names, OPTIONS["date"])
        for number, row in enumerate(rows):
            if not number % PROGRESS_LINES:
                progress(position())
            if any(cell.strip() for cell in row) and not row[0].startswith("#"):
                book.count(_add(row, place, period, zone, book))
        progress(1.0)


def _add(
    row: list[str],
    place: dict[str, int],
    period: Stretch | None,
    zone: ZoneInfo,
    book: TrafficBook,
) -> str | None:
    """Add a row, or say why not."""
    if len(row) <= max(place.values()):
        return BAD_ROW
    sku = product_of(row[place["sku"]])
    if sku is None:
        return NO_PRODUCT
    stretch = _stretch(row, place, period, zone)
    if stretch is None:
        return BAD_TIME
    counts: dict[str, int] = {}
    for name in ("visits", "impressions", "searches"):
        if name in place:
            count = count_of(row[place[name]])
            if count is None:
                return BAD_COUNT
            counts[name] = count
    book.add(sku, stretch, **counts)
    return None


def _stretch(
    row: list[str], place: dict[str, int], period: Stretch | None, zone: ZoneInfo
) -> Stretch | None:
    if "hour" in place:
        try:
            begin = datetime.strptime(row[place["hour"]].strip(), "%Y%m%d%H")  # noqa: DTZ007
        except ValueError:
            return None
        return local_stretch(begin, 1, zone)
    if "date" not in place:
        return period
    day = local_date(row[place["date"]])
    return None if day is None else local_stretch(day, DAY_HOURS, zone)


def _head(lines: Iterator[str]) -> tuple[list[str], str]:
    """The notes before the header, and the header's line."""
    notes = []
    for line in lines:
        if line.strip() and not line.startswith("#"):
            return notes, line
        notes.append(line)
    return notes, ""


def _delimiter(header: str) -> str:
    return max("\t;,", key=header.count)


def _period(notes: list[str], zone: ZoneInfo) -> Stretch | None:
    """From the first day to the end of the last, where the notes name them."""
    days = {}
    for note in notes:
        name, _, value = note.lstrip("# ").partition(":")
        days[name.strip().lower()] = local_date(value)
    first, last = days.get("start date"), days.get("end date")
    if first is None or last is None or last < first:
        return None
    return local_stretch(first, int((last - first) / timedelta(hours=1)) + DAY_HOURS, zone)
