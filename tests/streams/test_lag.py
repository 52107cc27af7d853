"""Consumer lag: the rule as a table of cases, and a real broker with the states it must tell."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.errors import ServiceError
from schemas.topics import SOURCES, TAPE, TOPICS
from streams.cli import cli
from streams.kafka.admin import create_topics
from streams.lag import LagObserver, Status
from streams.lag.broker import (
    BEYOND,
    GONE,
    NEVER_COMMITTED,
    NOT_READ,
    GroupLag,
    PartitionLag,
    _row,
    consumer_lag,
)
from streams.settings import Settings
from tests.streams.spine import HEED_INTERRUPTS, wait_until

RUN_PROGRAM = "from streams.cli import main; main()"
PLACE = ("orders", 3)
NOW_MS = 1_700_000_060_000
MINUTE_AGO_MS = NOW_MS - 60_000

# why, committed, begin, end, read, expected (messages, milliseconds, unknown)
CASES = [
    ("never committed is not 0", None, 0, 50, {}, (None, None, NEVER_COMMITTED)),
    ("never committed, nothing to read", None, 0, 0, {}, (0, 0, None)),
    ("never committed, all deleted by retention", None, 50, 50, {}, (0, 0, None)),
    ("at the end", 50, 0, 50, {}, (0, 0, None)),
    ("behind", 40, 0, 50, {PLACE: MINUTE_AGO_MS}, (10, 60_000, None)),
    ("only transaction markers are left", 49, 0, 50, {PLACE: None}, (0, 0, None)),
    ("the record did not come in time", 40, 0, 50, {}, (10, None, NOT_READ)),
    ("retention overtook the group", 40, 45, 50, {}, (10, None, GONE)),
    ("the topic was made anew", 60, 0, 50, {}, (None, None, BEYOND)),
    ("a record from the future", 40, 0, 50, {PLACE: NOW_MS + 500}, (10, -500, None)),
]


@pytest.mark.parametrize(("why", "committed", "begin", "end", "read", "expected"), CASES)
def test_lag_of_one_partition(why, committed, begin, end, read, expected) -> None:
    row = _row(PLACE, committed, begin, end, read, NOW_MS)
    messages, lag_ms, unknown = expected
    assert row == PartitionLag(
        topic="orders",
        partition=3,
        offset_committed=committed,
        offset_end=end,
        consumer_lag_messages=messages,
        consumer_lag_ms=lag_ms,
        unknown=unknown,
    ), why


@pytest.mark.parametrize(
    ("committed", "total", "worst"),
    [((40, 45), 15, 60_000), ((40, None), None, None), ((), None, None)],
)
def test_a_sum_with_an_unknown_part_is_unknown(committed, total, worst) -> None:
    rows = [_row(PLACE, offset, 0, 50, {PLACE: MINUTE_AGO_MS}, NOW_MS) for offset in committed]
    group = GroupLag(
        group="g", state="stable", members=1, topics_missing=(), partitions=tuple(rows)
    )
    assert (group.messages_sum, group.lag_ms_max) == (total, worst)


def test_a_broker_that_does_not_answer_is_a_service_error(unused_port, monkeypatch) -> None:
    monkeypatch.setattr("streams.lag.broker.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(ServiceError) as caught:
        consumer_lag({"bootstrap.servers": f"127.0.0.1:{unused_port}"}, {"g": ()})
    assert caught.value.where == f"Kafka at 127.0.0.1:{unused_port}"


@pytest.fixture
def topic(kafka_bootstrap: str):
    """A topic of its own with two partitions."""
    name = f"lag-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result()
    yield name
    admin.delete_topics([name])[name].result()


def commit(bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    consumer.close()


def produce(bootstrap: str, topic: str, partition: int, timestamps_ms: list[int]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for timestamp_ms in timestamps_ms:
        producer.produce(topic, b"{}", partition=partition, timestamp=timestamp_ms)
    assert producer.flush(10) == 0


@pytest.mark.kafka
def test_lag_on_a_real_broker(kafka_bootstrap: str, topic: str) -> None:
    client = {"bootstrap.servers": kafka_bootstrap}
    now_ms = time.time_ns() // 1_000_000
    ages_ms = (90_000, 60_000, 30_000)
    produce(kafka_bootstrap, topic, 0, [now_ms - age_ms for age_ms in ages_ms])
    commit(kafka_bootstrap, topic, topic, 0, 1)

    (group,) = consumer_lag(client, {topic: (topic, "no-such-topic")}, now_ms=lambda: now_ms)
    assert group == GroupLag(
        group=topic,
        state="empty",
        members=0,
        topics_missing=("no-such-topic",),
        partitions=(
            PartitionLag(
                topic=topic,
                partition=0,
                offset_committed=1,
                offset_end=3,
                consumer_lag_messages=2,
                consumer_lag_ms=60_000,
                assigned=False,
            ),
            PartitionLag(
                topic=topic,
                partition=1,
                offset_committed=None,
                offset_end=0,
                consumer_lag_messages=0,
                consumer_lag_ms=0,
                assigned=False,
            ),
        ),
    )


@pytest.mark.kafka
def test_a_transaction_marker_is_no_lag(kafka_bootstrap: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"{}", partition=0)
    producer.commit_transaction(30)
    commit(kafka_bootstrap, topic, topic, 0, 1)  # the record is read, its marker stands behind it

    (group,) = consumer_lag({"bootstrap.servers": kafka_bootstrap}, {topic: ()})
    row = group.partitions[0]
    assert (row.offset_committed, row.offset_end) == (1, 2)
    assert (row.consumer_lag_messages, row.consumer_lag_ms, row.unknown) == (0, 0, None)


@pytest.mark.kafka
def test_the_command_prints_one_document(kafka_bootstrap: str, topic: str) -> None:
    commit(kafka_bootstrap, topic, topic, 0, 0)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    producer.produce(topic, b"{}", partition=1)
    assert producer.flush(30) == 0
    arguments = ["lag", "--bootstrap", kafka_bootstrap, "--group", topic]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    committed = document["groups"][0]["partitions"][0]
    assert document["observed_at"] >= committed.pop("commit_time")
    assert committed.pop("messages_in_per_s") == committed.pop("messages_out_per_s") == 0.0
    assert document == {
        "observed_at": document["observed_at"],
        "status": "UNKNOWN",
        "groups": [
            {
                "group": topic,
                "state": "empty",
                "members": 0,
                "topics_missing": [],
                "partitions": [
                    {
                        "topic": topic,
                        "partition": 0,
                        "offset_committed": 0,
                        "offset_end": 0,
                        "consumer_lag_messages": 0,
                        "consumer_lag_ms": 0,
                        "unknown": None,
                        "assigned": False,
                        "status": "OK",
                        "reason": "caught up",
                        "not_moving": False,
                        "catch_up_s": 0.0,
                    },
                    {
                        "topic": topic,
                        "partition": 1,
                        "offset_committed": None,
                        "offset_end": 1,
                        "consumer_lag_messages": None,
                        "consumer_lag_ms": None,
                        "unknown": NEVER_COMMITTED,
                        "assigned": False,
                        "status": "UNKNOWN",
                        "reason": NEVER_COMMITTED,
                        "not_moving": False,
                        "commit_time": None,
                        "messages_in_per_s": None,
                        "messages_out_per_s": None,
                        "catch_up_s": None,
                    },
                ],
                "consumer_lag_messages_sum": None,
                "consumer_lag_ms_max": None,
                "status": "UNKNOWN",
            }
        ],
        "freshness": [],
    }
    text = CliRunner().invoke(cli, arguments)
    assert text.exit_code == 0
    lines = [line.split() for line in text.stdout.splitlines()]
    caught_up = ["0", "s", "OK", "caught", "up"]
    assert [topic, "0", "0", "0", "0", "0.0", "0.0", "0.0", *caught_up] in lines
    never = ["UNKNOWN", *NEVER_COMMITTED.split()]
    assert [topic, "1", "unknown", "1", *["unknown"] * 5, *never] in lines


@pytest.mark.kafka
@pytest.mark.parametrize(("limit", "code"), [("WARN", 0), ("UNKNOWN", 5)])
def test_a_status_at_its_limit_fails_the_check(
    kafka_bootstrap: str, topic: str, limit: str, code: int
) -> None:
    commit(kafka_bootstrap, topic, topic, 0, 0)
    produce(kafka_bootstrap, topic, 1, [1_700_000_000_000])
    arguments = ["lag", "--bootstrap", kafka_bootstrap, "--group", topic, "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--fail-on", limit])
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (code, "UNKNOWN")
    if code:
        error = json.loads(result.stderr)
        assert (error["code"], error["value"], error["expected"]) == (
            "lag_status",
            "UNKNOWN",
            "better than UNKNOWN",
        )
        assert f"{topic} {topic}[1] UNKNOWN" in error["message"]


@pytest.mark.kafka
def test_a_member_that_has_a_partition_and_never_reads_it(kafka_bootstrap: str, topic: str) -> None:
    produce(kafka_bootstrap, topic, 0, [1_700_000_000_000])
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic})
    consumer.subscribe([topic])
    wait_until(
        lambda: consumer.poll(0.05) is not None or bool(consumer.assignment()), "a rebalance"
    )
    observer = LagObserver({"bootstrap.servers": kafka_bootstrap}, lambda: {topic: ()}, (topic,))
    try:
        (group,) = observer.look()
    finally:
        observer.close()
        consumer.close()
    assert (group.state, group.members) == ("stable", 1)
    assert [(row.assigned, row.status, row.not_moving) for row in group.partitions] == [
        (True, Status.UNKNOWN, True),
        (True, Status.OK, False),
    ]


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("age_ms", "status", "reason"),
    [
        (1_000, "OK", "was caught up at a recent commit"),
        (9_000, "STOP", "no commit for 60.0 s"),
    ],
)
def test_who_was_caught_up_a_moment_ago_has_not_stopped(
    kafka_bootstrap: str, topic: str, age_ms: int, status: str, reason: str
) -> None:
    """A first look has seen no ends before; the next record's age says the same."""
    commit(kafka_bootstrap, topic, topic, 0, 0)
    now_ms = time.time_ns() // 1_000_000 + 60_000
    produce(kafka_bootstrap, topic, 0, [now_ms - age_ms])
    observer = LagObserver(
        {"bootstrap.servers": kafka_bootstrap}, lambda: {topic: ()}, (topic,), now_ms=lambda: now_ms
    )
    (group,) = observer.look()
    observer.close()
    row = group.partitions[0]
    assert (row.status.value, row.reason[:17]) == (status, reason[:17])


@pytest.mark.kafka
def test_without_leave_to_read_the_commit_log_offsets_are_sampled(
    kafka_bootstrap: str, topic: str
) -> None:
    """STOP is still told from WARN: by when an offset was seen to change."""
    clock = iter(range(1_000_000, 9_000_000, 1_000))
    observer = LagObserver(
        {"bootstrap.servers": kafka_bootstrap},
        lambda: {topic: ()},
        (topic,),
        now_ms=lambda: next(clock),
    )
    observer.sampled = True
    statuses = []
    for offset in (1, 2, 3, 3, 3, 3):
        produce(kafka_bootstrap, topic, 0, [1_000] * 4)
        commit(kafka_bootstrap, topic, topic, 0, offset)
        (group,) = observer.look()
        statuses.append(group.partitions[0].status.value)
    observer.close()
    # one sample spans no time; then the lag grows, until the silence outlasts the window
    assert statuses == ["STOP", "WARN", "WARN", "WARN", "STOP", "STOP"]


@pytest.mark.kafka
def test_a_group_that_does_not_exist_is_bad_input(kafka_bootstrap: str) -> None:
    arguments = ["lag", "--bootstrap", kafka_bootstrap, "--group", "no-such-group", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (3, "")
    error = json.loads(result.stderr)
    assert (error["code"], error["value"]) == ("unknown_group", "no-such-group")


@pytest.fixture
def installed(kafka_bootstrap: str) -> Settings:
    """Settings of an installation with all its topics, under a prefix of its own."""
    prefix = f"lag-{uuid.uuid4().hex[:8]}-"
    settings = Settings(kafka={"bootstrap": kafka_bootstrap}, topics={"prefix": prefix})
    create_topics(settings, partitions=1)
    yield settings
    names = [prefix + topic.name for topic in TOPICS]
    AdminClient({"bootstrap.servers": kafka_bootstrap}).delete_topics(names)


def own_groups(settings: Settings) -> dict[str, set[str]]:
    """Group -> topics that the command shows when no group is named."""
    environment = {"PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix}
    arguments = ["lag", "--json", "--bootstrap", settings.kafka.bootstrap]
    result = CliRunner().invoke(cli, arguments, env=environment)
    assert result.exit_code == 0, result.stderr
    return {
        group["group"]: {row["topic"] for row in group["partitions"]}
        for group in json.loads(result.stdout)["groups"]
    }


@pytest.mark.kafka
def test_without_a_name_our_own_groups_are_shown(installed: Settings) -> None:
    prefix, bootstrap = installed.topics.prefix, installed.kafka.bootstrap
    sources = {prefix + topic.name for topic in SOURCES}
    tape = {prefix + TAPE.name}
    assert own_groups(installed) == {f"{prefix}pricemaker": sources | tape}
    commit(bootstrap, f"{prefix}pricemaker-projector", f"{prefix}prices-latest", 0, 0)
    latest = {f"{prefix}pricemaker-projector": {f"{prefix}prices-latest"}}
    assert own_groups(installed) == {f"{prefix}pricemaker": sources | tape} | latest
    commit(bootstrap, f"{prefix}pricemaker-intake", f"{prefix}orders", 0, 0)
    commit(bootstrap, f"{prefix}pricemaker-pricer", f"{prefix}tape", 0, 0)
    assert (
        own_groups(installed)
        == {
            f"{prefix}pricemaker-intake": sources,
            f"{prefix}pricemaker-pricer": tape,
        }
        | latest
    )


@pytest.mark.kafka
def test_watching_goes_on_until_it_is_interrupted(installed: Settings) -> None:
    program = subprocess.Popen(
        [
            *(sys.executable, "-c", HEED_INTERRUPTS + RUN_PROGRAM),
            *("lag", "--json", "--watch", "--interval", "0.2"),
            *("--bootstrap", installed.kafka.bootstrap),
        ],
        env={**os.environ, "PRICEMAKER_TOPICS__PREFIX": installed.topics.prefix},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    first, second = (json.loads(program.stdout.readline()) for _ in range(2))
    assert first["observed_at"] < second["observed_at"]
    assert first["groups"] == second["groups"]
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=30)
    assert (program.returncode, stderr) == (130, b"")
