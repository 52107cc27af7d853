"""docker-compose.yml: valid by the Compose specification, and in step with the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streams.cli import COMMANDS
from streams.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]


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
        "worker": {
            "kafka": {"condition": "service_healthy"},
            "topics": {"condition": "service_completed_successfully"},
        },
    }
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "topics"), name


def test_nothing_is_open_to_the_network() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(ports) == ["127.0.0.1:6379:6379", "127.0.0.1:9092:9092"]


@pytest.mark.parametrize("name", ["topics", "worker"])
def test_settings_and_commands_exist(name) -> None:
    service = SERVICES[name]
    assert service["command"][0] in COMMANDS
    for variable in service["environment"]:
        section, key = variable.removeprefix(ENV_PREFIX).lower().split("__")
        assert key in Settings.model_fields[section].annotation.model_fields, variable


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
