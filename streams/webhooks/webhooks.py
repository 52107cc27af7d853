"""All endpoints together: a part of the gateway, and testable alone."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from streams.webhooks.attempts import State
from streams.webhooks.endpoint import Endpoint
from streams.webhooks.metrics import WebhookMetrics

log = logging.getLogger(__name__)

CLIENT_LOGGERS = ("httpcore", "httpx")
USER_AGENT = "pricemaker-webhooks/1"


class Webhooks:
    """Endpoints that run beside each other on one event loop.

    Parameters
    ----------
    settings : the loaded configuration
    on_error : called with what ended it: prices no longer move
    is_stopped : whether the kill switch is on; it must be known before `start`
    """

    def __init__(
        self,
        settings: Any,
        on_error: Callable[[BaseException], None],
        is_stopped: Callable[[], bool],
        *,
        metrics: WebhookMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._on_error = on_error
        self._metrics = metrics or WebhookMetrics()
        self._is_stopped = is_stopped
        self._tasks: list[asyncio.Task[None]] = []
        self._executor = ThreadPoolExecutor(
            max(1, len(settings.webhooks.endpoints)), thread_name_prefix="webhooks"
        )
        for name in CLIENT_LOGGERS:  # they write addresses, which may hold what is secret
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=None,  # a call is limited as a whole, by asyncio.timeout
            headers={"user-agent": USER_AGENT},
        )
        self.endpoints = [
            Endpoint(settings, endpoint, self._client, self._executor, is_stopped, self._metrics)
            for endpoint in settings.webhooks.endpoints
        ]

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [asyncio.create_task(self._run(endpoint)) for endpoint in self.endpoints]

    async def stop(self) -> None:
        """End; calls under way get a few seconds, and positions are committed."""
        for endpoint in self.endpoints:
            endpoint.end()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()
        self._executor.shutdown()

    def wrong(self) -> str | None:
        """None, or which endpoints are not served, in words. Any thread."""
        if self._is_stopped():
            return "the kill switch is on"
        found = [
            f"{endpoint.name} is {endpoint.state}"
            for endpoint in self.endpoints
            if endpoint.state in (State.DEAD, State.DISABLED)
        ]
        return f"webhooks: {', '.join(found)}" if found else None

    async def _run(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.run()
        except Exception as error:
            log.error("webhook %s ended: %r", endpoint.name, error)
            self._on_error(error)
