"""``pricemaker export``: write a tape to a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
from rich.table import Table

from streams.commands.source_options import source_options
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.tape.tape_selection import SourceSpec

if TYPE_CHECKING:
    from streams.tape.export import Exported


@click.command("export")
@source_options
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format", "encoding", type=click.Choice(["parquet", "jsonl"]), default="parquet",
    show_default=True, help="Segments as Parquet (zstd), or as JSON lines (gzip).",
)  # fmt: skip
@click.option(
    "--decisions", is_flag=True,
    help="Export the topic prices too, so that the folder alone can be verified. Needs SOURCE "
    "kafka.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep this saved state beside the tape.",
)  # fmt: skip
@click.option(
    "--state", is_flag=True,
    help="Keep the worker's present state beside the tape, as a checkpoint. Needs SOURCE kafka.",
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    folder: Path,
    encoding: Literal["parquet", "jsonl"],
    decisions: bool,
    checkpoint: Path | None,
    state: bool,
) -> None:
    """Write a tape to FOLDER, to keep, replay and verify; the bytes are those of the tape.

    Exported again into the same folder, what has come since is added; so is what an export that was
    stopped did not write. What SOURCE may be: docs/tape-sources.md.

    Example: pricemaker export kafka tape-export --decisions
    """
    from streams.tape.export import Exporter

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    exporter = Exporter(
        settings, spec, folder, encoding, decisions=decisions, checkpoint=checkpoint, state=state
    )
    with progress_bar(output, f"exporting {Path(spec.source).name}") as advance:
        found = exporter.run(advance)
    output.document(msgspec.to_builtins(found), _table(found))


def _table(found: "Exported") -> Table:
    table = Table(show_header=False, box=None)
    decisions = "not exported" if found.decisions is None else (
        f"{found.decisions:,}, {found.decisions_written:,} of them new"
    )  # fmt: skip
    for name, value in (
        ("folder", found.folder),
        ("tape records", f"{found.records:,}, {found.records_written:,} of them new"),
        ("decisions", decisions),
        ("tape SHA-256", found.tape_sha256),
        ("prices SHA-256", found.prices_sha256),
        ("checkpoint", found.checkpoint),
        ("time", f"{found.seconds:.1f} s, {found.records_per_second:,.0f} records/s"),
    ):
        if value is not None:
            table.add_row(name, value)
    if found.reconstruction:
        table.add_row("", "a reconstruction: put together from source topics by event time")
    return table
