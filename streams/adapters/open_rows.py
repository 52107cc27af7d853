"""Any form of Online Retail as rows."""

from collections.abc import Iterator
from pathlib import Path

from streams.adapters.prepared import is_prepared, open_csv, read_prepared
from streams.adapters.rows import Progress, Row
from streams.adapters.workbook import read_original


def open_rows(path: Path, progress: Progress, *, day_first: bool = False) -> Iterator[Row]:
    """Read the prepared CSV, the original workbook or its CSV export, told apart by the header.

    Raises
    ------
    InputError : not one of these forms, or a cell that can't be read
    ServiceError : the file can't be opened
    """
    if path.suffix != ".xlsx":
        with open_csv(path, lambda _: None) as (cells, _):
            header = next(cells, [])
        if is_prepared(header):
            return read_prepared(path, progress)
    return read_original(path, progress, day_first=day_first)
