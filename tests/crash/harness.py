"""Runs a script of events and faults against real workers on a real broker.

Events and faults stand in one list. A fault that belongs to a feed strikes while that feed is
being worked on: when a share of it, drawn from the seed, has been taken in.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from confluent_kafka import Producer

from tests.crash.broker import Broker
from tests.crash.evidence import Sample
from tests.crash.feed import Item
from tests.crash.observer import Observer
from tests.crash.workers import Process, System

POLL_S = 0.05
WAIT_S = 120.0
FAULT_SHARE = (0.05, 0.5)  # of a feed taken in when its fault strikes


@dataclass(frozen=True)
class Start:
    """Start a worker and wait until it takes part."""

    worker: str


@dataclass(frozen=True)
class Join:
    """Start a worker; half of the feed goes before it, half at the moment it enters the group."""

    worker: str


@dataclass(frozen=True)
class Sigterm:
    """Stop a worker; it must end with exit code 0."""

    worker: str


@dataclass(frozen=True)
class Sigkill:
    """Kill a worker."""

    worker: str


@dataclass(frozen=True)
class RestartBroker:
    """End the broker and start it again; workers must live through it."""

    kill: bool


@dataclass(frozen=True)
class Feed:
    """Send so many events at full speed; the fault strikes while they are worked on."""

    records: int
    fault: Join | Sigterm | Sigkill | RestartBroker | None = None


Step = Start | Feed | Sigterm


@dataclass
class Report:
    """What happened, for people and for assertions."""

    seed: int
    backlog_at_fault: list[tuple[str, int]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0


class Harness:
    """One run: a system, a broker, a feed, a script."""

    def __init__(self, system: System, broker: Broker, observer: Observer, folder: Path) -> None:
        self.system = system
        self.broker = broker
        self.observer = observer
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.logs: list[Path] = []
        self._taken_in = 0
        self._failed: list[str] = []

    # -- the script

    def run(self, script: list[Step], items: list[Item], seed: int) -> Report:
        """Play the script; afterwards everything sent has been worked on and all workers ended."""
        report = Report(seed)
        print(f"crash script with seed {seed}")
        chance = random.Random(seed)
        started = time.monotonic()
        rest = iter(items)
        with self._ended_after():
            for step in script:
                if isinstance(step, Feed):
                    part = list(islice(rest, step.records))
                    self._feed(step, part, chance.uniform(*FAULT_SHARE), report)
                elif isinstance(step, Start):
                    self._until_ready(self._start(step.worker))
                else:
                    self._strike(step, report)
            assert next(rest, None) is None, "the script leaves events unsent"
            self._until(lambda: self._no_lag(report), "lag to return to 0", report)
            for worker in list(self.processes):
                self._strike(Sigterm(worker), report)
        report.seconds = time.monotonic() - started
        return report

    def _feed(self, step: Feed, part: list[Item], share: float, report: Report) -> None:
        if isinstance(step.fault, Join):
            self._join(step.fault, part, report)
            return
        before = self._done(report)
        self._send(part)
        if step.fault is None:
            return
        struck_at = before + share * len(part)
        self._until(lambda: self._done(report) >= struck_at, f"{struck_at:.0f} records", report)
        self._strike(step.fault, report)

    def _join(self, fault: Join, part: list[Item], report: Report) -> None:
        half = len(part) // 2
        members = sum(process.ended is None for process in self.processes.values())
        process = self._start(fault.worker)
        self._until(lambda: self._joining(members), f"{fault.worker} to join", report)
        self._send(part[:half])
        report.backlog_at_fault.append((f"join {fault.worker}", self._backlog(report)))
        self._send(part[half:])
        self._until_ready(process)

    def _joining(self, members: int) -> bool:
        group = self.observer.group()
        return group is not None and (group.members > members or not group.stable)

    def _strike(self, fault: Sigterm | Sigkill | RestartBroker, report: Report) -> None:
        report.backlog_at_fault.append((str(fault), self._backlog(report)))
        if isinstance(fault, RestartBroker):
            self.broker.stop(kill=fault.kill)
            self.broker.start()
            return
        process = self.processes.pop(fault.worker)
        if isinstance(fault, Sigkill):
            process.kill()
            return
        code = process.terminate()
        assert code == 0, f"{fault.worker} ended with {code}:\n{process.text()[-4000:]}"

    # -- workers

    def _start(self, worker: str) -> Process:
        log = self.folder / f"{worker}-{len(self.logs)}.log"
        self.logs.append(log)
        self.processes[worker] = Process(self.system, worker, log)
        return self.processes[worker]

    def _until_ready(self, process: Process) -> None:
        self._until(lambda: self.system.ready in process.text(), f"{process.worker} to be ready")

    @contextmanager
    def _ended_after(self) -> Iterator[None]:
        try:
            yield
        finally:
            for process in self.processes.values():
                process.kill()

    # -- waiting and looking

    def _until(self, reached: Callable[[], bool], what: str, report: Report | None = None) -> None:
        """Wait for a condition. A worker that ends by itself, or the time limit, is a failure."""
        deadline = time.monotonic() + WAIT_S
        while not reached():
            for worker, process in self.processes.items():
                if process.ended is not None:
                    raise AssertionError(
                        f"{worker} ended with {process.ended}:\n{process.text()[-4000:]}"
                    )
            if time.monotonic() > deadline:
                logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in self.logs)
                raise AssertionError(f"waited {WAIT_S:.0f} s for {what}\n{logs}")
            time.sleep(POLL_S)

    def _look(self, report: Report) -> Sample | None:
        sample = self.observer.sample()
        if sample is not None:
            report.samples.append(sample)
        return sample

    def _done(self, report: Report) -> int:
        sample = self._look(report)
        if sample is not None:
            sources = set(self.system.sources)
            done = (n for place, n in sample.committed.items() if place[0] in sources)
            self._taken_in = max(self._taken_in, sum(done))
        return self._taken_in

    def _backlog(self, report: Report) -> int:
        """Records that are sent or on the tape and not yet committed."""
        sample = self._look(report)
        return 0 if sample is None else sum(self._behind(sample).values())

    def _behind(self, sample: Sample) -> dict[tuple[str, int], int]:
        read = {*self.system.sources, "tape"}
        return {
            place: end - sample.committed.get(place, 0)
            for place, end in sample.ends.items()
            if place[0] in read
        }

    def _no_lag(self, report: Report) -> bool:
        sample = self._look(report)
        return sample is not None and not any(self._behind(sample).values())

    # -- sending

    def _send(self, items: list[Item]) -> None:
        """Send like other systems do: idempotent, Java's partitioner, all confirmed at the end."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.max.bytes": 4 << 20,
                "log_level": 2,
            }
        )
        for item in items:
            if item.listing:
                self._confirm(producer)
            options = {"partition": 0} if item.key is None else {}
            producer.produce(
                self.observer.prefix + item.topic,
                key=item.key,
                value=item.value,
                on_delivery=self._delivered,
                **options,
            )
            producer.poll(0)
            if item.listing:
                self._confirm(producer)
        self._confirm(producer)

    def _confirm(self, producer: Producer) -> None:
        left = producer.flush(WAIT_S)
        assert not left, f"{left} events were not delivered"
        assert not self._failed, self._failed

    def _delivered(self, error: object, message: object) -> None:
        if error is not None:
            self._failed.append(str(error))
