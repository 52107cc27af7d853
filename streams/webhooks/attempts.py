"""When an endpoint may be called next, and what is to be thought of it."""

import random
from enum import StrEnum
from typing import NamedTuple

RETRY_AFTER_MAX_S = 3_600.0


class State(StrEnum):
    """What an endpoint is to us."""

    OK = "ok"
    RETRYING = "retrying"  # its last answers were failures
    DEAD = "dead"  # it has failed for long: it is tried now and then
    DISABLED = "disabled"  # it said that it is gone (410): it is not tried any more


class Pace(NamedTuple):
    """Limits in seconds: between calls, of the back-off, until death, and between tries then."""

    interval_s: float
    retry_base_s: float
    retry_max_s: float
    dead_after_s: float
    dead_interval_s: float


class Attempts:
    """The schedule of one endpoint: rate, exponential back-off with jitter, death and revival.

    Parameters
    ----------
    draw : numbers in [0, 1), for the jitter
    """

    def __init__(self, pace: Pace, draw: random.Random) -> None:
        self.state = State.OK
        self.failures = 0
        self._pace = pace
        self._draw = draw
        self._next_s = 0.0
        self._failing_since_s: float | None = None

    def may_call(self, now_s: float) -> bool:
        """Whether a call may begin."""
        return self.state is not State.DISABLED and now_s >= self._next_s

    def delivered(self, began_s: float) -> None:
        """The call that began then was answered with success."""
        self.state, self.failures, self._failing_since_s = State.OK, 0, None
        self._next_s = began_s + self._pace.interval_s

    def failed(self, began_s: float, now_s: float, retry_after_s: float | None = None) -> None:
        """The call that began then failed, or nobody knows; the endpoint may have asked for time.

        The pause doubles from the base to the most, and the half of it is drawn, so that endpoints
        that failed together do not come back together.
        """
        pace = self._pace
        if self._failing_since_s is None:
            self._failing_since_s = began_s
        self.failures += 1
        doubled = pace.retry_base_s * 2.0 ** min(self.failures - 1, 60)
        pause_s = min(pace.retry_max_s, doubled)
        self.state = State.RETRYING
        if now_s - self._failing_since_s >= pace.dead_after_s:
            self.state, pause_s = State.DEAD, pace.dead_interval_s
        pause_s *= 0.5 + 0.5 * self._draw.random()
        if retry_after_s is not None:
            pause_s = max(pause_s, min(retry_after_s, RETRY_AFTER_MAX_S))
        self._next_s = now_s + max(pause_s, pace.interval_s)

    def disable(self) -> None:
        """It is gone: no more calls."""
        self.state = State.DISABLED
