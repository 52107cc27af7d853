"""What the engine fingerprint says about the machine."""

import os
from pathlib import Path

import pytest

from streams.machine import read_machine, use_one_thread

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
