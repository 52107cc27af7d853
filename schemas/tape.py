"""The tape record: one accepted event, where it came from, in one JSON object.

On Kafka the position is the record's own; in a file each line carries it as ``tape``.
"""

import msgspec
from msgspec import Struct

from schemas.errors import EngineError
from schemas.events import AnyEvent


class Source(Struct, frozen=True, gc=False):
    """Where an event was read: topic (without prefix), partition, offset."""

    topic: str
    partition: int
    offset: int


class Position(Struct, frozen=True, gc=False):
    """Where a record stands on the tape."""

    partition: int
    offset: int


class TapeRecord(Struct, frozen=True, gc=False):
    """One record of the tape, decoded."""

    source: Source
    event: AnyEvent


class TapeLine(Struct, frozen=True, gc=False):
    """One line of a tape file, the value still undecoded."""

    tape: Position
    source: msgspec.Raw
    event: msgspec.Raw


class RawTapeRecord(Struct, frozen=True, gc=False):
    """A tape record whose event keeps the bytes it came with."""

    source: Source
    event: msgspec.Raw


_decoder = msgspec.json.Decoder(TapeRecord)
_raw_decoder = msgspec.json.Decoder(RawTapeRecord)
_line_decoder = msgspec.json.Decoder(TapeLine)


def wrap(source: Source, event: bytes) -> bytes:
    """The tape record's value: the event's bytes unchanged, beside its source."""
    return b'{"source":{"topic":"%b","partition":%d,"offset":%d},"event":%b}' % (
        source.topic.encode(),
        source.partition,
        source.offset,
        event,
    )


def decode(value: bytes) -> TapeRecord:
    """Decode a tape record's value.

    Raises
    ------
    EngineError : the tape holds what intake cannot have written
    """
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise EngineError("torn_tape", f"not a tape record: {error}.", value=value[:200]) from None


def raw_event(value: bytes) -> bytes:
    """The event's bytes inside a tape record's value, unchanged."""
    return bytes(_raw_decoder.decode(value).event)


def line(position: Position, value: bytes) -> bytes:
    """A tape file's line (without the newline) of a record's value."""
    return b'{"tape":{"partition":%d,"offset":%d},%b' % (
        position.partition,
        position.offset,
        value[1:].replace(b"\n", b" "),
    )


def parse_line(text: bytes) -> tuple[Position, bytes]:
    """A tape file's line to its position and record value.

    Raises
    ------
    EngineError : the line is not a tape file's
    """
    try:
        parsed = _line_decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise EngineError("torn_tape", f"not a tape line: {error}.", value=text[:200]) from None
    value = b'{"source":%b,"event":%b}' % (bytes(parsed.source), bytes(parsed.event))
    return parsed.tape, value
