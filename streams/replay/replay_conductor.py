"""What a replay's lanes report to: progress, and when a checkpoint is due and whole."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from schemas.errors import EngineError
from streams.replay.checkpoints import Section, write_checkpoint


class Every(NamedTuple):
    """How often a checkpoint is written: after so many records, or so many seconds."""

    records: int | None = None
    seconds: float | None = None


class Conductor:
    """Adds up what lanes report, and writes a checkpoint when all have handed in their parts.

    Parameters
    ----------
    lanes : how many there are
    partitions : of the tape
    checkpoint : where it is written; None: nowhere
    every : beside the one at the end
    progress : told records and share
    """

    def __init__(
        self,
        lanes: int,
        partitions: int,
        checkpoint: Path | None,
        every: Every,
        progress: Callable[[int, float], None],
    ) -> None:
        self._partitions = partitions
        self._checkpoint = checkpoint
        self._every = every
        self._progress = progress
        self._reported = [(0, 0.0)] * lanes
        self._sections: dict[int, list[Section]] = {}
        self._awaited: set[int] = set()
        self._engine = ""
        self._saved_records = 0
        self._saved_s = time.monotonic()
        self.checkpoints = 0

    def ready(self, engine: str) -> None:
        """A lane's kernel is warm.

        Raises
        ------
        EngineError : another lane has another engine, as when the program was changed meanwhile
        """
        if self._engine not in ("", engine):
            raise EngineError(
                "engines_differ",
                f"the processes have different engines: {self._engine!r} and {engine!r}.",
                expected="one engine fingerprint",
                fix="Replay again, and leave the program as it is meanwhile.",
            )
        self._engine = engine
        self._saved_s = time.monotonic()

    def note(self, lane: int, records: int, share: float) -> None:
        """How far a lane is."""
        self._reported[lane] = records, share
        total = sum(found for found, _ in self._reported)
        self._progress(total, sum(found for _, found in self._reported) / len(self._reported))

    def is_due(self) -> bool:
        """Whether parts of a checkpoint are to be asked for now."""
        if self._checkpoint is None or self._awaited:
            return False
        every = self._every
        total = sum(found for found, _ in self._reported)
        by_records = every.records is not None and total - self._saved_records >= every.records
        by_time = every.seconds is not None and time.monotonic() - self._saved_s >= every.seconds
        return by_records or by_time

    def ask(self, lanes: set[int]) -> None:
        """Parts were asked of these lanes; of the others those of before count."""
        self._awaited = set(lanes)

    def take(self, lane: int, sections: list[Section]) -> None:
        """A lane's part; the checkpoint is written when it was the last one awaited.

        Raises
        ------
        ServiceError : the file can't be written
        """
        self._sections[lane] = sections
        if lane in self._awaited:
            self._awaited.discard(lane)
            if not self._awaited:
                self.write()

    def write(self) -> None:
        """Write the parts that were handed in as the checkpoint.

        Raises
        ------
        ServiceError : the file can't be written
        """
        if self._checkpoint is None:
            return
        found = [one for sections in self._sections.values() for one in sections]
        write_checkpoint(self._checkpoint, self._engine, self._partitions, found)
        self.checkpoints += 1
        self._saved_records = sum(records for records, _ in self._reported)
        self._saved_s = time.monotonic()
