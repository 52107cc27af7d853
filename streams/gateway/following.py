"""A topic that is followed in a thread, for a view that lives on the event loop.

The thread decodes; the loop's thread alone changes the view. The thread waits until a batch is
shown, so nothing piles up between them.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from schemas.errors import PricemakerError
from schemas.topics import Topic
from streams.edge.follower import Record, TopicFollower
from streams.gateway.parts import Running, closed

Batch = TypeVar("Batch")


class Following:
    """One topic, from `open` to `close`.

    Parameters
    ----------
    decode : makes of records what ``show`` takes; in the thread
    show : changes the view; on the loop
    before : called first, in a thread: what must be known before anything is read. It gives the
        offsets to start from
    hold : waits before a batch is shown while it may not be, after the start; False: the event that
        it is given was set instead
    isolation : see `TopicFollower`
    """

    def __init__(
        self,
        settings: Any,
        topic: Topic,
        name: str,
        decode: Callable[[list[Record]], Batch],
        show: Callable[[Batch], None],
        *,
        before: Callable[[], Mapping[int, int]] = dict,
        hold: Callable[[threading.Event], bool] = lambda ending: True,
        isolation: str = "read_committed",
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._name = name
        self._decode = decode
        self._show = show
        self._before = before
        self._hold = hold
        self._isolation = isolation
        self._follower: TopicFollower | None = None
        self._running: Running | None = None
        self._ending = threading.Event()
        self._opening: threading.Thread | None = None

    def open(self, running: Running) -> None:
        """Begin; returns at once."""
        self._running = running
        self._opening = threading.Thread(target=self._open, name=f"open-{self._name}", daemon=True)
        self._opening.start()

    async def close(self) -> None:
        """End, and wait for the threads, unless they wait for a broker that is away."""
        self._ending.set()
        if self._follower is not None:
            await closed(self._follower.close)

    @property
    def caught_up(self) -> bool:
        """Whether all that was there at the start is shown."""
        return self._follower is not None and self._follower.caught_up.is_set()

    def unready(self) -> str | None:
        """None once caught up, else how far it is."""
        if self.caught_up:
            return None
        return f"{self.topic.name} is not read to its end yet"

    def _open(self) -> None:
        assert self._running is not None
        try:
            starts = self._before()
        except PricemakerError as error:
            self._running.fail(error)
            return
        if self._ending.is_set():
            return
        self._follower = TopicFollower(
            self._settings, self.topic, self._name, self._take, self._running.fail,
            starts=starts, isolation=self._isolation,
        ).start()  # fmt: skip

    def _take(self, records: list[Record]) -> None:
        assert self._running is not None
        if self.caught_up and not self._hold(self._ending):
            return
        batch = self._decode(records)
        shown: Future[None] = Future()
        self._running.loop.call_soon_threadsafe(_run, shown, self._show, batch)
        while not self._ending.is_set():
            try:
                shown.result(timeout=0.5)
                return
            except (TimeoutError, CancelledError):
                continue


def _run(shown: "Future[None]", show: Callable[[Batch], None], batch: Batch) -> None:
    try:
        show(batch)
    except Exception as error:
        shown.set_exception(error)
    else:
        shown.set_result(None)
