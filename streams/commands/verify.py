"""``pricemaker verify``: prove what was published."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from schemas.errors import CheckFailed
from streams.config import load_settings
from streams.engines import warm_kernel
from streams.output import Output, bootstrap_option, command_options
from streams.verify import Verification, verify


@click.command("verify")
@bootstrap_option
@command_options()
def command(output: Output, config_file: Path | None, bootstrap: str | None) -> None:
    """Fold the tape again and compare it with every published decision.

    Works on a running system: what the pricer has not committed yet is left out. Exit code 5 when
    a decision was altered, is missing, or should not be there.

    Example: pricemaker verify --json
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    kernel = warm_kernel(settings.engine.compilation_cache_dir)
    found = verify(settings, kernel)
    output.document({**msgspec.to_builtins(found), "confirmed": found.confirmed}, _table(found))
    if not found.confirmed:
        raise CheckFailed(
            "not_reproduced",
            f"{found.altered} decisions altered, {found.missing} missing, "
            f"{found.unexpected} unexpected, {found.repeated} repeated.",
            where="prices",
            expected="every published decision reproduced from the tape",
            fix="Look at the differences above, from the first tape position on.",
        )


def _table(found: Verification) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("tape records", f"{found.tape_records:,}")
    table.add_row("published decisions", f"{found.decisions:,}")
    table.add_row("reproduced byte for byte", f"{found.reproduced:,}")
    if found.agreed:
        table.add_row("agreed (another engine)", f"{found.agreed:,}")
    for name in ("altered", "missing", "unexpected", "repeated"):
        table.add_row(name, f"{getattr(found, name):,}")
    table.add_row("this engine", found.engine)
    for difference in found.differences:
        table.add_row(difference.kind, f"{difference.price_id} at {difference.tape}")
        for path, (published, again) in sorted(difference.fields.items()):
            table.add_row("", f"{path}: published {published}, recomputed {again}")
    return table
