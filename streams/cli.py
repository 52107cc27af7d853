"""The command line: one group whose commands are imported only when they are used."""

import importlib
import sys
from typing import Any

import click

from streams.engine_build import require_fit
from streams.output import EXIT_INTERRUPTED, exit_code_of

# name -> what it does, for `pricemaker --help`; the command lives in streams/commands/<name>.py
COMMANDS = {
    "demo": "Run broker, shop and worker in one process, to see prices move.",
    "worker": "Run intake and pricer on Kafka.",
    "topics": "Create or check the topics.",
    "simulate": "Make the events of a simulated shop.",
    "ingest": "Put events from a file on the source topics.",
    "replay": "Price a recorded tape again and hash the decisions.",
    "export": "Write a tape to a folder, to keep, replay and verify.",
    "train": "Learn from a tape, and publish what was learned.",
    "backtest": "Compare what other policies would have priced on a recorded tape.",
    "report": "Draw a saved backtest as an HTML page again.",
    "verify": "Check published decisions against a replay of their tape.",
    "projector": "Carry the effective prices to Redis.",
    "prices": "Follow the price decisions.",
    "explain": "Show how a price came about.",
    "pnl": "Explain profit by day: what moved it, and what was earned against it.",
    "ledger": "Show what each rule costs a day.",
    "exceptions": "Show what needs a person, by money at stake.",
    "approve": "Approve a price that waits.",
    "reject": "Reject a price that waits.",
    "breaker": "See, trip, reset and calibrate the circuit breakers.",
    "kill-switch": "Stop all prices at once, and let them go again.",
    "policy": "Check a policy, show what it would do, publish it.",
    "gateway": "Serve prices, event streams, feeds and the desk over HTTP.",
    "lag": "Show how far consumers are behind, in messages and seconds.",
    "dead-letter": "List or redrive events that could not be accepted.",
    "family": "Look at families of products, and carry out an approved proposal.",
    "whatif": "Price a product from its parameters, without a broker.",
    "doctor": "Check this installation, the broker and the topics.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streams.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Any = None, *_: Any, **options: Any) -> Any:
        """Run a command; wrong usage becomes JSON too when ``--json`` is among the arguments."""
        arguments = list(sys.argv[1:] if args is None else args)
        options["standalone_mode"] = False
        result: list[object] = []

        def invoke() -> None:
            require_fit()
            result.append(super(LazyGroup, self).main(arguments, **options))

        code = exit_code_of(invoke, as_json="--json" in arguments)
        if not code and result and isinstance(result[0], int):
            code = result[0]  # click returns the code of ctx.exit() when it is not standalone
        sys.exit(code)


@click.group("pricemaker", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pricemaker")
def cli() -> None:
    """Price an online shop the way a market maker quotes a market.

    Settings come from pricemaker.toml, the environment (PRICEMAKER_KAFKA__BOOTSTRAP and so on) and
    flags, in rising order. Every command takes --json. Exit codes: 0 done, 1 our bug, 2 wrong usage
    or configuration, 3 bad input, 4 a service can't be reached, 5 the check ran and says no,
    130 interrupted.

    Example: pricemaker lag --json
    """


def main() -> None:
    """The ``pricemaker`` program."""
    try:
        cli.main(prog_name="pricemaker")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
