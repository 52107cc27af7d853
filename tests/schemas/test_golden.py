"""Every past version of every event type stays readable, and its canonical bytes stay the same."""

import json

import pytest

from schemas import tape
from schemas.codec import canonical, decode_event
from schemas.events import SOURCE_TYPES
from schemas.tape import Position, Source
from tests.schemas.samples import Golden, golden

ALL = golden("v1")


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_past_event_is_read_and_written_as_it_was(one: Golden) -> None:
    value = json.dumps(one.value).encode()
    accepted = decode_event(one.topic, None, value)
    assert canonical(accepted.event) == one.canonical
    assert accepted.value == value  # unknown fields and all


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_canonical_bytes_are_read_as_the_same_event(one: Golden) -> None:
    event = decode_event(one.topic, None, json.dumps(one.value).encode()).event
    again = decode_event(one.topic, None, one.canonical)
    assert again.event == event
    assert canonical(again.event) == one.canonical


def test_every_event_type_has_a_golden_file() -> None:
    there = {(one.topic, one.value["type"]) for one in ALL}
    types = {
        (topic, str(kind.__struct_config__.tag))
        for topic, kinds in SOURCE_TYPES.items()
        for kind in kinds
    }
    assert there == types


def test_a_tape_record_holds_the_event_as_it_came() -> None:
    event = b'{"type":"clock_ticked", "event_id":"t1","event_time":"2026-03-01T09:30:00.000Z"}'
    value = tape.wrap(Source("controls", 0, 7), event)
    assert value == (
        b'{"source":{"topic":"controls","partition":0,"offset":7},"event":{"type":"clock_ticked",'
        b' "event_id":"t1","event_time":"2026-03-01T09:30:00.000Z"}}'
    )
    assert tape.line(Position(3, 41), value) == (
        b'{"tape":{"partition":3,"offset":41},"source":{"topic":"controls","partition":0,'
        b'"offset":7},"event":{"type":"clock_ticked", "event_id":"t1",'
        b'"event_time":"2026-03-01T09:30:00.000Z"}}'
    )
