"""A part of the history, at a chosen pace, on topics of its own: exact, never on live topics."""

import json
from collections import Counter
from typing import Any

import pytest

from schemas import tape
from schemas.events import rfc3339
from streams.kafka import admin
from streams.replay.replay_topics import OUTPUTS, with_prefix
from streams.settings import Settings
from streams.tape import pacing
from streams.tape.pacing import EventPace
from streams.tape.tape_selection import tick_ms
from streams.worker.routes import tape_partition
from tests.streams.spine import fresh_topics, new_prefix, read_topic
from tests.streams.test_replay import HASHES, PARTITIONS, Files, fails, files, run

__all__ = ["files"]  # the fixture


def decided(files: Files) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of all decisions, and what they say."""
    return [(line + b"\n", json.loads(line)) for line in files.decisions.splitlines()]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_since_a_time_all_is_folded_and_the_rest_is_written(files: Files, processes: str) -> None:
    records = list(map(tape.parse_line, files.tape.read_bytes().splitlines()))
    ticks = [(at, at_ms) for at, value in records if (at_ms := tick_ms(value)) is not None]
    middle_ms = ticks[len(ticks) // 2][1]
    begins: dict[int, int] = {}
    for at, at_ms in ticks:
        if at_ms >= middle_ms:
            begins.setdefault(at.partition, at.offset)
    out = files.folder / f"since-{processes}.jsonl"
    options = ["--since", rfc3339(middle_ms)[:16] + "Z", "--out", out, "--processes", processes]
    document = run(files.tape, *options)
    expected = [
        line for line, one in decided(files)
        if one["tape"]["offset"] >= begins[one["tape"]["partition"]]
    ]  # fmt: skip
    assert out.read_bytes() == b"".join(expected)
    assert document["decisions_written"] == len(expected)
    assert 0 < len(expected) < len(decided(files))
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }


def test_of_some_products_the_decisions_are_those_of_the_history(files: Files) -> None:
    counts = Counter(one["sku"] for _, one in decided(files))
    (first, _), (second, _) = counts.most_common(2)
    out = files.folder / "two-products.jsonl"
    document = run(files.tape, "--sku", first, "--sku", second, "--out", out)
    expected = [line for line, one in decided(files) if one["sku"] in (first, second)]
    assert out.read_bytes() == b"".join(expected)
    assert document["decisions_sha256"] == files.document["decisions_sha256"]
    assert document["partitions_folded"] == [0, 1, 2, 3]


def test_of_a_family_only_its_partition_is_folded(files: Files) -> None:
    listed = [json.loads(line) for line in files.tape.read_bytes().splitlines()]
    family = next(
        record["event"].get("family") or record["event"]["sku"]
        for record in listed if record["event"]["type"] == "product_listed"
    )  # fmt: skip
    members = {
        record["event"]["sku"] for record in listed
        if record["event"]["type"] == "product_listed"
        and (record["event"].get("family") or record["event"]["sku"]) == family
    }  # fmt: skip
    partition = tape_partition(family, PARTITIONS)
    out = files.folder / "family.jsonl"
    document = run(files.tape, "--family", family, "--out", out)
    assert out.read_bytes() == b"".join(
        line for line, one in decided(files) if one["sku"] in members
    )
    assert document["partitions_folded"] == [partition]
    name = str(partition)
    assert document["positions"] == {name: files.document["positions"][name]}
    assert document["decisions_written"] > 0


def test_at_a_pace_the_bytes_are_the_same(files: Files) -> None:
    out = files.folder / "paced.jsonl"
    document = run(files.tape, "--speed", "5000000", "--out", out)
    assert document["decisions_sha256"] == files.document["decisions_sha256"]
    assert out.read_bytes() == files.decisions
    assert document["records"] == files.document["records"]


def test_event_time_passes_so_many_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now_s)
    pace = EventPace(60.0)
    assert pace.wait_s(5_000_000) == 0.0  # the first is now
    assert pace.wait_s(5_000_000 + 60_000) == 1.0
    now_s = 103.0
    assert pace.wait_s(5_000_000 + 120_000) == -1.0
    assert pace.wait_s(5_000_000 + 360_000) == 3.0


# -- topics


@pytest.mark.parametrize(
    "asked",
    [[], ["--publish-live"], ["--live-prefix", ""], ["--publish-live", "--live-prefix", "x-"]],
)
def test_its_own_topics_are_refused_unless_asked_for_twice(files: Files, asked: list[str]) -> None:
    code, error = fails(files.tape, "--publish", "", *asked)
    assert (code, error["code"], error["field"]) == (2, "live_topics", "--publish")
    assert error["message"] == "'prices' is live: it is this installation's own prefix."
    assert "--publish-live --live-prefix ''" in error["fix"]


@pytest.mark.kafka
def test_topics_that_a_pricer_writes_are_refused(files: Files, kafka_bootstrap: str) -> None:
    live = fresh_topics(kafka_bootstrap)  # another installation on the same broker
    prefix = live.topics.prefix
    options = ["--bootstrap", kafka_bootstrap, "--publish", prefix]
    for asked in ([], ["--publish-live"], ["--publish-live", "--live-prefix", prefix + "x"]):
        code, error = fails(files.tape, *options, *asked)
        assert (code, error["code"], error["value"]) == (2, "live_topics", prefix)
        assert f"the broker has '{prefix}tape', so a pricer writes there" in error["message"]
    assert read_topic(live, "prices") == []
    run(files.tape, *options, "--publish-live", "--live-prefix", prefix)
    assert len(read_topic(live, "prices")) == files.document["decisions"]


@pytest.mark.kafka
@pytest.mark.parametrize("processes", ["1", "2"])
def test_on_topics_of_its_own_stands_what_was_decided(
    files: Files, kafka_bootstrap: str, processes: str
) -> None:
    prefix = new_prefix()
    options = ["--bootstrap", kafka_bootstrap, "--publish", prefix, "--processes", processes]
    document = run(files.tape, *options)
    staging = with_prefix(Settings(kafka={"bootstrap": kafka_bootstrap}), prefix)
    found = {topic.name: read_topic(staging, topic.name) for topic in OUTPUTS}
    assert sorted(one.value() for one in found["prices"]) == sorted(files.decisions.splitlines())
    assert len(found["prices-latest"]) == files.document["published"]
    assert document["outputs_sent"] == sum(map(len, found.values()))
    # of one product in the order of its versions
    versions: dict[bytes, list[int]] = {}
    for one in found["prices"]:
        versions.setdefault(one.key(), []).append(json.loads(one.value())["version"])
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    mine = {name for name in admin.existing_topics(staging) if name.startswith(prefix)}
    assert mine == {prefix + topic.name for topic in OUTPUTS}  # no tape, no state
