"""What every command shares: ``--json``, ``--config``, results, errors and exit codes.

Results go to stdout; progress, notes and errors to stderr. Exit codes: 0 done, 1 our bug, 2 wrong
usage or configuration, 3 bad input, 4 a service can't be reached, 5 the check ran and says no,
130 interrupted. A reader that closes the pipe has what it wanted: that ends quietly with 0.
"""

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType

from schemas.errors import PricemakerError

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CHECK_SAYS_NO = 5
EXIT_INTERRUPTED = 130
PIPE_WIDTH_COLUMNS = 160  # no terminal: wide enough that no table cell is cut


class Output:
    """Where a command puts its results, as text for people or as JSON.

    ``document`` is for a command with one answer, ``record`` for one with a stream of them.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, value: object, text: RenderableType) -> None:
        """Print the answer: ``value`` as one JSON document, or ``text`` for people."""
        if self.as_json:
            click.echo(json_text(value, indent=2))
        else:
            self.text(text)

    def record(self, value: object | bytes, text: RenderableType | Callable[[], Any]) -> None:
        """Print one record of a stream: ``value`` as one JSON line, or ``text``.

        ``value`` as bytes is JSON already and goes out unchanged; ``text`` may be a function, which
        is called only when it is needed.
        """
        if self.as_json:
            click.echo(value if isinstance(value, bytes) else json_text(value))
        else:
            self.text(text() if callable(text) else text)

    def text(self, text: RenderableType) -> None:
        """Print for people on stdout; colour only on a terminal and without ``NO_COLOR``."""
        if isinstance(text, str):
            click.echo(text)
        else:
            _console(sys.stdout).print(text)

    def note(self, text: str) -> None:
        """Say something on stderr that is not the result."""
        click.echo(text, err=True)

    @property
    def shows_progress(self) -> bool:
        """Whether a progress line makes sense: only when stderr is a terminal."""
        return sys.stderr.isatty()


def json_text(value: object, indent: int | None = None) -> str:
    """``value`` as JSON; NaN and infinity are a bug and raise ``ValueError``."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def command_options(*, config: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command ``--json``, ``--config`` (unless off), and the exit codes of this module.

    The command receives ``output: Output`` and, with ``config``, ``config_file: Path | None``.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
            output = Output(as_json=as_json)
            code = exit_code_of(lambda: function(*args, output=output, **kwargs), as_json)
            if code:
                click.get_current_context().exit(code)

        wrapped: Callable[..., None] = click.option(
            "--json", "as_json", is_flag=True, help="Print JSON on stdout, errors as JSON too."
        )(run)
        if config:
            wrapped = click.option(
                "--config",
                "config_file",
                type=click.Path(path_type=Path),
                help="Settings file.  [default: pricemaker.toml, if it is there]",
            )(wrapped)
        return wrapped

    return decorate


bootstrap_option = click.option(
    "--bootstrap", help="Kafka's host:port[,host:port].  [default: kafka.bootstrap, localhost:9092]"
)


def exit_code_of(function: Callable[[], object], as_json: bool) -> int:
    """Run ``function``, report what goes wrong on stderr, and return the exit code."""
    try:
        function()
        sys.stdout.flush()
    except PricemakerError as error:
        report(error, as_json)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        report_usage(error, as_json)
        return error.exit_code
    except Exception as error:
        report_bug(error, as_json)
        return EXIT_BUG
    return 0


def report(error: PricemakerError, as_json: bool) -> None:
    """Print a user's error on stderr: one sentence, or one JSON object."""
    click.echo(json_text(error.as_dict()) if as_json else f"error: {error}", err=True)


def report_usage(error: click.ClickException, as_json: bool) -> None:
    """Print wrong usage on stderr, with the command whose help says more."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "pricemaker"
    field = None
    if isinstance(error, click.BadParameter) and error.param is not None:
        field = max(error.param.opts, key=len)
    if isinstance(error, click.NoSuchOption):
        field = error.option_name
    fix = f"See {command} --help."
    wrong = PricemakerError(
        "wrong_usage", error.format_message(), where=command, field=field, fix=fix
    )
    report(wrong, as_json)


def report_bug(error: Exception, as_json: bool) -> None:
    """Print an error that is ours on stderr, with its stack."""
    stack = "".join(traceback.format_exception(error))
    if not as_json:
        click.echo(f"{stack}error: this is a bug in pricemaker: {error!r}", err=True)
        return
    bug = PricemakerError("internal_error", f"a bug in pricemaker: {error!r}")
    click.echo(json_text({**bug.as_dict(), "stack": stack}), err=True)


def _console(stream: Any) -> Console:
    # What people wrote elsewhere (reasons, names) is shown as it is: brackets are no markup.
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH_COLUMNS
    return console


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own last flush finds no closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
