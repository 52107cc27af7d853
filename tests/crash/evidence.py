"""What a run left behind on the broker and in its logs; the verifier sees nothing else."""

from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[str, int]  # topic without prefix, partition


class Record(NamedTuple):
    """One committed record of a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    appended_ms: int = 0  # by the producer's clock


class Sample(NamedTuple):
    """A look at the broker during the run. ``ends`` was read after ``committed``."""

    committed: dict[Place, int]  # next offset to read, by the consumer group
    ends: dict[Place, int]  # offset after the last committed record


@dataclass
class Evidence:
    """Records by topic (without prefix; per partition in order), samples, logs, secrets."""

    topics: dict[str, list[Record]]
    samples: list[Sample] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    def partition(self, topic: str, partition: int) -> list[Record]:
        """The records of one partition, in order."""
        return [record for record in self.topics[topic] if record.partition == partition]
