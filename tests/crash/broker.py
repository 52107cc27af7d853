"""A Kafka broker of one's own, to stop, kill and start again."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "infra/kafka/broker"
JARS = ROOT / "infra/kafka/libs/.complete"
ANSWER_S = 120.0


class Broker:
    """A broker process on a data directory and a port that it keeps over restarts."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.bootstrap = ""

    def start(self) -> None:
        """Start it (on a free port the first time) and wait until it answers."""
        port = [] if self.bootstrap else ["--port", "0"]
        self.bootstrap = self._run("start", *port).strip()

    def stop(self, *, kill: bool = False) -> None:
        """End it by SIGTERM, or by SIGKILL, and wait until it has gone."""
        self._run("stop", *(["--kill"] if kill else []))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(SCRIPT), *arguments, "--data", str(self.data)],
            capture_output=True, text=True, timeout=ANSWER_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"broker {arguments}: {done.returncode}\n{done.stderr}")
        return done.stdout
