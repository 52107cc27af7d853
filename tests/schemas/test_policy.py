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
    parse_policy,
    policy_sha256,
)

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
    assert parse_policy(DEFAULT_POLICY_TEXT) == Policy()
    assert policy_sha256(DEFAULT_POLICY_TEXT) == hashlib.sha256(b"").hexdigest()


def test_what_is_not_written_has_its_default() -> None:
    assert parse_policy(FULL) == Policy(
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
    ("a step beyond the day's", "[guards]\nstep_ratio_max = 0.5\n", "invalid_policy",
     "Expected `step_ratio_max` at most `day_step_ratio_max` - at `$.guards`"),
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
        if table == "name":
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
        assert isinstance(parse_policy(text), Policy)


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_policy_is_known_by_its_text(one: str, other: str) -> None:
    assert (policy_sha256(one) == policy_sha256(other)) == (one == other)
