"""Whether Kafka answers: asked now and then by a thread of its own, for what is said of age."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.events import rfc3339, time_ms
from streams.kafka.admin import topic_id
from streams.kafka.kafka_settings import QUIET, client_config
from streams.kafka.reader import ask

log = logging.getLogger(__name__)

ASK_EVERY_S = 2.0
ANSWER_S = 5.0
START_S = 60.0
ID_CHARACTERS = 12


class BrokerWatch:
    """Knows when the broker last answered.

    Parameters
    ----------
    ask : returns when it answers, raises `KafkaException` when it does not
    clock : the time now, UTC

    Attributes
    ----------
    as_of : when it last answered, RFC 3339; None: it has not yet
    away_since : since when it does not, as of its last answer; None: it does
    """

    def __init__(
        self,
        ask: Callable[[], object],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.as_of: str | None = None
        self.away_since: str | None = None
        self._ask = ask
        self._clock = clock
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-watch", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Ask once."""
        try:
            self._ask()
        except KafkaException as error:
            if self.away_since is None:
                log.warning("the broker does not answer: %s", error.args[0].str())
                self.away_since = self.as_of or rfc3339(time_ms(self._clock()))
            return
        if self.away_since is not None:
            log.info("the broker answers again")
        self.as_of = rfc3339(time_ms(self._clock()))
        self.away_since = None

    def _run(self) -> None:
        while True:
            self.look()
            if self._ending.wait(ASK_EVERY_S):
                return


def watch_broker(settings: Any, topic: str) -> BrokerWatch:
    """A watch that asks the broker of the settings who leads a topic (its full name)."""
    admin = AdminClient({**client_config(settings), **QUIET})
    return BrokerWatch(lambda: admin.list_topics(topic, timeout=ANSWER_S))


def topic_identity(settings: Any, topic: str, *, embedded: bool) -> str:
    """What tells a topic from one of the same name that is made anew, for cursors.

    The embedded broker has no topic ids, and its topics live as long as the cluster does.

    Raises
    ------
    ServiceError : the broker does not answer, or has no such topic
    """
    if embedded:
        admin = AdminClient({**client_config(settings), **QUIET})
        found = ask(lambda: admin.list_topics(topic, timeout=ANSWER_S), topic, START_S).cluster_id
    else:
        found = topic_id(settings, topic, START_S)
    return "".join(one for one in found.lower() if one.isalnum())[-ID_CHARACTERS:]
