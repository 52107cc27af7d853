"""How the engine's pure modules were built: interpreted, or compiled by mypyc (docs/compiled.md).

A compiled build is a folder that ``infra/compiled/build.py`` makes: the three rooms as they were,
extensions beside the modules that were compiled, and a record of both. Where the record no longer
fits, the program refuses to run: it would do what an older source said.
"""

import hashlib
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import msgspec

import models
from schemas.errors import ConfigError

ROOMS = ("schemas", "models", "streams")
RECORD = "compiled.json"
INTERPRETED, COMPILED = "interpreted", "compiled"
FIX = "Build it again: make compiled"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a compiled build was made of."""

    sources_sha256: str
    extension_suffix: str  # names the interpreter and the machine
    modules: tuple[str, ...]


def installed() -> Path:
    """The folder that the running program was imported from."""
    return Path(models.__path__[0]).parent


def sources_sha256(root: Path) -> str:
    """A hash of the source of the three rooms under a folder."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def read_build(root: Path) -> Build | None:
    """The record of a compiled build; None where the folder is none."""
    path = root / RECORD
    return msgspec.json.decode(path.read_bytes(), type=Build) if path.exists() else None


def kind(root: Path | None = None) -> str:
    """``compiled`` or ``interpreted``."""
    return INTERPRETED if read_build(root or installed()) is None else COMPILED


def require_fit(root: Path | None = None) -> Build | None:
    """Look whether a compiled build is what its source says; None where nothing is compiled.

    Parameters
    ----------
    root : folder of the build; None: that of the running program

    Raises
    ------
    ConfigError : it was built for another interpreter, or its source has changed since
    """
    root = installed() if root is None else root
    build = read_build(root)
    if build is None:
        return None
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if build.extension_suffix != suffix:
        raise _stale(root, f"was built for {build.extension_suffix}; this Python needs {suffix}")
    tree = root.parent.parent  # where it was built, unless it was moved
    for folder in [root, *([tree] if (tree / "models" / "__init__.py").exists() else [])]:
        if sources_sha256(folder) != build.sources_sha256:
            raise _stale(root, f"is older than the source in {folder}")
    return build


def loaded_from_source(build: Build) -> list[str]:
    """Modules of a build that this program would import from their source all the same."""
    found = {name: find_spec(name) for name in build.modules}
    return [
        name
        for name, spec in found.items()
        if spec is None or not (spec.origin or "").endswith(build.extension_suffix)
    ]


def _stale(root: Path, problem: str) -> ConfigError:
    return ConfigError("stale_build", f"the compiled build {problem}.", where=str(root), fix=FIX)
