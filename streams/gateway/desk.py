"""The desk's data as a part of the gateway: it follows decisions, alerts, routes and discounts."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from fastapi import APIRouter

from schemas.codec import plan
from schemas.outputs import Alert, DiscountOffered, PriceDecided
from schemas.topics import ALERTS, DISCOUNTS, PRICES, ROUTES
from streams.edge.follower import Record
from streams.edge.switch import SwitchState
from streams.gateway.board import Board, Decided, Routed
from streams.gateway.desk_routes import desk_routes
from streams.gateway.following import Following
from streams.gateway.judged import Brief, judged, past_of
from streams.gateway.memory import give_back
from streams.gateway.parts import Part, Running
from streams.gateway.prices import Prices
from streams.gateway.product_routes import product_routes
from streams.gateway.reckoner import Reckoner
from streams.gateway.refusals import not_ready
from streams.gateway.steering_routes import steering_routes
from streams.kafka import reader
from streams.kafka.kafka_settings import topic_name

log = logging.getLogger(__name__)

SETTLE_EVERY_S = 0.05
JUDGED_AT_ONCE = 500
PROCESS_BYTES = 6


class Desk(Part):
    """The board, and the threads that keep it up to date.

    Attributes
    ----------
    board : the view, for the loop's thread alone
    prices : effective prices, and the kill switch
    reckoner : the kernels
    unreadable : records that could not be read and were passed over
    """

    name = "desk"

    def __init__(
        self, settings: Any, prices: Prices, reckoner: Reckoner, *, embedded: bool = False
    ) -> None:
        gateway = settings.gateway
        self.board = Board(secrets.token_hex(PROCESS_BYTES), gateway.history_records)
        self.settings = settings
        self.prices = prices
        self.reckoner = reckoner
        self.unreadable = 0
        self._running: Running | None = None
        self._settled = False
        self._settling: asyncio.Task[None] | None = None
        isolation = "read_uncommitted" if embedded else "read_committed"
        follow = (
            (PRICES, self._decisions, self.board.decide, self._newest),
            (ALERTS, self._alerts, self.board.alert, dict),
            (ROUTES, self._routes, self.board.route, dict),
            (DISCOUNTS, self._offers, self.board.offer, dict),
        )
        self._followings = [
            Following(
                settings, topic, f"gateway-{topic.name}", decode, self._woken(show),
                before=before, isolation=isolation,
            )
            for topic, decode, show, before in follow
        ]  # fmt: skip

    @property
    def running(self) -> Running:
        """The gateway that this part runs in."""
        assert self._running is not None
        return self._running

    def routers(self) -> Sequence[APIRouter]:
        """The desk's data, products, steering."""
        return desk_routes(self), product_routes(self), steering_routes(self)

    async def start(self, running: Running) -> None:
        """Begin to read."""
        self._running = running
        self.prices.switch.on_change.append(self._switched)
        for following in self._followings:
            following.open(running)
        self._settling = asyncio.create_task(self._settle())

    async def stop(self) -> None:
        """Stop reading."""
        if self._settling is not None:
            self._settling.cancel()
        await asyncio.gather(*(following.close() for following in self._followings))

    def ready(self) -> str | None:
        """Whether every product is known."""
        unready = [told for one in self._followings if (told := one.unready()) is not None]
        if unready:
            return "; ".join(unready)
        return None if self._settled else "decisions are being looked at"

    def degraded(self) -> str | None:
        """Records that could not be read."""
        if not self.unreadable:
            return None
        return f"{self.unreadable} records of the desk's topics can't be read"

    def require_ready(self) -> None:
        """Refuse while not everything is known.

        Raises
        ------
        Refusal : 503
        """
        told = self.ready()
        if told is not None:
            raise not_ready(told)

    def switch(self) -> dict[str, Any]:
        """The kill switch as the desk shows it."""
        return self.prices.switch.shown._asdict()

    def _switched(self, state: SwitchState) -> None:
        self.board.subjects.changed("switch", None, lambda: orjson.dumps(self.switch()))
        self.running.streams.wake()

    def _woken(self, show: Callable[[Any], None]) -> Callable[[Any], None]:
        def shown(batch: Any) -> None:
            show(batch)
            self.running.streams.wake()

        return shown

    async def _settle(self) -> None:
        """Once decisions are read to their end, compute what was put off for it."""
        while not self._followings[0].caught_up:
            await asyncio.sleep(SETTLE_EVERY_S)
        todo = self.board.unjudged()
        for start in range(0, len(todo), JUDGED_AT_ONCE):
            part = todo[start : start + JUDGED_AT_ONCE]
            self.board.judge(await asyncio.to_thread(_judge, part))
        await asyncio.to_thread(give_back)
        self._settled = True
        self.running.streams.wake()

    # -- in the followers' threads

    def _newest(self) -> Mapping[int, int]:
        """Where to begin with decisions: so many records before the end, in equal shares."""
        topic = topic_name(self.settings, PRICES.name)
        with reader.opened(self.settings, "gateway-begin") as consumer:
            numbers = range(reader.require_partitions(consumer, topic, reader.OUTAGE_S))
            share = self.settings.gateway.board_records // len(numbers)
            ends = {number: reader.log_range(consumer, topic, number)[1] for number in numbers}
        return {number: max(end - share, 0) for number, end in ends.items()}

    def _decisions(self, records: list[Record]) -> list[Decided]:
        briefs = [(self._read(one, Brief), one.value or b"") for one in records]
        found = [(brief, value) for brief, value in briefs if brief is not None]
        last = {brief.sku: value for brief, value in found} if self._settled else {}
        return [
            Decided(
                brief.sku, brief.version, value, past_of(brief),
                _judged(value) if last.get(brief.sku) is value else None,
            )
            for brief, value in found
        ]  # fmt: skip

    def _alerts(self, records: list[Record]) -> list[Alert]:
        found = (self._read(one, Alert) for one in records)
        return [one for one in found if one is not None]

    def _offers(self, records: list[Record]) -> list[DiscountOffered]:
        found = (self._read(one, DiscountOffered) for one in records)
        return [one for one in found if one is not None]

    def _routes(self, records: list[Record]) -> list[Routed]:
        found = (self._read(one, _Route) for one in records)
        return [Routed(one.sku, one.family) for one in found if one is not None]

    def _read(self, record: Record, kind: type[Any]) -> Any:
        if record.value is None:
            return None
        try:
            return msgspec.json.decode(record.value, type=kind)
        except msgspec.MsgspecError as error:
            self.unreadable += 1
            log.error("[%d]@%d is no %s: %s", record.partition, record.offset, kind, error)
            return None


class _Route(msgspec.Struct):
    sku: str
    family: str


plan(Alert, DiscountOffered, _Route)  # each is decoded by a thread of its own


def _judged(value: bytes) -> Any:
    return judged(msgspec.json.decode(value, type=PriceDecided))


def _judge(part: list[tuple[str, bytes]]) -> list[tuple[str, Any]]:
    return [(sku, _judged(value)) for sku, value in part]
