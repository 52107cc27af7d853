"""The file of a replay's decisions: partition after partition, each in tape order.

While a replay runs, each partition's decisions go to a file of their own, ``<name>.<partition>
.partial``; at the end they are joined. So the file's bytes depend on the tape alone, neither on
processes nor on batches, and a replay that goes on from a checkpoint cuts each part to the length
that the checkpoint knows: no decision is doubled or lost.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from schemas.errors import InputError, ServiceError
from streams.replay.checkpoints import Written

COPY_BYTES = 1 << 20
NOTHING = Written(bytes=0, sha256=hashlib.sha256().hexdigest())


def part_path(path: Path, partition: int) -> Path:
    """Where a partition's decisions are while the replay runs."""
    return path.with_name(f"{path.name}.{partition}.partial")


class DecisionPart:
    """One partition's decisions.

    Parameters
    ----------
    begin : what of the part there is by the checkpoint; what lies behind it is cut off

    Raises
    ------
    InputError : the part is not what the checkpoint knows
    ServiceError : it can't be written
    """

    def __init__(self, path: Path, partition: int, begin: Written) -> None:
        self._path = part_path(path, partition)
        try:
            self._file: IO[bytes] = self._path.open("r+b" if begin.bytes else "w+b")
            self._digest = _digest_of(self._file, begin.bytes)
            self._file.truncate(begin.bytes)
            self._file.seek(begin.bytes)
        except OSError as error:
            raise _unreachable(self._path, error) from error
        self._bytes = begin.bytes
        if self._digest.hexdigest() != begin.sha256:
            self._file.close()
            raise _mismatch(self._path)

    def write(self, line: bytes) -> None:
        """Append a decision."""
        self._file.write(line)
        self._digest.update(line)
        self._bytes += len(line)

    def mark(self) -> Written:
        """Make sure that all is on the disk, and how much that is.

        Raises
        ------
        ServiceError : the disk is full
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unreachable(self._path, error) from error
        return Written(bytes=self._bytes, sha256=self._digest.hexdigest())

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def prepare(path: Path, begins: Mapping[int, Written | None]) -> dict[int, Written]:
    """Find the parts that a checkpoint knows, and say where each partition begins to write.

    Where the file was joined, it is cut into its parts again. Without any file a new one begins,
    with the decisions from the checkpoint on.

    Parameters
    ----------
    begins : by partition, what the checkpoint knows; None where it knows of no file

    Raises
    ------
    InputError : there are decisions, and not those that the checkpoint knows
    ServiceError : a file can't be read or written
    """
    if not path.parent.is_dir():
        raise ServiceError(
            "file_unreachable",
            f"{path.parent} is no folder.",
            where=str(path),
            fix="Check the folder.",
        )
    numbers = sorted(begins)
    if any(part_path(path, number).exists() for number in numbers):
        return {number: begins[number] or NOTHING for number in numbers}
    if path.is_file() and any(begins.values()):
        known = {number: begins[number] or NOTHING for number in numbers}
        _split(path, known)
        return known
    return dict.fromkeys(numbers, NOTHING)


def join(path: Path, partitions: Iterable[int]) -> None:
    """Put the parts together, in partition order.

    Raises
    ------
    ServiceError : a file can't be written
    """
    parts = [part_path(path, number) for number in sorted(partitions)]
    first, *others = parts
    try:
        with first.open("ab") as file:
            for part in others:
                with part.open("rb") as more:
                    shutil.copyfileobj(more, file, COPY_BYTES)
        if path.exists() and not path.is_file():  # a device or a pipe keeps its name
            with first.open("rb") as whole, path.open("wb") as target:
                shutil.copyfileobj(whole, target, COPY_BYTES)
            first.unlink()
        else:
            first.replace(path)
        for part in others:
            part.unlink()
    except OSError as error:
        raise _unreachable(path, error) from error


def discard(path: Path, partitions: Iterable[int]) -> None:
    """Remove the parts of a replay that can't go on."""
    for number in partitions:
        part_path(path, number).unlink(missing_ok=True)


def _split(path: Path, known: Mapping[int, Written]) -> None:
    if path.stat().st_size != sum(one.bytes for one in known.values()):
        raise _mismatch(path)
    try:
        with path.open("rb") as file:
            for number, one in known.items():
                with part_path(path, number).open("wb") as part:
                    _copy(file, part, one.bytes)
        path.unlink()
    except OSError as error:
        raise _unreachable(path, error) from error


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size:
        block = source.read(min(size, COPY_BYTES))
        target.write(block)
        size -= len(block)


def _digest_of(file: IO[bytes], size: int) -> Any:
    digest = hashlib.sha256()
    while size:
        block = file.read(min(size, COPY_BYTES))
        if not block:
            break  # shorter than it should be: the digest will tell
        digest.update(block)
        size -= len(block)
    return digest


def _mismatch(path: Path) -> InputError:
    return InputError(
        "other_decisions",
        "the file's decisions are not those that the checkpoint was saved with.",
        where=str(path),
        expected="the file that was written up to the checkpoint, or none",
        fix="Give that file as --out, or the name of a new one.",
    )


def _unreachable(path: Path, error: OSError) -> ServiceError:
    return ServiceError("file_unreachable", f"{error}.", where=str(path), fix="Check the folder.")
