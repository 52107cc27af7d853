"""A place in a topic, as text that outlives the gateway: the next offset of each partition.

A compacted topic keeps the last record of each key and its offset, so "what changed since" is the
records at or behind these offsets, in every gateway that reads the topic, now and later.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from streams.gateway.refusals import Refusal

_FORM = re.compile(r"(?P<topic>[a-z0-9]{1,16})(?P<places>(-\d{1,9}\.\d{1,19})*)")
CHARACTERS_MAX = 32_768


class Cursor(NamedTuple):
    """``topic`` names the topic as the broker made it; one that was made anew has another name.

    >>> str(Cursor("5f2c19ab", ((0, 120), (1, 7))))
    '5f2c19ab-0.120-1.7'
    """

    topic: str
    places: tuple[tuple[int, int], ...]  # partition and next offset; one that is missing is at 0

    def __str__(self) -> str:
        return self.topic + "".join(f"-{number}.{offset}" for number, offset in self.places)


def cursor_at(topic: str, places: Mapping[int, int]) -> Cursor:
    """The cursor at these next offsets."""
    return Cursor(topic, tuple(sorted(places.items())))


def read_cursor(text: str, topic: str) -> Cursor:
    """The cursor that a client sends back.

    Raises
    ------
    Refusal : 400, it is none; 410, it is of another topic
    """
    match = _FORM.fullmatch(text) if len(text) <= CHARACTERS_MAX else None
    if match is None:
        raise Refusal(
            400, "not_a_cursor", "this is no cursor.", field="since", value=text,
            expected="a cursor that this gateway gave out",
            fix="Send the last X-Next-Cursor, or none to get everything.",
        )  # fmt: skip
    if match["topic"] != topic:
        raise Refusal(
            410, "stale_cursor", "the cursor is of another topic: prices were set up anew.",
            field="since", value=text, expected=f"a cursor that begins with {topic}",
            fix="Ask without a cursor: everything comes, and a cursor to go on from.",
        )  # fmt: skip
    places = [part.split(".") for part in match["places"].split("-")[1:]]
    return cursor_at(topic, {int(number): int(offset) for number, offset in places})
