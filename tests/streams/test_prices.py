"""``pricemaker prices`` on a real broker: what it shows, from where, and when it ends."""

import json
import uuid

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.events import rfc3339
from schemas.outputs import PriceDecided, TapePosition
from schemas.topics import PRICES, PRICES_LATEST
from streams.cli import cli

DAY_MS = 86_400_000
START_MS = 1_795_000_000_000


def decision(sku: str, version: int, price_minor: int, at_ms: int) -> bytes:
    previous_minor = price_minor - 100 if version > 1 else None
    decided = PriceDecided(
        price_id=f"{sku}-{version}",
        sku=sku,
        version=version,
        status="published",
        price_minor=price_minor,
        wanted_minor=price_minor,
        previous_minor=previous_minor,
        currency="EUR",
        margin_pct=None,
        decided_at=rfc3339(at_ms),
        effective_from=rfc3339(at_ms),
        valid_until=None,
        reasons=("epoch_closed",),
        confidence=0.5,
        acceptable=None,
        exogenous_log=0.0,
        greeks=None,
        record=None,
        tape=TapePosition(0, version),
        engine="test",
        policy_sha256="",
        prior_sha256="",
    )
    return msgspec.json.encode(decided)


A1, A2, B1 = (
    decision("A", 1, 1000, START_MS),
    decision("A", 2, 1100, START_MS + DAY_MS),
    decision("B", 1, 2000, START_MS + 1),
)


@pytest.fixture
def shop(kafka_bootstrap: str, monkeypatch):
    """A topic prefix whose prices topics hold three decisions; a fourth was never committed."""
    prefix = f"prices-{uuid.uuid4().hex[:8]}-"
    topics = [prefix + PRICES.name, prefix + PRICES_LATEST.name]
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
        future.result()
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    for topic in topics:
        for sku, value in (("A", A1), ("B", B1), ("A", A2)):
            producer.produce(topic, value, key=sku)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topics[0], decision("A", 3, 9999, START_MS + 2 * DAY_MS), key="A")
    assert producer.flush(10) == 0
    producer.abort_transaction(30)
    monkeypatch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
    yield producer, topics
    admin.delete_topics(topics)


def lines_of(*arguments: str) -> list[bytes]:
    result = CliRunner().invoke(cli, ["prices", "--json", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes.splitlines()


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [A1, B1, A2]),
        (("--from", "beginning"), [A1, B1, A2]),
        (("--sku", "A"), [A1, A2]),
        (("--limit", "2"), [A1, B1]),
        (("--from", rfc3339(START_MS + DAY_MS)), [A2]),
        (("--from", rfc3339(START_MS + 1)), [B1, A2]),
        (("--latest",), [A2, B1]),
        (("--latest", "--sku", "B"), [B1]),
    ],
)
def test_what_has_been_decided(shop, arguments, expected) -> None:
    assert lines_of("--no-follow", *arguments) == expected


@pytest.mark.kafka
def test_a_price_that_was_removed_is_not_in_effect(shop) -> None:
    producer, topics = shop
    producer.begin_transaction()
    producer.produce(topics[1], None, key="A")
    producer.commit_transaction(30)
    assert lines_of("--no-follow", "--latest") == [B1]


@pytest.mark.kafka
def test_following_ends_at_the_limit(shop) -> None:
    assert lines_of("--from", "beginning", "--limit", "3") == [A1, B1, A2]


@pytest.mark.kafka
def test_text_for_people(shop) -> None:
    result = CliRunner().invoke(cli, ["prices", "--no-follow", "--sku", "A"])
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "2026-11-18T11:06:40Z A published 10.00 EUR was none v1 epoch_closed",
        "2026-11-19T11:06:40Z A published 11.00 EUR was 10.00 EUR v2 epoch_closed",
    ]


@pytest.mark.kafka
def test_a_record_that_is_no_decision_is_named(shop) -> None:
    producer, topics = shop
    producer.begin_transaction()
    producer.produce(topics[1], b'{"type":"other"}', key="A")
    producer.commit_transaction(30)
    result = CliRunner().invoke(cli, ["prices", "--no-follow", "--latest", "--json"])
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"]) == (3, "not_a_decision")
    assert error["where"] == f"{topics[1]}[0]@4"  # three decisions and the marker of their commit


@pytest.mark.kafka
def test_topics_that_were_never_made(kafka_bootstrap: str) -> None:
    arguments = ["prices", "--bootstrap", kafka_bootstrap, "--no-follow", "--json"]
    environment = {"PRICEMAKER_TOPICS__PREFIX": "never-made-"}
    result = CliRunner().invoke(cli, arguments, env=environment)
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (
        4,
        "topic_missing",
        "never-made-prices",
    )


@pytest.mark.parametrize("value", ["yesterday", "2026-11-28T00:00"])
def test_a_time_without_a_zone_is_wrong_usage(value) -> None:
    result = CliRunner().invoke(cli, ["prices", "--from", value, "--json"])
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["field"]) == (2, "wrong_usage", "--from")
