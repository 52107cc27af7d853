"""``pricemaker replay``: fold a tape again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from schemas.errors import ConfigError, InputError
from schemas.events import time_ms
from schemas.money import format_minor
from streams.commands.source_options import source_options
from streams.commands.steering import TIME
from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options
from streams.progress import rate_bar
from streams.replay.replay_conductor import Every
from streams.replay.replay_lane import Job
from streams.replay.replay_run import Replayed, as_document, run_replay
from streams.replay.replay_topics import open_topics
from streams.tape.tape_selection import KAFKA, Selection, SourceSpec
from streams.tape.tape_sources import open_source
from streams.worker.routes import tape_partition

FILE = click.Path(dir_okay=False, path_type=Path)
PROCESSES_MAX = 64


class EveryType(click.ParamType):
    """``5000`` records, or ``30s``."""

    name = "records|seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Every:
        text = str(value)
        try:
            found = (
                Every(seconds=float(text[:-1])) if text.endswith("s") else Every(records=int(text))
            )
        except ValueError:
            found = Every()
        if not any(limit is not None and limit > 0 for limit in found):
            self.fail(f"{text!r}; expected a number of records, or of seconds: 30s", param, ctx)
        return found


@click.command("replay")
@source_options
@click.option(
    "--processes", type=click.IntRange(1, PROCESSES_MAX), default=1, show_default=True,
    help="Fold partitions side by side in so many processes, one core each.",
)  # fmt: skip
@click.option(
    "--batch", "batch_records", type=click.IntRange(1), default=1000, show_default=True,
    help="Records per batch and partition; the result does not depend on it.",
)  # fmt: skip
@click.option("--stop-after", type=click.IntRange(1), help="Stop after so many tape records.")
@click.option(
    "--speed", type=click.FloatRange(min=0.0, min_open=True),
    help="So many times as fast as event time.  [default: as fast as it goes]",
)  # fmt: skip
@click.option(
    "--since", type=TIME,
    help="Write decisions from the tick that reaches this time on; all before it is folded, too.",
)  # fmt: skip
@click.option("--sku", "skus", multiple=True, help="Write this product's decisions only.")
@click.option(
    "--family", "families", multiple=True,
    help="Write this family's decisions only, and fold only the partitions that it needs.",
)  # fmt: skip
@click.option(
    "--out", type=FILE,
    help="Write the decisions, one JSON line each, by partition and then in tape order.",
)  # fmt: skip
@click.option("--tape-out", type=FILE, help="Write the tape that was replayed.")
@click.option("--checkpoint", type=FILE, help="Write the state at the end, and when interrupted.")
@click.option(
    "--checkpoint-every", type=EveryType(), default="60s", show_default=True,
    help="With --checkpoint: write it after so many records, too, or so many seconds (30s).",
)  # fmt: skip
@click.option(
    "--from-checkpoint", type=FILE,
    help="Go on from a saved state, and with the --out file that was written with it.",
)  # fmt: skip
@click.option(
    "--publish", "publish_prefix", metavar="PREFIX",
    help="Send what is decided to topics of this prefix, such as staging-; they are made.",
)  # fmt: skip
@click.option("--publish-live", is_flag=True, help="PREFIX is live, and is meant to be.")
@click.option(
    "--live-prefix", metavar="PREFIX", help="Said once more: the live topics' prefix."
)  # fmt: skip
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    spec: SourceSpec,
    processes: int,
    since: datetime | None,
    checkpoint: Path | None,
    checkpoint_every: Every,
    publish_prefix: str | None,
    publish_live: bool,
    live_prefix: str | None,
    **chosen: Any,
) -> None:
    """Fold a tape again and print counts, speed and the SHA-256 of the decisions.

    What SOURCE may be: docs/tape-sources.md. Nothing is written to any topic without --publish.
    Interrupted with --checkpoint it can be gone on with to the same hash: docs/replay.md.

    Example: pricemaker replay online-retail.jsonl --processes 2 --out decisions.jsonl
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    if processes > 1 and chosen["tape_out"] is not None:
        raise ConfigError(
            "one_process", "--tape-out needs one process.", field="--tape-out",
            fix="Leave --processes out.",
        )  # fmt: skip
    partitions = open_source(spec, settings).partitions
    only = _needed(spec.selection, chosen["skus"], chosen["families"], partitions)
    since_ms = None if since is None else time_ms(since.replace(tzinfo=UTC))
    publish = None
    if publish_prefix is not None:
        publish = open_topics(
            settings, publish_prefix, partitions, live=publish_live, named=live_prefix
        )
    job = Job(spec, settings, partitions, only, since_ms=since_ms, publish=publish, **chosen)
    with rate_bar(output, f"replaying {Path(spec.source).name}") as progress:
        replayed = run_replay(job, processes, checkpoint, checkpoint_every, progress)
    if not replayed.summary.records and job.from_checkpoint is None and spec.source == KAFKA:
        raise InputError("empty_tape", "the tape has no records.", where="tape")
    document = as_document(replayed) | {"partitions_folded": list(only)}
    output.document(document, _table(replayed))


def _needed(
    selection: Selection, skus: tuple[str, ...], families: tuple[str, ...], partitions: int
) -> tuple[int, ...]:
    """The partitions to fold: all, unless only families are chosen, since these name theirs."""
    needed = range(partitions)
    if families and not skus:
        needed = sorted({tape_partition(family, partitions) for family in families})
    return tuple(number for number in needed if selection.has(number))


def _table(replayed: Replayed) -> Table:
    summary = replayed.summary
    table = Table(show_header=False, box=None)
    spent = summary.exploration_cost_minor
    cost = ", ".join(format_minor(minor, currency) for currency, minor in spent.items())
    rows = [
        ("tape records", f"{summary.records:,} ({summary.ticks:,} clock ticks applied)"),
        ("applied, repeated", f"{summary.applied:,}, {summary.duplicates:,}"),
        ("dead letters", f"{replayed.refused:,} at intake, {summary.dead_letters:,} in the fold"),
        ("products", f"{summary.products:,}, {summary.products_priced:,} priced"),
        ("decisions", f"{summary.decisions:,}: {summary.published:,} published, "
                      f"{summary.held:,} held"),
        ("breaker trips, drifts", f"{summary.breaker_trips:,}, {summary.drifts:,}"),
        ("probes", f"{summary.probes:,}, expected cost {cost or 'none'}"),
        ("time", f"{summary.seconds:.1f} s, {summary.records_per_second:,.0f} records/s, after "
                 f"{summary.start_seconds:.1f} s to start {summary.processes} process(es)"),
        ("peak memory", f"{summary.peak_memory_mib:,.0f} MiB"),
        ("decisions SHA-256", summary.decisions_sha256),
        ("state SHA-256", summary.state_sha256),
        ("engine", summary.engine),
    ]  # fmt: skip
    for name, value in rows:
        table.add_row(name, value)
    return table
