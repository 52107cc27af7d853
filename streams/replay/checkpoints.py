"""Checkpoint files of a replay: the whole state of every partition, to go on from.

Lines of JSON: first what the checkpoint is of (``CheckpointHead``), then ``[partition, key,
record]`` for each state record, each partition's manifest last, at the end the SHA-256 of all that
stands before it. A packed record is a string, in base64. A file takes its name when it is whole
and on the disk, so that whatever ends a replay leaves the last checkpoint as it was.

Partitions do not see each other, so each may stand at a place of its own: any set of their
states is a consistent cut.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import orjson
from msgspec import Meta, Struct

from models.fold.engine import PartitionEngine
from models.fold.partition import MANIFEST_KEY
from models.kernel.tile import Kernel
from schemas.errors import EngineError, InputError, ServiceError

FORMAT = 1
StateRecords = list[tuple[bytes, bytes]]


class Written(Struct, frozen=True, kw_only=True):
    """How much of a partition's decisions were written, and the SHA-256 of these bytes."""

    bytes: int
    sha256: str


class Place(Struct, frozen=True, kw_only=True):
    """Where a partition stands: offset of its last record, and the SHA-256 of that record."""

    partition: int
    position: int
    record_sha256: str | None = None
    written: Written | None = None


class CheckpointHead(Struct, frozen=True, kw_only=True):
    """The first line: the engine that made the state, and where each partition stands."""

    checkpoint: int
    engine: str
    partitions: int
    places: tuple[Place, ...]


class Section(NamedTuple):
    """A partition's part of a checkpoint; it can go from process to process."""

    place: Place
    lines: bytes


class Checkpoint(NamedTuple):
    """A checkpoint read: state records by partition, those that were asked for."""

    head: CheckpointHead
    records: dict[int, StateRecords]

    def place(self, partition: int) -> Place:
        """Where a partition stands."""
        return next(one for one in self.head.places if one.partition == partition)


class _Tail(Struct, frozen=True):
    sha256: str


_head_decoder = msgspec.json.Decoder(CheckpointHead)
_tail_decoder = msgspec.json.Decoder(_Tail)
_place_decoder = msgspec.json.Decoder(tuple[Annotated[int, Meta(ge=0)], str, msgspec.Raw])


def section(
    engine: PartitionEngine, record_sha256: str | None = None, written: Written | None = None
) -> Section:
    """A partition as it stands."""
    lines = []
    for key, value in engine.state.all_records():
        place = orjson.dumps([engine.partition, key.decode()])
        plain = value.startswith(b"{")
        shown = value if plain else b'"%b"' % base64.b64encode(value)
        lines.append(place[:-1] + b"," + shown + b"]\n")
    place = Place(
        partition=engine.partition,
        position=engine.position,
        record_sha256=record_sha256,
        written=written,
    )
    return Section(place, b"".join(lines))


def write_checkpoint(path: Path, engine: str, partitions: int, sections: Iterable[Section]) -> None:
    """Write a checkpoint; whatever happens, ``path`` holds this one or the one before, whole.

    Raises
    ------
    ServiceError : the file can't be written
    """
    ordered = sorted(sections, key=lambda one: one.place.partition)
    head = CheckpointHead(
        checkpoint=FORMAT,
        engine=engine,
        partitions=partitions,
        places=tuple(one.place for one in ordered),
    )
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for part in (msgspec.json.encode(head) + b"\n", *(one.lines for one in ordered)):
                digest.update(part)
                file.write(part)
            file.write(msgspec.json.encode(_Tail(digest.hexdigest())) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error


def is_checkpoint(path: Path) -> bool:
    """Whether a file begins as checkpoints do.

    Raises
    ------
    ServiceError : the file can't be read
    """
    try:
        with path.open("rb") as file:
            return file.read(14) == b'{"checkpoint":'
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error


def read_checkpoint(path: Path, only: Collection[int] | None = None) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Parameters
    ----------
    only : the partitions whose records are wanted; None: all

    Raises
    ------
    InputError : it is no checkpoint, cut short, or not as it was written
    ServiceError : the file can't be read
    """
    records: dict[int, StateRecords] = {}
    digest = hashlib.sha256()
    number, tail = 1, b""
    try:
        with path.open("rb") as file:
            first = file.readline()
            head = _head(first, f"{path}:1")
            digest.update(first)
            for number, line in enumerate(file, start=2):
                if line.startswith(b"{"):
                    tail = line
                    break
                digest.update(line)
                partition, key, value = _state_line(line, f"{path}:{number}")
                if only is None or partition in only:
                    records.setdefault(partition, []).append((key, value))
            after = file.read(1)
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    if after or not _is_sound(tail, digest.hexdigest()):
        raise InputError(
            "bad_checkpoint",
            "the checkpoint is not whole: its SHA-256 is missing or another.",
            where=f"{path}:{number}",
            expected="the SHA-256 of all lines before it, at the end",
            fix="Go on from an earlier checkpoint, or replay from the tape's beginning.",
        )
    return Checkpoint(head, records)


def restored(number: int, found: Checkpoint, kernel: Kernel, path: Path) -> PartitionEngine:
    """The engine of a partition as a checkpoint says; its manifest is there, written last.

    Raises
    ------
    InputError : the checkpoint does not have it, or it is of another version
    """
    records = found.records.get(number, [])
    if not records or records[-1][0] != MANIFEST_KEY:
        raise InputError(
            "bad_checkpoint",
            f"partition {number} has no manifest at its end.",
            where=str(path),
            expected="the records of every partition, whole",
            fix="Save it again, or give the partitions that it was saved with.",
        )
    try:
        return PartitionEngine.restore(number, records, kernel)
    except (EngineError, msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(
            "bad_checkpoint", f"partition {number} can't be restored: {error}", where=str(path)
        ) from error


def require_partitions_of(found: Checkpoint, partitions: int, path: Path) -> None:
    """Refuse a checkpoint of another number of partitions than the tape has.

    Raises
    ------
    InputError : it is
    """
    if found.head.partitions != partitions:
        raise InputError(
            "partition_mismatch",
            f"the checkpoint has {found.head.partitions} partitions; the tape {partitions}.",
            where=str(path),
            field="partitions",
            value=found.head.partitions,
            expected=str(partitions),
            fix="Give the tape's number of partitions with --partitions.",
        )


def _head(line: bytes, where: str) -> CheckpointHead:
    try:
        head = _head_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise _no_checkpoint(where, error) from None
    if head.checkpoint != FORMAT:
        raise InputError(
            "bad_checkpoint",
            f"the checkpoint's format was {head.checkpoint}; expected {FORMAT}.",
            where=where,
            fix="Replay the tape from its beginning: another version wrote this file.",
        )
    return head


def _state_line(line: bytes, where: str) -> tuple[int, bytes, bytes]:
    try:
        partition, key, _ = _place_decoder.decode(line)
        value = line[len(orjson.dumps([partition, key])) :].rstrip()[:-1]
        if value.startswith(b'"'):
            value = base64.b64decode(value[1:-1], validate=True)
        return partition, key.encode(), value
    except (msgspec.MsgspecError, binascii.Error, UnicodeError) as error:
        raise _no_checkpoint(where, error) from None


def _no_checkpoint(where: str, error: Exception) -> InputError:
    return InputError("bad_checkpoint", f"not a checkpoint line: {error}.", where=where)


def _is_sound(tail: bytes, sha256: str) -> bool:
    try:
        return _tail_decoder.decode(tail).sha256 == sha256
    except msgspec.MsgspecError:
        return False
