"""What every request passes first: host, size, rate, token, and the headers of every answer.

Plain ASGI, since it stands before the hot path.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import PricemakerError
from streams.gateway.access import Doorkeeper, is_loopback
from streams.gateway.gateway_metrics import OTHER, GatewayMetrics
from streams.gateway.limits import RateLimit
from streams.gateway.refusals import Refusal, refused
from streams.gateway.sse import ABORT

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DESK_HEADER, DESK = b"x-requested-with", b"pricemaker-desk"
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy",
     b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
     b"object-src 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


def needs_caller(path: str) -> bool:
    """Whether a path is for those with a token alone; the desk's files and health are not."""
    return (path.startswith("/v1/") and path != "/v1/openapi.json") or path == "/metrics"


class Door:
    """The outermost layer of the application."""

    def __init__(
        self, app: App, *, doorkeeper: Doorkeeper, rate: RateLimit, body_bytes_max: int,
        metrics: GatewayMetrics,
    ) -> None:  # fmt: skip
        self._app = app
        self._metrics = metrics
        self._doorkeeper = doorkeeper
        self._rate = rate
        self._body_bytes_max = body_bytes_max

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on with its caller in ``request.state``."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:  # no WebSockets here
                await send({"type": "websocket.close", "code": 1008})
            return

        connection = getattr(getattr(send, "__self__", None), "transport", None)
        if connection is not None:  # of uvicorn
            scope.setdefault("state", {})[ABORT] = connection.abort

        began, status, streamed = time.perf_counter(), 0, False

        async def guarded(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                streamed = scope["path"].endswith("/stream") and status == HTTPStatus.OK
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, guarded)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            seconds = None if streamed else time.perf_counter() - began
            self._metrics.answered(route, status, seconds)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            self._admit(scope)
            receive = self._bounded(scope, receive)
        except PricemakerError as error:
            await refused(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, scope: MutableMapping[str, Any]) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        client = scope.get("client")
        address = client[0] if client else "unknown"
        if self._doorkeeper.open:
            _check_host(headers)
        path: str = scope["path"]
        if not needs_caller(path):
            return
        state = scope.setdefault("state", {})
        login = path == "/v1/session" and scope["method"] == "POST"
        try:
            caller = None if login else self._doorkeeper.caller(headers)
        except Refusal:
            self._charge(f"address {address}")
            raise
        anonymous = caller is None or caller.how == "local"
        self._charge(f"address {address}" if anonymous else f"token {caller.actor}")
        if scope["method"] not in SAFE_METHODS and (caller is None or caller.how != "bearer"):
            _check_own_page(headers)
        if caller is not None:
            state["caller"] = caller

    def _charge(self, who: str) -> None:
        wait_s = self._rate.wait_s(who)
        if wait_s > 0.0:
            raise Refusal(
                429, "too_many_requests", f"{who} asks more often than is allowed.",
                headers={"Retry-After": str(math.ceil(wait_s))},
                fix="Ask less often, in bulk, or by /v1/prices/stream; "
                "gateway.requests_per_second is the limit.",
            )  # fmt: skip

    def _bounded(self, scope: MutableMapping[str, Any], receive: Receive) -> Receive:
        """``receive`` that refuses a body beyond the limit, whatever its length was said to be."""
        limit = self._body_bytes_max
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limit:
                raise _too_large(limit)
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > limit:
                    raise _too_large(limit)
            return message

        return counted


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413, "body_too_large", f"the body is larger than {limit} bytes.", where="body",
        expected=f"at most {limit} bytes", fix="Ask for less at a time.",
    )  # fmt: skip


def _check_host(headers: dict[bytes, bytes]) -> None:
    """Against DNS rebinding: a name of another site that leads to this machine is not ours."""
    host = headers.get(b"host", b"").decode("latin-1")
    name = urlsplit(f"//{host}").hostname or ""
    if not is_loopback(name):
        raise Refusal(
            403, "foreign_host", f"this gateway is not {host!r}.", field="Host", value=host,
            expected="127.0.0.1, [::1] or localhost",
            fix="Ask it by that name, or give it tokens.",
        )  # fmt: skip


def _check_own_page(headers: dict[bytes, bytes]) -> None:
    """Against requests that another site makes a browser send: they can't carry this header."""
    if headers.get(DESK_HEADER) != DESK:
        raise Refusal(
            403, "not_from_the_desk", "what changes something needs a token in a header, or the "
            "desk's own header.", field="X-Requested-With",
            expected="pricemaker-desk", fix="Send X-Requested-With: pricemaker-desk",
        )  # fmt: skip
