"""Whether a process is alive and ready, as an orchestrator asks it."""

from collections.abc import Callable, Mapping

Check = Callable[[], str | None]  # None: all is well; else what is wrong, in words


class Health:
    """What ``/healthz`` and ``/readyz`` answer from.

    *Alive* means that a restart would not help: the process moves, or has nothing to do. *Ready*
    means that it has recovered and does its work; a process that waits for a broker may well be
    alive and not ready.

    Parameters
    ----------
    alive, ready : name of a check -> the check. They may be asked from any thread, and must answer
        at once
    """

    def __init__(
        self, *, alive: Mapping[str, Check] | None = None, ready: Mapping[str, Check] | None = None
    ) -> None:
        self._alive = dict(alive or {})
        self._ready = dict(ready or {})

    def alive(self) -> dict[str, str | None]:
        """What each check of life says."""
        return {name: check() for name, check in self._alive.items()}

    def ready(self) -> dict[str, str | None]:
        """What each check of life and of readiness says."""
        return self.alive() | {name: check() for name, check in self._ready.items()}
