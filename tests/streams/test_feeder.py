"""The feeder on a real broker: every record once, keyed and in order, or an error that says so."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic

from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas import tape
from schemas.errors import ServiceError
from schemas.tape import Source
from schemas.topics import SOURCES
from streams.cli import cli
from streams.kafka import feeder as feeder_module
from streams.kafka.feeder import IN_FLIGHT_MAX, POLL_EVERY, Feeder
from streams.settings import Settings
from streams.tape.event_files import EventWriter, SourceRecord, event_key
from streams.tape.tape_builder import TapeBuilder
from tests.streams.spine import fresh_topics, new_prefix, read_topic, settings_for


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def month(bad_share: float = 0.03) -> list[SourceRecord]:
    shop = Shop(5, settings=ShopSettings(products=12, bad_share=bad_share))
    return [record for _ in range(24 * 8) for record in shop.step({})]


def everything(settings: Settings) -> dict[tuple[str, int], list[Any]]:
    """All messages on the source topics, by topic and partition."""
    found: dict[tuple[str, int], list[Any]] = {}
    for source in SOURCES:
        for message in read_topic(settings, source.name):
            found.setdefault((source.name, message.partition()), []).append(message)
    return found


@pytest.mark.kafka
def test_every_record_arrives_once_keyed_and_in_order(settings: Settings) -> None:
    records = month()
    fed = Feeder(settings).feed(records)
    assert fed.records == Counter(topic for topic, _ in records)
    wanted: dict[tuple[str, bytes | None], list[bytes | None]] = {}
    for topic, value in records:
        wanted.setdefault((topic, event_key(value)), []).append(value)
    found: dict[tuple[str, bytes | None], list[bytes | None]] = {}
    on_kafka = everything(settings)
    for (topic, _), messages in on_kafka.items():
        for message in messages:
            found.setdefault((topic, message.key()), []).append(message.value())
    assert found == wanted
    assert fed.ends == {place: len(messages) for place, messages in on_kafka.items()}


@pytest.mark.kafka
def test_records_stand_where_the_tape_builder_says_they_do(settings: Settings) -> None:
    """The same source positions with and without a broker, bad records included."""
    records = month()
    Feeder(settings).feed(records)
    on_kafka = everything(settings)
    letters: list[tuple[Source, bytes | None]] = []
    builder = TapeBuilder(1, lambda letter: letters.append((letter.source, letter.value)))
    placed = [place for topic, value in records for place in builder.append(topic, value)]
    accepted = [(tape.decode(one.value).source, tape.raw_event(one.value)) for one in placed]
    compared = 0
    for source, value in accepted + letters:
        if source.topic != "controls":
            held = on_kafka[source.topic, source.partition][source.offset]
            assert held.value() == value
            compared += 1
    assert compared == len(records)
    assert letters


@pytest.mark.kafka
def test_the_pace_is_asked_before_more_is_sent(settings: Settings) -> None:
    asked: list[int] = []
    records = [("inventory", b'{"sku":"A"}')] * (3 * POLL_EVERY + 1)
    Feeder(settings, asked.append).feed(records)
    assert asked == [0, POLL_EVERY, 2 * POLL_EVERY, 3 * POLL_EVERY]


@pytest.mark.kafka
def test_what_is_in_flight_is_bounded(settings: Settings) -> None:
    worst = 0
    feeder = Feeder(settings)

    def endless() -> Iterator[SourceRecord]:
        nonlocal worst
        for _ in range(3 * IN_FLIGHT_MAX):
            worst = max(worst, feeder.sent - feeder.delivered)
            yield "inventory", b'{"sku":"A"}'

    feeder.feed(endless())
    assert worst <= IN_FLIGHT_MAX + POLL_EVERY
    assert feeder.delivered == 3 * IN_FLIGHT_MAX


@pytest.mark.kafka
def test_a_record_the_broker_refuses_is_an_error(kafka_bootstrap: str) -> None:
    settings = settings_for(kafka_bootstrap, new_prefix())
    small = NewTopic(settings.topics.prefix + "orders", 1, 1, config={"max.message.bytes": "2000"})
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([small])[small.topic].result(30)
    with pytest.raises(ServiceError) as caught:
        Feeder(settings).feed([("orders", Random(1).randbytes(100_000))])
    error = caught.value
    assert (error.code, error.where) == ("delivery_failed", small.topic)
    assert "too large" in error.message.lower()


def test_a_broker_that_is_not_there_is_an_error(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "DELIVERY_DEADLINE_S", 0.5)
    settings = settings_for(f"127.0.0.1:{unused_port}", "t-")
    with pytest.raises(ServiceError) as caught:
        Feeder(settings).feed([("orders", b'{"sku":"A"}')])
    assert caught.value.exit_code == 4
    assert caught.value.code in ("delivery_failed", "delivery_unconfirmed")


@pytest.mark.kafka
def test_the_command_sends_an_event_file(settings: Settings, tmp_path: Path) -> None:
    records = month()
    path = tmp_path / "events.jsonl.gz"
    with EventWriter(path) as writer:
        for topic, value in records:
            writer.write(topic, value)
    result = invoke(settings, "ingest", "events", str(path), "--json")
    assert result.exit_code == 0, result.stderr
    counts = Counter(topic for topic, _ in records)
    assert json.loads(result.stdout) == {
        "records": len(records),
        "records_by_topic": dict(sorted(counts.items())),
    }


@pytest.mark.kafka
def test_simulate_sends_the_same_records_as_it_writes(settings: Settings, tmp_path: Path) -> None:
    options = ["simulate", "--products", "5", "--days", "3", "--seed", "4", "--json"]
    written = invoke(settings, *options, "--out", str(tmp_path / "shop.jsonl"))
    sent = invoke(settings, *options, "--to-kafka")
    assert (written.exit_code, sent.exit_code) == (0, 0), sent.stderr
    assert json.loads(written.stdout) == json.loads(sent.stdout)


def invoke(settings: Settings, *arguments: str) -> Any:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return CliRunner().invoke(cli, list(arguments), env=environment)
