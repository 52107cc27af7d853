"""``pricemaker pnl``: files in, both layers out; and the bars on a small closed loop."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.pnl import Asked, closed_loop, explained, residuals
from models.kernel.tile import Kernel
from schemas import tape
from schemas.codec import canonical
from streams.cli import cli
from streams.config import load_settings
from streams.worker.engines import warm_kernel


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


@pytest.fixture(scope="module")
def files(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    loop = closed_loop(kernel, 101, Asked("reference", 5, 12))
    folder = tmp_path_factory.mktemp("pnl")
    decisions, records = folder / "decisions.jsonl", folder / "shop.tape"
    decisions.write_bytes(b"".join(canonical(one) + b"\n" for one in loop.decisions))
    lines = (tape.line(tape.Position(0, one.offset), one.value) + b"\n" for one in loop.tape)
    records.write_bytes(b"".join(lines))
    return decisions, records


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["pnl", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_all_products_with_totals(files: tuple[Path, Path]) -> None:
    found = json.loads(run("--all", "--from", files[0], "--tape", files[1], "--json"))
    for row in found["days"]:
        if row["terms"] is not None:
            told = sum(row["terms"].values()) + row["revaluation_minor"]
            assert told == pytest.approx(row["change_minor"], rel=1e-9, abs=1e-6)
    realised = [row["realised"] for row in found["days"] if row["realised"] is not None]
    assert sum(one["orders"] for one in realised) > 0
    assert sum(one["realised_minor"] for one in realised) == pytest.approx(
        sum(total["realised_minor"] for total in found["totals"])
    )
    assert len({row["sku"] for row in found["days"]}) == 5


def test_before_the_lag_has_passed_nothing_is_watched(files: tuple[Path, Path]) -> None:
    arguments = ("--all", "--from", files[0], "--tape", files[1])
    found = json.loads(run(*arguments, "--json"))
    assert ([row["alarm"] for row in found["days"] if row["alarm"]], found["alarms"]) == ([], [])
    assert run(*arguments).count("watched") > 0


def test_one_product_and_day(files: tuple[Path, Path]) -> None:
    everything = json.loads(run("--all", "--from", files[0], "--tape", files[1], "--json"))
    wanted = everything["days"][3]
    arguments = (wanted["sku"], "--day", wanted["day"], "--from", files[0], "--tape", files[1])
    assert json.loads(run(*arguments, "--json"))["days"] == [wanted]
    assert wanted["sku"] in run(*arguments)


def test_without_a_tape_there_is_the_model_layer_alone(files: tuple[Path, Path]) -> None:
    found = json.loads(run("--all", "--from", files[0], "--json"))
    assert {row["realised"] is None for row in found["days"]} == {True}


def test_a_product_that_is_not_there(files: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(cli, ["pnl", "nothing", "--from", str(files[0])])
    assert result.exit_code == 3
    assert "no published decision" in result.stderr


def test_the_bars_on_a_small_closed_loop(kernel: Kernel) -> None:
    loop = closed_loop(kernel, 1, Asked("reference", 20, 60))
    assert explained(loop)["share_explained_16_steps_without_first_stock"] >= 0.95
    found = residuals(loop)
    assert 0.85 <= found["residual_sd"] <= 1.15
    assert abs(found["residual_mean_in_standard_errors"]) <= 3.0
