"""Delta debugging: what it leaves shows the effect, and nothing of it can be left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backtest.ddmin import Minimal, Probes, ddmin
from models.backtest.edits import Rule, with_rules
from models.backtest.rules import differing_rules, value_at
from schemas.scopes import parse_policy


@given(st.integers(1, 30), st.data())
def test_one_cause_of_several_changes_is_found_whole(size: int, data: st.DataObject) -> None:
    cause = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    found = ddmin(range(size), Probes(lambda kept: cause <= {*kept}, 10_000))
    assert found == Minimal(tuple(sorted(cause)), True)


@given(st.integers(2, 12), st.data())
def test_what_is_left_can_not_be_made_smaller(size: int, data: st.DataObject) -> None:
    """Also where effects cancel, so that a larger set may not show what a smaller one does."""
    shows = data.draw(st.sets(st.frozensets(st.integers(0, size - 1)), max_size=6))
    shows |= {frozenset(range(size))}

    def probe(kept: tuple[int, ...]) -> bool:
        return frozenset(kept) in shows

    found = ddmin(range(size), Probes(probe, 10_000))
    assert found.proved
    assert probe(found.places)
    assert not any(probe(tuple(x for x in found.places if x != one)) for one in found.places)


def test_nothing_is_needed_for_what_happens_anyway() -> None:
    probes = Probes(lambda _: True, 10)
    assert ddmin(range(5), probes) == Minimal((), True)
    assert probes.used == 1


def test_when_probes_run_out_what_is_left_shows_the_effect() -> None:
    probes = Probes(lambda kept: {1, 30} <= {*kept}, 9)
    found = ddmin(range(32), probes)
    assert not found.proved
    assert {1, 30} <= {*found.places}
    assert probes.used == 9


BASE = """
version = 1
[guards]
step_ratio_max = 0.2
[[scopes]]
select = { categories = ["lamps"] }
guards = { margin_floor_ratio = 0.2 }
"""
OTHER = """
version = 2
[guards]
tick_minor = 5
[[scopes]]
select = { categories = ["lamps"] }
guards = { margin_floor_ratio = 0.3 }
"""


@pytest.mark.parametrize("texts", [[BASE], [BASE, ""], ["version = 9\n"]])
def test_all_rules_together_make_the_other_policy(texts: list[str]) -> None:
    rules = differing_rules(texts, OTHER)
    other = parse_policy(OTHER)
    for text in texts:
        made = parse_policy(with_rules(text, rules))
        assert (made.base, made.scopes) == (other.base, other.scopes)


def test_rules_go_key_by_key_where_scopes_are_for_the_same() -> None:
    assert {rule.name: rule.value for rule in differing_rules([BASE], OTHER)} == {
        "version": 2,
        "guards.step_ratio_max": None,
        "guards.tick_minor": 5,
        "scopes[0].guards.margin_floor_ratio": 0.3,
    }
    assert differing_rules([OTHER], OTHER) == ()
    assert value_at(BASE, ("scopes", 0, "guards", "margin_floor_ratio")) == 0.2
    assert value_at(BASE, ("scopes", 1, "guards")) is None
    assert Rule(("scopes",), None).name == "scopes"
