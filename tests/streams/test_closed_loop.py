"""``simulate --closed-loop``: the shop shows what a worker on a real broker publishes."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from models.simulator.simulator import Shop
from models.simulator.simulator_presets import shop_settings
from streams.cli import cli
from streams.config import load_settings
from streams.settings import Settings
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread
from tests.streams.spine import fresh_topics, read_topic


def values(settings: Settings, topic: str) -> list[Any]:
    """The events of a topic, partition by partition."""
    return [json.loads(message.value()) for message in read_topic(settings, topic)]


@pytest.mark.kafka
def test_the_shop_shows_what_the_worker_publishes(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap)
    kernel = warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)
    options = ["simulate", "--products", "5", "--days", "1", "--seed", "4", "--json"]
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
        "PRICEMAKER_WORKER__ID": settings.worker.id,
    }
    with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate):
        arguments = [*options, "--to-kafka", "--closed-loop"]
        result = CliRunner().invoke(cli, arguments, env=environment)
    assert result.exit_code == 0, result.output
    latest, products = values(settings, "prices-latest"), values(settings, "products")
    published = {(move["sku"], move["price_minor"]) for move in latest}
    applied = [event for event in products if event["type"] == "price_applied"]
    shown = [(event["sku"], event["price_minor"]) for event in applied]
    catalogue = Shop(4, settings=shop_settings("shop", products=5)).catalogue
    listed = set(zip(catalogue.skus, catalogue.list_price_minor.tolist(), strict=True))
    assert len(shown) >= 5
    assert set(shown) <= published | listed
    assert set(shown) & (published - listed)
    ticks = {event["event_time"] for event in values(settings, "controls")}
    assert {f"2025-01-06T{hour:02d}:00:00.000Z" for hour in range(1, 24)} <= ticks
