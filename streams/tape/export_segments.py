"""Segments: files of one partition's records, as Parquet or JSON lines, to the byte.

Parquet has two columns, ``offset`` and ``value`` (binary), in row groups of a few MB, compressed
with zstd. A JSON line is ``{"offset":7,"value":{...}}``; a value that is no JSON object on one line
stands there as ``"base64"``. JSON segments are gzip archives. Both are read and written a row group
at a time.
"""

import base64
import binascii
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InputError
from schemas.exports import Segment
from streams.tape.event_files import embeds
from streams.tape.packed_files import open_packed, packed_faults

SUFFIXES = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}
READ_ROWS = 4096
SCHEMA = pa.schema([("offset", pa.int64()), ("value", pa.binary())])
COPY_AGAIN = "Copy the folder again."

Row = tuple[int, bytes]


class SegmentWriter(Protocol):
    """A file under construction."""

    def write(self, rows: list[Row]) -> None: ...
    def close(self) -> None: ...


class ParquetSegment:
    """Writes row groups."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=False)

    def write(self, rows: list[Row]) -> None:
        """Write one row group."""
        offsets, values = zip(*rows, strict=True)
        columns = [pa.array(offsets, pa.int64()), pa.array(values, pa.binary())]
        self._writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=len(rows))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class JsonSegment:
    """Writes lines; the same records give the same bytes."""

    def __init__(self, path: Path) -> None:
        self._raw: IO[bytes] = path.open("wb")
        self._file = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)

    def write(self, rows: list[Row]) -> None:
        """Write a line a row."""
        self._file.write(b"".join(_line(offset, value) for offset, value in rows))

    def close(self) -> None:
        """End the archive."""
        self._file.close()
        self._raw.close()


def _line(offset: int, value: bytes) -> bytes:
    if embeds(value):
        return b'{"offset":%d,"value":%b}\n' % (offset, value)
    return orjson.dumps({"offset": offset, "base64": base64.b64encode(value).decode()}) + b"\n"


def new_segment(path: Path, encoding: str) -> SegmentWriter:
    """A file of this encoding."""
    return ParquetSegment(path) if encoding == "parquet" else JsonSegment(path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(folder: Path, segment: Segment, after: int = -1) -> Iterator[Row]:
    """The rows of a segment above an offset, after its file has been compared with the manifest.

    Raises
    ------
    InputError : the file is missing, cut or changed, or can't be read
    """
    path = folder / segment.file
    _check(path, segment)
    rows = _json_rows(path) if path.suffix == ".gz" else _parquet_rows(path)
    for offset, value in rows:
        if offset > after:
            yield offset, value


def _check(path: Path, segment: Segment) -> None:
    if not path.exists():
        raise _bad("segment_missing", "the manifest names this file; it is not there.", path)
    size = path.stat().st_size
    if size < segment.bytes:
        raise _bad(
            "damaged_file",
            f"the file is cut: it has {size} bytes; expected {segment.bytes}.",
            path,
            value=size,
            expected=f"{segment.bytes} bytes",
        )
    found = file_sha256(path)
    if found != segment.sha256:
        raise _bad(
            "segment_changed",
            f"SHA-256 of the file was {found}; expected {segment.sha256}.",
            path,
            value=found,
            expected=segment.sha256,
        )


def _bad(code: str, message: str, path: Path, **facts: Any) -> InputError:
    return InputError(code, message, where=str(path), field="file", fix=COPY_AGAIN, **facts)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(READ_ROWS, columns=["offset", "value"]):
                offsets, values = batch.column(0).to_pylist(), batch.column(1).to_pylist()
                yield from zip(offsets, values, strict=True)
    except (pa.ArrowException, OSError) as error:
        raise _bad("damaged_file", f"it can't be read as Parquet ({error}).", path) from error


class _JsonLine(msgspec.Struct):
    offset: int
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    base64: str = ""


_decoder = msgspec.json.Decoder(_JsonLine)


def _json_rows(path: Path) -> Iterator[Row]:
    number = 0
    with packed_faults(path, lambda: number + 1), open_packed(path) as (_, lines):
        for text in lines:
            number += 1
            try:
                line = _decoder.decode(text)
                if line.value is not msgspec.UNSET:
                    yield line.offset, bytes(line.value)
                else:
                    yield line.offset, base64.b64decode(line.base64, validate=True)
            except (msgspec.MsgspecError, binascii.Error) as error:
                raise InputError(
                    "damaged_file",
                    f"not a line of an exported segment ({error}).",
                    where=f"{path}:{number}",
                    field="line",
                    fix=COPY_AGAIN,
                ) from error
