"""What a worker writes, and the two ways it becomes durable.

``TransactionalOutbox`` writes a pricer's batch in one Kafka transaction; ``IntakeOutbox`` sends
records and returns when every single one is confirmed. Both raise at the first doubt, and the
worker ends: an outbox that goes on after a failed send would lose or double what follows.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.errors import PricemakerError, ServiceError
from schemas.topics import STATE
from streams.kafka import kafka_settings
from streams.kafka.kafka_settings import topic_name

FLUSH_STEP_S = 1.0
QUEUE_FULL_WAIT_S = 0.1
INIT_DEADLINE_S = 60.0


class OutputRecord(Protocol):
    """One record to produce, in tape order; the topic without prefix."""

    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class BatchRecords(Protocol):
    """What one engine batch writes: outputs, then changed state records, the manifest last."""

    @property
    def outputs(self) -> Sequence[OutputRecord]: ...
    @property
    def state(self) -> Sequence[tuple[bytes, bytes | None]]: ...
    @property
    def position(self) -> int: ...


Gate = Callable[[Any], None]


class GateBreach(PricemakerError):
    """An output broke a limit in the last check before it leaves; the worker ends (exit 1)."""


class OutboxFailed(ServiceError):
    """A send or commit failed: the broker is away for too long or refuses it (exit 4)."""


class Fenced(ServiceError):
    """Another worker has taken the tape partition over (exit 4); this one knows nothing newer."""


class Send(NamedTuple):
    """A record for ``IntakeOutbox``. ``topic`` without prefix; ``partition`` None: by the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp_ms: int | None = None


def let_pass(output: OutputRecord) -> None:
    """The gate of outputs that carry no price."""


class TransactionalOutbox:
    """The outbox of one tape partition. Blocking: call it outside the event loop.

    ``docs/delivery.md`` has the steps of ``commit`` and what happens when each fails.
    """

    def __init__(self, settings: Any, tape_partition: int, *, gate: Gate = let_pass) -> None:
        self.partition = tape_partition
        self.gate = gate
        self._state_topic = topic_name(settings, STATE.name)
        self._settings = settings
        self._names: dict[str, str] = {}
        self._where = f"tape[{tape_partition}]"
        self._producer = Producer(kafka_settings.pricer_producer_config(settings, tape_partition))

    def take_over(self) -> None:
        """Fence the partition's last owner; its open transaction is aborted by the broker.

        Raises
        ------
        OutboxFailed : the broker does not answer within ``INIT_DEADLINE_S``
        """
        self._until_deadline(self._producer.init_transactions, INIT_DEADLINE_S)

    def commit(self, batch: BatchRecords) -> None:
        """Write one batch in one transaction; when this returns it is durable.

        1 check outputs at the gate; 2 begin; 3 produce outputs, state and, last, the manifest;
        4 commit.

        Raises
        ------
        GateBreach : step 1, nothing of the batch was sent
        Fenced : another worker owns the partition now
        OutboxFailed : it is not known to be durable; the next owner finds out from the manifest
        """
        for output in batch.outputs:
            self.gate(output)
        try:
            self._producer.begin_transaction()
            for output in batch.outputs:
                self._produce(
                    topic=self._name(output.topic),
                    key=output.key,
                    value=output.value,
                    headers=list(output.headers),
                )
            for key, value in batch.state:
                self._produce(
                    topic=self._state_topic, partition=self.partition, key=key, value=value
                )
        except KafkaException as error:
            raise self._failure(error) from error
        self._until_deadline(self._producer.commit_transaction, kafka_settings.COMMIT_DEADLINE_S)

    def close(self) -> None:
        """Let the broker go; nothing may be under way."""
        self._producer.close()

    def _name(self, topic: str) -> str:
        if topic not in self._names:
            self._names[topic] = topic_name(self._settings, topic)
        return self._names[topic]

    def _produce(self, **record: Any) -> None:
        deadline = time.monotonic() + kafka_settings.COMMIT_DEADLINE_S
        while True:
            try:
                self._producer.produce(**record)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise OutboxFailed(
                        "queue_full",
                        f"the producer's queue stayed full for "
                        f"{kafka_settings.COMMIT_DEADLINE_S:.0f} s.",
                        where=self._where,
                    ) from None
                self._producer.poll(QUEUE_FULL_WAIT_S)

    def _until_deadline(self, call: Callable[[float], Any], deadline_s: float) -> None:
        """Repeat a retriable call (the broker restarts, or an old transaction still ends)."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                call(max(deadline - time.monotonic(), 0.1))
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise self._failure(error) from error

    def _failure(self, error: KafkaException) -> PricemakerError:
        reason: KafkaError = error.args[0]
        fenced = (
            KafkaError._FENCED,
            KafkaError.PRODUCER_FENCED,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.INVALID_PRODUCER_ID_MAPPING,
        )
        if reason.code() in fenced or (reason.fatal() and "fenced" in reason.str().lower()):
            return Fenced(
                "fenced",
                "another worker took this partition over; this worker's batch is discarded.",
                where=self._where,
                fix="Nothing to mend: restart the worker, and it joins again.",
            )
        return OutboxFailed(
            "transaction_failed",
            f"the transaction failed: {reason.str()} ({reason.name()}).",
            where=self._where,
            fix="Check the broker and restart the worker; it resumes at the last commit.",
        )


class IntakeOutbox:
    """The outbox of intake: idempotent, every record confirmed before the source is acked.

    Blocking: call it outside the event loop. Safe to call from several threads.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self._names: dict[str, str] = {}
        self._fatal: list[KafkaError] = []
        config = kafka_settings.intake_producer_config(settings)
        self._producer = Producer({**config, "error_cb": self._on_error})

    def send(self, records: Iterable[Send]) -> None:
        """Send records, in order per partition; when this returns all are durable.

        While the broker is away it waits: the source partitions wait with it.

        Raises
        ------
        OutboxFailed : the broker refused a record; none may be acked
        """
        reports: list[KafkaError | None] = []  # list.append is atomic: any thread may report

        def report(error: KafkaError | None, _: Any) -> None:
            reports.append(error)

        sent = 0
        try:
            for record in records:
                self._produce(record, report)
                sent += 1
        except KafkaException as error:
            reports.append(error.args[0])
        while len(reports) < sent and not self._fatal:
            self._producer.flush(FLUSH_STEP_S)
        failed = next((error for error in [*reports, *self._fatal] if error is not None), None)
        if failed is not None:
            raise OutboxFailed(
                "delivery_failed",
                f"the broker refused a record: {failed.str()} ({failed.name()}).",
                fix="Check the topic's limits and the broker, then restart the worker.",
            )

    def close(self) -> None:
        """Let the broker go; nothing may be under way."""
        self._producer.close()

    def _produce(self, record: Send, report: Callable[[KafkaError | None, Any], None]) -> None:
        if record.topic not in self._names:
            self._names[record.topic] = topic_name(self._settings, record.topic)
        options: dict[str, Any] = {}
        if record.partition is not None:
            options["partition"] = record.partition
        if record.timestamp_ms is not None and record.timestamp_ms >= 0:
            options["timestamp"] = record.timestamp_ms
        while True:
            try:
                self._producer.produce(
                    self._names[record.topic],
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    on_delivery=report,
                    **options,
                )
                return
            except BufferError:  # waits like an unreachable broker: the queue drains or stays full
                self._producer.poll(QUEUE_FULL_WAIT_S)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal.append(error)
