"""``pricemaker ledger`` and ``exceptions``, from a file and from the topics of a shop."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from schemas.topics import ALERTS, PRICES
from streams.cli import cli
from streams.kafka import admin
from streams.settings import Settings
from tests.streams.spine import new_prefix, settings_for
from tests.streams.test_explain import alert, decision, write

STEPS = [
    {"name": "frictionless optimum", "price_minor": 1500.0, "objective_per_day_minor": None},
    {"name": "with stock and risk", "price_minor": 1450.0, "objective_per_day_minor": 10000.0},
    {"name": "guard step", "price_minor": 1165.0, "objective_per_day_minor": 8000.0},
]
CLAMP = {
    "guard": "step", "bound_minor": 1165.0, "price_before_minor": 1450.0,
    "price_after_minor": 1165.0, "shadow_price": -7.0, "cost_per_day_minor": 2000.0, "place": None,
}  # fmt: skip
LIMITED = {"steps": STEPS, "clamps": [CLAMP], "objective_per_day_minor": 8000.0}
HELD = {
    "sku": "B", "status": "held", "reasons": ["approval: it moves by +9.0%, by 8.0% or more"],
    "price_id": "0-22-B",
    "record": LIMITED | {"present_objective_per_day_minor": 3000.0},
}  # fmt: skip


def run(*arguments: str | Path, **environment: str) -> Any:
    found = CliRunner().invoke(cli, [str(one) for one in arguments], env=environment)
    assert found.exit_code == 0, found.stderr
    return found


def text(found: Any) -> list[str]:
    return [line.rstrip() for line in found.stdout.splitlines()]


def test_the_ledger_of_a_file(tmp_path: Path) -> None:
    older = decision(4, record={"gave_way": ["step"]})
    path = write(tmp_path / "d.jsonl", older, decision(5, record=LIMITED), decision(**HELD))
    assert text(run("ledger", "--from", path)) == [
        "90.00 EUR a day lie between the best prices and those in the shop, over 2 products "
        "(expected, after risk)",
        "  rule            costs a day  products  gave way  1 EUR of room on each",
        "  held: approval    50.00 EUR         1",
        "  step              40.00 EUR         2                   2.00 EUR a day",
    ]
    assert text(run("ledger", "--from", path, "--by", "sku"))[1:] == [
        "  sku  costs a day  products  gave way  dearest",
        "  B      70.00 EUR         1            held: approval +50.00, step +20.00",
        "  A      20.00 EUR         1            step +20.00",
    ]
    document = json.loads(run("ledger", "--from", path, "--json").stdout)
    assert (document["by"], document["products"]) == ("rule", 2)
    assert [row["cost_per_day_minor"] for row in document["rows"]] == [5000.0, 4000.0]


def test_the_exceptions_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", decision(5, record=LIMITED), decision(**HELD))
    assert text(run("exceptions", "--from", path)) == [
        "at stake a day  product  what                why",
        "     50.00 EUR  B        waits for approval  it moves by +9.0%, by 8.0% or more",
        "     20.00 EUR  A        limits cost money   step",
        "1 wait for an answer: pricemaker approve|reject B --reason ...",
    ]
    document = json.loads(run("exceptions", "--from", path, "--limit", "1", "--json").stdout)
    assert document["found"] == 2
    assert [(one["sku"], one["price_id"]) for one in document["exceptions"]] == [("B", "0-22-B")]


def test_nothing_to_tell(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl")
    assert text(run("exceptions", "--from", path)) == ["nothing needs a person"]
    assert text(run("ledger", "--from", path)) == [
        "no rule stands between the best prices and those in the shop"
    ]


@pytest.fixture(scope="module")
def on_kafka(kafka_bootstrap: str) -> Settings:
    settings = settings_for(kafka_bootstrap, new_prefix())
    admin.create_topics(settings, partitions=4)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    prefix = settings.topics.prefix
    for number, one in enumerate((decision(4), decision(5, record=LIMITED), decision(**HELD))):
        producer.produce(prefix + PRICES.name, orjson.dumps(one), one["sku"], number // 2)
    for sku, value in (
        alert(1, "product_blocked", "N", "N is not priced: no unit cost"),
        alert(2, "product_blocked", "A", "A is not priced: no unit cost"),
        alert(3, "product_unblocked", "A", "A is priced again"),
        alert(4, "drift", "A", "demand of A fell"),
    ):
        producer.produce(prefix + ALERTS.name, value, sku, 0)
    assert producer.flush(60) == 0
    return settings


@pytest.mark.kafka
def test_from_kafka_with_what_alerts_say(on_kafka: Settings) -> None:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": on_kafka.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": on_kafka.topics.prefix,
    }
    document = json.loads(run("exceptions", "--json", **environment).stdout)
    assert [(one["sku"], one["kind"], one["reasons"]) for one in document["exceptions"]] == [
        ("N", "blocked", ["no unit cost"]),
        ("B", "approval", ["it moves by +9.0%, by 8.0% or more"]),
        ("A", "drift", ["demand of A fell"]),
    ]
    document = json.loads(run("ledger", "--json", **environment).stdout)
    assert [(row["name"], row["products"]) for row in document["rows"]] == [
        ("held: approval", 1), ("step", 2),
    ]  # fmt: skip
