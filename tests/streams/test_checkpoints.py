"""Checkpoints of a replay: gone on from anywhere to the same bytes; refused unless whole."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from schemas import tape
from streams.cli import cli
from streams.replay import replay_lane, replay_run
from streams.replay.replay_conductor import Conductor
from tests.streams.spine import Shop, fresh_topics
from tests.streams.test_replay import HASHES, Files, fails, files, run

__all__ = ["files"]  # the fixture


@pytest.fixture(scope="module")
def checkpoint(files: Files) -> Path:
    path = files.folder / "saved.jsonl"
    run(files.tape, "--stop-after", "2000", "--checkpoint", path)
    return path


@pytest.mark.parametrize("after_records", [1, 1200, 3100])
def test_an_interrupt_leaves_a_checkpoint_and_what_was_decided(
    files: Files, monkeypatch: pytest.MonkeyPatch, after_records: int
) -> None:
    out = files.folder / f"cut-{after_records}.jsonl"
    saved = files.folder / f"cut-{after_records}-state.jsonl"
    note = Conductor.note

    def note_and_interrupt(self: Conductor, lane: int, records: int, share: float) -> None:
        note(self, lane, records, share)
        if records >= after_records:
            interrupts.seen = True

    interrupts = replay_run.Interrupts()
    with monkeypatch.context() as patch:
        patch.setattr(replay_lane, "REPORT_RECORDS", 50)
        patch.setattr(replay_run, "Interrupts", lambda: interrupts)
        patch.setattr(Conductor, "note", note_and_interrupt)
        options = ["--out", str(out), "--checkpoint", str(saved), "--json"]
        result = CliRunner().invoke(cli, ["replay", str(files.tape), *options])
    assert (result.exit_code, result.stdout) == (130, "")
    assert not out.exists()
    head = json.loads(saved.read_bytes().splitlines()[0])
    folded = sum(place["position"] + 1 for place in head["places"])
    assert after_records <= folded < after_records + 100
    document = run(files.tape, "--out", out, "--from-checkpoint", saved)
    assert document["records"] == files.document["records"] - folded
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    assert out.read_bytes() == files.decisions
    assert list(files.folder.glob(f"{out.name}.*")) == []


def test_an_interrupt_without_a_checkpoint_leaves_nothing(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = replay_run.Interrupts()
    interrupts.seen = True
    monkeypatch.setattr(replay_run, "Interrupts", lambda: interrupts)
    out = files.folder / "none.jsonl"
    result = CliRunner().invoke(cli, ["replay", str(files.tape), "--out", str(out)])
    assert result.exit_code == 130
    assert list(files.folder.glob("none.jsonl*")) == []


def test_checkpoints_on_the_way_change_nothing(files: Files) -> None:
    out, saved = files.folder / "often.jsonl", files.folder / "often-state.jsonl"
    options = ["--out", out, "--checkpoint", saved, "--checkpoint-every", "500"]
    document = run(files.tape, *options)
    # looked up from after 499, 999... of 4,287 records: due from the second time on; one at the end
    assert (document["records"], document.pop("checkpoints_written")) == (4287, 8)
    expected = files.document | {"refused_at_intake": 0}
    del expected["checkpoints_written"]
    assert document == expected
    assert out.read_bytes() == files.decisions


def test_decisions_written_after_the_checkpoint_are_cut_off(files: Files) -> None:
    """As after a kill: the parts hold more than the checkpoint knows, the last line torn."""
    out, saved = files.folder / "killed.jsonl", files.folder / "killed-state.jsonl"
    run(files.tape, "--stop-after", "2000", "--out", out, "--checkpoint", saved)
    places = json.loads(saved.read_bytes().splitlines()[0])["places"]
    joined, at = out.read_bytes(), 0
    for place in places:
        size = place["written"]["bytes"]
        part = out.with_name(f"{out.name}.{place['partition']}.partial")
        part.write_bytes(joined[at : at + size] + b'{"sku":"torn')
        at += size
    out.unlink()
    run(files.tape, "--out", out, "--from-checkpoint", saved)
    assert out.read_bytes() == files.decisions


def test_other_decisions_are_not_gone_on_with(files: Files) -> None:
    out, saved = files.folder / "other.jsonl", files.folder / "other-state.jsonl"
    run(files.tape, "--stop-after", "2000", "--out", out, "--checkpoint", saved)
    whole = out.read_bytes()
    for changed in (whole[:-1], whole.replace(b"EUR", b"USD", 1)):
        out.write_bytes(changed)
        code, error = fails(files.tape, "--out", out, "--from-checkpoint", saved)
        assert (code, error["code"]) == (3, "other_decisions")
        for part in out.parent.glob("other.jsonl.*"):
            part.unlink()


def test_another_tape_is_not_gone_on_with(files: Files, checkpoint: Path) -> None:
    lines = files.tape.read_bytes().splitlines(keepends=True)
    last = next(n for n in reversed(range(2000)) if b"order_placed" in lines[n])
    place = json.loads(checkpoint.read_bytes().splitlines()[0])["places"]
    line = json.loads(lines[last])
    at = {"partition": line["tape"]["partition"], "offset": line["tape"]["offset"]}
    position = next(one for one in place if one["partition"] == at["partition"])["position"]
    changed = [
        other.replace(b'"event_id":"', b'"event_id":"x', 1)
        if json.loads(other)["tape"] == {"partition": at["partition"], "offset": position}
        else other
        for other in lines
    ]
    path = files.folder / "other-tape.jsonl"
    path.write_bytes(b"".join(changed))
    code, error = fails(path, "--from-checkpoint", checkpoint)
    assert (code, error["code"], error["where"]) == (
        3, "other_tape", f"tape[{at['partition']}]@{position}",
    )  # fmt: skip


def damaged(lines: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Checkpoints that are not whole, and the line that is named."""
    whole = b"".join(lines)
    yield whole[:-30], len(lines)
    yield b"".join(lines[:-1]), len(lines) - 1
    yield b"".join(lines[:20]), 20
    yield whole + b"\n", len(lines)
    yield whole.replace(b'"position":', b'"position": ', 1), len(lines)
    yield b"".join([*lines[:5], *lines[6:]]), len(lines) - 1


def test_a_checkpoint_that_is_not_whole_is_refused(files: Files, checkpoint: Path) -> None:
    path = files.folder / "damaged.jsonl"
    for text, line in damaged(checkpoint.read_bytes().splitlines(keepends=True)):
        path.write_bytes(text)
        code, error = fails(files.tape, "--from-checkpoint", path)
        assert (code, error["code"], error["where"]) == (3, "bad_checkpoint", f"{path}:{line}")


@pytest.mark.parametrize(
    "line",
    [
        b"[1,2,3]\n",
        b"{}\n",
        b'{"checkpoint":2,"engine":"","partitions":1,"places":[]}\n',
        b"\xff\n",
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(files: Files, line: bytes) -> None:
    path = files.folder / "junk.jsonl"
    path.write_bytes(line)
    code, error = fails(files.tape, "--from-checkpoint", path)
    assert (code, error["code"], error["where"]) == (3, "bad_checkpoint", f"{path}:1")


@pytest.mark.parametrize("partitions", ["2", "8"])
def test_a_checkpoint_of_other_partitions_is_refused(
    files: Files, checkpoint: Path, partitions: str
) -> None:
    options = ["--from-checkpoint", checkpoint, "--partitions", partitions]
    code, error = fails(files.events, *options)
    assert (code, error["code"], error["where"]) == (3, "partition_mismatch", str(checkpoint))
    assert orjson.loads(orjson.dumps(error))["value"] == "4"


@pytest.mark.kafka
@pytest.mark.parametrize("processes", ["1", "2"])
def test_what_a_file_began_goes_on_from_kafka(
    files: Files,
    checkpoint: Path,
    kafka_bootstrap: str,
    monkeypatch: pytest.MonkeyPatch,
    processes: str,
) -> None:
    live = fresh_topics(kafka_bootstrap)
    shop = Shop(live)
    for line in files.tape.read_bytes().splitlines():
        at, value = tape.parse_line(line)
        shop.raw("tape", None, value, partition=at.partition)
    shop.flush()
    monkeypatch.setenv("PRICEMAKER_KAFKA__BOOTSTRAP", kafka_bootstrap)
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", live.topics.prefix)
    document = run("kafka", "--from-checkpoint", checkpoint, "--processes", processes)
    assert document["records"] == files.document["records"] - 2000
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    first = next(p for p in json.loads(checkpoint.read_bytes().splitlines()[0])["places"])
    moved = checkpoint.with_name(f"moved-{processes}.jsonl")
    other = replace_record_hash(checkpoint, first["record_sha256"])
    moved.write_bytes(other)
    code, error = fails("kafka", "--from-checkpoint", moved, "--processes", processes)
    assert (code, error["code"]) == (3, "other_tape")
    assert error["where"] == f"tape[{first['partition']}]@{first['position']}"


def replace_record_hash(checkpoint: Path, sha256: str) -> bytes:
    """The checkpoint as that of a tape with another last record."""
    lines = checkpoint.read_bytes().splitlines(keepends=True)[:-1]
    lines[0] = lines[0].replace(sha256.encode(), b"0" * 64)
    whole = b"".join(lines)
    return whole + orjson.dumps({"sha256": hashlib.sha256(whole).hexdigest()}) + b"\n"
