"""Verify: fold the tape again and compare every published decision with what comes out.

Tape partition by tape partition, in two steps: `prices` is read once for its order
(`verify_order`), then each partition of the tape is folded beside the decisions that were published
from it (`verify_window`). Where this machine has the engine that a decision names, its bytes must
come out again. Decisions of another engine are taken as the actions that they were
(`models.pricing.follow`) and must agree within bounds. Memory: the state of one tape partition, and
a window of decisions, however long the history is.
"""

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec
import orjson

from models.fold.engine import PartitionEngine
from models.fold.taken import Taken
from models.kernel.tile import Kernel
from schemas import tape, topics
from schemas.errors import EngineError
from schemas.events import OperatorCommand, SkuEvent, rfc3339
from schemas.outputs import PriceDecided
from streams.tape.tape_faults import SOURCE_FAULTS, explained
from streams.verify.verification import (
    Difference,
    Mode,
    TapeEvent,
    Verification,
    VerifiedRange,
    differing_fields,
)
from streams.verify.verify_latest import compare_latest
from streams.verify.verify_order import Order
from streams.verify.verify_segments import Segments, engine_id
from streams.verify.verify_sources import Committed, History
from streams.verify.verify_window import Window

BATCH_RECORDS = 1000
SAME_VALUES: dict[str, tuple[object, object]] = {
    "(bytes)": ("written otherwise, with the same values", "as the engine writes")
}

Engines = Callable[[int], PartitionEngine]
Record = tuple[int, bytes]


def verify(
    history: History,
    kernel: Kernel,
    committed: Sequence[Committed] | None = None,
    engines: Engines | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Verification:
    """Verify a history, up to what the pricer had committed when this began.

    Parameters
    ----------
    committed : how far to verify, where it was asked for already
    engines : engines to begin with, by tape partition, such as those of a checkpoint
    progress : told the share of the tape that was folded, now and then

    Raises
    ------
    InputError : the tape no longer begins where the engine stands
    ServiceError : the source cannot be reached
    CheckFailed : too much stands out of order for a bounded memory
    """
    found = Verification(engine=engine_id(kernel.fingerprint))
    committed = history.committed() if committed is None else committed
    total = max(sum(one.last_offset + 1 for one in committed), 1)
    order = Order([one.last_offset for one in committed], found)
    for home in range(history.price_partitions()):
        order.scan(history.prices(home))
    for published in order.beyond:
        if published.sketch.tape.offset >= history.tape_end(published.sketch.tape.partition):
            found.note(published.difference("unexpected"))
    thrown: dict[int, dict[int, int]] = {}
    for number, one in enumerate(committed):
        engine = PartitionEngine.new(number, kernel) if engines is None else engines(number)
        partition = _Partition(history, order, engine, one, found, lambda n: progress(n / total))
        partition.verify(from_checkpoint=engines is not None)
        thrown[number] = partition.thrown
    touched = {one.sku for one in found.differences}
    for published, before in order.gaps:
        if published.sketch.sku not in touched:
            fields = {"version": (published.sketch.version, before.version + 1)}
            found.note(published.difference("version_gap", other=before.price_id, fields=fields))
    compare_latest(history, order, [one.last_offset for one in committed], thrown, found)
    return found


class _Partition:
    """One tape partition, folded beside what was published from it."""

    def __init__(
        self,
        history: History,
        order: Order,
        engine: PartitionEngine,
        committed: Committed,
        found: Verification,
        progress: Callable[[int], None],
    ) -> None:
        self.thrown: dict[int, int] = {}
        self._history, self._order, self._engine, self._found = history, order, engine, found
        self._number, self._committed = engine.partition, committed
        self._window = Window(history.prices, self._number, order, committed.last_offset, found)
        manifest = committed.manifest
        self._segments = Segments(
            self._number, None if manifest is None else manifest.engine, found
        )
        self._own, self._progress = found.engine, progress
        self._beyond: dict[str, dict[str, tuple[object, object]]] = {}
        self._batch: dict[int, bytes] = {}
        self._first: Difference | None = None
        engine.state.actions = self

    # -- what the fold asks, and tells

    def of(self, sku: str, offset: int) -> Taken | None:
        """A decision of another engine; this one's own must come out again by themselves."""
        published = self._window.ask(sku, offset)
        if published is None or published.sketch.engine == self._own:
            return None
        try:
            decision = msgspec.json.decode(published.entry.value, type=PriceDecided)
        except msgspec.MsgspecError:
            return None  # no decision that anybody can follow: compared as bytes
        successor = self._order.contradicted.get(decision.price_id)
        return Taken(decision, published.entry.value, successor)

    def compared(self, taken: Taken, fields: dict[str, tuple[object, object]]) -> None:
        """What of a followed decision lies beyond its bounds, until its output comes."""
        self._beyond[_key(taken.decision.sku, taken.decision.tape.offset)] = fields

    # -- folding

    def verify(self, *, from_checkpoint: bool) -> None:
        """Fold from where the engine stands to the last committed offset."""
        first, last = self._engine.position + 1, self._committed.last_offset
        found = self._found
        found.ranges.append(
            VerifiedRange(
                partition=self._number,
                first_offset=first,
                last_offset=last,
                from_checkpoint=from_checkpoint and first > 0,
            )
        )
        found.before_checkpoint += len(self._window.overtaken(first - 1))
        tape_records = self._history.tape(self._number, first, last)
        while records := list(islice(tape_records, BATCH_RECORDS)):
            self._fold(records)
        for displaced in self._window.displaced():
            self._note(displaced.published.difference("unexpected"))
        for published in self._segments.unannounced():
            fields = {"engine": (published.sketch.engine, self._own)}
            found.note(published.difference("unannounced_engine", fields=fields))
        self._compare_manifest()
        if self._first is not None:
            found.first_divergence.append(self._first)

    def _fold(self, records: list[tuple[int, bytes]]) -> None:
        try:
            self._follow(records)
        except EngineError as error:
            if error.code not in SOURCE_FAULTS:
                raise
            raise explained(error, error.where or f"tape[{self._number}]") from error

    def _follow(self, records: list[tuple[int, bytes]]) -> None:
        self._batch = dict(records)
        for offset, value in records:
            self._segments.look(offset, value)
            self._look(offset, value)
        batch = self._engine.apply(records, with_state=False)
        self._found.tape_records += len(records)
        self._progress(self._found.tape_records)
        for output in batch.outputs:
            if output.topic == topics.PRICES.name:
                self._compare(output.value)
        for published in self._window.overtaken(batch.position):
            self._note(published.difference("unexpected"))

    def _look(self, offset: int, value: bytes) -> None:
        """Remember where on the tape a kill switch was thrown."""
        if b'"kill_switch_on"' not in value:
            return
        record = tape.decode(value)
        if isinstance(record.event, OperatorCommand) and record.event.command == "kill_switch_on":
            self.thrown[offset] = record.source.offset

    def _compare(self, value: bytes) -> None:
        """One decision that came out, or one that was followed, with the one published."""
        again = orjson.loads(value)
        sku, offset = again["sku"], again["tape"]["offset"]
        published = self._window.ask(sku, offset)
        fields = self._beyond.pop(_key(sku, offset), None)
        if published is None:
            place = f"tape[{self._number}]@{offset}"
            missing = Difference(kind="missing", price_id=again["price_id"], tape=place, sku=sku)
            self._note(missing)
            return
        self._window.drop(sku, offset)
        mode: Mode = "bytes" if fields is None else "actions"
        if fields is None:
            same = published.entry.value == value
            fields = {} if same else _fields(published.entry.value, again)
            confirmed = same
            self._found.reproduced += same
        else:
            confirmed = not fields
            self._found.agreed += confirmed
        self._segments.decided(published, again["policy_sha256"], mode, confirmed=confirmed)
        if not confirmed:
            self._note(published.difference("altered", fields=fields))

    def _note(self, difference: Difference) -> None:
        offset = int(difference.tape.partition("@")[2])
        value = self._batch.get(offset)
        difference.event = None if value is None else _event(value)
        self._found.note(difference)
        first = self._first
        if first is None or offset < int(first.tape.partition("@")[2]):
            self._first = difference

    def _compare_manifest(self) -> None:
        """The hash over all decisions is the one that the pricer committed with the last of them.

        A checkpoint's hash has what came before it.
        """
        manifest = self._committed.manifest
        if manifest is None or self._first is not None or manifest.position < 0:
            return
        mine = self._engine.state.manifest.decisions_sha256
        agrees = self._found.ranges[-1].manifest_agrees = mine == manifest.decisions_sha256
        if not agrees:
            place = f"tape[{self._number}]@{manifest.position}"
            fields = {"decisions_sha256": (manifest.decisions_sha256, mine)}
            self._note(
                Difference(
                    kind="manifest_differs", price_id="(manifest)", tape=place, fields=fields
                )
            )


def _key(sku: str, offset: int) -> str:
    return f"{offset}-{sku}"


def _fields(published: bytes, again: object) -> dict[str, tuple[object, object]]:
    """What differs between bytes that do."""
    return differing_fields(orjson.loads(published), again) or SAME_VALUES


def _event(value: bytes) -> TapeEvent:
    record = tape.decode(value)
    event, source = record.event, record.source
    return TapeEvent(
        type=str(type(event).__struct_config__.tag),
        event_id=event.event_id,
        event_time=rfc3339(event.event_time_ms),
        sku=event.sku if isinstance(event, SkuEvent) else None,
        source=f"{source.topic}[{source.partition}]@{source.offset}",
    )
