"""The simulated shop's events as JSON bytes, good ones and bad ones."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from schemas.codec import canonical
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


class Line(NamedTuple):
    """An order line: the number of its order, and of the line in it, from 1."""

    order: int
    line: int

    @property
    def event_number(self) -> bytes:
        """A number for event ids: the order's, with the line's after it where it has several."""
        return b"%d" % self.order if self.line == 1 else b"%d-%d" % (self.order, self.line)


def order_placed(
    at: bytes, sku: bytes, line: Line, quantity: int, price_minor: int, segment: str, channel: str
) -> bytes:
    """One line of an order."""
    return (
        b'{"type":"order_placed","event_id":"order-%b","event_time":"%b","sku":"%b",'
        b'"currency":"EUR","order_id":"O%d","line_id":"%d","quantity":%d,"unit_price_minor":%d,'
        b'"segment":"%b","channel":"%b"}'
    ) % (
        line.event_number, at, sku, line.order, line.line, quantity, price_minor,
        segment.encode(), channel.encode(),
    )  # fmt: skip


def order_cancelled(at: bytes, sku: bytes, line: Line, quantity: int) -> bytes:
    """A whole line taken back."""
    return (
        b'{"type":"order_cancelled","event_id":"cancel-%b","event_time":"%b","sku":"%b",'
        b'"order_id":"O%d","line_id":"%d","quantity":%d}'
    ) % (line.event_number, at, sku, line.order, line.line, quantity)


def order_returned(
    at: bytes, sku: bytes, line: Line, quantity: int, refund_minor: int, cost_minor: int
) -> bytes:
    """Units of a line sent back."""
    return (
        b'{"type":"order_returned","event_id":"return-%b","event_time":"%b","sku":"%b",'
        b'"currency":"EUR","order_id":"O%d","line_id":"%d","quantity":%d,"refund_minor":%d,'
        b'"return_cost_minor":%d,"reason":"not_as_expected"}'
    ) % (line.event_number, at, sku, line.order, line.line, quantity, refund_minor, cost_minor)


def traffic_counted(
    at: bytes, sku: bytes, from_time: bytes, visits: int, searches: int | None
) -> bytes:
    """Visits and, where they are counted, searches from ``from_time`` to ``at``."""
    more = b"" if searches is None else b',"searches":%d' % searches
    return (
        b'{"type":"traffic_counted","event_id":"traffic-%b-%b","event_time":"%b","sku":"%b",'
        b'"from_time":"%b","to_time":"%b","visits":%d%b}'
    ) % (sku, from_time, at, sku, from_time, at, visits, more)


def calendar_published(at: bytes, calendar: Mapping[str, Sequence[str]]) -> bytes:
    """The table of named days, known by its content."""
    table = {day: list(kinds) for day, kinds in calendar.items()}
    return orjson.dumps(
        {
            "type": "calendar_published",
            "event_id": "calendar",
            "event_time": at.decode(),
            "calendar": table,
            "calendar_sha256": sha256(canonical(table)).hexdigest(),
        }
    )


def promotion_scheduled(
    at: bytes, sku: str, number: int, from_ms: int, to_ms: int, depth: float
) -> bytes:
    """A reduction by the calendar of the shop, which no demand signal caused."""
    return orjson.dumps(
        {
            "type": "promotion_scheduled",
            "event_id": f"promotion-{number}",
            "event_time": at.decode(),
            "skus": [sku],
            "from_time": rfc3339(from_ms),
            "to_time": rfc3339(to_ms),
            "kind": "habit",
            "announced": True,
            "depth": depth,
        }
    )


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
