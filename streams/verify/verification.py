"""What verifying a published history finds: differences, segments, and the totals."""

from typing import Any, Literal

from msgspec import Struct

DIFFERENCES_MAX = 20  # shown; all are counted
SEGMENTS_MAX = 1_000  # shown; all are counted
ABSENT = "(absent)"

Kind = Literal[
    "altered", "missing", "unexpected", "repeated", "reordered", "version_gap",
    "unannounced_engine", "latest_differs", "manifest_differs",
]  # fmt: skip
Mode = Literal["bytes", "actions"]


class TapeEvent(Struct, frozen=True, kw_only=True):
    """The event on the tape that a decision follows from. ``source``: topic[partition]@offset."""

    type: str
    event_id: str
    event_time: str
    sku: str | None
    source: str


class Difference(Struct, kw_only=True):
    """One thing that history does not confirm; ``fields``: path -> (published, recomputed).

    ``tape`` and ``prices`` are places (partition and offset); ``other`` is the second decision of a
    pair: one stands on `prices` before ``price_id`` and after it on the tape (`reordered`), or is
    the one before a gap in a product's versions (`version_gap`).
    """

    kind: Kind
    price_id: str
    tape: str
    fields: dict[str, tuple[Any, Any]] = {}
    sku: str | None = None
    prices: str | None = None
    other: str | None = None
    event: TapeEvent | None = None


class Segment(Struct, kw_only=True):
    """A run of decisions of one engine and policy, and how it was verified.

    ``bytes``: recomputed here by the same engine, byte for byte. ``actions``: published by another
    engine; its decisions were taken as the actions, prices agree within one step of the policy's
    rounding and profits within 1e-6. Offsets are the tape's, of the first and last decision.
    ``announced``: the tape or the pricer's manifest names the engine.
    """

    partition: int
    first_offset: int
    last_offset: int
    engine: str
    policy_sha256: str
    mode: Mode
    decisions: int = 0
    confirmed: int = 0
    announced: bool = True


class EngineChange(Struct, frozen=True, kw_only=True):
    """An `engine_changed` record on the tape."""

    partition: int
    offset: int
    previous: str
    engine: str
    worker: str


class VerifiedRange(Struct, kw_only=True):
    """What of a tape partition was verified. Nothing was where ``last_offset`` is the lower one.

    ``manifest_agrees``: the hash of all decisions is that in the pricer's manifest; null where
    there is none, or decisions differ.
    """

    partition: int
    first_offset: int
    last_offset: int
    from_checkpoint: bool = False
    manifest_agrees: bool | None = None


class Verification(Struct, kw_only=True):
    """What verifying found. ``agreed`` counts decisions of another engine, within its bounds.

    ``before_checkpoint`` decisions were not verified, since the state began behind them.
    ``held_back`` effective prices never reached `prices-latest`: the kill switch stopped them.
    ``latest`` counts the products whose price on `prices-latest` was compared; null where there is
    no such topic. ``window_decisions`` is the most that was held in memory at a time.
    """

    engine: str
    tape_records: int = 0
    decisions: int = 0
    reproduced: int = 0
    agreed: int = 0
    altered: int = 0
    missing: int = 0
    unexpected: int = 0
    repeated: int = 0
    reordered: int = 0
    version_gap: int = 0
    unannounced_engine: int = 0
    latest_differs: int = 0
    manifest_differs: int = 0
    before_checkpoint: int = 0
    latest: int | None = None
    held_back: int = 0
    window_decisions: int = 0
    segments_total: int = 0
    engines_published: dict[str, int] = {}
    ranges: list[VerifiedRange] = []
    segments: list[Segment] = []
    engine_changes: list[EngineChange] = []
    first_divergence: list[Difference] = []
    differences: list[Difference] = []

    @property
    def counts(self) -> dict[str, int]:
        """How many differences of each kind."""
        return {kind: getattr(self, kind) for kind in Kind.__args__}  # type: ignore[attr-defined]

    @property
    def confirmed(self) -> bool:
        """Whether every published decision was confirmed and none is missing."""
        return not any(self.counts.values())

    def note(self, difference: Difference) -> None:
        """Count a difference; the first few are kept."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


def differing_fields(published: Any, again: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Paths at which two JSON documents differ, with both values."""
    if isinstance(published, dict) and isinstance(again, dict):
        names = sorted({*published, *again})
        children = [(name, published.get(name, ABSENT), again.get(name, ABSENT)) for name in names]
    elif isinstance(published, list) and isinstance(again, list) and len(published) == len(again):
        children = [
            (str(index), one, other)
            for index, (one, other) in enumerate(zip(published, again, strict=True))
        ]
    else:
        return {} if published == again else {path: (published, again)}
    found: dict[str, tuple[Any, Any]] = {}
    for name, one, other in children:
        found |= differing_fields(one, other, f"{path}.{name}" if path else name)
    return found
