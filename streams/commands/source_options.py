"""SOURCE and the options that choose a stretch of it, for every command that reads a tape."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from schemas.events import time_ms
from schemas.topics import PARTITIONS_DEFAULT
from streams.commands.steering import TIME
from streams.tape.tape_selection import Offsets, Selection, SourceSpec, parse_offsets

SEE_PAGE = "What SOURCE may be: docs/tape-sources.md."
SOURCE_HELP = (
    'SOURCE is "kafka" (the tape topic), "kafka-sources" (the source topics, merged by event '
    "time), an exported folder, a tape file, an event file, or Online Retail as .csv or .xlsx: "
    "docs/tape-sources.md."
)


class OffsetsType(click.ParamType):
    """One offset for all partitions, or ``PARTITION:OFFSET,...``."""

    name = "offset"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Offsets:
        """Click's hook."""
        try:
            return parse_offsets(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


_OPTIONS = (
    click.argument("source"),
    click.option(
        "--partitions", type=click.IntRange(1, 1024), default=PARTITIONS_DEFAULT, show_default=True,
        help="Partitions of the tape that a file is placed on; Kafka's and an export's are "
        "their own.",
    ),
    click.option(
        "--from", "from_time", type=TIME, help="Begin with the tick that reaches this time, UTC."
    ),
    click.option("--to", "to_time", type=TIME, help="End before the tick that reaches this time."),
    click.option(
        "--from-offset", type=OffsetsType(), metavar="OFFSETS",
        help="Begin with this tape offset: N for all partitions, or 0:N,1:M.",
    ),
    click.option(
        "--to-offset", type=OffsetsType(), metavar="OFFSETS", help="End before this tape offset."
    ),
    click.option(
        "--from-group", metavar="GROUP", help="Begin where this consumer group is on the tape."
    ),
    click.option(
        "--only-partition", type=click.IntRange(0, 1023), multiple=True,
        help="Only this tape partition; may be given again.",
    ),
)  # fmt: skip


def source_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command SOURCE and its stretch; it receives ``spec: SourceSpec``.

    Where its help says ``SEE_PAGE`` it says what SOURCE may be.
    """

    @functools.wraps(function)
    def run(
        *args: Any,
        source: str,
        partitions: int,
        from_time: datetime | None,
        to_time: datetime | None,
        from_offset: Offsets | None,
        to_offset: Offsets | None,
        from_group: str | None,
        only_partition: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        selection = Selection(
            from_ms=_ms(from_time),
            to_ms=_ms(to_time),
            from_offset=from_offset,
            to_offset=to_offset,
            from_group=from_group,
            partitions=frozenset(only_partition) or None,
        )
        spec = SourceSpec(source=source, partitions=partitions, selection=selection)
        function(*args, spec=spec, **kwargs)

    run.__doc__ = (function.__doc__ or "").replace(SEE_PAGE, SOURCE_HELP)
    wrapped: Callable[..., None] = run
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else time_ms(moment.replace(tzinfo=UTC))
