"""Counterfactual edits: what they change, what keeps its place, what they refuse."""

import tomllib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backtest.edits import Candidate, Rewriter, Rule, dropped, with_rules
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from schemas import tape
from schemas.counterfactual import Edit, Match, parse_edits
from schemas.errors import FieldError
from schemas.toml import toml_text
from tests.models.tapes import Tape, at, policy

SCOPED = """
version = 4
[guards]
step_ratio_max = 0.2
[[scopes]]
select = { categories = ["lamps"] }
guards = { margin_floor_ratio = 0.2 }
"""


def record(kind: str = "competitor_price_observed", **fields: object) -> bytes:
    given_fields = {"price_minor": 1001} if kind == "competitor_price_observed" else {}
    return Tape().add(kind, at(1), **given_fields | fields)[1]  # type: ignore[arg-type]


def edited(value: bytes, *edits: Edit) -> dict[str, object]:
    found: dict[str, object] = orjson.loads(Rewriter(Candidate("c", edits=edits))(value))
    return found


RIVAL = Match(types=("competitor_price_observed",))

CASES = [  # why, match, matches
    ("its type", Match(types=("order_placed", "competitor_price_observed")), True),
    ("another type", Match(types=("order_placed",)), False),
    ("its product", Match(skus=("A",)), True),
    ("another product", Match(skus=("B",)), False),
    ("its rival", Match(competitors=("rival",)), True),
    ("another rival", Match(competitors=("other",)), False),
    ("its id", Match(event_ids=("competitor-prices-0",)), True),
    ("its family: by default its own", Match(families=("A",)), True),
    ("another family", Match(families=("F",)), False),
    ("all of several", Match(skus=("A",), competitors=("other",)), False),
]


@pytest.mark.parametrize(("why", "match", "matches"), CASES, ids=[case[0] for case in CASES])
def test_a_match_takes_what_all_that_it_names_takes(why: str, match: Match, matches: bool) -> None:
    value = record()
    found = edited(value, Edit(match=match, set={"price_minor": 900}))
    expected = orjson.loads(value)
    if matches:
        expected["event"]["price_minor"] = 900
    assert found == expected, why


def test_times_bound_a_match_with_the_end_left_out() -> None:
    document = "[[edits]]\nmatch = {{ from_time = {}, to_time = {} }}\ndrop = true\n"
    rewrite = [
        Rewriter(Candidate("c", edits=parse_edits(document.format(*times), "f")))(record())
        for times in (
            ("2026-01-06T00:00:00Z", "2026-01-06T00:00:01Z"),
            ("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z"),
        )
    ]
    assert [tape.decode(value).source.offset for value in rewrite] == [-1, 0]


def test_a_family_is_known_from_its_listing() -> None:
    log = Tape()
    listed = log.add("product_listed", at(), family="F")[1]
    price = log.add("competitor_price_observed", at(1), price_minor=1001)[1]
    edits = (Edit(match=Match(families=("F",), types=RIVAL.types), shift={"price_minor": -2}),)
    rewrite = Rewriter(Candidate("c", edits=edits))
    assert rewrite(listed) == listed
    assert orjson.loads(rewrite(price))["event"]["price_minor"] == 999


@pytest.mark.parametrize(
    ("edit", "price"),
    [
        (Edit(match=RIVAL, scale={"price_minor": 1.05}), 1051),
        (Edit(match=RIVAL, shift={"price_minor": 10}), 1011),
        (Edit(match=RIVAL, scale={"price_minor": 2}, shift={"price_minor": 1}), 2003),
        (Edit(match=RIVAL, scale={"no_such": 2.0}), 1001),
    ],
)
def test_whole_numbers_stay_whole(edit: Edit, price: int) -> None:
    assert edited(record(), edit)["event"]["price_minor"] == price  # type: ignore[index]


def test_what_an_edit_breaks_is_named() -> None:
    with pytest.raises(FieldError) as caught:
        edited(record(), Edit(match=RIVAL, set={"price_minor": -5}))
    assert caught.value.field == "price_minor"
    assert caught.value.where == "event competitor-prices-0"


WRONG = [  # document, field
    ("edits = []", "edits"),
    ('[[edits]]\nmatch = { skus = ["A"] }\n', "edits[0]"),
    ("[[edits]]\nmatch = {}\ndrop = true\n", "edits[0]"),
    ('[[edits]]\nmatch = { skus = ["A"] }\nset = { sku = "B" }\n', "edits[0]"),
    ('[[edits]]\nmatch = { types = ["clock_ticked"] }\ndrop = true\n', "edits[0]"),
    ('[[edits]]\nmatch = { sku = "A" }\ndrop = true\n', "edits[0].match"),
    ("not toml", "edits"),
]


@pytest.mark.parametrize(("text", "field"), WRONG)
def test_a_wrong_document_names_its_field(text: str, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse_edits(text, "edits.toml")
    assert (caught.value.where, caught.value.field) == ("edits.toml", field)


def test_a_dropped_record_keeps_its_place_and_changes_nothing(kernel: Kernel) -> None:
    log = Tape()
    log.add("product_listed", at())
    log.add("cost_changed", at(1), unit_cost_minor=700)
    log.add("cost_changed", at(2), unit_cost_minor=600)
    engine = PartitionEngine.new(0, kernel)
    offset, value = log.records[1]
    engine.apply([log.records[0], (offset, dropped(value)), log.records[2]])
    assert engine.state.manifest.counts.duplicates == 1
    assert engine.state.catalogue["A"].unit_cost_minor == 600
    assert engine.position == 2


def test_every_policy_of_the_tape_is_replaced(kernel: Kernel) -> None:
    value = record("policy_published", **policy("version = 2\n"))
    rewrite = Rewriter(Candidate("c", policy="version = 7\n"))
    assert (
        orjson.loads(rewrite(value))["event"] | policy("version = 7\n")
        == orjson.loads(rewrite(value))["event"]
    )
    assert rewrite(value, switched=False) == value
    assert rewrite.changed == 2


def test_a_rule_changes_one_key_and_keeps_scopes() -> None:
    rules = (
        Rule(("objective", "risk_aversion"), 0.3),
        Rule(("scopes", 0, "guards", "margin_floor_ratio"), 0.25),
        Rule(("guards", "step_ratio_max"), None),
    )
    before, after = tomllib.loads(SCOPED), tomllib.loads(with_rules(SCOPED, rules))
    before["objective"] = {"risk_aversion": 0.3}
    before["scopes"][0]["guards"]["margin_floor_ratio"] = 0.25
    del before["guards"]["step_ratio_max"]
    assert after == before


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("scopes", 3, "guards"), {}, "no_such_rule"),
        (("version", "deeper"), 1, "no_such_rule"),
        (("guards", "step_ratio_max"), 9, "invalid_policy"),
        (("guards", "no_such"), 1, "invalid_policy"),
    ],
)
def test_a_rule_that_does_not_fit_is_named(path: tuple[str, ...], value: object, code: str) -> None:
    with pytest.raises(FieldError) as caught:
        with_rules(SCOPED, (Rule(path, value),))
    assert caught.value.code == code
    assert Rule(path, value).name in (caught.value.field, caught.value.where)


PLAIN = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text()
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(st.dictionaries(st.text(), VALUES))
def test_toml_reads_back_as_it_was_written(document: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(document)) == document
