"""A live copy of the pricer's state: read whole from the ``state`` topic, then followed.

Each partition moves from one consistent cut to the next: the records of a transaction wait until
its manifest, which comes last. The copy is only read; its lock keeps a cut from being half there.
"""

import threading
from typing import Any

from models.fold.partition import MANIFEST_KEY, PartitionState
from models.fold.replica import take_cut
from models.quotes import standing
from models.quotes.standing import Stamp
from schemas.topics import STATE
from streams.edge.follower import Record, TopicFollower
from streams.kafka import reader
from streams.kafka.kafka_settings import topic_name
from streams.quotes.refusals import require_following

READ_DEADLINE_S = 600.0
NAME = "quotes-state"


class Replica:
    """The states of all partitions, as of their last committed cuts.

    Parameters
    ----------
    settings : the loaded configuration
    fingerprint : of the kernel that reckons with it
    isolation : as for `TopicFollower`

    Attributes
    ----------
    lock : to be held while more than one value is read
    states : by partition; empty until `load`
    """

    def __init__(self, settings: Any, fingerprint: str, isolation: str = "read_committed") -> None:
        self.lock = threading.Lock()
        self.states: dict[int, PartitionState] = {}
        self._settings = settings
        self._fingerprint = fingerprint
        self._isolation = isolation
        self._waiting: dict[int, list[tuple[bytes, bytes | None]]] = {}
        self._follower: TopicFollower | None = None
        self._closed = False

    def load(self) -> "Replica":
        """Read what is there, and follow from there on. Blocking.

        Raises
        ------
        ServiceError : the broker does not answer, or the topic is missing
        EngineError : the records are no consistent state
        """
        topic = topic_name(self._settings, STATE.name)
        starts: dict[int, int] = {}
        with reader.opened(self._settings, NAME) as consumer:
            for number in range(reader.require_partitions(consumer, topic)):
                starts[number] = reader.log_range(consumer, topic, number)[1]
                records = reader.read_live(consumer, topic, number, READ_DEADLINE_S)
                self.states[number] = PartitionState.restore(
                    number, records.items(), self._fingerprint
                )
        if self._closed:  # while it was being read
            return self
        self._follower = TopicFollower(
            self._settings, STATE, NAME, self.take, starts=starts, isolation=self._isolation
        ).start()  # fmt: skip
        return self

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        if self._follower is not None:
            self._follower.close()

    def take(self, records: list[Record]) -> None:
        """Take records of the state topic; those behind a partition's last manifest wait."""
        cuts: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for record in records:
            waiting = self._waiting.setdefault(record.partition, [])
            waiting.append((record.key or b"", record.value))
            if record.key == MANIFEST_KEY:
                cuts.setdefault(record.partition, []).extend(waiting)
                waiting.clear()
        for number, cut in cuts.items():
            with self.lock:
                take_cut(self.states[number], cut)

    def check(self) -> None:
        """That the copy still moves with the pricer.

        Raises
        ------
        ServiceError : it was not loaded yet, or following it ended
        """
        require_following(self._follower, "the pricer's state")

    @property
    def broker_away(self) -> bool:
        """Whether no broker answers, so that the copy stands still."""
        return self._follower is not None and self._follower.broker_away

    def state_of(self, sku: str) -> PartitionState | None:
        """The state that knows a product."""
        for state in self.states.values():
            if sku in state.catalogue:
                return state
        return None

    def stamp_of(self, sku: str) -> tuple[Stamp, int] | None:
        """A product's stamp and the tape's clock (ms); without the lock, for a glance."""
        state = self.state_of(sku)
        stamp = None if state is None else standing.stamp_of(state, sku)
        if state is None or stamp is None:
            return None
        return stamp, standing.now_ms(state, state.skus[sku])
