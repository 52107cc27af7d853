"""Clock ticks: the sources' event time moves the partitions' clocks, once a minute at most.

Every intake process proposes a tick when it has appended an event of a later minute; proposals go
through ``controls`` like any control, and its one owner lets rising ticks pass. A proposal that
is not above the last one is dropped there, and once more by the fold (a new owner of ``controls``
does not know what its predecessor let pass).
"""

import orjson

from schemas.events import rfc3339

MINUTE_MS = 60_000


class TickProposer:
    """Makes this process's proposals."""

    def __init__(self) -> None:
        self._proposed_ms = -1

    def propose(self, event_time_ms: int) -> bytes | None:
        """The tick's event for the highest event time appended so far, if a minute is new."""
        minute_ms = event_time_ms - event_time_ms % MINUTE_MS
        if minute_ms <= self._proposed_ms:
            return None
        self._proposed_ms = minute_ms
        return tick_event(minute_ms)


class TickFilter:
    """Lets rising ticks pass, in the intake of ``controls``."""

    def __init__(self) -> None:
        self._passed_ms = -1

    def passes(self, event_time_ms: int) -> bool:
        """Whether this tick is above the last one that passed; if so it is the last one now."""
        if event_time_ms <= self._passed_ms:
            return False
        self._passed_ms = event_time_ms
        return True


def tick_event(event_time_ms: int) -> bytes:
    """A ``clock_ticked`` event. Two processes that propose the same minute make the same event."""
    time_text = rfc3339(event_time_ms)
    return orjson.dumps(
        {"type": "clock_ticked", "event_id": f"tick-{time_text}", "event_time": time_text}
    )
