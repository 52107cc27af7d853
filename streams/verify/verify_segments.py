"""Segments: which engine and policy decided a stretch of a tape partition, and how it was verified.

An engine is believed where the tape announces it (`engine_changed`) or the pricer's manifest names
it; a decision can't claim another engine to be judged by its looser bounds.
"""

import msgspec

from schemas import tape
from schemas.events import EngineChanged
from streams.verify.verification import SEGMENTS_MAX, EngineChange, Mode, Segment, Verification
from streams.verify.verify_order import Published

ENGINE_CHANGED = b'"engine_changed"'


def engine_id(fingerprint: str) -> str:
    """An engine as decisions name it."""
    return fingerprint.partition(" ")[0]


class Segments:
    """The segments of one tape partition, fed in tape order."""

    def __init__(self, partition: int, manifest_engine: str | None, found: Verification) -> None:
        self._partition, self._found = partition, found
        self._announced: dict[str, None] = {}
        self._first: dict[str, Published] = {}  # the first decision of each engine
        self._segment: Segment | None = None
        self._mine: list[Segment] = []
        if manifest_engine is not None:
            self._announced[engine_id(manifest_engine)] = None

    def look(self, offset: int, value: bytes) -> None:
        """Take note of a tape record that announces an engine."""
        if ENGINE_CHANGED not in value:
            return
        event = tape.decode(value).event
        if not isinstance(event, EngineChanged):
            return
        change = EngineChange(
            partition=self._partition,
            offset=offset,
            previous=engine_id(event.previous),
            engine=engine_id(event.fingerprint),
            worker=event.worker,
        )
        self._announced |= {change.previous: None, change.engine: None}
        known = self._found.engine_changes
        if known and msgspec.structs.replace(known[-1], offset=offset) == change:
            return  # an append that happened twice
        if len(known) < SEGMENTS_MAX:
            known.append(change)

    def decided(
        self, published: Published, policy_sha256: str, mode: Mode, *, confirmed: bool
    ) -> None:
        """Count a decision."""
        sketch, segment = published.sketch, self._segment
        self._first.setdefault(sketch.engine, published)
        here = (sketch.engine, policy_sha256, mode)
        if segment is None or (segment.engine, segment.policy_sha256, segment.mode) != here:
            segment = self._segment = Segment(
                partition=self._partition,
                first_offset=sketch.tape.offset,
                last_offset=sketch.tape.offset,
                engine=sketch.engine,
                policy_sha256=policy_sha256,
                mode=mode,
            )
            self._found.segments_total += 1
            if len(self._found.segments) < SEGMENTS_MAX:
                self._found.segments.append(segment)
                self._mine.append(segment)
        segment.last_offset = sketch.tape.offset
        segment.decisions += 1
        segment.confirmed += confirmed

    def unannounced(self) -> list[Published]:
        """At the end: the first decision of each engine that nothing but decisions names."""
        if not self._announced and self._first:  # a file has no manifest: its first engine is it
            self._announced[next(iter(self._first))] = None
        for segment in self._mine:
            segment.announced = segment.engine in self._announced
        return [first for engine, first in self._first.items() if engine not in self._announced]
