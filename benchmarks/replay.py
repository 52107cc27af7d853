"""Replay of a year on one core, against a typed decode of the same tape, in one run.

    python -m benchmarks.replay [FILE] [--products N] [--days N] [--partitions N]

FILE is an event file, such as the one that `pricemaker ingest online-retail ... --out FILE` makes.
Without it a simulated shop's year is made first. The tape lies in memory before a clock starts.

- decode: every tape record to its typed event, by the decoder that the engine uses, nothing else;
- replay: the same records through the engine with the default policy: fold, learn, price, guard,
  breaker, gate, and the bytes and hash of every decision. No state records are written.

The ratio is the decode's time over the replay's, by CPU time (a busy machine disturbs it less)
and by the clock; of the decode, which takes turns with the replay, the fastest run counts. Resident
memory is read after each tenth of the tape, so that one can see whether it grows.

The result goes to stdout and to benchmarks/results/replay.json.
"""

import argparse
import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import machine, write_result
from models.simulator.simulator import Shop
from models.simulator.simulator_customers import DAY_MS
from models.simulator.simulator_habit import CostPlusHabit
from schemas import tape
from schemas.topics import PARTITIONS_DEFAULT
from streams import engine_build
from streams.config import load_settings
from streams.replay.replay import Replay
from streams.replay.replay_summary import PEAK_UNIT_BYTES
from streams.tape.event_files import SourceRecord, read_events
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.worker.engines import warm_kernel

RATIO_TO_REACH = 0.04
BATCH_RECORDS = 1000
TENTHS = 10
STATM = Path("/proc/self/statm")


class Spent(NamedTuple):
    """Seconds of a run."""

    wall: float
    cpu: float


def spent(run: Callable[[], object]) -> Spent:
    """Run something and measure it."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def simulated(products: int, days: int) -> Iterator[SourceRecord]:
    """The source records of a shop that prices by habit."""
    shop = Shop(1, products)
    habit = CostPlusHabit(shop, 1)
    end_ms = shop.now_ms + days * DAY_MS
    while shop.now_ms < end_ms:
        yield from shop.step(habit.prices())


def build(records: Iterator[SourceRecord], partitions: int) -> tuple[list[Placed], int]:
    """The tape, and how many source events stand on it."""
    builder = TapeBuilder(partitions)
    placed = [one for topic, value in records for one in builder.append(topic, value)]
    return placed, builder.appended


def decode(records: list[Placed]) -> None:
    """Every record to its typed event."""
    for record in records:
        tape.decode(record.value)


def resident_mib() -> float:
    """Resident memory now; where the system does not tell, its peak so far."""
    if STATM.exists():
        pages = int(STATM.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT_BYTES / 2**20


def replay(replaying: Replay, records: list[Placed]) -> list[float]:
    """Replay the tape; resident memory after each tenth of it, MiB."""
    size = -(-len(records) // TENTHS)
    memory = []
    for start in range(0, len(records), size):
        replaying.feed(records[start : start + size])
        memory.append(round(resident_mib(), 1))
    return memory


def measure(records: list[Placed], events: int, partitions: int) -> dict[str, Any]:
    """Decode, replay, decode again; the figures of both."""
    kernel = warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)
    replaying = Replay(kernel, partitions, BATCH_RECORDS)
    memory: list[float] = []
    before = spent(lambda: decode(records))
    replayed = spent(lambda: memory.extend(replay(replaying, records)))
    after = spent(lambda: decode(records))
    decoded = Spent(min(before.wall, after.wall), min(before.cpu, after.cpu))
    summary = replaying.summary()
    return {
        "tape_records": len(records),
        "events": events,
        "products": summary.products,
        "decisions": summary.decisions,
        "ratio": round(decoded.cpu / replayed.cpu, 4),
        "ratio_by_the_clock": round(decoded.wall / replayed.wall, 4),
        "ratio_to_reach": RATIO_TO_REACH,
        "replay_cpu_seconds": round(replayed.cpu, 2),
        "replay_seconds": round(replayed.wall, 2),
        "decode_cpu_seconds": round(decoded.cpu, 3),
        "decode_seconds": round(decoded.wall, 3),
        "tape_records_per_second": round(len(records) / replayed.cpu),
        "events_per_second": round(events / replayed.cpu),
        "decisions_per_second": round(summary.decisions / replayed.cpu),
        "decode_records_per_second": round(len(records) / decoded.cpu),
        "memory_mib_after_each_tenth": memory,
        "memory_last_over_first_tenth": round(memory[-1] / memory[0], 3),
        "decisions_sha256": summary.decisions_sha256,
        "engine": summary.engine,
        "engine_build": engine_build.kind(),
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="event file")
    parser.add_argument("--products", type=int, default=100, help="simulated products")
    parser.add_argument("--days", type=int, default=365, help="simulated days")
    parser.add_argument("--partitions", type=int, default=PARTITIONS_DEFAULT, help="of the tape")
    options = parser.parse_args()
    found = machine("msgspec", "jax", "numpy")
    if options.file is None:
        source = f"simulated shop, {options.products} products, {options.days} days"
        events = simulated(options.products, options.days)
    else:
        source, events = options.file.name, read_events(options.file)
    records, count = build(events, options.partitions)
    result = measure(records, count, options.partitions)
    write_result("replay", {"source": source, "partitions": options.partitions, **result, **found})


if __name__ == "__main__":
    main()
