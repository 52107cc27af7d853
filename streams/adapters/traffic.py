"""Counts of a web analytics export, gathered by product and stretch of time, as events.

An export has rows of counts (a report) or of single views (a log). Either way what is counted is
summed by product and stretch, and each sum becomes one ``traffic_counted``. Every row is used or
counted with the reason why not.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import orjson

from schemas.errors import InputError
from schemas.events import rfc3339, time_ms
from schemas.topics import TRAFFIC

HOUR_MS = 3_600_000
DAY_HOURS = 24
SKU_LENGTH_MAX = 128
NO_PRODUCT, BAD_COUNT, BAD_TIME, BAD_ROW = "no_product", "bad_count", "bad_time", "bad_row"
NOT_SET = frozenset({"", "(not set)", "(other)", "null", "none", "не определено"})
_COUNT = re.compile(r"\d{1,12}(\.0+)?")


class Stretch(NamedTuple):
    """From one time to another, Unix milliseconds."""

    from_ms: int
    to_ms: int


@dataclass(slots=True)
class Counts:
    """What was counted of a product in a stretch."""

    visits: int = 0
    impressions: int = 0
    searches: int = 0


@dataclass(slots=True)
class TrafficReport:
    """Every row accounted for: ``rows`` is ``used`` and the sum of ``skipped``."""

    rows: int = 0
    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    items_skipped: Counter[str] = field(default_factory=Counter)  # of rows that hold several
    events: int = 0
    products: int = 0

    def as_dict(self) -> dict[str, object]:
        """The report as data."""
        return {
            "rows": self.rows,
            "used": self.used,
            "skipped": dict(sorted(self.skipped.items())),
            "items_skipped": dict(sorted(self.items_skipped.items())),
            "events": self.events,
            "products": self.products,
        }


class TrafficBook:
    """Sums counts by product and stretch; a sum per product and stretch is held in memory.

    Parameters
    ----------
    source : names the events' ids
    """

    def __init__(self, source: str) -> None:
        self.report = TrafficReport()
        self._source = source
        self._sums: dict[tuple[Stretch, str], Counts] = {}
        self._counted: set[str] = set()  # of impressions and searches, what the export has at all

    def count(self, reason: str | None) -> None:
        """Count a row of the export: used, or left out for a reason."""
        self.report.rows += 1
        if reason is None:
            self.report.used += 1
        else:
            self.report.skipped[reason] += 1

    def add(
        self,
        sku: str,
        stretch: Stretch,
        *,
        visits: int = 0,
        impressions: int | None = None,
        searches: int | None = None,
    ) -> None:
        """Add counts of a product in a stretch; None is not counted here.

        What is counted anywhere in an export is 0 where nothing was added, and missing elsewhere.
        """
        total = self._sums.setdefault((stretch, sku), Counts())
        total.visits += visits
        total.impressions += impressions or 0
        total.searches += searches or 0
        for name, count in (("impressions", impressions), ("searches", searches)):
            if count is not None:
                self._counted.add(name)

    def events(self) -> Iterator[tuple[str, bytes]]:
        """(topic, event) of every sum, by time and product; all rows must have been added."""
        self.report.products = len({sku for _, sku in self._sums})
        order = sorted(self._sums, key=lambda key: (key[0].to_ms, key[0].from_ms, key[1]))
        for stretch, sku in order:
            counts = self._sums[stretch, sku]
            more = {"impressions": counts.impressions, "searches": counts.searches}
            more = {name: count for name, count in more.items() if name in self._counted}
            event = {
                "type": "traffic_counted",
                "event_id": f"{self._source}-{stretch.from_ms}-{stretch.to_ms}",
                "event_time": rfc3339(stretch.to_ms),
                "sku": sku,
                "from_time": rfc3339(stretch.from_ms),
                "to_time": rfc3339(stretch.to_ms),
                "visits": counts.visits,
                **more,
            }
            self.report.events += 1
            yield TRAFFIC.name, orjson.dumps(event)


def product_of(text: object) -> str | None:
    """A SKU as the export writes it; None where it names none."""
    sku = str(text if text is not None else "").strip()
    return None if sku.lower() in NOT_SET or len(sku) > SKU_LENGTH_MAX else sku


def count_of(text: str) -> int | None:
    """A count; None where it is none: ``count_of("12.0")`` is 12, ``count_of("-1")`` is None."""
    text = text.strip().replace("\u00a0", "").replace(" ", "")
    return int(text.partition(".")[0]) if _COUNT.fullmatch(text) else None


def local_stretch(begin: datetime, hours: int, zone: ZoneInfo) -> Stretch | None:
    """``hours`` of the wall clock from ``begin`` (no zone) in a time zone; None if it has none.

    A day on which the clocks change has 23 or 25 hours. A stretch that the clocks leave out has
    no length, and is none.
    """
    first = begin.replace(tzinfo=zone).astimezone(UTC)
    last = (begin + timedelta(hours=hours)).replace(tzinfo=zone).astimezone(UTC)
    return Stretch(time_ms(first), time_ms(last)) if last > first else None


def bucket(at_ms: int, hours: int) -> Stretch:
    """The stretch of ``hours`` (of UTC's day, which they divide) that a view falls into."""
    length_ms = hours * HOUR_MS
    from_ms = at_ms - at_ms % length_ms
    return Stretch(from_ms, from_ms + length_ms)


def local_ms(text: str, zone: ZoneInfo) -> int | None:
    """Unix milliseconds of a wall clock's time such as 2025-03-01 12:00:00; None if it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return time_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def local_date(text: str) -> datetime | None:
    """A day's first moment of a wall clock, from 20250301, 2025-03-01 or 01.03.2025."""
    text = text.strip()
    for form in ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y"):
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set by the caller
        except ValueError:
            continue
    return None


def missing_column(where: str, header: list[str], names: str, option: str) -> InputError:
    """The error for a report without a column that is needed."""
    return InputError(
        "missing_column",
        f"no column {names}; the header is {header}.",
        where=where,
        expected=names,
        fix=f"Export that column, or name yours with {option}.",
    )
