"""The kill switch as a part of the gateway: it follows ``controls``, and prices wait for it."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from schemas.errors import PricemakerError
from streams.edge.switch import PriceSwitch, SwitchState
from streams.gateway.parts import Part, Running, closed

log = logging.getLogger(__name__)


class Switch(Part):
    """Whether prices may be passed on.

    Attributes
    ----------
    known : set once all of ``controls`` was read
    on_change : called on the loop with each new state
    changes : of the state, so far; for the loop's thread alone
    shown : the state after the last of them
    """

    name = "switch"

    def __init__(self, settings: Any, *, embedded: bool = False) -> None:
        self.known = threading.Event()
        self.on_change: list[Callable[[SwitchState], None]] = []
        self.changes = 0
        self.shown = SwitchState()
        self._settings = settings
        self._isolation = "read_uncommitted" if embedded else "read_committed"
        self._switch: PriceSwitch | None = None
        self._running: Running | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._open, name="open-switch", daemon=True)

    async def start(self, running: Running) -> None:
        """Begin to read."""
        self._running = running
        self._thread.start()

    async def stop(self) -> None:
        """Stop reading."""
        self._ending.set()
        if self._switch is not None:  # else its thread waits for a broker that is away; let it
            await closed(self._switch.close)

    def ready(self) -> str | None:
        """Whether the switch is known."""
        return None if self.known.is_set() else "controls is not read to its end yet"

    def wait_off(self, ending: threading.Event) -> bool:
        """Wait, in a thread, while the switch is on; False: ``ending`` was set instead."""
        return self._switch is None or self._switch.wait_off(ending)

    def _open(self) -> None:
        assert self._running is not None
        switch = PriceSwitch(
            self._settings, self._running.fail, on_change=self._changed, isolation=self._isolation
        )
        try:
            switch.start()
        except PricemakerError as error:
            self._running.fail(error)
            return
        self._switch = switch
        self.known.set()
        self._changed(switch.state)

    def _changed(self, state: SwitchState) -> None:
        assert self._running is not None
        if not self._ending.is_set():
            self._running.loop.call_soon_threadsafe(self._tell, state)

    def _tell(self, state: SwitchState) -> None:
        self.changes += 1
        self.shown = state
        for told in self.on_change:
            told(state)
