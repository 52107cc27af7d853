"""Replay of a tape by partitions in several processes, against the same replay in one.

    python -m benchmarks.replay_processes SOURCE [--processes 2] [--rounds 1] [--to-offset N]

SOURCE is best an export (`pricemaker export FILE FOLDER`), since each process then reads its own
partitions; an event file is read and checked by each of them from end to end. Runs take turns. Each
process has one thread and a core of its own; the one process is held to one core, too.

- ratio_by_the_clock: seconds of one over those of several, from when all kernels were warm;
- ratio_by_cpu: CPU seconds of the one over those of the busiest of several: what idle cores would
  give, and how evenly the partitions are dealt out;
- start_seconds: what comes before: processes, imports, kernels.

The result goes to stdout and to benchmarks/results/replay_processes.json, with the load before each
run. All runs must end with one hash.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, write_result
from streams.config import load_settings
from streams.replay.replay_conductor import Conductor, Every
from streams.replay.replay_lane import Job
from streams.replay.replay_processes import fold_in_processes
from streams.replay.replay_summary import summarise
from streams.tape.tape_selection import Selection, SourceSpec
from streams.tape.tape_sources import open_source

RATIO_TO_REACH = 1.5
BATCH_RECORDS = 1000


def run(spec: SourceSpec, processes: int) -> dict[str, Any]:
    """One replay in so many processes; also the one process is one of its own, on one core."""
    settings = load_settings(None, {})
    partitions = open_source(spec, settings).partitions
    numbers = tuple(range(partitions))
    jobs = [
        Job(spec, settings, partitions, numbers[first::processes], BATCH_RECORDS)
        for first in range(processes)
    ]
    load = os.getloadavg()[0]
    started = time.perf_counter()
    conductor = Conductor(processes, partitions, None, Every(), lambda *_: None)
    results, ready_s = fold_in_processes(jobs, conductor, lambda: False)
    ended = time.perf_counter()
    summary = summarise(
        [one for result in results for one in result.partitions],
        sum(result.records for result in results),
        ended - ready_s,
        peak_mib=sum(result.peak_mib for result in results),
    )
    return {
        "processes": processes,
        "load_1min": round(load, 2),
        "start_seconds": round(ready_s - started, 2),
        "seconds": round(ended - ready_s, 2),
        "cpu_seconds": [round(result.cpu_s, 2) for result in results],
        "records": [result.records for result in results],
        "peak_memory_mib": round(summary.peak_memory_mib, 1),
        "decisions_sha256": summary.decisions_sha256,
    }


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--to-offset", type=int, help="only so much of each partition")
    options = parser.parse_args()
    selection = Selection(to_offset=options.to_offset)
    spec = SourceSpec(source=options.source, selection=selection)
    runs = [run(spec, count) for _ in range(options.rounds) for count in (1, options.processes)]
    assert len({one["decisions_sha256"] for one in runs}) == 1
    alone = [one for one in runs if one["processes"] == 1]
    several = [one for one in runs if one["processes"] > 1]
    fastest = min(one["seconds"] for one in several)
    busiest = min(max(one["cpu_seconds"]) for one in several)
    result = {
        "source": Path(options.source).name,
        "to_offset": options.to_offset,
        "ratio_by_the_clock": round(min(one["seconds"] for one in alone) / fastest, 3),
        "ratio_by_cpu": round(min(sum(one["cpu_seconds"]) for one in alone) / busiest, 3),
        "ratio_to_reach": RATIO_TO_REACH,
        "runs": runs,
    }
    write_result("replay_processes", result | machine("msgspec", "jax", "numpy"))


if __name__ == "__main__":
    main()
