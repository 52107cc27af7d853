"""Named days: a table made once, known by its content, that a replay reads without the library."""

import json
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.codec import decode_event
from schemas.errors import ConfigError
from streams.cli import cli
from streams.controls.calendars import calendar_event, calendar_sha256, calendar_table
from streams.tape.event_files import read_events


def test_a_german_christmas_and_new_year() -> None:
    table = calendar_table("DE", date(2025, 12, 23), date(2026, 1, 2))
    assert table == {
        "2025-12-24": ["day_before_holiday"],
        "2025-12-25": ["christmas_day"],
        "2025-12-26": ["second_day_of_christmas"],
        "2025-12-31": ["day_before_holiday"],
        "2026-01-01": ["new_years_day", "pay_day"],
    }


def test_the_days_of_the_shops() -> None:
    table = calendar_table("US", date(2025, 11, 10), date(2025, 12, 1))
    assert table == {
        "2025-11-10": ["day_before_holiday"],
        "2025-11-11": ["double_11", "veterans_day"],
        "2025-11-15": ["pay_day"],
        "2025-11-26": ["day_before_holiday"],
        "2025-11-27": ["thanksgiving_day"],
        "2025-11-28": ["black_friday"],
        "2025-12-01": ["cyber_monday", "pay_day"],
    }


def test_the_table_is_known_by_its_content() -> None:
    table = calendar_table("DE", date(2025, 1, 1), date(2025, 12, 31))
    again = dict(reversed(table.items()))  # the order of its days is not content
    assert calendar_sha256(table) == calendar_sha256(again)
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"))
    assert calendar_sha256(table) == sha256(canonical.encode()).hexdigest()
    assert calendar_sha256(table) != calendar_sha256(table | {"2025-06-01": ["fair"]})


def test_the_event_is_what_the_tape_takes() -> None:
    table = calendar_table("CN", date(2025, 1, 27), date(2025, 1, 30))
    event = calendar_event(table, 1_736_121_600_000)
    found = decode_event("controls", None, json.dumps(event).encode()).event
    assert (found.calendar, found.calendar_sha256) == (table, calendar_sha256(table))


def test_the_command_writes_the_event(tmp_path: Path) -> None:
    out = tmp_path / "calendar.jsonl"
    options = ["--from", "2025-12-24", "--to", "2025-12-25", "--at", "2025-12-01T00:00:00Z"]
    arguments = ["ingest", "calendar", "DE", *options, "--out", str(out), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    table = {"2025-12-24": ["day_before_holiday"], "2025-12-25": ["christmas_day"]}
    expected = {
        "type": "calendar_published",
        "event_id": f"calendar-{calendar_sha256(table)[:16]}",
        "event_time": "2025-12-01T00:00:00.000Z",
        "calendar": table,
        "calendar_sha256": calendar_sha256(table),
    }
    ((topic, value),) = read_events(out)
    assert (topic, json.loads(value or b"")) == ("controls", expected)
    assert json.loads(result.stdout) == expected


@pytest.mark.parametrize("at", ["tomorrow", "2025-12-01T00:00:00"])
def test_a_time_without_a_zone_is_refused(at: str) -> None:
    options = ["--from", "2025-12-24", "--to", "2025-12-25", "--at", at, "--dry-run", "--json"]
    result = CliRunner().invoke(cli, ["ingest", "calendar", "DE", *options])
    assert result.exit_code == 2
    assert json.loads(result.stderr.splitlines()[-1])["field"] == "--at"


def test_an_unknown_country_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        calendar_table("XX", date(2025, 1, 1), date(2025, 1, 2))
    assert (caught.value.field, caught.value.value) == ("country", "XX")
