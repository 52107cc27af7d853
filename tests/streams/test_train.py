"""``pricemaker train prior``: a tape in, a published document out."""

import json
import uuid
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from models.demand.history import EpochHistory
from models.prior.prior import DEFAULT_PRIOR, prior_sha256
from schemas.codec import canonical
from schemas.events import PriorPublished
from schemas.learned import DemandPrior
from schemas.topics import CONTROLS, TAPE
from streams.cli import cli
from streams.config import load_settings
from streams.kafka.reader import opened, read_to_end
from streams.tape.event_files import read_events
from streams.tape.tape_builder import Placed, TapeBuilder
from streams.tape.tape_selection import SourceSpec
from streams.training.training import TapeFold
from streams.training.training_prior import keep_fresh, refresh_once


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


def spec(events: Path) -> SourceSpec:
    return SourceSpec(source=str(events), partitions=2)


def test_reading_on_takes_only_what_is_new(events: Path) -> None:
    fold = TapeFold(load_settings(None, {}), spec(events))
    first, again = fold.read(), fold.read()
    assert first == again
    assert first.records == sum(position + 1 for position in first.positions.values())


def test_only_closed_epochs_are_news(events: Path) -> None:
    history = EpochHistory()
    fold = TapeFold(load_settings(None, {}), spec(events), history)
    fresh = refresh_once(fold, history, DEFAULT_PRIOR)
    assert fresh is not None
    assert fresh.training is not None
    assert fresh.training.epochs == history.noted > 0
    assert refresh_once(fold, history, fresh) is None


def published(settings: Any) -> list[PriorPublished]:
    with opened(settings, "train-test") as consumer:
        found = read_to_end(consumer, settings.topics.prefix + CONTROLS.name, 0, 60.0)
        return [msgspec.json.decode(one.value(), type=PriorPublished) for one in found]


def put(bootstrap: str, topic: str, records: list[Placed]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for placed in records:
        producer.produce(topic, placed.value, partition=placed.partition)
    assert producer.flush(30) == 0


@pytest.mark.kafka
def test_a_service_publishes_goes_on_and_publishes_again(
    kafka_bootstrap: str, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"train-{uuid.uuid4().hex[:8]}-"
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    made = [NewTopic(prefix + TAPE.name, 2, 1), NewTopic(prefix + CONTROLS.name, 1, 1)]
    for future in admin.create_topics(made).values():
        future.result()
    monkeypatch.setenv("PRICEMAKER_TOPICS__PREFIX", prefix)
    settings = load_settings(None, {"kafka.bootstrap": kafka_bootstrap})
    builder = TapeBuilder(2)
    records = [
        one for topic, value in read_events(events, None) for one in builder.append(topic, value)
    ]
    first, rest = records[: len(records) * 2 // 3], records[len(records) * 2 // 3 :]
    put(kafka_bootstrap, prefix + TAPE.name, first)
    result = run("kafka", "--no-meta", "--publish", "--bootstrap", kafka_bootstrap)
    assert result.exit_code == 0, result.stderr
    known = json.loads(result.stdout)["prior_sha256"]
    (event,) = published(settings)
    document = msgspec.convert(event.prior, DemandPrior)
    assert (event.prior_sha256, prior_sha256(document)) == (known, known)
    # the service: it folds on from where it was, and publishes what it learned
    history = EpochHistory()
    fold = TapeFold(settings, SourceSpec(source="kafka"), history)
    before = fold.read().records
    put(kafka_bootstrap, prefix + TAPE.name, rest)
    out = tmp_path / "fresh.json"
    (fresh,) = islice(keep_fresh(settings, fold, history, document, 0.01, out), 1)
    assert (before, fold.read().records) == (len(first), len(records))
    assert [one.prior_sha256 for one in published(settings)] == [known, fresh]
    assert prior_sha256(msgspec.json.decode(out.read_bytes(), type=DemandPrior)) == fresh


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
