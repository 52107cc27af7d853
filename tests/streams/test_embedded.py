"""The embedded broker: a worker on it prices a small shop, with nothing to install."""

import orjson

from streams.kafka import admin
from streams.kafka.embedded import PARTITIONS, EmbeddedBroker
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import CountingFactory
from tests.streams.spine import (
    SKUS,
    Shop,
    assert_exactly_once,
    listing,
    order,
    read_topic,
    settings_for,
)

WAIT_S = 60.0


def test_a_worker_prices_a_shop_on_the_embedded_broker() -> None:
    with EmbeddedBroker() as broker:
        settings = settings_for(broker.bootstrap, "")
        assert [f.problem for f in admin.check_topics(settings, embedded=True)] == [None] * 15
        assert admin.tape_partitions(settings) == PARTITIONS
        shop = Shop(settings)
        with WorkerThread(settings, CountingFactory(), embedded=True) as worker:
            shop.send("products", (listing(sku) for sku in SKUS))
            assert worker.progress.wait_idle(WAIT_S)
            for start in range(0, 3_000, 1_000):
                shop.send("orders", (order(number) for number in range(start, start + 1_000)))
                assert worker.progress.wait_idle(WAIT_S)
            shop.send("orders", [order(1, "unlisted")])
            assert worker.progress.wait_idle(WAIT_S)
        assert [m.key() for m in read_topic(settings, "dead-letter")] == [b"unlisted"]
        last = orjson.loads(read_topic(settings, "prices")[-1].value())
        assert sorted(last) == ["event", "sku", "tape", "version"]


def test_nothing_is_lost_or_doubled_on_it() -> None:
    with EmbeddedBroker(topic_prefix="x-") as broker:
        settings = settings_for(broker.bootstrap, "x-")
        with WorkerThread(settings, CountingFactory(), embedded=True) as worker:
            shop = Shop(settings)
            shop.send("products", (listing(sku) for sku in SKUS))
            shop.send("orders", (order(number) for number in range(2_000)))
            assert worker.progress.wait_idle(WAIT_S)
        assert_exactly_once(settings, "products", "orders")
