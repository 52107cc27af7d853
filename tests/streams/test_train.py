"""``pricemaker train prior``: a tape in, a published document out."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from models.prior import prior_sha256
from schemas.codec import canonical
from schemas.learned import DemandPrior
from streams.cli import cli
from streams.config import load_settings
from streams.training import TapeFold


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train") / "events.jsonl"
    options = ["--seed", "3", "--products", "16", "--days", "20", "--out", str(path)]
    made = CliRunner().invoke(cli, ["simulate", *options])
    assert made.exit_code == 0, made.stderr
    return path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, ["train", "prior", *map(str, arguments), "--json"])


def test_a_tape_gives_a_document_known_by_its_hash(events: Path, tmp_path: Path) -> None:
    out = tmp_path / "prior.json"
    result = run(events, "--no-meta", "--out", out)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    prior = msgspec.json.decode(out.read_bytes(), type=DemandPrior)
    assert (told["prior_sha256"], told["published"]) == (prior_sha256(prior), False)
    assert out.read_bytes() == canonical(prior)
    assert prior.training is not None
    assert told["training"] == json.loads(canonical(prior.training))
    assert prior.training.champion == "empirical Bayes"
    assert list(told["by_orders_seen"]) == ["default prior", "empirical Bayes"]
    # the same tape trains the same document, however it is placed on partitions
    again = run(events, "--no-meta", "--partitions", 1, "--out", tmp_path / "again.json")
    assert again.exit_code == 0, again.stderr
    other = msgspec.json.decode((tmp_path / "again.json").read_bytes(), type=DemandPrior)
    assert (other.mean, other.cov, other.categories) == (prior.mean, prior.cov, prior.categories)
    assert other.training is not None
    assert other.training.orders == prior.training.orders


def test_a_person_sees_the_rows_side_by_side(events: Path) -> None:
    result = CliRunner().invoke(cli, ["train", "prior", str(events), "--no-meta"])
    assert result.exit_code == 0, result.stderr
    lines = [line.split("  ")[0].strip() for line in result.stdout.splitlines()]
    start = lines.index("K = 0 orders")
    assert lines[start : start + 8] == [
        "K = 0 orders", "K = 5 orders", "K = 10 orders", "K = 50 orders", "K = 100 orders",
        "K = 500 orders", "first epoch", "mean over products",
    ]  # fmt: skip


def test_reading_on_takes_only_what_is_new(events: Path) -> None:
    fold = TapeFold(load_settings(None, {}), str(events), 2)
    first, again = fold.read(), fold.read()
    assert first == again
    assert first.records == sum(position + 1 for position in first.positions.values())


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--every", "60"], 2, "service_needs_kafka"),
        (["--every", "60", "--publish"], 2, "service_needs_kafka"),
    ],
)
def test_a_service_needs_a_tape_that_grows(
    events: Path, arguments: list[str], code: int, error: str
) -> None:
    result = run(events, *arguments)
    assert (result.exit_code, json.loads(result.stderr)["code"]) == (code, error)


def test_too_short_a_tape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    options = ["--products", "3", "--days", "3", "--out", str(path)]
    assert CliRunner().invoke(cli, ["simulate", *options]).exit_code == 0
    result = run(path)
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"]) == (3, "too_few_products")
    assert error["fix"] == "Train on a longer tape, or one with more products."
