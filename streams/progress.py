"""Progress bars for commands that read or make a lot."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.output import Output


@contextmanager
def progress_bar(output: Output, title: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr, only on a terminal; yields what moves it (a share, 0 to 1)."""
    if not output.shows_progress:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)


@contextmanager
def rate_bar(output: Output, title: str) -> Iterator[Callable[[int, float], None]]:
    """A progress bar with the rate; yields what moves it (records so far, share from 0 to 1)."""
    if not output.shows_progress:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    rate = TextColumn("{task.fields[records]:,} records  {task.fields[rate]:,.0f}/s")
    left = TimeRemainingColumn()
    started = time.monotonic()
    with Progress(*columns, rate, left, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=1.0, records=0, rate=0.0)

        def move(records: int, share: float) -> None:
            seconds = max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=share, records=records, rate=records / seconds)

        yield move
