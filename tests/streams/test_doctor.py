"""The doctor: each check seen both well and ill, on real servers where it asks one."""

import importlib.metadata
import json
import time
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from schemas.topics import TOPICS
from streams.cli import cli
from streams.doctor import CHECKS, FAILED, OK, SKIPPED, Check, examine
from streams.kafka.admin import create_topics
from streams.kafka.kafka_settings import group_id
from streams.settings import Settings

SECRET = "hunter2-is-a-secret"


def only(settings: Settings, *names: str) -> dict[str, str]:
    return {check.name: check.status for check in examine(settings, names)}


def test_a_sound_installation() -> None:
    checks = examine(Settings(), ["python", "packages", "float64"])
    assert [(check.name, check.status) for check in checks] == [
        ("python", OK),
        ("packages", OK),
        ("float64", OK),
    ]
    assert checks[2].detail.endswith("float64 on cpu")


def test_an_old_python(monkeypatch) -> None:
    monkeypatch.setattr("streams.doctor.PYTHON_MIN", (99, 0))
    (check,) = examine(Settings(), ["python"])
    assert (check.status, check.fix) == (FAILED, "Install Python 3.11 or later.")


def test_packages_that_are_absent_or_too_old(monkeypatch) -> None:
    requirements = ["click>=99", "no-such-package>=1", "ruff>=99; extra == 'dev'", "rich"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: requirements)
    (check,) = examine(Settings(), ["packages"])
    click_version = importlib.metadata.version("click")
    assert check == Check(
        name="packages",
        status=FAILED,
        detail=f"click is {click_version}, expected >=99; no-such-package>=1 is missing",
        fix="Run: pip install --upgrade pricemaker",
    )


def test_folders(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    well = {
        "worker": {"data_dir": tmp_path / "data"},
        "engine": {"compilation_cache_dir": tmp_path / "jax"},
    }
    ill = {
        "worker": {"data_dir": blocked / "data"},
        "engine": {"compilation_cache_dir": blocked / "jax"},
    }
    names = ("data_dir", "compilation_cache")
    assert only(Settings(**well), *names) == {"data_dir": OK, "compilation_cache": OK}
    checks = examine(Settings(**ill), names)
    assert [check.status for check in checks] == [FAILED, FAILED]
    assert checks[0].detail == f"{blocked}/data: Not a directory"
    off = Settings(engine={"compilation_cache_dir": None})
    assert only(off, "compilation_cache") == {"compilation_cache": SKIPPED}


def test_without_a_broker_the_rest_is_skipped(unused_port: int, monkeypatch) -> None:
    monkeypatch.setattr("streams.doctor.CONNECT_TIMEOUT_S", 0.5)
    settings = Settings(kafka={"bootstrap": f"127.0.0.1:{unused_port}"})
    assert only(settings, "broker", "topics", "clock", "worker") == {
        "broker": FAILED,
        "topics": SKIPPED,
        "clock": SKIPPED,
        "worker": SKIPPED,
    }


def test_redis_away_shows_no_password(unused_port: int) -> None:
    settings = Settings(redis={"url": f"redis://:{SECRET}@127.0.0.1:{unused_port}/0"})
    (check,) = examine(settings, ["redis"])
    assert (check.status, check.detail) == (FAILED, "no answer (ConnectionError)")
    assert SECRET not in str(check)
    assert only(Settings(), "redis") == {"redis": SKIPPED}


@pytest.mark.redis
def test_redis_answers(redis_url: str) -> None:
    assert only(Settings(redis={"url": redis_url}), "redis") == {"redis": OK}


@pytest.fixture
def installed(kafka_bootstrap: str) -> Settings:
    """Settings of an installation with all its topics, under a prefix of its own."""
    settings = Settings(
        kafka={"bootstrap": kafka_bootstrap},
        topics={"prefix": f"doctor-{uuid.uuid4().hex[:8]}-"},
        worker={"id": "doctor-test"},
    )
    create_topics(settings, partitions=1)
    yield settings
    names = [settings.topics.prefix + topic.name for topic in TOPICS]
    AdminClient({"bootstrap.servers": kafka_bootstrap}).delete_topics(names)


@pytest.mark.kafka
def test_broker_topics_and_clock_are_well(installed: Settings) -> None:
    names = ("broker", "topics", "clock")
    assert only(installed, *names) == {"broker": OK, "topics": OK, "clock": SKIPPED}
    write_an_order(installed, ahead_ms=0)
    assert only(installed, "clock") == {"clock": OK}


@pytest.mark.kafka
def test_an_event_from_the_future(installed: Settings) -> None:
    write_an_order(installed, ahead_ms=180_000)
    (check,) = examine(installed, ["clock"])
    assert check.status == FAILED
    assert "in this clock's future" in check.detail


def write_an_order(settings: Settings, ahead_ms: int) -> None:
    at_ms = time.time_ns() // 1_000_000 + ahead_ms
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    producer.produce(f"{settings.topics.prefix}orders", b"{}", timestamp=at_ms)
    assert producer.flush(10) == 0


@pytest.mark.kafka
def test_missing_topics(kafka_bootstrap: str) -> None:
    settings = Settings(kafka={"bootstrap": kafka_bootstrap}, topics={"prefix": "never-made-"})
    (check,) = examine(settings, ["topics"])
    assert (check.status, check.fix) == (FAILED, "Run: pricemaker topics create")
    assert "never-made-tape does not exist" in check.detail


@pytest.mark.kafka
def test_a_worker_is_well_while_it_is_in_its_group(installed: Settings) -> None:
    assert only(installed, "worker") == {"worker": FAILED}
    worker = Consumer(
        {
            "bootstrap.servers": installed.kafka.bootstrap,
            "group.id": group_id(installed),
            "group.instance.id": installed.worker.id,
        }
    )
    worker.subscribe([f"{installed.topics.prefix}orders"])
    deadline = time.monotonic() + 30
    while not worker.assignment() and time.monotonic() < deadline:
        worker.poll(0.1)
    assert only(installed, "worker") == {"worker": OK}
    worker.close()


@pytest.mark.kafka
def test_the_command_exits_5_and_prints_every_check(kafka_bootstrap: str) -> None:
    arguments = ["doctor", "--bootstrap", kafka_bootstrap, "--only", "topics", "--only", "broker"]
    environment = {"PRICEMAKER_TOPICS__PREFIX": "never-made-"}
    result = CliRunner().invoke(cli, [*arguments, "--json"], env=environment)
    document = json.loads(result.stdout)
    assert result.exit_code == 5
    assert document["status"] == "failed"
    assert [check["status"] for check in document["checks"]] == [OK, FAILED]
    assert json.loads(result.stderr)["message"] == "1 of 2 checks failed: topics."
    assert CliRunner().invoke(cli, ["doctor", "--only", "python"]).exit_code == 0


def test_the_worker_check_runs_only_when_named(monkeypatch) -> None:
    ran: list[str] = []
    for name in CHECKS:
        answer = Check(name=name, status=OK, detail="")
        monkeypatch.setitem(
            CHECKS, name, lambda _, answer=answer: ran.append(answer.name) or answer
        )
    examine(Settings())
    assert ran == [name for name in CHECKS if name != "worker"]
    ran.clear()
    examine(Settings(), ["worker"])
    assert ran == ["worker"]
