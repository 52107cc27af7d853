"""The worker end to end, against agents that only decode the same messages, in one run.

    python -m benchmarks.worker [--events N] [--products N] [--rounds N] [--bootstrap HOST:PORT]

A simulated shop's events lie in the source topics (4 partitions each) when the clock starts. Ours
is one process with everything on: intake, tape, pricer with the real models and one transaction
per batch, prices. The clock stops when the last tape record's effects are committed. The baselines
are in ``benchmarks.stock_agents``. Each round runs all of them on the same messages; the ratios are
medians over rounds of ours over a baseline, by the clock and by CPU time (all threads), which a
busy machine disturbs less. Without --bootstrap it starts a broker of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from models.simulator.simulator import Shop
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_truth import ShopSettings
from schemas.topics import SOURCES
from streams.kafka import admin
from streams.kafka.feeder import Feeder
from streams.logs import configure_logging
from streams.tape.event_files import SourceRecord
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread

IDLE_S = 600.0
BASELINES = ("stock", "stock-uvloop", "chunks")
PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "jax", "numpy")


def shop_events(products: int, events: int) -> list[SourceRecord]:
    """A shop's listings, then its first events."""
    shop = Shop(1, settings=ShopSettings(products=products))
    habit = CostPlusHabit(shop, 1)
    found: list[SourceRecord] = []
    while len(found) < events:
        found += shop.step(habit.prices())
    return found[:events]


def run_worker(bootstrap: str, prefix: str, cache: Path) -> None:
    """The child process: one worker until all is done; prints one JSON line."""
    configure_logging("warning")
    chosen = harness.settings(bootstrap, prefix, cache)
    engines = PricingEngines(warm_kernel(cache))
    thread = WorkerThread(chosen, engines, gate=publisher_gate)
    with thread:
        harness.until_started(thread)
        before = _sources_done(thread)
        started, cpu = time.perf_counter(), time.process_time()
        if not thread.progress.wait_idle(IDLE_S):
            raise SystemExit(f"not done in {IDLE_S:.0f} s: {thread.progress.offsets()}")
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        done = _sources_done(thread) - before
        tape = sum(n for (topic, _), n in thread.progress.offsets().items() if topic == "tape")
        ends = thread.progress.end_offsets(["prices"])
    print(
        json.dumps(
            {"records": done, "seconds": seconds, "cpu_seconds": cpu, "tape_records": tape}
            | {"prices_end": sum(ends.values())}
        )
    )


def _sources_done(thread: WorkerThread) -> int:
    sources = {topic.name for topic in SOURCES}
    return sum(n for (topic, _), n in thread.progress.offsets().items() if topic in sources)


def child(module: str, *arguments: str) -> dict[str, Any]:
    """Run a measuring process; its last line of output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE, text=True, cwd=harness.ROOT, timeout=IDLE_S, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {
        "events_per_s": round(found["records"] / found["seconds"]),
        "events_per_cpu_s": round(found["records"] / found["cpu_seconds"]),
    }


def measure(bootstrap: str, events: int, products: int, rounds: int) -> dict[str, Any]:
    """All rounds, and the ratios."""
    records = shop_events(products, events)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], **{kind: [] for kind in BASELINES}}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        warm_kernel(cache)
        for number in range(rounds):
            prefix = harness.new_prefix()
            chosen = harness.settings(bootstrap, prefix, cache)
            admin.create_topics(chosen, partitions=harness.PARTITIONS)
            Feeder(chosen).feed(records)
            for kind in BASELINES:
                arguments = (kind, bootstrap, prefix, str(len(records)))
                found[kind].append(child("benchmarks.stock_agents", *arguments))
                _say(number, kind, found[kind][-1])
            found["ours"].append(
                child("benchmarks.worker", "--child", prefix, "--bootstrap", bootstrap,
                      "--cache", str(cache))
            )  # fmt: skip
            _say(number, "ours", found["ours"][-1])
    return {
        "events": len(records),
        "products": products,
        "partitions": harness.PARTITIONS,
        "ratio_to_stock": _ratio(found, "stock"),
        "ratio_to_stock_uvloop": _ratio(found, "stock-uvloop"),
        "ratio_to_empty_chunked_agent": _ratio(found, "chunks"),
        "cpu_ratio_to_stock": _ratio(found, "stock", "events_per_cpu_s"),
        "cpu_ratio_to_stock_uvloop": _ratio(found, "stock-uvloop", "events_per_cpu_s"),
        "rounds": found,
    }


def _ratio(
    found: dict[str, list[dict[str, Any]]], baseline: str, figure: str = "events_per_s"
) -> float:
    pairs = zip(found["ours"], found[baseline], strict=True)
    return round(statistics.median(a[figure] / b[figure] for a, b in pairs), 2)


def _say(number: int, kind: str, result: dict[str, Any]) -> None:
    print(f"round {number + 1} {kind}: {result['events_per_s']:,} events/s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--products", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bootstrap")
    parser.add_argument("--child", metavar="PREFIX", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        run_worker(chosen.bootstrap, chosen.child, chosen.cache)
        return
    where = harness.machine(*PACKAGES)
    with harness.broker(chosen.bootstrap) as bootstrap:
        result = measure(bootstrap, chosen.events, chosen.products, chosen.rounds)
    harness.write_result("worker", {**result, **where})


if __name__ == "__main__":
    main()
