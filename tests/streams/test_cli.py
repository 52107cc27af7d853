"""The command line's frame: lazy commands, one error form, exit codes, pipes, colour."""

import json
import os
import re
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

from schemas.errors import (
    CheckFailed,
    ConfigError,
    EngineError,
    EventError,
    InputError,
    ServiceError,
)
from streams.cli import COMMANDS, cli
from streams.generated import main as generated_main
from streams.output import Output, command_options, json_text
from tests.streams.spine import HEED_INTERRUPTS

PROGRAM = [sys.executable, "-m", "streams"]
FACTS = {
    "where": "orders[3]@7",
    "field": "price_minor",
    "value": -1,
    "expected": "an integer >= 1",
    "fix": "Correct the feed.",
}

# error class, exit code
ERRORS = [
    (EngineError, 1),
    (ConfigError, 2),
    (InputError, 3),
    (EventError, 3),
    (ServiceError, 4),
    (CheckFailed, 5),
]


def command_that(action) -> click.Command:
    @click.command("probe")
    @command_options(config=False)
    def probe(output: Output) -> None:
        """Do what the test wants."""
        action(output)

    return probe


def raises(error: BaseException):
    def action(_: Output) -> None:
        raise error

    return action


@pytest.mark.parametrize(("kind", "code"), ERRORS)
def test_an_error_has_its_exit_code_and_facts(kind, code) -> None:
    probe = command_that(raises(kind("bad_price", "price_minor was -1.", **FACTS)))
    text = CliRunner().invoke(probe, [])
    assert (text.exit_code, text.stdout) == (code, "")
    assert text.stderr == "error: orders[3]@7: price_minor was -1. Correct the feed.\n"
    as_json = CliRunner().invoke(probe, ["--json"])
    assert (as_json.exit_code, as_json.stdout) == (code, "")
    assert json.loads(as_json.stderr) == {
        "code": "bad_price",
        "message": "price_minor was -1.",
        **FACTS,
        "value": "-1",
    }


def test_a_bug_is_exit_1_with_its_stack() -> None:
    probe = command_that(raises(ZeroDivisionError("oops")))
    text = CliRunner().invoke(probe, [])
    assert text.exit_code == 1
    assert "Traceback (most recent call last)" in text.stderr
    last = text.stderr.splitlines()[-1]
    assert last == "error: this is a bug in pricemaker: ZeroDivisionError('oops')"
    error = json.loads(CliRunner().invoke(probe, ["--json"]).stderr)
    assert error["code"] == "internal_error"
    assert error["stack"].endswith("ZeroDivisionError: oops\n")


def test_interrupted_is_130() -> None:
    result = CliRunner().invoke(command_that(raises(KeyboardInterrupt())), [])
    assert (result.exit_code, result.stdout) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "where", "field", "message"),
    [
        (["nosuch", "--json"], "pricemaker", None, "No such command 'nosuch'."),
        (["lag", "--json", "--nosuch"], "pricemaker lag", "--nosuch", "No such option"),
        (["prices", "--json", "--limit", "0"], "pricemaker prices", "--limit", "not in the range"),
    ],
)
def test_wrong_usage_is_exit_2_and_names_the_help(arguments, where, field, message) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    error = json.loads(result.stderr)
    assert (error["code"], error["where"], error["field"]) == ("wrong_usage", where, field)
    assert message in error["message"]
    assert error["fix"] == f"See {where} --help."


def test_no_arguments_print_the_help_on_stderr() -> None:
    result = CliRunner().invoke(cli, [])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage:")


def test_a_wrong_settings_file_is_exit_2() -> None:
    result = CliRunner().invoke(cli, ["lag", "--config", "absent.toml", "--json"])
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (2, "settings_file", "absent.toml")


def test_document_and_record() -> None:
    document = command_that(lambda output: output.document({"price_minor": 1999}, "19.99 EUR"))
    assert CliRunner().invoke(document, []).stdout == "19.99 EUR\n"
    assert CliRunner().invoke(document, ["--json"]).stdout == '{\n  "price_minor": 1999\n}\n'

    def records(output: Output) -> None:
        output.record({"sku": "Ä"}, "one")
        output.record(b'{"raw":true}', lambda: "two")

    assert CliRunner().invoke(command_that(records), []).stdout == "one\ntwo\n"
    assert CliRunner().invoke(command_that(records), ["--json"]).stdout == (
        '{"sku": "Ä"}\n{"raw":true}\n'
    )


def test_json_never_says_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"price": float("nan")})


def test_a_pipe_gets_no_colour_and_no_cut_cell() -> None:
    def action(output: Output) -> None:
        table = Table("column")
        table.add_row(Text("x" * 120, style="red"))
        output.document({}, table)

    stdout = CliRunner().invoke(command_that(action), []).stdout
    assert "x" * 120 in stdout
    assert "\x1b" not in stdout


def test_a_closed_pipe_ends_quietly() -> None:
    script = (
        "from streams.output import *\n"
        "@click.command()\n"
        "@command_options(config=False)\n"
        "def probe(output):\n"
        "    while True:\n"
        "        output.record({'n': 1}, 'x' * 100)\n"
        "probe()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout.readline() == b"x" * 100 + b"\n"
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait(30) == 0


def test_ctrl_c_ends_a_waiting_command_with_130() -> None:
    script = (
        "import time\n"
        "from streams.output import *\n"
        "@click.command()\n"
        "@command_options(config=False)\n"
        "def probe(output):\n"
        "    output.record({}, 'waiting')\n"
        "    time.sleep(60)\n"
        "probe()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", HEED_INTERRUPTS + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout.readline() == b"waiting\n"
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=30)
    assert (program.returncode, stderr) == (130, b"")


def imported_by(*arguments: str) -> set[str]:
    """Top-level packages that are imported when the program runs with ``arguments``."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "streams", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def test_help_is_fast_and_operator_commands_need_no_engine() -> None:
    heavy = {"jax", "faust", "numpy", "river", "confluent_kafka"}
    assert imported_by("--help") & heavy == set()
    for name in ("lag", "prices"):
        assert imported_by(name, "--help") & heavy == {"confluent_kafka"}, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help_and_json(name) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.stderr
    assert f"Usage: pricemaker {name}" in result.stdout
    command = cli.get_command(click.Context(cli), name)
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert leaf.help, leaf.name
        assert re.search(r"(?s)Example:.*\bpricemaker ", leaf.help), f"{leaf.name}: show an example"
        options = [option for parameter in leaf.params for option in parameter.opts]
        assert "--json" in options, leaf.name


def test_the_program_is_installed() -> None:
    result = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == "pricemaker, version 0.1.0\n"


def test_generated_files_follow_the_code() -> None:
    # In a process of its own: click keeps the help option of a command's first use.
    check = [sys.executable, "-m", "streams.generated", "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "all current\n", "")


def test_a_stale_file_fails_the_check_and_is_written(tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    left_over = tmp_path / "generated" / "old_type.json"
    left_over.parent.mkdir()
    left_over.write_text("{}")
    monkeypatch.setattr("streams.generated.ROOT", tmp_path)
    monkeypatch.setattr("streams.generated.SCHEMAS", left_over.parent)
    monkeypatch.setattr("streams.generated.generated", lambda: {page: "new\n"})
    check = CliRunner().invoke(generated_main, ["--check", "--json"])
    changed = ["page.md", "generated/old_type.json"]
    assert (check.exit_code, json.loads(check.stdout)["changed"]) == (5, changed)
    assert not page.exists()
    assert CliRunner().invoke(generated_main, ["--write"]).exit_code == 0
    assert (page.read_text(), left_over.exists()) == ("new\n", False)
    assert CliRunner().invoke(generated_main, ["--check"]).exit_code == 0
