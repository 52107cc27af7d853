"""Peak memory of a tape repeated ten times with shifted times, against the tape once.

    python -m benchmarks.replay_memory [FILE] [--repeats N] [--products N] [--days N]

FILE is an event file, such as the one that `pricemaker ingest online-retail ... --out FILE` makes;
without it a simulated shop's is made first. It is read as a stream, again and again: each time all
dates move by the same whole number of weeks, and the ids of events and orders are other ones, so
that nothing is dropped as a repeat. Once and ten times run in processes of their own, one after the
other, with the default policy.

- peak_ratio: highest resident memory of the ten over that of the one; at most 1.5 is to be reached;
- memory_mib_after_each_tenth, and state records by kind after each tenth: what grows, if anything.

The result goes to stdout and to benchmarks/results/replay_memory.json.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.harness import machine, write_result
from benchmarks.replay import BATCH_RECORDS, TENTHS, resident_mib, simulated
from schemas.topics import PARTITIONS_DEFAULT
from streams.config import load_settings
from streams.replay.replay import Replay
from streams.replay.replay_summary import peak_memory_mib
from streams.tape.event_files import EventWriter, SourceRecord, read_events
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.worker.engines import warm_kernel

RATIO_TO_REACH = 1.5
DATE = re.compile(rb'"(\d{4}-\d\d-\d\d)T')
IDS = re.compile(rb'"(event_id|order_id)":"')
FAR_MS = 1 << 42  # year 2109: no repeat is ahead of intake's clock


def shifted(path: Path, repeat: int, days: int) -> Iterator[SourceRecord]:
    """The file's records, ``repeat`` times ``days`` later, with other ids."""
    moved: dict[bytes, bytes] = {}

    def move(found: re.Match[bytes]) -> bytes:
        day = found[1]
        if day not in moved:
            later = date.fromisoformat(day.decode()) + timedelta(days=repeat * days)
            moved[day] = b'"%bT' % later.isoformat().encode()
        return moved[day]

    other = rb'"\1":"%d-' % repeat
    for topic, value in read_events(path):
        if value is not None and repeat:
            value = IDS.sub(other, DATE.sub(move, value))
        yield topic, value


def span_days(path: Path) -> tuple[int, int]:
    """How many days a repeat is later, whole weeks; and how many records there are."""
    first, last, count = "9999", "", 0
    for _, value in read_events(path):
        count += 1
        found = DATE.search(value[value.find(b'"event_time"') :]) if value else None
        if found:
            day = found[1].decode()
            first, last = min(first, day), max(last, day)
    span = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    return -(-span // 7) * 7, count


def sizes(replay: Replay) -> dict[str, int]:
    """State records by kind."""
    found: Counter[str] = Counter()
    for engine in replay.engines:
        state = engine.state
        for name in ("skus", "members", "windows", "effects", "offers", "families"):
            found[name] += len(getattr(state, name))
        found["cohorts"] += sum(map(len, state.cohorts.values()))
        found["due"] += len(state.due)
    return dict(found)


def folded(path: Path, repeats: int, days: int, events: int, answer: Any) -> None:
    """Fold the tape in this process and send what it took."""
    kernel = warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)
    replay = Replay(kernel, PARTITIONS_DEFAULT, BATCH_RECORDS)
    builder = TapeBuilder(PARTITIONS_DEFAULT, now_ms=FAR_MS)
    memory: list[float] = []
    records: list[dict[str, int]] = []

    def tape() -> Iterator[Placed]:
        tenth = max(repeats * events // TENTHS, 1)
        read = 0
        for repeat in range(repeats):
            for topic, value in shifted(path, repeat, days):
                yield from builder.append(topic, value)
                read += 1
                if read % tenth == 0:
                    memory.append(round(resident_mib(), 1))
                    records.append(sizes(replay))

    replay.feed(tape())
    summary = replay.summary()
    answer.send(
        {
            "tape_records": summary.records,
            "refused_at_intake": builder.dead_letters,
            "duplicates": summary.duplicates,
            "decisions": summary.decisions,
            "seconds": summary.seconds,
            "peak_mib": round(peak_memory_mib(), 1),
            "memory_mib_after_each_tenth": memory,
            "state_records_after_each_tenth": records,
        }
    )


def in_a_process(*arguments: Any) -> dict[str, Any]:
    """``folded`` in a process of its own."""
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=folded, args=(*arguments, theirs))
    process.start()
    theirs.close()
    found: dict[str, Any] = mine.recv()
    process.join()
    return found


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="event file")
    parser.add_argument("--repeats", type=int, default=10, help="of the tape")
    parser.add_argument("--products", type=int, default=100, help="simulated products")
    parser.add_argument("--days", type=int, default=365, help="simulated days")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "shop.jsonl"
        if options.file is None:
            with EventWriter(path) as writer:
                for topic, value in simulated(options.products, options.days):
                    writer.write(topic, value)
        days, events = span_days(path)
        once = in_a_process(path, 1, days, events)
        often = in_a_process(path, options.repeats, days, events)
    result = {
        "source": path.name,
        "repeats": options.repeats,
        "shift_days": days,
        "peak_ratio": round(often["peak_mib"] / once["peak_mib"], 3),
        "peak_ratio_to_reach": RATIO_TO_REACH,
        "once": once,
        "repeated": often,
    }
    write_result("replay_memory", result | machine("msgspec", "jax", "numpy"))


if __name__ == "__main__":
    main()
