"""What intake refuses, with which words; and that nothing else than a refusal can happen."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import tape
from schemas.codec import NESTING_MAX, canonical, decode_event, nesting
from schemas.errors import EngineError, EventError
from schemas.events import SOURCE_TYPES
from schemas.tape import Source
from tests.schemas.samples import golden, golden_value, listings, orders, topics

ORDER = golden_value("order_placed_minimal", field_of_a_later_version=...)
ORDER_BYTES = json.dumps(ORDER).encode()


def order(**changes: Any) -> bytes:
    changed = {key: value for key, value in (ORDER | changes).items() if value is not ...}
    return json.dumps(changed).encode()


def other(name: str, **changes: Any) -> bytes:
    return json.dumps(golden_value(name, **changes)).encode()


def nested(levels: int) -> bytes:
    """An order with ``levels`` levels in all, in a field that is not read."""
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    return b'{"comment":' + inner + b"," + ORDER_BYTES[1:]


CUT = '{"type": "order_placed", "event_id": "order_placed-1", "event_time": "2026-03-01T'

# why, topic, value, code, field, value shown, expected
BAD: list[tuple[str, str, bytes | None, str, str, str | None, str]] = [
    ("null value", "orders", None, "null_value", "value", None,
     "a JSON object; a source topic has no tombstones"),
    ("empty", "orders", b"", "not_json", "value", "", "UTF-8 JSON (Input data was truncated)"),
    ("not JSON", "orders", b"price=3", "not_json", "value", "price=3",
     "UTF-8 JSON (JSON is malformed: invalid character (byte 0))"),
    ("cut JSON", "orders", b'{"type":"order_pl', "not_json", "value", '{"type":"order_pl',
     "UTF-8 JSON (Input data was truncated)"),
    ("two documents", "orders", order() + b" {}", "not_json", "value", CUT[:80],
     "UTF-8 JSON (JSON is malformed: trailing characters (byte 210))"),
    ("bad UTF-8", "orders", b'{"sku":"\xff"}', "not_json", "value", '{"sku":"\\xff"}',
     "UTF-8 JSON ('utf-8' codec can't decode byte 0xff in position 8: invalid start byte)"),
    ("bad UTF-8 where nobody reads", "orders", order(comment="#").replace(b"#", b"\xfe"),
     "not_json", "value", CUT[:80],
     "UTF-8 JSON ('utf-8' codec can't decode byte 0xfe in position 221: invalid start byte)"),
    ("NaN", "orders", b'{"quantity":NaN}', "not_json", "value", '{"quantity":NaN}',
     "UTF-8 JSON (JSON is malformed: invalid character (byte 12))"),
    ("half a surrogate pair", "orders", order(segment="\ud800!"), "not_json", "value", CUT[:80],
     "UTF-8 JSON (Input data was truncated)"),
    ("half a surrogate pair where nobody reads", "orders", order(comment="\udfff"),
     "not_json", "value", CUT[:80],
     "UTF-8 JSON (JSON is malformed: invalid utf-16 surrogate pair (byte 227))"),
    ("too large", "orders", order(comment="x" * (1 << 20)), "too_large", "value",
     "1048799 bytes", "at most 524288 bytes"),
    ("deep nesting", "orders", nested(5_000), "too_deep", "value", '{"comment":' + "[" * 69,
     "JSON nested at most 64 deep"),
    ("one level too deep", "orders", nested(65), "too_deep", "value",
     '{"comment":' + "[" * 64 + "]" * 5, "JSON nested at most 64 deep"),
    ("an array", "orders", b"[1]", "invalid_field", "value", "[1]", "object, got array"),
    ("no type", "orders", order(type=...), "missing_field", "type", "missing", "a value"),
    ("type of no topic", "orders", order(type="order_wished"), "unknown_type", "type",
     '"order_wished"', "one of order_placed, order_cancelled"),
    ("type of another topic", "returns", order(), "unknown_type", "type", '"order_placed"',
     "one of order_returned"),
    ("missing field", "orders", order(event_id=...), "missing_field", "event_id", "missing",
     "a value"),
    ("wrong type", "orders", order(quantity="two"), "invalid_field", "quantity", '"two"',
     "int, got str"),
    ("fraction of a unit", "orders", order(quantity=1.5), "invalid_field", "quantity", "1.5",
     "int, got float"),
    ("true is no number", "orders", order(quantity=True), "invalid_field", "quantity", "true",
     "int, got bool"),
    ("negative quantity", "orders", order(quantity=-1), "invalid_field", "quantity", "-1",
     "int >= 1"),
    ("no units", "orders", order(quantity=0), "invalid_field", "quantity", "0", "int >= 1"),
    ("price of zero", "orders", order(unit_price_minor=0), "invalid_field", "unit_price_minor",
     "0", "int >= 1"),
    ("price in major units", "orders", order(unit_price_minor=19.99), "invalid_field",
     "unit_price_minor", "19.99", "int, got float"),
    ("null price", "orders", order(unit_price_minor=None), "invalid_field", "unit_price_minor",
     "null", "int, got null"),
    ("unknown currency", "orders", order(currency="XQX"), "unknown_currency", "currency",
     '"XQX"', "an ISO 4217 code such as EUR"),
    ("gold is no shop's money", "orders", order(currency="XAU"), "unknown_currency", "currency",
     '"XAU"', "an ISO 4217 code such as EUR"),
    ("currency in small letters", "orders", order(currency="eur"), "invalid_field", "currency",
     '"eur"', "str matching regex '^[A-Z]{3}$'"),
    ("empty sku", "orders", order(sku=""), "invalid_field", "sku", '""', "str of length >= 1"),
    ("no zone", "orders", order(event_time="2026-03-01T09:30:00"), "invalid_field", "event_time",
     '"2026-03-01T09:30:00"', "datetime with a timezone component"),
    ("no time", "orders", order(event_time="yesterday"), "invalid_field", "event_time",
     '"yesterday"', "Invalid RFC3339 encoded datetime"),
    ("Unix time", "orders", order(event_time=1772357400), "invalid_field", "event_time",
     "1772357400", "datetime, got int"),
    ("listed without a price", "competitor-prices",
     other("competitor_price_observed", price_minor=None), "invalid_field", "price_minor", "null",
     "int for a listed product, got null"),
    ("surer than sure", "competitor-prices",
     other("competitor_price_observed", match_confidence=1.5), "invalid_field",
     "match_confidence", "1.5", "float <= 1.0"),
    ("window without length", "traffic",
     other("traffic_counted", to_time="2026-03-01T03:30:00.000Z"), "invalid_field", "to_time",
     '"2026-03-01T03:30:00.000Z"', "a time after from_time"),
    ("promotion that ends before", "controls",
     other("promotion_scheduled", to_time="2026-03-09T00:00:00.000Z"), "invalid_field", "to_time",
     '"2026-03-09T00:00:00.000Z"', "a time after from_time"),
    ("VAT in percent", "products", other("product_listed", vat_rate=19), "invalid_field",
     "vat_rate", "19", "float < 1.0"),
    ("unknown role", "products", other("product_listed", role="hero"), "invalid_field", "role",
     '"hero"', "Invalid enum value 'hero'"),
    ("attribute of attributes", "products", other("product_listed", attributes={"a": [1]}),
     "invalid_field", "attributes[...]", '{"a":[1]}', "float | str, got array"),
    ("empty anchor", "products", other("product_listed", anchors=["B", ""]), "invalid_field",
     "anchors[1]", '""', "str of length >= 1"),
    ("market in words", "products",
     other("product_listed", minimum_resale_price_minor={"Germany": 1500}), "invalid_field",
     "minimum_resale_price_minor", '{"Germany":1500}', "str matching regex '^[A-Z]{2}$'"),
    ("scope without a name", "controls", other("operator_command", scope={"kind": "sku"}),
     "invalid_field", "scope", '{"kind":"sku"}',
     "a name for a SKU or family, none for the catalogue"),
    ("scope with a typing error", "controls",
     other("operator_command", scope={"kind": "sku", "name": "A", "nmae": "B"}), "invalid_field",
     "scope", '{"kind":"sku","name":"A","nmae":"B"}', "Object contains unknown field nmae"),
    ("half a hash", "controls", other("policy_published", policy_sha256="0f"), "invalid_field",
     "policy_sha256", '"0f"', "str matching regex '^[0-9a-f]{64}$'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "value", "code", "field", "shown", "expected"),
    [case[1:] for case in BAD],
    ids=[case[0] for case in BAD],
)
def test_a_bad_event_is_refused_in_exact_words(
    topic: str, value: bytes | None, code: str, field: str, shown: str | None, expected: str
) -> None:
    with pytest.raises(EventError) as caught:
        decode_event(topic, None, value)
    error = caught.value
    assert (error.code, error.field, error.value, error.expected) == (code, field, shown, expected)
    assert str(error) == f"{field} was {'null' if shown is None else shown}; expected {expected}."
    assert error.exit_code == 3


@pytest.mark.parametrize("one", golden(), ids=lambda one: one.name)
def test_no_topic_takes_an_event_without_its_type(one: Any) -> None:
    """Also where there is only one type: the tape has all of them."""
    value = {name: content for name, content in one.value.items() if name != "type"}
    with pytest.raises(EventError) as caught:
        decode_event(one.topic, None, json.dumps(value).encode())
    assert (caught.value.code, caught.value.field) == ("missing_field", "type")


@pytest.mark.parametrize("topic", sorted(SOURCE_TYPES))
def test_no_source_may_say_that_the_engine_changed(topic: str) -> None:
    changed = {
        "type": "engine_changed", "event_id": "e1", "event_time": "2026-03-01T09:30:00Z",
        "fingerprint": "a", "previous": "b", "worker": "c",
    }  # fmt: skip
    with pytest.raises(EventError) as caught:
        decode_event(topic, None, json.dumps(changed).encode())
    assert (caught.value.code, caught.value.value) == ("unknown_type", '"engine_changed"')


def test_a_key_is_the_sku_or_absent() -> None:
    assert decode_event("orders", b"SHIRT-M", ORDER_BYTES).event == (
        decode_event("orders", None, ORDER_BYTES).event
    )
    with pytest.raises(EventError) as caught:
        decode_event("orders", b"SHIRT-\xff", ORDER_BYTES)
    error = caught.value
    assert (error.code, error.field, error.value, error.expected) == (
        "key_mismatch", "key", "SHIRT-\\xff", "the event's sku 'SHIRT-M', or no key",
    )  # fmt: skip


def test_the_deepest_event_that_is_accepted_can_be_read_inside_a_tape_record() -> None:
    accepted = decode_event("orders", None, nested(NESTING_MAX))
    record = tape.decode(tape.wrap(Source("orders", 0, 0), accepted.value))
    assert record.event == accepted.event


# -- CloudEvents binary headers

CE = {"ce_id": b"order_placed-1", "ce_type": b"order_placed", "ce_source": b"/shop"}
CE_TIME = {"ce_time": b"2026-03-01T09:30:00.250Z"}


def ce(headers: dict[str, bytes]) -> list[tuple[str, bytes | None]]:
    return list(headers.items())


def test_headers_stand_in_for_what_the_body_lacks() -> None:
    body = order(type=..., event_id=..., event_time=...)
    accepted = decode_event("orders", None, body, ce(CE | CE_TIME))
    assert accepted.event == decode_event("orders", None, ORDER_BYTES).event
    assert json.loads(accepted.value) == ORDER


def test_a_complete_body_goes_on_to_the_byte_beside_headers_that_agree() -> None:
    later_zone = {"ce_time": b"2026-03-01T11:30:00.25+02:00"}
    accepted = decode_event("orders", None, ORDER_BYTES, ce(CE | later_zone))
    assert accepted.value == ORDER_BYTES


@pytest.mark.parametrize(
    ("header", "content", "field"),
    [
        ("ce_id", b"order_placed-2", "event_id"),
        ("ce_type", b"order_cancelled", "type"),
        ("ce_time", b"2026-03-01T09:30:00.251Z", "event_time"),
        ("ce_time", b"this morning", "event_time"),
        ("ce_id", b"\xff", "event_id"),
    ],
)
def test_headers_that_contradict_the_body_are_refused(
    header: str, content: bytes, field: str
) -> None:
    with pytest.raises(EventError) as caught:
        decode_event("orders", None, ORDER_BYTES, [(header, content)])
    error = caught.value
    assert (error.code, error.field, error.value) == ("cloudevents_mismatch", field, ORDER[field])
    assert error.expected == f"the CloudEvents header's {content.decode('utf-8', 'replace')!r}"


def test_headers_do_not_heal_a_body_that_is_no_object() -> None:
    for body in (b"{", b"[]", b"null"):
        with pytest.raises(EventError):
            decode_event("orders", None, body, ce(CE | CE_TIME))


# -- laws


@given(orders() | listings())
def test_canonical_bytes_round_trip(value: dict[str, Any]) -> None:
    topic = "orders" if value["type"] == "order_placed" else "products"
    event = decode_event(topic, value["sku"].encode(), json.dumps(value).encode()).event
    once = canonical(event)
    again = decode_event(topic, value["sku"].encode(), once).event
    assert again == event
    assert canonical(again) == once
    assert json.loads(once).keys() >= value.keys()


@given(topics, st.binary(max_size=200), st.none() | st.binary(max_size=8))
@example("orders", b"\xed\xa0\x80", None)
@example("orders", b'{"type":"order_placed","event_time":"0001-01-01T00:00:00+23:59"}', None)
def test_arbitrary_bytes_are_refused_and_nothing_else(
    topic: str, value: bytes, key: bytes | None
) -> None:
    with pytest.raises(EventError):
        decode_event(topic, key, value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(golden()),
    st.data(),
    JSON_VALUES,
    st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "ce_time"]), st.binary(max_size=6))),
)
def test_a_spoilt_event_is_accepted_or_refused_and_nothing_else(
    one: Any, data: st.DataObject, spoilt: Any, headers: list[tuple[str, bytes | None]]
) -> None:
    field = data.draw(st.sampled_from(sorted(one.value)))
    value = json.dumps(one.value | {field: spoilt}).encode()
    refusal, accepted = None, None
    try:
        accepted = decode_event(one.topic, None, value, headers)
    except EventError as error:
        refusal = error
    if accepted is None:
        assert refusal is not None
        assert refusal.field
        assert refusal.expected
        return
    record = tape.decode(tape.wrap(Source(one.topic, 0, 1), accepted.value))
    assert record.event == accepted.event


@given(st.integers(1, 300), st.integers(0, 300))
def test_nesting_counts_levels_and_not_brackets_in_text(levels: int, noise: int) -> None:
    text = json.dumps({"text": '[{\\"' * noise}).encode()[1:]
    value = b'{"deep":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"," + text
    assert (nesting(value) > NESTING_MAX) == (levels > NESTING_MAX)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_becomes_null(wrong: float) -> None:
    with pytest.raises(EngineError) as caught:
        canonical({"greeks": [{"delta": 0.5}, {"delta": wrong}]})
    assert caught.value.field == "$.greeks.delta"
    assert str(caught.value) == f"$.greeks.delta was {wrong}; expected a finite number."
