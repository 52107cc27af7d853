"""The Faust application of a worker: options, agents, and where each partition is read on."""

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import mode
from faust import SASLCredentials, SSLCredentials
from faust.types import TP
from faust.types.auth import AuthProtocol
from faust.types.enums import ProcessingGuarantee
from yarl import URL

from schemas.topics import CONTROLS, TAPE
from streams.kafka import kafka_settings
from streams.kafka.kafka_settings import topic_name
from streams.worker import intake as intake_agents
from streams.worker import pricer as pricer_agent
from streams.worker import recovery
from streams.worker.intake import Intake
from streams.worker.monitor import Monitor
from streams.worker.pricer import Pricer
from streams.worker.transport import App, LogRange
from streams.worker.worker_progress import WorkerProgress

INTAKE_BATCH_RECORDS = 8_000  # what one fetch may bring: the transport bounds it further
POLL_RECORDS_MAX = 8_000
BUFFERED_CHUNKS_MAX = 1_024
COMMIT_INTERVAL_S = 0.5
HEARTBEAT_S = 1.0
# Faust gives a take-over up without a word at its own limit; ours must come first and end the
# worker with a reason.
TAKE_OVER_SHARE = 0.8


def take_over_deadline_s(settings: Any) -> float:
    """How long taking partitions over may last."""
    return float(settings.kafka.request_timeout_s * TAKE_OVER_SHARE)


def build_app(
    settings: Any,
    *,
    intake: Intake | None,
    pricer: Pricer | None,
    monitor: Monitor | None,
    progress: WorkerProgress,
    halt: Callable[[BaseException], None],
) -> App:
    """Put a worker's app together; the agents are those of the parts given.

    The monitor works where ``controls`` is read, so that there is one.
    """
    prefix = settings.topics.prefix
    tape_topic = topic_name(settings, TAPE.name)
    controls = TP(topic_name(settings, CONTROLS.name), 0)

    async def start_offsets(
        ranges: Mapping[TP, LogRange], still_ours: Callable[[], bool]
    ) -> Mapping[TP, int]:
        if monitor is not None:
            monitor.own(controls in ranges)
        tape = [tp.partition for tp in ranges if tp.topic == tape_topic]
        sources = {tp: found for tp, found in ranges.items() if tp.topic != tape_topic}
        starts = recovery.source_starts(sources)
        if tape and pricer is not None:
            positions = await pricer.take_over(tape, app.consumer_generation_id, still_ours)
            for partition, offset in positions.items():
                starts[TP(tape_topic, partition)] = offset
        return starts

    app = App(
        kafka_settings.group_id(settings),
        halt=halt,
        start_offsets=start_offsets,
        progress=progress,
        worker=settings.worker,
        take_over_deadline_s=take_over_deadline_s(settings),
        **_options(settings),
    )
    if intake is not None:
        intake_agents.add_agents(app, intake, prefix=prefix, batch_records=INTAKE_BATCH_RECORDS)
    if pricer is not None:
        pricer_agent.add_agent(
            app, pricer, topic=tape_topic, batch_records=settings.worker.batch_records
        )
    return app


def _options(settings: Any) -> dict[str, Any]:
    session_s = settings.kafka.session_timeout_s
    options: dict[str, Any] = {
        "broker": brokers(settings),
        "broker_client_id": f"{kafka_settings.GROUP}-{settings.worker.id}",
        # A static member keeps its partitions over a quick restart.
        "consumer_group_instance_id": settings.worker.id,
        "processing_guarantee": ProcessingGuarantee.AT_LEAST_ONCE,  # ours is in the outbox
        "broker_commit_interval": COMMIT_INTERVAL_S,
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": min(HEARTBEAT_S, session_s / 3),
        "broker_request_timeout": settings.kafka.request_timeout_s,
        "broker_max_poll_records": POLL_RECORDS_MAX,
        "consumer_auto_offset_reset": "earliest",  # never used: every offset is explicit
        "stream_wait_empty": True,
        "stream_buffer_maxsize": BUFFERED_CHUNKS_MAX,
        "agent_supervisor": mode.CrashingSupervisor,
        "topic_allow_declare": False,  # topics are made by `pricemaker topics create`
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "web_enabled": False,  # it would listen on all addresses, without a password
        "worker_redirect_stdouts": False,
        "autodiscover": False,
    }
    credentials = credentials_of(settings)
    if credentials is not None:
        options["broker_credentials"] = credentials
    return options


def brokers(settings: Any) -> list[URL]:
    """The bootstrap servers as Faust wants them."""
    servers = [server.strip() for server in settings.kafka.bootstrap.split(",")]
    return [URL(f"kafka://{server}") for server in servers if server]


def credentials_of(settings: Any) -> SASLCredentials | SSLCredentials | None:
    """Security of Faust's consumer; Faust's own default for SASL would be without TLS."""
    kafka = settings.kafka
    protocol = kafka.security_protocol
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location or None)
    if protocol == "SSL":
        return SSLCredentials(context=context)
    if not protocol.startswith("SASL"):
        return None
    credentials = SASLCredentials(
        username=kafka.sasl_username,
        password=kafka_settings.secret(kafka.sasl_password),
        ssl_context=context,
        mechanism=kafka.sasl_mechanism,
    )
    credentials.protocol = AuthProtocol(protocol)
    return credentials
