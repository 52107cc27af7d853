"""``pricemaker gateway``: what it says, where it may listen, how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import KafkaError, KafkaException

from streams.cli import cli
from streams.gateway.broker import BrokerWatch
from streams.settings import Settings
from tests.streams.spine import ROOT, fresh_topics, wait_until

WAIT_S = 60.0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["gateway", *arguments])


def test_a_token_is_made_and_what_to_paste_is_a_setting() -> None:
    said = run("token", "--name", "shop@de", "--role", "read", "--expires", "2027-12-31")
    assert said.exit_code == 0, said.stderr
    secret, pasted = re.split(r"For pricemaker.toml:", said.stdout)
    settings = Settings.model_validate(tomllib.loads(pasted))
    (token,) = settings.gateway.tokens
    assert (token.name, token.role) == ("shop@de", "read")
    assert token.expires_at == datetime(2027, 12, 31, tzinfo=UTC)
    assert token.sha256 not in secret
    other = json.loads(run("token", "--name", "x", "--role", "admin", "--json").stdout)
    assert len(other["token"]) >= 43
    assert other["token"] not in said.stdout


def test_a_name_that_can_not_be_an_actor_is_refused() -> None:
    said = run("token", "--name", "shop\n[kafka]", "--role", "read", "--json")
    error = json.loads(said.stderr)
    assert (said.exit_code, said.stdout, error["field"]) == (2, "", None)
    assert "1 to 64 of A-Z" in error["message"]


def test_without_tokens_it_does_not_listen_to_others() -> None:
    said = run("--host", "0.0.0.0", "--json")
    error = json.loads(said.stderr)
    assert (said.exit_code, said.stdout, error["code"]) == (2, "", "tokens_needed")
    assert "pricemaker gateway token" in error["fix"]


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = run("--port", str(taken.getsockname()[1]), "--json")
    error = json.loads(said.stderr)
    assert (said.exit_code, error["code"], error["field"]) == (4, "port_taken", "gateway.port")


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({"tokens": [{"name": "a", "role": "read", "sha256": "x"}]}, "64 hex digits"),
        ({"tokens": [{"name": "a", "role": "king", "sha256": "0" * 64}]}, "'read', 'operate'"),
        ({"tokens": [{"name": "a", "role": "read", "sha256": "0" * 64}] * 2}, "different name"),
        ({"tls_key_file": "key.pem"}, "together with tls_certificate_file"),
    ],
)
def test_settings_that_are_refused(gateway: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Settings.model_validate({"gateway": gateway})


@contextmanager
def started(**environment: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A gateway in a process of its own, and a client of it."""
    with subprocess.Popen(
        [sys.executable, "-m", "streams", "gateway", "--port", "0", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, **environment},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url, timeout=WAIT_S) as client:
                yield process, client
        finally:
            process.kill()


def test_it_serves_and_ends_with_0_when_asked_to(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap)
    with started(
        PRICEMAKER_KAFKA__BOOTSTRAP=kafka_bootstrap,
        PRICEMAKER_TOPICS__PREFIX=settings.topics.prefix,
        PRICEMAKER_METRICS__PORT="0",
    ) as (process, client):
        wait_until(lambda: client.get("/readyz").status_code == 200, WAIT_S)
        with client.stream("GET", "/v1/prices/stream") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            process.send_signal(signal.SIGTERM)
            assert ": the gateway ends" in list(lines)
        _, stderr = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, stderr


def test_it_ends_when_asked_to_also_while_it_waits_for_a_broker(unused_port: int) -> None:
    bootstrap = f"127.0.0.1:{unused_port}"
    with started(PRICEMAKER_KAFKA__BOOTSTRAP=bootstrap) as (process, client):
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["prices"]) == (
            503, "prices-latest is not read to its end yet",
        )  # fmt: skip
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30.0)  # it would give the broker 60 s
        assert process.returncode == 0, stderr


def test_what_is_said_of_the_brokers_age() -> None:
    now = [datetime(2026, 1, 10, 12, 0, second, tzinfo=UTC) for second in range(0, 50, 10)]
    away = KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    answers = iter([away, None, away, away, None])

    def ask() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    watch = BrokerWatch(ask, clock=lambda: now.pop(0))
    told = []
    for _ in range(5):
        watch.look()
        told.append((watch.as_of, watch.away_since))
    at = [f"2026-01-10T12:00:{second:02d}.000Z" for second in range(0, 50, 10)]
    assert told == [
        (None, at[0]),  # it never answered
        (at[1], None),
        (at[1], at[1]),
        (at[1], at[1]),
        (at[2], None),
    ]
