"""The processes of a backtest: warm, and gone when it ends, however it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from streams.backtest import backtest_jobs


@contextmanager
def pool_of(processes: int, cache_dir: Path | None) -> Iterator[ProcessPoolExecutor]:
    """Processes that are warm and take one job after the other; they end with the block.

    Each watches the end of a pipe that this process holds. It closes when the block fails, and when
    this process is killed; what a process was about is then left at once.
    """
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(cache_dir, watched)
    )
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        watched.close()


def _begin(cache_dir: Path | None, watched: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this process
    threading.Thread(target=_leave_with_parent, args=(watched,), daemon=True).start()
    backtest_jobs.start(cache_dir)


def _leave_with_parent(watched: Connection) -> None:
    try:
        watched.recv()
    except (EOFError, OSError):
        os._exit(1)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does; only the main thread is told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
