"""Quotes as a part of the gateway: the tiers, and what they follow."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from schemas.errors import PricemakerError
from streams.gateway.parts import Part, Running
from streams.gateway.reckoner import Reckoner
from streams.gateway.switch import Switch
from streams.quotes.metrics import QuoteMetrics
from streams.quotes.refusals import not_ready
from streams.quotes.router import quote_router

if TYPE_CHECKING:
    from streams.quotes.tiers import TieredQuotes  # which takes JAX, and that takes seconds

log = logging.getLogger(__name__)


class Quotes(Part):
    """``POST /v1/quote``. It takes the kernels and the pricer's whole state, so it is ready after
    the prices are; until then it says so, and the rest of the gateway serves.

    Parameters
    ----------
    switch : the kill switch, which quotes obey at once
    reckoner : has the compiled kernels
    """

    name = "quotes"

    def __init__(
        self,
        settings: Any,
        switch: Switch,
        reckoner: Reckoner,
        *,
        registry: CollectorRegistry | None = None,
        embedded: bool = False,
    ) -> None:
        self._settings = settings
        self._switch = switch
        self._reckoner = reckoner
        self._metrics = QuoteMetrics(registry)
        self._isolation = "read_uncommitted" if embedded else "read_committed"
        self._tiers: TieredQuotes | None = None
        self._why_not: str | None = "the pricer's state is being read"
        self._closing: list[Any] = []
        self._store: Any = None
        self._opening: asyncio.Task[None] | None = None

    def routers(self) -> Sequence[APIRouter]:
        """The route."""
        return (quote_router(self.tiers),)

    def tiers(self) -> "TieredQuotes":
        """The tiers.

        Raises
        ------
        ServiceError : they are not ready
        """
        if self._tiers is None:
            raise not_ready(self._why_not or "they begin")
        return self._tiers

    async def start(self, running: Running) -> None:
        """Begin to read the state."""
        self._opening = asyncio.create_task(self._open())

    async def stop(self) -> None:
        """End the threads, and let go of Redis."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self._tiers, self._why_not = None, "the gateway ends"
        for one in reversed(self._closing):
            await asyncio.to_thread(one.close)
        if self._store is not None:
            await self._store.close()

    def degraded(self) -> str | None:
        """Why quotes are not answered though prices are, or go without L2."""
        if self._tiers is None:
            return self._why_not
        return self._tiers.unready()

    async def _open(self) -> None:
        try:
            kernel = await self._reckoner.reckon(lambda found: found)
            await self._make(kernel)
        except PricemakerError as error:
            self._why_not = error.message
            log.error("there are no quotes: %s", error)

    async def _make(self, kernel: Any) -> None:
        from streams.quotes.full_engine import FullEngine
        from streams.quotes.in_force import PricesInForce
        from streams.quotes.light_model import LightModel
        from streams.quotes.replica import Replica
        from streams.quotes.tiers import TieredQuotes
        from streams.quotes.warm_store import RedisWarmStore

        settings = self._settings
        replica = Replica(settings, kernel.fingerprint, self._isolation)
        self._closing.append(replica)
        await _in_thread(replica.load)
        in_force = PricesInForce(settings, self._isolation).start()
        self._closing.append(in_force)
        model = LightModel.read(settings.quotes.model_file)
        if settings.redis.url is not None:
            self._store = RedisWarmStore(settings)
            self._store.open()
        on_warm = None if self._store is None else self._store.put
        full = FullEngine(kernel, replica, in_force, on_warm).start()
        self._closing.append(full)
        if model.why_not is not None:
            log.warning("quotes: %s", model.why_not)
        self._tiers = TieredQuotes(
            replica, full, in_force=in_force, store=self._store, model=model,
            metrics=self._metrics, switch=self._thrown,
        )  # fmt: skip

    def _thrown(self) -> str | None:
        """Why the kill switch is on; None: it is off. Raises ServiceError while it is not known."""
        unknown = self._switch.ready()
        if unknown is not None:
            raise not_ready(unknown)
        state = self._switch.shown
        return (state.reason or "no reason given") if state.on else None


async def _in_thread(call: Callable[[], object]) -> None:
    """Run what may wait long for a broker in a thread that the process does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if done.done():  # the gateway ended meanwhile
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as found:
            error = found
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="open-quotes", daemon=True).start()
    await done
