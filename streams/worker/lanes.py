"""A lane: one task that takes everything that waits, in order, and acks it when it is durable."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from streams.worker.transport import App, BatchAbandoned, Chunk

Work = Callable[[Sequence[Chunk]], Awaitable[None]]


class Lane:
    """Chunks waiting for one task, at most one batch of them under way.

    Order inside the lane is the order of ``put``. An exception in the work ends the worker: its
    chunks are not acked, and the next worker reads them again. ``BatchAbandoned`` only drops the
    chunks: the seek after the revocation that it noticed reads them again.

    Parameters
    ----------
    batch_records : a batch ends before the chunk that would exceed it (it has one at least)
    """

    def __init__(self, app: App, name: str, work: Work, *, batch_records: int) -> None:
        self.app = app
        self.name = name
        self.work = work
        self.batch_records = batch_records
        self._queue: deque[Chunk] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk. The queue is bounded by the transport's limit per partition."""
        self._queue.append(chunk)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    async def _run(self) -> None:
        consumer = self.app.chunk_consumer
        try:
            while chunks := self._take():
                async with consumer.batch():
                    with suppress(BatchAbandoned):
                        await self.work(chunks)
                        for chunk in chunks:
                            consumer.done(chunk)
        except BaseException as error:
            self.app.halt(error)
            raise

    def _take(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        records = 0
        while self._queue and not self.app.halted:
            size = len(self._queue[0].records)
            if chunks and records + size > self.batch_records:
                break
            chunk = self._queue.popleft()
            if self.app.chunk_consumer.is_current(chunk):
                chunks.append(chunk)
                records += size
        return chunks
