"""A replay's processes: what ends them, and that nothing is left of them or lost by it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.errors import EngineError
from streams.replay import replay_processes
from streams.replay.replay_conductor import Conductor, Every
from streams.replay.replay_lane import Job
from streams.replay.replay_processes import ProcessFailed, fold_in_processes
from streams.settings import Settings
from streams.tape.tape_selection import SourceSpec
from tests.streams.spine import ROOT, wait_until
from tests.streams.test_replay import HASHES, PARTITIONS, Files, fails, files, run

__all__ = ["files"]  # the fixture

START_S = 240.0  # for a busy machine; an idle one takes 5
SLOWLY = ["--speed", "2000"]  # 15 days of event time in 11 minutes: it is ended long before


@contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """``pricemaker replay`` in a process of its own."""
    command = [sys.executable, "-m", "streams", "replay", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children_of(pid: int) -> list[int]:
    """Its child processes by number."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in found.split()]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def folded_by(checkpoint: Path) -> int:
    """Tape records below a checkpoint; 0 where there is none yet."""
    if not checkpoint.exists():
        return 0
    head = json.loads(checkpoint.read_bytes().splitlines()[0])
    return sum(place["position"] + 1 for place in head["places"])


@pytest.mark.parametrize("processes", ["1", "2"])
def test_killed_outright_it_goes_on_from_the_last_checkpoint(files: Files, processes: str) -> None:
    out = files.folder / f"shot-{processes}.jsonl"
    saved = files.folder / f"shot-state-{processes}.jsonl"
    options = ["--out", out, "--checkpoint", saved, "--checkpoint-every", "100"]
    with running(files.tape, "--processes", processes, *options, *SLOWLY) as process:
        wait_until(lambda: folded_by(saved) > 100, "a checkpoint on the way", START_S)
        children = children_of(process.pid)
        assert len(children) >= (2 if processes == "2" else 0)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: all(map(is_gone, children)), "the children's end")
    assert not out.exists()
    document = run(files.tape, *options, "--from-checkpoint", saved)
    assert document["records"] < files.document["records"] - 100
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    assert out.read_bytes() == files.decisions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_and_ends_all_its_processes(
    files: Files, number: signal.Signals
) -> None:
    out, saved = files.folder / f"{number}.jsonl", files.folder / f"{number}-state.jsonl"
    options = ["--out", out, "--checkpoint", saved, "--processes", "2"]
    every = ["--checkpoint-every", "1s"]
    with running(files.tape, *options, *every, *SLOWLY) as process:
        wait_until(saved.exists, "a checkpoint on the way", START_S)
        before = folded_by(saved)
        children = children_of(process.pid)
        os.kill(process.pid, number)
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stdout, stderr) == (130, b"", b"")
        wait_until(lambda: all(map(is_gone, children)), "the children's end")
    assert before <= folded_by(saved) < files.document["records"]
    document = run(files.tape, *options, "--from-checkpoint", saved)
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    assert out.read_bytes() == files.decisions


def test_an_error_of_a_process_is_the_replays(files: Files) -> None:
    lines = files.tape.read_bytes().splitlines(keepends=True)
    path = files.folder / "gap-in-two.jsonl"
    path.write_bytes(b"".join(lines[:6] + lines[40:]))
    for processes in ("1", "2"):
        code, error = fails(path, "--processes", processes)
        assert (code, error["code"]) == (3, "tape_jump")
        assert error["where"].startswith(f"{path}:")


def job(source: Path) -> list[Job]:
    spec = SourceSpec(source=str(source), partitions=PARTITIONS)
    return [Job(spec, Settings(), PARTITIONS, only, 1000) for only in ((0, 2), (1, 3))]


def conductor() -> Conductor:
    return Conductor(2, PARTITIONS, None, Every(), lambda *_: None)


def test_a_process_that_is_killed_is_an_error(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = replay_processes._Processes.look

    def look_and_kill(self: replay_processes._Processes) -> None:
        look(self)
        if self.is_ready and not self.is_done:
            self._processes[1].kill()

    monkeypatch.setattr(replay_processes._Processes, "look", look_and_kill)
    slow = [one._replace(speed=1000.0) for one in job(files.tape)]
    with pytest.raises(replay_processes.ServiceError) as caught:
        fold_in_processes(slow, conductor(), lambda: False)
    assert (caught.value.code, caught.value.exit_code) == ("process_ended", 4)
    assert "exit code -9" in caught.value.message


def test_a_bug_in_a_process_comes_with_its_stack(files: Files) -> None:
    broken = [one._replace(batch_records="many") for one in job(files.tape)]
    with pytest.raises(ProcessFailed, match="TypeError"):
        fold_in_processes(broken, conductor(), lambda: False)


def test_processes_with_different_engines_do_not_fold_together() -> None:
    both = conductor()
    both.ready("one engine")
    both.ready("one engine")
    with pytest.raises(EngineError) as caught:
        both.ready("another")
    assert caught.value.code == "engines_differ"
