"""What changed on the desk, as events: each subject once, with its last state, in order of change.

The source of the desk's stream (`streams.gateway.sse`): a reader who is behind gets every subject
that changed since, once. A place is a number that rises with each change; its name begins with the
process's own, so that a reader of another process is told to fetch everything anew.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

from streams.gateway.sse import CHUNK_EVENTS_MAX, Chunk, frame


class Subject(NamedTuple):
    """A subject's last change; ``body`` makes its JSON when somebody wants it."""

    place: int
    event: str
    body: Callable[[], bytes | None]


class Subjects:
    """Subjects in the order of their last change. Memory grows with subjects, not with changes.

    Parameters
    ----------
    process : what tells this process's places from another's: letters and digits
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._last: dict[Hashable, Subject] = {}
        self.place = 0
        self._made: dict[int, Chunk[int]] = {}

    def changed(self, event: str, key: Hashable, body: Callable[[], bytes | None]) -> None:
        """A subject changed; a body of None means that there is nothing to tell after all."""
        self.place += 1
        self._made.clear()
        self._last.pop((event, key), None)
        self._last[event, key] = Subject(self.place, event, body)

    def name(self, place: int) -> str:
        """A place as a client knows it."""
        return f"{self._process}-{place}"

    def read(self, name: str) -> int | None:
        """The place of that name; None: it is of another process, or none."""
        process, _, number = name.partition("-")
        if process != self._process or not number.isdecimal() or len(number) > 18:
            return None
        place = int(number)
        return place if place <= self.place else None

    def since(self, place: int) -> Chunk[int]:
        """The frames of what changed behind a place."""
        if place not in self._made:
            self._made[place] = self._chunk(place)
        return self._made[place]

    def _chunk(self, place: int) -> Chunk[int]:
        found: list[Subject] = []
        for one in reversed(self._last.values()):
            if one.place <= place:
                break
            found.append(one)
        told = found[: -CHUNK_EVENTS_MAX - 1 : -1]  # the oldest first
        frames = []
        for one in told:
            body = one.body()
            if body is not None:
                frames.append(frame(one.event, body, self.name(one.place)))
        return Chunk(b"".join(frames), told[-1].place if told else place)
