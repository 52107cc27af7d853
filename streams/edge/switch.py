"""The kill switch for whoever passes prices on: projector, gateway, webhooks.

It follows ``controls`` itself, so it does not wait behind any backlog, and comes to the same answer
as the fold does at the place of the tape where these controls are: the clock is that of the ticks.
What is read is kept nowhere; at the start everything there is read again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.codec import decode_event
from schemas.errors import EventError
from schemas.events import OperatorCommand, rfc3339, time_ms
from schemas.topics import CONTROLS
from streams.controls.switch_events import OFF, ON, read_command
from streams.edge.follower import Record, TopicFollower

log = logging.getLogger(__name__)

READ_DEADLINE_S = 60.0
WAIT_STEP_S = 0.05
AHEAD_MS_MAX = 5 * 60_000  # intake refuses what is further ahead of the clock, and so do we
REPEATS_MAX = 24
TICK = b"clock_ticked"


class SwitchState(NamedTuple):
    """The kill switch: on or off, and by whose last command. None: nobody ever threw it."""

    on: bool = False
    actor: str | None = None
    reason: str | None = None
    at: str | None = None
    expires_at: str | None = None


class SwitchLog:
    """The switch as a function of ``controls``, record by record.

    Attributes
    ----------
    state : after the last record
    """

    def __init__(self) -> None:
        self.state = SwitchState()
        self._clock_ms: int | None = None
        self._expires_ms: int | None = None
        self._ids: deque[str] = deque(maxlen=REPEATS_MAX)

    def take(self, record: Record) -> None:
        """Read the next record of ``controls``."""
        if record.value is not None and TICK in record.value:
            self._tick(record)
            return
        event = read_command(record.value, record.headers)
        if event is None or event.event_id in self._ids:
            return
        self._ids.append(event.event_id)
        if event.command == ON:
            self._throw(event)
        elif event.command == OFF and not _is_ahead(event.event_time_ms, record):
            self._set(event, on=False, expires_ms=None)

    def _throw(self, event: OperatorCommand) -> None:
        expires_ms = None if event.expires_at is None else time_ms(event.expires_at)
        now_ms = event.event_time_ms
        if self._clock_ms is not None:
            now_ms = max(now_ms, self._clock_ms)
        if expires_ms is None or expires_ms > now_ms:
            self._set(event, on=True, expires_ms=expires_ms)

    def _set(self, event: OperatorCommand, *, on: bool, expires_ms: int | None) -> None:
        self._expires_ms = expires_ms
        self.state = SwitchState(
            on, event.actor, event.reason, rfc3339(event.event_time_ms),
            None if expires_ms is None else rfc3339(expires_ms),
        )  # fmt: skip

    def _tick(self, record: Record) -> None:
        try:
            event = decode_event(CONTROLS.name, None, record.value, record.headers).event
        except EventError:
            return
        now_ms = event.event_time_ms
        if _is_ahead(now_ms, record) or (self._clock_ms is not None and now_ms <= self._clock_ms):
            return
        self._clock_ms = now_ms
        if self._expires_ms is not None and self._expires_ms <= now_ms:
            self._expires_ms = None
            self.state = self.state._replace(on=False, reason="it expired")


def _is_ahead(event_time_ms: int, record: Record) -> bool:
    """Whether intake will refuse an event: it is ahead of the clock by which it was written."""
    return event_time_ms > record.timestamp_ms + AHEAD_MS_MAX


class PriceSwitch:
    """Says whether prices may be passed on now. A thread of its own follows ``controls``.

    Parameters
    ----------
    settings : the loaded configuration
    on_error : called, from that thread, with what ended it: nobody may pass prices on unwatched
    on_change : called, from that thread, with each new state, after the start
    isolation : ``read_uncommitted`` on the embedded broker

    Attributes
    ----------
    state : the last known
    """

    def __init__(
        self,
        settings: Any,
        on_error: Callable[[BaseException], None],
        *,
        on_change: Callable[[SwitchState], None] | None = None,
        isolation: str = "read_committed",
    ) -> None:
        self._log = SwitchLog()
        self.state = self._log.state
        self._on_change = on_change
        self._follower = TopicFollower(
            settings, CONTROLS, "switch", self._take, on_error, isolation=isolation
        )

    def start(self, deadline_s: float = READ_DEADLINE_S) -> "PriceSwitch":
        """Read all of ``controls``; when this returns the switch is known.

        Raises
        ------
        ServiceError : the broker does not answer, the topic is missing, or reading took too long
        """
        self._follower.start()
        try:
            self._follower.wait_caught_up(deadline_s)
        except BaseException:
            self.close()
            raise
        if self.state.on:
            _tell(self.state)
        return self

    @property
    def on(self) -> bool:
        """Whether no price may be passed on."""
        return self.state.on

    def wait_off(self, ending: threading.Event) -> bool:
        """Wait while the switch is on. False: ``ending`` was set instead."""
        while self.state.on:
            if ending.wait(WAIT_STEP_S):
                return False
        return not ending.is_set()

    def close(self) -> None:
        """End the thread."""
        self._follower.close()

    def _take(self, records: list[Record]) -> None:
        before = self.state
        for record in records:
            self._log.take(record)
        self.state = state = self._log.state
        if not self._follower.caught_up.is_set():
            return
        if state.on != before.on:
            _tell(state)
        if state != before and self._on_change is not None:
            self._on_change(state)


def _tell(state: SwitchState) -> None:
    word = "is on, thrown" if state.on else "is off, released"
    log.warning("kill switch %s by %s: %s", word, state.actor, state.reason)
