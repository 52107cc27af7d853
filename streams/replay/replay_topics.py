"""A replay's outputs on topics of their own, such as for a staging system; never on live ones.

Live are the topics of this installation's own prefix, and those of any prefix at which the broker
has a ``tape`` or ``state`` topic: a pricer writes there. These are refused unless they are asked
for twice, the second time by name.

Records are confirmed batch by batch. A replay that goes on from a checkpoint sends again what it
had sent after it: versions are the same, and consumers take a higher version only.
"""

from collections.abc import Iterable
from typing import Any

from models.fold.context import Output
from schemas.errors import ConfigError
from schemas.topics import ALERTS, DEAD_LETTER, DISCOUNTS, PRICES, PRICES_LATEST, STATE, TAPE
from streams.kafka.admin import create_topics, existing_topics
from streams.kafka.kafka_settings import topic_name
from streams.worker.outbox import IntakeOutbox, Send

OUTPUTS = (PRICES, PRICES_LATEST, DISCOUNTS, ALERTS, DEAD_LETTER)


class ReplayPublisher:
    """Sends outputs to the topics of ``settings``."""

    def __init__(self, settings: Any) -> None:
        self._outbox = IntakeOutbox(settings)

    def send(self, outputs: Iterable[Output]) -> None:
        """Send in order; when this returns all are durable.

        Raises
        ------
        OutboxFailed : the broker refused a record
        """
        self._outbox.send(
            Send(found.topic, found.key, found.value, None, found.headers) for found in outputs
        )

    def close(self) -> None:
        """Let the broker go."""
        self._outbox.close()


def with_prefix(settings: Any, prefix: str) -> Any:
    """The same settings with other topics."""
    topics = settings.topics.model_copy(update={"prefix": prefix})
    return settings.model_copy(update={"topics": topics})


def open_topics(
    settings: Any, prefix: str, partitions: int, *, live: bool, named: str | None
) -> Any:
    """The settings of topics to publish on; they are made where they are missing.

    Parameters
    ----------
    settings : this installation's
    prefix : of the topics to publish on
    partitions : of the tape
    live, named : asked for live topics; and by which prefix

    Raises
    ------
    ConfigError : a pricer writes there, and it was not asked for twice
    ServiceError : the broker does not answer
    """
    chosen = with_prefix(settings, prefix)
    reason = _live_by(settings, chosen)
    if reason is not None and not (live and named == prefix):
        raise ConfigError(
            "live_topics",
            f"{topic_name(chosen, PRICES.name)!r} is live: {reason}.",
            where=settings.kafka.bootstrap,
            field="--publish",
            value=prefix,
            expected="a prefix that no installation uses, such as staging-",
            fix="Choose another prefix. If consumers are to get a replay's prices as if they were "
            f"new, ask twice: --publish-live --live-prefix '{prefix}'.",
        )
    create_topics(chosen, partitions=partitions, topics=OUTPUTS)
    return chosen


def _live_by(settings: Any, chosen: Any) -> str | None:
    """Why the chosen topics are live; None where they are not."""
    if chosen.topics.prefix == settings.topics.prefix:
        return "it is this installation's own prefix"
    existing = existing_topics(settings)
    for written in (TAPE, STATE):
        name = topic_name(chosen, written.name)
        if name in existing:
            return f"the broker has {name!r}, so a pricer writes there"
    return None
