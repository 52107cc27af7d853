"""The gateway as it runs: uvicorn, real Kafka, event streams, clients that are slow or many."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from schemas.events import Scope
from schemas.outputs import PriceDecided
from schemas.topics import PRICES, PRICES_LATEST
from streams.controls import controls
from streams.edge.price import Price
from streams.gateway.serve import GatewayServer
from streams.gateway.standard import standard_parts
from streams.kafka import admin
from streams.kafka.feeder import Feeder
from streams.kafka.kafka_settings import pricer_producer_config, topic_name
from streams.settings import Settings
from tests.streams.gateway_app import DESK, ShownPrices, price, record
from tests.streams.spine import ROOT, fresh_topics, new_prefix, settings_for, wait_until

WAIT_S = 60.0
BROKER = ROOT / "infra" / "kafka" / "broker"
GOLDEN = Path(__file__).parent / "golden" / "decision.json"
BATCH_BYTES = 40_000
BUFFERS_BYTES = 32 * 1024 * 1024  # more than any buffer on the way holds


def publish(settings: Settings, *prices: Price) -> None:
    """Prices as the pricer writes them: in one transaction."""
    producer = Producer(pricer_producer_config(settings, 0))
    producer.init_transactions()
    producer.begin_transaction()
    name = topic_name(settings, PRICES_LATEST.name)
    for one in prices:
        producer.produce(name, key=one.sku, value=msgspec.json.encode(one))
    producer.commit_transaction()


@contextmanager
def serving(settings: Settings, *parts: Any, **gateway: Any) -> Iterator[httpx.Client]:
    """A client of a gateway on a free port, once it is ready."""
    section = settings.gateway.model_copy(update={"port": 0, **gateway})
    settings = settings.model_copy(update={"gateway": section})
    with (
        GatewayServer(settings, parts or standard_parts(settings)) as server,
        httpx.Client(base_url=server.url, timeout=WAIT_S) as client,
    ):
        wait_until(lambda: client.get("/readyz").status_code == 200, WAIT_S)
        yield client


@contextmanager
def events(client: httpx.Client, path: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, each as its fields."""
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield fields_of(answer.iter_lines())


def fields_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    for line in lines:
        if line.startswith((":", "retry:")):
            continue
        if line:
            name, _, value = line.partition(": ")
            found[name] = msgspec.json.decode(value) if name == "data" else value
        elif found:
            yield found
            found = {}


def only(stream: Iterator[dict[str, Any]], event: str) -> Iterator[dict[str, Any]]:
    """The events of one kind."""
    return (one for one in stream if one["event"] == event)


def told(stream: Iterator[dict[str, Any]], count: int) -> list[tuple[str, str, int]]:
    found = [next(stream) for _ in range(count)]
    return [(one["event"], one["data"]["sku"], one["data"]["version"]) for one in found]


def test_from_a_committed_decision_to_price_feed_and_stream(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap)
    publish(settings, price("A", 1), price("B", 1))
    with serving(settings) as client:
        both = client.get("/v1/prices", params={"sku": ["A", "B"]}).json()
        assert [one["version"] for one in both["prices"]] == [1, 1]
        with events(client, f"/v1/prices/stream?cursor={both['cursor']}") as stream:
            publish(settings, price("A", 2))
            first = next(stream)
            assert (first["event"], first["data"]) == ("price", msgspec.to_builtins(price("A", 2)))
        publish(settings, price("A", 3), price("B", 2))
        resumed = {"Last-Event-ID": first["id"]}
        with events(client, "/v1/prices/stream", **resumed) as stream:
            assert sorted(told(stream, 2)) == [("price", "A", 3), ("price", "B", 2)]
        assert client.get("/v1/prices/A").json()["version"] == 3
        cursor = client.get("/v1/feed.json", params={"since": both["cursor"]}).json()["cursor"]
        before = client.get("/v1/feed.csv").content
    publish(settings, price("B", 3))
    with serving(settings) as client:  # another process, later: the cursor holds
        changed = client.get("/v1/feed.json", params={"since": cursor}).json()
        assert [(one["sku"], one["version"]) for one in changed["prices"]] == [("B", 3)]
        after = client.get("/v1/feed.csv").content
        assert sorted(before.splitlines())[:1] == sorted(after.splitlines())[:1]
    other = fresh_topics(kafka_bootstrap)
    with serving(other) as client:  # topics that were made anew
        stale = client.get("/v1/feed.json", params={"since": cursor})
        assert (stale.status_code, stale.json()["error"]["code"]) == (410, "stale_cursor")
        with events(client, f"/v1/prices/stream?cursor={cursor}") as stream:
            assert next(stream)["event"] == "reset"


def test_a_stream_narrowed_to_some_products() -> None:
    prices = ShownPrices([record(0, price("A", 1)), record(1, price("B", 1))])
    with serving(Settings(), prices) as client:
        path = "/v1/prices/stream?sku=B&cursor=abc123"
        with events(client, path) as stream:
            assert told(stream, 1) == [("price", "B", 1)]
            push(prices, record(2, price("A", 2)))
            push(prices, record(3, price("B", 2)))
            assert told(stream, 1) == [("price", "B", 2)]


def push(prices: ShownPrices, *records: Any) -> None:
    """What the follower does, from a thread."""
    done = threading.Event()

    def take() -> None:
        prices.take(*records)
        done.set()

    prices.running.loop.call_soon_threadsafe(take)
    assert done.wait(WAIT_S)


def test_a_slow_client_gets_the_last_price_and_holds_nobody_up() -> None:
    """It reads nothing while prices change thousands of times; then it reads the last of each."""
    prices = ShownPrices()
    with serving(Settings(), prices) as client:
        slow = raw_stream(client)
        with events(client, "/v1/prices/stream") as stream:
            wait_until(lambda: prices.running.streams.open == 2, WAIT_S)
            version = 0
            while version * BATCH_BYTES < BUFFERS_BYTES:
                for _ in range(20):
                    version += 1
                    shown = [price(f"S{n}", version, price_id="x" * 4000) for n in range(10)]
                    push(prices, *[record(10 * version + n, one) for n, one in enumerate(shown)])
                while max(one[2] for one in told(stream, 10)) < version:
                    pass
            seen = versions_until(slow, version)
            for sku, found in seen.items():
                assert found == sorted(found), sku
                assert found[-1] == version
            assert sum(map(len, seen.values())) < 10 * version
        slow.close()


def raw_stream(client: httpx.Client) -> socket.socket:
    """A stream's socket with small buffers, of which nothing is read by itself."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect((client.base_url.host, client.base_url.port))
    found.sendall(b"GET /v1/prices/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    found.settimeout(WAIT_S)
    return found


def versions_until(slow: socket.socket, version: int) -> dict[str, list[int]]:
    """Versions by SKU as they come, until the given one of each has come."""
    found: dict[str, list[int]] = {}
    text = ""
    while len(found) < 10 or any(one[-1] < version for one in found.values()):
        text += slow.recv(1 << 20).decode()
        *lines, text = text.split("\n")
        for line in lines:
            if line.startswith("data: "):
                shown = msgspec.json.decode(line[6:], type=Price)
                found.setdefault(shown.sku, []).append(shown.version)
    return found


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    """Its connection is dropped, not closed: closing waits until it has taken what is buffered."""
    prices = ShownPrices()
    gateway = {"port": 0, "stream_blocked_s": 0.2}
    with GatewayServer(Settings(gateway=gateway), [prices]) as server:
        slow = raw_stream(httpx.Client(base_url=server.url))
        wait_until(lambda: prices.running.streams.open == 1, WAIT_S)
        version = 0
        while not prices.running.streams.cut_off:
            version += 1
            shown = [price(f"S{n}", version, price_id="x" * 4000) for n in range(100)]
            push(prices, *[record(100 * version + n, one) for n, one in enumerate(shown)])
        wait_until(lambda: not server._server.server_state.connections, WAIT_S)
        assert prices.running.streams.open == 0
        slow.close()


def test_as_many_streams_as_may_be() -> None:
    with (
        serving(Settings(), ShownPrices(), streams_max=1) as client,
        events(client, "/v1/prices/stream"),
    ):
        refused = client.get("/v1/prices/stream")
        told = refused.json()["error"]["code"]
        assert (refused.status_code, told) == (503, "too_many_streams")
        assert refused.headers["retry-after"] == "10"


def test_the_end_of_the_gateway_ends_its_streams() -> None:
    prices = ShownPrices()
    with serving(Settings(), prices) as client:
        slow = raw_stream(client)
        wait_until(lambda: prices.running.streams.open == 1, WAIT_S)
    text = b""
    while part := slow.recv(1 << 16):
        text += part
    assert b": the gateway ends" in text
    slow.close()


def steer(client: httpx.Client, on: bool) -> None:
    body = {"on": on, "reason": "drill"}
    answer = client.post("/v1/desk/kill-switch", json=body, headers=DESK)
    assert answer.status_code == 200, answer.text


def test_while_the_kill_switch_is_on_no_price_moves_here(kafka_bootstrap: str) -> None:
    """Thrown by HTTP, through `controls`; once it is released prices go on where they were."""
    settings = fresh_topics(kafka_bootstrap)
    publish(settings, price("A", 1))
    with (
        serving(settings) as client,
        events(client, "/v1/prices/stream") as stream,
        events(client, "/v1/desk/stream") as desk,
    ):
        steer(client, on=True)
        for one in (next(stream), next(only(desk, "switch"))):
            thrown = {name: one["data"][name] for name in ("on", "actor", "reason")}
            assert (one["event"], thrown) == (
                "switch", {"on": True, "actor": "local", "reason": "drill"},
            )  # fmt: skip
        publish(settings, price("A", 2), price("B", 1))
        steer(client, on=True)  # what follows on controls is read after the prices
        assert next(stream)["event"] == "switch"
        answer = client.get("/v1/prices/A")
        assert (answer.json()["version"], answer.headers["x-kill-switch"]) == (1, "on")
        assert client.get("/v1/prices/B").status_code == 404
        with events(client, "/v1/prices/stream") as late:
            assert next(late)["data"]["on"] is True
        steer(client, on=False)
        assert next(stream)["data"]["on"] is False
        assert sorted(told(stream, 2)) == [("price", "A", 2), ("price", "B", 1)]
        assert client.get("/v1/prices/A").headers["x-kill-switch"] == "off"
    publish(settings, price("A", 3))
    with serving(settings) as client:  # it starts while the switch is off again
        assert client.get("/v1/prices/A").json()["version"] == 3


def test_a_gateway_that_starts_while_the_switch_is_on_knows_it(kafka_bootstrap: str) -> None:
    settings = fresh_topics(kafka_bootstrap)
    publish(settings, price("A", 1))
    event = controls.command_event("kill_switch_on", Scope("catalogue"), "kim", "drill")
    controls.send(settings, event)
    with serving(settings) as client:
        answer = client.get("/v1/prices/A")
        assert (answer.json()["version"], answer.headers["x-kill-switch"]) == (1, "on")
        assert client.get("/v1/desk/breakers").json()["switch"]["actor"] == "kim"


def test_the_desk_on_real_topics(kafka_bootstrap: str) -> None:
    """Rows come with decisions, from before the start and after; only so many are read back."""
    settings = fresh_topics(kafka_bootstrap)
    golden = msgspec.json.decode(GOLDEN.read_bytes(), type=PriceDecided)

    def decided(sku: str, *versions: int) -> None:
        values = [msgspec.structs.replace(golden, sku=sku, version=one) for one in versions]
        Feeder(settings).feed([(PRICES.name, msgspec.json.encode(one)) for one in values])

    decided("A", *range(1, 1501))
    decided("B", 1)
    with serving(settings, board_records=1000) as client:
        rows = client.get("/v1/desk/catalogue").json()
        version, sku = rows["columns"].index("version"), rows["columns"].index("sku")
        assert sorted((row[sku], row[version]) for row in rows["rows"]) == [("A", 1500), ("B", 1)]
        history = client.get("/v1/desk/products/A").json()["history"]
        assert [one["version"] for one in history] == list(range(1251, 1501))
        with events(client, f"/v1/desk/stream?cursor={rows['cursor']}") as stream:
            decided("B", 2)
            row = next(only(stream, "row"))["data"]
            assert (row[sku], row[version]) == ("B", 2)
        with events(client, "/v1/desk/stream?cursor=other-1") as stream:
            assert next(stream)["event"] == "reset"


@pytest.mark.kafka
def test_while_the_broker_is_away_prices_are_served_with_their_age(tmp_path: Path) -> None:
    place = ["--data", str(tmp_path)]
    try:
        settings = settings_for(broker("start", "--port", "0", *place), new_prefix())
        admin.create_topics(settings, partitions=1)
        publish(settings, price("A", 1))
        with serving(settings) as client, events(client, "/v1/prices/stream") as stream:
            broker("stop", *place, "--kill")
            wait_until(lambda: "prices" in client.get("/readyz").json()["degraded"], WAIT_S)
            answer, ready = client.get("/v1/prices/A"), client.get("/readyz")
            since = answer.headers["x-as-of"]
            assert (answer.json()["version"], ready.status_code) == (1, 200)
            told = f"Kafka does not answer; prices are as of {since}"
            assert ready.json()["degraded"]["prices"] == told
            broker("start", *place)
            Feeder(settings).feed([(PRICES_LATEST.name, msgspec.json.encode(price("A", 2)))])
            assert next(stream)["data"]["version"] == 2
            wait_until(lambda: "prices" not in client.get("/readyz").json()["degraded"], WAIT_S)
            assert client.get("/v1/prices/A").headers["x-as-of"] > since
    finally:
        broker("stop", *place, "--kill")


def broker(verb: str, *arguments: str) -> str:
    """What the broker's script says."""
    done = subprocess.run([BROKER, verb, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
