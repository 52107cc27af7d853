"""What became of every source record, found out from the topics alone.

The tape's own rule is applied in other code than the engine's: of each source partition only what
lies above the highest offset seen on this tape partition is *fresh*; a fresh event is a *repeat*
if its id is among the last ones of its SKU, or, for a tick, if it does not move the clock.
"""

from collections import Counter, defaultdict, deque
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from schemas.codec import decode_event
from schemas.errors import EventError
from schemas.events import ClockTicked, ProductListed
from schemas.topics import SOURCES
from tests.crash.evidence import Evidence, Record

REPEAT_WINDOW = 24  # event ids remembered per SKU

Source = tuple[str, int, int]  # topic, partition, offset


class Entry(NamedTuple):
    """One tape record and its fate: applied, stale (append twice), repeat or refused."""

    partition: int
    offset: int
    source: Source
    event: dict[str, Any]
    fate: str


class Letter(NamedTuple):
    """A dead letter, by its headers."""

    source: Source
    stage: str
    error: str
    tape: tuple[int, int] | None
    record: Record


def letters_of(evidence: Evidence) -> list[Letter]:
    """All dead letters."""
    found = []
    for record in evidence.topics["dead-letter"]:
        facts = {name: value.decode() for name, value in record.headers if name.startswith("dl_")}
        place = facts.get("dl_tape")
        partition, _, offset = (place or "").partition("-")
        found.append(
            Letter(
                (facts["dl_topic"], int(facts["dl_partition"]), int(facts["dl_offset"])),
                facts["dl_stage"],
                facts["dl_error"],
                (int(partition), int(offset)) if place else None,
                record,
            )
        )
    return found


def entries_of(evidence: Evidence, letters: list[Letter]) -> list[Entry]:
    """Every tape record with its fate, by partition and offset."""
    refused = {letter.tape for letter in letters if letter.stage == "fold"}
    partitions = sorted({record.partition for record in evidence.topics["tape"]})
    return [
        entry
        for partition in partitions
        for entry in _walk(partition, evidence.partition("tape", partition), refused)
    ]


def _walk(partition: int, records: list[Record], refused: set[Any]) -> list[Entry]:
    highest: dict[tuple[str, int], int] = defaultdict(lambda: -1)
    recent: dict[str, deque[str]] = {}
    clock: datetime | None = None
    entries = []
    for record in records:
        body = orjson.loads(record.value or b"")
        place, event = body["source"], body["event"]
        source = (place["topic"], place["partition"], place["offset"])
        fate = "refused" if (partition, record.offset) in refused else "applied"
        if source[2] <= highest[source[:2]]:
            fate = "stale"
        else:
            highest[source[:2]] = source[2]
            if event["type"] == "clock_ticked":
                now = datetime.fromisoformat(event["event_time"])
                if clock is not None and now <= clock:
                    fate = "repeat"
                else:
                    clock = now
            elif "sku" in event and _seen_before(recent, event, source[0], fate):
                fate = "repeat"
        entries.append(Entry(partition, record.offset, source, event, fate))
    return entries


def _seen_before(
    recent: dict[str, deque[str]], event: dict[str, Any], topic: str, fate: str
) -> bool:
    seen = recent.get(event["sku"])
    if seen is None:
        if event["type"] != "product_listed" or fate == "refused":
            return False  # nothing is remembered of what was never listed
        seen = recent[event["sku"]] = deque(maxlen=REPEAT_WINDOW)
    name = f"{topic}/{event['event_id']}"
    if name in seen:
        return True
    seen.append(name)
    return False


def fates_by_source(entries: list[Entry]) -> dict[Source, Counter[str]]:
    """How often each source record met each fate on the tape."""
    fates: dict[Source, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        fates[entry.source][entry.fate] += 1
    return fates


class Expected(NamedTuple):
    """What must become of a source record: refused with a code, or on the tape."""

    error: str | None
    is_control: bool
    is_stale_tick: bool


def expectations(evidence: Evidence) -> dict[Source, Expected]:
    """Judge every source record anew: unreadable, too far ahead, never listed, or acceptable.

    A tick that is not above those before it in ``controls`` may be dropped without a trace. The
    feeder sends a listing, and waits for it, before anything else of its product.
    """
    decoded: dict[Source, Any] = {}
    for topic in SOURCES:
        for record in evidence.topics[topic.name]:
            source = (topic.name, record.partition, record.offset)
            try:
                decoded[source] = decode_event(
                    topic.name, record.key, record.value, record.headers
                ).event
            except EventError as error:
                decoded[source] = error.code
    listed = {event.sku for event in decoded.values() if isinstance(event, ProductListed)}
    tick_ms = -1
    found = {}
    for source, event in decoded.items():
        stale = isinstance(event, ClockTicked) and event.event_time_ms <= tick_ms
        if isinstance(event, ClockTicked):
            tick_ms = max(tick_ms, event.event_time_ms)
        error = event if isinstance(event, str) else None
        if error is None and event.event_time_ms > FAR_FUTURE_MS:
            error = "future_event_time"
        elif error is None and getattr(event, "sku", None) not in listed | {None}:
            error = "unknown_product"
        found[source] = Expected(error, source[0] == "controls", stale)
    return found


# The feed's times are either long past or centuries ahead: no clock is needed to tell.
FAR_FUTURE_MS = int(datetime.fromisoformat("2500-01-01T00:00:00+00:00").timestamp() * 1000)
