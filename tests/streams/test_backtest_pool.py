"""What ends a backtest's processes, and that nothing is left of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli import cli
from tests.streams.spine import ROOT, wait_until
from tests.streams.test_replay_processes import START_S, children_of, is_gone


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop whose folds take long enough to be ended on the way."""
    path = tmp_path_factory.mktemp("shop") / "shop.jsonl"
    options = ["--products", "80", "--days", "120", "--seed", "4", "--out", str(path)]
    assert CliRunner().invoke(cli, ["simulate", *options]).exit_code == 0
    return path


@pytest.mark.parametrize(
    ("number", "leaves"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_backtest_that_is_ended_leaves_no_process(
    shop: Path, tmp_path: Path, number: signal.Signals, leaves: int
) -> None:
    """... and no folder, unless it was killed outright."""
    command = ["backtest", str(shop), "--set", "calm:objective.risk_aversion=0.4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", *command, "--processes", "2"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        wait_until(lambda: len(children_of(process.pid)) >= 2, "its processes", START_S)
        children = children_of(process.pid)
        os.kill(process.pid, number)
        stdout, _ = process.communicate(timeout=60)
        assert (process.returncode, stdout) == (leaves, b"")
        wait_until(lambda: all(map(is_gone, children)), "the children's end")
        kept = [path.name for path in tmp_path.iterdir()]
        assert len(kept) == (1 if number == signal.SIGKILL else 0)
    finally:
        process.kill()
