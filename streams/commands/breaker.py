"""``pricemaker breaker``: see, trip, reset and calibrate the circuit breakers."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from schemas.events import Scope
from streams.commands.source_options import source_options
from streams.commands.steering import TIME, steer, who_and_why
from streams.config import load_settings
from streams.output import EXIT_CHECK_SAYS_NO, Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.tape_selection import SourceSpec


@click.group("breaker")
def command() -> None:
    """See, trip, reset and calibrate the circuit breakers."""


def _scope_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--catalogue", is_flag=True, help="The whole catalogue."),
        click.option("--family", metavar="NAME", help="One family."),
        click.option("--sku", metavar="SKU", help="One product."),
    ):
        function = option(function)
    return function


def _scope(sku: str | None, family: str | None, catalogue: bool) -> Scope:
    if (sku is not None) + (family is not None) + catalogue != 1:
        raise click.UsageError("Give one of --sku, --family and --catalogue.")
    if catalogue:
        return Scope("catalogue")
    return Scope("sku", sku) if sku is not None else Scope("family", family)


@command.command("status")
@bootstrap_option
@command_options()
def status(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Show every breaker that is not closed, as the workers have committed it.

    Exits 5 when one is open or the kill switch is on.

    Example: pricemaker breaker status --json
    """
    from streams.controls.breaker_state import read_status

    found = read_status(load_settings(config_file, {"kafka.bootstrap": bootstrap}))
    output.document(msgspec.to_builtins(found), _status_table(found))
    if any(one.state == "OPEN" for one in found.breakers) or any(
        one.on for one in found.kill_switch
    ):
        raise click.exceptions.Exit(EXIT_CHECK_SAYS_NO)


def _status_table(found: Any) -> Any:
    switched = [str(one.partition) for one in found.kill_switch if one.on]
    switch = f"on in partition {', '.join(switched)}" if switched else "off"
    title = f"{found.products:,} products on sale; kill switch {switch}"
    if not found.breakers:
        return f"{title}; every breaker is closed"
    table = Table("scope", "name", "state", "since", "ends", "why", box=None, title=title,
                  title_justify="left")  # fmt: skip
    for one in found.breakers:
        name = one.name or f"partition {one.partition}"
        until = one.until or ""
        table.add_row(one.scope, name, one.state, one.since, until, "; ".join(one.reasons))
    return table


@command.command("trip")
@_scope_options
@who_and_why
@click.option("--expires", type=TIME, help="When it may try again by itself (UTC).")
@bootstrap_option
@command_options()
def trip(
    output: Output,
    sku: str | None,
    family: str | None,
    catalogue: bool,
    expires: datetime | None,
    **given: Any,
) -> None:
    """Open a breaker: what is under it keeps its price until the reset, or until it expires.

    Under a policy with when_open = "revert" a product goes back to its last good price.

    Example: pricemaker breaker trip --sku SHIRT-M --reason "wrong cost from the supplier"
    """
    steer(output, "breaker_trip", _scope(sku, family, catalogue), expires, **given)


@command.command("reset")
@_scope_options
@who_and_why
@bootstrap_option
@command_options()
def reset(
    output: Output, sku: str | None, family: str | None, catalogue: bool, **given: Any
) -> None:
    """Half open a breaker and those under it: bounded steps first, then as before.

    Example: pricemaker breaker reset --catalogue --reason "feed corrected"
    """
    steer(output, "breaker_reset", _scope(sku, family, catalogue), None, **given)


@command.command("calibrate")
@source_options
@click.option(
    "--quantile", type=click.FloatRange(0.5, 0.99999), default=0.999, show_default=True,
    help="The share of sound decisions that a threshold lets pass.",
)  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the TOML.")
@bootstrap_option
@command_options()
def calibrate(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    quantile: float,
    out: Path | None,
) -> None:
    """Set the breakers' thresholds by what a tape's decisions looked like.

    The answer is a part of a policy: look at it, put it into yours and publish that. What SOURCE
    may be: docs/tape-sources.md.

    Example: pricemaker breaker calibrate events.jsonl.gz --out breaker.toml
    """
    from streams.training.breaker_calibration import calibrated

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    with progress_bar(output, f"reading {Path(spec.source).name}") as advance:
        found = calibrated(settings, spec, quantile, advance)
    if out is not None:
        from streams.replay.replay import open_to_write

        with open_to_write(out) as file:
            file.write(found.policy.encode())
    output.document(msgspec.to_builtins(found), found.policy.rstrip("\n"))
