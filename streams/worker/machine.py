"""What the last bit of a price depends on beside the kernels: machine, libraries, source."""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import models
import schemas

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


def read_sources() -> str:
    """Return a short hash of the source of ``models`` and ``schemas``.

    A change of the models moves prices as surely as another processor does.
    """
    digest = hashlib.sha256()
    for package in (models, schemas):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            name = f"{package.__name__}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{name}\n".encode() + path.read_bytes())
    return f"source-{digest.hexdigest()[:12]}"


def read_engine_facts() -> str:
    """What the engine fingerprint names beside the kernels' own: machine, libraries, source.

    The learning models use the C library's ``exp`` and ``log`` and River; numbers become text by
    orjson.
    """
    libc, libc_version = platform.libc_ver()
    libraries = [f"{name}-{version(name)}" for name in ("river", "orjson", "msgspec")]
    facts = [f"python-{platform.python_version()}", f"{libc}-{libc_version}", *libraries]
    return " ".join([read_machine(), *facts, read_sources()])


def use_one_thread() -> None:
    """Let JAX have one thread; call it before the first kernel is made.

    JAX sizes its pool by ``NPROC`` when its CPU client starts. Tiles are too small to be shared
    out, so more threads only hand work to each other: measured, a quarter slower. It moves no byte,
    since the kernels are compiled for one thread in any case. An ``NPROC`` already set stays.
    """
    os.environ.setdefault("NPROC", "1")
