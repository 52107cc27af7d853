"""Whether a worker lives: it moves, or there is nothing to do."""

import time
from collections.abc import Callable, Mapping

from schemas.errors import ServiceError
from streams.kafka.kafka_settings import COMMIT_DEADLINE_S
from streams.worker.worker_progress import Partition, WorkerProgress

# A batch may wait for its commit this long and is then given up, which ends the worker by itself.
STALL_S = 120.0
assert STALL_S > COMMIT_DEADLINE_S


class Liveness:
    """Offsets of the assigned partitions that stand still although records wait.

    The broker is asked only when a partition has not moved for `STALL_S`; one that is away is no
    reason to restart a worker, which waits for it.

    Parameters
    ----------
    waiting : places and offsets -> those behind which a record stands; raises ServiceError
    now_s : a clock that only goes forward
    """

    def __init__(
        self,
        progress: WorkerProgress,
        waiting: Callable[[Mapping[Partition, int]], set[Partition]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._waiting = waiting
        self._now_s = now_s
        self._moved: dict[Partition, tuple[int, float]] = {}  # offset, since when

    def __call__(self) -> str | None:
        """What stands still, in words; None when all is well."""
        now_s = self._now_s()
        offsets = self._progress.assigned()
        if offsets is None:
            self._moved = {}  # a rebalance is under way
            return None
        self._moved = {
            place: known
            if (known := self._moved.get(place)) is not None and known[0] == offset
            else (offset, now_s)
            for place, offset in offsets.items()
        }
        still = {
            place: offset
            for place, (offset, since_s) in self._moved.items()
            if now_s - since_s > STALL_S
        }
        try:
            stuck = self._waiting(still) if still else set()
        except ServiceError:
            return None
        if not stuck:
            return None
        return "; ".join(
            f"{topic}[{number}] stands still at {still[topic, number]}, and records wait"
            for topic, number in sorted(stuck)
        )
