"""``pricemaker simulate``: the same options give the same file, with the truth beside it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from models.simulator.simulator import Shop
from models.simulator.simulator_habit import CostPlusHabit
from models.simulator.simulator_presets import EFFECTS, shop_settings
from models.simulator.simulator_tables import day_columns, product_columns
from streams.cli import cli
from streams.tape.event_files import read_events
from streams.tape.tape_builder import TapeBuilder

OPTIONS = ["--products", "6", "--days", "5", "--seed", "7", "--bad-share", "0.05"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["simulate", *map(str, arguments)])


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for file, more in zip(files, ([], [], ["--seed", "8"]), strict=True):
        assert run(*OPTIONS, *more, "--out", file).exit_code == 0
    contents = [file.read_bytes() for file in files]
    assert contents[0] == contents[1] != contents[2]
    for suffix in (".products.parquet", ".days.parquet"):
        truths = [file.with_name(file.name + suffix).read_bytes() for file in files]
        assert truths[0] == truths[1] != truths[2]


def test_the_truth_in_parquet_is_the_shop_s(tmp_path: Path) -> None:
    out = tmp_path / "shop.jsonl"
    assert run(*OPTIONS, "--with", "season", "--with", "drift", "--out", out).exit_code == 0
    settings = shop_settings("shop", ["season", "drift"], products=6, bad_share=0.05)
    shop = Shop(7, settings=settings)
    habit = CostPlusHabit(shop, 7)
    days: dict[str, list[Any]] = {}
    for _ in range(5):
        for _ in range(24):
            shop.step(habit.prices())
        for name, values in day_columns(shop).items():
            days.setdefault(name, []).extend(values)
    assert pq.read_table(tmp_path / "shop.jsonl.days.parquet").to_pydict() == days
    table = pq.read_table(tmp_path / "shop.jsonl.products.parquet")
    assert table.to_pydict() == product_columns(shop)
    about = json.loads(table.schema.metadata[b"pricemaker"])
    assert (about["seed"], about["totals"]) == (7, dict(sorted(shop.totals.items())))
    assert about["settings"]["world"]["season_sd"] == settings.world.season_sd
    assert days["day"][0] == "2025-01-06"
    assert all(b >= p - 1e-9 for b, p in zip(
        days["best_profit_per_day_minor"], days["profit_per_day_minor"], strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("preset", ["shop", "reference"])
def test_every_effect_makes_good_events(preset: str, tmp_path: Path) -> None:
    out = tmp_path / "shop.jsonl"
    effects = [option for name in EFFECTS for option in ("--with", name)]
    result = run("--products", "60", "--days", "10", "--preset", preset, *effects, "--json",
                 "--out", out)  # fmt: skip
    assert result.exit_code == 0
    builder = TapeBuilder(4)
    kinds = Counter()
    for topic, value in read_events(out):
        kinds[json.loads(value)["type"]] += 1
        builder.append(topic, value)
    assert builder.dead_letters == 0
    assert kinds["calendar_published"] == 1
    assert kinds["promotion_scheduled"] >= 1
    assert kinds["order_placed"] > 100


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
    table = pq.read_table(out.with_name(out.name + ".products.parquet"))
    assert json.loads(table.schema.metadata[b"pricemaker"])["totals"] == report["totals"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([], "--out"),
        (["--to-kafka", "--out", "x.jsonl"], "--out"),
        (["--start", "tomorrow", "--to-kafka"], "start"),
        (["--bad-share", "2", "--to-kafka"], "--bad-share"),
        (["--closed-loop", "--out", "x.jsonl"], "--closed-loop"),
        (["--closed-loop", "--to-kafka", "--ahead", "5"], "--ahead"),
        (["--with", "holidays", "--country", "XX", "--out", "x.jsonl"], "country"),
        (["--with", "holidays", "--start", "tomorrow", "--out", "x.jsonl"], "start"),
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
