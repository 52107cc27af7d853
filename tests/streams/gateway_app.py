"""What the tests of the gateway share: prices, tokens, and an application without a broker."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI

from schemas.outputs import Alert, DiscountOffered, PriceDecided
from streams.edge.follower import Record
from streams.edge.price import Price
from streams.gateway.app import build_gateway
from streams.gateway.desk import Desk
from streams.gateway.parts import Part, Running
from streams.gateway.prices import Prices
from streams.gateway.reckoner import Reckoner
from streams.gateway.switch import Switch
from streams.settings import Settings

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
TOPIC = "abc123"
DESK = {"X-Requested-With": "pricemaker-desk"}
TOKENS = {"reader": "read", "operator": "operate", "boss": "admin"}


def price(sku: str, version: int, **fields: Any) -> Price:
    """An effective price; its amount follows from its version."""
    found = {
        "sku": sku, "version": version, "price_id": f"0-{version}-{sku}",
        "price_minor": 1000 + version, "previous_minor": None, "currency": "EUR",
        "status": "published", "effective_from": "2026-01-10T00:00:00.000Z",
        "valid_until": None, "decided_at": "2026-01-10T00:00:00.000Z", **fields,
    }  # fmt: skip
    return Price(**found)


def record(offset: int, shown: Price, partition: int = 0) -> Record:
    """The price as ``prices-latest`` has it."""
    value = msgspec.json.encode(shown)
    return Record(partition, offset, shown.sku.encode(), value, 0)


def tombstone(offset: int, sku: str, partition: int = 0) -> Record:
    """The record that withdraws a price."""
    return Record(partition, offset, sku.encode(), None, 0)


class ShownPrices(Prices):
    """The window with these records in it; no broker, and no threads."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        super().__init__(Settings(), Switch(Settings()))
        self._records = records
        self.caught_up = True

    async def start(self, running: Running) -> None:
        self._running = running
        self.switch.on_change.append(self._switched)
        self.window.topic = TOPIC
        self.broker.as_of = "2026-01-10T12:00:00.000Z"
        self.take(*self._records)

    async def stop(self) -> None:
        pass

    def ready(self) -> str | None:
        return None if self.caught_up else "prices-latest is not read to its end yet"

    def take(self, *records: Record) -> None:
        """What the follower does with a batch."""
        self._show(self._decode(list(records)))


def token_settings(**fields: Any) -> list[dict[str, Any]]:
    """A token for each role; its text is its name."""
    return [
        {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest(), **fields}
        for name, role in TOKENS.items()
    ]


def bearer(name: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {name}"}


def application(*parts: Part, **gateway: Any) -> FastAPI:
    """The gateway with these parts at `NOW`."""
    return build_gateway(Settings(gateway=gateway), parts, clock=lambda: NOW)


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running application."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    options.setdefault("base_url", "http://127.0.0.1")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, **options) as client,
    ):
        yield client


class ShownDesk(Desk):
    """The desk with these decisions, alerts and routes on it; no broker, and no threads."""

    def __init__(
        self, prices: ShownPrices, kernel: Any, decisions: Sequence[PriceDecided] = (),
        alerts: Sequence[Alert] = (), families: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(Settings(), prices, Reckoner(lambda: kernel))
        self._begin = decisions, alerts, families or {}
        self.caught_up = True

    async def start(self, running: Running) -> None:
        self._running = running
        self._settled = True
        self.prices.switch.on_change.append(self._switched)
        decisions, alerts, families = self._begin
        self.route(**families)
        self.alert(*alerts)
        self.decide(*decisions)

    async def stop(self) -> None:
        pass

    def ready(self) -> str | None:
        return None if self.caught_up else "prices is not read to its end yet"

    def decide(self, *decisions: PriceDecided) -> None:
        """What the follower of ``prices`` does with a batch."""
        self.board.decide(self._decisions(records_of(decisions)))
        self.running.streams.wake()

    def alert(self, *alerts: Alert) -> None:
        """What the follower of ``alerts`` does with a batch."""
        self.board.alert(self._alerts(records_of(alerts)))
        self.running.streams.wake()

    def offer(self, *offers: DiscountOffered) -> None:
        """What the follower of ``discounts`` does with a batch."""
        self.board.offer(self._offers(records_of(offers)))

    def route(self, **families: str) -> None:
        """What the follower of ``routes`` does with a batch."""
        routes = [
            {"sku": sku, "family": family, "partition": 0} for sku, family in families.items()
        ]
        self.board.route(self._routes(records_of(routes)))
        self.running.streams.wake()


def records_of(values: Sequence[Any]) -> list[Record]:
    """Records with these values, one after the other."""
    return [Record(0, n, None, msgspec.json.encode(value), 0) for n, value in enumerate(values)]
