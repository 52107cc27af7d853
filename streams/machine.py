"""What this machine's instructions are: part of the engine fingerprint."""

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_IDENTITY = ("vendor_id", "cpu family", "model")
_VECTOR_PREFIXES = ("avx", "fma", "sse4")


def read_machine(cpuinfo: Path = _CPUINFO) -> str:
    """Return the architecture, the CPU and its vector features as one line of text.

    The compiler chooses instructions by these, and with other instructions (fused multiply-add
    above all) the last bits of a price differ. Where there is no ``/proc/cpuinfo`` the
    architecture and the operating system's processor name must do.
    """
    architecture = platform.machine()
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{architecture} {platform.processor() or 'unknown'}"
    first_cpu: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        first_cpu.setdefault(name.strip(), value.strip())
    flags = first_cpu.get("flags", first_cpu.get("Features", "")).split()
    vector = sorted(flag for flag in flags if flag.startswith(_VECTOR_PREFIXES) or flag == "asimd")
    identity = [first_cpu[name] for name in _IDENTITY if name in first_cpu]
    return " ".join([architecture, *identity, *vector])


def use_one_thread() -> None:
    """Let JAX have one thread; call it before the first kernel is made.

    JAX sizes its pool by ``NPROC`` when its CPU client starts. Tiles are too small to be shared
    out, so more threads only hand work to each other: measured, a quarter slower. It moves no byte,
    since the kernels are compiled for one thread in any case. An ``NPROC`` already set stays.
    """
    os.environ.setdefault("NPROC", "1")
