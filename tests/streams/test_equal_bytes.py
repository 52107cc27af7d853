"""One tape, one SHA-256: live on a real broker, replayed from Kafka and from exports, in batches of
any size, in one to four processes, stopped and gone on with; and another one if a byte changes.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from click.testing import CliRunner

from models.fold.context import Output
from models.kernel.tile import Kernel
from schemas import tape
from schemas.errors import EngineError
from streams.cli import cli
from streams.config import load_settings
from streams.kafka.feeder import Feeder
from streams.replay.replay import Replay
from streams.tape.event_files import SourceRecord
from streams.tape.pacing import GroupPace
from streams.tape.tape_builder import Placed
from streams.tape.tape_hash import combined_sha256
from streams.worker.engine_states import load_engines
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.worker import WorkerThread
from tests.streams import busy_shop
from tests.streams.spine import Shop, fresh_topics
from tests.streams.test_replay import HASHES, fails, run

SPLITS = 20
SPLIT_SEED = 20
AHEAD_MAX = 4_000


class Busy(NamedTuple):
    """The tape, as records and as a file, and what folding it once gave."""

    folder: Path
    records: list[Placed]
    file: Path
    refused: int
    outputs: list[Output]
    hashes: dict[str, Any]
    counts: dict[str, int]
    decisions: bytes


@pytest.fixture(scope="module")
def warm() -> Kernel:
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


@pytest.fixture(scope="module")
def source_records() -> list[SourceRecord]:
    return list(busy_shop.source_records())


@pytest.fixture(scope="module")
def busy(
    warm: Kernel, source_records: list[SourceRecord], tmp_path_factory: pytest.TempPathFactory
) -> Busy:
    folder = tmp_path_factory.mktemp("busy")
    records, refused = busy_shop.tape_records(source_records)
    file = folder / "tape.jsonl"
    write_tape(file, records)
    outputs: list[list[Output]] = [[] for _ in range(busy_shop.PARTITIONS)]
    replay = Replay(warm, busy_shop.PARTITIONS, 1000, lambda n, found: outputs[n].extend(found))
    replay.feed(records[: late_place(records)])
    replay.save(folder / "before.jsonl")
    replay.feed(records[late_place(records) :])
    document = msgspec.to_builtins(replay.summary())
    lines = [o.value + b"\n" for found in outputs for o in found if o.topic == "prices"]
    return Busy(
        folder, records, file, refused, [o for found in outputs for o in found],
        {name: document[name] for name in HASHES}, document, b"".join(lines),
    )  # fmt: skip


def late_place(records: list[Placed]) -> int:
    """Where the checkpoint is that the tape with another byte is folded from."""
    return 2 * len(records) // 3


def write_tape(path: Path, records: Iterable[Placed]) -> None:
    with path.open("wb") as file:
        for one in records:
            file.write(tape.line(tape.Position(one.partition, one.offset), one.value) + b"\n")


def hashes_of(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in HASHES}


def test_the_tape_has_what_a_tape_can_have(busy: Busy, source_records: list[SourceRecord]) -> None:
    """Else the tests below would prove little."""
    assert len(source_records) - busy.refused >= busy_shop.EVENTS_LEAST
    assert busy.refused >= 50
    records = [tape.decode(one.value) for one in busy.records]
    kinds = Counter(str(record.event.__struct_config__.tag) for record in records)
    assert set(kinds) == busy_shop.every_type()
    assert late_events(busy.records) >= 2
    assert busy.counts["duplicates"] >= 200
    assert busy.counts["breaker_trips"] >= 20
    assert min(busy.counts[name] for name in ("published", "held", "probes", "drifts")) >= 1
    decisions = [orjson.loads(line) for line in busy.decisions.splitlines()]
    assert len(decisions) == busy.counts["decisions"] >= 3_000
    assert len({decision["policy_sha256"] for decision in decisions}) == 4
    assert len({decision["prior_sha256"] for decision in decisions}) == 2
    topics = Counter(found.topic for found in busy.outputs)
    assert set(topics) == {"prices", "prices-latest", "alerts", "discounts", "dead-letter"}
    refusals = {dict(o.headers)["dl_error"] for o in busy.outputs if o.topic == "dead-letter"}
    assert refusals == {b"hash_mismatch", b"nothing_waits", b"currency_mismatch"}
    alerts = {orjson.loads(o.value)["kind"] for o in busy.outputs if o.topic == "alerts"}
    assert alerts >= {"breaker_changed", "announced_reduction", "kill_switch", "engine_changed"}


def late_events(records: list[Placed]) -> int:
    """Events a day or more behind the clock of their partition."""
    clock_ms: Counter[int] = Counter()
    late = 0
    for one in records:
        event = tape.decode(one.value).event
        if event.__struct_config__.tag == "clock_ticked":
            clock_ms[one.partition] = event.event_time_ms
        else:
            late += event.event_time_ms <= clock_ms[one.partition] - 86_400_000
    return late


@pytest.mark.parametrize(("batch", "processes"), [(7, 1), (5000, 2), (1000, 3), (1, 4)])
def test_neither_batches_nor_processes_change_a_byte(
    busy: Busy, batch: int, processes: int
) -> None:
    out = busy.folder / f"decisions-{batch}-{processes}.jsonl"
    options = ["--batch", str(batch), "--processes", str(processes), "--out", out]
    document = run(busy.file, *options)
    assert (hashes_of(document), document["processes"]) == (busy.hashes, processes)
    assert out.read_bytes() == busy.decisions


@pytest.mark.parametrize("encoding", ["parquet", "jsonl"])
def test_an_export_is_the_same_tape(busy: Busy, encoding: str) -> None:
    folder = busy.folder / encoding
    options = [str(busy.file), str(folder), "--format", encoding, "--json"]
    made = CliRunner().invoke(cli, ["export", *options])
    assert made.exit_code == 0, made.stderr
    assert hashes_of(run(folder, "--processes", "2")) == busy.hashes


def test_split_and_resumed_at_twenty_places_it_ends_the_same(busy: Busy, warm: Kernel) -> None:
    """One replay, stopped at each place and gone on with from the file of its state alone."""
    rng = random.Random(SPLIT_SEED)
    places = sorted(rng.sample(range(1, len(busy.records)), SPLITS))
    path = busy.folder / "split.jsonl"
    begin = 0
    for place in [*places, len(busy.records)]:
        replay = Replay(warm, busy_shop.PARTITIONS, rng.choice([1, 50, 1000]))
        if begin:
            replay.load(path)
        # the last record of each partition is seen again, and known
        replay.feed(busy.records[:begin][-2_000:] + busy.records[begin:place])
        assert replay.records == place - begin
        replay.save(path)
        begin = place
    assert hashes_of(msgspec.to_builtins(replay.summary())) == busy.hashes


# -- another byte


def flipped(busy: Busy, kind: bytes, field: bytes) -> tuple[list[Placed], int]:
    """The tape with the last bit of one byte turned: the first digit of a field of an event of this
    kind, two thirds down the tape, where an event is left; and where.
    """
    for index in range(late_place(busy.records), len(busy.records)):
        one = busy.records[index]
        at = one.value.find(field)
        if kind not in one.value or at < 0 or one.value == busy.records[index - 1].value:
            continue
        at += len(field)
        value = one.value[:at] + bytes([one.value[at] ^ 1]) + one.value[at + 1 :]
        with suppress(EngineError):
            tape.decode(value)
            return [*busy.records[:index], one._replace(value=value)], index
    raise AssertionError((kind, field))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (b'"order_placed"', b'"quantity":'),
        (b'"cost_changed"', b'"unit_cost_minor":'),
        (b'"competitor_price_observed"', b'"price_minor":'),
    ],
)
def test_a_flipped_byte_of_one_event_changes_the_hash(
    busy: Busy, warm: Kernel, kind: bytes, field: bytes
) -> None:
    changed, index = flipped(busy, kind, field)
    replay = Replay(warm, busy_shop.PARTITIONS, 1000)
    replay.load(busy.folder / "before.jsonl")
    replay.feed(changed + busy.records[index + 1 :])
    summary = replay.summary()
    assert summary.positions == busy.hashes["positions"]
    assert summary.decisions_sha256 != busy.hashes["decisions_sha256"]
    assert summary.state_sha256 != busy.hashes["state_sha256"]


def test_a_flipped_byte_that_leaves_no_event_is_an_error_with_its_place(busy: Busy) -> None:
    index = 3_000
    one = busy.records[index]
    torn = one._replace(value=one.value.replace(b'"event_time":"2', b'"event_time":"r', 1))
    path = busy.folder / "torn.jsonl"
    write_tape(path, [*busy.records[:index], torn, *busy.records[index + 1 : index + 50]])
    for processes in ("1", "2"):
        code, error = fails(path, "--processes", processes)
        assert (code, error["code"], error["where"]) == (3, "torn_tape", f"{path}:{index + 1}")


# -- live


@pytest.fixture(scope="module")
def live(kafka_bootstrap: str, warm: Kernel, source_records: list[SourceRecord]) -> Iterator[Any]:
    """Topics that a worker has priced all events on, and the environment that names them."""
    settings = fresh_topics(kafka_bootstrap)
    shop = Shop(settings)
    for partition in range(busy_shop.PARTITIONS):  # as the engine before would have left it
        shop.raw("tape", None, busy_shop.engine_changed(partition, 0), partition=partition)
    shop.flush()
    with WorkerThread(settings, PricingEngines(warm)):
        feeder = Feeder(settings, GroupPace(settings, AHEAD_MAX))
        feeder.feed(source_records)
        GroupPace(settings, 0, with_tape=True)(feeder.sent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
        patch.setenv("PRICEMAKER_TOPICS__PREFIX", settings.topics.prefix)
        yield settings


@pytest.mark.kafka
def test_live_and_replayed_from_kafka_and_from_its_export_the_bytes_are_the_same(
    live: Any, warm: Kernel, busy: Busy
) -> None:
    engines = load_engines("kafka", live, warm)  # what the worker left on the state topic
    expected = {
        "decisions_sha256": combined_sha256(e.state.manifest.decisions_sha256 for e in engines),
        "state_sha256": combined_sha256(e.state.sha256() for e in engines),
        "positions": {str(e.partition): e.position for e in engines},
    }
    counts = [engine.state.manifest.counts for engine in engines]
    # Source topics are read side by side: a listing may come before its anchor's. Then it is a dead
    # letter, and so are the product's events; they are folded all the same.
    folded = sum(one.applied + one.dead_letters - one.ticks for one in counts)
    assert folded >= busy_shop.EVENTS_LEAST
    assert sum(one.breaker_trips for one in counts) >= 20
    document = run("kafka", "--processes", "2")
    assert hashes_of(document) == expected
    folder = busy.folder / "live"
    made = CliRunner().invoke(cli, ["export", "kafka", str(folder), "--json"])
    assert made.exit_code == 0, made.stderr
    found = run(folder, "--out", busy.folder / "live.jsonl")
    assert hashes_of(found) == expected
    lines = (busy.folder / "live.jsonl").read_bytes().splitlines()
    decisions = [orjson.loads(line) for line in lines]
    assert len({decision["policy_sha256"] for decision in decisions}) == 4
