"""Policies: TOML with bounds and defaults; what is wrong is named by key."""

import hashlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FieldError
from schemas.policy import (
    DEFAULT_POLICY_TEXT,
    BreakerPolicy,
    DecisionPolicy,
    GuardPolicy,
    ObjectivePolicy,
    Policy,
    policy_sha256,
)
from schemas.scopes import Place, PolicyDocument, Subject, parse_policy

FULL = """
name = "careful"

[objective]
risk_aversion = 0.2
expert_markup_ratio = 1.8

[guards]
margin_floor_ratio = 0.12
step_ratio_max = 0.05
minimum_resale_price_markets = ["DE", "FR"]
tick_minor = 5

[decision]
epoch_days_min = 2
interval_hours = 6.0

[breaker]
scaled_delta_max = 1.0
"""


def test_no_text_is_the_default_policy() -> None:
    assert parse_policy(DEFAULT_POLICY_TEXT).base == Policy()
    assert policy_sha256(DEFAULT_POLICY_TEXT) == hashlib.sha256(b"").hexdigest()


def test_what_is_not_written_has_its_default() -> None:
    assert parse_policy(FULL).base == Policy(
        name="careful",
        objective=ObjectivePolicy(risk_aversion=0.2, expert_markup_ratio=1.8),
        guards=GuardPolicy(
            margin_floor_ratio=0.12,
            step_ratio_max=0.05,
            minimum_resale_price_markets=("DE", "FR"),
            tick_minor=5,
        ),
        decision=DecisionPolicy(epoch_days_min=2.0, interval_hours=6.0),
        breaker=BreakerPolicy(scaled_delta_max=1.0),
    )


REFUSED = [
    # why, text, code, the end of its message
    ("no TOML", "guards", "not_toml", None),
    ("an unknown table", "[guard]\n", "invalid_policy",
     "Object contains unknown field `guard`"),
    ("an unknown key", "[guards]\nstep = 0.1\n", "invalid_policy",
     "Object contains unknown field `step` - at `$.guards`"),
    ("text for a number", '[guards]\nstep_ratio_max = "0.1"\n', "invalid_policy",
     "Expected `float`, got `str` - at `$.guards.step_ratio_max`"),
    ("a share above 1", "[guards]\nfloor_reference_ratio = 1.1\n", "invalid_policy",
     "Expected `float` <= 1.0 - at `$.guards.floor_reference_ratio`"),
    ("a margin of all", "[guards]\nmargin_floor_ratio = 1.0\n", "invalid_policy",
     "Expected `float` < 1.0 - at `$.guards.margin_floor_ratio`"),
    ("a tick of nothing", "[guards]\ntick_minor = 0\n", "invalid_policy",
     "Expected `int` >= 1 - at `$.guards.tick_minor`"),
    ("a part of a tick", "[guards]\ntick_minor = 0.5\n", "invalid_policy",
     "Expected `int`, got `float` - at `$.guards.tick_minor`"),
    ("not a number", "[objective]\nrisk_aversion = nan\n", "invalid_policy",
     "Expected `float` >= 0.0 - at `$.objective.risk_aversion`"),
    ("without end", "[objective]\nhorizon_days_max = inf\n", "invalid_policy",
     "Expected `float` <= 1000000.0 - at `$.objective.horizon_days_max`"),
    ("a rival's follower without a word from the law", "[objective]\nrival_response = true\n",
     "invalid_policy",
     "Expected `rival_response_legal_note` beside `rival_response` - at `$.objective`"),
    ("discounts that nobody is told of", "[discounts]\nsegments = ['new']\n", "invalid_policy",
     "Expected `market` and `disclosure` beside `segments` - at `$.discounts`"),
    ("a cap that ends before it begins", """[[emergency_caps]]
     name = "flood"
     ratio = 1.1
     reason = "decree"
     from_time = 2026-01-02T00:00:00Z
     expires_at = 2026-01-01T00:00:00Z""", "invalid_policy",
     "Expected `expires_at` after `from_time` - at `$.emergency_caps[0]`"),
    ("a ladder of one product", "[[ladders]]\nname = 'size'\nskus = ['A']\n", "invalid_policy",
     "Expected `array` of length >= 2 - at `$.ladders[0].skus`"),
    ("a scope with a wrong number", """[[scopes]]
     select = {}
     [[scopes]]
     select = {categories = ["shoes"]}
     guards = {step_ratio_max = 2.0}""", "invalid_policy",
     "Expected `float` <= 1.0 - at `$.scopes[1].guards.step_ratio_max`"),
    ("a scope of what is one for all", "[[scopes]]\nselect={}\ndecision={interval_hours=1.0}\n",
     "invalid_policy",
     "Expected a key that a scope may set - at `$.scopes[0].decision.interval_hours`"),
    ("a market that is not declared", "[[scopes]]\nselect={markets=['DE']}\n", "invalid_policy",
     "Expected one of the declared markets - at `$.scopes[0].select.markets`"),
    ("an objective for one market", """[markets.DE]
     [[scopes]]
     select = {markets = ["DE"]}
     objective = {risk_aversion = 0.2}""", "invalid_policy",
     "Expected only guards for a market or channel - at `$.scopes[0].objective`"),
    ("an epoch that ends before it may", "[decision]\nepoch_days_min = 15\n", "invalid_policy",
     "Expected `epoch_days_min` at most `epoch_days_max` - at `$.decision`"),
    ("a price that runs out before its epoch", "[decision]\nvalid_days = 14\n", "invalid_policy",
     "Expected `valid_days` above `epoch_days_max` - at `$.decision`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "expected"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_what_is_refused_and_why(text: str, code: str, expected: str | None) -> None:
    with pytest.raises(FieldError) as error:
        parse_policy(text)
    assert (error.value.code, error.value.field) == (code, "policy")
    if expected is None:
        assert (error.value.expected, "TOML" in error.value.message) == ("TOML", True)
    else:
        assert error.value.expected == expected
        assert error.value.message == f"policy was refused: {expected}."


def test_every_number_is_bounded_and_its_default_lies_inside() -> None:
    """A default is parsed like any other value, and no key can be infinite or negative."""
    tables: dict[str, Any] = msgspec.to_builtins(Policy())
    assert msgspec.convert(tables, Policy) == Policy()
    checked = 0
    for table, keys in tables.items():
        if not isinstance(keys, dict):
            continue
        for key, value in keys.items():
            if not isinstance(value, int | float):
                continue
            checked += 1
            for wrong in (float("inf"), float("nan"), -1, 1e9):
                with pytest.raises(FieldError, match=f"{table}.{key}|{table}`"):
                    parse_policy(f"[{table}]\n{key} = {wrong}\n")
    assert checked > 30


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    with suppress(FieldError):
        assert isinstance(parse_policy(text), PolicyDocument)


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_policy_is_known_by_its_text(one: str, other: str) -> None:
    assert (policy_sha256(one) == policy_sha256(other)) == (one == other)


SCOPED = """
channels = ["web", "letter"]

[guards]
step_ratio_max = 0.05

[markets.DE]
[markets.FR]

[[scopes]]
select = {categories = ["shoes"]}
guards = {step_ratio_max = 0.08, tick_minor = 5, ending_modulus_minor = 100, endings_minor = [95]}
objective = {risk_aversion = 0.2}

[[scopes]]
select = {roles = ["anchor"], markets = ["FR"]}
guards = {margin_floor_ratio = 0.2}

[[scopes]]
select = {skus = ["A"], channels = ["letter"]}
guards = {step_ratio_max = 0.01}

[[scopes]]
select = {skus = ["A"]}
guards = {tick_minor = 10, ending_modulus_minor = 100, endings_minor = []}
breaker = {scaled_delta_max = 0.5}
"""


def test_scopes_hold_where_all_that_they_name_matches_and_the_later_wins() -> None:
    document = parse_policy(SCOPED)
    a, b, c = (
        Subject("A", "A", "shoes", "anchor"),
        Subject("B", "B", "shoes", "plain"),
        Subject("C", "C", "hats", "plain"),
    )
    shared = {"markets": document.base.markets, "channels": ("web", "letter")}
    hats = Policy(guards=GuardPolicy(step_ratio_max=0.05), **shared)
    shoes = GuardPolicy(step_ratio_max=0.08, tick_minor=5, endings_minor=(95,))
    own = GuardPolicy(step_ratio_max=0.08, tick_minor=10)
    assert document.of(c) == document.base == hats
    assert document.of(b) == Policy(
        guards=shoes, objective=ObjectivePolicy(risk_aversion=0.2), **shared
    )
    assert document.of(a) == Policy(
        guards=own,
        objective=ObjectivePolicy(risk_aversion=0.2),
        breaker=BreakerPolicy(scaled_delta_max=0.5),
        **shared,
    )
    assert document.guards_of(c) == ((Place("DE", "web"), hats.guards),)
    assert document.guards_of(b) == ((Place("DE", "web"), shoes),)
    letter = msgspec.structs.replace(own, step_ratio_max=0.01)
    assert document.guards_of(a) == (
        (Place("DE", "web"), own),
        (Place("DE", "letter"), letter),
        (Place("FR", "web"), msgspec.structs.replace(own, margin_floor_ratio=0.2)),
        (Place("FR", "letter"), msgspec.structs.replace(letter, margin_floor_ratio=0.2)),
    )


def test_without_scopes_one_policy_holds_for_all() -> None:
    document = parse_policy(FULL)
    anyone = Subject("A", "A", "shoes", "plain")
    assert document.of(anyone) is document.base
    assert document.guards_of(anyone) == ((Place(), document.base.guards),)
