"""What in a valid policy is likely not meant: each finding, and a policy without any."""

import pytest

from models.guards.policy_check import findings
from schemas.policy import DEFAULT_POLICY_TEXT
from schemas.scopes import Subject, parse_policy

SCOPE = '[[scopes]]\nselect = {categories = ["lamps"]}\n'
NAMED = Subject("A", "A", "lamps", "plain")

CASES = [
    # why, policy, code and place of what is found
    ("more than a day allows", "[guards]\nstep_ratio_max = 0.3\n",
     [("step_beyond_day", "guards.step_ratio_max")]),
    ("too small to be seen, too large to be allowed",
     "[guards]\nstep_ratio_min = 0.1\nstep_ratio_max = 0.1\n",
     [("no_step_fits", "guards.step_ratio_min")]),
    ("never at home between its limits",
     "[guards]\ncompetitor_index_min = 1.1\ncompetitor_index_max = 1.0\n",
     [("minimum_above_maximum", "guards.competitor_index_min")]),
    ("neither may it fall nor rise",
     "[guards]\nstock_cover_days_min = 30\nstock_cover_days_max = 20\n",
     [("minimum_above_maximum", "guards.stock_cover_days_min")]),
    ("a note to read again",
     '[objective]\nrival_response = true\nrival_response_legal_note = "counsel, 2026-10-01"\n',
     [("rival_response", "objective.rival_response")]),
    ("no market allows it", '[guards]\nloss_leader = "cost_floor"\n',
     [("below_cost_unlawful", "guards.loss_leader")]),
    ("one does", '[guards]\nloss_leader = "cost_floor"\n'
     "[markets.XA]\nsale_below_cost_lawful = true\n", []),
    ("a market that is not declared",
     '[guards]\nminimum_resale_price_markets = ["DE"]\n[markets.FR]\n',
     [("market_not_declared", "guards.minimum_resale_price_markets")]),
    ("the floor is above it",
     "[guards]\nmargin_floor_ratio = 0.2\n[approval]\nmargin_ratio_min = 0.1\n",
     [("never_asked", "approval.margin_ratio_min")]),
    ("a ladder's rungs",
     '[[ladders]]\nname = "b"\nskus = ["A", "B"]\nratio_min = 1.2\nratio_max = 1.1\n',
     [("minimum_above_maximum", "ladders[0].ratio_min")]),
    ("nothing to set", SCOPE, [("sets_nothing", "scopes[0]")]),
    ("a later one for all sets it anew",
     SCOPE + "guards = {margin_floor_ratio = 0.2}\n"
     "[[scopes]]\nselect = {}\nguards = {margin_floor_ratio = 0.1}\n",
     [("overridden", "scopes[0]")]),
    ("a later one for some does not",
     SCOPE + "guards = {margin_floor_ratio = 0.2}\n"
     '[[scopes]]\nselect = {categories = ["lamps"], roles = ["plain"]}\n'
     "guards = {margin_floor_ratio = 0.1}\n", []),
    ("only in the scope", SCOPE + "guards = {step_ratio_max = 0.5}\n",
     [("step_beyond_day", "scopes[0].guards.step_ratio_max")]),
    ("the document's own are told once",
     "[guards]\nstep_ratio_max = 0.3\n" + SCOPE + "guards = {margin_floor_ratio = 0.1}\n",
     [("step_beyond_day", "guards.step_ratio_max")]),
    ("a name that no product has", '[[scopes]]\nselect = {categories = ["Lamps"]}\n'
     "guards = {margin_floor_ratio = 0.1}\n", [("matches_nothing", "scopes[0].select")]),
    ("nothing", DEFAULT_POLICY_TEXT, []),
]  # fmt: skip


@pytest.mark.parametrize(("why", "text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_what_is_likely_not_meant(why, text, expected) -> None:
    found = findings(parse_policy(text), (NAMED,))
    assert [(one.code, one.where) for one in found] == expected


def test_selectors_are_held_against_a_known_catalogue_only() -> None:
    text = '[[scopes]]\nselect = {skus = ["B"]}\nguards = {margin_floor_ratio = 0.1}\n'
    assert findings(parse_policy(text)) == ()


def test_a_ladder_without_a_ratio_is_found() -> None:
    """TOML has no null: only a document made by other means lacks every ratio."""
    import msgspec

    document = parse_policy('[[ladders]]\nname = "b"\nskus = ["A", "B"]\n')
    (ladder,) = document.base.ladders
    bare = msgspec.structs.replace(ladder, ratio_min=None)
    document.base = msgspec.structs.replace(document.base, ladders=(bare,))
    assert [one.code for one in findings(document)] == ["ladder_without_ratio"]
