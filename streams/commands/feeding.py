"""What the commands that feed Kafka share."""

from pathlib import Path
from typing import Any

import click

ahead_option = click.option(
    "--ahead",
    "ahead_max",
    type=click.IntRange(1),
    help="With Kafka: stay at most so many records ahead of the worker, so that the topics of a "
    "history keep in step.  [default: send as fast as it goes]",
)


def make_feeder(config_file: Path | None, bootstrap: str | None, ahead_max: int | None) -> Any:
    """A feeder for the configured broker, paced by the worker's group where that is asked for."""
    from streams.config import load_settings
    from streams.kafka.feeder import Feeder
    from streams.tape.pacing import GroupPace

    settings = load_settings(config_file, {"kafka.bootstrap": bootstrap})
    pace = None if ahead_max is None else GroupPace(settings, ahead_max)
    return Feeder(settings, pace)
