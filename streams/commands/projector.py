"""``pricemaker projector``: carry the effective prices to Redis."""

import signal
from pathlib import Path
from typing import Any

import click

from streams.config import load_settings
from streams.output import Output, bootstrap_option, command_options


@click.command("projector")
@click.option("--once", is_flag=True, help="End when all is in Redis that is published now.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Delete the feed first, and make it from the beginning. Stop other projectors before.",
)
@bootstrap_option
@command_options()
def command(
    output: Output, config_file: Path | None, bootstrap: str | None, once: bool, rebuild: bool
) -> None:
    """Carry the effective prices to Redis, until SIGTERM or Ctrl-C: one hash a product, and a
    stream of changes.

    Only a higher version is accepted. The position is kept in Redis, so a restart goes on from
    there, and after a flush all is made anew from Kafka. While Redis is away prices wait in Kafka;
    while the kill switch is on none is passed on (with --once: exit 5).

    \b
    Example: PRICEMAKER_REDIS__URL=redis://localhost:6379/0 pricemaker projector --once
    """
    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    from streams.edge.projector import Projector
    from streams.edge.projector_metrics import ProjectorMetrics
    from streams.logs import configure_logging
    from streams.metrics.health import Health
    from streams.metrics.registry import new_registry
    from streams.metrics.server import serve_metrics
    from streams.tracing import tracing_of

    configure_logging(settings.worker.log_level)
    registry = new_registry("projector")
    with tracing_of(settings, "projector") as tracing:
        projector = Projector(settings, metrics=ProjectorMetrics(registry), tracing=tracing)

        def end(*_: Any) -> None:
            projector.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        deleted = projector.rebuild() if rebuild else 0
        health = Health(alive={"main": projector.alive}, ready={"prices": projector.ready})
        with serve_metrics(settings, registry, health):
            done = projector.run(once=once)
    output.document(
        {
            "records": done.records,
            "accepted": done.accepted,
            "unreadable": done.unreadable,
            "rebuilds": done.rebuilds,
            "keys_deleted": deleted,
            "positions": [
                {"partition": number, "offset_next": offset}
                for number, offset in done.positions.items()
            ],
        },
        f"{done.records} records read, {done.accepted} prices written to Redis",
    )
