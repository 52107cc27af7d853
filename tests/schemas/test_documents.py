"""The generated contract: current, valid, complete, and of one mind with the decoder."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from schemas.codec import decode_event
from schemas.documents import (
    DEAD_LETTER_HEADERS,
    MESSAGE_TYPES,
    SOURCE_EVENTS,
    asyncapi,
    documents,
    json_schema,
)
from schemas.errors import EngineError, EventError
from schemas.events import SOURCE_TYPES
from schemas.topics import TOPICS
from streams.kafka.dead_letters import intake_letter

GENERATED = Path(__file__).parents[2] / "schemas" / "generated"
DOCUMENTS = documents()
ASYNCAPI = asyncapi()
AT = "2026-03-01T12:00:00.000Z"
LATER = "2026-03-02T12:00:00.000Z"
LINE = {"sku": "A", "order_id": "o1", "line_id": "1", "quantity": 2}
HASH = "0" * 64

# What each source event must have besides event_id and event_time; nothing in it is optional.
SAMPLES: dict[str, dict[str, Any]] = {
    "order_placed": {**LINE, "currency": "EUR", "unit_price_minor": 1999},
    "order_cancelled": LINE,
    "order_returned": {**LINE, "currency": "EUR", "refund_minor": 0},
    "competitor_price_observed": {
        "sku": "A",
        "currency": "EUR",
        "competitor": "shop",
        "price_minor": 1899,
    },
    "inventory_changed": {"sku": "A", "on_hand": 0},
    "traffic_counted": {"sku": "A", "from_time": AT, "to_time": LATER, "visits": 7},
    "product_listed": {"sku": "A", "currency": "EUR", "category": "shirts"},
    "cost_changed": {"sku": "A", "currency": "EUR", "unit_cost_minor": None},
    "product_retired": {"sku": "A"},
    "price_applied": {"sku": "A", "currency": "EUR", "price_minor": 1999},
    "policy_published": {"policy": "", "policy_sha256": HASH},
    "prior_published": {"prior": {}, "prior_sha256": HASH},
    "calendar_published": {"calendar": {}, "calendar_sha256": HASH},
    "promotion_scheduled": {
        "skus": ["A"],
        "from_time": AT,
        "to_time": LATER,
        "kind": "black_friday",
        "announced": True,
        "depth": 0.2,
    },
    "operator_command": {
        "command": "kill_switch_on",
        "actor": "me",
        "reason": "test",
        "scope": {"kind": "catalogue"},
    },
    "breaker_tripped": {"scope": {"kind": "catalogue"}, "reason": "test"},
    "clock_ticked": {},
}


def topic_of(name: str) -> str:
    kind = SOURCE_EVENTS[name]
    return next(topic for topic, kinds in SOURCE_TYPES.items() if kind in kinds)


def decoder_accepts(name: str, event: dict[str, Any]) -> bool:
    try:
        decode_event(topic_of(name), None, msgspec.json.encode(event))
    except EventError:
        return False
    return True


def wrong_values(schema: dict[str, Any]) -> list[Any]:
    """Values that break what a property's schema says about it."""
    if "anyOf" in schema:  # with null
        return [value for value in wrong_values(schema["anyOf"][0]) if value is not None]
    if "enum" in schema:
        return ["no such choice", None]
    wrong: list[Any] = [None, [[]]]
    if "minimum" in schema:
        wrong.append(schema["minimum"] - 1)
    if "maximum" in schema:
        wrong.append(schema["maximum"] + 1)
    if "pattern" in schema or schema.get("minLength"):
        wrong.append("")
    if "maxLength" in schema:
        wrong.append("x" * (schema["maxLength"] + 1))
    return wrong


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_file_follows_the_code(name: str) -> None:
    assert json.loads((GENERATED / name).read_text()) == DOCUMENTS[name], "run: make generated"


def test_no_file_is_left_over() -> None:
    assert sorted(path.name for path in GENERATED.iterdir()) == sorted(DOCUMENTS)


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_schemas_are_valid(name: str) -> None:
    Draft202012Validator.check_schema(json_schema(name))


def test_every_source_event_has_a_sample() -> None:
    assert set(SAMPLES) == set(SOURCE_EVENTS)


@pytest.mark.parametrize("name", SAMPLES)
def test_schema_and_decoder_agree(name: str) -> None:
    schema = json_schema(name)
    validator = Draft202012Validator(schema)
    event = {"type": name, "event_id": "e1", "event_time": AT, **SAMPLES[name]}
    assert validator.is_valid(event)
    assert decoder_accepts(name, event)
    assert sorted(schema["required"]) == sorted(event)
    unknown = {**event, "field_of_a_later_version": [1]}
    assert validator.is_valid(unknown)
    assert decoder_accepts(name, unknown)
    for field in event:
        lacking = {key: value for key, value in event.items() if key != field}
        assert not validator.is_valid(lacking), field
        assert not decoder_accepts(name, lacking), field
    for field, about in schema["properties"].items():
        for value in wrong_values(about) if "$ref" not in about else [None]:
            broken = {**event, field: value}
            assert not validator.is_valid(broken), (field, value)
            assert not decoder_accepts(name, broken), (field, value)


def leaves(document: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every object inside a document with its path."""
    if isinstance(document, list):
        return [
            leaf for index, item in enumerate(document) for leaf in leaves(item, f"{path}/{index}")
        ]
    if not isinstance(document, dict):
        return []
    inner = [leaf for key, value in document.items() for leaf in leaves(value, f"{path}/{key}")]
    return [(path, document), *inner]


def test_every_number_has_its_unit() -> None:
    bare = [
        f"{path}/{name}"
        for path, component in leaves(ASYNCAPI["components"]["schemas"])
        for name, schema in component.get("properties", {}).items()
        if {"number", "integer"} & {part.get("type") for part in schema.get("anyOf", [schema])}
        and "description" not in json.dumps(schema)
    ]
    assert bare == []


def test_a_number_without_a_unit_stops_the_generation(monkeypatch) -> None:
    class Odd(msgspec.Struct):
        strangeness: float

    monkeypatch.setitem(MESSAGE_TYPES, "odd", Odd)
    with pytest.raises(EngineError, match="the number strangeness has no unit"):
        json_schema("odd")


def resolve(reference: str) -> Any:
    node: Any = ASYNCAPI
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_asyncapi_references_lead_somewhere() -> None:
    references = [node["$ref"] for _, node in leaves(ASYNCAPI) if "$ref" in node]
    assert len(references) > 80
    for reference in references:
        assert isinstance(resolve(reference), dict), reference


def test_asyncapi_has_every_topic_and_source_event() -> None:
    channels = ASYNCAPI["channels"]
    assert {name: channel["address"] for name, channel in channels.items()} == {
        topic.name: topic.name for topic in TOPICS
    }
    for topic, kinds in SOURCE_TYPES.items():
        tags = [kind.__struct_config__.tag for kind in kinds]
        assert list(channels[topic]["messages"]) == tags
        assert f"receive_{topic.replace('-', '_')}" in ASYNCAPI["operations"]
    for topic in ("prices", "prices_latest", "discounts", "alerts", "dead_letter"):
        assert ASYNCAPI["operations"][f"send_{topic}"]["action"] == "send"


def test_asyncapi_has_the_form_of_its_specification() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(ASYNCAPI["info"])
    for name, operation in ASYNCAPI["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        channel = resolve(operation["channel"]["$ref"])
        for message in operation.get("messages", ()):
            assert resolve(message["$ref"]) in channel["messages"].values(), name
    for name, schema in ASYNCAPI["components"]["schemas"].items():
        Draft7Validator.check_schema(schema)  # AsyncAPI's own schema form is a superset of it
        assert "discriminator" not in json.dumps(schema), name


def test_dead_letter_headers_are_those_that_are_written() -> None:
    record = SimpleNamespace(
        partition=0, offset=7, timestamp=0, headers=[("trace", b"1")], key=b"A", value=b"{"
    )
    letter = intake_letter("orders", record, EventError("not_json", "no JSON"), failed_at_ms=0)
    written = [name for name, _ in letter.headers if name != "trace"]
    assert written == list(DEAD_LETTER_HEADERS)
    message = ASYNCAPI["components"]["messages"]["dead_letter"]
    assert list(message["headers"]["properties"]) == written
