"""Bisecting a decision finds exactly the rule or the event that was planted."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from models.backtest.edits import Candidate, Rule
from schemas.bisection import Bisection
from schemas.counterfactual import Edit, Match
from schemas.errors import InputError
from streams.backtest.bisection import bisect
from streams.cli import cli
from streams.config import load_settings
from streams.tape.event_files import EventWriter
from streams.tape.tape_selection import SourceSpec
from tests.models.tapes import at, event, policy

FOLLOWING = "version = 1\n[guards]\ncompetitor_index_max = 1.0\nstep_ratio_max = 0.5\n"
DEAR = """version = 2
name = "dear"
[objective]
horizon_days_max = 8.0
[guards]
competitor_index_max = 1.0
step_ratio_max = 0.5
margin_floor_ratio = 0.45
tick_minor = 1
[breaker]
cool_down_hours = 12.0
"""


def _events() -> list[tuple[str, dict[str, Any]]]:
    """Two products; on the fourth day one rival of A falls far."""
    found = [
        ("controls", event("policy_published", at(), "policy-1", **policy(FOLLOWING))),
        ("products", event("product_listed", at(), "listed-A")),
        ("products", event("product_listed", at(), "listed-B", sku="B")),
    ]
    for day in range(1, 6):
        for rival, price in (("rival-1", 990), ("rival-2", 1000)):
            moved = 400 if (day, rival) == (4, "rival-2") else price
            if day > 4 and rival == "rival-2":
                moved = 400
            found.append(
                (
                    "competitor-prices",
                    event(
                        "competitor_price_observed", at(day, 1), f"{rival}-{day}",
                        competitor=rival, price_minor=moved,
                    ),
                )
            )  # fmt: skip
        found.append(
            ("inventory", event("inventory_changed", at(day, 2), f"stock-{day}", on_hand=500))
        )
        found.append(
            ("orders", event("order_placed", at(day, 3), f"b-{day}", sku="B", order_id=f"b{day}"))
        )
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The event file."""
    path = tmp_path_factory.mktemp("shop") / "shop.jsonl"
    with EventWriter(path) as writer:
        for topic, one in _events():
            writer.write(topic, orjson.dumps(one))
    return path


def ask(shop: Path, text: str, candidate: Candidate | None = None, **options: Any) -> Bisection:
    return bisect(SourceSpec(source=str(shop)), text, candidate, load_settings(), **options)


def test_one_rivals_price_is_found(shop: Path) -> None:
    found = ask(shop, "A@2026-01-09T12:00:00Z")
    assert found.question == "events"
    assert found.before is not None
    assert found.after.price_minor != found.before.price_minor
    assert "trigger: rival price" in found.after.reasons
    (cause,) = found.causes
    assert cause.name == (
        "rival-2-4: competitor_price_observed, sku A, competitor rival-2, price_minor 400"
    )
    assert cause.tape == found.tape
    assert found.proved
    by_id = ask(shop, found.after.price_id)
    assert by_id == found


def test_one_guard_of_many_changed_rules_is_found(shop: Path) -> None:
    found = ask(shop, "A@2026-01-09T12:00:00Z", Candidate("dear", policy=DEAR))
    (cause,) = found.causes
    assert (cause.kind, cause.name) == ("rule", "guards.margin_floor_ratio")
    assert (cause.before, cause.after) == ("default", "0.45")
    assert found.before is not None
    assert cause.without_minor == found.before.price_minor
    assert found.after.price_minor == 910  # 500 / (1 - 0.45), up to a whole minor unit
    assert found.proved
    assert found.tried == 8  # also those that differ from the defaults before the first policy


def test_an_edit_is_found_among_rules(shop: Path) -> None:
    edits = (
        Edit(match=Match(skus=("A",), competitors=("rival-2",)), set={"price_minor": 1000}),
        Edit(match=Match(skus=("B",)), shift={"unit_price_minor": 5}),
    )
    rules = (Rule(("breaker", "cool_down_hours"), 12.0),)
    found = ask(shop, "A@2026-01-09T12:00:00Z", Candidate("kind", rules=rules, edits=edits))
    (cause,) = found.causes
    assert (cause.kind, cause.name) == (
        "edit", "price_minor set to 1000 where sku is A and competitor is rival-2",
    )  # fmt: skip


def test_a_candidate_that_takes_over_later_is_bisected_from_there(shop: Path) -> None:
    dear = Candidate("dear", policy=DEAR, switch_ms=at(3))
    found = ask(shop, "A@2026-01-09T12:00:00Z", dear)
    assert [cause.name for cause in found.causes] == ["guards.margin_floor_ratio"]
    assert found.after.price_minor == 910
    too_late = ask(shop, "A@2026-01-09T12:00:00Z", dear._replace(switch_ms=at(30)))
    assert (too_late.causes, too_late.told) == ((), "both want the same price there")


def test_few_probes_are_told(shop: Path) -> None:
    found = ask(shop, "A@2026-01-09T12:00:00Z", Candidate("dear", policy=DEAR), probes_max=2)
    assert not found.proved
    assert found.probes == 2
    assert "guards.margin_floor_ratio" in [cause.name for cause in found.causes]


@pytest.mark.parametrize("text", ["A@yesterday", "0-999-A", "0-0-NONE", "nonsense", "A@2020-01-01"])
def test_what_is_no_decision_is_named(shop: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(shop, text)
    assert (caught.value.code, caught.value.field) == ("no_such_decision", "--bisect")


def test_the_command_tells_it_in_words_and_as_json(shop: Path) -> None:
    options = ["backtest", str(shop), "--bisect", "A@2026-01-09T12:00:00Z"]
    words = CliRunner().invoke(cli, options)
    assert words.exit_code == 0, words.output
    assert "rival-2-4: competitor_price_observed" in words.stdout
    document = json.loads(CliRunner().invoke(cli, [*options, "--json"]).stdout)
    assert document["causes"][0]["kind"] == "event"
