"""Dead letters: whole, listed once, and redriven once unless somebody insists."""

import json

import orjson
import pytest
from click.testing import CliRunner, Result

from streams.commands.dead_letter import command
from streams.kafka.dead_letters import Letter, read_letters, redrive, select
from streams.settings import Settings
from streams.worker.outbox import IntakeOutbox
from streams.worker.worker import WorkerThread
from tests.streams.counting_engine import CountingFactory
from tests.streams.spine import (
    Shop,
    fresh_topics,
    listing,
    order,
    read_topic,
    sent_of,
    state_of,
    without_controls,
)

WAIT_S = 60.0


def letter(name: str, topic: str, error: str, redriven_at: str | None = None) -> Letter:
    facts = {"dl_id": name, "dl_topic": topic, "dl_error": error}
    return Letter(b"k", b"v", (), 0, facts, redriven_at)


LETTERS = [
    letter("orders-0-1", "orders", "unknown_product"),
    letter("orders-0-2", "orders", "not_json", "2026-01-01T00:00:00.000Z"),
    letter("returns-0-1", "returns", "unknown_product"),
    letter("tape-0-1", "tape", "unknown_product"),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"topics": ["orders"]}, [0, 1]),
        ({"errors": ["unknown_product"], "topics": ["orders", "returns"]}, [0, 2]),
        ({"ids": ["tape-0-1"]}, [3]),
        ({"ids": ["tape-0-1"], "topics": ["orders"]}, []),
    ],
)
def test_filters_of_one_kind_widen_and_of_two_kinds_narrow(
    filters: dict[str, list[str]], expected: list[int]
) -> None:
    assert select(LETTERS, **filters) == [LETTERS[number] for number in expected]


def test_a_dry_run_says_what_a_redrive_would_do() -> None:
    done = redrive(LETTERS, None)
    assert (done.sent, done.refused, done.foreign) == (
        [LETTERS[0], LETTERS[2]],
        [LETTERS[1]],
        [LETTERS[3]],
    )
    assert redrive(LETTERS, None, force=True).sent == LETTERS[:3]


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def invoke(settings: Settings, *arguments: str) -> Result:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return CliRunner().invoke(command, [*arguments], env=environment)


@pytest.mark.kafka
def test_a_letter_is_listed_redriven_and_then_applied_once(settings: Settings) -> None:
    shop = Shop(settings)
    value = orjson.dumps(order(1, "late")) + b" "
    with WorkerThread(settings, CountingFactory()) as worker:
        shop.raw("orders", "late", value, partition=3, headers=[("trace", b"7")])
        shop.flush()
        assert worker.progress.wait_idle(WAIT_S)
        listed = invoke(settings, "list", "--json")
        assert listed.exit_code == 0
        [shown] = [json.loads(line) for line in listed.stdout.splitlines()]
        assert (shown["dl_id"], shown["dl_error"], shown["key"], shown["value"]) == (
            "orders-3-0",
            "unknown_product",
            "late",
            value.decode(),
        )
        assert shown["redriven_at"] is None

        shop.send("products", [listing("late")])
        assert worker.progress.wait_idle(WAIT_S)
        rehearsed = invoke(settings, "redrive", "--error", "unknown_product", "--dry-run", "--json")
        assert json.loads(rehearsed.stdout)["sent"] == ["orders-3-0"]
        assert sum(sent_of(settings, "orders").values()) == 1
        redriven = invoke(settings, "redrive", "--id", "orders-3-0", "--json")
        assert redriven.exit_code == 0
        assert worker.progress.wait_idle(WAIT_S)
        assert without_controls(state_of(settings)) == {"late": 2}  # the listing and the order

        refused = invoke(settings, "redrive", "--all", "--json")
        assert refused.exit_code == 5
        assert json.loads(refused.stdout) == {
            "dry_run": False,
            "sent": [],
            "redriven_before": ["orders-3-0"],
            "not_from_a_source": [],
        }
    [original, again] = read_topic(settings, "orders")
    assert (again.key(), again.value(), again.headers()) == (
        original.key(),
        original.value(),
        original.headers(),
    )
    [seen] = read_letters(settings)
    assert (seen.id, seen.redriven_at is None) == ("orders-3-0", False)
    forced = redrive([seen], IntakeOutbox(settings), force=True)
    assert forced.sent == [seen]
    assert len(read_topic(settings, "orders")) == 3


def test_a_redrive_of_everything_must_be_asked_for() -> None:
    result = CliRunner().invoke(command, ["redrive"])
    assert (result.exit_code, "--all" in result.stderr) == (2, True)
