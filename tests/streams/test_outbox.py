"""The two outboxes on a real broker: all of a batch or none, and never a silent failure."""

import os
from collections.abc import Callable

import orjson
import pytest
from aiokafka.partitioner import murmur2

from models.guards.gate import decision_is_sound
from schemas.errors import PricemakerError
from streams.settings import Settings
from streams.worker.outbox import (
    Fenced,
    GateBreach,
    IntakeOutbox,
    OutboxFailed,
    Send,
    TransactionalOutbox,
)
from tests.streams.counting_engine import Batch, Output
from tests.streams.spine import fresh_topics, read_topic

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def batch(name: str, position: int = 0) -> Batch:
    manifest = orjson.dumps({"position": position})
    return Batch(
        outputs=[Output("prices", name.encode(), b"price of " + name.encode())],
        state=[(b"sku/" + name.encode(), b"1"), (b"manifest", manifest)],
        position=position,
    )


def prices(settings: Settings) -> list[bytes]:
    return [message.key() for message in read_topic(settings, "prices")]


def state(settings: Settings, partition: int) -> list[bytes]:
    return [m.key() for m in read_topic(settings, "state") if m.partition() == partition]


def test_a_batch_lands_whole_with_the_manifest_last(settings: Settings) -> None:
    outbox = TransactionalOutbox(settings, 3)
    outbox.take_over()
    outbox.commit(batch("whole"))
    assert state(settings, 3) == [b"sku/whole", b"manifest"]
    [price] = [m for m in read_topic(settings, "prices") if m.key() == b"whole"]
    assert (price.value(), price.partition()) == (
        b"price of whole",
        (murmur2(b"whole") & 0x7FFFFFFF) % 4,  # where Java's clients look for the key
    )


def test_whoever_takes_over_fences_the_last_owner(settings: Settings) -> None:
    first = TransactionalOutbox(settings, 1)
    first.take_over()
    first.commit(batch("by-the-first"))
    second = TransactionalOutbox(settings, 1)
    second.take_over()
    with pytest.raises(Fenced) as caught:
        first.commit(batch("by-the-zombie", 1))
    assert (caught.value.exit_code, caught.value.where) == (4, "tape[1]")
    second.commit(batch("by-the-second", 1))
    assert [key for key in prices(settings) if key.startswith(b"by-")] == [
        b"by-the-first",
        b"by-the-second",
    ]
    assert state(settings, 1) == [
        b"sku/by-the-first",
        b"manifest",
        b"sku/by-the-second",
        b"manifest",
    ]


def test_an_unfinished_transaction_is_never_seen(settings: Settings) -> None:
    crashed = TransactionalOutbox(settings, 2)
    crashed.take_over()
    producer = crashed._producer
    producer.begin_transaction()
    producer.produce(settings.topics.prefix + "prices", key=b"unfinished", value=b"half")
    producer.flush()
    successor = TransactionalOutbox(settings, 2)
    successor.take_over()
    successor.commit(batch("finished"))
    seen = [key for key in prices(settings) if key.endswith(b"finished")]
    assert seen == [b"finished"]


def test_the_gate_stops_a_whole_batch_before_anything_is_sent(settings: Settings) -> None:
    def gate(output: Output) -> None:
        if output.key == b"below-cost":
            raise GateBreach("gate_breach", "below cost.")

    outbox = TransactionalOutbox(settings, 0, gate=gate)
    outbox.take_over()
    good = batch("beside-it")
    bad = batch("below-cost")
    with pytest.raises(GateBreach) as caught:
        outbox.commit(Batch([*good.outputs, *bad.outputs], good.state, 0))
    assert caught.value.exit_code == 1
    assert not {b"beside-it", b"below-cost"} & set(prices(settings))
    assert state(settings, 0) == []


def test_intake_returns_when_every_record_is_confirmed(settings: Settings) -> None:
    outbox = IntakeOutbox(settings)
    outbox.send(
        Send("tape", b"k", b"%d" % number, 2, [("h", b"v")], timestamp_ms=1 + number)
        for number in range(1_000)
    )
    records = [m for m in read_topic(settings, "tape") if m.partition() == 2]
    assert [(m.offset(), m.value(), m.headers(), m.timestamp()[1]) for m in records] == [
        (number, b"%d" % number, [("h", b"v")], 1 + number) for number in range(1_000)
    ]


@pytest.mark.parametrize(
    ("why", "record"),
    [
        ("larger than the client sends", lambda: Send("alerts", None, bytes(20_000_000))),
        ("larger than the topic takes", lambda: Send("alerts", None, os.urandom(6_000_000))),
        ("no such partition", lambda: Send("alerts", None, b"x", 99)),
    ],
)
def test_a_refused_record_is_an_error_and_not_a_log_line(
    settings: Settings, why: str, record: Callable[[], Send]
) -> None:
    with pytest.raises(OutboxFailed) as caught:
        IntakeOutbox(settings).send([Send("alerts", b"k", b"before"), record()])
    assert (caught.value.code, caught.value.exit_code) == ("delivery_failed", 4)
    assert isinstance(caught.value, PricemakerError)


def test_the_gate_of_the_worker_is_the_models() -> None:
    from streams.worker import pricer

    assert pricer.decision_is_sound is decision_is_sound
