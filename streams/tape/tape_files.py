"""Files as sources: tape files, event files placed as intake would, and foreign files.

A tape file has a line a record, ``{"tape":{"partition":0,"offset":0},"source":...,"event":...}``;
its offsets rise by one within each partition, from wherever they begin. An event file
(`streams.tape.event_files`) is in the order in which the events are sent, which may be any; where
its first line is ``{"order":"event_time"}`` no event may be older than the one before it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from schemas import tape
from schemas.errors import EngineError, InputError
from streams.adapters.online_retail import ATTRIBUTION, Assumptions, Converter
from streams.adapters.open_rows import open_rows
from streams.tape.event_files import read_events
from streams.tape.packed_files import open_packed, packed_faults
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.tape.tape_selection import Selection

TAPE_LINE = b'{"tape":'
TABLES = (".csv", ".csv.gz", ".xlsx")


def is_table(path: Path) -> bool:
    """Whether a file is read by an adapter: Online Retail as CSV or workbook."""
    return path.name.lower().endswith(TABLES)


def first_line(path: Path) -> bytes:
    """The first line, unpacked.

    Raises
    ------
    InputError : a damaged archive
    ServiceError : the file can't be read
    """
    with packed_faults(path, lambda: 1), open_packed(path) as (_, lines):
        return lines.readline()


def tape_lines(
    path: Path, selection: Selection, progress: Callable[[int], None] | None
) -> Iterator[Placed]:
    """The records of a tape file.

    Raises
    ------
    InputError : a line that is none, or is cut; an offset that does not follow; a damaged archive
    ServiceError : the file can't be read
    """
    number, expected = 0, dict[int, int]()
    # Other partitions' lines are passed over unread where the selection has only some.
    chosen = selection.partitions
    heads = tuple(b'{"tape":{"partition":%d,' % one for one in sorted(chosen or ()))
    with packed_faults(path, lambda: number + 1), open_packed(path) as (raw, lines):
        for line in lines:
            number += 1
            if progress is not None and not number % 1000:
                progress(raw.tell())
            if chosen is not None and not line.startswith(heads) and line.startswith(TAPE_LINE):
                continue
            try:
                (partition, offset), value = _parsed(line)
            except EngineError as error:
                raise _bad_line(error, f"{path}:{number}", line) from None
            if offset != expected.get(partition, offset):
                raise jump(partition, offset, expected[partition], f"{path}:{number}")
            expected[partition] = offset + 1
            yield Placed(partition, offset, value)


def _parsed(line: bytes) -> tuple[tuple[int, int], bytes]:
    position, value = tape.parse_line(line)
    return (position.partition, position.offset), value


def _bad_line(error: EngineError, where: str, line: bytes) -> InputError:
    cut = not line.endswith(b"\n")
    return InputError(
        "bad_tape_line",
        f"{error.message[:-1]}; the file ends in the middle of it." if cut else error.message,
        where=where,
        field="line",
        value=error.value,
        expected='{"tape":{...},"source":{...},"event":{...}} on one line',
        fix="Copy or make the file again.",
    )


def jump(partition: int, offset: int, expected: int, where: str) -> InputError:
    """The error for a record that does not follow the one before it."""
    why = "a record is missing before it" if offset > expected else "the records are out of order"
    return InputError(
        "tape_jump",
        f"offset of tape partition {partition} was {offset}; expected {expected}: {why}.",
        where=where,
        field="offset",
        value=offset,
        expected=str(expected),
        fix="Copy or make the tape again.",
    )


def line_of(path: Path, partition: int, offset: int) -> str:
    """Where in a tape file a record stands, as ``file:line``; read again, for an error message."""
    head = b'{"tape":{"partition":%d,"offset":%d}' % (partition, offset)
    with open_packed(path) as (_, lines):
        for number, line in enumerate(lines, start=1):
            if line.startswith(head):
                return f"{path}:{number}"
    return f"{path}, tape[{partition}]@{offset}"


def built(
    builder: TapeBuilder, path: Path, progress: Callable[[int], None] | None
) -> Iterator[Placed]:
    """An event file's records, placed."""
    for topic, value in read_events(path, progress):
        yield from builder.append(topic, value)


def assumed() -> dict[str, str]:
    """What is assumed where Online Retail is read without ``ingest``, and whose data it is."""
    return {**Assumptions().stamps(), "data": ATTRIBUTION}


def converted(
    builder: TapeBuilder, path: Path, progress: Callable[[float], None]
) -> Iterator[Placed]:
    """Online Retail, converted with the default assumptions and placed."""
    converter = Converter(Assumptions())
    for row in open_rows(path, progress):
        for topic, value in converter.convert(row):
            yield from builder.append(topic.decode(), value)
