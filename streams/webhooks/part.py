"""Webhooks as a part of the gateway."""

from typing import Any

from streams.gateway.parts import Part, Running
from streams.webhooks.metrics import WebhookMetrics
from streams.webhooks.webhooks import Webhooks


class WebhooksPart(Part):
    """Runs the endpoints of ``webhooks.endpoints`` while the gateway runs."""

    name = "webhooks"

    def __init__(self, settings: Any, metrics: WebhookMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._webhooks: Webhooks | None = None

    async def start(self, running: Running) -> None:
        """Begin."""
        self._webhooks = Webhooks(self._settings, running.fail, metrics=self._metrics)
        await self._webhooks.start()

    async def stop(self) -> None:
        """End."""
        if self._webhooks is not None:
            await self._webhooks.stop()

    def degraded(self) -> str | None:
        """Endpoints that are dead or gone, and the kill switch."""
        return None if self._webhooks is None else self._webhooks.wrong()
