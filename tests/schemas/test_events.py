"""Times, defaults and limits of the event types."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode_event
from schemas.events import (
    SOURCE_TYPES,
    OrderPlaced,
    ProductListed,
    Scope,
    SkuEvent,
    rfc3339,
    time_ms,
)
from schemas.topics import SOURCES
from tests.schemas.samples import golden_value

LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


@given(st.integers(-62_135_596_800_000, LAST_MS))
def test_times_round_trip_to_the_millisecond(at_ms: int) -> None:
    assert time_ms(datetime.fromisoformat(rfc3339(at_ms))) == at_ms


def test_times_are_exact_where_floats_are_not() -> None:
    moment = datetime(2026, 3, 1, 9, 30, 0, 250_999, tzinfo=timezone(timedelta(hours=2)))
    assert time_ms(moment) == 1_772_350_200_250  # finer digits are cut
    assert time_ms(datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC)) == -1
    assert rfc3339(1_772_350_200_250) == "2026-03-01T07:30:00.250Z"


def test_any_zone_is_read_as_the_same_instant() -> None:
    texts = ["2026-03-01T09:30:00.250Z", "2026-03-01T11:30:00.25+02:00", "2026-03-01t09:30:00.250z"]
    values = [golden_value("order_placed", event_time=text) for text in texts]
    events = [decode_event("orders", None, json.dumps(value).encode()).event for value in values]
    assert {event.event_time_ms for event in events} == {1_772_357_400_250}


def test_what_an_order_does_not_say() -> None:
    value = golden_value("order_placed_minimal")
    event = decode_event("orders", None, json.dumps(value).encode()).event
    assert isinstance(event, OrderPlaced)
    assert (event.segment, event.channel) == ("all", "web")


def test_what_a_listing_does_not_say_is_unknown_and_not_zero() -> None:
    value = golden_value("product_listed_minimal")
    event = decode_event("products", None, json.dumps(value).encode()).event
    assert isinstance(event, ProductListed)
    unknown = (
        event.unit_cost_minor,
        event.return_handling_cost_minor,
        event.list_price_minor,
        event.family,
        event.predecessor,
        event.exit_date,
    )
    assert unknown == (None,) * 6
    assert (event.vat_rate, event.fee_rate, event.role) == (0.0, 0.0, "plain")


@pytest.mark.parametrize(("scope", "name"), [("sku", "A1"), ("family", "F1"), ("catalogue", None)])
def test_a_scope_names_what_it_is_about(scope: Any, name: str | None) -> None:
    assert msgspec.convert({"kind": scope, "name": name}, Scope) == Scope(scope, name)
    with pytest.raises(ValueError, match="a name for a SKU or family"):
        Scope(scope, None if name else "A1")


def test_events_cannot_be_changed() -> None:
    event = decode_event("orders", None, json.dumps(golden_value("order_placed")).encode()).event
    with pytest.raises(AttributeError):
        event.event_id = "another"  # type: ignore[misc]


def test_source_types_and_source_topics_are_the_same_topics() -> None:
    assert list(SOURCE_TYPES) == [topic.name for topic in SOURCES]
    for topic, kinds in SOURCE_TYPES.items():
        assert all(issubclass(kind, SkuEvent) == (topic != "controls") for kind in kinds)
