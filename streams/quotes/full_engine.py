"""L3 in a thread of its own: concurrent quotes share the kernel's padded tile."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from models.kernel.tile import Kernel
from models.quotes import warm
from models.quotes.full import Answer, Wanted, answers
from models.quotes.standing import InForce, unknown_sku
from models.quotes.warm import Kept
from schemas.errors import ServiceError
from schemas.quotes import QuoteRequest
from streams.quotes.replica import Replica

log = logging.getLogger(__name__)

WINDOW_S = 0.001  # how long the first quote of a batch waits for others
BATCH_MAX = 32  # quotes: at most 4 rows each without a family's, so half a tile of 256
QUEUE_MAX = 512

InForceOf = Callable[[str], InForce | None]
OnWarm = Callable[[Kept], None]


class Job(NamedTuple):
    """A quote that waits, and whether its product is to be kept warm."""

    request: QuoteRequest
    keep_warm: bool
    answer: "Future[Answer]"


class FullEngine:
    """Answers quotes with the fold's own functions on the replica.

    Parameters
    ----------
    in_force : the effective price of a SKU, as shops see it
    on_warm : given the products that are to be kept warm, from the thread
    """

    def __init__(
        self, kernel: Kernel, replica: Replica, in_force: InForceOf, on_warm: OnWarm | None = None
    ) -> None:
        self._kernel, self._replica = kernel, replica
        self._in_force, self._on_warm = in_force, on_warm
        self._jobs: queue.Queue[Job | None] = queue.Queue(QUEUE_MAX)
        self._thread = threading.Thread(target=self._run, name="quotes-full", daemon=True)

    def start(self) -> "FullEngine":
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def ask(self, request: QuoteRequest, *, keep_warm: bool = False) -> "Future[Answer]":
        """Put a quote into the queue.

        Raises
        ------
        ServiceError : the queue is full
        """
        answer: Future[Answer] = Future()
        try:
            self._jobs.put_nowait(Job(request, keep_warm, answer))
        except queue.Full:
            raise ServiceError(
                "overloaded", f"{QUEUE_MAX} quotes wait already.", fix="Ask again in a second."
            ) from None
        return answer

    def _run(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            jobs, ends = self._batch(first)
            running = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            try:
                self._answer(running)
            except Exception as error:  # of a batch; the thread must live for the next
                log.exception("a batch of quotes failed")
                for job in running:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            if ends:
                return

    def _batch(self, first: Job) -> tuple[list[Job], bool]:
        """What comes within the window; True where the end has come, too."""
        jobs, deadline = [first], time.monotonic() + WINDOW_S
        while len(jobs) < BATCH_MAX:
            try:
                found = self._jobs.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                break
            if found is None:
                return jobs, True
            jobs.append(found)
        return jobs, False

    def _answer(self, jobs: Sequence[Job]) -> None:
        with self._replica.lock:
            wanted = [self._wanted(job.request) for job in jobs]
            known = [one for one in wanted if one is not None]
            found = iter(answers(self._kernel, known))
        for job, one in zip(jobs, wanted, strict=True):
            job.answer.set_result(unknown_sku(job.request.sku) if one is None else next(found))
        self._warm([one for job, one in zip(jobs, wanted, strict=True) if one and job.keep_warm])

    def _wanted(self, request: QuoteRequest) -> Wanted | None:
        state = self._replica.state_of(request.sku)
        if state is None:
            return None
        return Wanted(state, request, self._in_force(request.sku))

    def _warm(self, wanted: list[Wanted]) -> None:
        """What L2 needs of the products, after the answers are out."""
        if self._on_warm is None or not wanted:
            return
        once = {one.request.sku: one for one in wanted}
        with self._replica.lock:
            found = warm.products(self._kernel, list(once.values()))
        for product in found:
            self._on_warm(product)
