"""What lives as long as the gateway: views, followers, webhooks, replicas. Each is optional."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastapi import APIRouter

from streams.gateway.gateway_metrics import GatewayMetrics
from streams.gateway.sse import Streams

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

CLOSE_S = 3.0


class Running:
    """What a part gets when it starts: the gateway as it runs. Its loop's thread, if not said.

    Attributes
    ----------
    streams : the open event streams; `Streams.wake` after something changed
    metrics : of the gateway
    loop : for `call_soon_threadsafe`, from a thread of the part's own
    failure : what ended a part, once one has failed
    """

    def __init__(
        self,
        streams: Streams,
        metrics: GatewayMetrics,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.streams = streams
        self.metrics = metrics
        self.loop = asyncio.get_running_loop()
        self.failure: BaseException | None = None
        self._on_failure = on_failure

    def fail(self, error: BaseException) -> None:
        """A part ended and can't go on: nobody may serve prices that no longer move. Any thread."""
        if self.failure is None:
            self.failure = error
            log.critical("the gateway fails: %r", error)
            self._on_failure(error)


async def closed(close: Callable[[], None]) -> None:
    """Call ``close`` in a thread of its own, and wait for it for at most `CLOSE_S`.

    What reads Kafka may be waiting for a broker that is away; the process ends without it.
    """
    thread = threading.Thread(target=close, name="close", daemon=True)
    thread.start()
    await asyncio.to_thread(thread.join, CLOSE_S)


class Part:
    """A part of the gateway; what it does not need it leaves as it is here."""

    name = "part"

    def routers(self) -> Sequence[APIRouter]:
        """What it serves."""
        return ()

    def mount(self, app: "FastAPI") -> None:
        """Static files and other applications, below paths of their own."""

    async def start(self, running: Running) -> None:
        """Begin; what takes long goes on in a thread or task of the part's own."""

    async def stop(self) -> None:
        """End, and let go of threads and connections."""

    def alive(self) -> str | None:
        """None, or why a restart is needed. Any thread, at once."""
        return None

    def ready(self) -> str | None:
        """None, or why it can't serve yet. Any thread, at once."""
        return None

    def degraded(self) -> str | None:
        """None, or what is not as it should be, though it serves. Any thread, at once."""
        return None
