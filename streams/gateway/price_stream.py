"""Prices as events: what changed since a place, made once for all streams at that place."""

from typing import NamedTuple

import orjson

from streams.gateway.cursor import Cursor, cursor_at
from streams.gateway.sse import CHUNK_EVENTS_MAX, Chunk, frame
from streams.gateway.switch import Switch
from streams.gateway.window import Shown, Window


class Place(NamedTuple):
    """Where a stream stands: in the prices, and in the changes of the kill switch."""

    cursor: Cursor
    switch_changes: int


class PriceSource:
    """Changes of the window, of all products or of some, and of the kill switch."""

    def __init__(self, window: Window, switch: Switch, skus: frozenset[str] | None = None) -> None:
        self._window = window
        self._switch = switch
        self._skus = skus

    def begin(self, cursor: Cursor) -> Place:
        """Where a stream begins: it is told that the switch is on, and nothing if it is off."""
        return Place(cursor, self._switch.changes - self._switch.shown.on)

    def since(self, place: Place) -> Chunk[Place]:
        """The frames behind a place."""
        if self._skus is None:
            return self._window.once((place, self._switch.changes), lambda: self._made(place))
        return self._made(place)

    def _made(self, place: Place) -> Chunk[Place]:
        found, behind, _ = self._window.changes(place.cursor, CHUNK_EVENTS_MAX)
        places = dict(place.cursor.places)
        frames: list[bytes] = []
        if place.switch_changes != self._switch.changes:
            told = orjson.dumps(self._switch.shown._asdict())
            frames.append(frame("switch", told, str(place.cursor)))
        for one in found:
            places[one.partition] = one.offset + 1
            if self._skus is None or one.sku in self._skus:
                last = one is found[-1]
                cursor = behind if last else cursor_at(self._window.topic, places)
                frames.append(_frame(one, str(cursor)))
        return Chunk(b"".join(frames), Place(behind, self._switch.changes))


def _frame(one: Shown, cursor: str) -> bytes:
    if one.body is None:
        return frame("withdrawn", orjson.dumps({"sku": one.sku}), cursor)
    return frame("price", one.body, cursor)
