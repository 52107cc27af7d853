"""Traffic from web analytics: small made-up exports, every row used or counted with a reason."""

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from schemas.codec import decode_event
from streams.adapters.metrica import array
from streams.adapters.traffic import bucket, count_of, local_date, local_stretch
from streams.cli import cli
from streams.tape.event_files import read_events

GA4_REPORT = """\
# ----------------------------------------
# Shop - Items
# Start date: 20250301
# End date: 20250302
# ----------------------------------------

Item ID,Date,Items viewed,Items viewed in list
A,20250301,12,100
A,20250301,3,
B,20250301,0,40
A,20250302,7,90
,20250302,22,230
(not set),20250302,1,1
B,20250230,5,5
B,20250302,many,5
B,20250302
"""


def ingest(tmp_path: Path, source: str, name: str, text: str | bytes, *more: str) -> Any:
    """The report, and the events as (sku, from, to, other counts)."""
    file, out = tmp_path / name, tmp_path / "traffic.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    arguments = ["ingest", source, str(file), "--out", str(out), "--json", *more]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    found = []
    for topic, value in read_events(out):
        assert value is not None
        event = decode_event(topic, None, value).event
        assert (topic, event.event_time) == ("traffic", event.to_time)
        plain = json.loads(value)
        counts = {k: plain[k] for k in ("visits", "impressions", "searches") if k in plain}
        found.append((event.sku, plain["from_time"], plain["to_time"], counts))
    return json.loads(result.stdout), found


def test_a_report_of_google_analytics(tmp_path: Path) -> None:
    zone = ["--time-zone", "Europe/Berlin"]
    report, events = ingest(tmp_path, "ga4", "items.csv", GA4_REPORT, *zone)
    first = ("2025-02-28T23:00:00.000Z", "2025-03-01T23:00:00.000Z")
    second = ("2025-03-01T23:00:00.000Z", "2025-03-02T23:00:00.000Z")
    assert events == [
        ("A", *first, {"visits": 12, "impressions": 100}),
        ("B", *first, {"visits": 0, "impressions": 40}),
        ("A", *second, {"visits": 7, "impressions": 90}),
    ]
    assert report == {
        "rows": 9, "used": 3, "events": 3, "products": 2, "items_skipped": {},
        "skipped": {"bad_count": 2, "bad_row": 1, "bad_time": 1, "no_product": 2},
    }  # fmt: skip


def test_rows_of_one_product_and_day_are_summed(tmp_path: Path) -> None:
    text = "date,itemId,deviceCategory,itemsViewed\n20250301,A,mobile,3\n20250301,A,desktop,4\n"
    _, events = ingest(tmp_path, "ga4", "items.csv", text)
    assert events == [("A", "2025-03-01T00:00:00.000Z", "2025-03-02T00:00:00.000Z", {"visits": 7})]


def test_a_report_without_dates_covers_its_period(tmp_path: Path) -> None:
    text = "# Start date: 20250301\n# End date: 20250307\nItem ID,Items viewed\nA,70\n"
    _, events = ingest(tmp_path, "ga4", "items.csv", text)
    assert events == [("A", "2025-03-01T00:00:00.000Z", "2025-03-08T00:00:00.000Z", {"visits": 70})]


def test_hours_of_a_report_and_columns_of_one_s_own(tmp_path: Path) -> None:
    text = "dateHour;article;looked at;looked for\n2025030113;A;5;2\n"
    _, events = ingest(
        tmp_path, "ga4", "items.csv", text, "--sku-column", "Article", "--visits-column",
        "looked at", "--searches-column", "looked for", "--time-zone", "America/New_York",
    )  # fmt: skip
    hour = ("2025-03-01T18:00:00.000Z", "2025-03-01T19:00:00.000Z")
    assert events == [("A", *hour, {"visits": 5, "searches": 2})]


def ga4_event(kind: str, at: str, *items: str | None, **more: Any) -> str:
    at_us = str(round(datetime.fromisoformat(at).timestamp() * 1e6))
    found = [{"item_id": item, "item_variant": f"{item}-red"} for item in items]
    return json.dumps({"event_name": kind, "event_timestamp": at_us, "items": found} | more)


BIGQUERY = "\n".join(
    [
        ga4_event("view_item", "2025-03-01T10:05:00Z", "A"),
        ga4_event("view_item", "2025-03-01T10:59:59Z", "A"),
        ga4_event("view_item", "2025-03-01T11:00:00Z", "A"),
        ga4_event("view_item_list", "2025-03-01T10:10:00Z", "A", "B", None),
        ga4_event("view_search_results", "2025-03-01T10:20:00Z", "B"),
        ga4_event("purchase", "2025-03-01T10:30:00Z", "A"),
        ga4_event("view_item", "2025-03-01T10:40:00Z"),
        ga4_event("view_item", "2025-03-01T10:40:00Z", "A", event_timestamp="soon"),
        ga4_event("view_item", "2025-03-01T10:40:00Z", items=[1]),
        "{",
    ]
)


def test_events_of_the_bigquery_export(tmp_path: Path) -> None:
    packed = gzip.compress(BIGQUERY.encode())
    report, events = ingest(tmp_path, "ga4", "events.jsonl.gz", packed)
    ten, eleven, twelve = (f"2025-03-01T{hour}:00:00.000Z" for hour in (10, 11, 12))
    assert events == [
        ("A", ten, eleven, {"visits": 2, "impressions": 1, "searches": 0}),
        ("B", ten, eleven, {"visits": 0, "impressions": 1, "searches": 1}),
        ("A", eleven, twelve, {"visits": 1, "impressions": 0, "searches": 0}),
    ]
    assert report["skipped"] == {"bad_row": 2, "bad_time": 1, "no_product": 1, "other_event": 1}
    assert report["items_skipped"] == {"no_product": 1}
    assert report["rows"] == report["used"] + sum(report["skipped"].values()) == 10


def test_what_no_event_counts_is_missing_and_not_zero(tmp_path: Path) -> None:
    text = ga4_event("view_item", "2025-03-01T10:05:00Z", "A")
    more = ["--sku-column", "item_variant", "--bucket-hours", "6"]
    _, events = ingest(tmp_path, "ga4", "events.jsonl", text, *more)
    assert events == [
        ("A-red", "2025-03-01T06:00:00.000Z", "2025-03-01T12:00:00.000Z", {"visits": 1})
    ]


def test_a_log_of_hits_of_metrica(tmp_path: Path) -> None:
    text = "\n".join(
        [
            "ym:pv:watchID\tym:pv:dateTime\tym:pv:productID\tym:pv:productEventType",
            "1\t2025-03-01 12:10:00\t['A']\t['detail']",
            r"2	2025-03-01 12:50:00	[\'A\',\'B\']	[\'view_item_list\',\'view_item_list\']",
            "3\t2025-03-01 12:55:00\t['A']\t['add']",
            "4\t2025-03-01 12:56:00\t[]\t[]",
            "5\t2025-03-01 12:57:00\t['A','B']\t['detail']",
            "6\tyesterday\t['A']\t['detail']",
            "7\t2025-03-01 13:00:00\t['','B']\t['detail','detail']",
        ]
    )
    report, events = ingest(tmp_path, "yandex-metrica", "hits.tsv", text)
    nine, ten, eleven = (f"2025-03-01T{hour}:00:00.000Z" for hour in ("09", "10", "11"))
    assert events == [
        ("A", nine, ten, {"visits": 1, "impressions": 1}),
        ("B", nine, ten, {"visits": 0, "impressions": 1}),
        ("B", ten, eleven, {"visits": 1, "impressions": 0}),
    ]
    assert report["skipped"] == {"bad_row": 1, "bad_time": 1, "no_product_view": 2}
    assert report["items_skipped"] == {"bad_time": 1, "no_product": 1}
    assert report["rows"] == report["used"] + sum(report["skipped"].values()) == 7


@pytest.mark.parametrize(
    ("header", "kinds"),
    [
        ("ym:s:visitID\tym:s:impressionsProductID\tym:s:impressionsDateTime", ""),
        (
            "ym:s:visitID\tym:s:eventsProductID\tym:s:eventsProductEventTime"
            "\tym:s:eventsProductType",
            "\t['detail','detail']",
        ),
    ],
)
def test_logs_of_visits_of_metrica(header: str, kinds: str, tmp_path: Path) -> None:
    row = "1\t['A','B']\t['2025-03-01 12:10:00','2025-03-01 13:10:00']" + kinds
    zone = ["--time-zone", "UTC"]
    _, events = ingest(tmp_path, "yandex-metrica", "visits.tsv", f"{header}\n{row}\n", *zone)
    hours = [f"2025-03-01T{hour}:00:00.000Z" for hour in (12, 13, 14)]
    assert events == [
        ("A", hours[0], hours[1], {"visits": 1}),
        ("B", hours[1], hours[2], {"visits": 1}),
    ]


def test_a_report_of_metrica(tmp_path: Path) -> None:
    text = "Дата визита;ID товара;Просмотры товаров\n2025-03-01;A;12\n01.03.2025;A;3\nИтого;;15\n"
    report, events = ingest(tmp_path, "yandex-metrica", "goods.csv", text)
    day = ("2025-02-28T21:00:00.000Z", "2025-03-01T21:00:00.000Z")
    assert events == [("A", *day, {"visits": 15})]
    assert report["skipped"] == {"no_product": 1}


@pytest.mark.parametrize(
    ("source", "text", "more", "code", "field"),
    [
        ("ga4", "Date,Items viewed\n20250301,3\n", [], "missing_column", None),
        ("ga4", "Item ID,Date\nA,20250301\n", [], "missing_column", None),
        ("ga4", "Item ID,Items viewed\nA,3\n", [], "missing_column", None),
        ("ga4", "", [], "missing_column", None),
        ("ga4", GA4_REPORT, ["--searches-column", "Finds"], "missing_column", None),
        ("ga4", GA4_REPORT, ["--time-zone", "Mars/Olympus"], "unknown_time_zone", "--time-zone"),
        ("ga4", GA4_REPORT, ["--dry-run"], "one_target", "--out"),
        ("yandex-metrica", "ym:pv:productID\tym:pv:dateTime\n", [], "missing_column", None),
    ],
)
def test_an_export_that_can_t_be_read_says_what_is_missing(
    source: str, text: str, more: list[str], code: str, field: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "export.csv"
    file.write_text(text)
    arguments = ["ingest", source, str(file), "--out", str(tmp_path / "out.jsonl"), "--json", *more]
    result = CliRunner().invoke(cli, arguments)
    error = json.loads(result.stderr.splitlines()[-1])
    assert (error["code"], error["field"]) == (code, field)
    assert result.exit_code in (2, 3)
    assert not (tmp_path / "out.jsonl").exists()


def test_days_on_which_the_clocks_change_have_23_and_25_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    lengths = {}
    for text in ("2025-03-30", "2025-10-26", "2025-06-01"):
        day = local_date(text)
        assert day is not None
        stretch = local_stretch(day, 24, zone)
        assert stretch is not None
        lengths[text] = (stretch.to_ms - stretch.from_ms) // 3_600_000
    assert lengths == {"2025-03-30": 23, "2025-10-26": 25, "2025-06-01": 24}
    skipped = local_date("2025-03-30")
    assert skipped is not None
    assert local_stretch(skipped.replace(hour=2), 1, zone) is None  # the clocks leave it out


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12", 12), ("12.0", 12), (" 1 234 ", 1234), ("-1", None), ("1.5", None), ("", None),
     ("1e3", None), ("9" * 13, None)],
)  # fmt: skip
def test_a_count_is_a_whole_number(text: str, expected: int | None) -> None:
    assert count_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[]", []), ("['A']", ["A"]), ("[1,2]", ["1", "2"]), (r"[\'A\',\'B C\']", ["A", "B C"]),
     ("['']", [""]), ("['a,b','c']", ["a,b", "c"])],
)  # fmt: skip
def test_arrays_of_the_logs_api(text: str, expected: list[str]) -> None:
    assert array(text) == expected


def test_a_bucket_holds_its_first_moment_and_not_its_last() -> None:
    hour_ms = 3_600_000
    assert bucket(7 * hour_ms - 1, 6) == (6 * hour_ms, 12 * hour_ms)
    assert bucket(12 * hour_ms, 6) == (12 * hour_ms, 18 * hour_ms)
