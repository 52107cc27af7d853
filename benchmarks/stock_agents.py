"""The baselines of the worker benchmark, each a process: agents that only decode.

    python -m benchmarks.stock_agents stock|stock-uvloop|chunks BOOTSTRAP PREFIX RECORDS

``stock`` is an unchanged Faust app with one agent per source topic that parses each message's JSON;
``stock-uvloop`` the same on uvloop; ``chunks`` parses the same messages, handed over in chunks by
our transport. Prints one JSON line: records and seconds from the first record to the last.
"""

import asyncio
import json
import logging
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import faust
import orjson
import uvloop

from benchmarks.harness import settings
from schemas.topics import SOURCES
from streams.worker.app import build_app
from streams.worker.transport import App, Chunk
from streams.worker.worker_progress import WorkerProgress


class Meter:
    """Counts records; says when the last one is there."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.count = 0
        self.started = 0.0
        self.cpu_started = 0.0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.all_there = asyncio.Event()

    def add(self, records: int) -> None:
        """So many more were decoded."""
        if not self.count:
            self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.count += records
        if self.count >= self.expected and not self.seconds:
            self.seconds = time.perf_counter() - self.started
            self.cpu_seconds = time.process_time() - self.cpu_started
            self.all_there.set()


def stock_app(bootstrap: str) -> faust.App:
    """An app as Faust's guide has it."""
    return faust.App(
        f"stock-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        store="memory://",
        datadir=tempfile.mkdtemp(),
        web_enabled=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=16_384,
    )


def chunk_app(bootstrap: str, prefix: str) -> App:
    """Our transport, without intake and pricer; a group of its own, that of the role intake."""
    chosen = settings(bootstrap, prefix, Path(tempfile.mkdtemp()))
    worker = chosen.worker.model_copy(update={"role": "intake"})
    chosen = chosen.model_copy(update={"worker": worker})

    def halt(error: BaseException) -> None:
        raise SystemExit(f"halted: {error!r}")

    progress = WorkerProgress(chosen)
    return build_app(chosen, intake=None, pricer=None, monitor=None, progress=progress, halt=halt)


def add_stock_agents(app: faust.App, prefix: str, meter: Meter) -> None:
    """One agent per source topic, a message at a time."""
    for source in SOURCES:
        topic = app.topic(f"{prefix}{source.name}", value_type=bytes, value_serializer="raw")

        async def agent(stream: Any) -> None:
            async for value in stream:
                orjson.loads(value)
                meter.add(1)

        app.agent(topic, name=f"stock-{source.name}")(agent)


def add_chunk_agents(app: App, prefix: str, meter: Meter) -> None:
    """One agent per source topic, a chunk at a time."""
    for source in SOURCES:

        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                chunk: Chunk = event.message.value
                for record in chunk.records:
                    orjson.loads(record.value)
                app.consumer.done(chunk)
                meter.add(len(chunk.records))

        app.agent(app.chunks(f"{prefix}{source.name}"), name=f"chunks-{source.name}")(agent)


async def measure(kind: str, bootstrap: str, prefix: str, records: int) -> None:
    """Run one baseline and print what it took."""
    meter = Meter(records)
    app: Any
    if kind == "chunks":
        app = chunk_app(bootstrap, prefix)
        add_chunk_agents(app, prefix, meter)
    else:
        app = stock_app(bootstrap)
        add_stock_agents(app, prefix, meter)
    await app.start()
    await meter.all_there.wait()
    result = {
        "records": meter.count,
        "seconds": meter.seconds,
        "cpu_seconds": meter.cpu_seconds,
    }
    print(json.dumps(result), flush=True)
    await app.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    kind, bootstrap, prefix, records = sys.argv[1:]
    factory = asyncio.new_event_loop if kind == "stock" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(measure(kind, bootstrap, prefix, int(records)))
