"""Running a worker: its parts, its event loop, its end.

A worker ends in one of two ways. A stop (SIGTERM, SIGINT, ``Worker.stop``) lets batches end,
commits, leaves the group and returns 0. A *halt* is the answer to any surprise: the process logs
the error and ends at once, so that nothing is acked that is not durable; the next worker goes on
from the last commit. Exit codes are those of ``schemas.errors``: 1 a bug (also a broken limit at
the outbox's gate), 2 topics or configuration wrong, 3 state, tape or source do not fit, 4 the
broker is away, or another worker took a partition over.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any

import uvloop

from schemas.errors import ConfigError, PricemakerError, ServiceError
from schemas.topics import SOURCES
from streams.kafka import admin
from streams.kafka.kafka_settings import COMMIT_DEADLINE_S
from streams.metrics.worker import WorkerMetrics
from streams.tracing import Tracing
from streams.worker.app import build_app, take_over_deadline_s
from streams.worker.intake import Intake
from streams.worker.kill_switch import KillSwitch
from streams.worker.monitor import Monitor
from streams.worker.outbox import Gate, IntakeOutbox, let_pass
from streams.worker.pricer import Pricer
from streams.worker.recovery import EngineFactory, Recovery
from streams.worker.routes import RouteTable
from streams.worker.transport import App
from streams.worker.worker_progress import WorkerProgress

log = logging.getLogger(__name__)

# A stop that takes longer than a commit may (the broker is away) becomes a halt; what was not acked
# is read again.
STOP_DEADLINE_S = COMMIT_DEADLINE_S + 10.0
EXIT_BUG = 1


def exit_code(error: BaseException) -> int:
    """The exit code of what ended a worker."""
    return error.exit_code if isinstance(error, PricemakerError) else EXIT_BUG


def end_process(error: BaseException) -> None:
    """End the process now, past every handler that would ack or commit."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(exit_code(error))


class Worker:
    """One worker, on an event loop of its own.

    Parameters
    ----------
    settings : the loaded configuration
    engine_factory : makes the pricer's engines; not needed for the role ``intake``
    gate : the last check of every output before it leaves; raises ``GateBreach``
    on_halt : called once, from any thread, with what ended the worker. The default ends the
        process; a caller with more than a worker in its process gives its own, and must then
        make sure itself that it notices.
    embedded : the broker is an ``EmbeddedBroker``
    metrics : where to count; a registry of its own that nobody sees without
    tracing : where to send spans; without it there are none
    """

    def __init__(
        self,
        settings: Any,
        engine_factory: EngineFactory | None = None,
        *,
        gate: Gate = let_pass,
        on_halt: Callable[[BaseException], None] = end_process,
        embedded: bool = False,
        metrics: WorkerMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.settings = settings
        self.engine_factory = engine_factory
        self.gate = gate
        self.embedded = embedded
        self.metrics = metrics or WorkerMetrics()
        self.tracing = tracing
        self.progress = WorkerProgress(settings)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self._on_halt = on_halt
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._executors: list[ThreadPoolExecutor] = []
        self._parts: list[Intake | Pricer | Monitor] = []

    # -- from any thread

    def not_ready(self) -> str | None:
        """What is still to come before this worker does its share, in words; None when it does."""
        if not self.ready.is_set():
            return "the worker starts"
        if self.progress.assigned() is None:
            return "partitions are being taken over"
        return None

    def stop(self) -> None:
        """Ask for a graceful end."""
        self._ending.set()
        if self._loop is not None and self._wake is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended already
                self._loop.call_soon_threadsafe(self._wake.set)

    def halt(self, error: BaseException) -> None:
        """End at once because of an error."""
        if self.error is None:
            self.error = error
            log.critical(
                "worker %s halts: %s",
                self.settings.worker.id,
                error if isinstance(error, PricemakerError) else repr(error),
                exc_info=None if isinstance(error, PricemakerError) else error,
            )
            self.progress.fail(error)
            self._on_halt(error)
            self.stop()

    # -- the worker's own thread

    def run(self) -> int:
        """Run until stopped; blocks. Returns the exit code (0 after a stop).

        Raises
        ------
        ConfigError, ServiceError, InputError : before the start, nothing has been read yet
        """
        partitions = self._check_topics()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._main(partitions))
            finally:
                self._let_go()
        return 0 if self.error is None else exit_code(self.error)

    def _let_go(self) -> None:
        """Free threads and connections; after a halt nobody waits for them."""
        for executor in self._executors:
            executor.shutdown(wait=self.error is None, cancel_futures=True)
        if self.error is None:
            for part in self._parts:
                part.close()
        self.progress.close()

    def _check_topics(self) -> int:
        findings = admin.check_topics(self.settings, embedded=self.embedded)
        wrong = [finding for finding in findings if finding.problem is not None]
        if wrong:
            raise ConfigError(
                "topics_wrong",
                "; ".join(f"{finding.topic} {finding.problem}" for finding in wrong) + ".",
                where="topics",
                fix=wrong[0].fix,
            )
        return admin.tape_partitions(self.settings)

    async def _main(self, partitions: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        if self._ending.is_set():
            return
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self.stop)
        app = await self._build(partitions)
        starting = asyncio.create_task(self._start(app))
        await self._wake.wait()
        await self._end(app, starting)

    async def _build(self, partitions: int) -> App:
        role = self.settings.worker.role
        intake = await self._intake(partitions) if role in ("all", "intake") else None
        pricer = self._pricer(partitions) if role in ("all", "pricer") else None
        # The demo looks by itself, between its steps: its decisions must not depend on when.
        watches = intake is not None and not self.embedded
        monitor = Monitor(self.settings, self.halt) if watches else None
        self._parts = [part for part in (intake, pricer, monitor) if part is not None]
        return build_app(
            self.settings, intake=intake, pricer=pricer, monitor=monitor,
            progress=self.progress, halt=self.halt,
        )  # fmt: skip

    async def _intake(self, partitions: int) -> Intake:
        # Every source's lane may wait in one thread for routes, and sends need one meanwhile.
        executor = self._executor("intake", 2 * len(SOURCES))
        routes = RouteTable(self.settings, self.halt)
        await asyncio.get_running_loop().run_in_executor(executor, routes.start)
        routes.check_partitions(partitions)
        return Intake(
            routes=routes,
            outbox=IntakeOutbox(self.settings),
            executor=executor,
            tape_partitions=partitions,
            propose_ticks=self.settings.worker.ticks == "sources",
            metrics=self.metrics,
            tracing=self.tracing,
        )

    def _pricer(self, partitions: int) -> Pricer:
        if self.engine_factory is None:
            raise ConfigError("no_engine", "this role needs an engine.", field="worker.role")
        recovery = Recovery(
            self.settings,
            self.engine_factory,
            self.gate,
            deadline_s=take_over_deadline_s(self.settings),
            metrics=self.metrics,
        )
        switch = KillSwitch(self.settings, self.halt)
        executor = self._executor("pricer", partitions)
        return Pricer(recovery, executor, switch, self.metrics, self.tracing)

    def _executor(self, name: str, threads: int) -> ThreadPoolExecutor:
        executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._executors.append(executor)
        return executor

    async def _start(self, app: App) -> None:
        try:
            await app.start()
        except Exception as error:
            self.halt(error)
            return
        log.info("worker %s is ready", self.settings.worker.id)
        self.ready.set()

    async def _end(self, app: App, starting: "asyncio.Task[None]") -> None:
        log.info("worker %s stops", self.settings.worker.id)
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await app.stop()
        except TimeoutError:
            self.halt(
                ServiceError(
                    "stop_too_slow",
                    f"the last batch was not committed within {STOP_DEADLINE_S:.0f} s.",
                    fix="Nothing is lost: it runs again. Check the broker.",
                )
            )
        starting.cancel()
        await asyncio.wait([starting])


class WorkerThread:
    """A worker in a thread of its own, as a context manager: for the demo and for tests.

    An error that ended the worker is raised by ``progress``'s waits, and at the end of the block.
    """

    def __init__(self, settings: Any, engine_factory: EngineFactory | None, **options: Any) -> None:
        self.worker = Worker(settings, engine_factory, on_halt=self._halted, **options)
        self.progress = self.worker.progress
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def __enter__(self) -> "WorkerThread":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None and self.worker.error is not None:
            raise self.worker.error

    def stop(self) -> None:
        """Stop the worker and wait for its end."""
        self.worker.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.worker.error = error
            self.progress.fail(error)

    def _halted(self, error: BaseException) -> None:
        """The waits of ``progress`` raise it."""


def run_worker(settings: Any, engine_factory: EngineFactory | None = None, **options: Any) -> int:
    """Run a worker in this process until SIGTERM or SIGINT; options as for ``Worker``.

    Returns
    -------
    0 after a graceful stop. A halt ends the process with the error's exit code.
    """
    return Worker(settings, engine_factory, **options).run()
