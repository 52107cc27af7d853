"""Who asks: tokens, roles, and the cookie that a browser has instead of a token.

Without any token everybody who reaches the gateway is the admin ``local``; it then listens on this
machine alone (`check_binding`). A token is random and long, so its SHA-256 is what settings hold,
and one pass of a fast hash is enough.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal, NamedTuple

from fastapi import Request

from schemas.errors import ConfigError
from streams.gateway.refusals import Refusal
from streams.settings_gateway import GatewaySettings, TokenSettings

ROLES = ("read", "operate", "admin")  # each may do what those before it may
COOKIE = "pricemaker_session"
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 512
NEW_TOKEN = "pricemaker gateway token --name NAME --role operate"

How = Literal["local", "bearer", "cookie"]


class Caller(NamedTuple):
    """Who asks, what they may do, and how they showed it."""

    actor: str
    role: str
    how: How
    expires_at: datetime | None = None


LOCAL = Caller("local", "admin", "local")


class Doorkeeper:
    """Knows who a request comes from.

    Parameters
    ----------
    tokens : who may ask; without any everybody is `LOCAL`
    clock : the time now, UTC
    """

    def __init__(
        self,
        tokens: tuple[TokenSettings, ...],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tokens = tokens
        self._clock = clock

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        return not self._tokens

    def caller(self, headers: dict[bytes, bytes]) -> Caller:
        """Who sent these headers (names in lower case).

        Raises
        ------
        Refusal : 401, no token, an unknown one, or one whose time is over
        """
        if not self._tokens:
            return LOCAL
        given = headers.get(b"authorization")
        if given is not None:
            scheme, _, token = given.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return self.of(token.strip(), "bearer")
        cookie = _cookie(headers.get(b"cookie"))
        if cookie is None:
            raise _unauthorized("token_missing", "this needs a token.", "Authorization: Bearer ...")
        return self.of(cookie, "cookie")

    def of(self, token: str, how: How) -> Caller:
        """Who has this token.

        Raises
        ------
        Refusal : 401
        """
        presented = hashlib.sha256(token[:TOKEN_CHARACTERS_MAX].encode()).hexdigest()
        known: TokenSettings | None = None
        for one in self._tokens:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(one.sha256, presented):
                known = one
        if known is None:
            raise _unauthorized("token_unknown", "this token is not known.", "one that is in force")
        if known.expires_at is not None and known.expires_at <= self._clock():
            raise _unauthorized(
                "token_expired",
                f"the token of {known.name} ended at {known.expires_at.isoformat()}.",
                "one that is in force",
            )
        return Caller(known.name, known.role, how, known.expires_at)


def _unauthorized(code: str, message: str, expected: str) -> Refusal:
    return Refusal(
        401, code, message, field="Authorization", expected=expected,
        headers={"WWW-Authenticate": "Bearer"},
        fix=f"An operator makes one: {NEW_TOKEN}",
    )  # fmt: skip


def _cookie(header: bytes | None) -> str | None:
    if header is None:
        return None
    try:
        found = SimpleCookie(header.decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def caller_of(request: Request) -> Caller:
    """Who sent a request, as the door let them in."""
    found: Caller = request.state.caller
    return found


def needs(role: str) -> Callable[[Request], Caller]:
    """A dependency: the caller, who must have at least this role."""

    def caller(request: Request) -> Caller:
        found = caller_of(request)
        if ROLES.index(found.role) < ROLES.index(role):
            raise Refusal(
                403, "role_missing", f"{found.actor} has the role {found.role}; this needs {role}.",
                field="role", value=found.role, expected=role,
                fix=f"An operator makes a token for it: {NEW_TOKEN}",
            )  # fmt: skip
        return found

    return caller


def new_token() -> tuple[str, str]:
    """A new random token, and its SHA-256 for the settings."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, hashlib.sha256(token.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(gateway: GatewaySettings) -> None:
    """Refuse to listen to other machines without tokens.

    Raises
    ------
    ConfigError : no tokens, and an address beside this machine's own
    """
    if not gateway.tokens and not is_loopback(gateway.host):
        raise ConfigError(
            "tokens_needed",
            f"without tokens the gateway listens on this machine alone, not on {gateway.host}: "
            "everybody would be admin.",
            field="gateway.host",
            value=gateway.host,
            expected="127.0.0.1, ::1 or localhost; or tokens",
            fix=f"Make a token and put it in pricemaker.toml: {NEW_TOKEN}",
        )


def secret_cookie(token: str, caller: Caller, *, secure: bool, now: datetime) -> dict[str, Any]:
    """What `Response.set_cookie` needs: out of reach of scripts and of other sites."""
    left = None
    if caller.expires_at is not None:
        left = max(int((caller.expires_at - now).total_seconds()), 0)
    return {
        "key": COOKIE, "value": token, "max_age": left, "path": "/", "secure": secure,
        "httponly": True, "samesite": "strict",
    }  # fmt: skip
