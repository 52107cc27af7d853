"""Stretches of a tape: where they begin and end, and that a result says what it began with."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import tape
from schemas.errors import ConfigError
from schemas.events import rfc3339, time_ms
from schemas.topics import TAPE
from streams.cli import cli
from streams.config import load_settings
from streams.tape import export_writer
from streams.tape.event_files import read_events
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.tape.tape_selection import Selection, SourceSpec, selected, tick_ms
from streams.tape.tape_sources import open_source
from tests.streams.spine import fresh_topics

PARTITIONS = 4
HASHES = ("decisions_sha256", "state_sha256", "positions")


class Shop(NamedTuple):
    """A simulated shop's events, their tape, and a time in the middle of it."""

    events: Path
    placed: list[Placed]
    middle: str

    @property
    def middle_ms(self) -> int:
        """The time in the middle, Unix milliseconds."""
        return int(
            next(at for at in map(tick_ms, self.values) if at and rfc3339(at) >= self.middle)
        )

    @property
    def values(self) -> list[bytes]:
        """The records' values."""
        return [one.value for one in self.placed]


def run(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    events = tmp_path_factory.mktemp("selection") / "events.jsonl"
    run("simulate", "--seed", "9", "--products", "8", "--days", "10", "--out", events)
    builder = TapeBuilder(PARTITIONS)
    placed = [one for topic, value in read_events(events) for one in builder.append(topic, value)]
    middle = tape.decode(placed[len(placed) // 2].value).event.event_time_ms
    return Shop(events, placed, rfc3339(middle)[:16] + "Z")


def clock_before(shop: Shop, partition: int, offset: int) -> int:
    """What a partition's clock shows when a record comes, by all before it."""
    before = (one for one in shop.placed if one.partition == partition and one.offset <= offset)
    times = [
        time_ms(event.event_time)
        for event in (tape.decode(one.value).event for one in before)
        if type(event).__name__ == "ClockTicked"
    ]
    return max(times, default=-1)


def test_a_range_of_time_is_one_cut_through_all_partitions(shop: Shop) -> None:
    """Both sides of a time make the whole; what stands after its tick is on the later side."""
    at_ms = shop.middle_ms
    before = list(selected(shop.placed, Selection(to_ms=at_ms)))
    after = list(selected(shop.placed, Selection(from_ms=at_ms)))
    assert sorted(before + after) == sorted(shop.placed)
    for number in range(PARTITIONS):
        last = max(one.offset for one in before if one.partition == number)
        first = min(one.offset for one in after if one.partition == number)
        assert (last + 1, tick_ms(dict_of(after)[number, first])) == (first, at_ms)
        assert clock_before(shop, number, last) < at_ms <= clock_before(shop, number, first)


def dict_of(records: list[Placed]) -> dict[tuple[int, int], bytes]:
    return {(one.partition, one.offset): one.value for one in records}


def test_a_late_event_stays_where_it_stood() -> None:
    """Ticks cut; an older event after a tick is part of what follows the tick."""
    records = [
        Placed(0, offset, event("clock_ticked" if tick else "order_placed", at_ms))
        for offset, (tick, at_ms) in enumerate(
            [(True, 60_000), (False, 61_000), (False, 130_000), (True, 120_000), (False, 62_000),
             (True, 60_000), (True, 180_000)]
        )
    ]  # fmt: skip
    found = [one.offset for one in selected(records, Selection(from_ms=120_000, to_ms=180_000))]
    assert found == [3, 4, 5]


def event(kind: str, at_ms: int) -> bytes:
    return tape.wrap(
        tape.Source("controls", 0, 0),
        orjson.dumps({"type": kind, "event_id": "e", "event_time": rfc3339(at_ms)}),
    )


@pytest.mark.parametrize("encoding", ["parquet", "jsonl"])
def test_a_range_of_time_of_an_export_is_the_same(
    shop: Shop, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments before the beginning are passed over: they may be gone."""
    monkeypatch.setattr(export_writer, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(export_writer, "GROUP_BYTES_MAX", 5_000)
    run("export", shop.events, tmp_path / "tape", "--format", encoding)
    for first in tmp_path.glob("tape/tape/*/00000000000000000000.*"):
        first.unlink()
    for selection in (
        Selection(from_ms=shop.middle_ms),
        Selection(from_ms=shop.middle_ms, to_ms=shop.middle_ms + 86_400_000),
    ):
        spec = SourceSpec(source=str(tmp_path / "tape"), selection=selection)
        found = list(open_source(spec, load_settings(None, {})).records)
        assert found == sorted(selected(shop.placed, selection))


def test_two_stretches_with_a_checkpoint_between_are_the_whole(shop: Shop, tmp_path: Path) -> None:
    whole = run("replay", shop.events)
    saved = tmp_path / "saved"
    first = run("replay", shop.events, "--to", shop.middle, "--checkpoint", saved)
    assert first["source"]["starts_from"] == "tape beginning"
    second = run("replay", shop.events, "--from", shop.middle, "--from-checkpoint", saved)
    assert {name: second[name] for name in HASHES} == {name: whole[name] for name in HASHES}
    assert second["source"]["starts_from"] == "checkpoint"
    assert first["records"] + second["records"] == whole["records"]


@pytest.mark.parametrize("kind", ["events", "export"])
def test_without_a_checkpoint_it_says_that_the_state_was_empty(
    shop: Shop, tmp_path: Path, kind: str
) -> None:
    source = shop.events
    if kind == "export":
        source = tmp_path / "export"
        run("export", shop.events, source)
    begins = [-(-len([1 for one in shop.placed if one.partition == n]) // 2) for n in range(4)]
    options = ",".join(f"{number}:{begin}" for number, begin in enumerate(begins))
    document = run("replay", source, "--from-offset", options)
    assert document["source"]["starts_from"] == "empty state"
    assert list(document["source"]["first_offsets"].values()) == begins
    assert document["dead_letters"] > 0  # of products that were listed before


def test_a_checkpoint_that_is_too_early_leaves_a_hole(shop: Shop, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    run("replay", shop.events, "--to-offset", "10", "--checkpoint", saved)
    arguments = ["replay", str(shop.events), "--from-offset", "12", "--from-checkpoint", str(saved)]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    found = json.loads(result.stderr)
    assert (result.exit_code, found["code"], found["message"]) == (
        3, "tape_jump", "offset was 12; expected 10.",
    )  # fmt: skip


WRONG = [
    (["--from", "2025-01-01", "--from-offset", "3"], "one_beginning"),
    (["--from", "2025-01-02", "--to", "2025-01-02"], "empty_range"),
    (["--from-group", "g"], "group_needs_kafka"),
    (["--only-partition", "4"], "no_such_partition"),
    (["--from-offset", "0-4"], "wrong_usage"),
]


@pytest.mark.parametrize(("options", "code"), WRONG)
def test_a_stretch_that_makes_no_sense_is_wrong_usage(
    shop: Shop, options: list[str], code: str
) -> None:
    result = CliRunner().invoke(cli, ["replay", str(shop.events), *options, "--json"])
    assert (result.exit_code, json.loads(result.stderr)["code"]) == (2, code)


def test_one_beginning() -> None:
    with pytest.raises(ConfigError) as caught:
        Selection(from_ms=1, from_group="g")
    assert caught.value.message == "give one of --from, --from-group."


@pytest.mark.kafka
def test_on_kafka_by_time_and_from_a_groups_position(
    kafka_bootstrap: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = fresh_topics(kafka_bootstrap).topics.prefix
    monkeypatch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for one in shop.placed:
        # the time at which intake wrote it: its event's, a little late
        written_ms = tape.decode(one.value).event.event_time_ms + 1_000
        producer.produce(
            prefix + TAPE.name, one.value, partition=one.partition, timestamp=written_ms
        )
    assert producer.flush(30) == 0
    group = f"{prefix}group"
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group})
    places = [TopicPartition(prefix + TAPE.name, number, 5 + number) for number in range(4)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()

    def read(selection: Selection) -> list[Placed]:
        spec = SourceSpec(source="kafka", selection=selection)
        return list(open_source(spec, load_settings(None, {})).records)

    for selection in (
        Selection(from_ms=shop.middle_ms),
        Selection(to_ms=shop.middle_ms),
        Selection(from_ms=shop.middle_ms, to_ms=shop.middle_ms + 86_400_000),
    ):
        assert read(selection) == sorted(selected(shop.placed, selection))
    assert read(Selection(from_group=group)) == sorted(
        one for one in shop.placed if one.offset >= 5 + one.partition
    )
    result = CliRunner().invoke(cli, ["replay", "kafka", "--from-group", "nobody", "--json"])
    found = json.loads(result.stderr)
    assert (result.exit_code, found["code"], found["where"]) == (
        3, "no_position", f"{prefix}tape[0]",
    )  # fmt: skip
