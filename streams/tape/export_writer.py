"""Writing an exported folder, and going on with one.

1. Records gather by partition into row groups of a few MB; a segment is written under a temporary
   name and renamed when it is full.
2. After each segment ``manifest.unfinished.json`` names what there is.
3. At the end ``manifest.json`` is replaced, and the other removed.

Segments are never written again, so a folder that grows stays readable meanwhile. A stop at any
point leaves whole segments and a manifest that names them; the next export begins after them. To
know that it reads the same tape it reads the last exported record of each partition again and
compares its hash.
"""

import hashlib
import os
from pathlib import Path

from msgspec.structs import replace

from schemas.codec import canonical
from schemas.errors import InputError, ServiceError
from schemas.exports import ExportManifest, Log, PartitionLog, Segment
from streams.tape.export_segments import SUFFIXES, SegmentWriter, file_sha256, new_segment
from streams.tape.exports import MANIFEST, UNFINISHED
from streams.tape.tape_builder import Placed
from streams.tape.tape_files import jump
from streams.tape.tape_hash import TapeHash, combined_sha256
from streams.tape.tape_selection import tick_ms

SEGMENT_BYTES = 64 << 20  # of values, before compression
GROUP_BYTES_MAX, GROUPS_BYTES_MAX = 4 << 20, 64 << 20  # of one partition, of all
PARTIAL = ".partial"


class LogWriter:
    """Writes one topic, by partition.

    Parameters
    ----------
    topic : ``tape`` or ``prices``
    before : what an earlier export wrote; None begins anew
    contiguous : whether offsets rise by one (a topic of transactions has gaps)
    """

    def __init__(
        self,
        folder: Path,
        topic: str,
        encoding: str,
        partitions: int,
        before: Log | None,
        *,
        contiguous: bool,
    ) -> None:
        logs = before.partitions if before is not None else _empty(partitions)
        self.written = 0
        self._parts = [
            _PartitionWriter(folder, topic, encoding, log, partitions, contiguous) for log in logs
        ]

    @property
    def after(self) -> dict[int, int]:
        """Begin reading after these offsets: the last exported record comes once more."""
        last = {part.log.partition: part.log.last for part in self._parts}
        return {number: offset - 1 for number, offset in last.items() if offset is not None}

    def write(self, placed: Placed) -> bool:
        """Take a record; True when a segment was finished by it.

        Raises
        ------
        InputError : it does not follow the last one, or is of another tape
        ServiceError : the file system does not take it
        """
        part = self._parts[placed.partition]
        if part.log.last is not None and placed.offset <= part.log.last:
            part.compare(placed)
            return False
        self.written += 1
        return part.write(placed)

    def close(self) -> None:
        """Finish the segments under construction."""
        for part in self._parts:
            part.finish()

    @property
    def log(self) -> Log:
        """What is written in finished segments."""
        logs = tuple(part.log for part in self._parts)
        return Log(
            records=sum(log.records for log in logs),
            sha256=combined_sha256(log.chain_sha256 for log in logs),
            partitions=logs,
        )


def _empty(partitions: int) -> list[PartitionLog]:
    return [PartitionLog(partition=number) for number in range(partitions)]


class _PartitionWriter:
    def __init__(
        self,
        folder: Path,
        topic: str,
        encoding: str,
        log: PartitionLog,
        partitions: int,
        contiguous: bool,
    ) -> None:
        self.log = log
        self._folder, self._topic, self._encoding = folder, topic, encoding
        self._contiguous = contiguous
        self._group_bytes_max = min(GROUP_BYTES_MAX, GROUPS_BYTES_MAX // partitions)
        self._hash = TapeHash(1, [log.chain_sha256])
        self._next = None if log.last is None else log.last + 1
        self._file: SegmentWriter | None = None
        self._rows: list[tuple[int, bytes]] = []
        self._group_bytes = self._segment_bytes = self._records = 0
        self._first = 0
        self._tick_ms: int | None = None

    def compare(self, placed: Placed) -> None:
        """Check that a record which was exported is the same."""
        found = hashlib.sha256(placed.value).hexdigest()
        if placed.offset == self.log.last and found != self.log.last_value_sha256:
            raise InputError(
                "other_tape",
                f"the record at offset {placed.offset} is not the one that was exported.",
                where=f"{self._topic}[{self.log.partition}]@{placed.offset}",
                field="sha256",
                value=found,
                expected=self.log.last_value_sha256,
                fix="Go on with the tape that this folder was begun with, or give another folder.",
            )

    def write(self, placed: Placed) -> bool:
        offset, value = placed.offset, placed.value
        expected = offset if self._next is None else self._next
        if offset < expected or (self._contiguous and offset != expected):
            where = f"{self._topic}[{self.log.partition}]@{offset}"
            raise jump(self.log.partition, offset, expected, where)
        self._next = offset + 1
        if not self._records:
            self._first = offset
        self._rows.append((offset, value))
        self._records += 1
        self._group_bytes += len(value)
        at_ms = tick_ms(value)
        if at_ms is not None:
            self._tick_ms = max(at_ms, self._tick_ms or at_ms)
        if self._group_bytes >= self._group_bytes_max:
            self._flush()
        if self._segment_bytes >= SEGMENT_BYTES:
            self.finish()
            return True
        return False

    def _flush(self) -> None:
        if not self._rows:
            return
        try:
            if self._file is None:
                self._partial.parent.mkdir(parents=True, exist_ok=True)
                self._file = new_segment(self._partial, self._encoding)
            self._file.write(self._rows)
        except OSError as error:
            raise unwritable(error, self._partial) from error
        for _, value in self._rows:
            self._hash.add(0, value)
        self._segment_bytes += self._group_bytes
        self._last_value = self._rows[-1][1]
        self._rows.clear()
        self._group_bytes = 0

    @property
    def _name(self) -> str:
        return f"{self._topic}/{self.log.partition}/{self._first:020d}{SUFFIXES[self._encoding]}"

    @property
    def _partial(self) -> Path:
        return self._folder / (self._name + PARTIAL)

    def finish(self) -> None:
        """Close the segment under construction, if there is one, and name it."""
        self._flush()
        if self._file is None or self._next is None:
            return
        path = self._folder / self._name
        try:
            self._file.close()
            sync(self._partial)
            self._partial.replace(path)
            size = path.stat().st_size
        except OSError as error:
            raise unwritable(error, path) from error
        last = self._next - 1
        segment = Segment(
            file=self._name, first=self._first, last=last, records=self._records, bytes=size,
            sha256=file_sha256(path), tick_ms_max=self._tick_ms,
        )  # fmt: skip
        self.log = replace(
            self.log,
            first=self._first if self.log.first is None else self.log.first,
            last=last,
            records=self.log.records + self._records,
            chain_sha256=self._hash.chains[0],
            last_value_sha256=hashlib.sha256(self._last_value).hexdigest(),
            segments=(*self.log.segments, segment),
        )
        self._file, self._tick_ms = None, None
        self._segment_bytes = self._records = 0


def sync(path: Path) -> None:
    """Bring a file to the disk, before another that names it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_manifest(folder: Path, manifest: ExportManifest, *, finished: bool) -> None:
    """Replace the manifest.

    Raises
    ------
    ServiceError : the file system does not take it
    """
    path = folder / (MANIFEST if finished else UNFINISHED)
    partial = path.with_name(path.name + PARTIAL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(canonical(manifest) + b"\n")
        sync(partial)
        partial.replace(path)
        if finished:
            (folder / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(error, path) from error


def unwritable(error: OSError, path: Path) -> ServiceError:
    """The file system's error as ours."""
    return ServiceError(
        "file_unreachable", f"{error.strerror or error}.", where=str(path),
        fix="Check the folder, its permissions and the room that is left.",
    )  # fmt: skip


def drop_partials(folder: Path) -> None:
    """Remove what a stopped export left unfinished."""
    for path in sorted(folder.glob(f"*/*/*{PARTIAL}")):
        path.unlink()
