"""The compiled kernels of the gateway: made in the background, used by one thread at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from streams.gateway.parts import Part, Running
from streams.gateway.refusals import Refusal

WAITING_MAX = 64

Answer = TypeVar("Answer")


class Reckoner(Part):
    """Answers what needs the kernels.

    Parameters
    ----------
    make : makes the kernels; called once, in the thread that uses them
    """

    name = "kernels"

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1, "kernels")
        self._kernel: Future[Any] | None = None
        self._waiting = 0

    async def start(self, running: Running) -> None:
        """Begin to compile."""
        self._kernel = self._pool.submit(self._make)

    async def stop(self) -> None:
        """Let what runs end."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def degraded(self) -> str | None:
        """Whether the kernels can't be made; everything else works without them."""
        if self._kernel is None or not self._kernel.done() or self._kernel.exception() is None:
            return None
        return f"{self._kernel.exception()}"

    async def reckon(self, question: Callable[[Any], Answer]) -> Answer:
        """What ``question`` says to the kernels.

        Raises
        ------
        Refusal : 503, too many wait
        """
        assert self._kernel is not None
        if self._waiting >= WAITING_MAX:
            raise Refusal(
                503, "busy", f"{self._waiting} questions wait for the kernels.",
                headers={"Retry-After": "1"}, fix="Ask again in a moment.",
            )  # fmt: skip
        self._waiting += 1
        try:
            kernel = self._kernel
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: question(kernel.result())
            )
        finally:
            self._waiting -= 1
