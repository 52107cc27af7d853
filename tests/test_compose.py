"""docker-compose.yml: valid by the Compose specification, and in step with the code."""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click import Context

from streams.cli import COMMANDS, cli
from streams.config import load_settings

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "pricemaker")
WITH_TOPICS = {
    "kafka": {"condition": "service_healthy"},
    "topics": {"condition": "service_completed_successfully"},
}
SECRETS = re.compile(r"\$\{\w+:-(.*)\}")  # what a variable is without its setting


def test_it_follows_the_compose_specification() -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            COMPOSE,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "ok -- validation done\n")


def test_nothing_starts_before_what_it_needs() -> None:
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert needs == {
        "kafka": {},
        "redis": {},
        "topics": {"kafka": {"condition": "service_healthy"}},
        "worker": WITH_TOPICS,
        "lag": WITH_TOPICS,
        "projector": {**WITH_TOPICS, "redis": {"condition": "service_healthy"}},
        "gateway": {**WITH_TOPICS, "redis": {"condition": "service_healthy"}},
        "prometheus": {},
        "grafana": {"prometheus": {"condition": "service_healthy"}},
    }
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "topics"), name


def test_nothing_is_open_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(ports) == [
        "127.0.0.1:3000:3000",
        "127.0.0.1:6379:6379",
        "127.0.0.1:8080:8080",
        "127.0.0.1:9090:9090",
        "127.0.0.1:9092:9092",
    ]


def test_every_process_of_ours_is_there() -> None:
    assert OURS == ["gateway", "lag", "projector", "topics", "worker"]


@pytest.mark.parametrize("name", OURS)
def test_settings_and_commands_exist(name, monkeypatch, tmp_path) -> None:
    service = SERVICES[name]
    command, *options = service["command"]
    known = {option for one in cli.get_command(Context(cli), command).params for option in one.opts}
    assert command in COMMANDS
    assert {option for option in options if option.startswith("-")} <= known
    for variable, value in service["environment"].items():
        monkeypatch.setenv(variable, SECRETS.sub(r"\1", value.strip()))
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {})  # refuses what it does not know
    assert (settings.kafka.bootstrap, settings.metrics.port) == ("kafka:19092", 9400)
    if name == "gateway":
        (token,) = settings.gateway.tokens
        assert (token.role, token.sha256) == ("admin", hashlib.sha256(b"local").hexdigest())


@pytest.mark.parametrize("name", [name for name in OURS if name != "topics"])
def test_every_process_is_asked_whether_it_lives(name) -> None:
    (*_, program) = SERVICES[name]["healthcheck"]["test"]
    assert "http://127.0.0.1:9400/healthz" in program
    ast.parse(program)


def test_prometheus_scrapes_every_process_of_ours() -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]
    }
    assert scraped == {name: [f"{name}:9400"] for name in OURS if name != "topics"}


def test_what_is_mounted_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert mounted == ["./infra/prometheus", "./infra/grafana/provisioning",
                       "./infra/grafana/dashboards"]  # fmt: skip
    assert all((ROOT / path).is_dir() for path in mounted)


def test_the_broker_is_of_the_version_that_is_tested() -> None:
    tested = re.search(
        r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)</version>",
        (ROOT / "infra/kafka/pom.xml").read_text(),
    )
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested[1]}"


def test_the_image_has_all_that_the_package_needs() -> None:
    dockerfile = (ROOT / "infra/Dockerfile").read_text()
    copied = {
        word for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.M) for word in line.split()
    }
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M))
    assert (
        copied
        == allowed
        == {"pyproject.toml", "README.md", "LICENSE", "schemas", "models", "streams"}
    )
