"""Server-sent events for many clients: what is sent is made once, and nobody has a queue.

A stream keeps its place alone. When it can send again it asks its source what changed since, where
each subject (a price, a row of the desk) is once, with its last state: so a slow client skips what
was overtaken and costs no memory, however slow. One that takes nothing for ``stream_blocked_s`` is
cut off; it comes back with ``Last-Event-ID`` and goes on where it was.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError

from streams.gateway.gateway_metrics import GatewayMetrics
from streams.gateway.refusals import Refusal

log = logging.getLogger(__name__)

CHUNK_EVENTS_MAX = 500
HEARTBEAT_S = 15.0
SENDS_PER_SECOND = 10_000.0  # of all streams together: each pauses between two of its sends
GRACE_S = 4.0  # to end by itself when the process is told to end; the server waits 5 s
RETRY = b"retry: 2000\n\n"
CLOSING = b": the gateway ends\n\n"
ABORT = "abort"  # in the request's state: drops its connection, whatever waits to be sent

Place = TypeVar("Place")


class Chunk(NamedTuple, Generic[Place]):
    """Frames to send, and where a stream stands behind them."""

    frames: bytes
    place: Place


class Source(Protocol[Place]):
    """What changes, and can tell what changed since a place."""

    def since(self, place: Place) -> Chunk[Place]:
        """At most `CHUNK_EVENTS_MAX` events; no frames where there is nothing new."""


def frame(event: str, body: bytes, place: str) -> bytes:
    """One event; ``body`` is one line, as JSON is."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), place.encode(), body)


class Streams:
    """The open streams of a gateway, woken together; for the event loop's thread alone."""

    def __init__(
        self, streams_max: int, blocked_s: float, metrics: GatewayMetrics | None = None
    ) -> None:
        self.open = 0
        self.cut_off = 0
        self._metrics = metrics or GatewayMetrics()
        self._streams_max = streams_max
        self._blocked_s = blocked_s
        self._changed = asyncio.Event()
        self._ended = False

    def wake(self) -> None:
        """Something changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """End all streams with a comment; the server can then close."""
        self._ended = True
        self.wake()

    def answer(self, source: Source[Place], place: Place, first: bytes = b"") -> "Answer":
        """The response that streams a source from a place on, after the frames ``first``.

        Raises
        ------
        Refusal : 503, as many streams are open as may be
        """
        if self.open >= self._streams_max:
            raise Refusal(
                503, "too_many_streams", f"{self.open} streams are open, as many as may be.",
                headers={"Retry-After": "10"},
                fix="Try again later, poll /v1/feed.json, or raise gateway.streams_max.",
            )  # fmt: skip
        return Answer(self, self._frames(source, place, first), self._blocked_s)

    def opened(self) -> None:
        """A stream began."""
        self.open += 1
        self._metrics.streams.set(self.open)

    def closed(self, *, cut_off: bool) -> None:
        """A stream ended."""
        self.open -= 1
        self._metrics.streams.set(self.open)
        if cut_off:
            self.cut_off += 1
            self._metrics.cut_off.inc()

    async def _frames(
        self, source: Source[Place], place: Place, first: bytes
    ) -> AsyncIterator[bytes]:
        yield RETRY + first
        while not self._ended:
            changed = self._changed
            frames, place = source.since(place)
            if frames:
                yield frames
                await asyncio.sleep(self.open / SENDS_PER_SECOND)
            else:
                await changed.wait()
        yield CLOSING


class Answer(EventSourceResponse):
    """A stream that counts itself, and whose reader must take something now and then."""

    def __init__(self, streams: Streams, frames: AsyncIterator[bytes], blocked_s: float) -> None:
        super().__init__(
            frames, ping=HEARTBEAT_S, send_timeout=blocked_s, sep="\n",
            shutdown_grace_period=GRACE_S,
        )  # fmt: skip
        self._streams = streams

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Stream until the reader goes away, is cut off, or the gateway ends."""
        self._streams.opened()
        cut_off = False
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            cut_off = True
            log.warning("an event stream's reader took nothing for too long and was cut off")
            # A close would wait for the reader to take what is buffered.
            scope.get("state", {}).get(ABORT, _nothing)()
            await asyncio.sleep(0)  # the server learns that the connection is lost
        finally:
            self._streams.closed(cut_off=cut_off)


def _nothing() -> None:
    """There is no connection: the request came from a test."""
