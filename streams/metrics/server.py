"""The HTTP end of a process's metrics: ``/metrics``, ``/healthz``, ``/readyz``.

A thread of its own with the standard library's server: a process without a web framework has it
too, and it answers while an event loop is busy. It is off without ``metrics.port``.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from schemas.errors import ServiceError
from streams.metrics.health import Health

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0  # a client that sends nothing holds its thread no longer

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False  # a scrape under way must not hold up the end of the process


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def address_string(self) -> str:
        return str(self.client_address[0])  # never ask a name server

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def metrics_app(registry: CollectorRegistry, health: Health) -> App:
    """The WSGI application with the three paths; anything else is 404.

    ``/healthz`` and ``/readyz`` answer 200, or 503 when a check fails, with a JSON object of what
    each check says (null: all is well).
    """
    metrics = make_wsgi_app(registry)
    checks = {"/healthz": health.alive, "/readyz": health.ready}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        body: dict[str, str | None]
        if path in checks:
            body = checks[path]()
            bad = any(reason is not None for reason in body.values())
            status = HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK
        else:
            body = {"error": "paths: /metrics, /healthz, /readyz"}
            status = HTTPStatus.NOT_FOUND
        start_response(
            f"{status.value} {status.phrase}",
            [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
        )
        return [json.dumps(body).encode() + b"\n"]

    return app


@contextmanager
def serve_metrics(
    settings: Any, registry: CollectorRegistry, health: Health
) -> Iterator[int | None]:
    """Serve a process's metrics inside the block; gives the port, None when it is off.

    Raises
    ------
    ServiceError : the address can't be listened on
    """
    metrics = settings.metrics
    if metrics.port is None:
        yield None
        return
    try:
        server = make_server(
            metrics.host, metrics.port, metrics_app(registry, health), _Server, _Handler
        )
    except OSError as error:
        raise ServiceError(
            "port_taken",
            f"can't listen for metrics: {error.strerror or error}.",
            where=f"{metrics.host}:{metrics.port}",
            field="metrics.port",
            value=metrics.port,
            expected="a free port of this machine",
            fix="Set metrics.port (0 takes a free one) or metrics.host.",
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
    )
    thread.start()
    log.info("metrics at http://%s:%d/metrics", metrics.host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
