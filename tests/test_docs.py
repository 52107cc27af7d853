"""What the documentation names is there: files, headings, commands, options, policy keys."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from schemas.counterfactual import parse_edits
from schemas.policy import Policy
from schemas.scopes import SCOPED_TABLES, parse_policy
from streams.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HELPERS = {"benchmarks.stock_agents"}  # started by another benchmark
MADE = ("benchmarks/results/", "infra/kafka/run")  # by a command, not kept
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:models|streams|schemas|benchmarks|tests|docs|infra)/[\w/.-]+)`")
BENCHMARK = re.compile(r"python -m (benchmarks\.\w+)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_LINE = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?pricemaker (.+)$", re.MULTILINE)
COMMAND_INLINE = re.compile(r"`pricemaker ([^`]+)`")
USAGE = re.compile(r"[\[\]|]")  # of a synopsis: [--yes], trip|reset


def slug(heading: str) -> str:
    """A heading's anchor on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(text) for text in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


def named(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in pattern.finditer(page.read_text()):
            yield page.relative_to(ROOT).as_posix(), found[1]


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text()
        found = [match[1] for match in COMMAND_INLINE.finditer(FENCE.sub("", text))]
        for block in FENCE.finditer(text):
            found += [match[1] for match in COMMAND_LINE.finditer(block[2])]
        for line in found:
            yield page.relative_to(ROOT).as_posix(), line


def wrong_in(line: str) -> str | None:
    """What of a command line does not exist."""
    command: click.Command = cli
    context = click.Context(cli)
    for word in shlex.split(USAGE.sub(" ", line), comments=True):
        if word.startswith("--"):
            options = {
                name
                for one in command.get_params(context)
                for name in (*one.opts, *one.secondary_opts)
            }
            if word.partition("=")[0] not in options:
                return word
        elif isinstance(command, click.Group):
            alternative = command.get_command(context, word)
            if alternative is None:
                return word
            command = alternative
    return None


def test_links_lead_somewhere() -> None:
    dead = []
    for page, link in named(LINK):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append((page, link))
    assert dead == []


def test_files_and_benchmarks_exist() -> None:
    missing = [
        (page, path)
        for page, path in named(PATH)
        if not path.startswith(MADE) and not (ROOT / path).exists()
    ]
    missing += [
        (page, module)
        for page, module in named(BENCHMARK)
        if not (ROOT / (module.replace(".", "/") + ".py")).exists()
    ]
    assert missing == []


def test_each_benchmark_is_on_its_page() -> None:
    """A module of benchmarks that runs by itself has a command there."""
    runs = {
        f"benchmarks.{path.stem}"
        for path in (ROOT / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert runs - set(BENCHMARK.findall(page)) == HELPERS


def test_commands_and_their_options_exist() -> None:
    assert [(page, line) for page, line in commands() if wrong_in(line)] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("policy check policy.toml [--from SOURCE]", None),
        ("explain LAM-00000         # why this price?", None),
        ("policy compare policy.toml", "compare"),
        ("explain LAM-00000 --why", "--why"),
        ("breaker trip|reset", None),
    ],
)
def test_what_is_wrong_in_a_command_is_found(line: str, wrong: str | None) -> None:
    assert wrong_in(line) == wrong


EDITS = "[[edits]]"


def toml_blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in FENCE.finditer(page.read_text()):
            if block[1] == "toml" and "[kafka]" not in block[2]:  # those are settings
                yield page.relative_to(ROOT).as_posix(), block[2]


def test_edits_that_are_shown_are_edits() -> None:
    shown = [(page, text) for page, text in toml_blocks() if EDITS in text]
    assert [(page, len(parse_edits(text, page))) for page, text in shown] == [
        ("docs/backtest.md", 2)
    ]


def test_policies_that_are_shown_are_policies() -> None:
    """An unknown key, a wrong type and a value out of bounds are all refused."""
    shown = [(page, text) for page, text in toml_blocks() if EDITS not in text]
    assert [page for page, _ in shown] == ["docs/policy.md", "docs/segments.md"]
    for _, text in shown:
        parse_policy(text)


def test_dotted_policy_keys_exist() -> None:
    """`guards.step_ratio_max` in running text; a module's file name is none."""
    tables = {
        field.name: {key.name for key in msgspec.structs.fields(field.type)}
        for field in msgspec.structs.fields(Policy)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    }
    assert set(tables) == {*SCOPED_TABLES, "learning"}
    unknown = [
        (page, key)
        for page, key in named(re.compile(r"`([a-z]+\.[a-z_]+)[`=]"))
        if (table := key.split(".")[0]) in tables
        and not key.endswith(".py")
        and key.split(".")[1] not in tables[table]
    ]
    assert unknown == []
