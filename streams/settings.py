"""What can be set: the sections of the settings, their defaults, bounds and relations.

Where the values come from is ``streams.config``. Settings are frozen; an unknown key is refused;
relations between settings are checked here and nowhere else.
"""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.topics import PARTITIONS_DEFAULT
from streams.settings_edge import (
    MetricsSettings,
    QuoteSettings,
    RedisSettings,
    TracingSettings,
)
from streams.settings_gateway import GatewaySettings
from streams.settings_sections import Section, matching, refuse
from streams.settings_webhooks import WebhookSettings

ENV_PREFIX = "PRICEMAKER_"
MASK = "**********"


HostPorts = Annotated[
    str, matching(r"[^\s:,/]+:\d{1,5}(,[^\s:,/]+:\d{1,5})*", "host:port[,host:port]")
]
WorkerId = Annotated[str, matching(r"[A-Za-z0-9._-]{1,120}", "1 to 120 of A-Z a-z 0-9 . _ -")]
TopicPrefix = Annotated[str, matching(r"[A-Za-z0-9._-]{0,100}", "0 to 100 of A-Z a-z 0-9 . _ -")]


class KafkaSettings(Section):
    """The broker and how to reach it."""

    bootstrap: HostPorts = Field(
        default="localhost:9092",
        description="host:port of one or more brokers, separated by commas",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how to connect; the SASL_ forms need sasl_mechanism"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="how to log in"
    )
    sasl_username: str | None = Field(default=None, min_length=1, description="who logs in")
    sasl_password: SecretStr | None = Field(
        default=None, description="secret; better in the environment than in a file"
    )
    ssl_ca_location: Path | None = Field(
        default=None, description="file of CA certificates (PEM); without it the system's are used"
    )
    session_timeout_s: float = Field(
        default=10.0,
        ge=1.0,
        le=300.0,
        description="seconds without a heartbeat after which the group gives a worker's partitions "
        "to another; take-over after a crash lasts about this long",
    )
    request_timeout_s: float = Field(
        default=90.0, ge=10.0, le=900.0, description="seconds a broker may take to answer"
    )

    @model_validator(mode="after")
    def _relations(self) -> "KafkaSettings":
        if self.session_timeout_s >= self.request_timeout_s:
            raise refuse(
                "session_timeout_s",
                self.session_timeout_s,
                f"less than request_timeout_s ({self.request_timeout_s:g})",
                "Lower session_timeout_s or raise request_timeout_s.",
            )
        login = {
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_username": self.sasl_username,
            "sasl_password": self.sasl_password,
        }
        sasl = self.security_protocol.startswith("SASL_")
        for name, value in login.items():
            if sasl and value is None:
                need = f"given when security_protocol is {self.security_protocol}"
                raise refuse(name, value, need, f"Set {name}, or another security_protocol.")
            if not sasl and value is not None:
                need = f"absent when security_protocol is {self.security_protocol}"
                shown = MASK if isinstance(value, SecretStr) else value
                raise refuse(name, shown, need, "Set security_protocol to SASL_SSL.")
        if self.ssl_ca_location is not None and not self.security_protocol.endswith("SSL"):
            raise refuse(
                "ssl_ca_location",
                self.ssl_ca_location,
                f"absent when security_protocol is {self.security_protocol}",
                "Set security_protocol to SSL or SASL_SSL.",
            )
        return self


class WorkerSettings(Section):
    """One worker process."""

    id: WorkerId = Field(
        default_factory=lambda: (
            "pricemaker-" + re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        ),
        description="static name in the consumer group; workers that share one throw each other "
        "out, so each worker on a machine needs its own",
    )
    role: Literal["all", "intake", "pricer"] = Field(
        default="all", description="which agents run here"
    )
    ticks: Literal["sources", "external"] = Field(
        default="sources",
        description="where clock ticks come from: the sources' event time, or a feeder that writes "
        "them to controls itself",
    )
    partitions: int = Field(
        default=PARTITIONS_DEFAULT,
        ge=1,
        le=1024,
        description="partitions of the tape; can never change",
    )
    chunk_records: int = Field(
        default=500,
        ge=1,
        le=8000,
        description="records of one partition handed to an agent at once, at most",
    )
    batch_records: int = Field(
        default=1000, ge=1, le=100_000, description="tape records in one transaction, at most"
    )
    chunks_in_flight: int = Field(
        default=4,
        ge=1,
        le=64,
        description="chunks per partition fetched and not yet durable, at most",
    )
    drain_pause_ms: int = Field(
        default=2, ge=0, le=1000, description="milliseconds to wait for more records before a batch"
    )
    fetch_wait_ms: int = Field(
        default=100, ge=1, le=5000, description="milliseconds the broker may hold an empty fetch"
    )
    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("pricemaker"),
        description="folder of the worker's own files; nothing in it is needed for recovery",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log line on stderr"
    )

    @model_validator(mode="after")
    def _relations(self) -> "WorkerSettings":
        if self.batch_records < self.chunk_records:
            raise refuse(
                "batch_records",
                self.batch_records,
                f"at least chunk_records ({self.chunk_records}): a full chunk must fit",
                "Raise batch_records or lower chunk_records.",
            )
        return self


class TopicSettings(Section):
    """Names of the topics."""

    prefix: TopicPrefix = Field(
        default="", description="put before every topic name, group and transactional id"
    )


class EngineSettings(Section):
    """The pricing engine. Nothing here can change a price."""

    compilation_cache_dir: Path | None = Field(
        default_factory=lambda: platformdirs.user_cache_path("pricemaker") / "jax",
        description="folder for compiled kernels, so that a restart need not compile again",
    )


class Settings(BaseSettings):
    """All settings. ``streams.config.load_settings`` makes one; its ``repr`` masks secrets.

    Made directly it takes only its arguments and the defaults: neither file nor environment.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    topics: TopicSettings = Field(default_factory=TopicSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    quotes: QuoteSettings = Field(default_factory=QuoteSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
