"""What is wrong with a source is told with its place and how to mend it: every case, whole."""

import gzip
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import tape
from schemas.topics import TAPE
from streams.cli import cli
from streams.tape.export_segments import file_sha256
from streams.tape.tape_faults import known_types
from streams.tape.tape_selection import parse_offsets
from tests.streams.spine import fresh_topics

PARTITIONS = 2
AGAIN = "Copy or make the file again."
TAPE_AGAIN = "Copy or make the tape again."
FOLDER_AGAIN = "Copy the folder again."
OURS = version("pricemaker")


class Sound(NamedTuple):
    """A shop's events, tape and exports, whole."""

    events: Path
    tape: Path
    parquet: Path
    jsonl: Path
    hashes: tuple[str, str]

    @property
    def lines(self) -> list[bytes]:
        """The tape file's lines."""
        return self.tape.read_bytes().splitlines(keepends=True)


def run(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def replayed(source: Path, *options: str | Path) -> tuple[str, str]:
    document = run("replay", source, "--partitions", str(PARTITIONS), *options)
    return document["decisions_sha256"], document["state_sha256"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    folder = tmp_path_factory.mktemp("sound")
    names = ("events.jsonl", "tape.jsonl", "parquet", "jsonl")
    events, tape_file, parquet, jsonl = (folder / name for name in names)
    run("simulate", "--seed", "3", "--products", "5", "--days", "6", "--out", events)
    hashes = replayed(events, "--tape-out", tape_file)
    for target in (parquet, jsonl):
        run("export", tape_file, target, "--partitions", str(PARTITIONS), "--format", target.name)
    return Sound(events, tape_file, parquet, jsonl, hashes)


Error = dict[str, str | None]
Spoil = Callable[[Sound, Path], tuple[Path, Error]]


def error(code: str, message: str, where: str, field: str, **rest: str | None) -> Error:
    facts = {"value": None, "expected": None, "fix": None}
    return {"code": code, "message": message, "where": where, "field": field, **facts, **rest}


# -- files


def cut_event_file(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "events.jsonl"
    lines = sound.events.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:-9])
    size = len(lines[5]) - 9
    return path, error(
        "bad_event_line",
        f"line was {size} bytes; expected a line that ends; the file is cut.",
        f"{path}:6", "line", value=f"{size} bytes",
        expected="a line that ends; the file is cut",
        fix='Each line must be {"topic":"orders","event":{...}}.',
    )  # fmt: skip


def cut_tape_file(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl"
    path.write_bytes(b"".join(sound.lines[:5]) + sound.lines[5][:40])
    return path, error(
        "bad_tape_line",
        "not a tape line: Input data was truncated; the file ends in the middle of it.",
        f"{path}:6", "line", value=str(sound.lines[5][:40]),
        expected='{"tape":{...},"source":{...},"event":{...}} on one line', fix=AGAIN,
    )  # fmt: skip


def cut_gzip(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl.gz"
    packed = gzip.compress(b"".join(sound.lines[:100]))
    path.write_bytes(packed[:-12])
    return path, error(
        "damaged_file",
        "the archive ends too early or is damaged (Compressed file ended before the "
        "end-of-stream marker was reached).",
        f"{path}:1", "archive", expected="a complete archive", fix=AGAIN,
    )  # fmt: skip


def cut_zstd(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl.zst"
    with path.open("wb") as raw, pa.CompressedOutputStream(raw, "zstd") as file:
        file.write(b"".join(sound.lines[:100]))
    path.write_bytes(path.read_bytes()[:-12])
    return path, error(
        "damaged_file",
        "the archive ends too early or is damaged (Truncated compressed stream).",
        f"{path}:1", "archive", expected="a complete archive", fix=AGAIN,
    )  # fmt: skip


def hole(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl"
    ours = [line for line in sound.lines if tape.parse_line(line)[0].partition == 1][:9]
    path.write_bytes(b"".join(ours[:4] + ours[6:]))
    return path, error(
        "tape_jump",
        "offset of tape partition 1 was 6; expected 4: a record is missing before it.",
        f"{path}:5", "offset", value="6", expected="4", fix=TAPE_AGAIN,
    )  # fmt: skip


def out_of_order(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl"
    ours = [line for line in sound.lines if tape.parse_line(line)[0].partition == 0][:9]
    path.write_bytes(b"".join([*ours[:4], ours[5], ours[4], *ours[6:]]))
    return path, error(
        "tape_jump",
        "offset of tape partition 0 was 5; expected 4: a record is missing before it.",
        f"{path}:5", "offset", value="5", expected="4", fix=TAPE_AGAIN,
    )  # fmt: skip


def repeated(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl"
    ours = [line for line in sound.lines if tape.parse_line(line)[0].partition == 0][:9]
    path.write_bytes(b"".join([*ours[:4], *ours[2:]]))
    return path, error(
        "tape_jump",
        "offset of tape partition 0 was 2; expected 4: the records are out of order.",
        f"{path}:5", "offset", value="2", expected="4", fix=TAPE_AGAIN,
    )  # fmt: skip


def declared_order(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "events.jsonl"
    events = sound.events.read_bytes().splitlines(keepends=True)
    late = next(line for line in events if b'"order_placed"' in line)
    path.write_bytes(b'{"order":"event_time"}\n' + b"".join([*events[-3:], late]))
    now, before = (orjson.loads(line)["event"]["event_time"] for line in (late, events[-1]))
    return path, error(
        "events_out_of_order",
        f"event_time was {now}; expected {before} or later, since the file claims the order of "
        "event time.",
        f"{path}:5", "event_time", value=now, expected=f"{before} or later",
        fix="Sort the events by event_time, or take the file's first line away.",
    )  # fmt: skip


# -- what stands on the tape


def changed(sound: Sound, at: Path, number: int, old: bytes, new: bytes) -> Path:
    path = at / "tape.jsonl"
    lines = sound.lines[: number + 9]
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
    path.write_bytes(b"".join(lines))
    return path


def unknown_type(sound: Sound, at: Path) -> tuple[Path, Error]:
    number = 1 + next(i for i, line in enumerate(sound.lines) if b'"product_listed"' in line)
    path = changed(sound, at, number, b'"product_listed"', b'"product_listed_v9"')
    return path, error(
        "unknown_event_type",
        f"type was 'product_listed_v9', which pricemaker {OURS} does not know.",
        f"{path}:{number}", "type", value="product_listed_v9",
        expected=f"one of {', '.join(known_types())}",
        fix="Upgrade pricemaker, or stop before this record with --to-offset.",
    )  # fmt: skip


def torn_event(sound: Sound, at: Path) -> tuple[Path, Error]:
    number = 1 + next(i for i, line in enumerate(sound.lines) if b'"product_listed"' in line)
    path = changed(sound, at, number, b'"event_id"', b'"event_no"')
    _, value = tape.parse_line(path.read_bytes().splitlines()[number - 1])
    return path, error(
        "torn_tape",
        "not a tape record: Object missing required field `event_id` - at `$.event`.",
        f"{path}:{number}", "value", value=str(value[:200])[:200],
        expected="a tape that is whole",
        fix="Copy or make the tape again.",
    )  # fmt: skip


def newer_engine_on_tape(sound: Sound, at: Path) -> tuple[Path, Error]:
    path = at / "tape.jsonl"
    event = {
        "type": "engine_changed", "event_id": "e", "event_time": "2026-01-01T00:00:00Z",
        "fingerprint": "b", "previous": "a", "worker": "w", "version": "999.1",
    }  # fmt: skip
    value = tape.wrap(tape.Source("engine", 0, 0), orjson.dumps(event))
    lines = [line for line in sound.lines if tape.parse_line(line)[0].partition == 0][:3]
    path.write_bytes(b"".join(lines) + tape.line(tape.Position(0, 3), value) + b"\n")
    return path, newer("999.1", f"{path}:4")


def newer(theirs: str, where: str) -> Error:
    return error(
        "newer_engine",
        f"from here on it was written by pricemaker {theirs}; this is {OURS}.",
        where, "version", value=theirs, expected=f"at most {OURS}",
        fix="Upgrade pricemaker, or stop before this record with --to-offset.",
    )  # fmt: skip


# -- exports


def copied(folder: Path, at: Path) -> tuple[Path, Path]:
    """A copy of an export, and its first segment."""
    target = at / "export"
    shutil.copytree(folder, target)
    return target, sorted(target.glob("tape/0/*"))[0]


def cut_parquet(sound: Sound, at: Path, folder: str = "parquet") -> tuple[Path, Error]:
    target, path = copied(getattr(sound, folder), at)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found, expected = len(whole) // 2, len(whole)
    return target, error(
        "damaged_file", f"the file is cut: it has {found} bytes; expected {expected}.",
        str(path), "file", value=str(found), expected=f"{expected} bytes", fix=FOLDER_AGAIN,
    )  # fmt: skip


def cut_jsonl(sound: Sound, at: Path) -> tuple[Path, Error]:
    return cut_parquet(sound, at, "jsonl")


def flipped_byte(sound: Sound, at: Path) -> tuple[Path, Error]:
    target, path = copied(sound.parquet, at)
    whole = bytearray(path.read_bytes())
    before = file_sha256(path)
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    return target, error(
        "segment_changed", f"SHA-256 of the file was {file_sha256(path)}; expected {before}.",
        str(path), "file", value=file_sha256(path), expected=before, fix=FOLDER_AGAIN,
    )  # fmt: skip


def missing_segment(sound: Sound, at: Path) -> tuple[Path, Error]:
    target, path = copied(sound.jsonl, at)
    path.unlink()
    return target, error(
        "segment_missing", "the manifest names this file; it is not there.", str(path), "file",
        fix=FOLDER_AGAIN,
    )  # fmt: skip


def hole_in_a_segment(sound: Sound, at: Path) -> tuple[Path, Error]:
    """Made so: the manifest agrees with the file."""
    target, path = copied(sound.parquet, at)
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(0, 7), table.slice(9)]), path)
    manifest = orjson.loads((target / "manifest.json").read_bytes())
    segment = manifest["tape"]["partitions"][0]["segments"][0]
    segment |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (target / "manifest.json").write_bytes(orjson.dumps(manifest))
    return target, error(
        "tape_jump",
        "offset of tape partition 0 was 9; expected 7: a record is missing before it.",
        f"{path}, row 8", "offset", value="9", expected="7", fix=TAPE_AGAIN,
    )  # fmt: skip


def manifest_with(sound: Sound, at: Path, **fields: Any) -> tuple[Path, Path]:
    target, _ = copied(sound.parquet, at)
    path = target / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | fields))
    return target, path


def newer_manifest(sound: Sound, at: Path) -> tuple[Path, Error]:
    target, path = manifest_with(sound, at, version="999.1", tape="in another form")
    return target, newer("999.1", str(path))


def newer_format(sound: Sound, at: Path) -> tuple[Path, Error]:
    target, path = manifest_with(sound, at, format=2)
    return target, error(
        "newer_format", "the folder's format was 2; this version reads up to 1.", str(path),
        "format", value="2", expected="at most 1", fix="Upgrade pricemaker.",
    )  # fmt: skip


def bad_manifest(sound: Sound, at: Path) -> tuple[Path, Error]:
    target, _ = copied(sound.parquet, at)
    path = target / "manifest.json"
    path.write_bytes(path.read_bytes()[:-30])
    return target, error(
        "bad_manifest", "it can't be read: Input data was truncated.", str(path), "manifest",
        expected="a manifest that pricemaker export wrote", fix=FOLDER_AGAIN,
    )  # fmt: skip


def no_manifest(sound: Sound, at: Path) -> tuple[Path, Error]:
    return at, error(
        "no_manifest", "the folder has no manifest.json.", str(at), "manifest",
        expected="a folder that pricemaker export wrote",
        fix="Give the folder that holds the manifest, not one of a partition.",
    )  # fmt: skip


SPOILT: list[Spoil] = [
    cut_event_file, cut_tape_file, cut_gzip, cut_zstd, hole, out_of_order, repeated,
    declared_order, unknown_type, torn_event, newer_engine_on_tape, cut_parquet, cut_jsonl,
    flipped_byte, missing_segment, hole_in_a_segment, newer_manifest, newer_format, bad_manifest,
    no_manifest,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda one: one.__name__)
def test_a_bad_source_is_told_with_its_place(sound: Sound, tmp_path: Path, spoil: Spoil) -> None:
    source, expected = spoil(sound, tmp_path)
    arguments = ["replay", str(source), "--partitions", str(PARTITIONS), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (3, "")
    assert json.loads(result.stderr) == expected


@pytest.mark.parametrize("command", [["train", "baskets"], ["train", "prior"], ["export"]])
def test_other_commands_say_the_same(sound: Sound, tmp_path: Path, command: list[str]) -> None:
    source, expected = hole(sound, tmp_path)
    rest = [str(tmp_path / "out")] if command == ["export"] else []
    arguments = [*command, str(source), *rest, "--partitions", str(PARTITIONS), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 3
    assert json.loads(result.stderr) == expected


def test_once_mended_it_goes_on_to_the_same_hash(tmp_path: Path) -> None:
    """From a checkpoint before the bad line, with the file as it should be."""
    good, bad, saved = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "saved"
    run("simulate", "--seed", "3", "--products", "10", "--days", "20", "--out", good)
    lines = good.read_bytes().splitlines(keepends=True)
    at = len(lines) * 3 // 4
    bad.write_bytes(b"".join([*lines[:at], b"junk\n", *lines[at:]]))
    arguments = ["--partitions", "2", "--checkpoint", str(saved), "--checkpoint-every", "50"]
    result = CliRunner().invoke(cli, ["replay", str(bad), *arguments, "--json"])
    told = json.loads(result.stderr)
    where = f"{bad}:{at + 1}"
    assert (result.exit_code, told["code"], told["where"]) == (3, "bad_event_line", where)
    assert told["fix"].endswith(f" Then go on with --from-checkpoint {saved}.")
    assert replayed(good, "--from-checkpoint", saved) == replayed(good)


@pytest.mark.kafka
def test_a_tape_that_lost_its_beginning(
    kafka_bootstrap: str, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by itself; folded from an empty state where that is asked for, and said."""
    prefix = fresh_topics(kafka_bootstrap).topics.prefix
    monkeypatch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for line in sound.lines:
        position, value = tape.parse_line(line)
        producer.produce(prefix + TAPE.name, value, partition=position.partition)
    assert producer.flush(30) == 0
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    deleted = admin.delete_records([TopicPartition(prefix + TAPE.name, 1, 20)])
    assert [one.result().low_watermark for one in deleted.values()] == [20]
    result = CliRunner().invoke(cli, ["replay", "kafka", "--json"])
    assert (result.exit_code, json.loads(result.stderr)) == (3, error(
        "tape_cut", "the tape begins at offset 20; expected 0.", f"{prefix}tape[1]", "offset",
        value="20", expected="at most 0",
        fix="Go on from a checkpoint (--from-checkpoint), read an export that still has the "
        "beginning, or fold what is left from an empty state with --from-offset.",
    ))  # fmt: skip
    document = run("replay", "kafka", "--from-offset", "1:20")
    assert document["source"]["starts_from"] == "empty state"
    assert document["source"]["first_offsets"] == {"0": 0, "1": 20}


@pytest.mark.parametrize("text", ["", "x", "-1", "0:1,", "0:x", "1:2:3", "0:-1"])
def test_offsets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected an offset, or PARTITION:OFFSET"):
        parse_offsets(text)
