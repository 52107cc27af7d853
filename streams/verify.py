"""Verify: fold the tape again and compare every published decision with what comes out.

Byte for byte where this machine has the engine that a decision names; where the engines differ
the price must agree within one tick and the expected profit within 1e-6, and the result says so.

What was recomputed is kept as one digest a decision, so memory stays small; a decision that
differs is recomputed once more to show its fields.
"""

import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Literal

import msgspec
import orjson
from confluent_kafka import Consumer
from msgspec import Struct

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import topics
from schemas.errors import InputError
from schemas.outputs import TapePosition
from schemas.state import Manifest
from streams.kafka_settings import topic_name
from streams.reader import log_range, opened, read_to_end, require_partitions
from streams.tape_sources import READ_DEADLINE_S

BATCH_RECORDS = 1000
DIGEST_BYTES = 16
DIFFERENCES_MAX = 20
PROFIT_RELATIVE_MAX = 1e-6
ABSENT = "(absent)"


class Difference(Struct, kw_only=True):
    """One decision that history does not confirm; ``fields``: path -> (published, recomputed)."""

    kind: Literal["altered", "missing", "unexpected", "repeated"]
    price_id: str
    tape: str
    fields: dict[str, tuple[Any, Any]] = {}


class Verification(Struct, kw_only=True):
    """What verifying found; ``agreed`` counts decisions of another engine, within its bounds."""

    tape_records: int = 0
    decisions: int = 0
    reproduced: int = 0
    agreed: int = 0
    altered: int = 0
    missing: int = 0
    unexpected: int = 0
    repeated: int = 0
    engine: str
    engines_published: dict[str, int] = {}
    differences: list[Difference] = []

    @property
    def confirmed(self) -> bool:
        """Whether every published decision was confirmed and none is missing."""
        return not (self.altered or self.missing or self.unexpected or self.repeated)

    def note(self, difference: Difference) -> None:
        """Count a difference; the first few are kept."""
        setattr(self, difference.kind, getattr(self, difference.kind) + 1)
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


class _Published(Struct):
    """What is needed of every published decision."""

    price_id: str
    engine: str
    tape: TapePosition


def verify(settings: Any, kernel: Kernel) -> Verification:
    """Verify the whole history on the broker, up to what the pricer has committed.

    Raises
    ------
    InputError : a tape partition no longer begins at 0
    ServiceError : the broker cannot be reached, or topics are missing
    """
    found = Verification(engine=kernel.fingerprint.partition(" ")[0])
    with opened(settings, "verify") as consumer:
        count = require_partitions(consumer, topic_name(settings, topics.TAPE.name))
        committed = [_position(consumer, settings, number) for number in range(count)]
        expected = [
            _digests(consumer, settings, kernel, number, committed[number], found)
            for number in range(count)
        ]
        suspects: dict[str, bytes] = {}
        for value in _prices(consumer, settings):
            _compare(value, committed, expected, found, suspects)
        for number, remaining in enumerate(expected):
            for price_id, digest in remaining.items():
                if digest:
                    place = f"tape[{number}]@{price_id.split('-', 2)[1]}"
                    found.note(Difference(kind="missing", price_id=price_id, tape=place))
        if suspects:
            _explain_suspects(consumer, settings, kernel, committed, suspects, found)
    return found


def _position(consumer: Consumer, settings: Any, number: int) -> int:
    """The last tape offset whose outputs are committed; -1 for none."""
    position = -1
    topic = topic_name(settings, topics.STATE.name)
    for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
        if message.key() == b"manifest" and message.value() is not None:
            position = msgspec.json.decode(message.value(), type=Manifest).position
    return position


def _recomputed(
    consumer: Consumer, settings: Any, kernel: Kernel, number: int, last: int
) -> Iterator[bytes]:
    """Each decision of a partition again."""
    topic = topic_name(settings, topics.TAPE.name)
    begin, _ = log_range(consumer, topic, number)
    if begin > 0 and last >= 0:
        raise InputError(
            "tape_cut",
            f"the tape begins at offset {begin}; expected 0.",
            where=f"{topic}[{number}]",
            fix="Verify from an exported tape that still has its beginning.",
        )
    engine = PartitionEngine.new(number, kernel)
    waiting: list[tuple[int, bytes]] = []

    def applied() -> Iterator[bytes]:
        batch = engine.apply(waiting, with_state=False)
        waiting.clear()
        for output in batch.outputs:
            if output.topic == topics.PRICES.name:
                yield output.value

    for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
        if message.offset() > last:
            break
        waiting.append((message.offset(), message.value()))
        if len(waiting) >= BATCH_RECORDS:
            yield from applied()
    yield from applied()


def _digests(
    consumer: Consumer,
    settings: Any,
    kernel: Kernel,
    number: int,
    last: int,
    found: Verification,
) -> dict[str, bytes]:
    digests: dict[str, bytes] = {}
    for value in _recomputed(consumer, settings, kernel, number, last):
        price_id = msgspec.json.decode(value, type=_Published).price_id
        digests[price_id] = _digest(value)
    found.tape_records += last + 1
    return digests


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=DIGEST_BYTES).digest()


def _prices(consumer: Consumer, settings: Any) -> Iterator[bytes]:
    topic = topic_name(settings, topics.PRICES.name)
    for number in range(require_partitions(consumer, topic)):
        for message in read_to_end(consumer, topic, number, READ_DEADLINE_S):
            yield message.value()


def _compare(
    value: bytes,
    committed: list[int],
    expected: list[dict[str, bytes]],
    found: Verification,
    suspects: dict[str, bytes],
) -> None:
    decision = msgspec.json.decode(value, type=_Published)
    number, offset = decision.tape.partition, decision.tape.offset
    place = f"tape[{number}]@{offset}"
    if number < len(committed) and offset > committed[number]:
        return  # published after we looked: the next run has it
    found.decisions += 1
    found.engines_published[decision.engine] = found.engines_published.get(decision.engine, 0) + 1
    wanted = expected[number].get(decision.price_id) if number < len(expected) else None
    if wanted is None:
        found.note(Difference(kind="unexpected", price_id=decision.price_id, tape=place))
    elif not wanted:
        found.note(Difference(kind="repeated", price_id=decision.price_id, tape=place))
    elif wanted == _digest(value):
        found.reproduced += 1
        expected[number][decision.price_id] = b""
    else:
        suspects[decision.price_id] = value
        expected[number][decision.price_id] = b""


def _explain_suspects(
    consumer: Consumer,
    settings: Any,
    kernel: Kernel,
    committed: list[int],
    suspects: dict[str, bytes],
    found: Verification,
) -> None:
    """Recompute decisions that differ: another engine's may agree within bounds."""
    for number, last in enumerate(committed):
        for value in _recomputed(consumer, settings, kernel, number, last):
            again = orjson.loads(value)
            published_value = suspects.pop(again["price_id"], None)
            if published_value is None:
                continue
            published = orjson.loads(published_value)
            if published["engine"] != found.engine and _agrees(published, again):
                found.agreed += 1
                continue
            found.note(
                Difference(
                    kind="altered",
                    price_id=again["price_id"],
                    tape=f"tape[{number}]@{again['tape']['offset']}",
                    fields=differing_fields(published, again),
                )
            )


def _agrees(published: dict[str, Any], again: dict[str, Any]) -> bool:
    same = ("sku", "version", "status", "currency")
    if any(published[name] != again[name] for name in same):
        return False
    for name in ("price_minor", "wanted_minor"):
        one, other = published[name], again[name]
        if (one is None) != (other is None) or (one is not None and abs(one - other) > 1):
            return False
    if published["record"] is None or again["record"] is None:
        return published["record"] is again["record"]
    name = "expected_profit_per_day_minor"
    return math.isclose(
        published["record"][name], again["record"][name], rel_tol=PROFIT_RELATIVE_MAX
    )


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
