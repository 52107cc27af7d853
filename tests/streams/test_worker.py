"""A worker's start and end: what it refuses, what it listens on, what it says."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from schemas.errors import ConfigError, ServiceError
from streams.kafka import kafka_settings, reader
from streams.settings import Settings
from streams.worker.app import credentials_of, take_over_deadline_s
from streams.worker.outbox import Fenced, GateBreach
from streams.worker.worker import Worker, exit_code
from tests.streams.counting_engine import CountingFactory
from tests.streams.spine import ROOT, fresh_topics, new_prefix, settings_for, workers

SECRET = "correct horse battery staple"


def sasl(protocol: str) -> Settings:
    return Settings(
        kafka={
            "bootstrap": "a:1,b:2",
            "security_protocol": protocol,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "shop",
            "sasl_password": SECRET,
        }
    )


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_both_clients_log_in_the_same_way(protocol: str) -> None:
    settings = sasl(protocol)
    faust = credentials_of(settings)
    confluent = kafka_settings.client_config(settings)
    assert faust is not None
    assert (faust.protocol.value, faust.mechanism.value, faust.username, faust.password) == (
        protocol,
        "SCRAM-SHA-512",
        "shop",
        SECRET,
    )
    assert (faust.ssl_context is not None) == (protocol == "SASL_SSL")
    login = {name: value for name, value in confluent.items() if name.startswith("sasl.")}
    assert login == {
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "shop",
        "sasl.password": SECRET,
    }
    assert confluent["security.protocol"] == protocol.lower()
    Consumer({**confluent, "group.id": "x"}).close()  # librdkafka knows every name
    assert SECRET not in repr(faust) + repr(settings)


def test_a_plain_connection_has_no_credentials() -> None:
    assert credentials_of(settings_for("a:1", "")) is None


def test_the_take_over_ends_before_faust_gives_up_on_it() -> None:
    settings = settings_for("a:1", "")
    assert 0 < take_over_deadline_s(settings) < settings.kafka.request_timeout_s


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("x"), 1),
        (GateBreach("gate_breach", "x"), 1),
        (ConfigError("topics_wrong", "x"), 2),
        (Fenced("fenced", "x"), 4),
    ],
)
def test_the_exit_code_says_what_ended_a_worker(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_a_worker_without_a_broker_does_not_start(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ANSWER_S", 0.5)
    with pytest.raises(ServiceError) as caught:
        Worker(settings_for(f"127.0.0.1:{unused_port}", ""), CountingFactory()).run()
    assert (caught.value.code, caught.value.exit_code) == ("broker_unreachable", 4)


@pytest.mark.kafka
def test_a_worker_without_topics_does_not_start(kafka_bootstrap: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Worker(settings_for(kafka_bootstrap, new_prefix()), CountingFactory()).run()
    assert caught.value.code == "topics_wrong"
    assert caught.value.fix == "Run: pricemaker topics create"


@pytest.mark.kafka
def test_a_worker_listens_nowhere_and_stops_at_sigterm(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    settings = fresh_topics(kafka_bootstrap)
    with workers(settings, tmp_path) as start:
        worker = start()
        sockets = {
            link.readlink().name.removeprefix("socket:[").removesuffix("]")
            for link in Path(f"/proc/{worker.process.pid}/fd").iterdir()
            if "socket:" in str(link.readlink())
        }
        tables = [Path(f"/proc/{worker.process.pid}/net/{name}") for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
        assert [row for row in rows if row[9] in sockets and row[3] == "0A"] == []  # LISTEN
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "is ready" in worker.text()
        assert "Traceback" not in worker.text()


def test_the_help_of_the_worker_needs_neither_faust_nor_jax() -> None:
    code = (
        "import sys; from streams.commands import worker; "
        "print(sorted({'faust', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
