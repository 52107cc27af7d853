"""A real worker is paused, and the desk shows lag rise: real Kafka, real gateway."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.gateway.desk import Desk as DeskPart
from streams.gateway.desk_files import DeskFiles
from streams.gateway.lag import Lag
from streams.gateway.parts import Part
from streams.gateway.prices import Prices
from streams.gateway.reckoner import Reckoner
from streams.gateway.serve import GatewayServer
from streams.gateway.switch import Switch
from streams.lag import LagMonitor
from streams.settings import Settings
from tests.desk.conftest import Desk
from tests.streams.spine import SKUS, Shop, fresh_topics, listing, order, until_applied, workers

pytestmark = [pytest.mark.chromium, pytest.mark.kafka]

ORDERS = 500


def parts_of(settings: Settings) -> Sequence[Part]:
    """As `pricemaker gateway` has them, with lag looked at more often, and no kernels."""
    switch = Switch(settings)
    prices = Prices(settings, switch)
    reckoner = Reckoner(lambda: None)
    desk = DeskPart(settings, prices, reckoner)
    lag = Lag(settings, desk)
    lag.monitor = LagMonitor(settings, interval_s=0.2)
    return [switch, prices, reckoner, desk, lag, DeskFiles()]


def waiting(desk: Desk, topic: str) -> int | None:
    """Messages of a topic that wait, by the panel; None while a partition's are not known."""
    script = """return [...document.querySelectorAll('.panel tbody tr')]
        .filter((row) => row.cells[0].innerText === arguments[0])
        .map((row) => row.cells[3].innerText)"""
    texts = [text.replace(",", "").strip() for text in desk.run(script, topic)]
    known = [int(text) for text in texts if text.isdigit()]
    return sum(known) if len(known) == len(texts) > 0 else None


def test_lag_rises_while_the_worker_is_paused(
    chromium: Any, kafka_bootstrap: str, tmp_path: Path
) -> None:
    settings = fresh_topics(kafka_bootstrap)
    settings = settings.model_copy(
        update={"gateway": settings.gateway.model_copy(update={"port": 0})}
    )
    shop = Shop(settings)
    topic = f"{settings.topics.prefix}orders"
    with (
        workers(settings, tmp_path) as start,
        GatewayServer(settings, parts_of(settings)) as server,
    ):
        worker = start()
        shop.send("products", [listing(sku) for sku in SKUS])
        shop.send("orders", [order(number) for number in range(ORDERS)])
        until_applied(settings, "products", "orders")
        desk = Desk(chromium, server)
        desk.open("lag")
        desk.wait(lambda: waiting(desk, topic) == 0)
        worker.signal(signal.SIGSTOP)
        shop.send("orders", [order(number) for number in range(ORDERS, 2 * ORDERS)])
        desk.wait(lambda: waiting(desk, topic) == ORDERS)
        chromium.get("about:blank")
