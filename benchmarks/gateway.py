"""The gateway under load: prices over HTTP beside a bare FastAPI route, event streams, memory.

    python -m benchmarks.gateway [--products N] [--rate R] [--seconds S] [--streams N]

A real broker holds the effective price and the last decisions of N products. `pricemaker gateway`
reads them in a process of its own. *At a rate*: requests for random products (seeded) are due at
fixed times on 16 connections, and latency counts from when a request was due, so that a stall is
felt by all who wait behind it. *Flat out*: each connection asks again as soon as it is answered.
The baseline is FastAPI on the same uvicorn with one route that gives the same bytes from a
dictionary: no token, limit, header, metric or ETag. The two take turns (A B B A). *Streams*: N
clients follow all prices while one price, each time another product's, changes every 100 ms;
latency is from handing it to a Kafka producer until a client has it; beside it one client alone.
The clients share this process and the machine with the servers and the broker.
"""

import argparse
import asyncio
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn
from confluent_kafka import Producer
from fastapi import FastAPI, Response

from benchmarks.harness import ROOT, broker, machine, new_prefix, settings, write_result
from schemas.outputs import PriceDecided
from schemas.topics import PRICES, PRICES_LATEST
from streams.edge.price import Price
from streams.kafka import admin
from streams.kafka.kafka_settings import producer_config, topic_name

GOLDEN = ROOT / "tests" / "streams" / "golden" / "decision.json"
CONNECTIONS = 16
DECISIONS_EACH = 5
READY_S = 180.0
CHANGE_EVERY_S = 0.1
TURNS = ("gateway", "bare", "bare", "gateway")
HANDED = re.compile(rb'"price_id":"t(\d+)"')


def decisions(products: int) -> Iterator[tuple[str, bytes]]:
    """Decisions of all products; a golden one with other names and versions."""
    golden = msgspec.json.decode(GOLDEN.read_bytes(), type=PriceDecided)
    for version in range(1, DECISIONS_EACH + 1):
        for number in range(products):
            sku = f"SKU-{number:06d}"
            decision = msgspec.structs.replace(
                golden, sku=sku, version=version, price_id=f"0-{version}-{sku}"
            )
            yield sku, msgspec.json.encode(decision)


def fill(chosen: Any, products: int) -> None:
    """Put decisions and prices on their topics."""
    producer = Producer(producer_config(chosen))
    names = [topic_name(chosen, topic.name) for topic in (PRICES, PRICES_LATEST)]
    for sku, value in decisions(products):
        for name in names:
            while True:
                try:
                    producer.produce(name, key=sku, value=value)
                    break
                except BufferError:
                    producer.poll(0.1)
    producer.flush()


# -- the servers


@contextmanager
def served(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[Any]:
    """A server in a process of its own; gives the process and its port, once it is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=output, stderr=output, cwd=ROOT,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        yield process, _until_ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + READY_S
    port = 0
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
        found = re.search(r"127\.0\.0\.1:(\d+)", log.read_text())
        port = int(found[1]) if found else 0
        if port and asyncio.run(_status(port, "/readyz")) == 200:
            return port
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


async def _status(port: int, path: str) -> int:
    try:
        connection = await Connection.open(port)
    except OSError:
        return 0
    status = await connection.get(path)
    connection.close()
    return status


def bare(products: int) -> None:
    """The baseline: one route, a dictionary."""
    prices = {}
    for sku, value in decisions(products):
        prices[sku] = msgspec.json.encode(msgspec.json.decode(value, type=Price))
    app = FastAPI()

    @app.get("/v1/prices/{sku}")
    async def price(sku: str) -> Response:
        return Response(prices[sku], media_type="application/json")

    @app.get("/readyz")
    async def ready() -> None:
        return None

    config = uvicorn.Config(app, port=0, access_log=False, log_level="info")
    uvicorn.Server(config).run()


# -- clients


class Connection:
    """One connection that stays open; as little of HTTP as it takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str) -> int:
        """The status of the answer; its body is read."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        if found:
            await self.reader.readexactly(int(found[1]))
        return int(head[9:12])

    def close(self) -> None:
        self.writer.close()


def paths(products: int, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"/v1/prices/SKU-{number:06d}" for number in rng.integers(0, products, count)]


async def with_connections(port: int, work: Callable[[Connection], Awaitable[None]]) -> None:
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(work(one) for one in connections))
    for one in connections:
        one.close()


async def at_rate(port: int, asked: list[str], rate: float) -> list[float]:
    """Milliseconds from when each request was due until it was answered."""
    begin = time.perf_counter() + 0.5
    due = iter([(begin + number / rate, path) for number, path in enumerate(asked)])
    found: list[float] = []

    async def work(connection: Connection) -> None:
        for when, path in due:
            await asyncio.sleep(max(when - time.perf_counter(), 0.0))
            assert await connection.get(path) == 200
            found.append((time.perf_counter() - when) * 1e3)

    await with_connections(port, work)
    return found


async def flat_out(port: int, asked: list[str]) -> float:
    """Requests a second."""
    todo = iter(asked)

    async def work(connection: Connection) -> None:
        for path in todo:
            assert await connection.get(path) == 200

    began = time.perf_counter()
    await with_connections(port, work)
    return len(asked) / (time.perf_counter() - began)


async def fan_out(port: int, chosen: Any, streams: int, seconds: float) -> dict[str, Any]:
    """Latency of a change at every one of so many streams."""
    found: list[float] = []
    connections = [await Connection.open(port) for _ in range(streams)]

    async def follow(connection: Connection) -> None:
        while part := await connection.reader.read(1 << 16):
            now = time.time_ns()
            found.extend((now - int(handed)) / 1e6 for handed in HANDED.findall(part))

    for one in connections:
        one.writer.write(b"GET /v1/prices/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await one.reader.readuntil(b"\r\n\r\n")
    tasks = [asyncio.create_task(follow(one)) for one in connections]
    await asyncio.sleep(1.0)
    sent = await _change(chosen, seconds)
    await asyncio.sleep(3.0)
    for task in tasks:
        task.cancel()
    for one in connections:
        one.close()
    return {
        "streams": streams, "changes": sent, "arrived_share": len(found) / (sent * streams),
        **percentiles(found),
    }  # fmt: skip


async def _change(chosen: Any, seconds: float) -> int:
    producer = Producer({**producer_config(chosen), "linger.ms": 0})
    name = topic_name(chosen, PRICES_LATEST.name)
    golden = msgspec.json.decode(GOLDEN.read_bytes(), type=PriceDecided)
    count = int(seconds / CHANGE_EVERY_S)
    first = time.time_ns() // 1000  # versions go on rising from one run to the next
    for number in range(count):
        now = time.time_ns()
        sku = f"SKU-{number:06d}"
        decision = msgspec.structs.replace(
            golden, sku=sku, version=first + number, price_id=f"t{now}"
        )
        producer.produce(name, key=sku, value=msgspec.json.encode(decision))
        producer.poll(0)
        await asyncio.sleep(CHANGE_EVERY_S)
    producer.flush()
    return count


def percentiles(found: list[float]) -> dict[str, float]:
    return {
        "mean_ms": round(statistics.fmean(found), 2),
        "p50_ms": round(float(np.percentile(found, 50)), 2),
        "p99_ms": round(float(np.percentile(found, 99)), 2),
    }


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


# -- the run


def measure(options: argparse.Namespace, chosen: Any, folder: Path) -> dict[str, Any]:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": chosen.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": chosen.topics.prefix,
        "PRICEMAKER_GATEWAY__REQUESTS_PER_SECOND": "1000000",
        "PRICEMAKER_GATEWAY__REQUESTS_BURST": "1000000",
    }
    gateway = ["streams", "gateway", "--port", "0"]
    baseline = ["benchmarks.gateway", "--bare", "--products", str(options.products)]
    count = int(options.rate * options.seconds)
    rated: dict[str, list[float]] = {"gateway": [], "bare": []}
    flat: dict[str, list[float]] = {"gateway": [], "bare": []}
    began = time.monotonic()
    with (
        served(gateway, environment, folder / "gateway.log") as (process, port),
        served(baseline, {}, folder / "bare.log") as (_, bare_port),
    ):
        ready_s = time.monotonic() - began
        ports = {"gateway": port, "bare": bare_port}
        for seed, name in enumerate(TURNS, start=1):
            asked = paths(options.products, count, seed)
            rated[name] += asyncio.run(at_rate(ports[name], asked, options.rate))
            flat[name].append(asyncio.run(flat_out(ports[name], asked)))
        memory = memory_mb(process)
        one = asyncio.run(fan_out(port, chosen, 1, options.seconds))
        many = asyncio.run(fan_out(port, chosen, options.streams, options.seconds))
        memory_streams = memory_mb(process)
    speed = {name: round(statistics.fmean(rates), 0) for name, rates in flat.items()}
    return {
        "products": options.products,
        "at_rate": {
            "requests_per_second": options.rate,
            **{name: percentiles(found) for name, found in rated.items()},
        },
        "flat_out_requests_per_second": speed,
        "flat_out_ratio": round(speed["gateway"] / speed["bare"], 3),
        "streams": {"one": one, "many": many},
        "both_servers_ready_after_s": round(ready_s, 1),
        "memory_mb": {"products": round(memory, 1), "with_streams": round(memory_streams, 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--bootstrap", help="a broker to measure on; without it one of our own")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.products)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * options.streams)), hard))
    identity = machine("fastapi", "uvicorn", "starlette", "sse-starlette", "msgspec")
    with broker(options.bootstrap) as bootstrap, tempfile.TemporaryDirectory() as folder:
        cache = Path.home() / ".cache" / "pricemaker" / "jax"
        chosen = settings(bootstrap, new_prefix(), cache)
        admin.create_topics(chosen, partitions=4)
        fill(chosen, options.products)
        result = measure(options, chosen, Path(folder))
    write_result("gateway", {"machine": identity, **result})


if __name__ == "__main__":
    main()
