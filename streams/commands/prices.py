"""``pricemaker prices``: follow the price decisions."""

from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from msgspec import Struct

from schemas.errors import InputError, ServiceError
from schemas.events import time_ms
from schemas.topics import PRICES, PRICES_LATEST
from streams.config import Settings, load_settings
from streams.explain.amounts import money
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.kafka.reader import ANSWER_S, partitions_of, unreachable
from streams.output import Output, bootstrap_option, command_options

BEGINNING = "beginning"
POLL_S = 0.2
# A decision carries event time, and event time runs ahead of the clock by 5 minutes at most; twice
# that, for clocks that differ. So no decision at or after T was written before T less this.
AHEAD_MAX = timedelta(minutes=10)


class Shown(Struct, frozen=True, tag_field="type", tag="price_decided"):
    """What a line shows of a decision."""

    sku: str
    version: int
    status: str
    price_minor: int | None
    previous_minor: int | None
    currency: str
    decided_at: datetime
    reasons: tuple[str, ...]


DECODER = msgspec.json.Decoder(Shown)


def _start(
    _: click.Context, parameter: click.Parameter, value: str | None
) -> str | datetime | None:
    if value is None or value == BEGINNING:
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        expected = f"{BEGINNING!r} or a time such as 2026-11-28T00:00Z (with its zone)"
        raise click.BadParameter(f"{value!r}; expected {expected}", param=parameter)
    return moment


@click.command("prices")
@click.option("--latest", is_flag=True, help="The price in effect of each product, not history.")
@click.option("--sku", "skus", multiple=True, help="Only this product; may be given repeatedly.")
@click.option(
    "--from",
    "start",
    callback=_start,
    metavar="TIME|beginning",
    help="Decisions decided at TIME or later.  [default: new ones; with --latest or --no-follow "
    "all]",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many decisions.")
@click.option("--follow/--no-follow", default=True, help="Wait for new ones.  [default: follow]")
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    latest: bool,
    skus: tuple[str, ...],
    start: str | datetime | None,
    limit: int | None,
    follow: bool,
) -> None:
    """Follow the price decisions, one line each, as they are committed.

    With --json each line is the whole decision with its record. "held" decisions did not go to the
    shop; --latest shows only prices in effect.

    Example: pricemaker prices --sku SHIRT-M --from 2026-11-28T00:00Z --limit 20
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    topic = topic_name(settings, (PRICES_LATEST if latest else PRICES).name)
    if start is None and (latest or not follow):
        start = BEGINNING
    with closing(_records(settings, topic, start, follow)) as records:
        found = _wanted(records, skus, start)
        decisions = _last_of_each(found) if latest and not follow else found
        standing = ((one.value, one.shown) for one in decisions if one.value and one.shown)
        for value, shown in islice(standing, limit):
            output.record(value, partial(_line, shown))


class Found(NamedTuple):
    """A record of the topic; value and decision are None where the price was removed."""

    sku: str
    value: bytes | None
    shown: Shown | None


def _wanted(
    messages: Iterator[Message], skus: tuple[str, ...], start: str | datetime | None
) -> Iterator[Found]:
    for message in messages:
        value = message.value()
        if value is None:
            yield Found((message.key() or b"").decode(), None, None)
            continue
        try:
            decision = DECODER.decode(value)
        except msgspec.DecodeError as error:
            raise InputError(
                "not_a_decision",
                f"the record is no price decision: {error}.",
                where=f"{message.topic()}[{message.partition()}]@{message.offset()}",
                fix="Check what else writes to this topic.",
            ) from None
        old = isinstance(start, datetime) and decision.decided_at < start
        if not old and (not skus or decision.sku in skus):
            yield Found(decision.sku, value, decision)


def _last_of_each(found: Iterator[Found]) -> Iterator[Found]:
    last = {one.sku: one for one in found}
    yield from (last[sku] for sku in sorted(last))


def _records(
    settings: Settings, topic: str, start: str | datetime | None, follow: bool
) -> Generator[Message, None, None]:
    """Committed records of all partitions; without ``follow``, up to their ends."""
    consumer = Consumer(reader_config(settings, "prices"))
    try:
        count = partitions_of(consumer, topic)
        if not count:
            fix = "Run: pricemaker topics create"
            raise ServiceError("topic_missing", "the topic does not exist.", where=topic, fix=fix)
        consumer.assign(_starts(consumer, topic, count, start))
        open_partitions = set(range(count))
        while follow or open_partitions:
            for message in consumer.consume(500, POLL_S):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise unreachable(KafkaException(error), topic)
    finally:
        consumer.close()


def _starts(
    consumer: Consumer, topic: str, count: int, start: str | datetime | None
) -> list[TopicPartition]:
    if not isinstance(start, datetime):
        offset = OFFSET_BEGINNING if start == BEGINNING else OFFSET_END
        return [TopicPartition(topic, number, offset) for number in range(count)]
    written_ms = time_ms(start - AHEAD_MAX)
    asked = [TopicPartition(topic, number, written_ms) for number in range(count)]
    try:
        return consumer.offsets_for_times(asked, timeout=ANSWER_S)
    except KafkaException as error:
        raise unreachable(error, topic) from error


def _line(decision: Shown) -> str:
    """One decision for people: when, which, what became of it, price, before, why."""
    at = decision.decided_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    price = money(decision.price_minor, decision.currency)
    before = money(decision.previous_minor, decision.currency)
    reasons = ", ".join(decision.reasons)
    return (
        f"{at}  {decision.sku:<16}  {decision.status:<9}  {price:>14}  was {before:>14}"
        f"  v{decision.version}  {reasons}"
    )
