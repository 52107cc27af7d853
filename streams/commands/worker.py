"""``pricemaker worker``: run intake and pricer on Kafka."""

from pathlib import Path
from typing import Any

import click

from schemas.errors import PricemakerError
from streams.config import Settings, load_settings
from streams.output import Output, bootstrap_option, command_options, report, report_bug


@click.command("worker")
@click.option("--id", "worker_id", help="Static name in the consumer group.  [default: worker.id]")
@click.option(
    "--role",
    type=click.Choice(["all", "intake", "pricer"]),
    help="Which agents run here.  [default: worker.role, all]",
)
@bootstrap_option
@command_options()
def command(
    output: Output,
    config_file: Path | None,
    bootstrap: str | None,
    worker_id: str | None,
    role: str | None,
) -> None:
    """Run intake and pricer on Kafka until SIGTERM or Ctrl-C.

    Intake checks the events of the source topics and puts them on the tape; the pricer folds the
    tape and publishes prices. Several workers share the work: each needs its own --id. A worker
    ends at the first surprise (exit 1 a bug, 3 tape, state or source do not fit, 4 the broker is
    away or another worker took over) and loses nothing: start it again.

    \b
    Example: pricemaker worker --bootstrap localhost:9092 --id shop-1
    """
    settings = load_settings(
        config_file,
        {"kafka.bootstrap": bootstrap, "worker.id": worker_id, "worker.role": role},
    )
    # Faust and JAX take seconds to import: not for --help.
    from streams.pricer import publisher_gate
    from streams.worker import Worker, configure_logging, end_process

    def report_and_end(error: BaseException) -> None:
        if isinstance(error, PricemakerError):
            report(error, output.as_json)
        else:
            bug = error if isinstance(error, Exception) else RuntimeError(repr(error))
            report_bug(bug, output.as_json)
        end_process(error)

    configure_logging(settings.worker.log_level)
    worker = Worker(settings, _engines(settings), gate=publisher_gate, on_halt=report_and_end)
    worker.run()
    offsets = worker.progress.offsets()
    output.document(
        {
            "worker": settings.worker.id,
            "role": settings.worker.role,
            "offsets": [
                {"topic": topic, "partition": partition, "offset_done": offset}
                for (topic, partition), offset in sorted(offsets.items())
            ],
        },
        f"worker {settings.worker.id} stopped; everything it had begun is committed",
    )


def _engines(settings: Settings) -> Any:
    if settings.worker.role == "intake":
        return None
    from streams.engines import PricingEngines, warm_kernel

    return PricingEngines(warm_kernel(settings.engine.compilation_cache_dir))
