"""Consumer lag as a part of the gateway: the document of `pricemaker lag --json`, and its event."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Response

from schemas.errors import ServiceError
from streams.gateway.desk import Desk
from streams.gateway.desk_routes import told
from streams.gateway.openapi import errors
from streams.gateway.parts import Part, Running, closed
from streams.lag import LagMonitor

LOOK_EVERY_S = 0.5
EMBEDDED = ServiceError(
    "embedded_broker", "the demo's broker tells nothing of consumer groups: lag is not known.",
    fix="Run the worker on Kafka to see its lag.",
)  # fmt: skip


class Lag(Part):
    """Looks at our consumer groups, and tells the desk of each look."""

    name = "lag"

    def __init__(self, settings: Any, desk: Desk, *, embedded: bool = False) -> None:
        self.monitor = LagMonitor(settings)
        self._embedded = embedded
        self._desk = desk
        self._telling: asyncio.Task[None] | None = None

    def routers(self) -> Sequence[APIRouter]:
        """``/v1/desk/lag``."""
        router = APIRouter(prefix="/v1/desk", tags=["desk"], responses=errors(401))

        @router.get("/lag", summary="How far consumers are behind, and how fresh prices are")
        async def lag() -> Response:
            """As `pricemaker lag --json` has it. `problem`: why the last look failed; the look
            before it is shown with its time."""
            return told(self._document())

        return (router,)

    async def start(self, running: Running) -> None:
        """Begin to look."""
        if self._embedded:
            return
        self.monitor.start()
        self._telling = asyncio.create_task(self._tell(running))

    async def stop(self) -> None:
        """Stop looking."""
        if self._telling is not None:
            self._telling.cancel()
        await closed(self.monitor.close)

    def alive(self) -> str | None:
        """Whether its thread still looks."""
        return self.monitor.stands_still()

    def degraded(self) -> str | None:
        """Lag that is not known now."""
        return None if self._embedded else self.monitor.not_known()

    async def _tell(self, running: Running) -> None:
        before: object = None
        while True:
            seen = (self.monitor.latest, self.monitor.problem)
            if seen != before and seen != (None, None):
                before = seen
                self._desk.board.subjects.changed("lag", None, self._body)
                running.streams.wake()
            await asyncio.sleep(LOOK_EVERY_S)

    def _body(self) -> bytes:
        return orjson.dumps(self._document())

    def _document(self) -> dict[str, Any]:
        found = self.monitor.document()
        return found | {"problem": EMBEDDED.as_dict()} if self._embedded else found
