"""``pricemaker export``: what is read back are the tape's bytes, from any part, in any pieces."""

import json
import pickle
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st

from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas.exports import ExportManifest
from schemas.topics import TAPE
from streams.cli import cli
from streams.config import load_settings
from streams.kafka.embedded import EmbeddedBroker
from streams.tape import export_writer
from streams.tape.event_files import event_key, read_events
from streams.tape.export_writer import LogWriter, write_manifest
from streams.tape.exports import Export
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.tape.tape_hash import TapeHash
from streams.tape.tape_selection import Selection, SourceSpec
from streams.tape.tape_sources import open_source
from streams.worker.engines import PricingEngines, warm_kernel
from streams.worker.pricer import publisher_gate
from streams.worker.worker import WorkerThread
from tests.streams.spine import Shop as Sources
from tests.streams.spine import fresh_topics, new_prefix, read_topic

PARTITIONS = 4
HASHES = ("decisions_sha256", "state_sha256", "positions")
FORMATS = ("parquet", "jsonl")
GOLDEN = Path(__file__).parent / "golden"
# Of the tape in the golden folders.
TAPE_SHA256 = "4f37101ca849e126b14469ae6cb8371389d3defbf5a54f4384925077e20b6379"


class Files(NamedTuple):
    """A simulated shop's events, their tape, and what replaying it gives."""

    events: Path
    placed: list[Placed]
    hashes: dict[str, Any]

    @property
    def tape_sha256(self) -> str:
        """The hash of the tape, from the records as they were built."""
        found = TapeHash(PARTITIONS)
        for one in self.placed:
            found.add(one.partition, one.value)
        return found.sha256


def run(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def fails(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.stdout == ""
    return result.exit_code, json.loads(result.stderr)


def hashes(*arguments: str | Path) -> dict[str, Any]:
    document = run("replay", *arguments)
    return {name: document[name] for name in HASHES}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    events = tmp_path_factory.mktemp("export") / "events.jsonl"
    options = ["--seed", "7", "--products", "10", "--days", "12", "--bad-share", "0.01"]
    run("simulate", *options, "--out", events)
    builder = TapeBuilder(PARTITIONS)
    placed = [one for topic, value in read_events(events) for one in builder.append(topic, value)]
    return Files(events, placed, hashes(events))


def records_of(source: Path | str, selection: Selection = Selection()) -> list[Placed]:  # noqa: B008
    spec = SourceSpec(source=str(source), selection=selection)
    return list(open_source(spec, load_settings(None, {})).records)


def by_partition(records: Iterable[Placed]) -> list[Placed]:
    return sorted(records, key=lambda one: (one.partition, one.offset))


# -- round trips


@pytest.mark.parametrize("encoding", FORMATS)
def test_an_exported_tape_is_the_tape_to_the_byte(
    files: Files, tmp_path: Path, encoding: str
) -> None:
    folder = tmp_path / "tape"
    document = run("export", files.events, folder, "--format", encoding)
    assert records_of(folder) == by_partition(files.placed)
    assert (document["records"], document["tape_sha256"]) == (
        len(files.placed), files.tape_sha256,
    )  # fmt: skip
    assert document["positions"] == files.hashes["positions"]
    assert hashes(folder) == files.hashes
    assert hashes(folder, "--batch", "7") == files.hashes


values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"{}", b'{"a":1}', b'{"a":\n1}', b"{\xff}", b'{"a":"\\u0000 \xc3\xa9"}']),
)


@settings(max_examples=40)
@given(
    tape=st.lists(st.tuples(st.integers(0, 2), values), max_size=30),
    encoding=st.sampled_from(FORMATS),
    first=st.integers(0, 2**40),
    segment_bytes=st.sampled_from([1, 50, 10**6]),
)
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, tape, encoding, first, segment_bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    ends = dict.fromkeys(range(3), first)
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_writer, "SEGMENT_BYTES", segment_bytes)
        patch.setattr(export_writer, "GROUP_BYTES_MAX", 8)
        writer = LogWriter(folder, "tape", encoding, 3, None, contiguous=True)
        for partition, value in tape:
            written.append(Placed(partition, ends[partition], value))
            ends[partition] += 1
            writer.write(written[-1])
        writer.close()
    manifest = ExportManifest(
        format=1, version="0.1.0", source="test", reconstruction=False, encoding=encoding,
        tape=writer.log,
    )  # fmt: skip
    write_manifest(folder, manifest, finished=True)
    export = Export(folder)
    found = [one for number in range(3) for one in export.records("tape", number)]
    assert found == by_partition(written)
    after = first + len(tape) // 4
    tail = [one for number in range(3) for one in export.records("tape", number, after=after)]
    assert tail == [one for one in by_partition(written) if one.offset > after]


def test_one_partition_is_read_from_its_own_files_alone(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    run("export", files.events, folder)
    for number in (0, 1, 3):
        shutil.rmtree(folder / "tape" / str(number))
    spec = SourceSpec(source=str(folder)).only(frozenset({2}))
    assert spec.reads_partitions_alone
    sent = pickle.loads(pickle.dumps(spec))
    found = list(open_source(sent, load_settings(None, {})).records)
    assert found == [one for one in files.placed if one.partition == 2]


def test_one_partition_of_a_file_is_the_same(files: Files, tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    run("replay", files.events, "--tape-out", tape)
    expected = [one for one in files.placed if one.partition == 1]
    for path in (files.events, tape):
        assert records_of(path, Selection(partitions=frozenset({1}))) == expected


# -- going on


@pytest.mark.parametrize("encoding", FORMATS)
def test_an_export_goes_on_with_what_has_come(files: Files, tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "tape"
    options = ["--format", encoding]
    run("export", files.events, folder, *options, "--to-offset", "0:70,1:100,2:0,3:1")
    first = sorted(folder.glob("tape/*/*"))
    kept = [path.read_bytes() for path in first]
    document = run("export", files.events, folder, *options)
    assert document["records_written"] == len(files.placed) - 171
    assert document["tape_sha256"] == files.tape_sha256
    assert [path.read_bytes() for path in first] == kept  # what is there stays as it is
    assert records_of(folder) == by_partition(files.placed)
    again = run("export", files.events, folder, *options)
    assert (again["records_written"], again["tape_sha256"]) == (0, files.tape_sha256)


def test_it_does_not_go_on_with_another_tape(files: Files, tmp_path: Path) -> None:
    folder = tmp_path / "tape"
    run("export", files.events, folder)
    lines = files.events.read_bytes().splitlines(keepends=True)
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(lines).replace(b'"event_id":"', b'"event_id":"x'))
    code, error = fails("export", other, folder)
    last = files.hashes["positions"]["0"]
    assert (code, error["code"]) == (3, "other_tape")
    assert error["where"].startswith("tape[")
    assert error["where"].endswith(f"@{last}") or "tape[0]" not in error["where"]


@pytest.mark.parametrize(
    ("option", "name"), [(["--partitions", "2"], "partitions"), (["--format", "jsonl"], "format")]
)
def test_it_does_not_go_on_otherwise_than_it_was_begun(
    files: Files, tmp_path: Path, option: list[str], name: str
) -> None:
    folder = tmp_path / "tape"
    run("export", files.events, folder)
    code, error = fails("export", files.events, folder, *option)
    assert (code, error["code"], error["field"]) == (3, "other_export", name)


def test_an_export_that_was_stopped_goes_on(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by a bad line in the middle; mended, the rest is written, and nothing again."""
    monkeypatch.setattr(export_writer, "SEGMENT_BYTES", 60_000)
    monkeypatch.setattr(export_writer, "GROUP_BYTES_MAX", 5_000)
    folder, bad = tmp_path / "tape", tmp_path / "bad.jsonl"
    lines = files.events.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    bad.write_bytes(b"".join([*lines[:half], b"junk\n", *lines[half:]]))
    code, error = fails("export", bad, folder)
    assert (code, error["code"], error["where"]) == (3, "bad_event_line", f"{bad}:{half + 1}")
    code, error = fails("replay", folder)
    assert (code, error["code"]) == (3, "export_unfinished")
    assert error["fix"] == "Run pricemaker export again with the same SOURCE: it goes on."
    document = run("export", files.events, folder)
    assert 0 < document["records_written"] < len(files.placed)
    assert document["tape_sha256"] == files.tape_sha256
    assert sorted(folder.glob("**/*.partial")) == []
    assert records_of(folder) == by_partition(files.placed)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=ExportManifest)
    listed = [one.file for log in manifest.tape.partitions for one in log.segments]
    assert sorted(map(str, folder.glob("tape/*/*"))) == sorted(str(folder / one) for one in listed)
    assert len(listed) > 2 * PARTITIONS


def test_a_checkpoint_is_kept_beside(files: Files, tmp_path: Path) -> None:
    saved, folder = tmp_path / "saved.jsonl", tmp_path / "tape"
    run("replay", files.events, "--stop-after", "900", "--checkpoint", saved)
    document = run("export", files.events, folder, "--checkpoint", saved)
    kept = folder / document["checkpoint"]
    assert kept.read_bytes() == saved.read_bytes()
    assert hashes(folder, "--from-checkpoint", kept) == files.hashes


# -- Kafka


def exported_from_kafka(bootstrap: str, prefix: str, files: Files, folder: Path) -> None:
    """Put the tape on its topic in two parts, and export after each."""
    producer = Producer({"bootstrap.servers": bootstrap})
    half = len(files.placed) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", bootstrap)
        patch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
        for part in (files.placed[:half], files.placed[half:]):
            for one in part:
                producer.produce(prefix + TAPE.name, one.value, partition=one.partition)
            assert producer.flush(30) == 0
            document = run("export", "kafka", folder)
        assert document["records_written"] == len(files.placed) - half
        assert document["tape_sha256"] == files.tape_sha256
        assert records_of("kafka") == by_partition(files.placed)
        few = Selection(to_offset=5, partitions=frozenset({3}))
        assert records_of("kafka", few) == [
            one for one in files.placed if one.partition == 3 and one.offset < 5
        ]
    assert records_of(folder) == by_partition(files.placed)
    assert hashes(folder) == files.hashes


def test_from_the_embedded_broker(files: Files, tmp_path: Path) -> None:
    prefix = new_prefix()
    with EmbeddedBroker(topic_prefix=prefix) as broker:
        exported_from_kafka(broker.bootstrap, prefix, files, tmp_path / "tape")


@pytest.mark.kafka
def test_from_a_real_broker(kafka_bootstrap: str, files: Files, tmp_path: Path) -> None:
    prefix = fresh_topics(kafka_bootstrap).topics.prefix
    exported_from_kafka(kafka_bootstrap, prefix, files, tmp_path / "tape")


@pytest.mark.kafka
def test_a_running_systems_decisions_and_state(kafka_bootstrap: str, tmp_path: Path) -> None:
    """With the decisions as they stand on ``prices``, and the worker's state to go on from."""
    settings = fresh_topics(kafka_bootstrap)
    kernel = warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)
    shop = Shop(6, settings=ShopSettings(products=6, step_hours=12, traffic_hours=12))
    sources, folder = Sources(settings), tmp_path / "export"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
        patch.setenv("PRICEMAKER_TOPICS__PREFIX", settings.topics.prefix)
        with WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate) as worker:
            for _ in range(2):
                for _ in range(10):
                    for topic, value in shop.step({}):
                        key = event_key(value)
                        sources.raw(topic, key.decode() if key else None, value)
                sources.flush()
                assert worker.progress.wait_idle(60.0)
                document = run("export", "kafka", folder, "--decisions", "--state")
        published = {
            (one.partition(), one.offset()): one.value() for one in read_topic(settings, "prices")
        }
        replayed = run("replay", "kafka")
    export = Export(folder)
    found = [
        one
        for number in range(len(export.log("prices").partitions))
        for one in export.records("prices", number)
    ]
    assert {(one.partition, one.offset): one.value for one in found} == published
    assert 0 < document["decisions_written"] < document["decisions"] == len(published)
    assert export.manifest.decided == document["positions"] == replayed["positions"]
    assert export.manifest.engines == (kernel.fingerprint.partition(" ")[0],)
    checkpoint = export.manifest.checkpoint
    assert checkpoint is not None
    assert checkpoint.positions == document["positions"]
    assert hashes(folder) == {name: replayed[name] for name in HASHES}
    assert hashes(folder, "--from-checkpoint", folder / checkpoint.file) == hashes(folder)


@pytest.mark.parametrize("option", ["--decisions", "--state"])
def test_only_kafka_has_decisions_and_state(files: Files, tmp_path: Path, option: str) -> None:
    code, error = fails("export", files.events, tmp_path / "tape", option)
    assert (code, error["field"]) == (2, option)


@pytest.mark.parametrize("encoding", FORMATS)
def test_a_folder_of_an_earlier_version_is_still_read(encoding: str) -> None:
    export = Export(GOLDEN / f"export-1-{encoding}")
    tick = {"type": "clock_ticked", "event_id": "t", "event_time": "2026-01-01T00:00:00.000Z"}
    ticked = b'{"source":{"topic":"controls","partition":0,"offset":0},"event":%b}'
    lines = b'{"source":{"topic":"orders","partition":1,"offset":7},\n"event":{"note":"two lines"}}'
    assert [list(export.records("tape", number)) for number in range(2)] == [
        [Placed(0, 0, ticked % orjson.dumps(tick)), Placed(0, 1, lines)],
        [Placed(1, 0, b"\xff\x00 no JSON")],
    ]
    assert list(export.records("prices", 0)) == [
        Placed(0, 4, b'{"price_minor":999}'), Placed(0, 9, b'{"price_minor":1099}'),
    ]  # fmt: skip
    assert export.manifest.decided == {"0": 1, "1": 0}
    assert export.manifest.tape.sha256 == TAPE_SHA256
