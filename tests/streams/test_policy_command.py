"""``pricemaker policy``, ``approve`` and ``reject``: files, a checkpoint, a shop's topics."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas.codec import canonical
from schemas.events import OperatorCommand, PolicyPublished, Scope
from schemas.policy import policy_sha256
from schemas.topics import CONTROLS, PRICES, STATE
from streams.cli import cli
from streams.controls.policy_files import rule_of
from streams.kafka import admin
from streams.kafka.reader import opened, read_to_end
from streams.replay.checkpoints import section, write_checkpoint
from streams.settings import Settings
from streams.worker.routes import tape_partition
from tests.models.tapes import Partition, at, policy
from tests.streams.spine import new_prefix, settings_for

IN_FORCE = 'name = "shop"\nversion = 3\n[guards]\nstep_ratio_max = 0.05\n'
NEXT = 'name = "shop"\nversion = 4\n[guards]\nmargin_floor_ratio = 0.2\nstep_ratio_max = 0.05\n'


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], env=environment)


def error_of(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])
    return found | {"exit": result.exit_code}


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


@pytest.fixture(scope="module")
def shop(kernel: Kernel) -> Partition:
    """Two products; the second earns 5 % at most."""
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy(IN_FORCE))
    for sku, cost in (("A", 500), ("B", 940)):
        shop.send("product_listed", at(), sku=sku, unit_cost_minor=cost)
    shop.tick(at(days=2))
    return shop


@pytest.fixture
def checkpoint(shop: Partition, kernel: Kernel, tmp_path: Path) -> Path:
    engine = PartitionEngine.restore(0, list(shop.stored.items()), kernel)
    path = tmp_path / "checkpoint.jsonl"
    write_checkpoint(path, kernel.fingerprint, 1, [section(engine)])
    return path


REFUSED = [
    # text, and what the error names: code, key, value, expected, how to mend it
    ("[guards]\nstep_ratio_mx = 0.1\n",
     ("unknown_key", "guards.step_ratio_mx", None, "a key of a policy",
      "Did you mean step_ratio_max?")),
    ("[objective]\nrisk_aversion = 0.9\n",
     ("invalid_policy", "objective.risk_aversion", "0.9", "`float` <= 0.5", None)),
    ('[[scopes]]\nselect = {skus = ["A"]}\nguards = {margin_floor_ratio = 7}\n',
     ("invalid_policy", "scopes[0].guards.margin_floor_ratio", "7", "`float` < 1.0", None)),
    ("[guards\n",
     ("not_toml", "policy", None, "TOML", None)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_no_policy_is_refused_with_its_key_and_value(tmp_path, text, expected) -> None:
    path = written(tmp_path / "policy.toml", text)
    error = error_of(run("policy", "check", path, "--json"))
    names = ("code", "field", "value", "expected", "fix", "where", "exit")
    assert tuple(error[name] for name in names) == (*expected, str(path), 3)


def test_a_valid_policy_is_told_with_what_looks_unmeant(tmp_path: Path) -> None:
    path = written(tmp_path / "policy.toml", NEXT + "day_step_ratio_max = 0.01\n")
    found = run("policy", "check", path)
    assert found.exit_code == 0
    assert found.stdout.splitlines() == [
        "shop, version 4, 0 scopes: valid",
        "  look at guards.step_ratio_max: a step of 0.05 is more than a day's 0.01, so the day's "
        "limit is the one that holds. Lower step_ratio_max, or raise day_step_ratio_max.",
    ]
    document = json.loads(run("policy", "check", path, "--json").stdout)
    assert (document["version"], document["sha256"]) == (4, policy_sha256(path.read_text()))
    assert [one["code"] for one in document["findings"]] == ["step_beyond_day"]


def test_selectors_are_held_against_a_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    text = '[[scopes]]\nselect = {skus = ["C"]}\nguards = {margin_floor_ratio = 0.1}\n'
    path = written(tmp_path / "policy.toml", text)
    document = json.loads(run("policy", "check", path, "--from", checkpoint, "--json").stdout)
    assert [one["code"] for one in document["findings"]] == ["matches_nothing"]


def test_the_rule_of_a_time_zone_is_named() -> None:
    assert rule_of("Europe/Berlin") == "CET-1CEST,M3.5.0,M10.5.0/3"
    assert rule_of("CET-1CEST,M3.5.0,M10.5.0/3") is None


def test_a_comparison_from_a_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    path = written(tmp_path / "policy.toml", NEXT)
    document = json.loads(run("policy", "diff", path, "--from", checkpoint, "--json").stdout)
    assert (document["products"], document["moved"], document["up"]) == (2, 1, 1)
    (moved,) = document["largest"]
    assert (moved["after"]["sku"], moved["after"]["broken"]) == ("B", ["margin_floor"])
    text = run("policy", "diff", path, "--from", checkpoint).stdout.splitlines()
    assert text[0].startswith("1 of 2 prices would differ: 1 up, 0 down; half of them by ")
    assert "Limits, in products (in force -> new)" in text


# -- on Kafka


@pytest.fixture(scope="module")
def on_kafka(kafka_bootstrap: str, shop: Partition) -> Settings:
    """The shop's state, and a decision about A that waits."""
    settings = settings_for(kafka_bootstrap, new_prefix())
    admin.create_topics(settings, partitions=4)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    prefix = settings.topics.prefix
    for key, value in shop.stored.items():
        producer.produce(prefix + STATE.name, value, key, 0)
    published = shop.send("inventory_changed", at(days=2, hours=1), on_hand=0).decision
    for decision in (
        msgspec.structs.replace(published, status="held", reasons=("approval: it is new",)),
        msgspec.structs.replace(published, sku="B", price_id="0-9-B"),
    ):
        number = tape_partition(decision.sku, 4)
        producer.produce(prefix + PRICES.name, canonical(decision), decision.sku, number)
    assert producer.flush(60) == 0
    return settings


def there(settings: Settings, *arguments: str | Path) -> Result:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return run(*arguments, **environment)


def sent(settings: Settings) -> list[bytes]:
    with opened(settings, "test") as consumer:
        topic = settings.topics.prefix + CONTROLS.name
        return [message.value() for message in read_to_end(consumer, topic, 0, 60.0)]


@pytest.mark.kafka
def test_publishing_needs_a_version_above_the_present_one(on_kafka: Settings, tmp_path) -> None:
    assert there(on_kafka, "policy", "show").stdout == IN_FORCE
    first = written(tmp_path / "same.toml", IN_FORCE)
    same = there(on_kafka, "policy", "publish", first, "--yes", "--json")
    assert (error_of(same)["code"], same.exit_code) == ("in_force", 2)
    old = written(tmp_path / "old.toml", NEXT.replace("version = 4", "version = 3"))
    error = error_of(there(on_kafka, "policy", "publish", old, "--yes", "--json"))
    assert (error["code"], error["value"], error["fix"]) == (
        "version_not_above", "3", "Write: version = 4",
    )  # fmt: skip
    path = written(tmp_path / "next.toml", NEXT)
    before = len(sent(on_kafka))
    assert there(on_kafka, "policy", "publish", path, "--dry-run").exit_code == 0
    asked = there(on_kafka, "policy", "publish", path)
    assert (asked.exit_code, len(sent(on_kafka))) == (130, before)
    assert "2 prices would differ" in asked.stdout
    assert there(on_kafka, "policy", "publish", path, "--yes").exit_code == 0
    event = msgspec.json.decode(sent(on_kafka)[-1], type=PolicyPublished)
    assert (event.policy, event.policy_sha256) == (NEXT, policy_sha256(NEXT))


@pytest.mark.kafka
@pytest.mark.parametrize("command", ["approve", "reject"])
def test_an_answer_names_the_decision_that_waits(on_kafka: Settings, command: str) -> None:
    found = there(on_kafka, command, "A", "--reason", "fine", "--actor", "kim", "--yes", "--json")
    assert found.exit_code == 0, found.stderr
    event = msgspec.json.decode(sent(on_kafka)[-1], type=OperatorCommand)
    document = json.loads(found.stdout)
    assert (event.command, event.actor, event.reason) == (command, "kim", "fine")
    assert (event.scope.name, event.price_id) == ("A", document["price_id"])
    again = there(on_kafka, command, str(event.price_id), "--reason", "fine", "--yes")
    assert again.exit_code == 0


@pytest.mark.kafka
def test_only_what_waits_can_be_answered(on_kafka: Settings) -> None:
    options = ("--reason", "fine", "--yes", "--json")
    before = len(sent(on_kafka))
    assert error_of(there(on_kafka, "approve", "B", *options))["code"] == "nothing_waits"
    assert error_of(there(on_kafka, "approve", "0-1-A", *options))["code"] == "superseded"
    assert error_of(there(on_kafka, "approve", "X", *options))["code"] == "unknown_sku"
    assert there(on_kafka, "reject", "A", "--reason", "fine").exit_code == 130, "nobody said yes"
    assert len(sent(on_kafka)) == before


def test_orjson_and_msgspec_agree_on_what_is_sent() -> None:
    from streams.controls.controls import command_event

    event = command_event("approve", Scope("sku", "A"), "kim", "fine", price_id="0-1-A")
    document = orjson.loads(canonical(event))
    assert (document["scope"], document["price_id"]) == ({"kind": "sku", "name": "A"}, "0-1-A")
