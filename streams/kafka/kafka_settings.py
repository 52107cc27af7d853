"""Kafka clients' settings in one place: bootstrap, security, time limits, names.

Two client libraries share them: confluent-kafka (outboxes, readers, admin) and, through Faust,
aiokafka (the group's consumer). ``settings`` is the loaded configuration, see ``streams.config``.
"""

import os
from typing import Any

from schemas.topics import DEAD_LETTER_BYTES_MAX

GROUP = "pricemaker"
RECORD_OVERHEAD_BYTES = 64 * 1024  # headers that say why, and the record's frame
TRANSACTION_TIMEOUT_MS = 60_000
# Long enough for a broker to restart under the commit, and below the transaction's own limit.
COMMIT_DEADLINE_S = 60.0
DELIVERY_RETRY_MS = 100
# Partitioner of Java clients and Faust: a key lands where other programs put it.
PARTITIONER = "murmur2_random"
# For clients whose errors are raised or logged by whoever uses them: librdkafka would say the same
# on stderr, and during an outage several times a second.
QUIET = {"log_level": 0}


def topic_name(settings: Any, name: str) -> str:
    """The topic's name on the broker: ``settings.topics.prefix`` before ours."""
    return f"{settings.topics.prefix}{name}"


def group_id(settings: Any) -> str:
    """The consumer group: one for all, or one per role."""
    role = settings.worker.role
    name = GROUP if role == "all" else f"{GROUP}-{role}"
    return f"{settings.topics.prefix}{name}"


def edge_group_id(settings: Any, part: str) -> str:
    """The group in which a part of the edge commits how far it has passed prices on."""
    return f"{settings.topics.prefix}{GROUP}-{part}"


def transactional_id(settings: Any, tape_partition: int) -> str:
    """One per tape partition: whoever takes the partition over fences its last owner by it."""
    return f"{settings.topics.prefix}{GROUP}-tape-{tape_partition}"


def client_config(settings: Any) -> dict[str, Any]:
    """What every confluent-kafka client needs to reach the broker."""
    kafka = settings.kafka
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap,
        "client.id": f"{GROUP}-{settings.worker.id}",
        "security.protocol": kafka.security_protocol.lower(),
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
    }
    if kafka.ssl_ca_location:
        config["ssl.ca.location"] = os.fspath(kafka.ssl_ca_location)
    if kafka.security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = kafka.sasl_mechanism
        config["sasl.username"] = kafka.sasl_username
        config["sasl.password"] = secret(kafka.sasl_password)
    return config


def producer_config(settings: Any) -> dict[str, Any]:
    """Every producer: idempotent, acknowledged by all replicas, Java's partitioner."""
    return {
        **client_config(settings),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": PARTITIONER,
        "linger.ms": 5,  # fills requests while a batch is handed over; a flush ignores it
        "compression.type": "lz4",
        "retry.backoff.ms": DELIVERY_RETRY_MS,
        "message.max.bytes": DEAD_LETTER_BYTES_MAX + RECORD_OVERHEAD_BYTES,
    }


def intake_producer_config(settings: Any) -> dict[str, Any]:
    """Intake's producer: a record never expires.

    An expired record followed by a delivered one of the same source partition would be a loss:
    the fold takes everything at or below the highest source offset it has seen for applied.
    """
    return {**producer_config(settings), "message.timeout.ms": 0}


def pricer_producer_config(settings: Any, tape_partition: int) -> dict[str, Any]:
    """The transactional producer of one tape partition."""
    return {
        **producer_config(settings),
        "transactional.id": transactional_id(settings, tape_partition),
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
    }


def reader_config(settings: Any, name: str) -> dict[str, Any]:
    """A consumer that is assigned partitions and offsets by hand and never commits."""
    return {
        **client_config(settings),
        **QUIET,
        "group.id": f"{settings.topics.prefix}{GROUP}-reader-{name}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,
        "fetch.message.max.bytes": DEAD_LETTER_BYTES_MAX,
    }


def secret(value: Any) -> str:
    """A secret's text, for a client's configuration and nothing else."""
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value
