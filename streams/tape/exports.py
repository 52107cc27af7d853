"""An exported folder as a source: manifest, and segments by topic and partition.

``manifest.json`` says which segments there are and what must be in them
(`schemas.exports.ExportManifest`); every file is compared with its hash there before a row of it is
used, and a partition can be read without the others.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from schemas.errors import InputError, ServiceError
from schemas.exports import FORMAT, ExportManifest, Log, PartitionLog, Segment
from streams.tape.export_segments import COPY_AGAIN, read_rows
from streams.tape.tape_builder import Placed
from streams.tape.tape_faults import is_newer, newer_engine
from streams.tape.tape_files import jump
from streams.tape.tape_selection import Selection, before_end

MANIFEST = "manifest.json"
UNFINISHED = "manifest.unfinished.json"  # while an export runs, and after one that was stopped
Topic = Literal["tape", "prices"]


class Export:
    """An exported folder that was finished.

    Raises
    ------
    InputError : no export, an unfinished one, or one of a newer version of this program
    ServiceError : the manifest can't be read
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = read_manifest(folder)
        if found is None:
            if (folder / UNFINISHED).exists():
                raise _unfinished(folder)
            raise InputError(
                "no_manifest", f"the folder has no {MANIFEST}.", where=str(folder),
                field="manifest", expected="a folder that pricemaker export wrote",
                fix="Give the folder that holds the manifest, not one of a partition.",
            )  # fmt: skip
        self.manifest = found

    @property
    def partitions(self) -> int:
        """Partitions of the tape."""
        return len(self.manifest.tape.partitions)

    def log(self, topic: Topic) -> Log:
        """What there is of a topic.

        Raises
        ------
        InputError : decisions were not exported
        """
        if topic == "tape":
            return self.manifest.tape
        if self.manifest.prices is None:
            raise InputError(
                "no_decisions", "the export has no decisions.", where=str(self.folder),
                fix="Export again with --decisions.",
            )  # fmt: skip
        return self.manifest.prices

    def records(
        self,
        topic: Topic,
        partition: int,
        *,
        after: int = -1,
        end: int | None = None,
        from_ms: int | None = None,
    ) -> Iterator[Placed]:
        """A partition's records, in order of their offsets.

        Parameters
        ----------
        after, end : only offsets above ``after`` and below ``end``
        from_ms : segments in which the clock does not reach this time are passed over

        Raises
        ------
        InputError : a segment is missing, cut or changed, or its offsets are not those of a tape
        """
        for segment in self.log(topic).partitions[partition].segments:
            early = from_ms is not None and (segment.tick_ms_max or from_ms - 1) < from_ms
            if segment.last <= after or early:
                continue
            if end is not None and segment.first >= end:
                return
            expected = segment.first
            for row, (offset, value) in enumerate(read_rows(self.folder, segment), start=1):
                if offset != expected and (topic == "tape" or offset < expected):
                    where = f"{self.folder / segment.file}, row {row}"
                    raise jump(partition, offset, expected, where)
                expected = offset + 1
                if end is not None and offset >= end:
                    return
                if offset > after:
                    yield Placed(partition, offset, value)

    def tape(
        self,
        selection: Selection,
        after: Mapping[int, int],
        progress: Callable[[float], None] | None,
    ) -> Iterator[Placed]:
        """The tape records of a selection, partition by partition; it begins early by time.

        Raises
        ------
        InputError : as `records`
        """
        chosen = [log for log in self.manifest.tape.partitions if selection.has(log.partition)]
        total, done = max(sum(log.records for log in chosen), 1), 0
        for number in (log.partition for log in chosen):
            begin = max(after.get(number, -1), selection.first_offset(number) - 1)
            found = self.records(
                "tape", number, after=begin, end=selection.end_offset(number),
                from_ms=selection.from_ms,
            )  # fmt: skip
            for placed in before_end(found, selection):
                done += 1
                if progress is not None and not done % 1000:
                    progress(done / total)
                yield placed

    def locate(self, partition: int, offset: int) -> str:
        """Segment and row of a tape record."""
        for segment in self.manifest.tape.partitions[partition].segments:
            if segment.first <= offset <= segment.last:
                return f"{self.folder / segment.file}, row {offset - segment.first + 1}"
        return f"{self.folder}, tape[{partition}]@{offset}"


def _unfinished(folder: Path) -> InputError:
    return InputError(
        "export_unfinished",
        "the export was stopped before it was finished.",
        where=str(folder / UNFINISHED),
        field="manifest",
        expected=f"a {MANIFEST}",
        fix="Run pricemaker export again with the same SOURCE: it goes on.",
    )


def latest_manifest(folder: Path) -> ExportManifest | None:
    """From where an export goes on: the finished manifest, or that of an export that was stopped.

    Raises
    ------
    InputError, ServiceError : as `read_manifest`
    """
    found = [one for one in map(partial(read_manifest, folder), (MANIFEST, UNFINISHED)) if one]
    return max(found, key=lambda one: one.tape.records, default=None)


def read_manifest(folder: Path, name: str = MANIFEST) -> ExportManifest | None:
    """The manifest, checked; None where there is none.

    Raises
    ------
    InputError : it can't be read, a newer version wrote it, or its segments leave a hole
    ServiceError : the file system does not give it
    """
    path = folder / name
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceError("file_unreachable", f"{error}.", where=str(path)) from error
    try:
        head = msgspec.json.decode(text, type=_Head)
        if is_newer(head.version):
            raise newer_engine(head.version, str(path))
        if head.format > FORMAT:
            raise _newer_format(head.format, path)
        found = msgspec.json.decode(text, type=ExportManifest)
    except msgspec.MsgspecError as error:
        raise InputError(
            "bad_manifest", f"it can't be read: {error}.", where=str(path), field="manifest",
            expected="a manifest that pricemaker export wrote", fix=COPY_AGAIN,
        ) from error  # fmt: skip
    for log in found.tape.partitions:
        _require_whole(log, folder)
    return found


def _newer_format(found: int, path: Path) -> InputError:
    return InputError(
        "newer_format",
        f"the folder's format was {found}; this version reads up to {FORMAT}.",
        where=str(path),
        field="format",
        value=found,
        expected=f"at most {FORMAT}",
        fix="Upgrade pricemaker.",
    )


class _Head(msgspec.Struct):
    """What is read first: a newer version may have other fields beside."""

    format: int
    version: str


def _require_whole(log: PartitionLog, folder: Path) -> None:
    before: Segment | None = None
    for segment in log.segments:
        where = f"{folder / segment.file}, row 1"
        if before is not None and segment.first != before.last + 1:
            raise jump(log.partition, segment.first, before.last + 1, where)
        before = segment
