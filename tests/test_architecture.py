"""The rooms and what may not happen in them, read from the source.

``streams -> models -> schemas``, one way. In ``models`` and ``schemas`` nothing reads a clock, does
I/O, draws unseeded randomness, or lets the order of a set reach an output: time and randomness come
in as arguments.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {"schemas": {"schemas"}, "models": {"schemas", "models"}}
OURS = {"schemas", "models", "streams", "tests", "benchmarks"}
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Modules that are a clock, a way out, or unseeded randomness. Types of a module that has both
# (datetime, numpy) are allowed, and its calls are banned below.
IMPURE_MODULES = {
    "aiokafka", "asyncio", "confluent_kafka", "faust", "glob", "http", "io", "logging", "mode",
    "multiprocessing", "os", "pathlib", "platform", "random", "redis", "requests", "secrets",
    "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
IMPURE_EXCEPT = {"io.BytesIO"}  # memory, nothing outside
IMPURE_CALLS = {
    "open", "print", "input", "breakpoint",
    "now", "utcnow", "today", "fromtimestamp",
    "uuid1", "uuid4", "getrandbits", "urandom",
    "read_text", "write_text", "read_bytes", "write_bytes",
    "hash", "id",  # differ from process to process
}  # fmt: skip
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
# What does not depend on the order of the members (a sum of floats does: it rounds).
ORDER_FREE = {"sorted", "len", "min", "max", "any", "all", "set", "frozenset"}


def modules(*rooms: str) -> list[Path]:
    """All Python files that git tracks, or would, in these rooms."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *rooms],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = (ROOT / line for line in listed.stdout.splitlines() if line.endswith(".py"))
    return sorted(file for file in files if file.exists())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "io":
            yield from ((node.lineno, f"io.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or "."


def import_breaches(room: str, tree: ast.AST) -> Iterator[str]:
    for line, name in imports_of(tree):
        package = name.split(".")[0]
        if package in OURS - MAY_IMPORT[room]:
            yield f"{line}: {room} imports {name}"
        if package in IMPURE_MODULES and name not in IMPURE_EXCEPT:
            yield f"{line}: imports {name}, which reaches outside"


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def call_breaches(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _called(node)
        if called in IMPURE_CALLS and not isinstance(node.func, ast.Subscript):
            yield f"{node.lineno}: calls {called}()"
        if called == "default_rng" and not (node.args or node.keywords):
            yield f"{node.lineno}: default_rng() without a seed"
        if ast.unparse(node.func).startswith(("np.random.", "numpy.random.")) and called not in {
            "default_rng", "Generator", "PCG64", "Philox", "SeedSequence",
        }:  # fmt: skip
            yield f"{node.lineno}: {ast.unparse(node.func)}() draws from a hidden global state"


def _is_set(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        return _called(node) in {"set", "frozenset"} | SET_METHODS
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return _is_set(node.left, names) or _is_set(node.right, names)
    return isinstance(node, ast.Name) and node.id in names


def _set_names(function: ast.AST) -> set[str]:
    """Names that a function (or module) binds to a set, by value or annotation."""
    names: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _is_set(node.value, set()):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        declared = node.annotation if isinstance(node, ast.AnnAssign | ast.arg) else None
        if declared is not None and re.match(r"(Frozen|frozen)?[Ss]et\b", ast.unparse(declared)):
            target = node.target if isinstance(node, ast.AnnAssign) else node
            names.add(getattr(target, "id", getattr(target, "arg", "")))
    return names


def set_order_breaches(tree: ast.AST) -> Iterator[str]:
    """Places where a set's members are taken in its order."""
    free = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) in ORDER_FREE
        for argument in node.args
    }
    names = _set_names(tree)
    for node in ast.walk(tree):
        sources: list[ast.expr] = []
        if isinstance(node, ast.For):
            sources = [node.iter]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            sources = [] if id(node) in free else [part.iter for part in node.generators]
        elif isinstance(node, ast.Call) and _called(node) in {
            "list", "tuple", "iter", "enumerate", "join", "fromkeys", "next", "zip", "map", "array",
        }:  # fmt: skip
            sources = list(node.args)
        elif isinstance(node, ast.Starred):
            sources = [node.value]
        for source in sources:
            if _is_set(source, names):
                yield f"{node.lineno}: takes {ast.unparse(source)} in a set's order; use sorted()"


def long_functions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} allowed"


PURE = modules("schemas", "models")


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_schemas_and_models_are_pure(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    room = path.relative_to(ROOT).parts[0]
    breaches = [*import_breaches(room, tree), *call_breaches(tree), *set_order_breaches(tree)]
    assert breaches == []


@pytest.mark.parametrize("path", modules("schemas", "models", "streams", "benchmarks"), ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    breaches = list(long_functions(ast.parse(text)))
    if (lines := text.count("\n")) > MODULE_LINES_MAX:
        breaches.append(f"the module has {lines} lines, {MODULE_LINES_MAX} allowed")
    assert breaches == []


def test_no_file_names_a_path_of_one_machine() -> None:
    # Spelt in parts, so that this file does not match itself.
    paths = "|".join(("/" + "work/", "/" + "root/", "/" + "home/[a-z]+/", "/Users" + "/[a-z]+/"))
    result = subprocess.run(
        ["git", "grep", "--untracked", "-nIE", f"(^|[^A-Za-z0-9_.])({paths})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")  # git grep: 1 is "nothing found"


def test_every_name_that_is_imported_inside_a_function_exists() -> None:
    """Commands import what they need when they run; no import of theirs fails before that."""
    missing = []
    for path in modules("schemas", "models", "streams", "benchmarks", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.col_offset or node.level:
                continue
            if (node.module or "").split(".")[0] not in OURS:
                continue
            found = importlib.import_module(node.module or "")
            for name in (alias.name for alias in node.names):
                if not hasattr(found, name) and not _is_module(f"{node.module}.{name}"):
                    missing.append(f"{name_of(path)}:{node.lineno}: {node.module}.{name}")
    assert missing == []


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what is before the last dot is no package
        return False


# why, source, how many breaches each rule finds in it
BAD_SOURCES = [
    ("upward import", "from streams import app", import_breaches, 1),
    ("a clock", "import time", import_breaches, 1),
    ("a clock by another way", "at = datetime.now(UTC)", call_breaches, 1),
    ("I/O", "open('prices')", call_breaches, 1),
    ("randomness", "rng = np.random.default_rng()", call_breaches, 1),
    ("hidden randomness", "x = np.random.normal()", call_breaches, 1),
    ("seeded randomness is fine", "rng = np.random.default_rng(seed)", call_breaches, 0),
    ("identity", "key = uuid4()", call_breaches, 1),
    ("loop over a set", "for sku in {a, b}:\n    out(sku)", set_order_breaches, 1),
    ("by its name", "skus = set(x)\nfor sku in skus:\n    out(sku)", set_order_breaches, 1),
    ("by its annotation", "def f(skus: set[str]):\n    return list(skus)", set_order_breaches, 1),
    ("comprehension", "out = [f(s) for s in a | {1}]", set_order_breaches, 1),
    ("joined", "text = ', '.join({x})", set_order_breaches, 1),
    ("sorted is fine", "for sku in sorted({a, b}):\n    out(sku)", set_order_breaches, 0),
    ("a sum rounds", "total = sum(f(s) for s in {a, b})", set_order_breaches, 1),
    ("membership is fine", "found = x in {a, b}", set_order_breaches, 0),
    ("long", "def f():\n" + "    x = 1\n" * 70, long_functions, 1),
    ("not too long", "def f():\n" + "    x = 1\n" * 69, long_functions, 0),
]


@pytest.mark.parametrize(("why", "source", "rule", "count"), BAD_SOURCES)
def test_the_rules_see_what_they_should(why, source, rule, count) -> None:
    tree = ast.parse(source)
    found = list(rule("models", tree) if rule is import_breaches else rule(tree))
    assert len(found) == count, (why, found)


def declared(*extras: str) -> set[str]:
    """The distributions that pyproject.toml names, by normalised name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(text).name) for text in texts}


@pytest.mark.parametrize(
    ("rooms", "extras"),
    [
        (("schemas", "models", "streams"), ("pictures", "tracing")),
        (("tests", "benchmarks"), ("dev",)),
    ],
    ids=["runtime", "development"],
)
def test_every_import_is_a_declared_dependency(rooms, extras) -> None:
    allowed = declared(*extras)
    brought_by = importlib.metadata.packages_distributions()
    undeclared = {
        f"{name_of(path)}: {name}"
        for path in modules(*rooms)
        for _, name in imports_of(ast.parse(path.read_text(encoding="utf-8")))
        if (package := name.split(".")[0]) not in OURS | set(sys.stdlib_module_names)
        and not allowed & {canonicalize_name(found) for found in brought_by.get(package, ())}
    }
    assert undeclared == set()


def test_every_dependency_is_explained() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    explained = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.M))
    assert explained == declared("dev")
