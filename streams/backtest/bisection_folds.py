"""The folds of a bisection: history's once, then a probe's from a checkpoint on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.backtest.edits import Candidate, Rewriter, dropped
from models.fold.engine import PartitionEngine
from models.fold.watch import Closed, Shown
from models.kernel.tile import Kernel
from schemas import topics
from schemas.errors import FieldError
from schemas.events import AnyEvent, PolicyPublished
from schemas.outputs import PriceDecided
from schemas.policy import DEFAULT_POLICY_TEXT
from streams.backtest.backtest_jobs import prepare, take_over
from streams.backtest.backtest_spool import Spool, read_spooled
from streams.tape.tape_selection import tick_ms

BATCH_RECORDS = 1000
Record = tuple[int, bytes]  # tape offset and value
_decoder = msgspec.json.Decoder(PriceDecided)


class Place(NamedTuple):
    """What is asked about: a product's decision at a tape offset, or at or before a time."""

    sku: str
    partition: int
    offset: int | None
    at_ms: int | None


class Checkpoint(NamedTuple):
    """The state at a place from which probes go on."""

    records: list[tuple[bytes, bytes]]
    shown: dict[str, int]


@dataclass(slots=True)
class History:
    """The tape under its own policies, up to the place: the product's decisions, what buyers saw
    by tape offset, all policies that held. ``start`` is where a candidate takes over later.
    """

    decisions: list[PriceDecided] = field(default_factory=list)
    shown: dict[int, list[Shown]] = field(default_factory=dict)
    policies: list[str] = field(default_factory=lambda: [DEFAULT_POLICY_TEXT])
    start: Checkpoint | None = None


class _Onlooker:
    """Notes policies, and what buyers see until that is taken."""

    def __init__(self, policies: list[str]) -> None:
        self._policies = policies
        self.told: list[Shown] = []

    def applied(self, event: AnyEvent, now_ms: int) -> None:
        """Note a policy."""
        if isinstance(event, PolicyPublished):
            if event.policy in self._policies:
                self._policies.remove(event.policy)
            self._policies.append(event.policy)  # the one in force is the last

    def closed(self, closed: Closed) -> None:
        """Epochs are not looked at."""

    def shown(self, shown: Shown) -> None:
        """Note a price."""
        self.told.append(shown)


class Folds:
    """Folds the partition of one product."""

    def __init__(self, folder: Path, laid: Spool, kernel: Kernel, place: Place) -> None:
        self._folder, self._kernel, self._place = folder, kernel, place
        self._first = laid.first_offsets[place.partition]
        self._families = {sku: family for sku, (family, _) in laid.routes.items()}

    def history(self, switch_ms: int | None) -> History:
        """Fold the tape as published up to the place."""
        found, engine, seen = History(), self._engine(None), dict[str, int]()
        engine.state.watch = onlooker = _Onlooker(found.policies)
        waiting: list[Record] = []

        def flush() -> None:
            found.decisions += self._decisions(engine, waiting)
            waiting.clear()
            for shown in sorted(onlooker.told, key=lambda one: one.offset):
                found.shown.setdefault(shown.offset, []).append(shown)
                seen[shown.sku] = shown.price_minor
            onlooker.told.clear()

        for record in self.records(-1, self._place.offset):
            at_ms = tick_ms(record[1])
            if at_ms is not None:
                if self._place.at_ms is not None and at_ms > self._place.at_ms:
                    break
                if switch_ms is not None and at_ms >= switch_ms:
                    flush()
                    switch_ms = None
                    found.start = Checkpoint(engine.state.all_records(), dict(seen))
            waiting.append(record)
            if len(waiting) >= BATCH_RECORDS:
                flush()
        flush()
        return found

    def under(self, candidate: Candidate, history: History, last: int) -> PriceDecided | None:
        """The product's last decision up to an offset under a candidate.

        None where it has none, or where the candidate's rules make no policy.
        """
        engine = self._engine(history.start)
        engine.hold_shown(lambda offset: history.shown.get(offset, ()))
        found = [one for one in history.decisions if one.tape.offset <= engine.position]
        try:
            if history.start is None:
                prepare(engine, candidate)
            elif candidate.switch_ms is not None:
                take_over(engine, candidate)
            rewriter = Rewriter(candidate, self._families)
            switched = candidate.switch_ms is None or history.start is not None
            rewritten = (
                (offset, rewriter(value, switched=switched))
                for offset, value in self.records(engine.position, last)
            )
            for batch in batched(rewritten):
                found += self._decisions(engine, batch)
        except FieldError:
            return None
        return found[-1] if found else None

    def checkpoint(self, last: int) -> Checkpoint:
        """The state as published after an offset."""
        engine = self._engine(None)
        for batch in batched(self.records(-1, last)):
            engine.apply(batch, with_state=False)
        return Checkpoint(engine.state.all_records(), {})

    def with_dropped(
        self, start: Checkpoint, window: Sequence[Record], without: frozenset[int]
    ) -> PriceDecided | None:
        """The decision at the window's last record with the records at some places dropped.

        None where nothing is decided there.
        """
        engine = self._engine(start)
        found: list[PriceDecided] = []
        records = (
            (offset, dropped(value) if place in without else value)
            for place, (offset, value) in enumerate(window)
        )
        for batch in batched(records):
            found += self._decisions(engine, batch)
        return found[-1] if found and found[-1].tape.offset == window[-1][0] else None

    def records(self, after: int, last: int | None) -> Iterator[Record]:
        """The partition's records after an offset, up to another one; None: to the end."""
        for offset, value in read_spooled(self._folder, self._place.partition):
            if last is not None and offset > last:
                return
            if offset > after:
                yield offset, value

    def _engine(self, start: Checkpoint | None) -> PartitionEngine:
        number = self._place.partition
        if start is None:
            engine = PartitionEngine.new(number, self._kernel)
            engine.state.manifest.position = self._first - 1
            return engine
        engine = PartitionEngine.restore(number, start.records, self._kernel)
        engine.state.shown = dict(start.shown)
        return engine

    def _decisions(self, engine: PartitionEngine, records: Sequence[Record]) -> list[PriceDecided]:
        key = self._place.sku.encode()
        return [
            _decoder.decode(output.value)
            for output in engine.apply(records, with_state=False).outputs
            if output.topic == topics.PRICES.name and output.key == key
        ]


def batched(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Records in batches."""
    while batch := list(islice(records, BATCH_RECORDS)):
        yield batch
