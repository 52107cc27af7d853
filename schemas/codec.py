"""Between bytes and types: decode and check in one pass, encode canonically.

Canonical bytes: UTF-8 JSON, keys sorted, no spaces, floats by shortest round trip, no NaN.
"""

import math
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple, Union

import msgspec
import orjson

from schemas import cloudevents
from schemas.errors import EngineError, EventError
from schemas.events import SOURCE_TYPES, AnyEvent, EngineChanged
from schemas.topics import EVENT_BYTES_MAX

# Parsers give up at different depths, some at the depth of their caller's stack. What is accepted
# here must be readable everywhere, also inside a tape record.
NESTING_MAX = 64

Headers = Iterable[tuple[str, bytes | None]]

# A type that stands alone is decoded without its tag; in a union the tag is required. So each
# union has one more member, which no source may send.
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    topic: msgspec.json.Decoder(Union[(*types, EngineChanged)])
    for topic, types in SOURCE_TYPES.items()
}
_TYPE_NAMES: dict[str, tuple[str, ...]] = {
    topic: tuple(str(kind.__struct_config__.tag) for kind in types)
    for topic, types in SOURCE_TYPES.items()
}
_PLACE = re.compile(
    r"^(?P<expected>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`)?$", re.DOTALL
)
_STEP = re.compile(r"[^.\[\]]+")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def plan(*kinds: type[msgspec.Struct]) -> None:
    """Let msgspec plan how these types are decoded; to be called where a module is imported.

    It plans a type at its first use, and two threads that do so at once crash the process.
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)


class Accepted(NamedTuple):
    """An event that passed its checks, and the JSON bytes that go on the tape."""

    event: AnyEvent
    value: bytes


def decode_event(
    topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None
) -> Accepted:
    """Decode and check one record of a source topic.

    A complete body goes on as it came, to the byte. Where CloudEvents binary headers fill in
    what the body lacks, the filled body goes on.

    Parameters
    ----------
    topic : source topic, without prefix
    key : the record's key; where it is not null it must be the event's SKU
    value, headers : as Kafka delivered them

    Raises
    ------
    EventError : naming the field, its value and what was expected
    """
    if value is None:
        raise _refuse(
            "null_value", "value", None, "a JSON object; a source topic has no tombstones"
        )
    if len(value) > EVENT_BYTES_MAX:
        raise _refuse(
            "too_large", "value", f"{len(value)} bytes", f"at most {EVENT_BYTES_MAX} bytes"
        )
    if not value.isascii():
        _require_utf8(value)
    if nesting(value) > NESTING_MAX:
        raise _too_deep(value)
    attributes = cloudevents.attributes(headers) if headers else {}
    if attributes:
        value = cloudevents.fill(value, attributes, _refuse)
    try:
        event: AnyEvent = _DECODERS[topic].decode(value)
    except msgspec.ValidationError as error:
        raise _invalid(topic, value, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refuse("not_json", "value", _excerpt(value), f"UTF-8 JSON ({error})") from None
    except RecursionError:
        raise _too_deep(value) from None
    if type(event) is EngineChanged:
        raise _unknown_type(topic, '"engine_changed"')
    sku = getattr(event, "sku", None)
    if key is not None and sku is not None and key != sku.encode():
        raise _refuse("key_mismatch", "key", _excerpt(key), f"the event's sku {sku!r}, or no key")
    return Accepted(event, value)


def nesting(value: bytes) -> int:
    """How deep JSON text is nested at most; an upper bound where it is at most ``NESTING_MAX``."""
    brackets = value.count(b"[") + value.count(b"{")
    if brackets <= NESTING_MAX:
        return brackets
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def canonical(document: Any) -> bytes:
    """Encode a struct, dict, list or scalar to canonical bytes.

    Raises
    ------
    EngineError : a float is NaN or infinite (it would silently become null)
    """
    encoded = _encoder.encode(document)
    if isinstance(document, msgspec.Struct):
        _require_same(document, encoded)
    else:
        _require_finite(msgspec.to_builtins(document), "$")
    return encoded


_encoder = msgspec.json.Encoder(order="sorted")
_packer = msgspec.msgpack.Encoder(order="deterministic")


def packed(record: msgspec.Struct) -> bytes:
    """Encode a struct to MessagePack: half the size of JSON where it holds many floats.

    Raises
    ------
    EngineError : a float is NaN or infinite
    """
    canonical(record)  # the check; packing itself would let such a number through
    return _packer.encode(record)


@cache
def _decoder(kind: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _require_same(document: msgspec.Struct, encoded: bytes) -> None:
    """Read back what was written: cheaper than to look at every number, and it proves more."""
    try:
        if _decoder(type(document)).decode(encoded) == document:
            return
    except msgspec.ValidationError:
        pass
    _require_finite(msgspec.to_builtins(document), "$")
    raise EngineError(
        "not_readable",
        f"{type(document).__name__} does not read back as it was written.",
        value=encoded[:200],
    )


def _require_finite(node: Any, path: str) -> None:
    if isinstance(node, float):
        if not math.isfinite(node):
            raise EngineError(
                "not_finite", f"{path} was {node}; expected a finite number.", field=path
            )
    elif isinstance(node, dict):
        for name, child in node.items():
            _require_finite(child, f"{path}.{name}")
    elif isinstance(node, list | tuple):
        for child in node:
            _require_finite(child, path)


def _require_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise _refuse("not_json", "value", _excerpt(value), f"UTF-8 JSON ({error})") from None


def _too_deep(value: bytes) -> EventError:
    expected = f"JSON nested at most {NESTING_MAX} deep"
    return _refuse("too_deep", "value", _excerpt(value), expected)


def _refuse(code: str, field: str, value: object, expected: str) -> EventError:
    shown = "null" if value is None else value
    return EventError(
        code,
        f"{field} was {shown}; expected {expected}.",
        field=field,
        value=value,
        expected=expected,
    )


def _excerpt(value: bytes) -> str:
    return value[:80].decode("utf-8", "backslashreplace")


def _unknown_type(topic: str, shown: str) -> EventError:
    return _refuse("unknown_type", "type", shown, f"one of {', '.join(_TYPE_NAMES[topic])}")


def _invalid(topic: str, value: bytes, error: msgspec.ValidationError) -> EventError:
    place = _PLACE.match(str(error))
    expected = place["expected"] if place else str(error)
    path = (place["path"] if place else None) or ""
    missing = re.match(r"Object missing required field `(?P<name>[^`]+)`", expected)
    if missing:
        field = f"{path}.{missing['name']}" if path else missing["name"]
        return _refuse("missing_field", field, "missing", "a value")
    if path == "type":
        return _unknown_type(topic, _value_at(value, path))
    if "Unknown currency" in expected:
        shown = _value_at(value, "currency")
        return _refuse("unknown_currency", "currency", shown, "an ISO 4217 code such as EUR")
    expected = expected.removeprefix("Expected ").replace("`", "")
    return _refuse("invalid_field", path or "value", _value_at(value, path), expected)


def _value_at(value: bytes, path: str) -> str:
    try:
        node = orjson.loads(value)
        for step in _STEP.findall(path):
            node = node[int(step)] if isinstance(node, list) else node[step]
        return orjson.dumps(node).decode()
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
        return _excerpt(value)
