"""The tape topic of a running system as a source."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from schemas import topics
from schemas.errors import InputError
from schemas.events import MINUTE_MS
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.kafka.reader import ANSWER_S, ask, log_range, opened, require_partitions, stream_range
from streams.tape.tape_builder import Placed
from streams.tape.tape_selection import Selection, before_end

READ_DEADLINE_S = 3600.0
# Intake refuses what is more than 5 minutes ahead of its clock, and Kafka's timestamp is that
# clock's when it wrote: no tick of a time stands on the tape this long before that time.
AHEAD_MS = 10 * MINUTE_MS

Progress = Callable[[float], None]


class Range(NamedTuple):
    """Offsets of one partition that are read; ``end`` is excluded."""

    partition: int
    begin: int
    end: int


def partitions_on(settings: Any) -> int:
    """How many partitions the tape topic has.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic does not exist
    """
    with opened(settings, "replay") as consumer:
        return require_partitions(consumer, topic_name(settings, topics.TAPE.name))


def tape_records(
    settings: Any,
    partitions: int,
    selection: Selection,
    progress: Progress | None,
    after: Mapping[int, int],
) -> Iterator[Placed]:
    """The tape's records, partition by partition, up to the end that each has when it begins.

    Raises
    ------
    InputError : a partition's beginning is not on the topic any more, or the group has no position
    ServiceError : the broker does not answer
    """
    topic = topic_name(settings, topics.TAPE.name)
    committed = _committed(settings, topic, partitions, selection.from_group)
    consumer = Consumer(reader_config(settings, "replay"))
    try:
        ranges = [
            _range(consumer, topic, number, selection, committed.get(number, 0), after)
            for number in range(partitions)
            if selection.has(number)
        ]
        total = max(sum(one.end - one.begin for one in ranges), 1)
        done = 0
        for one in ranges:
            for placed in before_end(_placed(consumer, topic, one), selection):
                done += 1
                if progress is not None and done % 1000 == 0:
                    progress(done / total)
                yield placed
    finally:
        consumer.close()


def _placed(consumer: Consumer, topic: str, one: Range) -> Iterator[Placed]:
    for message in stream_range(consumer, topic, *one):
        yield Placed(one.partition, message.offset() or 0, message.value() or b"")


def _range(
    consumer: Consumer,
    topic: str,
    number: int,
    selection: Selection,
    committed: int,
    after: Mapping[int, int],
) -> Range:
    begin, end = log_range(consumer, topic, number)
    wanted = max(selection.first_offset(number), committed, after.get(number, -1) + 1)
    if wanted < begin < end and selection.from_ms is None:
        raise InputError(
            "tape_cut",
            f"the tape begins at offset {begin}; expected {wanted}.",
            where=f"{topic}[{number}]",
            field="offset",
            value=begin,
            expected=f"at most {wanted}",
            fix="Go on from a checkpoint (--from-checkpoint), read an export that still has the "
            "beginning, or fold what is left from an empty state with --from-offset.",
        )
    last = selection.end_offset(number)
    if selection.from_ms is not None:
        wanted = max(begin, wanted, _not_before(consumer, topic, number, selection.from_ms, end))
    return Range(number, wanted, end if last is None else min(end, last))


def _not_before(consumer: Consumer, topic: str, number: int, from_ms: int, end: int) -> int:
    """An offset before which the clock cannot have reached a time: from there the ticks are read.

    It only saves reading; where the timestamps are others, such as of a history that was fed later,
    it lies near the beginning.
    """
    place = TopicPartition(topic, number, max(from_ms - AHEAD_MS, 0))
    found = ask(
        lambda: consumer.offsets_for_times([place], timeout=ANSWER_S)[0], f"{topic}[{number}]"
    )
    return end if found.offset < 0 else int(found.offset)


def _committed(settings: Any, topic: str, partitions: int, group: str | None) -> dict[int, int]:
    """A group's next offsets on the tape, by partition; looking does not join the group."""
    if group is None:
        return {}
    config = {**reader_config(settings, "replay"), "group.id": group}
    consumer = Consumer(config)
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        answer = ask(lambda: consumer.committed(places, timeout=ANSWER_S), topic)
    finally:
        consumer.close()
    for place in answer:
        if place.offset < 0:
            raise InputError(
                "no_position",
                f"the group {group!r} has committed no offset.",
                where=f"{topic}[{place.partition}]",
                field="--from-group",
                value=group,
                expected="a group that has read this tape",
                fix="See the groups: pricemaker lag",
            )
    return {place.partition: int(place.offset) for place in answer}
