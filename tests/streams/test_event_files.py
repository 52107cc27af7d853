"""Event files give back what was written, and say where they are broken."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputError, ServiceError
from schemas.events import SOURCE_TYPES
from streams.tape.event_files import (
    EventWriter,
    SourceRecord,
    event_key,
    event_line,
    parse_event_line,
    read_events,
)

ORDER = b'{"type":"order_placed","sku":"A1","quantity":2}'
RECORDS: list[SourceRecord] = [
    ("orders", ORDER),
    ("orders", b'{ "sku" : "A1" }'),
    ("orders", None),
    ("orders", b""),
    ("returns", b'{"sku":"A1"'),
    ("returns", b'{"price":NaN}'),
    ("inventory", b'{"sku":"\xff"}'),
    ("traffic", b'{\n"sku": "A1"\n}'),
    ("products", b'{"deep":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ("controls", b'{"topic":"orders","event":{"base64":"x"}}'),
]
topics = st.sampled_from(sorted(SOURCE_TYPES))


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_file_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with EventWriter(path) as writer:
        for topic, value in RECORDS:
            writer.write(topic, value)
    assert writer.events == len(RECORDS)
    assert list(read_events(path)) == RECORDS
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_good_event_stands_in_its_line_as_it_is() -> None:
    assert event_line("orders", ORDER) == b'{"topic":"orders","event":' + ORDER + b"}\n"
    assert event_line("orders", None) == b'{"topic":"orders","base64":null}\n'
    assert event_line("orders", b"\xff") == b'{"topic":"orders","base64":"/w=="}\n'


@given(topics, st.none() | st.binary(max_size=80))
def test_any_value_survives(topic: str, value: bytes | None) -> None:
    line = event_line(topic, value)
    assert line.count(b"\n") == 1
    assert parse_event_line(line) == (topic, value)


def test_the_same_events_make_the_same_archive(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with EventWriter(tmp_path / name) as writer:
            writer.write("orders", ORDER)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_an_interrupted_writer_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"what was there before\n")

    def write_and_be_interrupted() -> None:
        with EventWriter(path) as writer:
            writer.write("orders", ORDER)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted()
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]
    assert path.read_bytes() == b"what was there before\n"


GOOD_LINE = event_line("orders", ORDER)
BAD_LINES = [  # why, the second line, field, value, start of what was expected
    ("not JSON", b"price=3\n", "line", "price=3\n", "JSON is malformed"),
    ("no object", b"[]\n", "line", "[]\n", "Expected `object`, got `array`"),
    ("no topic", b'{"event":{}}\n', "line", '{"event":{}}\n', "Object missing required field"),
    ("unknown topic", b'{"topic":"prices","event":{}}\n', "topic", "prices", "one of orders, "),
    ("no event", b'{"topic":"orders"}\n', "event", "missing", "the event's JSON object"),
    ("bad base64", b'{"topic":"orders","base64":"x"}\n', "base64", "x", "base64 ("),
    ("cut", GOOD_LINE[:-1], "line", f"{len(GOOD_LINE) - 1} bytes", "a line that ends"),
    ("cut inside", GOOD_LINE[:30], "line", "30 bytes", "a line that ends"),
]


@pytest.mark.parametrize(
    ("line", "field", "value", "expected"),
    [case[1:] for case in BAD_LINES],
    ids=[case[0] for case in BAD_LINES],
)
def test_a_bad_line_is_named_by_its_number(
    tmp_path: Path, line: bytes, field: str, value: str, expected: str
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(GOOD_LINE + line)
    records = read_events(path)
    assert next(records) == ("orders", ORDER)
    with pytest.raises(InputError) as caught:
        next(records)
    error = caught.value
    assert (error.code, error.where) == ("bad_event_line", f"{path}:2")
    assert (error.field, error.value) == (field, value)
    assert (error.expected or "").startswith(expected)
    assert error.exit_code == 3


@pytest.mark.parametrize("keep", [5, 20, -4])
def test_a_cut_archive_is_an_input_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD_LINE * 50)[:keep])
    with pytest.raises(InputError) as caught:
        list(read_events(path))
    assert caught.value.code == "damaged_file"


def test_what_is_no_archive_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(GOOD_LINE)
    with pytest.raises(InputError) as caught:
        list(read_events(path))
    assert (caught.value.code, caught.value.where) == ("damaged_file", f"{path}:1")


def test_a_missing_file_or_folder_is_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as caught:
        list(read_events(tmp_path / "none.jsonl"))
    assert caught.value.code == "file_unreachable"
    with pytest.raises(ServiceError), EventWriter(tmp_path / "none" / "events.jsonl"):
        pass


def test_reading_tells_how_far_it_is_and_holds_one_line_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(GOOD_LINE * 3000)
    told: list[int] = []
    assert sum(1 for _ in read_events(path, told.append)) == 3000
    assert len(told) == 3
    assert told == sorted(told)
    assert told[-1] <= path.stat().st_size


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'{"sku":"A1"}', b"A1"),
        ('{"sku":"É"}'.encode(), "É".encode()),
        (b'{"quantity":-1,"sku":"A1"}', b"A1"),
        (b'{"sku":""}', None),
        (b'{"sku":3}', None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
        (b'{"sku":"\xff"}', None),
        (b"[" * 5000, None),
        (None, None),
    ],
)
def test_the_key_is_the_sku_where_it_can_be_read(value: bytes | None, key: bytes | None) -> None:
    assert event_key(value) == key
