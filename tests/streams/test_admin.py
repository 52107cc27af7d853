"""Topics are made as the table says, and what is wrong with them is named."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.topics import STATE, TAPE, TOPICS
from streams.commands.topics import command
from streams.kafka import reader
from streams.kafka.admin import check_topics, create_topics, tape_partitions
from streams.settings import Settings
from tests.streams.spine import WAIT_S, new_prefix, settings_for, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return settings_for(kafka_bootstrap, new_prefix())


def make(settings: Settings, name: str, partitions: int, **config: Any) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    topic = NewTopic(settings.topics.prefix + name, partitions, 1, config=config)
    for future in admin.create_topics([topic]).values():
        future.result()


def problems(settings: Settings) -> dict[str, str]:
    length = len(settings.topics.prefix)
    return {f.topic[length:]: f.problem for f in check_topics(settings) if f.problem is not None}


def test_all_topics_are_made_once(settings: Settings) -> None:
    assert problems(settings) == {topic.name: "does not exist" for topic in TOPICS}
    planned = create_topics(settings, partitions=3, dry_run=True)
    assert {topic.created for topic in planned} == {False}
    assert len(problems(settings)) == len(TOPICS)
    created = create_topics(settings, partitions=3)
    assert {topic.created for topic in created} == {True}
    wait_until(lambda: problems(settings) == {}, "all topics", WAIT_S)
    again = create_topics(settings, partitions=8)
    assert {topic.created for topic in again} == {False}
    assert tape_partitions(settings) == 3  # what exists is left as it is
    sizes = {
        f.topic.removeprefix(settings.topics.prefix): f.partitions for f in check_topics(settings)
    }
    assert sizes == {topic.name: topic.partitions or 3 for topic in TOPICS}


def test_unequal_partitions_wrong_policies_and_short_retention_are_named(
    settings: Settings,
) -> None:
    make(settings, STATE.name, 2, **STATE.config())
    make(settings, TAPE.name, 4, **{**TAPE.config(), "retention.ms": "1000"})
    make(settings, "prices-latest", 4, **{"cleanup.policy": "delete"})
    make(settings, "controls", 4, **{"cleanup.policy": "delete", "retention.ms": "-1"})
    create_topics(settings, partitions=4)
    wrong = {
        "state": "has 2 partitions, but the tape 4; tape, state and prices need equal partition "
        "counts",
        "tape": "retention.ms was 1000; expected -1: this topic is kept",
        "prices-latest": "cleanup.policy was 'delete'; expected 'compact'",
        "controls": "has 4 partitions; expected 1",
    }
    wait_until(lambda: problems(settings) == wrong, str(wrong))


def invoke(settings: Settings, *arguments: str) -> Result:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return CliRunner().invoke(command, [*arguments], env=environment)


def test_the_commands_create_and_check(settings: Settings) -> None:
    missing = invoke(settings, "check", "--json")
    assert missing.exit_code == 5
    assert json.loads(missing.stderr)["code"] == "topics_wrong"
    made = invoke(settings, "create", "--partitions", "2", "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout)["topics"][0] == {
        "topic": settings.topics.prefix + "orders",
        "partitions": 2,
        "created": True,
    }
    wait_until(lambda: problems(settings) == {}, "all topics", WAIT_S)
    checked = invoke(settings, "check", "--json")
    assert checked.exit_code == 0
    assert len(json.loads(checked.stdout)["topics"]) == len(TOPICS)


def test_a_broker_that_is_not_there_is_exit_4(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ANSWER_S", 0.5)
    result = CliRunner().invoke(command, ["check", "--bootstrap", f"127.0.0.1:{unused_port}"])
    assert result.exit_code == 4
