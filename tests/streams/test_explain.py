"""``pricemaker explain``: a decision in the words of who sets prices, or why there is none."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from schemas.codec import canonical
from schemas.outputs import Alert, PriceDecided, TapePosition
from schemas.topics import ALERTS, PRICES
from streams.cli import cli
from streams.explain.explanation_picture import bars
from streams.kafka import admin
from streams.settings import Settings
from streams.worker.routes import tape_partition
from tests.streams.spine import new_prefix, settings_for

GOLDEN_DECISION = json.loads((Path(__file__).parent / "golden" / "decision.json").read_text())
CLAMPED: dict[str, Any] = {
    "steps": [
        {"name": "frictionless optimum", "price_minor": 1472.0, "objective_per_day_minor": None},
        {"name": "with stock and risk", "price_minor": 1464.4, "objective_per_day_minor": 58.0},
        {"name": "guard list_price_ceiling", "price_minor": 1000.0, "objective_per_day_minor": 16},
        {"name": "guard step", "price_minor": 947.37, "objective_per_day_minor": 10.0},
    ],
    "clamps": [
        {
            "guard": "list_price_ceiling", "bound_minor": 1000.0, "price_before_minor": 1464.4,
            "price_after_minor": 1000.0, "shadow_price": 1.96, "cost_per_day_minor": 42.0,
        },
        {
            "guard": "step", "bound_minor": 947.37, "price_before_minor": 1000.0,
            "price_after_minor": 947.37, "shadow_price": 2.66, "cost_per_day_minor": 6.4,
        },
    ],
    "gave_way": ["step"],
}  # fmt: skip


def decision(version: int = 5, **changes: Any) -> dict[str, Any]:
    """The golden decision with some fields changed; the record's by name, too."""
    record = GOLDEN_DECISION["record"] | changes.pop("record", {})
    return GOLDEN_DECISION | {"version": version, "record": record} | changes


def write(path: Path, *decisions: dict[str, Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in decisions))
    return path


def explain(sku: str, *options: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["explain", sku, *map(str, options)], env=environment)


def lines(result: Result) -> list[str]:
    """The text's lines, without the padding of tables."""
    assert result.exit_code == 0, result.stderr
    return [line.rstrip() for line in result.stdout.splitlines()]


def test_a_decision_is_told_from_optimum_to_price_and_from_belief_to_profit(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "decisions.jsonl", decision())
    assert lines(explain("A", "--from", path)) == [
        "A: 11.65 EUR (was 10.75 EUR, +8.4%)",
        "published 2026-01-10 00:00 UTC, version 5; margin 39.9 %; confidence 0.42 of 1; "
        "from 11.50 EUR to 11.80 EUR is nearly as good",
        "",
        "In short",
        "  Little is known of it yet (12 orders of its own): the price rests on what other "
        "products taught (unseen category).",
        "  Rivals ask 12.50 EUR: this price is 7% below theirs.",
        "",
        "How the price came about",
        "  best price with endless stock and no risk         11.33 EUR",
        "  what stock, days to sell and risk change   +0.09  11.43 EUR",
        "  the probe, kept until its period ends      +0.22  11.64 EUR",
        "  rounded                                    +0.01  11.65 EUR",
        "",
        "What is believed",
        "  demand: 2.04 units a day at 12.90 EUR",
        "  price sensitivity (elasticity): -2.68, 90 % sure that from -4.22 to -1.13: 1 % "
        "dearer sells about 2.7 % less",
        "  learned from 12 orders in 3 price periods, beginning from: unseen category",
        "  returns: 10.0% (sd 6.5%) at this price, handling 0.90 EUR each (catalogue)",
        "  returns by price: 10 % dearer changes the odds of a return by +1.2%; 74% sure "
        "that dearer brings more",
        "  returns still to come: 1.6 of 17 units sold lately; reserve 7.42 EUR",
        "  stock: 60 units; 18.6 should sell in 7.0 days; 28.5 should be left then",
        "  rivals: 12.50 EUR (median of 1 usable, 1 seen)",
        "",
        "How well the product is known",
        "  began from: unseen category, prior 5b5ad4f60c3f0000; attributes 1.2 from those "
        "trained on (1: like)",
        "  12 orders of its own; the expert's price is 14.00 EUR, and counts 10%",
        "  stands on its own (graduates) at: 20 orders",
        "",
        "As a market maker's quote",
        "  fair price 11.36 EUR, reservation price 11.51 EUR (skew +0.15), half spread 0.16 EUR",
        "  expected leftover beside its target: +10.2 units",
        "",
        "Whether demand broke",
        "  evidence (alarm at 5 nats): demand rose 0.0, demand fell 0.0, buyers mind the "
        "price less 0.0, buyers mind the price more 0.0",
        "",
        "What it expects",
        "  profit 8.53 EUR a day; 8.04 EUR a day after its risk",
        "  unit cost 5.60 EUR; the shop keeps 80.0% of the shown price",
        "  the best price would earn 0.01 EUR a day more than the one in the shop (after risk)",
        "",
        "If something changes",
        "  (over the next 7 days)",
        "  1 EUR dearer: -0.55 EUR (delta), and with each further 1 EUR -2.41 EUR to that (gamma)",
        "  demand 10 % more volatile: -0.45 EUR (vega)",
        "  one day passed: -7.90 EUR (theta)",
        "  one unit more in stock: +0.00 EUR (rho)",
        "",
        "Where it comes from",
        "  asked for by: cost; breaker: CLOSED",
        "  age of inputs: catalogue new, rivals 4.9 days, stock 5.0 days, traffic 1.0 days",
        "  price id 0-21-A; tape[0]@21; engine 0123456789ab",
        "  policy d4b9cec9318d, prior 5b5ad4f60c3f",
    ]


def test_guards_are_told_with_what_they_cost(tmp_path: Path) -> None:
    path = write(
        tmp_path / "decisions.jsonl", decision(price_minor=948, wanted_minor=948, record=CLAMPED)
    )
    text = lines(explain("A", "--from", path))
    start = text.index("How the price came about")
    assert text[start + 1 : start + 7] == [
        "  best price with endless stock and no risk         14.72 EUR",
        "  what stock, days to sell and risk change   -0.08  14.64 EUR",
        "  guard list price ceiling                   -4.64  10.00 EUR  costs 0.42 EUR a day; "
        "1 EUR more room would bring 0.28 EUR a day",
        "  guard step                                 -0.53   9.47 EUR  costs 0.06 EUR a day; "
        "1 EUR more room would bring 0.38 EUR a day",
        "  rounded                                    +0.01   9.48 EUR",
        "  not kept, since a stronger rule forbids it: step",
    ]


def test_money_has_the_digits_of_its_currency(tmp_path: Path) -> None:
    path = write(tmp_path / "decisions.jsonl", decision(currency="JPY"))
    text = lines(explain("A", "--from", path))
    assert text[0] == "A: 1,165 JPY (was 1,075 JPY, +8.4%)"
    assert "  rounded                                     +1  1,165 JPY" in text


STAYS = {"name": "present price stays", "price_minor": 1075.0, "objective_per_day_minor": 804.0}
TOLD = [
    # why, what differs, lines that must be there
    ("a first price has no change", {"previous_minor": None}, ["A: 11.65 EUR"]),
    ("the same price again", {"previous_minor": 1165}, ["A: 11.65 EUR (unchanged)"]),
    (
        "a price that stays",
        {
            "reasons": ["trigger: cost", "within the no-change band"], "wanted_minor": 1075,
            "record": {"steps": [*GOLDEN_DECISION["record"]["steps"], STAYS]},
        },
        [
            "  The present price stays: a better one would earn 0.01 EUR a day more, less than a "
            "change is worth.",
            "  present price kept: a move would gain too little  -0.89  10.75 EUR",
        ],
    ),
    (
        "an approved price",
        {
            "record": {
                "steps": [*GOLDEN_DECISION["record"]["steps"], STAYS | {"name": "approved price"}],
                "approval": {"price_id": "0-20-A", "actor": "kim", "reason": "season's end"},
            },
        },
        [
            "  kim approved it: season's end.",
            "  the price that kim approved                -0.89  10.75 EUR",
            "  approved by kim: season's end (proposed as 0-20-A)",
        ],
    ),
    (
        "what waits says how to answer",
        {
            "status": "held", "price_minor": 1075,
            "reasons": ["approval: it moves by +8.4%, by 8.0% or more"],
            "record": {"present_objective_per_day_minor": 700.0},
        },
        [
            "  It does not go out: approval: it moves by +8.4%, by 8.0% or more. Until then the "
            "shop keeps 10.75 EUR.",
            "  The wanted 11.65 EUR would earn 1.04 EUR a day more (expected, after risk).",
            "  Answer with: pricemaker approve A --reason ... (or reject).",
        ],
    ),
    (
        "a limit and too much stock",
        {
            "record": CLAMPED | {
                "stock": GOLDEN_DECISION["record"]["stock"] | {
                    "sellable_units": 4000, "skew_minor": -50.0},
            },
        },
        [
            "  The list price ceiling decides: it caps the price at 10.00 EUR where 14.64 EUR was "
            "wanted, which costs 0.42 EUR a day.",
            "  Stock is high: of 4,000 units 19 should sell in 7 days, and 29 should be left. "
            "Stock and risk lower the best price by 0.50 EUR.",
        ],
    ),
    (
        "a held price says why",
        {
            "status": "held", "price_minor": 1075,
            "reasons": ["breaker: manual trip", "kill switch: kim: drill"],
            "record": {"breaker": {"state": "OPEN", "reasons": ["manual trip"]}},
        },
        [
            "A: 10.75 EUR",
            "The wanted price of 11.65 EUR was held:",
            "  - breaker: manual trip",
            "  - kill switch: kim: drill",
            "  asked for by: cost; breaker: OPEN (manual trip)",
        ],
    ),
    (
        "effects of the market in use",
        {
            "record": {
                "market": [
                    {"name": "rival_threshold", "coefficient": 1.84, "coefficient_sd": 0.213,
                     "log_demand": None},
                    {"name": "price_memory", "coefficient": -0.5, "coefficient_sd": 0.1,
                     "log_demand": -0.02},
                ],
            },
        },
        [
            "  market: rival threshold 1.84 (sd 0.21)",
            "  market: price memory -0.5 (sd 0.1), -2.0% demand",
        ],
    ),
    (
        "a product that graduated",
        {
            "record": {
                "passport": GOLDEN_DECISION["record"]["passport"]
                | {"graduated_at": "2026-01-09T00:00:00.000Z", "attribute_distance": None},
            },
        },
        [
            "  began from: unseen category, prior 5b5ad4f60c3f0000",
            "  stands on its own since 2026-01-09 00:00 UTC",
        ],
    ),
    (
        "nothing known of stock and rivals",
        {
            "record": {
                "stock": GOLDEN_DECISION["record"]["stock"] | {"sellable_units": None},
                "competitors": {
                    "robust_price_minor": None, "rivals_used": 0, "rivals_seen": 2,
                },
            },
            "greeks": GOLDEN_DECISION["greeks"] | {"rho": None, "price_stock": None},
        },
        [
            "  stock: never reported, so taken as endless",
            "  rivals: none usable (2 ever seen)",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"), [case[1:] for case in TOLD], ids=[case[0] for case in TOLD]
)
def test_what_is_told(tmp_path: Path, changes: dict[str, Any], told: list[str]) -> None:
    path = write(tmp_path / "decisions.jsonl", decision(**dict(changes)))
    text = lines(explain("A", "--from", path))
    assert [line for line in told if line not in text] == []
    assert ("(rho)" in " ".join(text)) == ("greeks" not in changes)


def test_numbers_that_were_none_are_not_shown(tmp_path: Path) -> None:
    unusable = decision(
        status="held", price_minor=1075, reasons=["breaker: greeks are not finite"],
        acceptable=None, greeks=None,
    ) | {"record": None}  # fmt: skip
    path = write(tmp_path / "decisions.jsonl", unusable)
    assert lines(explain("A", "--from", path)) == [
        "A: 10.75 EUR",
        "held 2026-01-10 00:00 UTC, version 5; margin 39.9 %; confidence 0.42 of 1",
        "The wanted price of 11.65 EUR was held:",
        "  - breaker: greeks are not finite",
        "The numbers of this decision were not finite; there is nothing to show.",
    ]


def test_what_people_wrote_is_shown_as_it_is(tmp_path: Path) -> None:
    reason = "kill switch: kim: see [/tickets/12] and [red]stop :smile:"
    held = decision(status="held", reasons=[reason])
    text = lines(explain("A", "--from", write(tmp_path / "decisions.jsonl", held)))
    assert f"  - {reason}" in text


# -- the picture


def test_a_picture_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "decisions.jsonl", decision(record=CLAMPED))
    for name in ("one.svg", "two.svg", "one.png"):
        result = explain("A", "--from", path, "--picture", tmp_path / name)
        assert (result.exit_code, result.stderr) == (0, f"drawn: {tmp_path / name}\n")
    one = (tmp_path / "one.svg").read_bytes()
    assert one == (tmp_path / "two.svg").read_bytes()
    assert ElementTree.fromstring(one).tag == "{http://www.w3.org/2000/svg}svg"
    assert (tmp_path / "one.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_pictures_bars_are_the_steps() -> None:
    held = msgspec.convert(
        decision(status="held", price_minor=1075, wanted_minor=947, record=CLAMPED), PriceDecided
    )
    assert held.record is not None
    assert bars(held, held.record) == [
        ("best price with endless stock and no risk", None, 1472.0, "14.72 EUR"),
        ("what stock, days to sell and risk change", 1472.0, 1464.4, "-0.08"),
        ("guard list price ceiling", 1464.4, 1000.0, "-4.64  (costs 0.42 EUR a day)"),
        ("guard step", 1000.0, 947.37, "-0.53  (costs 0.06 EUR a day)"),
        ("wanted price, held", None, 947.0, "9.47 EUR"),
        ("price in the shop", None, 1075.0, "10.75 EUR"),
    ]


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [("why.pdf", {}, "unknown_picture"), ("why.svg", {"record": None}, "nothing_to_draw")],
)
def test_what_can_not_be_drawn(tmp_path: Path, name: str, changes, code: str) -> None:
    path = write(tmp_path / "decisions.jsonl", decision() | changes)
    result = explain("A", "--from", path, "--picture", tmp_path / name, "--json")
    assert (result.stdout, json.loads(result.stderr)["code"]) == ("", code)


# -- which decision


def test_the_last_decision_unless_another_version_is_asked_for(tmp_path: Path) -> None:
    other = decision(9, sku="A-2")
    path = write(tmp_path / "decisions.jsonl", decision(1), decision(2), other)
    for options, version in (((), 2), (("--version", "1"), 1)):
        result = explain("A", "--from", path, "--json", *options)
        assert json.loads(result.stdout) == {
            "sku": "A", "decision": decision(version), "blocked": None, "breaker": None,
            "discounts": [],
        }  # fmt: skip


@pytest.mark.parametrize(
    ("sku", "options", "message"),
    [
        ("B", [], "no decision about 'B' was found."),
        ("A", ["--version", "7"], "no decision of version 7 about 'A' was found."),
        ("", [], "no decision about '' was found."),
    ],
)
def test_a_product_that_is_not_there(
    tmp_path: Path, sku: str, options: list[str], message: str
) -> None:
    path = write(tmp_path / "decisions.jsonl", decision())
    result = explain(sku, "--from", path, "--json", *options)
    error = json.loads(result.stderr)
    assert (result.exit_code, result.stdout) == (3, "")
    assert (error["code"], error["field"], error["message"]) == ("unknown_sku", "sku", message)


@pytest.mark.parametrize(
    "line", [b'{"sku":"A"}\n', b'{"sku":"A', b'"A"\n', b'{"sku":"A","x":\xff}']
)
def test_a_file_of_something_else(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path / "decisions.jsonl", decision())
    path.write_bytes(path.read_bytes() + line)
    result = explain("A", "--from", path, "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (3, "not_a_decision", f"{path}:2")
    assert error["fix"] == "Give a file written by: pricemaker replay SOURCE --out FILE"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "missing.jsonl"
    result = explain("A", "--from", path, "--json")
    error = json.loads(result.stderr)
    assert (result.exit_code, error["code"], error["where"]) == (4, "file_unreachable", str(path))


# -- from Kafka


def alert(offset: int, kind: str, sku: str, message: str) -> tuple[str, bytes]:
    found = Alert(
        alert_id=f"0-{offset}-{kind}-{sku}",
        kind=kind,  # type: ignore[arg-type]
        sku=sku,
        at=f"2026-01-10T0{offset}:00:00.000Z",
        message=message,
        evidence={},
        tape=TapePosition(0, offset),
    )
    return sku, canonical(found)


@pytest.fixture(scope="module")
def on_kafka(kafka_bootstrap: str) -> Settings:
    """A product that was priced, one that never was, and one that is stopped."""
    settings = settings_for(kafka_bootstrap, new_prefix())
    admin.create_topics(settings, partitions=4)
    no_cost = "no unit cost is known, so there is no floor"
    alerts = [
        alert(1, "product_blocked", "A", f"A is not priced: {no_cost}"),
        alert(2, "product_unblocked", "A", "A is priced again"),
        alert(3, "breaker_changed", "A", "CLOSED -> OPEN: stock not reported for 31.0 days"),
        alert(4, "breaker_changed", "A", "OPEN -> HALF_OPEN -> CLOSED: canary passed"),
        alert(5, "product_blocked", "N", f"N is not priced: {no_cost}"),
        alert(6, "product_blocked", "R", "R is not priced: the product is retired"),
    ]
    prices = [("A", decision(1)), ("A", decision(2)), ("R", decision(4, sku="R"))]
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    prefix = settings.topics.prefix
    for sku, value in alerts:
        producer.produce(prefix + ALERTS.name, value, sku, tape_partition(sku, 4))
    for sku, body in prices:
        producer.produce(prefix + PRICES.name, orjson.dumps(body), sku, tape_partition(sku, 4))
    assert producer.flush(60) == 0
    return settings


def explain_there(settings: Settings, sku: str, *options: str) -> Result:
    environment = {
        "PRICEMAKER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "PRICEMAKER_TOPICS__PREFIX": settings.topics.prefix,
    }
    return explain(sku, *options, **environment)


@pytest.mark.kafka
def test_a_priced_product_on_kafka(on_kafka: Settings) -> None:
    document = json.loads(explain_there(on_kafka, "A", "--json").stdout)
    assert document == {
        "sku": "A",
        "decision": decision(2),
        "blocked": None,
        "breaker": "2026-01-10T04:00:00.000Z: OPEN -> HALF_OPEN -> CLOSED: canary passed",
        "discounts": [],
    }
    text = lines(explain_there(on_kafka, "A"))
    assert text[0] == "A: 11.65 EUR (was 10.75 EUR, +8.4%)"
    assert text[-1] == (
        "Last change of its circuit breaker: 2026-01-10T04:00:00.000Z: OPEN -> HALF_OPEN -> "
        "CLOSED: canary passed"
    )
    first = json.loads(explain_there(on_kafka, "A", "--json", "--version", "1").stdout)
    assert first["decision"] == decision(1)


@pytest.mark.kafka
def test_a_product_that_was_never_priced_says_why(on_kafka: Settings) -> None:
    reason = "no unit cost is known, so there is no floor"
    assert lines(explain_there(on_kafka, "N")) == [f"NOT PRICED: {reason}"]
    document = json.loads(explain_there(on_kafka, "N", "--json").stdout)
    assert document == {
        "sku": "N",
        "decision": None,
        "blocked": reason,
        "breaker": None,
        "discounts": [],
    }


@pytest.mark.kafka
def test_a_product_that_is_priced_no_more_says_why_and_what_it_was(on_kafka: Settings) -> None:
    text = lines(explain_there(on_kafka, "R"))
    assert text[:2] == ["NOT PRICED: the product is retired", "R: 11.65 EUR (was 10.75 EUR, +8.4%)"]


@pytest.mark.kafka
def test_a_product_that_kafka_does_not_know(on_kafka: Settings) -> None:
    result = explain_there(on_kafka, "X", "--json")
    assert (result.exit_code, json.loads(result.stderr)["code"]) == (3, "unknown_sku")
