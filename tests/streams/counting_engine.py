"""A small engine for tests of the spine: counts events per key, exactly once or visibly not.

Its outputs are gapless versions per SKU; it keeps the highest offset per source partition and
drops what is not above it, as every engine on this tape must.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from streams.worker.pricer import check_contiguous


class Output(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Batch(NamedTuple):
    outputs: list[Output]
    state: list[tuple[bytes, bytes | None]]
    position: int


class FoldBug(Exception):
    """Raised by an event with ``event_id`` "bug"."""


class CountingEngine:
    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.position = -1
        self.counts: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.duplicates = 0

    @classmethod
    def restored(cls, partition: int, records: Iterable[tuple[bytes, bytes]]) -> "CountingEngine":
        engine = cls(partition)
        for key, value in records:
            if key == b"manifest":
                manifest = orjson.loads(value)
                engine.position = manifest["position"]
                engine.seen = manifest["seen"]
                engine.duplicates = manifest["duplicates"]
            else:
                engine.counts[key.decode().removeprefix("count/")] = orjson.loads(value)
        return engine

    @property
    def controls_read(self) -> int:
        return self.seen.get("controls-0", -1)

    def announcement(self, source_offset: int, worker: str, version: str) -> bytes | None:
        return None

    def apply(self, records: Sequence[tuple[int, bytes]]) -> Batch:
        check_contiguous(self.partition, self.position, records)
        outputs: list[Output] = []
        changed: dict[str, int] = {}
        for offset, value in records:
            self._fold(offset, orjson.loads(value), outputs, changed)
        self.position = records[-1][0]
        state: list[tuple[bytes, bytes | None]] = [
            (f"count/{sku}".encode(), orjson.dumps(count)) for sku, count in changed.items()
        ]
        manifest = {
            "position": self.position,
            "seen": self.seen,
            "duplicates": self.duplicates,
        }
        state.append((b"manifest", orjson.dumps(manifest)))
        return Batch(outputs, state, self.position)

    def _fold(
        self, offset: int, record: dict, outputs: list[Output], changed: dict[str, int]
    ) -> None:
        source, event = record["source"], record["event"]
        place = f"{source['topic']}-{source['partition']}"
        if source["offset"] <= self.seen.get(place, -1):
            self.duplicates += 1
            return
        self.seen[place] = source["offset"]
        if event["event_id"] == "bug":
            raise FoldBug("an event that the fold cannot bear")
        sku = event.get("sku", "controls")
        version = self.counts[sku] = changed[sku] = self.counts.get(sku, 0) + 1
        tape = {"partition": self.partition, "offset": offset}
        body = {"sku": sku, "version": version, "tape": tape, "event": event["event_id"]}
        outputs.append(Output("prices", sku.encode(), orjson.dumps(body)))


class CountingFactory:
    """The engine factory; remembers the engines it made, so that tests can look inside."""

    def __init__(self) -> None:
        self.engines: dict[int, CountingEngine] = {}
        self.restored = 0

    def new(self, partition: int) -> CountingEngine:
        return self._keep(CountingEngine(partition))

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> CountingEngine:
        self.restored += 1
        return self._keep(CountingEngine.restored(partition, records))

    def _keep(self, engine: CountingEngine) -> CountingEngine:
        self.engines[engine.partition] = engine
        return engine
