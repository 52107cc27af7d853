"""Histories in memory for tests of verify: a tape, what was published, and changes to it."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.state import Manifest
from streams.verify.verify_order import Entry
from streams.verify.verify_sources import Committed

Record = tuple[int, bytes]
BATCH = 100


class Memory:
    """A history of one or several tape partitions, and of `published` partitions of `prices`."""

    def __init__(
        self,
        tapes: list[list[Record]],
        prices: list[list[bytes]],
        manifests: list[Manifest | None] | None = None,
        latest: dict[bytes, bytes] | None = None,
    ) -> None:
        self.tapes, self.published, self.kept = tapes, prices, latest
        self.manifests = manifests or [None] * len(tapes)
        self.written_ms: Callable[[Entry], int | None] = lambda _: None
        self.thrown: dict[int, int] = {}

    def committed(self) -> list[Committed]:
        return [
            Committed(len(records) - 1 if manifest is None else manifest.position, manifest)
            for records, manifest in zip(self.tapes, self.manifests, strict=True)
        ]

    def tape(self, number: int, first: int, last: int) -> Iterator[Record]:
        return iter(self.tapes[number][first : last + 1])

    def tape_end(self, number: int) -> int:
        return len(self.tapes[number])

    def price_partitions(self) -> int:
        return len(self.published)

    def prices(self, partition: int) -> Iterator[Entry]:
        for index, value in enumerate(self.published[partition]):
            entry = Entry(value, partition, index)
            yield entry._replace(at_ms=self.written_ms(entry))

    def latest(self) -> Iterator[tuple[bytes, bytes]] | None:
        return None if self.kept is None else iter(list(self.kept.items()))

    def thrown_ms(self) -> dict[int, int]:
        return self.thrown

    def close(self) -> None:
        return


def published(kernel: Kernel, tapes: list[list[Record]], prices: int = 1) -> Memory:
    """What an engine of this kernel publishes from tapes, spread over partitions by SKU."""
    spread: list[list[bytes]] = [[] for _ in range(prices)]
    latest: dict[bytes, bytes] = {}
    manifests: list[Manifest | None] = []
    for number, records in enumerate(tapes):
        engine = PartitionEngine.new(number, kernel)
        for start in range(0, len(records), BATCH):
            for output in engine.apply(records[start : start + BATCH]).outputs:
                if output.topic == "prices":
                    spread[sum(output.key or b"") % prices].append(output.value)
                elif output.topic == "prices-latest":
                    latest[output.key or b""] = output.value
        manifests.append(engine.state.manifest)
    return Memory(tapes, spread, manifests, latest)


def decision(history: Memory, number: int, partition: int = 0) -> dict[str, Any]:
    """One published decision."""
    found: dict[str, Any] = orjson.loads(history.published[partition][number])
    return found


def alter(history: Memory, number: int, partition: int = 0, **fields: Any) -> None:
    """Change fields of one published decision; ``record__x`` is a field of its record."""
    body = decision(history, number, partition)
    for name, value in fields.items():
        if name.startswith("record__"):
            body["record"][name.removeprefix("record__")] = value
        else:
            body[name] = value
    history.published[partition][number] = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def place(found: dict[str, Any]) -> str:
    """Where a decision stands on the tape."""
    return f"tape[{found['tape']['partition']}]@{found['tape']['offset']}"
