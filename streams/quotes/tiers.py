"""Tiered quotes: L1 remembers, L2 reckons from what is kept warm, L3 is the full engine.

Each tier that has no answer, or not in time, passes the question on; each answer fills the tiers
above it, with what it rests on. ``docs/quotes.md``.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from models.quotes import warm
from models.quotes.full import Found
from models.quotes.heat import Heat
from models.quotes.standing import Stamp, kill_switch, unknown_sku
from models.quotes.warm import Kept, Predict
from schemas.errors import PricemakerError, ServiceError
from schemas.quotes import Quote, QuoteRequest
from streams.quotes.full_engine import FullEngine
from streams.quotes.hot import L1, HotQuotes, Remembered
from streams.quotes.metrics import QuoteMetrics
from streams.quotes.replica import Replica

HOT_QUOTES_MAX = 50_000
HEAT_HALF_LIFE_S = 3_600.0
HEAT_PRODUCTS_MAX = 200_000
WARM_QUOTES_MIN = 1.5  # remembered quotes of a product that is worth keeping warm: its second
FULL_TIMEOUT_S = 5.0
PASSED = "L2: "  # in a flag: why it passed the question on


class Follows(Protocol):
    """Something that is followed; ``check`` raises ServiceError where it is not, or not yet."""

    def check(self) -> None: ...


class WarmStore(Protocol):
    """Where warm products are kept. None: it has no such product, or is away (``why_not``)."""

    why_not: str | None

    async def get(self, sku: str) -> Kept | None: ...


class LightModel(Protocol):
    """The light model; ``why_not``: why there is none to ask."""

    why_not: str | None

    @property
    def predict(self) -> Predict: ...


def _running() -> str | None:
    return None


class TieredQuotes:
    """Answers quotes. One event loop, one owner; what it is made of is started by its maker.

    Parameters
    ----------
    in_force : the effective prices, which the engine asks, too
    store : warm products; without it L2 passes everything on
    model : the light model; without it L2 answers only what needs no search
    switch : why the kill switch is thrown, as who follows ``controls`` knows it; None: it is not
    clock_ms : wall clock, for heat
    """

    def __init__(
        self,
        replica: Replica,
        full: FullEngine,
        *,
        in_force: Follows | None = None,
        store: WarmStore | None = None,
        model: LightModel | None = None,
        metrics: QuoteMetrics | None = None,
        switch: Callable[[], str | None] = _running,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        quotes_max: int = HOT_QUOTES_MAX,
    ) -> None:
        self._replica, self._full, self._in_force = replica, full, in_force
        self._store, self._model = store, model
        self._metrics = metrics or QuoteMetrics()
        self._switch, self._clock_ms = switch, clock_ms
        self.heat = Heat(HEAT_HALF_LIFE_S, HEAT_PRODUCTS_MAX)
        self.hot = HotQuotes(quotes_max, self.heat)

    async def quote(self, request: QuoteRequest) -> Quote:
        """Answer one quote.

        Raises
        ------
        InputError : what was asked for can't be quoted: see `schemas.errors`, and the code
        ServiceError : not ready, overloaded, or the engine took too long
        """
        started = time.perf_counter()
        try:
            answer = await self._answered(request)
        except PricemakerError as refusal:
            self._metrics.was_refused(refusal.code)
            raise
        self._metrics.answered(answer.tier, time.perf_counter() - started)
        return answer

    def unready(self) -> str | None:
        """None, or why quotes are not answered, or not by all tiers. Any thread, at once."""
        try:
            self._check()
        except ServiceError as error:
            return error.message
        return None if self._store is None else self._store.why_not

    def _check(self) -> None:
        """That all that is followed still moves. Raises ServiceError."""
        self._replica.check()
        if self._in_force is not None:
            self._in_force.check()

    async def _answered(self, request: QuoteRequest) -> Quote:
        self._check()
        switch = self._switch()
        if switch is not None:
            raise kill_switch(switch)
        glance = self._replica.stamp_of(request.sku)
        if glance is None:
            raise unknown_sku(request.sku)
        stamp, now_ms = glance
        self.heat.count(request.sku, self._clock_ms())
        hot = self.hot.get(request, stamp, now_ms)
        if hot is not None:
            return hot
        found, passed = await self._warm(request, stamp, now_ms)
        if found is None:
            found = await self._by_full_engine(request, passed)
        self._remember(request, found)
        return found.quote

    async def _warm(
        self, request: QuoteRequest, stamp: Stamp, now_ms: int
    ) -> tuple[Remembered | None, str | None]:
        """L2's answer; or None, with what is to be said of why, where there is more to it than a
        product that is not warm.
        """
        if self._store is None:
            return None, None
        kept = await self._store.get(request.sku)
        model = self._model
        reason, told = "not_reckoned", None
        if kept is None:
            reason, told = "cold", self._store.why_not
        elif kept.product.basis.stamp != stamp or now_ms >= kept.product.basis.until_ms:
            reason = "stale"
        elif request.supposes and (model is None or model.why_not is not None):
            told = "there is no light model" if model is None else model.why_not
        else:
            found = warm.answer(kept, request, self._predict)
            if not isinstance(found, str):
                return Remembered(*found, kept.product.basis.stamp), None
        self._metrics.passed_on_by_l2(reason if told is None else "unavailable")
        return None, told

    @property
    def _predict(self) -> Predict:
        return _passes if self._model is None else self._model.predict

    async def _by_full_engine(self, request: QuoteRequest, passed: str | None) -> Remembered:
        keep_warm = self._store is not None and (
            self.heat.quotes(request.sku, self._clock_ms()) >= WARM_QUOTES_MIN
        )
        asked = self._full.ask(request, keep_warm=keep_warm)
        try:
            found = await asyncio.wait_for(asyncio.wrap_future(asked), FULL_TIMEOUT_S)
        except TimeoutError:
            raise ServiceError(
                "too_slow", f"the engine did not answer within {FULL_TIMEOUT_S:g} s.",
                fix="Ask again later; if it lasts, add a gateway.",
            ) from None  # fmt: skip
        if not isinstance(found, Found):
            raise found
        quote = found.quote
        if passed is not None:
            quote = replace(quote, flags=(*quote.flags, f"{PASSED}{passed}"))
        return Remembered(quote, found.until_ms, found.stamp)

    def _remember(self, request: QuoteRequest, found: Remembered) -> None:
        flags = tuple(flag for flag in found.quote.flags if not flag.startswith(PASSED))
        quote = replace(found.quote, tier=L1, flags=flags)
        self.hot.put(request, found._replace(quote=quote))


def _passes(row: object) -> None:
    return None
