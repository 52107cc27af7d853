"""Alert rules and dashboards: valid, tested, and in step with what the processes expose."""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest

from streams.metrics.catalogue import PARTS, described, registry_of
from tests.conftest import IN_CI

ROOT = Path(__file__).parent.parent
RULES = ROOT / "infra/prometheus/rules.yml"
RULE_TESTS = ROOT / "infra/prometheus/rules.test.yml"
CONFIG = ROOT / "infra/prometheus/prometheus.yml"
GRAFANA = ROOT / "infra/grafana"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]
OF_PROMETHEUS = {"up"}
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
METRIC = re.compile(r"\b((?:kafka|pricemaker|process)_\w+|up)\b")
# Labels and their values: no names of metrics.
LABELS = re.compile(
    r"\b(?:by|on|ignoring|group_left|group_right|without)\s*\([^)]*\)|\{[^}]*\}|\"[^\"]*\""
)
UNITS = {"s", "percentunit", "short", "cps", "bytes", "reqps", "ms"}


def promtool(*arguments: str) -> str:
    if shutil.which("promtool") is None and not IN_CI:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    found = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_promtool_accepts_and_tests_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("check", "config", str(CONFIG))
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))


def test_every_alert_is_tested_when_it_fires_and_when_it_must_not() -> None:
    told: dict[str, set[bool]] = {rule["alert"]: set() for rule in ALERTS}
    for one in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for case in one["alert_rule_test"]:
            told[case["alertname"]].add(bool(case["exp_alerts"]))
    assert {name for name, found in told.items() if found != {True, False}} == set()


def test_every_alert_has_its_severity_and_its_page() -> None:
    page = (ROOT / "docs/alerts.md").read_text()
    written = dict(re.findall(r"^### (\w+)\n\n\*(\w+)\.\*", page, re.MULTILINE))
    assert written == {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}
    assert set(written.values()) <= {"page", "ticket"}
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"


def exposed() -> dict[str, tuple[str, ...]]:
    """Sample name -> labels, of all processes."""
    found: dict[str, tuple[str, ...]] = {}
    for process in PARTS:
        for metric in described(process):
            found[metric.name] = metric.labels
            if metric.kind == "histogram":
                for ending in OF_A_HISTOGRAM:
                    found[metric.name + ending] = metric.labels
    return found


def dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((GRAFANA / "dashboards").glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of all rules and panels."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for name, dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def metrics_in(query: str) -> set[str]:
    return set(METRIC.findall(LABELS.sub(" ", query)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('up{job="pricemaker_x"} == 0', {"up"}),
        (
            "sum by (kafka_x) (rate(pricemaker_a_total[5m])) / kafka_b",
            {"pricemaker_a_total", "kafka_b"},
        ),
        ("pricemaker_a unless on (kafka_c) pricemaker_b", {"pricemaker_a", "pricemaker_b"}),
    ],
)
def test_metrics_are_found_in_queries(query: str, expected: set[str]) -> None:
    assert metrics_in(query) == expected


def test_rules_and_dashboards_name_only_what_processes_expose() -> None:
    known = set(exposed()) | OF_PROMETHEUS
    wrong = {(where, name) for where, query in queries() for name in metrics_in(query) - known}
    assert wrong == set()
    assert all(metrics_in(query) for _, query in queries())


def test_the_catalogue_is_what_a_scrape_shows() -> None:
    """Names, kinds and words come from the same text that Prometheus reads."""
    for process in PARTS:
        text = generate_latest(registry_of(process)).decode()
        scraped = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
        kinds = {metric.name: metric.kind.replace("info", "gauge") for metric in described(process)}
        assert {
            name: kind for name, kind in scraped.items() if not name.endswith("_created")
        } == kinds


def test_names_follow_the_conventions() -> None:
    wrong = []
    for process in PARTS:
        for metric in described(process):
            ours = metric.name.startswith(("pricemaker_", "process_", "kafka_"))
            total = metric.name.endswith("_total") == (metric.kind == "counter")
            base = not re.search(r"_(ms|millis|minutes|kb|percent)(_|$)", metric.name)
            if not (ours and total and base and metric.documentation.endswith(".")):
                wrong.append(metric)
    assert wrong == []


def test_every_dashboard_is_current_and_every_panel_has_a_unit() -> None:
    texts = runpy.run_path(str(GRAFANA / "dashboards.py"))["texts"]()
    assert {path.stem for path in texts} == {name for name, _ in dashboards()}
    for path, text in texts.items():
        assert path.read_text() == text, "run: python infra/grafana/dashboards.py"
    for name, dashboard in dashboards():
        panels = dashboard["panels"]
        assert len({panel["title"] for panel in panels}) == len(panels), name
        for panel in panels:
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]


def test_panels_do_not_overlap() -> None:
    for name, dashboard in dashboards():
        cells = [
            (x, y)
            for panel in dashboard["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells)), name


def test_dashboards_find_their_source_and_are_provisioned() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/pricemaker.yml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert (
        f"./infra/grafana/dashboards:{provider['options']['path']}:ro"
        in (compose["grafana"]["volumes"])
    )
    uids = {
        target["datasource"]["uid"]
        for _, dashboard in dashboards()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    assert uids == {source["uid"]}


def test_the_queries_of_dashboards_are_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, (_, query) in enumerate(queries())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))
