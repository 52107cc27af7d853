"""The Grafana dashboards, as data: ``python infra/grafana/dashboards.py`` writes them as JSON.

A panel is a title, a unit, and queries with their legends. The layout follows from the order.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS, HEIGHT, STAT_HEIGHT = 24, 8, 4
SECONDS, SHARE, COUNT, PER_SECOND, BYTES = "s", "percentunit", "short", "cps", "bytes"


class Panel(NamedTuple):
    """A graph, or with ``stat`` one figure; ``columns`` of 24."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]  # PromQL, legend
    about: str = ""
    columns: int = 12
    stat: bool = False
    red_from: float | None = None


def graph(title: str, unit: str, query: str, legend: str = "", **other: Any) -> Panel:
    return Panel(title, unit, ((query, legend),), **other)


def stat(
    title: str, unit: str, query: str, red_from: float | None = None, about: str = ""
) -> Panel:
    return Panel(title, unit, ((query, ""),), about, 4, True, red_from)


def quantiles(title: str, histogram: str, by: str = "", about: str = "") -> Panel:
    """The median and p99 of a histogram in seconds."""
    labels = f"le, {by}" if by else "le"
    legend = f"{{{{{by}}}}} " if by else ""
    return Panel(
        title,
        SECONDS,
        tuple(
            (
                f"histogram_quantile({share}, "
                f"sum by ({labels}) (rate({histogram}_bucket[$__rate_interval])))",
                f"{legend}{name}",
            )
            for share, name in ((0.5, "p50"), (0.99, "p99"))
        ),
        about,
    )


def rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate({counter}[$__rate_interval]))"


OVERVIEW = (
    stat("Processes that answer", COUNT, 'sum(up{job=~"worker|gateway|projector|lag"})'),
    stat("Kill switch", COUNT, "max(pricemaker_kill_switch)", 1, "1: no price moves"),
    stat("Open breakers", COUNT, 'sum(pricemaker_breakers{state="OPEN"})', 1),
    stat("Most behind", SECONDS, "max(kafka_consumergroup_group_max_lag_seconds)", 60),
    stat("Oldest prices", SECONDS, "max(pricemaker_price_freshness_seconds)", 900,
         "how far prices are behind the newest event, in event time"),
    stat("Refused in an hour", COUNT,
         "sum(increase(pricemaker_intake_dead_letters_total[1h]))", 1),
    graph("Source records", PER_SECOND, rate("pricemaker_intake_records_total", "topic"),
          "{{topic}}", about="read by intake, per second"),
    graph("Decisions", PER_SECOND, rate("pricemaker_decisions_total", "status"), "{{status}}"),
    quantiles("From event to price", "pricemaker_decision_latency_seconds",
              about="of the record of each batch that waited longest"),
    quantiles("Folding a batch", "pricemaker_batch_fold_duration_seconds"),
    quantiles("Committing a batch", "pricemaker_batch_commit_duration_seconds"),
    quantiles("Intake of a batch", "pricemaker_intake_batch_duration_seconds", "topic"),
    Panel("Batch size", COUNT, (
        ("sum(rate(pricemaker_batch_records_sum[$__rate_interval])) "
         "/ sum(rate(pricemaker_batch_records_count[$__rate_interval]))", "tape records"),
        ("sum(rate(pricemaker_batch_decisions_sum[$__rate_interval])) "
         "/ sum(rate(pricemaker_batch_decisions_count[$__rate_interval]))", "decisions"),
    ), "mean per batch"),
    quantiles("Taking a partition over", "pricemaker_take_over_duration_seconds"),
    graph("Memory", BYTES, "process_resident_memory_bytes", "{{job}} {{instance}}"),
    graph("CPU", COUNT, "rate(process_cpu_seconds_total[$__rate_interval])",
          "{{job}} {{instance}}", about="cores in use"),
)  # fmt: skip

LAG = (
    graph("Messages behind", COUNT, "kafka_consumergroup_group_sum_lag", "{{group}}"),
    graph("Seconds behind", SECONDS, "kafka_consumergroup_group_max_lag_seconds", "{{group}}",
          about="age of the oldest record that waits"),
    graph("Messages behind by partition", COUNT, "topk(20, kafka_consumergroup_group_lag > 0)",
          "{{group}} {{topic}}[{{partition}}]"),
    graph("Seconds behind by partition", SECONDS,
          "topk(20, kafka_consumergroup_group_lag_seconds > 0)",
          "{{group}} {{topic}}[{{partition}}]"),
    graph("Status other than OK", COUNT,
          'sum by (group, status) (pricemaker_lag_status{status!="OK"})',
          "{{group}} {{status}}", about="partitions, by Burrow's rules"),
    graph("Assigned but not moving", COUNT, "sum by (group) (pricemaker_lag_not_moving)",
          "{{group}}", about="partitions that a live member has and does not read"),
    graph("Time to catch up", SECONDS, "max by (group) (pricemaker_lag_catch_up_seconds)",
          "{{group}}", about="no line: it does not catch up"),
    graph("Written", PER_SECOND,
          "sum by (topic) (rate(kafka_partition_latest_offset[$__rate_interval]))", "{{topic}}"),
    graph("Freshness of prices", SECONDS, "pricemaker_price_freshness_seconds",
          "tape[{{partition}}]", about="behind the newest event, in event time"),
    graph("Tape records that wait", COUNT, "pricemaker_tape_waiting_records",
          "tape[{{partition}}]"),
)  # fmt: skip

RISK = (
    stat("Products", COUNT, 'sum(pricemaker_state_records{kind="product"})'),
    stat("Held in an hour", SHARE,
         'sum(increase(pricemaker_decisions_total{status="held"}[1h])) '
         "/ sum(increase(pricemaker_decisions_total[1h]))", 0.2),
    stat("Trips in a day", COUNT, "sum(increase(pricemaker_breaker_trips_total[1d]))"),
    stat("Drifts in a day", COUNT, "sum(increase(pricemaker_drifts_total[1d]))"),
    stat("Probes in a day", COUNT, "sum(increase(pricemaker_probes_total[1d]))"),
    stat("Engines", COUNT, "count(count by (fingerprint) (pricemaker_engine_info))", 2),
    graph("Breakers that are not closed", COUNT, "sum by (scope, state) (pricemaker_breakers)",
          "{{scope}} {{state}}"),
    graph("Breaker trips", COUNT, "sum(increase(pricemaker_breaker_trips_total[1h]))", "trips",
          about="in the hour before"),
    graph("Decisions", SHARE,
          f"{rate('pricemaker_decisions_total', 'status')} / ignoring (status) group_left "
          "sum(rate(pricemaker_decisions_total[$__rate_interval]))", "{{status}}"),
    graph("Alerts", PER_SECOND, rate("pricemaker_alerts_total", "kind"), "{{kind}}"),
    graph("Drifts", COUNT, "sum(increase(pricemaker_drifts_total[1d]))", "drifts",
          about="in the day before"),
    graph("Tape records", PER_SECOND, rate("pricemaker_tape_records_total", "outcome"),
          "{{outcome}}"),
    graph("Refused by intake", PER_SECOND,
          rate("pricemaker_intake_dead_letters_total", "topic, code"), "{{topic}} {{code}}"),
    graph("Clock of the tape", SECONDS, "time() - pricemaker_tape_clock_seconds",
          "tape[{{partition}}]", about="behind the wall clock: an hour of event time, or a replay"),
)  # fmt: skip

EDGE = (
    stat("Redis away", COUNT, "max(pricemaker_redis_away)", 1),
    stat("Projector's kill switch", COUNT, "max(pricemaker_projector_kill_switch)", 1),
    stat("Rebuilds in a day", COUNT, "sum(increase(pricemaker_redis_rebuilds_total[1d]))"),
    stat("Not a price", COUNT, "sum(pricemaker_redis_unreadable_records_total)", 1),
    Panel("Redis feed", PER_SECOND, (
        ("sum(rate(pricemaker_redis_records_total[$__rate_interval]))", "records read"),
        ("sum(rate(pricemaker_redis_prices_total[$__rate_interval]))", "prices written"),
    )),
    stat("Open event streams", COUNT, "sum(pricemaker_gateway_streams)"),
    stat("Webhooks not delivered", COUNT,
         'sum(pricemaker_webhook_state{state!="ok"})', 1, "endpoints that are not ok"),
    graph("Calls of Redis that failed", PER_SECOND,
          "sum(rate(pricemaker_redis_failures_total[$__rate_interval]))", "failures"),
    graph("Requests", PER_SECOND, rate("pricemaker_gateway_requests_total", "route, status"),
          "{{route}} {{status}}"),
    quantiles("Answering a request", "pricemaker_gateway_request_duration_seconds", "route"),
    Panel("Event streams", COUNT, (
        ("sum(pricemaker_gateway_streams)", "open"),
        ("sum(increase(pricemaker_gateway_streams_cut_off_total[1h]))", "cut off in an hour"),
    )),
    graph("Webhook calls", PER_SECOND, rate("pricemaker_webhook_calls_total", "endpoint, outcome"),
          "{{endpoint}} {{outcome}}"),
    graph("Prices delivered by webhook", PER_SECOND,
          rate("pricemaker_webhook_prices_total", "endpoint"), "{{endpoint}}"),
    graph("Prices that webhooks wait with", COUNT,
          "sum by (endpoint) (pricemaker_webhook_waiting_prices)", "{{endpoint}}"),
    quantiles("Answering a quote", "pricemaker_quote_duration_seconds", "tier"),
    graph("Quotes by tier", PER_SECOND, rate("pricemaker_quote_duration_seconds_count", "tier"),
          "{{tier}}"),
    graph("Quotes that L2 passed on", PER_SECOND,
          rate("pricemaker_quotes_passed_on_total", "reason"), "{{reason}}"),
    graph("Quotes refused", PER_SECOND, rate("pricemaker_quotes_refused_total", "code"),
          "{{code}}"),
)  # fmt: skip

DASHBOARDS = {
    "overview": ("Pricemaker: overview", OVERVIEW),
    "lag": ("Pricemaker: lag and freshness", LAG),
    "risk": ("Pricemaker: pricing and risk", RISK),
    "edge": ("Pricemaker: edge", EDGE),
}


def dashboard(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """A dashboard in Grafana's JSON model."""
    placed, x, y, row_height = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        height = STAT_HEIGHT if panel.stat else HEIGHT
        if x + panel.columns > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        placed.append(_panel(number, panel, {"x": x, "y": y, "w": panel.columns, "h": height}))
        x, row_height = x + panel.columns, max(row_height, height)
    return {
        "uid": f"pricemaker-{uid}",
        "title": title,
        "tags": ["pricemaker"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["pricemaker"],
                "title": "Pricemaker",
                "asDropdown": True,
            }
        ],
        "panels": placed,
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green" if panel.stat else "blue", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": steps},
                # a figure that nobody knows is a dash, never 0
                "noValue": "unknown",
            },
            "overrides": [],
        },
        "options": (
            {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
            if panel.stat
            else {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}}
        ),
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query,
             "legendFormat": legend or "__auto"}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }  # fmt: skip


def texts() -> dict[Path, str]:
    """The files and what is in them."""
    return {
        FOLDER / f"{uid}.json": json.dumps(dashboard(uid, *found), indent=1) + "\n"
        for uid, found in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
