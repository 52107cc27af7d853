"""The engine of one tape partition: the fold, and the driver that prices in waves.

Decisions that the fold asks for wait in a wave; a record of a family in which a decision waits,
waits behind it. A wave is priced when it is full, when a record reads more than its own family (a
control, a tick that looks at products, a successor), or when the batch ends. A family's records
stay in order, families do not see each other, every wave runs through the kernel's one padded
tile, and outputs leave in tape order: the bytes are the same however the tape was cut.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from models.breaker import breaker_scopes
from models.family import family_joint
from models.fold import catalogue_events, control_events
from models.fold.blocked import block, unblock
from models.fold.context import Context, Output, Placed, Request
from models.fold.fold import admit, observe
from models.fold.partition import PartitionState, StateRecord
from models.fold.shown import show
from models.fold.watch import Shown
from models.kernel.tile import Kernel
from models.pricing import discounts, follow, wave
from models.pricing.pose import Posed
from models.pricing.settle import Priced, settle
from schemas import tape, topics
from schemas.codec import canonical
from schemas.errors import EngineError
from schemas.events import (
    EPOCH,
    AnyEvent,
    ClockTicked,
    EngineChanged,
    ProductListed,
    SkuEvent,
)

ENGINE_SOURCE = "engine"  # the source named by announcements; no topic
WAVE_ROWS = 128  # two rows a decision: full tiles of 256


class Batch(NamedTuple):
    """What a run of tape records led to."""

    outputs: list[Output]  # in tape order
    state: list[StateRecord]  # changed records (None: tombstone), the manifest last
    position: int


class Admitted(NamedTuple):
    """A record that may be observed now or later."""

    context: Context
    record: tape.TapeRecord
    value: bytes

    @property
    def now_ms(self) -> int:
        """Event time of its place."""
        return self.context.now_ms


ShownAt = Callable[[int], Sequence[Shown]]
"""What buyers saw from a tape offset on, in the order in which it was shown."""


class PartitionEngine:
    """Folds one tape partition. Not thread-safe: one owner."""

    def __init__(self, state: PartitionState, kernel: Kernel) -> None:
        self.state = state
        self.kernel = kernel
        self._wave: dict[str, Posed] = {}
        self._waiting: dict[str, None] = {}  # families with a decision in the wave
        self._unlisted: dict[str, None] = {}  # products whose first listing waits
        self._behind: list[Admitted | Shown] = []
        self._shown: ShownAt | None = None
        self._outputs: list[Placed] = []

    @classmethod
    def new(cls, partition: int, kernel: Kernel) -> "PartitionEngine":
        """An engine before the first record of its partition."""
        return cls(PartitionState(partition, kernel.fingerprint), kernel)

    @classmethod
    def restore(
        cls, partition: int, records: Iterable[tuple[bytes, bytes]], kernel: Kernel
    ) -> "PartitionEngine":
        """An engine that goes on from the live records of a state partition.

        Raises
        ------
        EngineError : the records are no consistent state of this partition
        """
        return cls(PartitionState.restore(partition, records, kernel.fingerprint), kernel)

    def hold_shown(self, shown: ShownAt) -> None:
        """Hold what buyers see as history had it, whatever is published from here on.

        For folds that ask what another policy would have published (`models.fold.shown`).
        """
        self._shown = shown
        self.state.is_told = True

    @property
    def partition(self) -> int:
        """Number of the tape partition."""
        return self.state.manifest.partition

    @property
    def position(self) -> int:
        """Offset of the last applied tape record; -1 before the first."""
        return self.state.manifest.position

    @property
    def controls_read(self) -> int:
        """Highest offset of ``controls`` seen on the tape; -1 before the first."""
        return self.state.manifest.high_water.get(f"{topics.CONTROLS.name}/0", -1)

    def announcement(self, source_offset: int, worker: str, version: str) -> bytes | None:
        """The tape record that says that another engine than the last one prices from here on.

        None where the state was made by this engine. Decisions name the engine that made them in
        any case; the record tells an auditor where on the tape it changed.

        Parameters
        ----------
        source_offset : above that of any announcement before, such as the tape's end
        worker : who takes the partition over
        version : of the program that it runs
        """
        previous = self.state.manifest.engine
        if previous == self.kernel.fingerprint:
            return None
        event = EngineChanged(
            event_id=f"engine-{self.partition}-{source_offset}",
            event_time=EPOCH + timedelta(milliseconds=self.state.manifest.clock_ms or 0),
            fingerprint=self.kernel.fingerprint,
            previous=previous,
            worker=worker,
            version=version,
        )
        return tape.wrap(
            tape.Source(ENGINE_SOURCE, self.partition, source_offset), canonical(event)
        )

    def apply(self, records: Sequence[tuple[int, bytes]], *, with_state: bool = True) -> Batch:
        """Fold records (tape offset, value), contiguous from ``position + 1``.

        Parameters
        ----------
        with_state : False leaves ``Batch.state`` empty and forgets what changed, for replays: a
            checkpoint of theirs holds all records, and a list of changes would grow with the tape

        Raises
        ------
        EngineError : offsets jump, or the tape holds what intake cannot have written
        """
        for offset, value in records:
            if offset != self.position + 1:
                raise EngineError(
                    "tape_jump",
                    f"offset was {offset}; expected {self.position + 1}.",
                    where=f"tape[{self.partition}]@{offset}",
                )
            self._fold(offset, value)
        self._drain()
        placed = sorted(self._outputs, key=lambda found: found.offset)
        self._outputs.clear()
        for found in placed:
            if found.output.topic == topics.PRICES.name:
                self.state.chain(found.output.value)
        state = self.state.take_changed() if with_state else []
        self.state.forget_changed()
        return Batch([found.output for found in placed], state, self.position)

    def _fold(self, offset: int, value: bytes) -> None:
        record = self._decoded(offset, value)
        if self._wave and (self._reads_many(record) or self._stamps(record.event)):
            self._drain()
        context = admit(self.state, offset, record)
        shown = () if self._shown is None else self._shown(offset)
        if context is not None:
            if shown:
                context.shown = {found.sku: found for found in shown if found.applied}
            self._observe(Admitted(context, record, value))
        for found in shown:
            self._show(found)
        if len(self._wave) >= WAVE_ROWS:
            self._flush()

    def _observe(self, admitted: Admitted) -> None:
        """Observe a record, unless a decision on its family waits: then it waits behind it."""
        context, record, value = admitted
        if self._waits(record.event):
            self._behind.append(admitted)
            return
        observe(context, record, value)
        self._outputs.extend(context.outputs)
        if not context.requests:
            return
        for request, found in family_joint.asked(self.state, context.requests.values()):
            self._put(request, found)
        if len({self.state.catalogue[sku].family for sku in context.requests}) > 1:
            self._drain()  # a round is judged as a whole, so it is a wave of its own

    def _show(self, shown: Shown) -> None:
        """Let buyers see what history showed, unless a decision on its family waits."""
        if shown.applied:
            return  # its record is on the tape
        entry = self.state.catalogue.get(shown.sku)
        family = None if entry is None else entry.family
        if family in self._waiting or shown.sku in self._unlisted:
            self._behind.append(shown)
        else:
            self._outputs.extend(show(self.state, shown))

    def _waits(self, event: AnyEvent) -> bool:
        """Whether a product's event must wait; a first listing that waits holds the next ones."""
        if not isinstance(event, SkuEvent) or not self._wave:
            return False
        entry = self.state.catalogue.get(event.sku)
        if entry is not None:
            return entry.family in self._waiting
        family = event.family if isinstance(event, ProductListed) else None
        waits = (family or event.sku) in self._waiting or event.sku in self._unlisted
        if waits:
            self._unlisted[event.sku] = None
        return waits

    def _stamps(self, event: AnyEvent) -> bool:
        """Whether an event sets values that are counted in tape order, and would have to wait."""
        return isinstance(event, catalogue_events.STAMPING) and self._waits(event)

    def _decoded(self, offset: int, value: bytes) -> tape.TapeRecord:
        try:
            return tape.decode(value)
        except EngineError as error:
            error.where = f"tape[{self.partition}]@{offset}"
            raise

    def _reads_many(self, record: tape.TapeRecord) -> bool:
        """Whether a record reads or writes more than its own family's state."""
        event = record.event
        if isinstance(event, ProductListed):
            return event.predecessor is not None
        if isinstance(event, SkuEvent):
            return False
        if isinstance(event, ClockTicked):
            waiting = [posed.request.now_ms for posed in self._wave.values()]
            waiting += [found.now_ms for found in self._behind]
            return control_events.tick_reads(self.state, event, min(waiting), len(waiting))
        return True

    def _put(self, request: Request, found: Posed | str) -> None:
        """Put a decision into the wave, posed as the state is now."""
        if isinstance(found, Posed):
            self._outputs.extend(unblock(self.state, request))
            self._wave[request.sku] = found
            self._waiting[found.entry.family] = None
        else:
            self._outputs.extend(block(self.state, request, found))
            self._outputs.extend(discounts.withdraw(self.state, request, found))

    def _drain(self) -> None:
        """Price until no decision waits, and no record behind one."""
        while self._wave:
            self._flush()

    def _flush(self) -> None:
        """Price the waiting decisions, then observe what waits behind them, in tape order."""
        self._price(list(self._wave.values()))
        self._wave.clear()
        self._waiting.clear()
        self._unlisted.clear()
        behind, self._behind = self._behind, []
        for found in behind:
            if isinstance(found, Shown):
                self._show(found)
            else:
                self._observe(found)

    def _price(self, posed: list[Posed]) -> None:
        wishes = discounts.wishes(self.state, self.kernel, posed)
        priced = follow.take(self.state, self.kernel, self.priced(posed))
        for one, wished in zip(self._judged(priced), wishes, strict=True):
            settled = (
                settle(self.state, one) if one.action is None else follow.settle(self.state, one)
            )
            self._outputs.extend(settled)
            self._outputs.extend(discounts.settle(self.state, one.posed, one.path, wished, settled))

    def _judged(self, priced: list[Priced]) -> list[Priced]:
        """A round's prices, judged as a whole before any of them is settled."""
        catalogue, told = breaker_scopes.judge_round(
            self.state,
            [one.posed for one in priced],
            [one.path for one in priced],
            [one.chosen_minor for one in priced],
        )
        self._outputs.extend(told)
        if catalogue is None or all(one.posed.request.catalogue is catalogue for one in priced):
            return priced
        return [
            one._replace(
                posed=one.posed._replace(request=one.posed.request._replace(catalogue=catalogue))
            )
            for one in priced
        ]

    def priced(self, posed: list[Posed]) -> list[Priced]:
        """Price posed decisions together; the state is only read."""
        return wave.priced(self.state, self.kernel, posed)
