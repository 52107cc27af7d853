"""infra/kafka/broker: a killed broker comes back with its records, at the same address."""

import shutil
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BROKER = Path(__file__).parent.parent / "infra" / "kafka" / "broker"
NEEDED = ("java", "mvn")


def broker(*arguments: str) -> tuple[int, str]:
    result = subprocess.run([BROKER, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return result.returncode, result.stdout.strip()


@pytest.mark.kafka
def test_a_killed_broker_keeps_its_records_and_port(tmp_path: Path) -> None:
    if missing := [program for program in NEEDED if not shutil.which(program)]:
        pytest.skip(f"{', '.join(missing)} not found; install Java 17 and Maven")
    place = ("--data", str(tmp_path))
    try:
        code, address = broker("start", "--port", "0", *place)
        assert code == 0
        assert broker("start", *place) == (0, address)  # it runs already
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
        producer = Producer({"bootstrap.servers": address, "acks": "all"})
        producer.produce("kept", b"value", key=b"key")
        assert producer.flush(10) == 0

        assert broker("stop", "--kill", *place) == (0, "")
        assert broker("status", *place) == (4, "")
        assert broker("start", *place) == (0, address)
        assert broker("status", *place) == (0, address)

        consumer = Consumer({"bootstrap.servers": address, "group.id": "test"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(30)
        assert (message.key(), message.value()) == (b"key", b"value")
        consumer.close()
    finally:
        assert broker("stop", *place) == (0, "")


@pytest.mark.parametrize("arguments", [(), ("restart",), ("start", "--prot", "0")])
def test_wrong_usage_is_exit_2(arguments) -> None:
    assert broker(*arguments) == (2, "")
