"""Where a tape can be read from: one grammar for every command that takes SOURCE.

==================  ==========================================================================
``kafka``           the tape topic
``kafka-sources``   the source topics, merged by event time, where no tape was kept
a folder            what ``pricemaker export`` wrote
a tape file         lines ``{"tape":{...},"source":{...},"event":{...}}``
an event file       lines ``{"topic":...,"event":{...}}``, placed on a tape as intake would
.csv, .xlsx         Online Retail, converted with the default assumptions
==================  ==========================================================================

Files may end in ``.gz`` or ``.zst``. What a source is comes in a `SourceSpec`, which can be sent to
another process; ``reads_partitions_alone`` says whether reading one partition costs only its share.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from schemas import topics
from schemas.errors import ConfigError, InputError, PricemakerError
from streams.kafka.kafka_settings import topic_name
from streams.tape import tape_files, tape_kafka
from streams.tape.exports import Export
from streams.tape.source_merge import TICK_SOURCE, Disorder, reconstructed
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.tape.tape_faults import ENGINE_CHANGED, SOURCE_FAULTS, explained, refuse_newer
from streams.tape.tape_selection import EVERYTHING, KAFKA, KAFKA_SOURCES, SourceSpec, selected

Progress = Callable[[float], None]
READ_DEADLINE_S = tape_kafka.READ_DEADLINE_S
Kind = Literal["kafka", "kafka sources", "export", "tape file", "event file", "online retail"]
_PLACE = re.compile(r"tape\[(\d+)\]@(\d+)")


class SourceFacts(Struct, kw_only=True):
    """What a result says of its source; ``first_offsets`` fill up while it is read.

    ``reconstruction``: the tape was put together from source topics, where none was kept, or is an
    export of such a tape; ``disorder`` says how well their order was that of time. ``assumptions``
    are what a foreign file did not hold.
    """

    source: str
    kind: Kind
    reconstruction: bool = False
    first_offsets: dict[int, int] = {}
    disorder: Disorder | None = None
    assumptions: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeSource:
    """An open source.

    Attributes
    ----------
    partitions : of the tape
    records : tape records in order of their partitions' offsets, to be read once
    refused : how many source records could not go on the tape so far
    facts : what a result says of its source
    locate : where a record stands, for people: file and line, segment and row, topic and offset
    """

    partitions: int
    records: Iterator[Placed]
    facts: SourceFacts
    locate: Callable[[int, int], str]
    refused: Callable[[], int] = field(default=lambda: 0)

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Say of a fault that the fold found where in the source it stands.

        Raises
        ------
        InputError : instead of what the fold raised for a tape that is not whole
        """
        try:
            yield
        except PricemakerError as error:
            place = _PLACE.fullmatch(error.where or "")
            if error.code not in SOURCE_FAULTS or place is None:
                raise
            where = self.locate(int(place[1]), int(place[2]))
            raise explained(error, where) from error


def open_source(
    spec: SourceSpec,
    settings: Any,
    progress: Progress | None = None,
    after: Mapping[int, int] | None = None,
) -> TapeSource:
    """Open a source.

    Parameters
    ----------
    settings : Kafka's are used where the source is on Kafka
    progress : told the share that was read, now and then
    after : begin after these offsets, by partition, where that saves reading; a file is read from
        its beginning

    Raises
    ------
    ConfigError : the selection does not fit the source
    InputError : not a source, or one that is not whole
    ServiceError : file or broker cannot be reached
    """
    if spec.selection.from_group is not None and spec.source != KAFKA:
        raise ConfigError(
            "group_needs_kafka", "--from-group needs SOURCE kafka.", field="--from-group",
            fix="Name the offsets: --from-offset.",
        )  # fmt: skip
    opened = _opened(spec, settings, progress, after or {})
    for number in sorted(spec.selection.partitions or ()):
        if number >= opened.partitions:
            raise ConfigError(
                "no_such_partition", f"partition was {number}; expected below {opened.partitions}.",
                where=spec.source, field="partition", value=number,
                expected=f"0 to {opened.partitions - 1}",
            )  # fmt: skip
    records = opened.records
    if spec.selection != EVERYTHING:
        records = selected(records, spec.selection)
    return replace(opened, records=_noted(records, opened))


def _opened(
    spec: SourceSpec, settings: Any, progress: Progress | None, after: Mapping[int, int]
) -> TapeSource:
    if spec.source == KAFKA:
        return _kafka(spec, settings, progress, after)
    if spec.source == KAFKA_SOURCES:
        return _reconstruction(spec, settings, progress)
    path = Path(spec.source)
    if path.is_dir():
        return _export(spec, Export(path), progress, after)
    return _file(spec, path, progress)


def _reconstruction(spec: SourceSpec, settings: Any, progress: Progress | None) -> TapeSource:
    facts = SourceFacts(
        source=KAFKA_SOURCES, kind="kafka sources", reconstruction=True, disorder=Disorder()
    )
    builder = TapeBuilder(spec.partitions, tick_source=TICK_SOURCE)
    return TapeSource(
        partitions=spec.partitions,
        records=reconstructed(settings, builder, facts.disorder, progress),
        facts=facts,
        locate=lambda number, offset: f"{KAFKA_SOURCES}, tape[{number}]@{offset}",
        refused=lambda: builder.dead_letters,
    )


def _kafka(
    spec: SourceSpec, settings: Any, progress: Progress | None, after: Mapping[int, int]
) -> TapeSource:
    partitions = tape_kafka.partitions_on(settings)
    topic = topic_name(settings, topics.TAPE.name)
    return TapeSource(
        partitions=partitions,
        records=tape_kafka.tape_records(settings, partitions, spec.selection, progress, after),
        facts=SourceFacts(source=KAFKA, kind="kafka"),
        locate=lambda number, offset: f"{topic}[{number}]@{offset}",
    )


def _export(
    spec: SourceSpec, export: Export, progress: Progress | None, after: Mapping[int, int]
) -> TapeSource:
    return TapeSource(
        partitions=export.partitions,
        records=export.tape(spec.selection, after, progress),
        facts=SourceFacts(
            source=spec.source, kind="export", reconstruction=export.manifest.reconstruction
        ),
        locate=export.locate,
    )


def _file(spec: SourceSpec, path: Path, progress: Progress | None) -> TapeSource:
    on_tape = partial(_line_place, path)
    if tape_files.is_table(path):
        tell = progress or (lambda _: None)
        builder = TapeBuilder(spec.partitions)
        return TapeSource(
            partitions=spec.partitions,
            records=tape_files.converted(builder, path, tell),
            facts=SourceFacts(
                source=spec.source, kind="online retail", assumptions=tape_files.assumed()
            ),
            locate=on_tape,
            refused=lambda: builder.dead_letters,
        )
    first = tape_files.first_line(path)
    size = max(path.stat().st_size, 1)
    share = None if progress is None else (lambda position: progress(position / size))
    if first.startswith(tape_files.TAPE_LINE):
        return TapeSource(
            partitions=spec.partitions,
            records=tape_files.tape_lines(path, spec.selection, share),
            facts=SourceFacts(source=spec.source, kind="tape file"),
            locate=partial(tape_files.line_of, path),
        )
    builder = TapeBuilder(spec.partitions)
    return TapeSource(
        partitions=spec.partitions,
        records=tape_files.built(builder, path, share),
        facts=SourceFacts(source=spec.source, kind="event file"),
        locate=on_tape,
        refused=lambda: builder.dead_letters,
    )


def _line_place(path: Path, partition: int, offset: int) -> str:
    return f"{path}, tape[{partition}]@{offset}"


def _noted(records: Iterator[Placed], opened: TapeSource) -> Iterator[Placed]:
    first = opened.facts.first_offsets
    for placed in records:
        if placed.partition not in first:
            first[placed.partition] = placed.offset
            _require_partition(placed, opened)
        if ENGINE_CHANGED in placed.value:
            refuse_newer(placed.value, opened.locate(placed.partition, placed.offset))
        yield placed


def _require_partition(placed: Placed, opened: TapeSource) -> None:
    if placed.partition >= opened.partitions:
        raise InputError(
            "partition_mismatch",
            f"partition was {placed.partition}; expected below {opened.partitions}.",
            where=opened.locate(placed.partition, placed.offset),
            field="partition",
            value=placed.partition,
            expected=f"0 to {opened.partitions - 1}",
            fix="Give the tape's number of partitions with --partitions.",
        )
