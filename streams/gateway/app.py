"""The gateway's application: the door, the parts, health, and the OpenAPI document.

Others add to it by a `Part` of their own: routes, static files, something that runs.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import RedirectResponse, Response

from streams.gateway.access import Doorkeeper
from streams.gateway.door import Door
from streams.gateway.gateway_metrics import GatewayMetrics
from streams.gateway.limits import RateLimit
from streams.gateway.parts import Part, Running
from streams.gateway.refusals import JSON, add_handlers
from streams.gateway.session import session_router
from streams.gateway.sse import Streams
from streams.metrics.health import Health
from streams.metrics.registry import new_registry

ABOUT = """Prices, event streams, feeds and quotes, and the data of the desk.

Money is in minor units of the currency beside it, times are RFC 3339 in UTC, what is not known is
null. Errors have one form: `{"error": {code, message, where, field, value, expected, fix}}`."""


class Gateway(FastAPI):
    """The application behind its door: nothing, not even the answer to a bug, goes past it."""

    def __init__(self, door: Callable[[Any], Door], **options: Any) -> None:
        super().__init__(**options)
        self._door = door

    def build_middleware_stack(self) -> Any:
        """What a request passes, outermost first."""
        return self._door(super().build_middleware_stack())


def health_of(parts: Sequence[Part]) -> Health:
    """Whether the parts live and are ready, for this and for the metrics' own port."""
    return Health(
        alive={part.name: part.alive for part in parts},
        ready={part.name: _both(part) for part in parts},
    )


def _both(part: Part) -> Callable[[], str | None]:
    return lambda: part.alive() or part.ready()


def build_gateway(
    settings: Any,
    parts: Sequence[Part] = (),
    *,
    registry: CollectorRegistry | None = None,
    on_failure: Callable[[BaseException], None] = lambda error: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """The application with its parts.

    Parameters
    ----------
    settings : the loaded configuration
    parts : started in this order with the application, stopped in reverse
    registry : of the process's metrics; without it one of its own
    on_failure : called once, from any thread, when a part ended and can't go on
    clock : the time now, for tokens that expire
    """
    gateway = settings.gateway
    doorkeeper = Doorkeeper(gateway.tokens, clock)
    registry = registry or new_registry("gateway")
    metrics = GatewayMetrics(registry)
    rate = RateLimit(gateway.requests_per_second, gateway.requests_burst, time.monotonic)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        streams = Streams(gateway.streams_max, gateway.stream_blocked_s, metrics)
        running = app.state.running = Running(streams, metrics, on_failure)
        async with AsyncExitStack() as stack:
            for part in parts:
                stack.push_async_callback(part.stop)
                await part.start(running)
            stack.callback(streams.end)
            yield

    app = Gateway(
        partial(
            Door, doorkeeper=doorkeeper, rate=rate, body_bytes_max=gateway.body_bytes_max,
            metrics=metrics,
        ),
        title="Pricemaker", summary="Prices an online shop the way a market maker quotes a market.",
        description=ABOUT, version=version("pricemaker"), lifespan=lifespan,
        openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )  # fmt: skip
    add_handlers(app)
    for part in parts:  # routes are tried in their order, so prices come first
        for router in part.routers():
            app.include_router(router)
        part.mount(app)
    app.include_router(session_router(doorkeeper, clock))
    _add_health(app, parts, registry)
    _describe_tokens(app)
    return app


def _add_health(app: FastAPI, parts: Sequence[Part], registry: CollectorRegistry) -> None:
    health = health_of(parts)

    @app.get("/healthz", tags=["health"], summary="Whether it lives, or a restart is needed")
    async def healthz() -> Response:
        return _told(health.alive())

    @app.get("/readyz", tags=["health"], summary="Whether it has caught up and can serve")
    async def readyz() -> Response:
        """503 while a part can't serve yet. `degraded` says what is wrong though it serves: while
        Kafka is away prices are served with the age that X-As-Of tells."""
        found = health.ready()
        degraded = {part.name: told for part in parts if (told := part.degraded()) is not None}
        return _told(found, degraded=degraded)

    @app.get("/metrics", tags=["health"], summary="Metrics, as Prometheus reads them")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> Response:
        return RedirectResponse("/desk/", 307)


def _told(found: dict[str, str | None], **beside: Any) -> Response:
    status = 503 if any(reason is not None for reason in found.values()) else 200
    body = orjson.dumps({**found, **beside})
    return Response(body, status, {"Cache-Control": "no-store"}, JSON)


def _describe_tokens(app: FastAPI) -> None:
    """Say in the OpenAPI document how tokens are sent."""
    make = app.openapi

    def described() -> dict[str, Any]:
        document = make()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {"type": "http", "scheme": "bearer"}
        document["security"] = [{"token": []}, {}]
        return document

    app.openapi = described  # type: ignore[method-assign]
