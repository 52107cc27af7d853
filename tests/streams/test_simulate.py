"""``pricemaker simulate``: the same options give the same file, with the truth beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.event_files import read_events
from streams.tape_builder import TapeBuilder

OPTIONS = ["--products", "6", "--days", "5", "--seed", "7", "--bad-share", "0.05"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["simulate", *map(str, arguments)])


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for file, more in zip(files, ([], [], ["--seed", "8"]), strict=True):
        assert run(*OPTIONS, *more, "--out", file).exit_code == 0
    contents = [file.read_bytes() for file in files]
    truths = [file.with_name(file.name + ".truth.json").read_bytes() for file in files]
    assert contents[0] == contents[1] != contents[2]
    assert truths[0] == truths[1] != truths[2]


def test_the_report_counts_what_is_in_the_file(tmp_path: Path) -> None:
    out = tmp_path / "shop.jsonl.gz"
    result = run(*OPTIONS, "--json", "--out", out)
    report = json.loads(result.stdout)
    records = list(read_events(out))
    counts = Counter(topic for topic, _ in records)
    assert report["records"] == len(records)
    assert report["records_by_topic"] == dict(sorted(counts.items()))
    builder = TapeBuilder(4)
    for topic, value in records:
        builder.append(topic, value)
    assert builder.dead_letters == sum(report["bad_records"].values()) > 0
    truth = json.loads(out.with_name(out.name + ".truth.json").read_bytes())
    assert truth["totals"] == report["totals"]
    assert truth["at"] == "2025-01-11T00:00:00.000Z"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([], "--out"),
        (["--to-kafka", "--out", "x.jsonl"], "--out"),
        (["--start", "tomorrow", "--to-kafka"], "start"),
        (["--bad-share", "2", "--to-kafka"], "--bad-share"),
    ],
)
def test_wrong_usage_names_the_option(arguments: list[str], field: str) -> None:
    result = run("--json", *arguments)
    assert result.exit_code == 2
    assert json.loads(result.stderr.splitlines()[-1])["field"] == field


def test_a_folder_that_is_not_there_is_out_of_reach(tmp_path: Path) -> None:
    result = run("--json", "--out", tmp_path / "none" / "shop.jsonl")
    assert result.exit_code == 4
    assert json.loads(result.stderr.splitlines()[-1])["code"] == "file_unreachable"
