"""Files that may be compressed, by the end of their name: ``.gz``, ``.zst``, or plain."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from schemas.errors import InputError, ServiceError

BUFFER_BYTES = 1 << 20


@contextmanager
def open_packed(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file as it lies on disk (its position is the progress), and its content."""
    with path.open("rb", buffering=BUFFER_BYTES) as raw:
        if path.suffix == ".gz":
            with io.BufferedReader(gzip.GzipFile(fileobj=raw), BUFFER_BYTES) as lines:
                yield raw, lines
        elif path.suffix == ".zst":
            unpacked = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
            with io.BufferedReader(unpacked, BUFFER_BYTES) as lines:
                yield raw, lines
        else:
            yield raw, raw


@contextmanager
def packed_faults(path: Path, line: Callable[[], int]) -> Iterator[None]:
    """Tell what goes wrong with reading a file in our words.

    Parameters
    ----------
    line : the line that was being read, from 1

    Raises
    ------
    InputError : the archive ends too early or is damaged
    ServiceError : the file can't be read
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise _damaged(path, line(), error) from error
    except OSError as error:
        if path.suffix == ".zst" and error.errno is None:  # Arrow's word for a damaged stream
            raise _damaged(path, line(), error) from error
        raise ServiceError(
            "file_unreachable",
            f"{error.strerror or error}.",
            where=str(path),
            fix="Check the path and its permissions.",
        ) from error


def _damaged(path: Path, line: int, error: Exception) -> InputError:
    return InputError(
        "damaged_file",
        f"the archive ends too early or is damaged ({error}).",
        where=f"{path}:{line}",
        field="archive",
        expected="a complete archive",
        fix="Copy or make the file again.",
    )
