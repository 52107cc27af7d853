"""``pricemaker replay``: the same tape gives the same bytes, from any source, in any pieces."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import tape
from streams.cli import cli

PARTITIONS = 4
MEASURED = (
    "seconds", "start_seconds", "cpu_seconds_max", "records_per_second", "peak_memory_mib",
)  # fmt: skip
HASHES = ("decisions_sha256", "state_sha256", "positions")


class Files(NamedTuple):
    """A simulated shop's events, and what replaying them wrote."""

    folder: Path
    events: Path
    tape: Path
    decided: Path
    document: dict[str, Any]

    @property
    def decisions(self) -> bytes:
        """The decisions, one JSON line each."""
        return self.decided.read_bytes()


def run(*arguments: str | Path) -> dict[str, Any]:
    """The document of a replay, without what was measured."""
    result = CliRunner().invoke(cli, ["replay", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    for name in MEASURED:
        assert document.pop(name) > 0
    assert document.pop("source")["source"] == str(arguments[0])
    return document


def fails(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and error of a replay."""
    result = CliRunner().invoke(cli, ["replay", *map(str, arguments), "--json"])
    assert result.stdout == ""
    return result.exit_code, json.loads(result.stderr)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("replay")
    events = folder / "events.jsonl"
    options = ["--seed", "5", "--products", "10", "--days", "15", "--bad-share", "0.02"]
    made = CliRunner().invoke(cli, ["simulate", *options, "--out", str(events)])
    assert made.exit_code == 0, made.stderr
    tape_file, decided = folder / "tape.jsonl", folder / "decisions.jsonl"
    document = run(events, "--tape-out", tape_file, "--out", decided)
    return Files(folder, events, tape_file, decided, document)


def test_the_summary_counts_what_became_of_every_record(files: Files) -> None:
    document = files.document
    lines = files.tape.read_bytes().splitlines()
    assert document["records"] == len(lines) == document["applied"] + document["duplicates"]
    assert sum(position + 1 for position in document["positions"].values()) == len(lines)
    events = files.events.read_bytes().splitlines()
    ticks = sum(b'"clock_ticked"' in line for line in lines)
    # ticks are made on the way, on every partition; bad records are refused
    assert len(events) == len(lines) - ticks + document["refused_at_intake"]
    assert document["refused_at_intake"] > 0
    assert document["ticks"] == ticks
    decisions = [json.loads(line) for line in files.decisions.splitlines()]
    statuses = [decision["status"] for decision in decisions]
    assert document["decisions"] == len(decisions) > 40
    assert (document["published"], document["held"]) == (
        statuses.count("published"), statuses.count("held"),
    )  # fmt: skip
    assert document["dead_letters"] == document["breaker_trips"] == 0
    published = {d["sku"] for d in decisions if d["status"] == "published"}
    assert document["products_priced"] == len(published) <= document["products"]


def test_the_hash_is_that_of_the_decisions_bytes(files: Files) -> None:
    """A chain per partition over the bytes that ``--out`` writes: SHA-256 of hash and value."""
    chains = [""] * PARTITIONS
    for line in files.decisions.splitlines():
        number = json.loads(line)["tape"]["partition"]
        chains[number] = hashlib.sha256(chains[number].encode() + line).hexdigest()
    text = "".join(f"{number}:{chain}\n" for number, chain in enumerate(chains))
    assert hashlib.sha256(text.encode()).hexdigest() == files.document["decisions_sha256"]


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_the_batch_size_changes_nothing(files: Files, size: int) -> None:
    out = files.folder / f"decisions-{size}.jsonl"
    assert run(files.events, "--batch", str(size), "--out", out) == files.document
    assert out.read_bytes() == files.decisions


@pytest.mark.parametrize("processes", [2, 4])
def test_the_number_of_processes_changes_nothing(files: Files, processes: int) -> None:
    out = files.folder / f"decisions-of-{processes}.jsonl"
    document = run(files.tape, "--processes", str(processes), "--out", out)
    assert document == files.document | {"processes": processes, "refused_at_intake": 0}
    assert out.read_bytes() == files.decisions
    assert list(files.folder.glob("*.partial")) == []


def test_a_tape_file_is_the_tape_of_its_events(files: Files) -> None:
    out = files.folder / "from-tape.jsonl"
    expected = files.document | {"refused_at_intake": 0}  # what was refused is on no tape
    assert run(files.tape, "--out", out) == expected
    assert out.read_bytes() == files.decisions
    copy = files.folder / "copy.jsonl"
    run(files.tape, "--tape-out", copy)
    assert copy.read_bytes() == files.tape.read_bytes()


def test_compressed_files_are_the_same(files: Files) -> None:
    for path in (files.events, files.tape):
        packed = files.folder / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert run(packed) == run(path)


@settings(max_examples=8)
@given(data=st.data())
def test_split_and_resumed_anywhere_it_ends_the_same(files: Files, data: st.DataObject) -> None:
    """Stopped after some records, gone on from the checkpoint, stopped again, gone on."""
    source = data.draw(st.sampled_from([files.events, files.tape]))
    total = files.document["records"]
    places = st.lists(st.integers(1, total - 1), min_size=2, max_size=2, unique=True)
    first, second = sorted(data.draw(places))
    size = str(data.draw(st.sampled_from([1, 50, 1000])))
    checkpoint, out = files.folder / "checkpoint.jsonl", files.folder / "growing.jsonl"
    out.unlink(missing_ok=True)
    resumed: list[str | Path] = []
    written = 0
    for stop in (first, second - first, None):
        stops = [] if stop is None else ["--stop-after", str(stop)]
        document = run(
            source, "--batch", size, "--out", out, "--checkpoint", checkpoint,
            *resumed, *stops,
        )  # fmt: skip
        written += document["decisions_written"]
        assert len(out.read_bytes().splitlines()) == written
        resumed = ["--from-checkpoint", checkpoint]
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    assert out.read_bytes() == files.decisions


def test_a_checkpoint_at_the_end_leaves_nothing_to_do(files: Files) -> None:
    saved, again = files.folder / "end.jsonl", files.folder / "end-again.jsonl"
    run(files.tape, "--checkpoint", saved)
    resumed = ["--from-checkpoint", str(saved), "--checkpoint", str(again)]
    result = CliRunner().invoke(cli, ["replay", str(files.tape), "--json", *resumed])
    document = json.loads(result.stdout)
    assert (document["records"], document["decisions_written"]) == (0, 0)
    assert {name: document[name] for name in HASHES} == {
        name: files.document[name] for name in HASHES
    }
    assert again.read_bytes() == saved.read_bytes()


def test_the_number_of_partitions_belongs_to_the_tape(files: Files) -> None:
    """On one partition other ids and hashes, but the same prices of the same products."""
    out = files.folder / "one.jsonl"
    document = run(files.events, "--partitions", "1", "--out", out)
    assert document["positions"] == {"0": document["records"] - 1}
    assert document["decisions_sha256"] != files.document["decisions_sha256"]

    def products(lines: bytes) -> set[str]:
        return {json.loads(line)["sku"] for line in lines.splitlines()}

    assert products(out.read_bytes()) == products(files.decisions)


def test_text_for_people(files: Files) -> None:
    result = CliRunner().invoke(cli, ["replay", str(files.tape)])
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert f"decisions SHA-256 {files.document['decisions_sha256']}" in text
    assert f"{files.document['products']:,}, {files.document['products_priced']:,} priced" in text


# -- what is wrong with a source


def test_a_file_that_is_not_there(files: Files) -> None:
    missing = files.folder / "missing.jsonl"
    code, error = fails(missing)
    assert (code, error["code"], error["where"]) == (4, "file_unreachable", str(missing))


def test_a_file_that_is_neither_tape_nor_events(files: Files) -> None:
    path = files.folder / "hello.txt"
    path.write_text("hello\n")
    code, error = fails(path)
    assert (code, error["code"], error["where"]) == (3, "bad_event_line", f"{path}:1")


@pytest.mark.parametrize("torn", [b"{}\n", b'{"tape":{"partition":0,"off', b"\xff\n"])
def test_a_bad_line_of_a_tape_file_is_named(files: Files, torn: bytes) -> None:
    lines = files.tape.read_bytes().splitlines(keepends=True)[:5]
    path = files.folder / "torn.jsonl"
    path.write_bytes(b"".join(lines) + torn)
    code, error = fails(path)
    assert (code, error["code"], error["where"]) == (3, "bad_tape_line", f"{path}:6")


def test_a_tape_with_a_gap_is_not_folded(files: Files) -> None:
    lines = files.tape.read_bytes().splitlines(keepends=True)
    path = files.folder / "gap.jsonl"
    path.write_bytes(b"".join(lines[:6] + lines[40:]))
    code, error = fails(path)
    assert (code, error["code"]) == (3, "tape_jump")
    line = int(error["where"].removeprefix(f"{path}:"))
    found = position_of(path.read_bytes().splitlines()[line - 1])
    missing = [p.offset for p in map(position_of, lines[6:40]) if p.partition == found.partition]
    assert (error["value"], error["expected"]) == (str(found.offset), str(missing[0]))


def position_of(line: bytes) -> tape.Position:
    return tape.parse_line(line)[0]


def test_an_event_on_a_tape_that_is_none_is_named_by_its_place(files: Files) -> None:
    lines = files.tape.read_bytes().splitlines(keepends=True)[:6]
    path = files.folder / "no-event.jsonl"
    path.write_bytes(b"".join(lines[:5]) + lines[5].replace(b'"type"', b'"typo"'))
    code, error = fails(path)
    assert (code, error["code"], error["where"]) == (3, "torn_tape", f"{path}:6")


@pytest.mark.parametrize("cut", [0.5, 0.0001])
def test_a_damaged_archive_is_refused(files: Files, cut: float) -> None:
    packed = gzip.compress(files.tape.read_bytes())
    path = files.folder / "damaged.jsonl.gz"
    path.write_bytes(packed[: int(cut * len(packed))])
    code, error = fails(path)
    assert (code, error["code"]) == (3, "damaged_file")
    assert error["where"].startswith(f"{path}:")


@pytest.mark.parametrize("option", ["--out", "--tape-out", "--checkpoint"])
def test_a_folder_that_is_not_there(files: Files, option: str) -> None:
    path = files.folder / "missing" / "file.jsonl"
    code, error = fails(files.tape, "--stop-after", "5", option, path)
    assert (code, error["code"], error["where"]) == (4, "file_unreachable", str(path))


def test_a_tape_of_more_partitions_than_were_given(files: Files) -> None:
    code, error = fails(files.tape, "--partitions", "2")
    assert (code, error["code"]) == (3, "partition_mismatch")
    assert error["fix"] == "Give the tape's number of partitions with --partitions."
