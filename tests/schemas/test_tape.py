"""The tape record: the event's own bytes, beside where they came from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import tape
from schemas.codec import decode_event
from schemas.errors import EngineError
from schemas.tape import Position, Source
from tests.schemas.samples import golden, orders, topics

sources = st.builds(Source, topics, st.integers(0, 1023), st.integers(0, 2**62))


@given(sources, orders(), st.sampled_from([None, 0, 3]))
def test_a_record_gives_back_source_event_and_bytes(
    source: Source, value: dict[str, Any], indent: int | None
) -> None:
    event = json.dumps(value, indent=indent).encode()
    record = tape.wrap(source, event)
    decoded = tape.decode(record)
    assert decoded.source == source
    assert decoded.event == decode_event("orders", None, event).event
    assert tape.raw_event(record) == event


@given(sources, orders(), st.integers(0, 1023), st.integers(0, 2**62))
def test_a_line_gives_back_position_and_record(
    source: Source, value: dict[str, Any], partition: int, offset: int
) -> None:
    record = tape.wrap(source, json.dumps(value).encode())
    line = tape.line(Position(partition, offset), record)
    assert tape.parse_line(line) == (Position(partition, offset), record)


@given(orders())
def test_an_event_on_several_lines_becomes_one_line_of_the_same_event(
    value: dict[str, Any],
) -> None:
    record = tape.wrap(Source("orders", 0, 1), json.dumps(value, indent=2).encode())
    line = tape.line(Position(0, 1), record)
    assert b"\n" not in line
    _, again = tape.parse_line(line)
    assert tape.decode(again) == tape.decode(record)


@pytest.mark.parametrize("one", golden(), ids=lambda one: one.name)
def test_every_event_type_can_stand_on_the_tape(one: Any) -> None:
    event = decode_event(one.topic, None, one.canonical).event
    assert tape.decode(tape.wrap(Source(one.topic, 0, 0), one.canonical)).event == event


BROKEN = [
    b"",
    b"{}",
    b'{"source":{"topic":"orders","partition":0,"offset":1}}',
    b'{"source":{"topic":"orders","partition":0},"event":{"type":"clock_ticked"}}',
    b'{"source":{"topic":"orders","partition":0,"offset":1},"event":{"type":"unheard_of"}}',
    b'{"source":{"topic":"orders","partition":0,"offset":1},"event":',
]


@pytest.mark.parametrize("record", BROKEN)
def test_what_intake_cannot_have_written_is_a_torn_tape(record: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        tape.decode(record)
    assert caught.value.code == "torn_tape"
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("line", [*BROKEN, b'{"tape":{"partition":0},"source":{},"event":{}}'])
def test_what_is_no_line_of_a_tape_file_is_refused(line: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        tape.parse_line(line)
    assert caught.value.code == "torn_tape"
