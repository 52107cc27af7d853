"""Which stretch of a tape is read, and what a stretch that does not begin at 0 means.

**By time.** A partition's clock moves by its clock ticks alone, and ticks stand on every partition
in the same order. So ``[from, to)`` is one consistent cut: it begins with the first tick at or
after ``from`` and ends before the first tick at or after ``to``, on each partition. A late event
belongs to the stretch in which it stood on the tape. Kafka's own timestamps are never compared with
event times.

**By offset.** One number for all partitions or one each; the end is excluded.

**By group.** From the offsets that a consumer group has committed on the tape topic (Kafka alone).

A fold that does not begin at the tape's beginning needs the state before it. With a checkpoint it
goes on from there; without one the stretch is folded **from an empty state**, and the result says
so (`StartsFrom`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from schemas.errors import ConfigError
from schemas.events import time_ms
from schemas.topics import PARTITIONS_DEFAULT
from streams.tape.tape_builder import Placed

if TYPE_CHECKING:  # the engine brings JAX, which takes seconds to load
    from models.fold.engine import PartitionEngine

StartsFrom = Literal["tape beginning", "checkpoint", "empty state"]
Offsets = int | Mapping[int, int]
KAFKA = "kafka"
KAFKA_SOURCES = "kafka-sources"
TICK = b'"clock_ticked"'
BEGINNINGS = {"from_ms": "--from", "from_offset": "--from-offset", "from_group": "--from-group"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A stretch of a tape; what is None does not limit it.

    Attributes
    ----------
    from_ms, to_ms : by the partitions' clocks, Unix milliseconds; ``to_ms`` is excluded
    from_offset, to_offset : for all partitions or by partition; ``to_offset`` is excluded
    from_group : the consumer group whose committed offsets are the beginning
    partitions : only these
    """

    from_ms: int | None = None
    to_ms: int | None = None
    from_offset: Offsets | None = None
    to_offset: Offsets | None = None
    from_group: str | None = None
    partitions: frozenset[int] | None = None

    def __post_init__(self) -> None:
        given = [flag for name, flag in BEGINNINGS.items() if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                "one_beginning", f"give one of {', '.join(given)}.", field=given[0],
                fix="A stretch of a tape has one beginning.",
            )  # fmt: skip
        if self.from_ms is not None and self.to_ms is not None and self.from_ms >= self.to_ms:
            raise ConfigError(
                "empty_range", "the end was not after the beginning.", field="--to",
                expected="--to later than --from",
            )  # fmt: skip

    @property
    def from_middle(self) -> bool:
        """Whether it may begin after the tape's beginning."""
        return any(getattr(self, name) is not None for name in BEGINNINGS)

    def has(self, partition: int) -> bool:
        """Whether a partition is read at all."""
        return self.partitions is None or partition in self.partitions

    def first_offset(self, partition: int) -> int:
        """No record below it is read; 0 where no offset was given."""
        return _of(self.from_offset, partition) or 0

    def end_offset(self, partition: int) -> int | None:
        """No record at or above it is read."""
        return _of(self.to_offset, partition)


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """A source as it is asked for; picklable.

    Attributes
    ----------
    source : see `streams.tape.tape_sources`
    partitions : of the tape that events are placed on; a tape has its own
    selection : the stretch that is read
    """

    source: str
    partitions: int = PARTITIONS_DEFAULT
    selection: Selection = EVERYTHING

    def only(self, partitions: frozenset[int]) -> "SourceSpec":
        """The same source, of some of the selected partitions."""
        chosen = frozenset(number for number in partitions if self.selection.has(number))
        return replace(self, selection=replace(self.selection, partitions=chosen))

    @property
    def reads_partitions_alone(self) -> bool:
        """Whether one partition can be read without the others; a file is read from end to end."""
        return self.source == KAFKA or Path(self.source).is_dir()


def _of(offsets: Offsets | None, partition: int) -> int | None:
    return offsets.get(partition) if isinstance(offsets, Mapping) else offsets


def parse_offsets(text: str) -> Offsets:
    """``parse_offsets("120")`` is 120, ``parse_offsets("0:120,2:90")`` is ``{0: 120, 2: 90}``.

    Raises
    ------
    ValueError : neither form, or a negative number
    """
    if text.isdecimal():
        return int(text)
    found: dict[int, int] = {}
    for part in text.split(","):
        partition, _, offset = part.partition(":")
        if not (partition.strip().isdecimal() and offset.strip().isdecimal()):
            raise ValueError(f"expected an offset, or PARTITION:OFFSET,... and not {text!r}")
        found[int(partition)] = int(offset)
    return found


class _Event(msgspec.Struct):
    type: str
    event_time: datetime


class _Record(msgspec.Struct):
    event: _Event


_decoder = msgspec.json.Decoder(_Record)


def tick_ms(value: bytes) -> int | None:
    """The time to which a tape record moves the clock, Unix milliseconds; None for other records.

    What cannot be read is left to the fold, which says why.
    """
    if TICK not in value:
        return None
    try:
        event = _decoder.decode(value).event
    except msgspec.MsgspecError:
        return None
    return time_ms(event.event_time) if event.type == "clock_ticked" else None


def before_end(records: Iterable[Placed], selection: Selection) -> Iterator[Placed]:
    """One partition's records, up to the end of a selection: reading stops there."""
    for placed in records:
        end = selection.end_offset(placed.partition)
        if (end is not None and placed.offset >= end) or _is_past(placed.value, selection.to_ms):
            return
        yield placed


def _is_past(value: bytes, to_ms: int | None) -> bool:
    at_ms = None if to_ms is None else tick_ms(value)
    return to_ms is not None and at_ms is not None and at_ms >= to_ms


def selected(records: Iterable[Placed], selection: Selection) -> Iterator[Placed]:
    """The records of a selection, of those that are read in the order of each partition."""
    waiting: dict[int, bool] = {}  # by partition: the beginning is still to come
    ended: dict[int, None] = {}
    from_ms, to_ms = selection.from_ms, selection.to_ms
    for placed in records:
        number, offset, value = placed
        if number in ended or not selection.has(number) or offset < selection.first_offset(number):
            continue
        end = selection.end_offset(number)
        at_ms = None if from_ms is None and to_ms is None else tick_ms(value)
        if (end is not None and offset >= end) or (
            to_ms is not None and at_ms is not None and at_ms >= to_ms
        ):
            ended[number] = None
            continue
        if from_ms is not None and waiting.get(number, True):
            if at_ms is None or at_ms < from_ms:
                continue
            waiting[number] = False
        yield placed


def begin_anywhere(
    engines: Sequence["PartitionEngine"], records: Iterable[Placed]
) -> Iterator[Placed]:
    """Let engines that have folded nothing begin at the first record that comes, wherever it is."""
    fresh = {engine.partition: engine for engine in engines if engine.position < 0}
    for placed in records:
        engine = fresh.pop(placed.partition, None)
        if engine is not None:
            engine.state.manifest.position = placed.offset - 1
        yield placed


def starts_from(first_offsets: Mapping[int, int], resumed: Collection[int]) -> StartsFrom:
    """What a fold began with.

    Parameters
    ----------
    first_offsets : the first offset that was read, by partition
    resumed : the partitions whose state came from a checkpoint
    """
    if any(offset > 0 for number, offset in first_offsets.items() if number not in resumed):
        return "empty state"
    return "checkpoint" if resumed else "tape beginning"
