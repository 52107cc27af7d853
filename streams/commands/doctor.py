"""``pricemaker doctor``: is this installation in order?"""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from schemas.errors import CheckFailed
from streams.config import load_settings
from streams.doctor import CHECKS, FAILED, examine
from streams.output import Output, bootstrap_option, command_options


@click.command("doctor")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(CHECKS)),
    help="Run only this check; may be given repeatedly. worker (is it in its group?) runs only so.",
)
@bootstrap_option
@command_options()
def command(
    output: Output, config_file: Path | None, bootstrap: str | None, only: tuple[str, ...]
) -> None:
    """Check Python, packages, engine, JAX, folders, Kafka, topics, clock and Redis, with fixes.

    Exits 5 when a check failed. What is not configured is skipped.

    Example: pricemaker doctor --json
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    checks = examine(settings, only)
    table = Table(box=None, pad_edge=False)
    for name in ("check", "status", "found", "fix"):
        table.add_column(name)
    for check in checks:
        table.add_row(check.name, check.status, check.detail, check.fix or "")
    failed = [check.name for check in checks if check.status == FAILED]
    status = FAILED if failed else "ok"
    output.document({"status": status, "checks": msgspec.to_builtins(checks)}, table)
    if failed:
        raise CheckFailed(
            "doctor",
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}.",
            expected="every check ok or skipped",
            fix="Each check names its fix.",
        )
