"""The simulated shop's events as JSON bytes, good ones and bad ones."""

from collections.abc import Callable
from typing import Any

import orjson

from schemas.events import rfc3339

CURRENCY = "EUR"
HOUR_MS = 3_600_000
LARGE_BYTES = 1 << 20
NESTED_LEVELS = 5_000


class TimeText:
    """RFC 3339 text of many times close together, faster than formatting each."""

    def __init__(self) -> None:
        self._hour = -1
        self._prefix = b""

    def __call__(self, at_ms: int) -> bytes:
        """The time (Unix milliseconds) as in ``2025-01-06T09:30:00.000Z``."""
        hour, rest = divmod(at_ms, HOUR_MS)
        if hour != self._hour:
            self._hour, self._prefix = hour, rfc3339(hour * HOUR_MS)[:14].encode()
        return b"%b%02d:%02d.%03dZ" % (
            self._prefix,
            rest // 60_000,
            rest // 1000 % 60,
            rest % 1000,
        )


def order_placed(
    at: bytes, sku: bytes, number: int, quantity: int, price_minor: int, segment: str, channel: str
) -> bytes:
    """One order of one line."""
    return (
        b'{"type":"order_placed","event_id":"order-%d","event_time":"%b","sku":"%b",'
        b'"currency":"EUR","order_id":"O%d","line_id":"1","quantity":%d,"unit_price_minor":%d,'
        b'"segment":"%b","channel":"%b"}'
    ) % (number, at, sku, number, quantity, price_minor, segment.encode(), channel.encode())


def order_cancelled(at: bytes, sku: bytes, number: int, quantity: int) -> bytes:
    """A whole order taken back."""
    return (
        b'{"type":"order_cancelled","event_id":"cancel-%d","event_time":"%b","sku":"%b",'
        b'"order_id":"O%d","line_id":"1","quantity":%d}'
    ) % (number, at, sku, number, quantity)


def order_returned(
    at: bytes, sku: bytes, number: int, quantity: int, refund_minor: int, cost_minor: int
) -> bytes:
    """Units of an order sent back."""
    return (
        b'{"type":"order_returned","event_id":"return-%d","event_time":"%b","sku":"%b",'
        b'"currency":"EUR","order_id":"O%d","line_id":"1","quantity":%d,"refund_minor":%d,'
        b'"return_cost_minor":%d,"reason":"not_as_expected"}'
    ) % (number, at, sku, number, quantity, refund_minor, cost_minor)


def traffic_counted(at: bytes, sku: bytes, from_time: bytes, visits: int) -> bytes:
    """Visits from ``from_time`` to ``at``."""
    return (
        b'{"type":"traffic_counted","event_id":"traffic-%b-%b","event_time":"%b","sku":"%b",'
        b'"from_time":"%b","to_time":"%b","visits":%d}'
    ) % (sku, from_time, at, sku, from_time, at, visits)


def event(kind: str, event_id: str, at: bytes, sku: str, **fields: Any) -> bytes:
    """Any other event about a product; ``currency`` is added where money is."""
    money = {} if kind in ("inventory_changed", "product_retired") else {"currency": CURRENCY}
    return orjson.dumps(
        {
            "type": kind,
            "event_id": event_id,
            "event_time": at.decode(),
            "sku": sku,
            **money,
            **fields,
        }
    )


def _with(**changes: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda order: orjson.dumps(order | changes)


def _without(field: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda order: orjson.dumps({name: order[name] for name in order if name != field})


def _replaced(old: bytes, new: bytes) -> Callable[[dict[str, Any]], bytes]:
    return lambda order: orjson.dumps(order).replace(old, new)


# What a source may send by mistake, each made of a good order; the error code that it must meet.
BAD_KINDS: dict[str, tuple[Callable[[dict[str, Any]], bytes | None], str]] = {
    "not_json": (lambda order: orjson.dumps(order)[:-20], "not_json"),
    "wrong_type": (_with(quantity="two"), "invalid_field"),
    "missing_field": (_without("event_id"), "missing_field"),
    "negative_quantity": (_with(quantity=-1), "invalid_field"),
    "unknown_currency": (_with(currency="XQX"), "unknown_currency"),
    "not_a_number": (_replaced(b'"unit_price_minor":999', b'"unit_price_minor":NaN'), "not_json"),
    "too_large": (_with(comment="x" * LARGE_BYTES), "too_large"),
    "deep_nesting": (
        _replaced(b"{", b'{"extra":' + b"[" * NESTED_LEVELS + b"]" * NESTED_LEVELS + b","),
        "too_deep",
    ),
    "null_value": (lambda order: None, "null_value"),
    "bad_utf8": (_replaced(b'"segment":"all"', b'"segment":"\xff\xfe"'), "not_json"),
    "no_zone": (lambda order: _with(event_time=order["event_time"][:-1])(order), "invalid_field"),
    "unknown_type": (_with(type="order_wished"), "unknown_type"),
    "unknown_product": (_with(sku="NOT-LISTED"), "unknown_product"),
    "far_future": (_with(event_time="2999-12-31T00:00:00.000Z"), "future_event_time"),
}


def bad_event(kind: str, number: int, at: bytes, sku: str) -> bytes | None:
    """A bad record for the topic ``orders``; None is a null value."""
    order = {
        "type": "order_placed",
        "event_id": f"bad-{number}",
        "event_time": at.decode(),
        "sku": sku,
        "currency": CURRENCY,
        "order_id": f"B{number}",
        "line_id": "1",
        "quantity": 1,
        "unit_price_minor": 999,
        "segment": "all",
    }
    make, _ = BAD_KINDS[kind]
    return make(order)
