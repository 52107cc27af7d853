"""The metrics of a process over HTTP: its three paths, and what is wrong with an address."""

import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from schemas.errors import ServiceError
from streams.metrics.health import Health
from streams.metrics.registry import new_registry
from streams.metrics.server import serve_metrics
from streams.settings import Settings

SERVED = Settings(metrics={"port": 0})


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_three_paths_and_no_other() -> None:
    registry = CollectorRegistry()
    Counter("pricemaker_tested", "Tests.", registry=registry).inc(3)
    with serve_metrics(SERVED, registry, Health()) as port:
        status, text = get(port, "/metrics")
        assert (status, text.splitlines()[:3]) == (
            200,
            [
                "# HELP pricemaker_tested_total Tests.",
                "# TYPE pricemaker_tested_total counter",
                "pricemaker_tested_total 3.0",
            ],
        )
        assert get(port, "/healthz") == get(port, "/readyz") == (200, "{}\n")
        assert get(port, "/") == (404, '{"error": "paths: /metrics, /healthz, /readyz"}\n')


def test_a_failed_check_is_503_with_its_reason_and_not_alive_is_not_ready() -> None:
    said = {"offsets": None, "state": "2 of 4 partitions are being taken over"}
    health = Health(
        alive={"offsets": lambda: said["offsets"]}, ready={"state": lambda: said["state"]}
    )
    with serve_metrics(SERVED, CollectorRegistry(), health) as port:
        assert get(port, "/healthz") == (200, '{"offsets": null}\n')
        assert get(port, "/readyz") == (
            503,
            '{"offsets": null, "state": "2 of 4 partitions are being taken over"}\n',
        )
        said.update(offsets="tape[1] stands still", state=None)
        assert get(port, "/healthz") == (503, '{"offsets": "tape[1] stands still"}\n')
        assert get(port, "/readyz") == (503, '{"offsets": "tape[1] stands still", "state": null}\n')


def test_without_a_port_nothing_listens() -> None:
    with serve_metrics(Settings(), CollectorRegistry(), Health()) as port:
        assert port is None


def test_a_port_that_is_taken_is_a_service_error() -> None:
    with serve_metrics(SERVED, CollectorRegistry(), Health()) as port:
        again = Settings(metrics={"port": port})
        with (
            pytest.raises(ServiceError) as caught,
            serve_metrics(again, CollectorRegistry(), Health()),
        ):
            pass
        assert (caught.value.code, caught.value.where, caught.value.field) == (
            "port_taken",
            f"127.0.0.1:{port}",
            "metrics.port",
        )


def test_a_registry_says_what_runs() -> None:
    registry = new_registry("projector")
    (build,) = (found for found in registry.collect() if found.name == "pricemaker_build")
    (sample,) = build.samples
    assert (sample.name, sample.labels["process"], sample.value) == (
        "pricemaker_build_info",
        "projector",
        1.0,
    )
    with pytest.raises(ValueError, match="expected one of worker, gateway, projector, lag"):
        new_registry("desk")
