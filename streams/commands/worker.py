"""``pricemaker worker``: run intake and pricer on Kafka."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
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
    engines = None if settings.worker.role == "intake" else EnginesToCome(settings)
    # Faust and JAX take seconds to import: not for --help.
    from streams.logs import configure_logging
    from streams.metrics.health import Health
    from streams.metrics.registry import new_registry
    from streams.metrics.server import serve_metrics
    from streams.metrics.worker import WorkerMetrics
    from streams.tracing import tracing_of
    from streams.worker.liveness import Liveness
    from streams.worker.pricer import publisher_gate
    from streams.worker.worker import Worker, end_process

    def report_and_end(error: BaseException) -> None:
        if isinstance(error, PricemakerError):
            report(error, output.as_json)
        else:
            bug = error if isinstance(error, Exception) else RuntimeError(repr(error))
            report_bug(bug, output.as_json)
        end_process(error)

    configure_logging(settings.worker.log_level)
    registry = new_registry("worker")
    with tracing_of(settings, "worker") as tracing:
        worker = Worker(
            settings, engines, gate=publisher_gate, on_halt=report_and_end,
            metrics=WorkerMetrics(registry), tracing=tracing,
        )  # fmt: skip
        health = Health(
            alive={"progress": Liveness(worker.progress, worker.progress.waiting)},
            ready={"worker": worker.not_ready},
        )
        with serve_metrics(settings, registry, health):
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


class EnginesToCome:
    """Engines whose kernels are made while the worker joins its group: a restart is sooner back.

    The first partition that is taken over waits for them, and for what may go wrong with them.
    """

    def __init__(self, settings: Settings) -> None:
        pool = ThreadPoolExecutor(1, "kernels")
        self._made = pool.submit(_engines, settings)
        pool.shutdown(wait=False)

    def new(self, partition: int) -> Any:
        """An engine before the first record."""
        return self._made.result().new(partition)

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> Any:
        """An engine as its state records say."""
        return self._made.result().restore(partition, records)


def _engines(settings: Settings) -> Any:
    from streams.worker.engines import PricingEngines, warm_kernel

    return PricingEngines(warm_kernel(settings.engine.compilation_cache_dir))
