"""What the benchmarks share: a broker, a worker process, the machine's identity, result files."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.settings import Settings
from streams.worker.worker import WorkerThread

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BROKER = ROOT / "infra/kafka/broker"
PARTITIONS = 4
READY_S = 180.0
POLL_S = 0.02


def machine(*packages: str) -> dict[str, Any]:
    """Where a figure was measured: CPU, cores, load before the run, Python and package versions."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def write_result(name: str, result: dict[str, Any]) -> None:
    """Print a result and keep it in ``results/<name>.json``."""
    text = json.dumps({"benchmark": name, **result}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


@contextmanager
def broker(bootstrap: str | None) -> Iterator[str]:
    """The address of the broker to measure on: the one named, or one of our own."""
    if bootstrap is not None:
        yield bootstrap
        return
    with tempfile.TemporaryDirectory() as folder:
        started = subprocess.run(
            [BROKER, "start", "--port", "0", "--data", folder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        try:
            yield started.stdout.strip()
        finally:
            subprocess.run([BROKER, "stop", "--data", folder, "--kill"], check=True)


def new_prefix() -> str:
    """A topic prefix that no other run has."""
    return f"bench-{uuid.uuid4().hex[:8]}-"


def settings(bootstrap: str, prefix: str, cache: Path, worker: str = "bench") -> Settings:
    """A worker's settings; everything not said here is the default."""
    return Settings(
        kafka={"bootstrap": bootstrap, "session_timeout_s": 6.0},
        topics={"prefix": prefix},
        worker={"id": worker, "partitions": PARTITIONS, "log_level": "info"},
        engine={"compilation_cache_dir": cache},
    )


class WorkerProcess:
    """``pricemaker worker`` in a process of its own."""

    def __init__(self, chosen: Settings, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "PRICEMAKER_KAFKA__BOOTSTRAP": chosen.kafka.bootstrap,
            "PRICEMAKER_KAFKA__SESSION_TIMEOUT_S": str(chosen.kafka.session_timeout_s),
            "PRICEMAKER_TOPICS__PREFIX": chosen.topics.prefix,
            "PRICEMAKER_ENGINE__COMPILATION_CACHE_DIR": str(chosen.engine.compilation_cache_dir),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams", "worker", "--id", chosen.worker.id],
                stdout=output, stderr=output, cwd=ROOT, env=environment,
            )  # fmt: skip

    def until_ready(self) -> None:
        """Wait until it takes part."""
        deadline = time.monotonic() + READY_S
        while "is ready" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the worker did not start:\n{self.log.read_text()}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def until_started(thread: WorkerThread) -> None:
    """Wait until a worker in this process takes part, or give up with its error."""
    deadline = time.monotonic() + READY_S
    while not thread.worker.ready.wait(POLL_S):
        if thread.worker.error is not None or time.monotonic() > deadline:
            raise SystemExit(f"the worker did not start: {thread.worker.error!r}")


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """Mean, p50 and p99 of durations, in milliseconds."""
    ordered = sorted(seconds)
    at = [ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in (0.5, 0.99)]
    mean = sum(ordered) / len(ordered)
    return {"mean_ms": _ms(mean), "p50_ms": _ms(at[0]), "p99_ms": _ms(at[1])}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
