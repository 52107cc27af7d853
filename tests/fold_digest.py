"""Folds a tape file and prints what came of it: ``python -m tests.fold_digest TAPE PARTITIONS``.

A program of its own, so that another build of the engine than the one under test can be asked.
"""

import hashlib
import sys
from pathlib import Path

import msgspec

from models.fold import engine
from models.fold.context import Output
from schemas.codec import canonical
from streams.config import load_settings
from streams.replay.replay import Replay
from streams.replay.replay_summary import PartitionResult, partition_result
from streams.tape.tape_files import tape_lines
from streams.tape.tape_selection import Selection
from streams.worker.engines import warm_kernel

BATCH_RECORDS = 500


class Digest(msgspec.Struct, frozen=True):
    """``outputs`` is a hash of every topic, key, value and header; ``file`` that of the engine."""

    file: str
    outputs: list[str]
    partitions: list[PartitionResult]


def digest(path: Path, partitions: int) -> Digest:
    """Fold a tape file from its beginning."""
    hashes = [hashlib.sha256() for _ in range(partitions)]

    def sink(partition: int, outputs: list[Output]) -> None:
        for output in outputs:
            hashes[partition].update(repr(output).encode())

    kernel = warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)
    replay = Replay(kernel, partitions, BATCH_RECORDS, sink)
    replay.feed(tape_lines(path, Selection(), None))
    return Digest(
        str(engine.__file__),
        [found.hexdigest() for found in hashes],
        [partition_result(one) for one in replay.engines],
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(canonical(digest(Path(sys.argv[1]), int(sys.argv[2]))))
