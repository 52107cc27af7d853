"""``pricemaker lag``: how far consumers are behind, and what they do about it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from schemas.errors import CheckFailed, ConfigError, InputError
from streams.config import Settings, load_settings
from streams.kafka.kafka_settings import client_config
from streams.lag.broker import known_groups
from streams.lag.monitor import (
    LagMonitor,
    Look,
    Looker,
    all_groups,
    lag_document,
    own_group_topics,
    own_groups,
)
from streams.lag.rules import SEVERITY, Status
from streams.lag.text import look_text
from streams.output import Output, bootstrap_option, command_options

FAIL_ON = [status.value for status in SEVERITY if status != Status.OK]


@click.command("lag")
@click.option("--group", "groups", multiple=True, help="Any consumer group.  [default: our own]")
@click.option("--all", "everybody", is_flag=True, help="All consumer groups of the brokers.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--serve",
    is_flag=True,
    help="Look again and again and show nothing here, but to Prometheus at metrics.port.",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=5.0,
    show_default=True,
    help="Seconds between looks with --watch and --serve.",
)
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    help="Exit 5 when a status is this or worse (from left to right); with --watch at once.",
)
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    groups: tuple[str, ...],
    everybody: bool,
    watch: bool,
    serve: bool,
    interval_s: float,
    fail_on: str | None,
) -> None:
    """Show how far consumers are behind, and their status by Burrow's rules.

    Per group, topic and partition: messages, seconds (the age of the next record to read), messages
    a second in and out, time to catch up, and OK, UNKNOWN, WARN (the lag never falls), STALL
    (commits without moving), STOP (no commits) or REWIND (went back). "unknown" is never shown as
    0. For our own groups also how fresh prices are in event time. Messages count offsets: where a
    topic has transactions or is compacted, some of these may hold no record.

    Example: pricemaker lag --group pricemaker --watch
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    if groups and everybody:
        raise click.UsageError("--group and --all exclude each other.")
    if serve and (watch or groups or fail_on):
        raise click.UsageError("--serve goes with --all and --interval only.")
    if serve:
        _serve(output, settings, everybody, interval_s)
        return
    with contextlib.closing(_looker(settings, groups, everybody)) as looker:
        while True:
            look = looker.look()
            show = output.record if watch else output.document
            show(lag_document(look), look_text(look))
            if fail_on is not None:
                _check(look, Status(fail_on))
            if not watch:
                return
            time.sleep(interval_s)


def _looker(settings: Settings, groups: tuple[str, ...], everybody: bool) -> Looker:
    if everybody:
        return Looker(settings, lambda: all_groups(settings), None)
    if not groups:
        return Looker(settings, lambda: own_groups(settings), tuple(own_group_topics(settings)))
    named = _named(client_config(settings), groups)
    own = own_group_topics(settings)
    expected = {group: own.get(group, ()) for group in named}
    return Looker(settings, lambda: expected, groups)


def _named(client: dict[str, Any], groups: tuple[str, ...]) -> tuple[str, ...]:
    known = known_groups(client)
    for group in groups:
        if group not in known:
            raise InputError(
                "unknown_group",
                f"there is no consumer group {group!r}.",
                field="--group",
                value=group,
                expected=f"one of {', '.join(known)}" if known else "a group; there is none yet",
                fix=f"Known groups: {', '.join(known) or 'none'}.",
            )
    return tuple(dict.fromkeys(groups))


def _check(look: Look, limit: Status) -> None:
    bad = [
        f"{group.group} {row.topic}[{row.partition}] {row.status.value}"
        for group in look.groups
        for row in group.partitions
        if SEVERITY.index(row.status) >= SEVERITY.index(limit)
    ]
    if bad or SEVERITY.index(look.status_worst) >= SEVERITY.index(limit):
        raise CheckFailed(
            "lag_status",
            f"the worst status was {look.status_worst.value}: {', '.join(bad) or 'no partition'}.",
            field="--fail-on",
            value=look.status_worst.value,
            expected=f"better than {limit.value}",
        )


def _serve(output: Output, settings: Settings, everybody: bool, interval_s: float) -> None:
    # The metrics' libraries are for this alone: not for --help.
    from streams.metrics.health import Health
    from streams.metrics.kafka_lag import LagMetrics
    from streams.metrics.registry import new_registry
    from streams.metrics.server import serve_metrics

    if settings.metrics.port is None:
        raise ConfigError(
            "no_metrics_port", "there is nowhere to serve.", field="metrics.port",
            expected="a port", fix="Set metrics.port, or PRICEMAKER_METRICS__PORT.",
        )  # fmt: skip
    registry = new_registry("lag")
    monitor = LagMonitor(settings, everybody=everybody, interval_s=interval_s)
    LagMetrics(registry, monitor, cluster=settings.kafka.bootstrap)
    health = Health(alive={"looks": monitor.stands_still}, ready={"broker": monitor.not_known})
    with _until_told() as ending, serve_metrics(settings, registry, health) as port:
        output.note(f"metrics at http://{settings.metrics.host}:{port}/metrics")
        monitor.start()
        ending.wait()
        monitor.close()


@contextlib.contextmanager
def _until_told() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; SIGINT ends the program by itself."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    yield ending
