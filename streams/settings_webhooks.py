"""The webhooks' section of the settings: who is told of new prices over HTTP."""

import base64
import binascii
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from streams.settings_sections import Section, matching, refuse

SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
ENDPOINTS_MAX = 32


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        raw = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raw = b""
    if not (text.startswith(SECRET_PREFIX) and SECRET_BYTES_MIN <= len(raw) <= SECRET_BYTES_MAX):
        expected = (
            f"{SECRET_PREFIX} and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
        )
        raise PydanticCustomError("pattern", "must be {expected}", {"expected": expected})
    return value


def _address(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        good = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        expected = "an address that starts with https://"
        raise PydanticCustomError("pattern", "must be {expected}", {"expected": expected})
    return value


SigningSecret = Annotated[SecretStr, AfterValidator(_secret)]
Address = Annotated[SecretStr, AfterValidator(_address)]


class EndpointSettings(Section):
    """One receiver."""

    name: Annotated[str, matching(r"[A-Za-z0-9._-]{1,40}", "1 to 40 of A-Z a-z 0-9 . _ -")]
    url: Address
    secret: SigningSecret
    secret_previous: SigningSecret | None = None
    insecure: bool = False
    skus: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    timeout_s: float = Field(default=10.0, ge=0.05, le=60.0)
    requests_per_second: float = Field(default=10.0, gt=0.0, le=1_000.0)
    prices_max: int = Field(default=50, ge=1, le=1_000)

    @model_validator(mode="after")
    def _relations(self) -> "EndpointSettings":
        parts = urlsplit(self.url.get_secret_value())
        if parts.scheme != "https" and not self.insecure and not is_loopback(parts.hostname or ""):
            raise refuse(
                "url", parts.scheme, "https:// for any machine but this one",
                "Use https://, or set insecure = true where the network is trusted.",
            )  # fmt: skip
        return self


class WebhookSettings(Section):
    """Webhooks: who is told of new prices over HTTP."""

    endpoints: tuple[EndpointSettings, ...] = Field(
        default=(),
        max_length=ENDPOINTS_MAX,
        description="receivers, as `docs/webhooks.md` describes them; secret, they hold keys",
    )
    retry_base_s: float = Field(
        default=1.0, ge=0.01, le=60.0, description="seconds to wait after a first failure"
    )
    retry_max_s: float = Field(
        default=60.0, ge=0.01, le=3600.0, description="seconds to wait after many, at most"
    )
    dead_after_s: float = Field(
        default=3600.0,
        ge=1.0,
        le=7 * 86400.0,
        description="seconds of nothing but failures after which an endpoint counts as dead",
    )
    dead_interval_s: float = Field(
        default=900.0,
        ge=0.1,
        le=86400.0,
        description="seconds between tries of a dead endpoint, about",
    )

    @model_validator(mode="after")
    def _relations(self) -> "WebhookSettings":
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names):
            raise refuse("endpoints", len(names), "endpoints of different names", "Rename one.")
        if self.retry_max_s < self.retry_base_s:
            raise refuse(
                "retry_max_s", self.retry_max_s, f"at least retry_base_s ({self.retry_base_s:g})",
                "Raise retry_max_s.",
            )  # fmt: skip
        return self


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
