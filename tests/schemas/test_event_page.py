"""docs/events.md says what the types say."""

import json
from pathlib import Path

import pytest

from schemas.codec import decode_event
from schemas.event_page import EXAMPLES, MEANINGS, event_page, example
from schemas.events import SOURCE_TYPES

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
TOPIC_OF = {
    str(kind.__struct_config__.tag): topic
    for topic, kinds in SOURCE_TYPES.items()
    for kind in kinds
}


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == event_page(), (
        "write it anew: python -c 'from schemas.event_page import event_page; "
        'print(event_page(), end="")\' > docs/events.md'
    )


@pytest.mark.parametrize("kind", sorted(TOPIC_OF))
def test_every_example_is_accepted(kind: str) -> None:
    value = json.dumps(example(kind)).encode()
    event = decode_event(TOPIC_OF[kind], None, value).event
    assert event.event_id == f"{kind}-7"


def test_nothing_is_described_that_is_not_there() -> None:
    fields = {
        name
        for kinds in SOURCE_TYPES.values()
        for kind in kinds
        for own in kind.__struct_fields__
        for name in (own, f"{kind.__struct_config__.tag}.{own}")
    }
    assert set(MEANINGS) <= fields
    assert set(EXAMPLES) == set(TOPIC_OF)
