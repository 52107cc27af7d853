"""Engines as they stand: from Kafka's state topic, a checkpoint, or a tape that is folded first."""

from pathlib import Path
from typing import Any

import orjson

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.errors import InputError
from schemas.topics import STATE
from streams.kafka.kafka_settings import topic_name
from streams.kafka.reader import opened, read_live, require_partitions
from streams.replay.checkpoints import is_checkpoint, read_checkpoint, restored
from streams.replay.replay import Replay
from streams.tape.tape_selection import KAFKA, SourceSpec
from streams.tape.tape_sources import Progress, open_source

BATCH_RECORDS = 1000
READ_DEADLINE_S = 600.0


def load_engines(
    source: str, settings: Any, kernel: Kernel, progress: Progress | None = None
) -> list[PartitionEngine]:
    """The engines of all partitions, by number.

    Parameters
    ----------
    source : a checkpoint, or any SOURCE (``kafka`` is the worker's own state)

    Raises
    ------
    InputError : the file is none of these, or there is no state yet
    ServiceError : file or broker can't be reached
    """
    if source == KAFKA:
        return _from_kafka(settings, kernel)
    path = Path(source)
    if not path.is_dir() and is_checkpoint(path):
        found = read_checkpoint(path)
        return [restored(number, found, kernel, path) for number in range(found.head.partitions)]
    opened_source = open_source(SourceSpec(source=source), settings, progress)
    replay = Replay(kernel, opened_source.partitions, BATCH_RECORDS)
    with opened_source.faults():
        replay.feed(opened_source.records)
    return replay.engines


def _from_kafka(settings: Any, kernel: Kernel) -> list[PartitionEngine]:
    topic = topic_name(settings, STATE.name)
    found = []
    with opened(settings, "engine-states") as consumer:
        for number in range(require_partitions(consumer, topic)):
            records = read_live(consumer, topic, number, READ_DEADLINE_S)
            found.append(
                PartitionEngine.restore(number, records.items(), kernel)
                if records
                else PartitionEngine.new(number, kernel)
            )
    if all(engine.position < 0 for engine in found):
        raise InputError(
            "no_state", "no worker has written its state yet.", where=topic,
            fix="Run: pricemaker worker",
        )  # fmt: skip
    return found


def read_policies(settings: Any) -> list[str]:
    """The policy texts in force on Kafka, one per partition that has any state.

    Raises
    ------
    ServiceError : the broker does not answer, or the topic is missing
    """
    topic = topic_name(settings, STATE.name)
    found = []
    with opened(settings, "engine-states") as consumer:
        for number in range(require_partitions(consumer, topic)):
            record = read_live(consumer, topic, number, READ_DEADLINE_S).get(b"policy")
            if record is not None:
                found.append(str(orjson.loads(record)["policy"]))
    return found
