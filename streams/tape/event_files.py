"""Event files: source events as lines of JSON, in the order in which they are sent.

A line is ``{"topic":"orders","event":{...}}``. A record that is no JSON object, which only a test
of bad input holds, stands there as ``{"topic":"orders","base64":"..."}``, and a null value as
``{"topic":"orders","base64":null}``. Events may be in any order of time, as sources send them; a
file whose first line is ``{"order":"event_time"}`` claims that none is older than one before it. A
name that ends in ``.gz`` is compressed (``.zst`` can be read too). Files are read and written as
streams; a file under construction is called ``<name>.partial`` until it is whole.
"""

import base64
import binascii
import gzip
import io
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import msgspec
import orjson

from schemas.codec import NESTING_MAX, nesting
from schemas.errors import InputError, ServiceError
from schemas.events import SOURCE_TYPES, rfc3339, time_ms
from schemas.topics import RECORD_BYTES_MAX
from streams.tape.packed_files import BUFFER_BYTES, open_packed, packed_faults

SourceRecord = tuple[str, bytes | None]

DECLARES = b'{"order"'
LINE_BYTES_MAX = 2 * RECORD_BYTES_MAX  # base64 needs 4/3 of the value


class _Line(msgspec.Struct, frozen=True, gc=False):
    topic: str
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: str | msgspec.UnsetType | None = msgspec.UNSET


class _Declared(msgspec.Struct, forbid_unknown_fields=True):
    order: Literal["event_time"]


class _Timed(msgspec.Struct):
    event_time: datetime


class _Keyed(msgspec.Struct, frozen=True, gc=False):
    sku: str | None = None


_line_decoder = msgspec.json.Decoder(_Line)
_timed_decoder = msgspec.json.Decoder(_Timed)
_key_decoder = msgspec.json.Decoder(_Keyed)


def event_key(value: bytes | None) -> bytes | None:
    """The key a source record is sent with: its event's SKU; None where that can't be read.

    ``event_key(b'{"sku":"A1"}')`` is ``b"A1"``.
    """
    if value is None:
        return None
    try:
        sku = _key_decoder.decode(value).sku
        return sku.encode() if sku else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def event_line(topic: str, value: bytes | None) -> bytes:
    """One line of an event file, with its newline."""
    if value is not None and embeds(value):
        return b'{"topic":"%b","event":%b}\n' % (topic.encode(), value)
    encoded = None if value is None else base64.b64encode(value).decode()
    return orjson.dumps({"topic": topic, "base64": encoded}) + b"\n"


def parse_event_line(line: bytes) -> SourceRecord:
    """The topic and the value of one line; the event's bytes are those that were written.

    Raises
    ------
    InputError : not such a line, or not a source topic (without file and number)
    """
    try:
        parsed = _line_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _bad_line(
            "line", line[:80].decode("utf-8", "backslashreplace"), str(error)
        ) from error
    if parsed.topic not in SOURCE_TYPES:
        raise _bad_line("topic", parsed.topic, f"one of {', '.join(SOURCE_TYPES)}")
    if parsed.event is not msgspec.UNSET:
        return parsed.topic, bytes(parsed.event)
    if parsed.base64 is None:
        return parsed.topic, None
    if parsed.base64 is msgspec.UNSET:
        raise _bad_line("event", "missing", "the event's JSON object, or base64")
    try:
        return parsed.topic, base64.b64decode(parsed.base64, validate=True)
    except binascii.Error as error:
        raise _bad_line("base64", parsed.base64[:80], f"base64 ({error})") from None


def read_events(
    path: Path, progress: Callable[[int], None] | None = None
) -> Iterator[SourceRecord]:
    """Read an event file line by line.

    Parameters
    ----------
    path : the file; ``.gz`` and ``.zst`` are unpacked
    progress : told now and then how many bytes of the file have been read

    Raises
    ------
    InputError : a bad or cut line, with its number; a damaged archive
    ServiceError : the file can't be opened or read
    """
    number = 0
    order: _InOrder | None = None
    try:
        with packed_faults(path, lambda: number + 1), open_packed(path) as (raw, lines):
            while line := lines.readline(LINE_BYTES_MAX):
                number += 1
                if progress is not None and not number % 1000:
                    progress(raw.tell())
                if line[-1:] != b"\n":
                    raise _bad_line(
                        "line", f"{len(line)} bytes", "a line that ends; the file is cut"
                    )
                if number == 1 and line.startswith(DECLARES):
                    order = _InOrder(line)
                    continue
                record = parse_event_line(line)
                if order is not None:
                    order.check(record[1])
                yield record
    except InputError as error:
        error.where = error.where or f"{path}:{number}"
        raise


class _InOrder:
    """Checks a file that claims to be in the order of event time."""

    def __init__(self, line: bytes) -> None:
        try:
            msgspec.json.decode(line, type=_Declared)
        except msgspec.MsgspecError as error:
            raise _bad_line("order", line[:80].decode("utf-8", "replace"), str(error)) from error
        self._latest = datetime.min.replace(tzinfo=UTC)

    def check(self, value: bytes | None) -> None:
        try:
            at = _timed_decoder.decode(value or b"").event_time
        except msgspec.MsgspecError:
            return  # intake says what is wrong with it
        if at < self._latest:
            shown, latest = rfc3339(time_ms(at)), rfc3339(time_ms(self._latest))
            raise InputError(
                "events_out_of_order",
                f"event_time was {shown}; expected {latest} or later, since the file claims the "
                "order of event time.",
                field="event_time",
                value=shown,
                expected=f"{latest} or later",
                fix="Sort the events by event_time, or take the file's first line away.",
            )
        self._latest = at


class EventWriter:
    """Write an event file; it takes its name when it is whole.

    A context manager: ``with EventWriter(path) as writer: writer.write("orders", value)``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = 0
        self._partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> Self:
        try:
            self._raw: IO[bytes] = self._partial.open("wb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise _unreachable(self.path, error) from error
        self._file: IO[bytes] = self._raw
        if self.path.suffix == ".gz":
            # no name and no time in the archive: the same events give the same bytes
            archive = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)
            self._file = io.BufferedWriter(archive, BUFFER_BYTES)
        return self

    def write(self, topic: str, value: bytes | None) -> None:
        """Append one source record."""
        self._file.write(event_line(topic, value))
        self.events += 1

    def write_event(self, topic: bytes, value: bytes) -> None:
        """Append an event that is known to be a JSON object on one line: no check, so faster."""
        self._file.write(b'{"topic":"%b","event":%b}\n' % (topic, value))
        self.events += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._raw.close()
        if kind is None:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink()


def embeds(value: bytes) -> bool:
    """Whether a value can stand on a line of JSON as it is, to the byte."""
    if value[:1] != b"{" or value[-1:] != b"}" or b"\n" in value:
        return False
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return nesting(value) <= NESTING_MAX


def _bad_line(field: str, value: str, expected: str) -> InputError:
    return InputError(
        "bad_event_line",
        f"{field} was {value}; expected {expected}.",
        field=field,
        value=value,
        expected=expected,
        fix='Each line must be {"topic":"orders","event":{...}}.',
    )


def _unreachable(path: Path, error: OSError) -> ServiceError:
    return ServiceError(
        "file_unreachable",
        f"{error.strerror or error}.",
        where=str(path),
        fix="Check the path and its permissions.",
    )
