"""The Redis feed against a plain pipeline of ``HSET`` of the same hashes, on one server.

    python -m benchmarks.redis_feed [--products N] [--versions N] [--bootstrap HOST:PORT]

Three ways take turns, three times each, on an empty Redis of the benchmark's own without
persistence; the median of each is reported. *Pipeline*: prices in memory, ``HSET`` pipelined in
batches of 100, which checks, announces and remembers nothing. *Script*: the same prices and
batches by the feed's script: version checked, hash replaced, change announced, position moved.
*Projector*: ``pricemaker projector --once`` from Kafka, without the time to connect, decoding
whole records of 4 KB; of each product only the last is written. Redis counts its own time in the
script: so long it serves nobody else.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis
from confluent_kafka import Producer

from benchmarks import harness
from schemas.topics import PRICES_LATEST
from streams.edge.price import Price
from streams.edge.projector import WRITE_MAX, Projector
from streams.edge.redis_feed import Change, Move, RedisFeed, fields_of
from streams.kafka import admin
from streams.kafka.kafka_settings import pricer_producer_config
from streams.settings import Settings

ROUNDS = 3
RECORD_BYTES = 4_000
PACKAGES = ("redis", "confluent-kafka", "msgspec")
READY_S = 10.0


def prices(products: int, versions: int) -> list[Price]:
    """Every product's first version, then every product's second, and so on."""
    return [
        Price(
            sku=f"SKU-{number:06d}",
            version=version,
            price_id=f"{number:032x}",
            price_minor=1_000 + version,
            previous_minor=999 + version,
            currency="EUR",
            status="published",
            effective_from="2026-01-01T00:00:00.000Z",
            valid_until=None,
            decided_at="2026-01-01T00:00:00.000Z",
        )
        for version in range(1, versions + 1)
        for number in range(products)
    ]


@contextmanager
def own_redis() -> Iterator[redis.Redis]:
    """A server on a socket of its own, without persistence."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis.sock"
        process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline_s = time.monotonic() + READY_S
            while not Path(path).exists():
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit("redis-server did not start")
                time.sleep(harness.POLL_S)
            yield redis.Redis.from_url(f"unix://{path}", decode_responses=True)
        finally:
            process.terminate()
            process.wait()


def batches(found: Sequence[Price]) -> Iterator[Sequence[Price]]:
    for start in range(0, len(found), WRITE_MAX):
        yield found[start : start + WRITE_MAX]


def by_pipeline(client: redis.Redis, found: Sequence[Price]) -> float:
    """Seconds."""
    began_s = time.perf_counter()
    for batch in batches(found):
        pipeline = client.pipeline(transaction=False)
        for price in batch:
            items: list[Any] = ["version", price.version, *fields_of(price)]
            pipeline.hset(f"pricemaker:price:{price.sku}", items=items)
        pipeline.execute()
    return time.perf_counter() - began_s


def by_script(client: redis.Redis, found: Sequence[Price]) -> tuple[float, float]:
    """Seconds, and milliseconds of the server's in a call, by its own count."""
    feed = RedisFeed(client, "pricemaker:", "benchmark", 100_000)
    feed.begin()
    client.config_resetstat()
    began_s, position = time.perf_counter(), 0
    for batch in batches(found):
        changes = {price.sku: Change(price.version, price) for price in batch}
        feed.write(changes, {0: Move(position, position + len(batch))})
        position += len(batch)
    seconds = time.perf_counter() - began_s
    counted = client.info("commandstats")["cmdstat_evalsha"]
    return seconds, counted["usec_per_call"] / 1_000


def publish(settings: Settings, found: Sequence[Price]) -> None:
    """Write the prices to Kafka, as long as decisions are."""
    producer = Producer(pricer_producer_config(settings, 0))
    producer.init_transactions()
    topic = f"{settings.topics.prefix}{PRICES_LATEST.name}"
    producer.begin_transaction()
    for price in found:
        body = msgspec.to_builtins(price) | {"record": ""}
        body["record"] = "x" * (RECORD_BYTES - len(msgspec.json.encode(body)))
        value = msgspec.json.encode(body)
        while True:
            try:
                producer.produce(topic, value, key=price.sku)
                break
            except BufferError:
                producer.poll(0.05)
    producer.commit_transaction()


def by_projector(settings: Settings, client: redis.Redis) -> tuple[float, int]:
    """Seconds, and how many prices were written: of several in one batch only the last is."""
    projector = Projector(settings, client=client)
    began_s = time.perf_counter()
    done = projector.run(once=True)
    return time.perf_counter() - began_s, done.accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--versions", type=int, default=3)
    parser.add_argument("--bootstrap", help="a broker; without it one of its own")
    given = parser.parse_args()
    found = prices(given.products, given.versions)
    identity = harness.machine(*PACKAGES)
    pipeline_s, script_s, projector_s = [], [], []
    server_ms: list[float] = []
    with harness.broker(given.bootstrap) as bootstrap, own_redis() as client:
        base = harness.settings(bootstrap, harness.new_prefix(), Path(tempfile.gettempdir()))
        settings = base.model_copy(
            update={"redis": base.redis.model_copy(update={"prefix": "pricemaker:"})}
        )
        admin.create_topics(settings, partitions=harness.PARTITIONS)
        publish(settings, found)
        for _ in range(ROUNDS):
            client.flushall()
            pipeline_s.append(by_pipeline(client, found))
            client.flushall()
            seconds, call_ms = by_script(client, found)
            script_s.append(seconds)
            server_ms.append(call_ms)
            client.flushall()
            seconds, accepted = by_projector(settings, client)
            projector_s.append(seconds)
        version = client.info("server")["redis_version"]
    medians = [statistics.median(one) for one in (pipeline_s, script_s, projector_s)]
    rates = [round(len(found) / seconds) for seconds in medians]
    harness.write_result(
        "redis_feed",
        {
            "machine": identity | {"redis_server": version},
            "prices": len(found),
            "batch": WRITE_MAX,
            "pipeline_prices_per_s": rates[0],
            "script_prices_per_s": rates[1],
            "projector_records_per_s": rates[2],
            "projector_prices_written": accepted,
            "script_over_pipeline": round(medians[0] / medians[1], 2),
            "projector_over_pipeline": round(medians[0] / medians[2], 2),
            "script_call_server_ms": round(statistics.median(server_ms), 2),
        },
    )


if __name__ == "__main__":
    main()
