"""The kill switch at the outbox: it does not wait behind a backlog.

The fold acts on the switch where the tape has it, so bytes and state stay a function of the tape.
Until the tape has brought it to a partition, the pricer itself follows ``controls`` and holds back
what makes a price effective: records of ``prices-latest`` and offered discounts. Everything else of
the batch is committed as always, so the backlog is worked off meanwhile. From its place on the tape
on the fold holds all prices, and when the switch goes off every product is decided anew, so that
what was held back is replaced. ``docs/breaker.md`` has the cases.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import tape
from schemas.errors import PricemakerError
from schemas.topics import CONTROLS, DISCOUNTS, PRICES_LATEST
from streams.controls.switch_events import ON, read_command
from streams.kafka import reader
from streams.kafka.kafka_settings import reader_config, topic_name
from streams.worker.outbox import BatchRecords, OutputRecord

log = logging.getLogger(__name__)

POLL_S = 0.05
READ_DEADLINE_S = 60.0
Records = Sequence[tuple[int, bytes]]


class Part(NamedTuple):
    """Tape records to fold as one batch, and whether its effective prices are held back."""

    records: Records
    held_back: bool


class WithheldBatch(NamedTuple):
    """A batch without what makes a price effective."""

    outputs: Sequence[OutputRecord]
    state: Sequence[tuple[bytes, bytes | None]]
    position: int


class KillSwitch:
    """Follows ``controls`` in a thread of its own.

    Parameters
    ----------
    on_error : called, from that thread, with what ended it: nobody may publish unwatched
    """

    def __init__(self, settings: Any, on_error: Callable[[BaseException], None]) -> None:
        self._settings = settings
        self._topic = topic_name(settings, CONTROLS.name)
        self._on_error = on_error
        self._seen: list[int] = []  # offsets of switches thrown on; list.append is atomic
        self._from: int | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # -- what the pricer asks

    def pending(self, controls_read: int) -> int | None:
        """The last switch that was thrown on and that the tape has not brought yet; its offset.

        Parameters
        ----------
        controls_read : highest offset of ``controls`` that the partition's fold has seen
        """
        found = max(self._seen, default=-1)
        return found if found > controls_read else None

    def parts(self, records: Records, controls_read: int) -> list[Part]:
        """Cut a batch where the tape brings a switch that is pending."""
        pending = self.pending(controls_read)
        if pending is None:
            return [Part(records, False)]
        for index, (_, value) in enumerate(records):
            if _controls_offset(value) >= pending:
                found = [Part(records[:index], True), Part(records[index:], False)]
                return [part for part in found if part.records]
        return [Part(records, True)]

    # -- following

    def follow(self, controls_read: int) -> None:
        """Know every switch behind this offset, and every later one as it comes. Blocking.

        Raises
        ------
        ServiceError : the broker does not answer
        """
        with self._lock:
            start = controls_read + 1
            if self._from is not None and start >= self._from:
                return
            with reader.opened(self._settings, "kill-switch") as consumer:
                begin, end = reader.log_range(consumer, self._topic, 0)
                until = end if self._from is None else self._from
                place = (consumer, self._topic, 0, max(begin, start), until, READ_DEADLINE_S)
                for message in reader.read_range(*place):
                    self._look(message)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, args=(end,), name="kill-switch", daemon=True
                )
                self._thread.start()
            self._from = start

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, offset: int) -> None:
        consumer = Consumer(reader_config(self._settings, "kill-switch"))
        try:
            consumer.assign([TopicPartition(self._topic, 0, offset)])
            while not self._ending.is_set():
                for message in consumer.consume(reader.CONSUME_RECORDS_MAX, POLL_S):
                    error = message.error()
                    if error is None:
                        self._look(message)
                    elif error.code() not in (KafkaError._PARTITION_EOF, *reader.PASSING):
                        raise reader.unreachable(KafkaException(error), self._topic)
        except (KafkaException, PricemakerError) as error:
            self._on_error(error)
        finally:
            consumer.close()

    def _look(self, message: Any) -> None:
        if message.offset() in self._seen:
            return
        event = read_command(message.value(), message.headers() or ())
        if event is not None and event.command == ON:
            log.warning("kill switch thrown on by %s: %s", event.actor, event.reason)
            self._seen.append(message.offset())


def withheld(batch: BatchRecords, partition: int) -> WithheldBatch:
    """The batch without effective prices and offered discounts, and a word about how many."""
    kept = [output for output in batch.outputs if not _is_effective(output)]
    count = len(batch.outputs) - len(kept)
    if count:
        log.warning("kill switch: tape[%d] holds back %d effective prices", partition, count)
    return WithheldBatch(kept, batch.state, batch.position)


def _is_effective(output: OutputRecord) -> bool:
    if output.topic == DISCOUNTS.name:
        return bool(orjson.loads(output.value)["status"] == "offered")
    return output.topic == PRICES_LATEST.name


def _controls_offset(value: bytes) -> int:
    """The offset on ``controls`` that a tape record came from; -1 of another source."""
    if b'"topic":"%b"' % CONTROLS.name.encode() not in value:
        return -1
    source = tape.decode(value).source
    return source.offset if source.topic == CONTROLS.name else -1
