"""Lanes of a replay in processes of their own, each on one core.

The parent starts them, passes orders on and gathers what they report, over one pipe each. A child
whose parent is gone reads the end of its pipe and leaves; interrupts are the parent's alone.
"""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context
from typing import Any

from schemas.errors import PricemakerError, ServiceError
from streams.replay.checkpoints import Section
from streams.replay.replay_conductor import Conductor
from streams.replay.replay_lane import Job, Lane, LaneResult, Order

LOOK_S = 0.2
END_S = 5.0


class ProcessFailed(Exception):
    """A replay process met a bug; the text has its stack."""


class _Child:
    """A lane's control in its process."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def ready(self, engine: str) -> None:
        self._pipe.send(("ready", engine))
        self._pipe.recv()

    def report(self, records: int, share: float) -> Order:
        self._pipe.send(("at", (records, share)))
        order: Order = self._pipe.recv() if self._pipe.poll() else "go"
        return order

    def save(self, sections: list[Section]) -> None:
        self._pipe.send(("part", sections))


def _run_lane(job: Job, pipe: Any) -> None:
    try:
        found: tuple[str, Any] = ("done", Lane(job, _Child(pipe)).run())
    except (EOFError, ConnectionError):
        return  # the parent is gone
    except PricemakerError as error:
        found = ("error", error)
    except Exception:
        found = ("bug", traceback.format_exc())
    pipe.send(found)
    pipe.close()


class _Processes:
    """The running lanes, as their parent sees them."""

    def __init__(self, jobs: Sequence[Job], conductor: Conductor) -> None:
        self._conductor = conductor
        self._pipes: dict[int, Any] = {}
        self._processes: list[Any] = []
        self._waiting: set[int] = set()  # lanes that are not ready yet
        self.results: dict[int, LaneResult] = {}
        context = get_context("spawn")  # JAX has threads, which a fork would not take along
        cpus = _cpus()
        for number, job in enumerate(jobs):
            mine, theirs = context.Pipe()
            process = context.Process(target=_run_lane, args=(job, theirs), daemon=True)
            with _interrupts_ignored():
                process.start()
            theirs.close()
            if cpus and process.pid is not None:
                os.sched_setaffinity(process.pid, {cpus[number % len(cpus)]})
            self._pipes[number] = mine
            self._processes.append(process)
            self._waiting.add(number)

    def look(self) -> None:
        """Wait a moment for what the lanes report, and see to it."""
        numbers = {pipe: number for number, pipe in self._pipes.items()}
        for pipe in connection.wait(list(numbers), LOOK_S):
            number = numbers[pipe]
            try:
                kind, found = pipe.recv()
            except (EOFError, ConnectionError):
                raise self._ended(number) from None
            self._heed(number, kind, found)
        if not self._waiting and self._conductor.is_due():
            self._conductor.ask(set(self._pipes))
            self._order("save")

    def _heed(self, number: int, kind: str, found: Any) -> None:
        if kind == "at":
            self._conductor.note(number, *found)
        elif kind == "part":
            self._conductor.take(number, found)
        elif kind == "ready":
            self._conductor.ready(found)
            self._waiting.discard(number)
            if not self._waiting:
                self._order("go")
        elif kind == "done":
            self._pipes.pop(number).close()
            self._conductor.note(number, found.records, 1.0)
            self.results[number] = found
            self._conductor.take(number, found.sections)
        elif kind == "error":
            raise found
        else:
            raise ProcessFailed(found)

    @property
    def is_ready(self) -> bool:
        """Whether all kernels are warm."""
        return not self._waiting

    @property
    def is_done(self) -> bool:
        """Whether every lane has ended."""
        return not self._pipes

    def stop(self) -> None:
        """Let every lane end where it is."""
        self._order("stop")

    def _order(self, order: Order) -> None:
        for number, pipe in list(self._pipes.items()):
            try:
                pipe.send(order)
            except (BrokenPipeError, ConnectionError):
                raise self._ended(number) from None

    def end(self) -> None:
        """However they stand: no process outlives the replay."""
        for pipe in self._pipes.values():
            pipe.close()
        for process in self._processes:
            process.join(END_S if process.exitcode is None and self.is_done else 0)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _ended(self, number: int) -> ServiceError:
        process = self._processes[number]
        process.join(END_S)
        return ServiceError(
            "process_ended",
            f"a replay process ended by itself (exit code {process.exitcode}).",
            fix="See whether memory ran out: each process holds its partitions' state.",
        )


def fold_in_processes(
    jobs: Sequence[Job], conductor: Conductor, is_stopped: Callable[[], bool]
) -> tuple[list[LaneResult], float]:
    """Run each job in a process of its own.

    Returns
    -------
    Their results, and the time (`time.perf_counter`) at which all were ready.

    Raises
    ------
    PricemakerError : what a lane raised, as it was
    ServiceError : a process was killed
    ProcessFailed : a lane met a bug
    """
    running = _Processes(jobs, conductor)
    ready_s, stopping = time.perf_counter(), False
    try:
        while not running.is_done:
            if not running.is_ready:
                ready_s = time.perf_counter()
            running.look()
            if is_stopped() and running.is_ready and not stopping:
                stopping = True
                running.stop()
    finally:
        running.end()
    return [running.results[number] for number in range(len(jobs))], ready_s


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started meanwhile ignores interrupts: its parent ends it."""
    try:
        before = {
            one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread, which alone gets interrupts
        yield
        return
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _cpus() -> list[int]:
    """The cores that may be used; none where the system can't pin a process."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
