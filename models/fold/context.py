"""What a handler of the fold works with: partition, place on the tape, and what it leads to."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.fold.lessons import quality
from models.fold.market import Closed
from models.fold.partition import PartitionState
from models.fold.watch import Shown
from schemas import topics
from schemas.codec import canonical
from schemas.events import rfc3339
from schemas.outputs import Alert, AlertKind, TapePosition
from schemas.state import BreakerState, SkuState

NOTHING_SHOWN: Mapping[str, Shown] = {}


class Output(NamedTuple):
    """One record to produce."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Placed(NamedTuple):
    """An output and the tape offset that caused it: outputs leave in tape order."""

    offset: int
    output: Output


class Approval(NamedTuple):
    """A person's yes to a price that waited, and the id of the decision that proposed it."""

    price_id: str
    price_minor: int
    exogenous_log: float
    actor: str
    reason: str


class Request(NamedTuple):
    """A decision that an event asks for.

    ``now_ms`` is event time, ``clock_ms`` the tape's clock then (event time before any tick).
    ``catalogue`` is the catalogue's breaker as it stood at this place.
    """

    sku: str
    trigger: str
    offset: int
    now_ms: int
    clock_ms: int
    sales_ratio: float | None = None
    epoch_orders: int = 0
    approval: Approval | None = None
    catalogue: BreakerState = BreakerState()


class Refused(Exception):
    """An event contradicts the state: its dead letter is an output of the fold."""

    def __init__(self, code: str, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} was {value}; expected {expected}.")
        self.code, self.field, self.value, self.expected = code, field, value, expected


class Context:
    """The place of one record on the tape, and what observing it leads to."""

    __slots__ = (
        "catalogue", "clock_ms", "now_ms", "offset", "outputs", "partition", "requests", "shown",
    )  # fmt: skip

    def __init__(self, partition: PartitionState, offset: int, event_time_ms: int) -> None:
        self.partition = partition
        self.offset = offset
        clock_ms = partition.manifest.clock_ms
        self.clock_ms = event_time_ms if clock_ms is None else clock_ms
        self.now_ms = max(self.clock_ms, event_time_ms)
        self.catalogue = partition.catalogue_breaker
        self.outputs: list[Placed] = []
        self.requests: dict[str, Request] = {}  # by SKU, in the order of asking
        self.shown: Mapping[str, Shown] = NOTHING_SHOWN  # what history's shop reported here

    def ask(
        self,
        state: SkuState,
        trigger: str,
        closed: Closed | None = None,
        approval: Approval | None = None,
    ) -> None:
        """Ask for a decision on a product; the first trigger of a record names it.

        What was found when its epoch closed is told in any case.
        """
        self.tell(state.sku, closed)
        if state.sku in self.requests:
            return
        ratio, orders = (closed.sales_ratio, closed.orders) if closed else (None, 0)
        self.requests[state.sku] = Request(
            state.sku, trigger, self.offset, self.now_ms, self.clock_ms, ratio, orders, approval,
            self.catalogue,
        )  # fmt: skip

    def tell(self, sku: str, closed: Closed | None) -> None:
        """Tell people what was found when a product's epoch closed."""
        for found in closed.findings if closed else ():
            self.alert(found.kind, sku, found.message, found.evidence)

    def doubt(self, state: SkuState, message: str, evidence: dict[str, Any]) -> None:
        """Tell people of bad data; at most once a product and event day."""
        for found in quality(state, self.now_ms, message, evidence):
            self.alert(found.kind, state.sku, found.message, found.evidence)

    def alert(
        self, kind: AlertKind, sku: str | None, message: str, evidence: dict[str, Any]
    ) -> None:
        """Tell people; the alert's id is a pure function of its place and subject."""
        self.outputs.append(
            alert(self.partition, self.offset, self.now_ms, kind, sku, message, evidence)
        )


def alert(
    partition: PartitionState,
    offset: int,
    now_ms: int,
    kind: AlertKind,
    sku: str | None,
    message: str,
    evidence: dict[str, Any],
    *,
    subject: str | None = None,
) -> Placed:
    """Build an alert record; ``subject`` is what it is about where that is no product."""
    number = partition.manifest.partition
    found = Alert(
        alert_id=f"{number}-{offset}-{kind}-{sku or subject or 'all'}",
        kind=kind,
        sku=sku,
        at=rfc3339(now_ms),
        message=message,
        evidence=evidence,
        tape=TapePosition(number, offset),
    )
    key = None if sku is None else sku.encode()
    return Placed(offset, Output(topics.ALERTS.name, key, canonical(found)))
