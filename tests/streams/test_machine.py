"""What the engine fingerprint says about the machine."""

import os
import platform
import shutil
from pathlib import Path

import pytest

import models
from streams.worker.machine import read_engine_facts, read_machine, read_sources, use_one_thread

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
flags\t\t: fpu sse4_2 fma avx2 avx512f sse4_1 rdrand

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu
"""


def test_the_first_cpu_and_its_vector_features_are_named_in_order(tmp_path: Path):
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO, encoding="utf-8")
    machine = read_machine(path)
    assert machine.endswith("GenuineIntel 6 85 avx2 avx512f fma sse4_1 sse4_2")
    assert len(machine.split()) == 9


def test_a_machine_without_the_file_still_has_a_name(tmp_path: Path):
    machine = read_machine(tmp_path / "none")
    assert len(machine.split()) >= 2
    assert machine == read_machine(tmp_path / "none")


def test_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPROC", "7")  # so that the test gives back what was there
    monkeypatch.delenv("NPROC")
    use_one_thread()
    assert os.environ["NPROC"] == "1"
    monkeypatch.setenv("NPROC", "2")
    use_one_thread()
    assert os.environ["NPROC"] == "2"


def test_a_changed_source_is_another_engine(tmp_path: Path, monkeypatch) -> None:
    before = read_sources()
    assert before == read_sources()
    folder = tmp_path / "models"
    shutil.copytree(Path(models.__path__[0]), folder)
    monkeypatch.setattr(models, "__path__", [str(folder)])
    assert read_sources() == before  # the same source elsewhere
    with (folder / "guards.py").open("a") as file:
        file.write("# a comment\n")
    after = read_sources()
    assert (after != before, after.partition("-")[0], len(after)) == (True, "source", 19)


def test_the_engine_facts_name_what_moves_a_bit() -> None:
    names = [fact.rpartition("-")[0] for fact in read_engine_facts().split()]
    assert [name for name in names if name][-6:] == [
        "python", platform.libc_ver()[0], "river", "orjson", "msgspec", "source",
    ]  # fmt: skip
