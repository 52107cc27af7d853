"""A circuit for a service that may be away: it is not asked, and not waited for, while it is."""

from collections.abc import Callable

FAILURES_MAX = 3  # in a row, before it is left alone
PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 30.0


class Circuit:
    """Closed while calls succeed; after failures in a row open for a pause, which doubles.

    After the pause one call is let through: it closes the circuit, or opens it for longer.

    Parameters
    ----------
    clock : seconds, never going back
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = PAUSE_S_MIN
        self._until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the service is left alone at present."""
        return self._until is not None

    def may_ask(self) -> bool:
        """Whether to ask the service now; after a pause the first caller may."""
        if self._until is None:
            return True
        if self._clock() < self._until:
            return False
        self._until = self._clock() + self._pause_s  # others wait for what becomes of this one
        return True

    def succeeded(self) -> None:
        """The service answered."""
        self._failures, self._pause_s, self._until = 0, PAUSE_S_MIN, None

    def failed(self) -> None:
        """The service did not answer, or not in time."""
        self._failures += 1
        if self._until is not None:
            self._pause_s = min(2.0 * self._pause_s, PAUSE_S_MAX)
        if self._until is not None or self._failures >= FAILURES_MAX:
            self._until = self._clock() + self._pause_s
