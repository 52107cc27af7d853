"""Source topics merged by event time: the declared order, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from schemas import tape
from schemas.events import rfc3339
from streams.cli import cli
from streams.kafka.embedded import EmbeddedBroker
from streams.kafka.feeder import Feeder
from streams.tape.event_files import read_events
from streams.tape.source_merge import RANK, Disorder, Raw, merged
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import open_source
from tests.streams.spine import fresh_topics, listing, new_prefix, order, returned, settings_for

LATEST_MS = 5_000
EVENTS = {
    "orders": lambda number: order(number, "A"),
    "returns": lambda number: returned(number, "A"),
    "products": lambda number: listing("A", event_id=f"list-{number}"),
}
times = st.lists(st.one_of(st.integers(0, 40), st.just(LATEST_MS + 1), st.none()), max_size=12)
topics = st.dictionaries(
    st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 2)), times, max_size=6
)


def raw(topic: str, partition: int, offset: int, at_ms: int | None) -> Raw:
    """A record; without a time its value is no event."""
    if at_ms is None:
        return Raw(topic, partition, offset, b"A", b"junk", None)
    event = EVENTS[topic](offset) | {"event_time": rfc3339(at_ms)}
    return Raw(topic, partition, offset, b"A", orjson.dumps(event), None)


@given(topics)
def test_the_order_is_event_time_rank_partition_offset(
    written: dict[tuple[str, int], list[int | None]],
) -> None:
    """Against a sort of everything, by what was the latest time of the partition so far."""
    partitions, expected, late = [], [], []
    for (topic, partition), moments in written.items():
        records = [raw(topic, partition, offset, at) for offset, at in enumerate(moments)]
        partitions.append(records)
        clock = -1
        for record, at_ms in zip(records, moments, strict=True):
            if at_ms is not None and at_ms <= LATEST_MS:
                late += [clock - at_ms] if at_ms < clock else []
                clock = max(clock, at_ms)
            expected.append(((clock, RANK[topic], partition, record.offset), record))
    disorder = Disorder()
    found = list(merged(partitions, LATEST_MS, disorder))
    assert found == [record for _, record in sorted(expected, key=lambda pair: pair[0])]
    assert (disorder.out_of_order, disorder.out_of_order_ms_max) == (
        len(late), max(late, default=0),
    )  # fmt: skip


def test_no_partition_is_read_further_than_its_next_record() -> None:
    """Memory: of each partition one record is held, however far the others are behind."""
    taken = dict.fromkeys("ab", 0)

    def stream(name: str, partition: int, step_ms: int):
        for offset in range(100):
            taken[name] += 1
            yield raw("orders", partition, offset, offset * step_ms)

    found = merged([stream("a", 0, 1), stream("b", 1, 1_000)], 10**6, Disorder())
    for _ in range(50):
        next(found)
    assert (taken["a"], taken["b"]) == (49, 2)


def run(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def reconstructs(bootstrap: str, prefix: str, folder: Path) -> None:
    """A simulated shop on its source topics, a late and an unreadable record among them."""
    events = folder / "events.jsonl"
    run("simulate", "--seed", "4", "--products", "6", "--days", "8", "--out", events)
    records = list(read_events(events))
    late = orjson.loads(next(value for topic, value in reversed(records) if topic == "orders"))
    late |= {"event_id": "late", "order_id": "late", "event_time": "2020-01-01T00:00:00.000Z"}
    extra = [("orders", orjson.dumps(late)), ("orders", b"junk")]
    settings = settings_for(bootstrap, prefix)
    Feeder(settings).feed([*records, *extra])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", bootstrap)
        patch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
        document = run("replay", "kafka-sources")
        kept = folder / "kept"
        exported = run("export", "kafka-sources", kept)
    told = document["source"]
    assert (told["kind"], told["reconstruction"]) == ("kafka sources", True)
    assert told["disorder"]["out_of_order"] == 1
    assert told["disorder"]["out_of_order_ms_max"] > 365 * 86_400_000
    assert (told["disorder"]["missing"], told["starts_from"]) == ({}, "tape beginning")
    assert document["refused_at_intake"] == 1
    spec = SourceSpec(source=str(kept))
    placed = list(open_source(spec, settings).records)
    events_of = [tape.decode(one.value) for one in placed]
    found = sorted(
        one.event.event_id for one in events_of if one.source.topic in ("orders", "returns")
    )
    sent = [orjson.loads(value)["event_id"] for topic, value in records
            if topic in ("orders", "returns")]  # fmt: skip
    assert found == sorted([*sent, "late"])
    again = run("replay", kept)
    assert (exported["reconstruction"], again["source"]["reconstruction"]) == (True, True)
    assert again["decisions_sha256"] == document["decisions_sha256"]
    assert document["decisions"] > 10


def test_of_the_embedded_broker(tmp_path: Path) -> None:
    prefix = new_prefix()
    with EmbeddedBroker(topic_prefix=prefix) as broker:
        reconstructs(broker.bootstrap, prefix, tmp_path)


@pytest.mark.kafka
def test_of_a_real_broker(kafka_bootstrap: str, tmp_path: Path) -> None:
    reconstructs(kafka_bootstrap, fresh_topics(kafka_bootstrap).topics.prefix, tmp_path)
