"""The metrics of a process over HTTP: its three paths, and what is wrong with an address."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, Counter

from schemas.errors import ServiceError
from streams.cli import cli
from streams.lag import Freshness, GroupLag, PartitionLag, Rates, Status
from streams.lag.broker import wall_clock_ms
from streams.lag.monitor import Look
from streams.metrics.health import Health
from streams.metrics.kafka_lag import STALE_S, LagMetrics
from streams.metrics.registry import new_registry
from streams.metrics.server import serve_metrics
from streams.settings import Settings
from tests.streams.spine import wait_until

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


# -- lag under the names of kafka-lag-exporter


class Watched:
    """A lag monitor that has seen this."""

    def __init__(self, look: Look | None) -> None:
        self.latest = look


def partition(number: int, **fields: Any) -> PartitionLag:
    known = {
        "topic": "orders", "partition": number, "offset_committed": 40, "offset_end": 50,
        "consumer_lag_messages": 10, "consumer_lag_ms": 2_500, "status": Status.WARN,
        "not_moving": False, "rates": Rates(catch_up_s=4.0),
    }  # fmt: skip
    return PartitionLag(**known | fields)


NEVER = {
    "offset_committed": None, "consumer_lag_messages": None, "consumer_lag_ms": None,
    "status": Status.UNKNOWN, "not_moving": None, "rates": Rates(),
}  # fmt: skip


def lag_samples(look: Look | None) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    LagMetrics(registry, Watched(look), cluster="c")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def look_of(*rows: PartitionLag, at_ms: int) -> Look:
    group = GroupLag(group="g", state="stable", members=1, topics_missing=(), partitions=rows)
    behind = {"event_time_applied_ms": None, "event_time_newest_ms": None, "tape_waiting": 3}
    freshness = [
        Freshness(partition=0, behind_ms=1_500, **behind),
        Freshness(partition=1, behind_ms=None, unknown="no state", **behind),
    ]
    return Look(at_ms, [group], freshness)


def test_what_is_not_known_of_lag_has_no_sample() -> None:
    now_ms = wall_clock_ms()
    found = lag_samples(look_of(partition(0), partition(1, **NEVER), at_ms=now_ms))
    assert 0 <= found.pop(("pricemaker_lag_look_age_seconds", "c")) < STALE_S
    for number, status in (("0", "WARN"), ("1", "UNKNOWN")):
        for other in Status:
            key = ("pricemaker_lag_status", "c", "g", "orders", number, other.value)
            assert found.pop(key) == (other.value == status)
    place, group = ("c", "g", "orders", "0"), "kafka_consumergroup_group"
    assert found == {
        (f"{group}_lag", *place): 10,
        (f"{group}_lag_seconds", *place): 2.5,
        (f"{group}_offset", *place): 40,
        ("pricemaker_lag_not_moving", *place): 0,
        ("pricemaker_lag_catch_up_seconds", *place): 4,
        ("kafka_partition_latest_offset", "c", "orders", "0"): 50,
        ("kafka_partition_latest_offset", "c", "orders", "1"): 50,
        ("pricemaker_price_freshness_seconds", "c", "0"): 1.5,
        ("pricemaker_tape_waiting_records", "c", "0"): 3,
        ("pricemaker_tape_waiting_records", "c", "1"): 3,
    }
    whole = lag_samples(look_of(partition(0), partition(1, consumer_lag_ms=9_000), at_ms=now_ms))
    assert {name: value for name, value in whole.items() if name[1:] == ("c", "g")} == {
        (f"{group}_max_lag", "c", "g"): 10,
        (f"{group}_max_lag_seconds", "c", "g"): 9,
        (f"{group}_sum_lag", "c", "g"): 20,
    }


def test_an_old_look_is_not_shown_as_if_it_were_new() -> None:
    old_ms = wall_clock_ms() - round(STALE_S * 1000) - 1
    ((name, age_s),) = lag_samples(look_of(partition(0), at_ms=old_ms)).items()
    assert name == ("pricemaker_lag_look_age_seconds", "c")
    assert age_s > STALE_S
    assert lag_samples(None) == {}


@pytest.mark.kafka
def test_lag_is_served_until_the_process_is_told_to_end(kafka_bootstrap: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "streams", "lag", "--serve", "--interval", "0.2", "--bootstrap",
         kafka_bootstrap],
        env={**os.environ, "PRICEMAKER_METRICS__PORT": "0"},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert program.stderr is not None
    line = program.stderr.readline().decode()
    port = int(line.rpartition(":")[2].partition("/")[0])
    wait_until(lambda: get(port, "/readyz")[0] == 200, "the first look")
    assert get(port, "/healthz") == (200, '{"looks": null}\n')
    assert 'pricemaker_build_info{process="lag"' in get(port, "/metrics")[1]
    assert "pricemaker_lag_look_age_seconds{" in get(port, "/metrics")[1]
    program.terminate()
    assert program.wait(30) == 0
    program.stderr.close()


def test_lag_is_served_only_with_a_port() -> None:
    result = CliRunner().invoke(cli, ["lag", "--serve", "--json"])
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["field"]) == (
        2,
        "no_metrics_port",
        "metrics.port",
    )
