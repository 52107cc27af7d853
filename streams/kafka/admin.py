"""Making the topics, and checking that they are as the worker needs them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from schemas.topics import TAPE, TOPICS, Topic
from streams.kafka import reader
from streams.kafka.kafka_settings import QUIET, client_config, topic_name

ANSWER_S = 30.0
PARTITIONS_UNEQUAL = "tape, state and prices need equal partition counts"


@dataclass(frozen=True)
class Finding:
    """One topic as it is, and what is wrong with it, if anything."""

    topic: str
    partitions: int
    problem: str | None = None
    fix: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


@dataclass(frozen=True)
class Created:
    """What ``create_topics`` did about one topic."""

    topic: str
    partitions: int
    created: bool  # False: it was there before, or this is a dry run

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


def create_topics(
    settings: Any,
    *,
    partitions: int,
    replication: int = -1,
    dry_run: bool = False,
    topics: Sequence[Topic] = TOPICS,
) -> list[Created]:
    """Make every topic of the table that does not exist. What exists is left as it is.

    Parameters
    ----------
    partitions : of the tape and what goes with it; it can never be changed
    replication : copies of each partition; -1 is the broker's default
    topics : these of the table

    Raises
    ------
    ServiceError : the broker does not answer or refuses
    """
    admin = AdminClient(client_config(settings))
    existing = _existing(admin)
    missing = [topic for topic in topics if topic_name(settings, topic.name) not in existing]
    if missing and not dry_run:
        new = [
            NewTopic(
                topic_name(settings, topic.name),
                num_partitions=topic.partitions or partitions,
                replication_factor=replication,
                config=topic.config(),
            )
            for topic in missing
        ]
        for name, future in admin.create_topics(new, operation_timeout=ANSWER_S).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise reader.unreachable(error, name) from error
    return [_created(settings, topic, existing, partitions, dry_run) for topic in topics]


def _created(
    settings: Any, topic: Topic, existing: dict[str, int], partitions: int, dry_run: bool
) -> Created:
    name = topic_name(settings, topic.name)
    if name in existing:
        return Created(name, existing[name], False)
    return Created(name, topic.partitions or partitions, not dry_run)


def check_topics(settings: Any, *, embedded: bool = False) -> list[Finding]:
    """Look at every topic of the table.

    Parameters
    ----------
    embedded : the embedded broker knows no topic settings, and gives each topic 4 partitions

    Raises
    ------
    ServiceError : the broker does not answer
    """
    admin = AdminClient(client_config(settings))
    existing = _existing(admin)
    names = [topic_name(settings, topic.name) for topic in TOPICS]
    configs = {} if embedded else _configs(admin, [name for name in names if name in existing])
    tape_partitions = existing.get(topic_name(settings, TAPE.name), 0)
    return [
        _finding(topic, name, existing.get(name, 0), tape_partitions, configs.get(name), embedded)
        for topic, name in zip(TOPICS, names, strict=True)
    ]


def _finding(
    topic: Topic,
    name: str,
    partitions: int,
    tape_partitions: int,
    config: dict[str, str] | None,
    embedded: bool,
) -> Finding:
    if not partitions:
        return Finding(name, 0, "does not exist", "Run: pricemaker topics create")
    follows_tape = topic.name in ("state", "prices")
    if follows_tape and tape_partitions and partitions != tape_partitions:
        return Finding(
            name,
            partitions,
            f"has {partitions} partitions, but the tape {tape_partitions}; {PARTITIONS_UNEQUAL}",
            "Delete the topic while it is empty and run: pricemaker topics create "
            f"--partitions {tape_partitions}",
        )
    if topic.partitions is not None and partitions != topic.partitions and not embedded:
        return Finding(
            name,
            partitions,
            f"has {partitions} partitions; expected {topic.partitions}",
            "Delete the topic while it is empty and run: pricemaker topics create",
        )
    policy = topic.cleanup_policy if config is None else config.get("cleanup.policy")
    if policy != topic.cleanup_policy:
        return Finding(
            name,
            partitions,
            f"cleanup.policy was {policy!r}; expected {topic.cleanup_policy!r}",
            f"Run: kafka-configs.sh --alter --topic {name} "
            f"--add-config cleanup.policy={topic.cleanup_policy}",
        )
    kept_ms = -1 if config is None else int(config.get("retention.ms", "-1"))
    if topic.retention_ms < 0 <= kept_ms and topic.cleanup_policy == "delete":
        return Finding(
            name,
            partitions,
            f"retention.ms was {kept_ms}; expected -1: this topic is kept",
            f"Run: kafka-configs.sh --alter --topic {name} --add-config retention.ms=-1",
        )
    return Finding(name, partitions)


def existing_topics(settings: Any) -> dict[str, int]:
    """The broker's topics by their whole names, and how many partitions each has.

    Raises
    ------
    ServiceError : the broker does not answer
    """
    return _existing(AdminClient(client_config(settings)))


def tape_partitions(settings: Any) -> int:
    """How many partitions the tape has: that number is the truth, whatever was configured.

    Raises
    ------
    ServiceError : the broker does not answer
    """
    return existing_topics(settings).get(topic_name(settings, TAPE.name), 0)


def _existing(admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=reader.ANSWER_S).topics
    except KafkaException as error:
        raise reader.unreachable(error, "topics") from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {}
    try:
        for resource, future in admin.describe_configs(resources, request_timeout=ANSWER_S).items():
            found[resource.name] = {key: entry.value for key, entry in future.result().items()}
    except KafkaException as error:
        raise reader.unreachable(error, "topic settings") from error
    return found


def topic_id(settings: Any, topic: str, deadline_s: float = reader.OUTAGE_S) -> str:
    """The id that the broker gave a topic when it was made: another one, if it is made anew.

    Parameters
    ----------
    topic : its name on the broker

    Raises
    ------
    ServiceError : the broker does not answer, or has no such topic
    """
    with reader.opened(settings, "admin") as consumer:
        reader.require_partitions(consumer, topic, deadline_s)
    admin = AdminClient({**client_config(settings), **QUIET})
    asked = TopicCollection([topic])
    answer = reader.ask(
        lambda: admin.describe_topics(asked, request_timeout=ANSWER_S)[topic].result(),
        topic,
        deadline_s,
    )
    return str(answer.topic_id)
