"""The sections of the settings that serve prices and watch: Redis, webhooks, metrics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from streams.settings_sections import Section, refuse


def _redis_address(value: SecretStr) -> SecretStr:
    schemes = ("redis://", "rediss://", "unix://")
    if not value.get_secret_value().startswith(schemes):
        expected = "an address that starts with redis://, rediss:// or unix://"
        raise PydanticCustomError("pattern", "must be {expected}", {"expected": expected})
    return value


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_address)]


class RedisSettings(Section):
    """Redis, a cache and a feed; everything else works without it."""

    url: RedisUrl | None = Field(
        default=None,
        description="redis://, rediss:// or unix:// address; secret, it may hold a password",
    )
    prefix: str = Field(default="pricemaker:", description="put before every key")
    username: str | None = Field(
        default=None, min_length=1, description="ACL user, unless the address names one"
    )
    password: SecretStr | None = Field(
        default=None, description="secret; better in the environment than in a file"
    )
    ssl_ca_file: Path | None = Field(
        default=None, description="CA certificates (PEM) for rediss://; without it the system's"
    )
    timeout_s: float = Field(
        default=2.0, ge=0.05, le=60.0, description="seconds to connect, and to wait for an answer"
    )
    changes_max: int = Field(
        default=100_000,
        ge=1_000,
        le=100_000_000,
        description="about how many changes the stream price-changes keeps",
    )

    @model_validator(mode="after")
    def _relations(self) -> "RedisSettings":
        tls = self.url is not None and self.url.get_secret_value().startswith("rediss://")
        if self.ssl_ca_file is not None and not tls:
            raise refuse(
                "ssl_ca_file",
                self.ssl_ca_file,
                "absent unless redis.url starts with rediss://",
                "Use a rediss:// address.",
            )
        return self


class QuoteSettings(Section):
    """Tiered quotes."""

    model_file: Path | None = Field(
        default=None, description="the light model that train quotes wrote; without it L3 answers"
    )


class MetricsSettings(Section):
    """The Prometheus endpoint of each process."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int | None = Field(
        default=None, ge=0, le=65535, description="port; 0 takes a free one, none listens nowhere"
    )


class TracingSettings(Section):
    """OpenTelemetry traces from event to price."""

    exporter: Literal["none", "otlp"] = Field(
        default="none", description="otlp sends spans as the OTEL_EXPORTER_OTLP_* variables say"
    )
