"""Prices as events: what changed since a place, made once for all streams at that place."""

import orjson

from streams.gateway.cursor import Cursor, cursor_at
from streams.gateway.sse import CHUNK_EVENTS_MAX, Chunk, frame
from streams.gateway.window import Shown, Window


class PriceSource:
    """Changes of the window, of all products or of some."""

    def __init__(self, window: Window, skus: frozenset[str] | None = None) -> None:
        self._window = window
        self._skus = skus

    def since(self, place: Cursor) -> Chunk[Cursor]:
        """The frames behind a place."""
        if self._skus is None:
            return self._window.once(place, lambda: self._made(place))
        return self._made(place)

    def _made(self, place: Cursor) -> Chunk[Cursor]:
        found, behind, _ = self._window.changes(place, CHUNK_EVENTS_MAX)
        places = dict(place.places)
        frames: list[bytes] = []
        for one in found:
            places[one.partition] = one.offset + 1
            if self._skus is None or one.sku in self._skus:
                last = one is found[-1]
                cursor = behind if last else cursor_at(self._window.topic, places)
                frames.append(_frame(one, str(cursor)))
        return Chunk(b"".join(frames), behind)


def _frame(one: Shown, cursor: str) -> bytes:
    if one.body is None:
        return frame("withdrawn", orjson.dumps({"sku": one.sku}), cursor)
    return frame("price", one.body, cursor)
