"""``pricemaker kill-switch``: stop all prices at once, and let them go again."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from schemas.events import Scope
from streams.commands.steering import TIME, steer, who_and_why
from streams.config import load_settings
from streams.output import EXIT_CHECK_SAYS_NO, Output, bootstrap_option, command_options


@click.group("kill-switch")
def command() -> None:
    """Stop all prices at once, and let them go again."""


@command.command("on")
@who_and_why
@click.option("--expires", type=TIME, help="When it goes off by itself (UTC).")
@bootstrap_option
@command_options()
def on(output: Output, expires: datetime | None, **given: Any) -> None:
    """Stop all prices: workers pass no effective price on from now, whatever waits before it.

    Example: pricemaker kill-switch on --reason "costs are wrong everywhere"
    """
    steer(output, "kill_switch_on", Scope("catalogue"), expires, **given)


@command.command("off")
@who_and_why
@bootstrap_option
@command_options()
def off(output: Output, **given: Any) -> None:
    """Let prices go again: every product is decided anew at the next tick.

    Example: pricemaker kill-switch off --reason "costs are corrected"
    """
    steer(output, "kill_switch_off", Scope("catalogue"), None, **given)


@command.command("status")
@bootstrap_option
@command_options()
def status(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Show what each tape partition has read of the switch; exits 5 when it is on anywhere.

    Example: pricemaker kill-switch status --json
    """
    from streams.controls.breaker_state import read_status

    found = read_status(load_settings(config_file, {"kafka.bootstrap": bootstrap})).kill_switch
    lines = [
        f"partition {one.partition}: {f'on, {one.by}' if one.on else 'off'}"
        + ("" if one.expires is None else f", until {one.expires}")
        for one in found
    ]
    output.document({"partitions": msgspec.to_builtins(found)}, "\n".join(lines))
    if any(one.on for one in found):
        raise click.exceptions.Exit(EXIT_CHECK_SAYS_NO)
