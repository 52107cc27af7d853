"""A broker inside the process, to try things out with nothing but Python.

It is librdkafka's mock cluster. Its limits, which the worker is told of (``embedded=True``):

- messages are in memory only, and each partition keeps about 5 MB: a feeder must wait for the
  worker (``WorkerProgress.wait_idle``), or old messages are dropped unread;
- it neither fences producers nor aborts transactions: one worker only, and no recovery;
- topics appear when somebody asks for them, each with 4 partitions and no settings.
"""

from types import TracebackType
from typing import Any

from confluent_kafka import Producer

from schemas.topics import TOPICS

PARTITIONS = 4
ANSWER_S = 10.0


class EmbeddedBroker:
    """Context manager. ``bootstrap`` is the address while it is open.

    >>> with EmbeddedBroker() as broker:
    ...     broker.bootstrap.startswith("127.0.0.1:")
    True
    """

    def __init__(self, *, topic_prefix: str = "") -> None:
        self.topic_prefix = topic_prefix
        self.bootstrap = ""
        self._cluster: Producer | None = None

    def __enter__(self) -> "EmbeddedBroker":
        # The client that owns the cluster: the cluster lives as long as it does. 7 is debug.
        self._cluster = Producer(
            {"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "log_level": 3}
        )
        brokers = self._cluster.list_topics(timeout=ANSWER_S).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        for topic in TOPICS:
            self._cluster.list_topics(f"{self.topic_prefix}{topic.name}", timeout=ANSWER_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cluster = None

    def settings_overrides(self) -> dict[str, Any]:
        """What a worker's settings must be to use this broker, as "section.key" -> value."""
        return {
            "kafka.bootstrap": self.bootstrap,
            "kafka.security_protocol": "PLAINTEXT",
            "topics.prefix": self.topic_prefix,
            "worker.role": "all",
        }
