"""The sections of the settings that serve prices and watch: Redis, webhooks, metrics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from streams.settings_sections import Section


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


class WebhookSettings(Section):
    """Webhooks: who is told of new prices over HTTP."""


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
