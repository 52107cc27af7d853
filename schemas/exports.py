"""The manifest of an exported tape: which files there are, and what must be in them."""

from typing import Literal

from msgspec import Struct

FORMAT = 1  # of the folder; a reader refuses a higher one


class Segment(Struct, frozen=True, kw_only=True):
    """A file of one partition's records. ``sha256`` and ``bytes`` are the file's.

    ``tick_ms_max`` is the latest clock tick in it, Unix milliseconds; null: none.
    """

    file: str
    first: int
    last: int
    records: int
    bytes: int
    sha256: str
    tick_ms_max: int | None = None


class PartitionLog(Struct, frozen=True, kw_only=True):
    """A partition: its offsets, and the chain of its records' hashes.

    ``last_value_sha256`` is of the last record's value: by it an export that goes on knows that it
    reads the same tape.
    """

    partition: int
    first: int | None = None
    last: int | None = None
    records: int = 0
    chain_sha256: str = ""
    last_value_sha256: str = ""
    segments: tuple[Segment, ...] = ()


class Log(Struct, frozen=True, kw_only=True):
    """A topic, by partition. ``sha256`` is over the partitions' chains."""

    records: int
    sha256: str
    partitions: tuple[PartitionLog, ...]


class EngineChange(Struct, frozen=True, kw_only=True):
    """Where on the tape another engine began to price; ``version`` is empty where it isn't told."""

    partition: int
    offset: int
    fingerprint: str
    previous: str
    version: str = ""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A state stored beside the tape; ``positions`` are null where it was copied from a file."""

    file: str
    bytes: int
    sha256: str
    positions: dict[str, int] | None = None


class ExportManifest(Struct, frozen=True, kw_only=True):
    """What ``pricemaker export`` wrote, and what wrote it.

    ``decided``: the last offset of each tape partition up to which all decisions are among
    ``prices``. ``engines``: of what is told on the tape and in the decisions.
    """

    format: int
    version: str
    source: str
    reconstruction: bool
    encoding: Literal["parquet", "jsonl"]
    tape: Log
    prices: Log | None = None
    decided: dict[str, int] | None = None
    engines: tuple[str, ...] = ()
    engine_changes: tuple[EngineChange, ...] = ()
    checkpoint: Checkpoint | None = None
