"""The gateway's section of the settings: where it listens, who may ask, and how much."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from streams.settings_sections import Section, matching, refuse

MIB = 1024 * 1024


class TokenSettings(Section):
    """Who may ask, known by the hash of a secret that only they have."""

    name: Annotated[str, matching(r"[A-Za-z0-9._@-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ @ -")]
    role: Literal["read", "operate", "admin"]
    sha256: Annotated[str, matching(r"[0-9a-f]{64}", "the SHA-256 of the token, 64 hex digits")]
    expires_at: AwareDatetime | None = None


class GatewaySettings(Section):
    """The HTTP gateway: who may ask, and how much."""

    host: str = Field(
        default="127.0.0.1",
        description="address to listen on; any other than this machine's own needs tokens",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="port; 0 takes a free one")
    tokens: tuple[TokenSettings, ...] = Field(
        default=(),
        max_length=1000,
        description="who may ask, as `pricemaker gateway token` prints it; without any, everybody "
        "on this machine is admin",
    )
    tls_certificate_file: Path | None = Field(
        default=None, description="certificate chain (PEM) to serve HTTPS with"
    )
    tls_key_file: Path | None = Field(default=None, description="its private key (PEM)")
    requests_per_second: float = Field(
        default=200.0,
        gt=0.0,
        le=1_000_000.0,
        description="requests a second of one token, or of one address without a token, at most",
    )
    requests_burst: int = Field(
        default=400, ge=1, le=1_000_000, description="requests at once, above that rate, at most"
    )
    body_bytes_max: int = Field(
        default=MIB, ge=1024, le=64 * MIB, description="bytes of a request's body, at most"
    )
    streams_max: int = Field(
        default=2_000, ge=1, le=100_000, description="event streams open at a time, at most"
    )
    stream_blocked_s: float = Field(
        default=30.0,
        ge=0.1,
        le=600.0,
        description="seconds a stream's reader may take nothing, after which it is cut off",
    )
    board_records: int = Field(
        default=250_000,
        ge=1_000,
        le=100_000_000,
        description="decisions read back at the start, of the newest, for the desk's histories",
    )
    history_records: int = Field(
        default=2_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="decisions remembered in short for the desk's histories, 51 bytes each",
    )

    @model_validator(mode="after")
    def _relations(self) -> "GatewaySettings":
        for kind in ("name", "sha256"):
            found = [getattr(token, kind) for token in self.tokens]
            if len(set(found)) < len(found):
                raise refuse("tokens", len(found), f"tokens of different {kind}", "Remove one.")
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise refuse(
                "tls_key_file", self.tls_key_file, "given together with tls_certificate_file",
                "Set both, or none.",
            )  # fmt: skip
        return self
