"""50,000 decisions through projector, event stream and webhooks, and faults on the way.

What each consumer was told is recorded as it came. Redis is flushed twice, the event stream is cut
and resumed, one webhook endpoint fails half of the time: no version goes backward anywhere, and the
end is what ``prices-latest`` says.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
import redis

from streams.edge.projector import Projector
from streams.gateway.prices import Prices
from streams.gateway.serve import GatewayServer
from streams.gateway.switch import Switch
from streams.settings import Settings
from streams.webhooks.part import WebhooksPart
from tests.streams.edge_feed import Pricer, edge_topics, own_redis, price, with_redis
from tests.streams.spine import read_topic, wait_until
from tests.streams.webhook_receiver import Answer, Receiver, with_endpoints

SEED = 7
DECISIONS = 50_000
SKUS = 1_500
CHUNKS = 80  # transactions; the next begins when the projector has read the last
FLUSH_AFTER = (25, 55)
REPEATED, OLDER = 0.04, 0.04  # shares of records that are no news, as after a rebuild

FLUSHED = ("NOGROUP", "UNBLOCKED")  # how Redis says that the stream is gone

Shown = dict[str, tuple[int, int]]  # SKU -> version, price


def decisions(draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Records of ``prices-latest``: mostly the next version, now and then one that is no news."""
    versions: dict[str, int] = defaultdict(int)
    for _ in range(DECISIONS):
        sku, kind = f"SKU-{draw.randrange(SKUS):04d}", draw.random()
        version = versions[sku]
        if version and kind < REPEATED + OLDER:
            told = version if kind < REPEATED else draw.randint(1, version)
        else:
            told = versions[sku] = version + 1
        yield sku, price(sku, told)


def truth(settings: Settings) -> Shown:
    """The effective price of each product by the topic itself."""
    found: Shown = {}
    for message in read_topic(settings, "prices-latest"):
        body = orjson.loads(message.value())
        if body["version"] > found.get(body["sku"], (0, 0))[0]:
            found[body["sku"]] = (body["version"], body["price_minor"])
    return found


class Seen:
    """What a consumer was told, raw: the last of each product, and every step backward."""

    def __init__(self) -> None:
        self.shown: Shown = {}
        self.backward: list[tuple[str, int, int]] = []

    def tell(self, sku: str, version: int, price_minor: int) -> None:
        before = self.shown.get(sku, (0, 0))[0]
        if version < before:
            self.backward.append((sku, before, version))
        self.shown[sku] = (version, price_minor)


@contextmanager
def beside(*steps: Callable[[], object]) -> Iterator[None]:
    """Repeat each step in a thread of its own during the block; what one raises fails the test."""
    ending = threading.Event()
    errors: list[BaseException] = []

    def repeat(step: Callable[[], object]) -> None:
        try:
            while not ending.is_set():
                step()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert errors == []


@contextmanager
def in_thread(projector: Projector) -> Iterator[None]:
    """Run it during the block."""
    thread = threading.Thread(target=projector.run)
    thread.start()
    try:
        yield
    finally:
        projector.stop()
        thread.join()


class Shop:
    """Reads the hashes, all again and again, and the changes by a consumer group."""

    GROUP, ME = "shop", "shop-1"

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.hashes, self.changes = Seen(), Seen()
        self._client, self._price = client, f"{prefix}price:"
        self._stream = f"{prefix}price-changes"
        self._keys = [f"{self._price}SKU-{number:04d}" for number in range(SKUS)]

    def look(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key in self._keys:
            pipeline.hmget(key, "version", "price_minor")
        for key, (version, price_minor) in zip(self._keys, pipeline.execute(), strict=True):
            if version is not None:
                self.hashes.tell(key.removeprefix(self._price), int(version), int(price_minor))

    def read(self) -> None:
        try:
            answer: Any = self._client.xreadgroup(
                self.GROUP, self.ME, {self._stream: ">"}, count=1000, block=50
            )
        except redis.ResponseError as error:
            if not str(error).startswith(FLUSHED):
                raise
            self.join()
            return
        for _, entries in answer or ():
            for entry, fields in entries:
                self.changes.tell(fields["sku"], int(fields["version"]), int(fields["price_minor"]))
                self._client.xack(self._stream, self.GROUP, entry)

    def join(self) -> None:
        """From the stream's beginning: after a flush everything in it is new."""
        self._client.xgroup_create(self._stream, self.GROUP, id="0", mkstream=True)


class Subscriber:
    """Reads the event stream; every so many events it is cut off and resumes at its last id."""

    CUT_AFTER = 2_000

    def __init__(self, url: str, cursor: str) -> None:
        self.seen, self.cuts = Seen(), 0
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(5.0, read=0.5))
        self._last = cursor

    def read(self) -> None:
        headers = {"last-event-id": self._last}
        count, kind, event_id = 0, "", None
        try:
            with self._client.stream("GET", "/v1/prices/stream", headers=headers) as answer:
                assert answer.status_code == 200
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        event_id = value
                    elif name == "data" and kind == "price":
                        body = orjson.loads(value)
                        self.seen.tell(body["sku"], body["version"], body["price_minor"])
                        count += 1
                    elif not line and event_id is not None:
                        self._last = event_id
                        if count >= self.CUT_AFTER:
                            self.cuts += 1
                            return
        except httpx.ReadTimeout:
            return  # nothing came for a while: the caller looks whether that is all


class Told(NamedTuple):
    """What a receiver of webhooks saw, of calls that it accepted and of all."""

    accepted: Seen
    all: Seen


def told(receiver: Receiver) -> Told:
    found = Told(Seen(), Seen())
    for call in receiver.calls:
        for one in call.body["data"]["prices"]:
            fields = (one["sku"], one["version"], one["price_minor"])
            found.all.tell(*fields)
            if call.answer.status < 300:
                found.accepted.tell(*fields)
    return found


@pytest.mark.kafka
@pytest.mark.redis
def test_every_consumer_ends_at_prices_latest(kafka_bootstrap: str, tmp_path: Path) -> None:
    draw, fails = random.Random(SEED), random.Random(SEED + 1)
    records = list(decisions(draw))
    with (
        own_redis(tmp_path) as server,
        Receiver() as steady,
        Receiver(script=lambda _: Answer(500 if fails.random() < 0.5 else 200)) as failing,
    ):
        settings = with_endpoints(
            with_redis(edge_topics(kafka_bootstrap), server.url, timeout_s=5.0),
            {"url": steady.url, "prices_max": 200},
            {"name": "failing", "url": failing.url, "prices_max": 200},
            dead_after_s=600.0,
        )
        settings = settings.model_copy(
            update={"gateway": settings.gateway.model_copy(update={"port": 0})}
        )
        pricer, client = Pricer(settings), server.client()
        shop = Shop(server.client(), settings.redis.prefix)
        shop.join()
        projector, switch = Projector(settings), Switch(settings)
        parts = [switch, Prices(settings, switch), WebhooksPart(settings, switch)]
        with in_thread(projector), GatewayServer(settings, parts) as gateway:
            ready = httpx.Client(base_url=gateway.url)
            wait_until(lambda: ready.get("/readyz").status_code == 200, "the gateway is ready")
            begin = ready.get("/v1/feed.json").json()["cursor"]
            subscriber = Subscriber(gateway.url, begin)
            with beside(shop.look, shop.read, subscriber.read):
                size = DECISIONS // CHUNKS
                for chunk in range(CHUNKS):
                    before = projector.summary.records
                    pricer.publish(records[chunk * size : (chunk + 1) * size])
                    wait_until(lambda: projector.summary.records > before, "it goes on")  # noqa: B023
                    if chunk in FLUSH_AFTER:
                        client.flushdb()
                final = truth(settings)
                consumers = {
                    "hashes": lambda: shop.hashes.shown,
                    "changes": lambda: shop.changes.shown,
                    "stream": lambda: subscriber.seen.shown,
                    "webhook": lambda: told(steady).accepted.shown,
                    "failing webhook": lambda: told(failing).accepted.shown,
                }
                for name, shown in consumers.items():
                    wait_until(lambda: shown() == final, name)  # noqa: B023
                served = orjson.loads(ready.get("/v1/feed.json").content)["prices"]
            assert {one["sku"]: (one["version"], one["price_minor"]) for one in served} == final
        recorded = [shop.hashes, shop.changes, subscriber.seen, told(steady).all, told(failing).all]
        assert [one.backward for one in recorded] == [[], [], [], [], []]
        assert (len(final), subscriber.cuts > 0) == (SKUS, True)
        assert projector.summary.rebuilds == len(FLUSH_AFTER)
        assert (steady.refused, failing.refused) == (0, 0)
        answers = [call.answer.status for call in failing.calls]
        assert 0.3 < answers.count(500) / len(answers) < 0.7
