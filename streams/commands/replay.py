"""``pricemaker replay``: fold a tape again."""

from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.table import Table

from schemas.errors import InputError
from schemas.money import format_minor
from schemas.topics import PRICES
from streams.commands.source_options import source_options
from streams.config import load_settings
from streams.engines import warm_kernel
from streams.output import Output, bootstrap_option, command_options
from streams.progress import progress_bar
from streams.replay import Replay, ReplaySummary, TapeWriter, open_to_write
from streams.tape_selection import KAFKA, SourceSpec, begin_anywhere, starts_from
from streams.tape_sources import open_source

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("replay")
@source_options
@click.option(
    "--batch", "batch_records", type=click.IntRange(1), default=1000, show_default=True,
    help="Records per batch and partition; the result does not depend on it.",
)  # fmt: skip
@click.option("--stop-after", type=click.IntRange(1), help="Stop after so many tape records.")
@click.option("--out", type=FILE, help="Write the decisions, one JSON line each.")
@click.option("--tape-out", type=FILE, help="Write the tape that was replayed.")
@click.option("--save-checkpoint", type=FILE, help="Write the state at the end.")
@click.option(
    "--from-checkpoint", type=FILE, help="Go on from a saved state; earlier records are skipped."
)
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    batch_records: int,
    stop_after: int | None,
    out: Path | None,
    tape_out: Path | None,
    save_checkpoint: Path | None,
    from_checkpoint: Path | None,
) -> None:
    """Fold a tape again and print counts, speed and the SHA-256 of the decisions.

    What SOURCE may be: docs/tape-sources.md. Nothing is written to any topic.

    Example: pricemaker replay online-retail.jsonl --out decisions.jsonl
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    with progress_bar(output, f"replaying {Path(spec.source).name}") as advance:
        opened = open_source(spec, settings, advance)
        kernel = warm_kernel(settings.engine.compilation_cache_dir)
        with ExitStack() as files:
            sink = None if out is None else _DecisionWriter(files.enter_context(open_to_write(out)))
            replay = Replay(kernel, opened.partitions, batch_records, sink)
            if from_checkpoint is not None:
                replay.load(from_checkpoint)
            resumed = [one.partition for one in replay.engines if one.position >= 0]
            records = (
                opened.records if tape_out is None else TapeWriter(tape_out).tee(opened.records)
            )
            if spec.selection.from_middle:
                records = begin_anywhere(replay.engines, records)
            with opened.faults():
                replay.feed(records, stop_after)
    if save_checkpoint is not None:
        replay.save(save_checkpoint)
    summary = replay.summary()
    if not summary.records and from_checkpoint is None and spec.source == KAFKA:
        raise InputError("empty_tape", "the tape has no records.", where="tape")
    document: dict[str, Any] = msgspec.to_builtins(summary)
    document["refused_at_intake"] = opened.refused()
    document["source"] = {
        **msgspec.to_builtins(opened.facts, str_keys=True),
        "starts_from": starts_from(opened.facts.first_offsets, resumed),
    }
    output.document(document, _table(summary, opened.refused()))


class _DecisionWriter:
    """Writes the decisions of each batch, as they are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __call__(self, partition: int, outputs: list[Any]) -> None:
        for found in outputs:
            if found.topic == PRICES.name:
                self._file.write(found.value + b"\n")


def _table(summary: ReplaySummary, refused: int) -> Table:
    table = Table(show_header=False, box=None)
    spent = summary.exploration_cost_minor
    cost = ", ".join(format_minor(minor, currency) for currency, minor in spent.items())
    rows = [
        ("tape records", f"{summary.records:,} ({summary.ticks:,} clock ticks applied)"),
        ("applied, repeated", f"{summary.applied:,}, {summary.duplicates:,}"),
        ("dead letters", f"{refused:,} at intake, {summary.dead_letters:,} in the fold"),
        ("products", f"{summary.products:,}, {summary.products_priced:,} priced"),
        ("decisions", f"{summary.decisions:,}: {summary.published:,} published, "
                      f"{summary.held:,} held"),
        ("breaker trips, drifts", f"{summary.breaker_trips:,}, {summary.drifts:,}"),
        ("probes", f"{summary.probes:,}, expected cost {cost or 'none'}"),
        ("time", f"{summary.seconds:.1f} s, {summary.records_per_second:,.0f} records/s"),
        ("peak memory", f"{summary.peak_memory_mib:,.0f} MiB"),
        ("decisions SHA-256", summary.decisions_sha256),
        ("state SHA-256", summary.state_sha256),
        ("engine", summary.engine),
    ]  # fmt: skip
    for name, value in rows:
        table.add_row(name, value)
    return table
