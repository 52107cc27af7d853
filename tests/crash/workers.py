"""Worker processes: started, signalled, watched; their logs are kept."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.broker import ROOT

END_S = 90.0  # longer than a stop may take


@dataclass(frozen=True)
class System:
    """What the harness runs: a worker's command, and how it is seen from outside.

    ``sources`` are read by ``group`` and count as work; a worker that logs ``ready`` takes part.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    worker_environment: Mapping[str, Mapping[str, str]]
    ready: str
    group: str
    sources: Sequence[str]
    observed: Sequence[str]


class Process:
    """One worker process."""

    def __init__(self, system: System, worker: str, log: Path) -> None:
        self.worker = worker
        self.log = log
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PRICEMAKER_")}
        environment |= system.environment | system.worker_environment.get(worker, {})
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *system.command, worker],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=ROOT, env=environment,
            )  # fmt: skip

    @property
    def ended(self) -> int | None:
        """The exit code, if it has ended."""
        return self._process.poll()

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(END_S)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(END_S)
