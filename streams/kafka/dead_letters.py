"""Dead letters: input that could not be accepted, kept whole with the reason, and sent again.

A letter has the original's key, value, headers and timestamp unchanged, and string headers
``dl_*`` beside them. ``dl_id`` is ``topic-partition-offset``: a letter written twice is one
letter. Redriving sends the original to its topic again and leaves a mark in the dead-letter
topic (no value, ``dl_id`` and ``dl_redriven_at``), so that it is not redriven twice unnoticed.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from schemas.errors import EventError
from schemas.events import rfc3339
from schemas.topics import CONTROLS, DEAD_LETTER, SOURCES
from streams.kafka import reader
from streams.kafka.kafka_settings import topic_name
from streams.worker.outbox import IntakeOutbox, Send

APPLICATION = "pricemaker"
VERSION = version("pricemaker")
HEADER_PREFIX = "dl_"
ATTEMPTS = "1"  # a refusal is determined by the record: trying again would refuse again
READ_DEADLINE_S = 600.0

Headers = Iterable[tuple[str, bytes | None]]


def letter_id(topic: str, partition: int, offset: int) -> str:
    """``orders-0-12``: the same input is always the same letter."""
    return f"{topic}-{partition}-{offset}"


def intake_letter(topic: str, record: Any, error: EventError, failed_at_ms: int) -> Send:
    """The dead letter of a source record that intake refuses.

    Parameters
    ----------
    topic : source topic, without prefix
    record : the record as it was fetched (key, value, headers, timestamp in ms, offset)
    failed_at_ms : wall clock
    """
    facts = {
        "dl_id": letter_id(topic, record.partition, record.offset),
        "dl_topic": topic,
        "dl_partition": str(record.partition),
        "dl_offset": str(record.offset),
        "dl_timestamp_ms": str(record.timestamp),
        "dl_stage": "intake",
        "dl_error": error.code,
        "dl_message": error.message,
        "dl_field": error.field or "",
        "dl_value": error.value or "",
        "dl_expected": error.expected or "",
        "dl_attempts": ATTEMPTS,
        "dl_application": APPLICATION,
        "dl_version": VERSION,
        "dl_failed_at": rfc3339(failed_at_ms),
    }
    headers = [*record.headers, *((name, text.encode()) for name, text in facts.items())]
    return Send(
        DEAD_LETTER.name,
        record.key,
        record.value,
        headers=headers,
        timestamp_ms=record.timestamp,
    )


@dataclass(frozen=True)
class Letter:
    """A dead letter as it was read."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]  # the original's
    timestamp_ms: int
    facts: dict[str, str] = field(repr=False)  # the dl_* headers
    redriven_at: str | None = None

    @property
    def id(self) -> str:
        return self.facts["dl_id"]

    @property
    def topic(self) -> str:
        return self.facts["dl_topic"]

    @property
    def error(self) -> str:
        return self.facts["dl_error"]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: the facts, and the original as text where it is text."""
        return {
            **self.facts,
            "key": _text(self.key),
            "value": _text(self.value),
            "redriven_at": self.redriven_at,
        }


def read_letters(settings: Any) -> Iterator[Letter]:
    """Every letter once, in the order of the partitions, with its latest redrive.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, DEAD_LETTER.name)
    letters: dict[str, Letter] = {}
    redriven: dict[str, str] = {}
    with reader.opened(settings, "dead-letter") as consumer:
        for partition in range(reader.require_partitions(consumer, topic)):
            for message in reader.read_to_end(consumer, topic, partition, READ_DEADLINE_S):
                headers = tuple(message.headers() or ())
                facts = {
                    name: (value or b"").decode("utf-8", "replace")
                    for name, value in headers
                    if name.startswith(HEADER_PREFIX)
                }
                if "dl_redriven_at" in facts:
                    redriven[facts["dl_id"]] = facts["dl_redriven_at"]
                elif "dl_id" in facts:
                    letters.setdefault(facts["dl_id"], _letter(message, headers, facts))
    for letter in letters.values():
        yield Letter(**{**vars(letter), "redriven_at": redriven.get(letter.id)})


def select(
    letters: Iterable[Letter],
    *,
    topics: Iterable[str] = (),
    errors: Iterable[str] = (),
    ids: Iterable[str] = (),
) -> list[Letter]:
    """The letters that match every filter given; an empty filter matches all."""
    wanted = [(frozenset(topics), "topic"), (frozenset(errors), "error"), (frozenset(ids), "id")]
    return [
        letter
        for letter in letters
        if all(not values or getattr(letter, name) in values for values, name in wanted)
    ]


@dataclass(frozen=True)
class Redrive:
    """What a redrive did, or would do."""

    sent: list[Letter]
    refused: list[Letter]  # redriven before, and not forced
    foreign: list[Letter]  # from a topic that is not a source


def redrive(
    letters: Iterable[Letter],
    outbox: IntakeOutbox | None,
    *,
    force: bool = False,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Redrive:
    """Send the originals to their topics again, each with its mark.

    The original is sent and confirmed before its mark: a crash between the two leaves an unmarked
    letter, and what is then redriven twice is found by the fold, by ``event_id``.

    Parameters
    ----------
    outbox : None to change nothing and only say what would be done
    force : also those that were redriven before
    """
    sources = {topic.name for topic in SOURCES}
    done = Redrive([], [], [])
    for letter in letters:
        if letter.topic not in sources:
            done.foreign.append(letter)
        elif letter.redriven_at is not None and not force:
            done.refused.append(letter)
        else:
            if outbox is not None:
                outbox.send([_original(letter)])
                outbox.send([_mark(letter, now_ms())])
            done.sent.append(letter)
    return done


def _original(letter: Letter) -> Send:
    partition = 0 if letter.topic == CONTROLS.name else None
    return Send(letter.topic, letter.key, letter.value, partition, letter.headers)


def _mark(letter: Letter, at_ms: int) -> Send:
    facts = {
        "dl_id": letter.id,
        "dl_redriven_at": rfc3339(at_ms),
        "dl_application": APPLICATION,
        "dl_version": VERSION,
    }
    headers = [(name, text.encode()) for name, text in facts.items()]
    return Send(DEAD_LETTER.name, letter.key, None, headers=headers)


def _letter(message: Any, headers: Any, facts: dict[str, str]) -> Letter:
    return Letter(
        key=message.key(),
        value=message.value(),
        headers=tuple(pair for pair in headers if not pair[0].startswith(HEADER_PREFIX)),
        timestamp_ms=message.timestamp()[1],
        facts=facts,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
