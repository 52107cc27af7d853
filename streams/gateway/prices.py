"""The shop window as a part of the gateway: it follows ``prices-latest`` and serves ``/v1``."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from schemas.topics import PRICES_LATEST
from streams.edge.follower import Record
from streams.edge.price import prices_of
from streams.edge.switch import SwitchState
from streams.gateway.broker import BrokerWatch, topic_identity, watch_broker
from streams.gateway.following import Following
from streams.gateway.parts import Part, Running, closed
from streams.gateway.price_routes import price_routes
from streams.gateway.refusals import not_ready
from streams.gateway.switch import Switch
from streams.gateway.window import Taken, Window
from streams.kafka.kafka_settings import topic_name

SWITCH_S = 120.0  # longer than the switch may take to be read or to fail


class Prices(Part):
    """Effective prices: the window, and the thread that keeps it up to date.

    Attributes
    ----------
    window : the view, for the loop's thread alone
    unreadable : records of ``prices-latest`` that were no prices and were passed over
    """

    name = "prices"

    def __init__(self, settings: Any, switch: Switch, *, embedded: bool = False) -> None:
        self.window = Window("")
        self.switch = switch
        self.unreadable = 0
        self._settings = settings
        self._embedded = embedded
        self._topic = topic_name(settings, PRICES_LATEST.name)
        self.broker: BrokerWatch = watch_broker(settings, self._topic)
        self._following = Following(
            settings, PRICES_LATEST, "gateway-prices", self._decode, self._show,
            before=self._identify, hold=switch.wait_off,
            isolation="read_uncommitted" if embedded else "read_committed",
        )  # fmt: skip
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        """The gateway that this part runs in."""
        assert self._running is not None
        return self._running

    def routers(self) -> Sequence[APIRouter]:
        """Prices, bulk, stream and feed."""
        return (price_routes(self),)

    async def start(self, running: Running) -> None:
        """Begin to read."""
        self._running = running
        self.switch.on_change.append(self._switched)
        self.broker.start()
        self._following.open(running)

    async def stop(self) -> None:
        """Stop reading."""
        await self._following.close()
        await closed(self.broker.close)

    def alive(self) -> str | None:
        """A failed reader needs a restart."""
        failure = None if self._running is None else self._running.failure
        return None if failure is None else f"{failure}"

    def ready(self) -> str | None:
        """Whether every price is known."""
        return self._following.unready()

    def degraded(self) -> str | None:
        """While the broker is away prices are served as they were."""
        if self.broker.away_since is not None:
            return f"Kafka does not answer; prices are as of {self.broker.away_since}"
        if self.unreadable:
            return f"{self.unreadable} records of {self._topic} are no prices"
        return None

    def require_ready(self) -> None:
        """Refuse while not every price is known: "unknown" would be a guess.

        Raises
        ------
        Refusal : 503
        """
        if self.ready() is not None:
            raise not_ready("the prices are being read")

    def headers(self) -> dict[str, str]:
        """What every answer with prices carries: how old they may be, and whether they stand."""
        return {
            "Cache-Control": "no-cache",
            "X-As-Of": self.broker.as_of or "unknown",
            "X-Kill-Switch": "on" if self.switch.shown.on else "off",
        }

    def _identify(self) -> Mapping[int, int]:
        self.switch.known.wait(SWITCH_S)  # else nothing is held, and the gateway is not ready
        self.window.topic = topic_identity(self._settings, self._topic, embedded=self._embedded)
        return {}

    def _switched(self, state: SwitchState) -> None:
        self.running.streams.wake()

    def _decode(self, records: list[Record]) -> list[Taken]:
        taken: list[Taken] = []
        for record, price in prices_of(records, self._topic, self._left_out):
            sku = record.sku if price is None else price.sku
            taken.append(Taken(sku, record.partition, record.offset, price))
        return taken

    def _left_out(self) -> None:
        self.unreadable += 1

    def _show(self, taken: list[Taken]) -> None:
        if self.window.take(taken):
            self.running.metrics.prices.set(self.window.count)
            self.running.streams.wake()
