"""The records of one simulated step: collected, repeated, spoilt here and there, put in order."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.simulator import simulator_events as events
from models.simulator.simulator_truth import ShopSettings

REPEAT_MS_MAX = 600_000
NEVER_REPEATED = ("products", "controls")  # what is listed or shown must stay the newest word

SourceRecord = tuple[str, bytes | None]


class Record(NamedTuple):
    """One source record; ``number`` makes the order of equal times definite."""

    at_ms: int
    number: int
    topic: str
    value: bytes | None


class RecordBook:
    """Collects records and gives them out in time order."""

    def __init__(self, settings: ShopSettings, rng: np.random.Generator) -> None:
        self.repeats = 0
        self.bad_records: Counter[str] = Counter()
        self._settings = settings
        self._rng = rng
        self._records: list[Record] = []
        self._number = 0
        self._time_text = events.TimeText()

    def add(self, at_ms: int, topic: str, value: bytes | None) -> None:
        """Collect a record."""
        self._records.append(Record(at_ms, self.next_number(), topic, value))

    def next_number(self) -> int:
        """A number that is not used again, for ids."""
        self._number += 1
        return self._number

    def close(self, end_ms: int, skus: Sequence[str]) -> list[SourceRecord]:
        """All records since the last call in time order, with repeats and bad ones among them.

        Parameters
        ----------
        end_ms : end of the step; nothing lies at or after it but what was added so
        skus : products that bad records may be about
        """
        records, self._records = self._records, []
        chance = self._rng.random((2, len(records)))
        for k in np.flatnonzero(chance[0] < self._settings.duplicate_share).tolist():
            record = records[k]
            if record.topic not in NEVER_REPEATED:
                again_ms = record.at_ms + int(self._rng.integers(1, REPEAT_MS_MAX))
                again_ms = max(record.at_ms, min(again_ms, end_ms - 1))
                records.append(record._replace(at_ms=again_ms, number=self.next_number()))
                self.repeats += 1
        for k in np.flatnonzero(chance[1] < self._settings.bad_share).tolist():
            records.append(self._bad(records[k].at_ms, skus))
        records.sort(key=lambda record: (record.at_ms, record.number))
        return [(record.topic, record.value) for record in records]

    def _bad(self, at_ms: int, skus: Sequence[str]) -> Record:
        kinds = list(events.BAD_KINDS)
        kind = kinds[int(self._rng.integers(len(kinds)))]
        sku = skus[int(self._rng.integers(len(skus)))]
        self.bad_records[kind] += 1
        number = self.next_number()
        value = events.bad_event(kind, number, self._time_text(at_ms), sku)
        return Record(at_ms, number, "orders", value)
