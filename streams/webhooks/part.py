"""Webhooks as a part of the gateway."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from streams.gateway.parts import Part, Running
from streams.gateway.switch import Switch
from streams.webhooks.metrics import WebhookMetrics
from streams.webhooks.webhooks import Webhooks

KNOWN_EVERY_S = 0.05


class WebhooksPart(Part):
    """Runs the endpoints of ``webhooks.endpoints`` while the gateway runs."""

    name = "webhooks"

    def __init__(
        self, settings: Any, switch: Switch, registry: CollectorRegistry | None = None
    ) -> None:
        self._settings = settings
        self._switch = switch
        self._metrics = WebhookMetrics(registry)
        self._webhooks: Webhooks | None = None
        self._starting: asyncio.Task[None] | None = None

    async def start(self, running: Running) -> None:
        """Begin."""
        self._webhooks = Webhooks(
            self._settings, running.fail, lambda: self._switch.shown.on, metrics=self._metrics
        )
        self._starting = asyncio.create_task(self._start(self._webhooks))

    async def stop(self) -> None:
        """End."""
        if self._webhooks is not None and self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
            await self._webhooks.stop()

    def degraded(self) -> str | None:
        """Endpoints that are dead or gone, and the kill switch."""
        return None if self._webhooks is None else self._webhooks.wrong()

    async def _start(self, webhooks: Webhooks) -> None:
        while not self._switch.changes:  # the first is what it was when it had been read
            await asyncio.sleep(KNOWN_EVERY_S)
        webhooks.start()
