"""The golden events, and events drawn at random, for the schema tests."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from schemas.events import SOURCE_TYPES, rfc3339
from schemas.money import MONEY_MINOR_MAX

GOLDEN = Path(__file__).parent / "golden"


class Golden(NamedTuple):
    """One golden event: what a source sent, and what we write for it."""

    name: str
    topic: str
    value: dict[str, Any]
    canonical: bytes


def golden(version: str = "v1") -> list[Golden]:
    """All golden events of a version of the event types."""
    found = []
    for path in sorted((GOLDEN / version).glob("*.json")):
        parts = json.loads(path.read_text())
        found.append(Golden(path.stem, parts["topic"], parts["value"], parts["canonical"].encode()))
    return found


def golden_value(name: str, **changes: Any) -> dict[str, Any]:
    """A golden event's value with some fields changed; ``...`` leaves a field out."""
    (found,) = [one for one in golden() if one.name == name]
    return {key: value for key, value in (found.value | changes).items() if value is not ...}


identifiers = st.text(min_size=1, max_size=40)
times = st.integers(0, 4_102_444_800_000).map(rfc3339)
# Half a surrogate pair is no text: intake refuses it.
letters = st.characters(exclude_characters="/", exclude_categories=["Cs"])
segments = st.text(letters, min_size=1, max_size=40)
prices = st.integers(1, MONEY_MINOR_MAX)
currencies = st.sampled_from(["EUR", "GBP", "JPY", "KWD", "CLF"])


def orders() -> st.SearchStrategy[dict[str, Any]]:
    """Any good ``order_placed``."""
    return st.fixed_dictionaries(
        {
            "type": st.just("order_placed"),
            "event_id": identifiers,
            "event_time": times,
            "sku": identifiers,
            "currency": currencies,
            "order_id": identifiers,
            "line_id": identifiers,
            "quantity": st.integers(1, 10_000_000),
            "unit_price_minor": prices,
        },
        optional={"segment": segments, "channel": identifiers},
    )


def listings() -> st.SearchStrategy[dict[str, Any]]:
    """Any good ``product_listed``."""
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return st.fixed_dictionaries(
        {
            "type": st.just("product_listed"),
            "event_id": identifiers,
            "event_time": times,
            "sku": identifiers,
            "currency": currencies,
            "category": identifiers,
        },
        optional={
            "attributes": st.dictionaries(identifiers, finite | st.text(max_size=20), max_size=4),
            "family": st.none() | identifiers,
            "anchors": st.lists(identifiers, max_size=3),
            "unit_cost_minor": st.none() | prices,
            "vat_rate": st.floats(0, 1, exclude_max=True),
            "role": st.sampled_from(["anchor", "addition", "key_value_item", "plain"]),
            "exit_date": st.none() | times,
        },
    )


topics = st.sampled_from(sorted(SOURCE_TYPES))
