"""``pricemaker lag``: how far consumers are behind."""

import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.errors import InputError
from schemas.events import rfc3339
from schemas.topics import SOURCES, TAPE
from streams.config import Settings, load_settings
from streams.kafka.kafka_settings import client_config, group_id, topic_name
from streams.kafka.lag import GroupLag, PartitionLag, consumer_lag, known_groups, wall_clock_ms
from streams.output import Output, bootstrap_option, command_options

UNKNOWN = "unknown"


@click.command("lag")
@click.option("--group", "groups", multiple=True, help="Any consumer group.  [default: our own]")
@click.option("--watch", is_flag=True, help="Measure again and again, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=5.0,
    show_default=True,
    help="Seconds between measurements with --watch.",
)
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    groups: tuple[str, ...],
    watch: bool,
    interval_s: float,
) -> None:
    """Show how far consumers are behind, in messages and seconds, per group, topic and partition.

    Seconds are the age of the next record to read. "unknown" is said where nothing was ever
    committed; it is never shown as 0. Messages count offsets: where a topic has transactions or is
    compacted, some of these may hold no record.

    Example: pricemaker lag --group pricemaker --watch
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    client = client_config(settings)
    while True:
        expected = _named(client, groups) if groups else _own(client, settings)
        measured = consumer_lag(client, expected)
        report = {"observed_at": rfc3339(wall_clock_ms()), "groups": [_plain(g) for g in measured]}
        if not watch:
            output.document(report, _table(report["observed_at"], measured))
            return
        output.record(report, _table(report["observed_at"], measured))
        time.sleep(interval_s)


def _own(client: dict[str, Any], settings: Settings) -> dict[str, tuple[str, ...]]:
    """Our groups that exist, with the topics of their role; the common one if none does."""
    sources = tuple(topic_name(settings, topic.name) for topic in SOURCES)
    tape = (topic_name(settings, TAPE.name),)
    topics = {"all": sources + tape, "intake": sources, "pricer": tape}
    by_group = {}
    for role, names in topics.items():
        worker = settings.worker.model_copy(update={"role": role})
        by_group[group_id(settings.model_copy(update={"worker": worker}))] = names
    known = set(known_groups(client))
    existing = {group: names for group, names in by_group.items() if group in known}
    return existing or dict(list(by_group.items())[:1])


def _named(client: dict[str, Any], groups: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    known = known_groups(client)
    for group in groups:
        if group not in known:
            raise InputError(
                "unknown_group",
                f"there is no consumer group {group!r}.",
                field="--group",
                value=group,
                expected=f"one of {', '.join(known)}" if known else "a group; there is none yet",
                fix=f"Known groups: {', '.join(known) or 'none'}.",
            )
    return dict.fromkeys(groups, ())


def _plain(group: GroupLag) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(group),
        "consumer_lag_messages_sum": group.messages_sum,
        "consumer_lag_ms_max": group.lag_ms_max,
    }


def _table(observed_at: str, groups: list[GroupLag]) -> RenderableType:
    parts: list[RenderableType] = []
    for group in groups:
        head = f"{group.group}: {group.state}, {group.members} members, {observed_at}"
        table = Table(title=head, title_justify="left", box=None, pad_edge=False)
        table.add_column("topic")
        for name in ("partition", "committed", "end", "messages", "seconds"):
            table.add_column(name, justify="right")
        table.add_column("")
        for row in group.partitions:
            table.add_row(row.topic, *_cells(row))
        table.add_section()
        total, worst = _count(group.messages_sum), _seconds(group.lag_ms_max)
        table.add_row("all", "", "", "", total, worst, "")
        parts.append(table)
        parts.extend(
            Text(f"topic {topic} does not exist: run pricemaker topics create")
            for topic in group.topics_missing
        )
    return Group(*parts)


def _cells(row: PartitionLag) -> tuple[str, ...]:
    return (
        str(row.partition),
        _count(row.offset_committed),
        _count(row.offset_end),
        _count(row.consumer_lag_messages),
        _seconds(row.consumer_lag_ms),
        row.unknown or "",
    )


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _seconds(lag_ms: int | None) -> str:
    return UNKNOWN if lag_ms is None else f"{lag_ms / 1000:,.1f}"
