"""Running the gateway: its socket, its server, its end."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry

from schemas.errors import ConfigError, ServiceError
from streams.gateway.access import check_binding
from streams.gateway.app import build_gateway
from streams.gateway.parts import Part

log = logging.getLogger(__name__)

BACKLOG = 1024
CLOSE_S = 5  # how long requests under way may take when the gateway ends
CONNECTIONS_BESIDE_STREAMS = 1_000
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Ends with 0 when asked to; the event streams first, which would go on for ever."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Any = self.config.app
        app.state.running.streams.end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class GatewayServer:
    """The gateway on a socket of its own: `run` it here, or as a context manager in a thread.

    Raises
    ------
    ConfigError : it may not listen there, or TLS files are wrong
    ServiceError : the address can't be listened on

    Attributes
    ----------
    url : where it listens
    error : what ended a part, and the server with it
    """

    def __init__(
        self, settings: Any, parts: Sequence[Part], *, registry: CollectorRegistry | None = None
    ) -> None:
        gateway = settings.gateway
        check_binding(gateway)
        self.error: BaseException | None = None
        tls = _tls(gateway.tls_certificate_file, gateway.tls_key_file)
        self._socket = _listen(gateway.host, gateway.port)
        port = self._socket.getsockname()[1]
        host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
        self.url = f"{'https' if tls else 'http'}://{host}:{port}"
        app = build_gateway(settings, parts, registry=registry, on_failure=self._fail)
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=CLOSE_S,
                backlog=BACKLOG,
                ws="none",
                limit_concurrency=gateway.streams_max + CONNECTIONS_BESIDE_STREAMS,
                **tls,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="gateway", daemon=True)

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Raises
        ------
        PricemakerError : what ended a part
        """
        self._serve()
        if self.error is not None:
            raise self.error

    def __enter__(self) -> "GatewayServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _serve(self) -> None:
        with (
            self._socket,
            asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner,
        ):
            runner.run(self._server.serve(sockets=[self._socket]))

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ServiceError(
            "port_taken", f"can't listen there: {error.strerror or error}.", where=f"{host}:{port}",
            field="gateway.port", value=port, expected="a free port of this machine",
            fix="Set gateway.port (0 takes a free one) or gateway.host.",
        ) from error  # fmt: skip


def _tls(certificate: Path | None, key: Path | None) -> dict[str, Any]:
    if certificate is None or key is None:
        return {}
    for name, path in (("tls_certificate_file", certificate), ("tls_key_file", key)):
        if not path.is_file():
            raise ConfigError(
                "no_tls_file", f"there is no file {path}.", field=f"gateway.{name}",
                value=str(path), expected="a PEM file", fix=f"Correct gateway.{name}.",
            )  # fmt: skip
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
