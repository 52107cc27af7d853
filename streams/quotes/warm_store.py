"""Warm products in Redis: a hash a product, which no older answer overwrites.

Keys, after the prefix (``redis.prefix``): ``quote:1:<SKU>`` with ``body``, ``version`` and
``as_of``; ``quote-guards:1:<id>``, the guards of a product's places, which many share. Both end by
themselves. What is there is only used while it rests on what this process knows.
"""

import asyncio
import logging
import time
from typing import Any

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from models.quotes.warm import Kept, Places, WarmProduct, encoded
from streams.edge.redis_client import connection
from streams.quotes.circuit import Circuit

log = logging.getLogger(__name__)

FORMAT = 1
TIMEOUT_S = 0.05  # of an answer; a loop that shares its cores with the engine may wait so long
CONNECT_TIMEOUT_S = 0.2
WARM_S, PLACES_S = 3_600, 7_200
PLACES_MAX = 1_000  # sets of guards known in the process
WRITES_MAX = 256  # at once; more are left out, and the next quote warms the product again
AWAY = "Redis is away"

_WRITE = """
local version, at = redis.call('HGET', KEYS[1], 'version'), redis.call('HGET', KEYS[1], 'as_of')
if version then
  local known, new = tonumber(version), tonumber(ARGV[1])
  if known > new or (known == new and tonumber(at) > tonumber(ARGV[2])) then return 0 end
end
redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[6])
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'as_of', ARGV[2], 'body', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""

_product = msgspec.msgpack.Decoder(WarmProduct)
_places = msgspec.msgpack.Decoder(Places)


class RedisWarmStore:
    """Warm products in Redis, behind a circuit. For one event loop.

    Attributes
    ----------
    why_not : why Redis is not asked at present
    """

    def __init__(self, settings: Any, *, timeout_s: float = TIMEOUT_S) -> None:
        self.why_not: str | None = None
        address, options = connection(settings, "quotes")
        self._client: Any = redis.asyncio.Redis.from_url(
            address,
            socket_timeout=timeout_s,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._prefix = settings.redis.prefix
        self._write = self._client.register_script(_WRITE)
        self._circuit = Circuit(time.monotonic)
        self._known: dict[str, Places] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Take the running loop as one's own."""
        self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Let what is being written end, and the connections."""
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self._client.aclose()

    async def get(self, sku: str) -> Kept | None:
        """The product as it was last kept; None: it is not, or Redis is away."""
        body = await self._ask(self._client.hget(self._product_key(sku), "body"))
        if body is None:
            return None
        try:
            product = _product.decode(body)
        except msgspec.MsgspecError:
            return None  # another program's; it ends by itself
        places = self._known.get(product.places)
        if places is None:
            places = await self._read_places(product.places)
        return None if places is None else Kept(product, places)

    def put(self, kept: Kept) -> None:
        """Keep a product, soon; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin_write, kept)

    async def _read_places(self, name: str) -> Places | None:
        body = await self._ask(self._client.get(self._places_key(name)))
        if body is None:
            return None
        try:
            found = _places.decode(body)
        except msgspec.MsgspecError:
            return None
        if len(self._known) >= PLACES_MAX:
            self._known.clear()
        self._known[name] = found
        return found

    def _begin_write(self, kept: Kept) -> None:
        if len(self._writing) >= WRITES_MAX:
            return
        task = asyncio.ensure_future(self._put(kept))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _put(self, kept: Kept) -> None:
        product, places = kept
        basis = product.basis
        await self._ask(
            self._write(
                keys=[self._product_key(basis.sku), self._places_key(product.places)],
                args=[
                    basis.stamp.version, basis.as_of_ms, encoded(product), encoded(places), WARM_S,
                    PLACES_S,
                ],
            )
        )  # fmt: skip

    async def _ask(self, call: Any) -> Any:
        """What Redis answers; None where it is away, and while it is left alone."""
        if not self._circuit.may_ask():
            call.close()
            return None
        try:
            found = await call
        except (redis.RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        if self.why_not is not None:
            log.info("Redis answers again: quotes use L2")
        self._circuit.succeeded()
        self.why_not = None
        return found

    def _failed(self, error: Exception) -> None:
        self._circuit.failed()
        if self.why_not is None:
            log.warning("quotes go without L2: Redis does not answer (%s)", type(error).__name__)
        self.why_not = AWAY

    def _product_key(self, sku: str) -> str:
        return f"{self._prefix}quote:{FORMAT}:{sku}"

    def _places_key(self, name: str) -> str:
        return f"{self._prefix}quote-guards:{FORMAT}:{name}"
