"""A text file, compressed or not, with its faults told in our words."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schemas.errors import InputError, ServiceError

Position = Callable[[], float]  # which share of the file has been read, 0 to 1


@contextmanager
def open_text(path: Path) -> Iterator[tuple[TextIO, Position]]:
    """The text of a file, and a function that tells a progress bar how far it has been read.

    Raises
    ------
    InputError : a compressed file is cut or damaged
    ServiceError : the file can't be read
    """
    try:
        size = max(path.stat().st_size, 1)
        with path.open("rb") as raw:
            unpacked = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            text = io.TextIOWrapper(unpacked, "utf-8-sig", errors="replace", newline="")
            yield text, lambda: raw.tell() / size
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
        raise InputError(
            "damaged_file",
            f"the file is cut or damaged ({error}).",
            where=str(path),
            fix="Copy the file again.",
        ) from error
    except OSError as error:
        raise ServiceError(
            "file_unreachable",
            f"{error.strerror or error}.",
            where=str(path),
            fix="Check the path and its permissions.",
        ) from error
