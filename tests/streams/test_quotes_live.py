"""Quotes on real servers: the copy of the state from Kafka, warm products in Redis, the gateway."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from models.fold.engine import Batch
from models.kernel.tile import Kernel
from models.quotes.full import Found, answers
from models.quotes.warm import Kept
from schemas.errors import ServiceError
from schemas.quotes import QuoteRequest
from schemas.topics import STATE
from streams.config import load_settings
from streams.gateway.reckoner import Reckoner
from streams.gateway.serve import GatewayServer
from streams.gateway.switch import Switch
from streams.kafka.kafka_settings import pricer_producer_config, topic_name
from streams.quotes.circuit import FAILURES_MAX
from streams.quotes.in_force import PricesInForce
from streams.quotes.part import Quotes
from streams.quotes.replica import Replica
from streams.quotes.warm_store import AWAY, RedisWarmStore
from streams.settings import Settings
from streams.worker.engines import warm_kernel
from tests.models.tapes import Partition, at, seen
from tests.models.test_decisions import believe, orders
from tests.models.test_quotes import Shop, established
from tests.streams.gateway_app import DESK
from tests.streams.spine import fresh_topics, wait_until


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


# -- Kafka


class Pricer:
    """Writes what an engine's batches lead to, as the worker does: a transaction each."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.producer = Producer(pricer_producer_config(settings, 0))
        self.producer.init_transactions()

    def commit(self, batch: Batch, *, abort: bool = False) -> None:
        self.producer.begin_transaction()
        for output in batch.outputs:
            self.producer.produce(topic_name(self.settings, output.topic), output.value, output.key)
        for key, value in batch.state:
            self.producer.produce(topic_name(self.settings, STATE.name), value, key, 0)
        if abort:
            assert self.producer.flush(30) == 0
            self.producer.abort_transaction()
        else:
            self.producer.commit_transaction()


class Live:
    """A product's shop whose every batch is committed."""

    def __init__(self, kernel: Kernel, settings: Settings) -> None:
        self.pricer = Pricer(settings)
        self.shop = Shop(Partition(kernel))
        self.batches: list[Batch] = []
        apply = self.shop.partition.engine.apply

        def noted(*args: Any, **kwargs: Any) -> Batch:
            self.batches.append(apply(*args, **kwargs))
            return self.batches[-1]

        self.shop.partition.engine.apply = noted  # type: ignore[method-assign]
        believe(self.shop.partition, -2.6, 0.05)
        self.send("product_listed", at())
        orders(self.shop.partition, 0.1, 30, 0.1)
        self.send("clock_ticked", at(days=1))

    def send(self, kind: str, at_ms: int, **fields: Any) -> None:
        self.shop.send(kind, at_ms, **fields)
        self.commit()

    def commit(self) -> None:
        for batch in self.batches:
            self.shop.note(seen(batch))
            self.pricer.commit(batch)
        self.batches.clear()

    @property
    def records(self) -> list[tuple[bytes, bytes]]:
        return self.shop.partition.engine.state.all_records()


@pytest.mark.kafka
def test_the_copy_follows_what_was_committed_and_nothing_else(
    kernel: Kernel, kafka_bootstrap: str
) -> None:
    settings = fresh_topics(kafka_bootstrap)
    live = Live(kernel, settings)
    replica = Replica(settings, kernel.fingerprint)
    with pytest.raises(ServiceError, match="not ready"):
        replica.check()
    replica.load()
    in_force = PricesInForce(settings).start()
    try:
        wait_until(lambda: replica.states[0].manifest.position >= 0, "the copy")
        assert replica.states[0].all_records() == live.records
        for day in range(2, 5):
            live.send("clock_ticked", at(days=day))
        position = live.shop.partition.engine.position
        wait_until(lambda: replica.states[0].manifest.position == position, "the next cuts")
        assert replica.states[0].all_records() == live.records
        wait_until(lambda: in_force("A") == live.shop.in_force["A"], "the price")
        wait_until(lambda: in_force._follower.caught_up.is_set(), "the end of the prices")
        in_force.check()
        wanted = live.shop.wanted(unit_cost_minor=520)
        of_copy = wanted._replace(partition=replica.states[0], in_force=in_force("A"))
        assert answers(kernel, [of_copy]) == answers(kernel, [wanted])

        before, price = live.records, live.shop.in_force["A"]
        live.shop.send("inventory_changed", at(days=4, hours=1), on_hand=3)
        live.pricer.commit(live.batches.pop(), abort=True)
        live.pricer.commit(Batch([], [(b"manifest", before[-1][1])], position))  # and the end of it
        assert in_force("A") == price
        assert replica.states[0].all_records() == before
        with_stock = replica.stamp_of("A")
        assert with_stock is not None
        assert with_stock[0].on_hand is None
    finally:
        in_force.close()
        replica.close()


# -- Redis


def redis_settings(url: str) -> Settings:
    return Settings(redis={"url": url, "prefix": f"quotes-{uuid.uuid4().hex[:8]}:"})


@asynccontextmanager
async def store_of(settings: Settings) -> AsyncIterator[RedisWarmStore]:
    store = RedisWarmStore(settings, timeout_s=5.0)
    store.open()
    try:
        yield store
    finally:
        await store.close()


async def put(store: RedisWarmStore, kept: Kept) -> None:
    store.put(kept)
    await asyncio.sleep(0)  # the loop takes it up
    await asyncio.gather(*store._writing)


@pytest.fixture(scope="module")
def kept(kernel: Kernel) -> Kept:
    found = established(kernel).kept()
    assert found is not None
    return found


def of_version(kept: Kept, version: int, as_of_ms: int = 0) -> Kept:
    basis = kept.product.basis
    stamp = msgspec.structs.replace(basis.stamp, version=version)
    basis = msgspec.structs.replace(basis, stamp=stamp, as_of_ms=as_of_ms)
    return kept._replace(product=msgspec.structs.replace(kept.product, basis=basis))


@pytest.mark.redis
def test_redis_keeps_the_newest_of_a_warm_product(redis_url: str, kept: Kept) -> None:
    async def story() -> None:
        async with store_of(redis_settings(redis_url)) as store:
            assert await store.get("A") is None
            await put(store, of_version(kept, 7, 10))
            for older in (of_version(kept, 6, 99), of_version(kept, 7, 9)):
                await put(store, older)
                assert await store.get("A") == of_version(kept, 7, 10)
            for newer in (of_version(kept, 7, 11), of_version(kept, 8, 1)):
                await put(store, newer)
                assert await store.get("A") == newer
            key = store._product_key("A")
            assert 0 < await store._client.ttl(key) <= 3600
            await store._client.hset(key, "body", b"\xc1 no MessagePack")
            assert await store.get("A") is None
            await store._client.delete(key)  # as after a flush
            assert await store.get("A") is None
            await put(store, of_version(kept, 1))
            assert await store.get("A") == of_version(kept, 1)
            assert store.why_not is None

    asyncio.run(story())


def test_redis_that_is_away_is_left_alone(unused_port: int, kept: Kept) -> None:
    async def story() -> None:
        async with store_of(redis_settings(f"redis://127.0.0.1:{unused_port}")) as store:
            for _ in range(FAILURES_MAX):
                assert not store._circuit.is_open
                assert await store.get("A") is None
                assert store.why_not == AWAY
            assert store._circuit.is_open
            await put(store, kept)  # nothing waits, nothing is raised
            assert await store.get("A") is None

    asyncio.run(story())


# -- the gateway


@pytest.fixture
def live(kernel: Kernel, kafka_bootstrap: str) -> tuple[Live, Settings]:
    settings = fresh_topics(kafka_bootstrap)
    return Live(kernel, settings), settings


@pytest.mark.kafka
@pytest.mark.redis
def test_the_gateway_quotes(
    live: tuple[Live, Settings], redis_url: str, tmp_path: Path, kernel: Kernel
) -> None:
    shop, settings = live
    (tmp_path / "none.onnx").write_bytes(b"no model")
    settings = settings.model_copy(
        update={
            "redis": redis_settings(redis_url).redis,
            "gateway": settings.gateway.model_copy(update={"port": 0}),
            "quotes": settings.quotes.model_copy(update={"model_file": tmp_path / "none.onnx"}),
        }
    )
    switch, reckoner = Switch(settings), Reckoner(lambda: kernel)
    parts = [switch, reckoner, Quotes(settings, switch, reckoner)]
    with GatewayServer(settings, parts) as server, httpx.Client(base_url=server.url) as client:
        wait_until(lambda: asked(client).status_code == 200, "quotes")
        assert asked(client).json()["tier"] == "L1"
        full = answers(kernel, [shop.shop.wanted(unit_cost_minor=520)])[0]
        assert isinstance(full, Found)
        found = asked(client, unit_cost_minor=520).json()
        assert (found["price_minor"], found["tier"]) == (full.quote.price_minor, "L3")
        wait_until(
            lambda: (
                "is no ONNX model" in str(asked(client, unit_cost_minor=521).json()["flags"])
                or asked(client, unit_cost_minor=522).json()["flags"] == []
            ),
            "a warm product",
        )
        assert asked(client, sku="Z").status_code == 404


def asked(client: httpx.Client, **question: Any) -> httpx.Response:
    request = msgspec.convert({"sku": "A"} | question, QuoteRequest)
    return client.post("/v1/quote", json=msgspec.to_builtins(request), headers=DESK)
