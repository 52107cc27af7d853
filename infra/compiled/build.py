"""Build the program with its hot pure modules compiled by mypyc: ``make compiled``.

Writes ``build/compiled``: the three rooms as they are, and beside each module that ``modules.txt``
names the extension that was made of it (Python imports an extension before the source beside it).
``build/compiled/pricemaker`` and ``build/compiled/python`` start it. Needs a C compiler and the
headers of Python. What it takes and what it promises: docs/compiled.md.
"""

import os
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from mypyc.build import mypycify
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from streams.engine_build import RECORD, ROOMS, Build, sources_sha256  # noqa: E402

TARGET, WORK = ROOT / "build" / "compiled", ROOT / "build" / "compiled-work"
# Doubles must be the interpreter's: no fused multiply-add, and no call of the maths library that
# the C compiler answers by itself (it makes x * x of pow(x, 2), which rounds otherwise).
SAME_DOUBLES = [
    "-ffp-contract=off",
    *(f"-fno-builtin-{name}" for name in ("exp", "expm1", "fmod", "log", "log1p", "pow")),
]
LAUNCHER = """#!/bin/sh
# Python with the compiled rooms before the tree they were built from.
here=$(dirname -- "$(readlink -f -- "$0")")
PYTHONSAFEPATH=1 PYTHONPATH="$here:{root}${{PYTHONPATH:+:$PYTHONPATH}}" exec "{python}" {module}"$@"
"""


class ParallelBuild(build_ext):
    """Compiles the sources of an extension side by side."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension."""
        compile_them = self.compiler.compile

        def compile_each(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = pool.map(lambda one: compile_them([one], **options), sources)
                return [name for names in found for name in names]

        self.compiler.compile = compile_each
        super().build_extension(ext)
        self.compiler.compile = compile_them


def files_to_compile() -> list[str]:
    """The files that ``modules.txt`` names."""
    lines = (HERE / "modules.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def launcher(name: str, module: str) -> None:
    """Write a program that starts the compiled build."""
    path = TARGET / name
    path.write_text(LAUNCHER.format(root=ROOT, python=sys.executable, module=module))
    path.chmod(0o755)


def main() -> None:
    """Copy, compile, and record what was compiled."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, TARGET / room, ignore=ignored)
    files = files_to_compile()
    os.chdir(TARGET)  # mypyc names a module by its path from here
    options = ["--config-file", str(HERE / "mypy.ini"), "--cache-dir", str(WORK / "mypy")]
    extensions = mypycify(
        [*options, *files],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        target_dir=str(WORK / "c"),
        group_name="pricemaker",
    )
    for extension in extensions:
        extension.extra_compile_args += SAME_DOUBLES
    build = ["build_ext", "--build-lib", str(TARGET), "--build-temp", str(WORK / "o")]
    setup(
        name="pricemaker-compiled",
        packages=[],
        ext_modules=extensions,
        cmdclass={"build_ext": ParallelBuild},
        script_args=["--quiet", *build],
    )
    launcher("python", "")
    launcher("pricemaker", "-m streams ")
    record = Build(
        sources_sha256=sources_sha256(TARGET),
        extension_suffix=sysconfig.get_config_var("EXT_SUFFIX"),
        modules=tuple(name.removesuffix(".py").replace("/", ".") for name in files),
    )
    (TARGET / RECORD).write_bytes(msgspec.json.encode(record))  # last: without it there is no build
    print(f"{len(files)} modules compiled; run {TARGET / 'pricemaker'}")


if __name__ == "__main__":
    main()
