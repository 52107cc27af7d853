"""The compiled build (`make compiled`): the same bytes, and never an old one by mistake."""

import ast
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from schemas import tape
from schemas.errors import ConfigError
from streams import engine_build
from streams.cli import cli
from streams.engine_build import Build
from tests.fold_digest import Digest, digest
from tests.streams import busy_shop

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "build" / "compiled"
MODULES = ROOT / "infra" / "compiled" / "modules.txt"


def started(*arguments: str | Path) -> str:
    """What a program of the compiled build prints."""
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    return subprocess.run(
        arguments, check=True, capture_output=True, text=True, cwd=ROOT, env=environment
    ).stdout


@pytest.fixture(scope="module")
def built() -> Path:
    if engine_build.read_build(BUILT) is None:
        pytest.skip("There is no compiled build. Run: make compiled")
    engine_build.require_fit(BUILT)
    return BUILT


def test_a_tape_with_everything_on_it_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Outputs of every topic, decisions, state: of the build that is compiled and of this one."""
    records, _ = busy_shop.tape_records(list(busy_shop.source_records()))
    file = tmp_path / "tape.jsonl"
    with file.open("wb") as lines:
        for one in records:
            at = tape.Position(one.partition, one.offset)
            lines.write(tape.line(at, one.value) + b"\n")
    program = [built / "python", "-m", "tests.fold_digest", file, str(busy_shop.PARTITIONS)]
    compiled = msgspec.json.decode(started(*program), type=Digest)
    interpreted = digest(file, busy_shop.PARTITIONS)
    assert compiled.file == f"{built}/models/fold/engine{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert interpreted.file == f"{ROOT}/models/fold/engine.py"
    assert compiled.outputs == interpreted.outputs
    assert compiled.partitions == interpreted.partitions
    assert sum(one.counts.decisions for one in interpreted.partitions) >= 3_000


def test_the_doctor_names_the_build(built: Path) -> None:
    here = CliRunner().invoke(cli, ["doctor", "--only", "engine", "--json"])
    there = started(built / "pricemaker", "doctor", "--only", "engine", "--json")
    checks = [msgspec.json.decode(text)["checks"] for text in (here.stdout, there)]
    count = len(msgspec.json.decode((built / engine_build.RECORD).read_bytes())["modules"])
    fields = {"name": "engine", "status": "ok", "fix": None}
    assert checks == [
        [{**fields, "detail": "interpreted"}],
        [{**fields, "detail": f"compiled, {count} modules"}],
    ]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as the build makes it, in a tree, with nothing compiled in it."""
    folder = tmp_path / "build" / "compiled"
    for room in engine_build.ROOMS:
        for root in (tmp_path, folder):
            (root / room).mkdir(parents=True)
            (root / room / "__init__.py").write_text(f'"""{room}"""\n')
    record(folder)
    return folder


def record(folder: Path, suffix: str | None = None) -> Build:
    build = Build(
        sources_sha256=engine_build.sources_sha256(folder),
        extension_suffix=suffix or sysconfig.get_config_var("EXT_SUFFIX"),
        modules=("models.fold.engine",),
    )
    (folder / engine_build.RECORD).write_bytes(msgspec.json.encode(build))
    return build


def test_a_build_that_fits(made: Path) -> None:
    assert engine_build.require_fit(made) == record(made)
    shutil.rmtree(made.parent.parent / "models")  # moved away from its tree
    assert engine_build.require_fit(made) == record(made)


@pytest.mark.parametrize("place", ["", "build/compiled"], ids=["tree", "build"])
def test_a_changed_source_is_refused(made: Path, place: str) -> None:
    root = made.parent.parent
    (root / place / "models" / "__init__.py").write_text('"""changed"""\n')
    with pytest.raises(ConfigError) as raised:
        engine_build.require_fit(made)
    assert raised.value.as_dict() == {
        "code": "stale_build",
        "message": f"the compiled build is older than the source in {root / place}.",
        "where": str(made),
        "field": None,
        "value": None,
        "expected": None,
        "fix": "Build it again: make compiled",
    }


def test_another_interpreter_is_refused(made: Path) -> None:
    record(made, ".cpython-399-x86_64-linux-gnu.so")
    with pytest.raises(ConfigError, match=r"was built for \.cpython-399-x86_64-linux-gnu\.so"):
        engine_build.require_fit(made)


def test_what_is_loaded_from_source_all_the_same_is_named(made: Path) -> None:
    assert engine_build.loaded_from_source(record(made)) == ["models.fold.engine"]


def test_this_program_is_interpreted() -> None:
    assert (engine_build.kind(), engine_build.require_fit()) == ("interpreted", None)


def modules() -> list[str]:
    return [line for line in MODULES.read_text().splitlines() if not line.startswith("#")]


def test_the_modules_to_compile_exist_and_are_listed_in_order() -> None:
    assert modules() == sorted(set(modules()))
    assert [line for line in modules() if not (ROOT / line).is_file()] == []


def sums_of_generators(source: str) -> list[int]:
    """Lines where mypyc would add by itself: plainly, where Python from 3.12 on compensates."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "sum"
        and isinstance(call.args[0], ast.GeneratorExp)
    ]


def test_compiled_modules_leave_sums_to_python() -> None:
    assert sums_of_generators("a = sum(x for x in y)\nb = sum([x for x in y], 0.0)\n") == [1]
    found = {name: sums_of_generators((ROOT / name).read_text()) for name in modules()}
    assert {name: lines for name, lines in found.items() if lines} == {}
