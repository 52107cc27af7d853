"""A tape laid down once by partition, so that every fold of a backtest reads only its own part.

A record is 12 bytes of offset and length, then its value. What has been read this way is the same
for all candidates, also where the source goes on growing.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from schemas.errors import InputError
from schemas.events import rfc3339
from streams.tape.tape_builder import Placed
from streams.tape.tape_hash import TapeHash
from streams.tape.tape_selection import SourceSpec, StartsFrom, starts_from, tick_ms
from streams.tape.tape_sources import Progress, open_source

HEAD = struct.Struct("<qI")
BUFFER_BYTES = 1 << 20
LISTED = b'"product_listed"'


class Spool(Struct, frozen=True, kw_only=True):
    """What was laid down. ``routes``: SKU -> family and partition, of the listings on the tape."""

    source: str
    reconstruction: bool
    starts_from: StartsFrom
    partitions: int
    records: dict[int, int]
    first_offsets: dict[int, int]
    refused: int
    first_ms: int | None
    last_ms: int | None
    tape_sha256: str
    routes: dict[str, tuple[str, int]]

    @property
    def chosen(self) -> list[int]:
        """The partitions that have records."""
        return sorted(self.records)

    @property
    def ends(self) -> dict[int, int]:
        """The offset behind the last record, by partition."""
        return {at: self.first_offsets[at] + count for at, count in self.records.items()}

    @property
    def first_event(self) -> str | None:
        """Time of the first clock tick, UTC."""
        return None if self.first_ms is None else rfc3339(self.first_ms)

    @property
    def last_event(self) -> str | None:
        """Time of the last clock tick, UTC."""
        return None if self.last_ms is None else rfc3339(self.last_ms)


class _Listing(Struct):
    type: str
    sku: str
    family: str | None = None


class _Listed(Struct):
    event: _Listing


_listed = msgspec.json.Decoder(_Listed)


def spool(spec: SourceSpec, settings: Any, folder: Path, progress: Progress | None = None) -> Spool:
    """Read a source to its end and lay it down.

    Raises
    ------
    InputError : it is empty or not whole
    ServiceError : file or broker cannot be reached
    """
    opened = open_source(spec, settings, progress)
    found = _Writer(folder, opened.partitions)
    with opened.faults():
        found.write(opened.records)
    if not found.records:
        raise InputError("empty_tape", "the tape has no records.", where=spec.source)
    facts = opened.facts
    return Spool(
        source=facts.source,
        reconstruction=facts.reconstruction,
        starts_from=starts_from(facts.first_offsets, ()),
        partitions=opened.partitions,
        records=dict(sorted(found.records.items())),
        first_offsets=dict(sorted(facts.first_offsets.items())),
        refused=opened.refused(),
        first_ms=found.first_ms,
        last_ms=found.last_ms,
        tape_sha256=found.hashed.sha256,
        routes=found.routes,
    )


class _Writer:
    def __init__(self, folder: Path, partitions: int) -> None:
        self._folder = folder
        self.hashed = TapeHash(partitions)
        self.records: dict[int, int] = {}
        self.routes: dict[str, tuple[str, int]] = {}
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def write(self, records: Iterable[Placed]) -> None:
        """Lay records down, each on its partition's file."""
        files: dict[int, Any] = {}
        try:
            for placed in records:
                number, offset, value = placed
                file = files.get(number)
                if file is None:
                    path = partition_path(self._folder, number)
                    file = files[number] = path.open("wb", BUFFER_BYTES)
                    self.records[number] = 0
                file.write(HEAD.pack(offset, len(value)))
                file.write(value)
                self._note(number, value)
        finally:
            for file in files.values():
                file.close()

    def _note(self, number: int, value: bytes) -> None:
        self.records[number] += 1
        self.hashed.add(number, value)
        at_ms = tick_ms(value)
        if at_ms is not None:
            self.first_ms = at_ms if self.first_ms is None else self.first_ms
            self.last_ms = at_ms
        elif LISTED in value:
            try:
                event = _listed.decode(value).event
            except msgspec.MsgspecError:
                return  # the fold says why
            if event.type == "product_listed":
                self.routes.setdefault(event.sku, (event.family or event.sku, number))


def partition_path(folder: Path, partition: int) -> Path:
    """Where a partition's records lie."""
    return folder / f"tape-{partition}"


def read_spooled(folder: Path, partition: int) -> Iterator[tuple[int, bytes]]:
    """A partition's records: offset and value."""
    with partition_path(folder, partition).open("rb", BUFFER_BYTES) as file:
        while head := file.read(HEAD.size):
            offset, length = HEAD.unpack(head)
            yield offset, file.read(length)
