"""Laws of publication over random catalogues, policies and streams of events, through the engine.

No published price breaks an active guard (`tests.oracle` shares no code with the guards), what the
guards allow is not held by the gate, and the record's steps lead to the price, each from the one
before.
"""

import math
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernel.tile import Kernel
from schemas import tape
from schemas.outputs import PriceDecided
from tests.models.tapes import Partition, at, policy
from tests.oracle import Oracle

SKUS = ("A", "B", "C")
NO_SKU = ("policy_published", "operator_command")
money = st.integers(100, 3000)
shares = st.sampled_from

guard_tables = st.fixed_dictionaries(
    {},
    optional={
        "step_ratio_max": shares([0.02, 0.05, 0.1]),
        "day_step_ratio_max": shares([0.1, 0.3]),
        "margin_floor_ratio": shares([0.0, 0.1, 0.3]),
        "ceiling_list_price_ratio": shares([0.8, 1.0, 1.2]),
        "ceiling_reference_ratio": shares([1.2, 3.0]),
        "floor_reference_ratio": shares([0.2, 0.8]),
        "competitor_index_max": shares([0.95, 1.1]),
        "competitor_index_min": shares([0.7, 0.9]),
        "stock_cover_days_min": shares([3.0]),
        "stock_cover_days_max": shares([60.0]),
        "step_ratio_min": shares([0.01, 0.03]),
        "minimum_resale_price_markets": shares([[], ["DE"]]),
    },
)
roundings = shares(
    [
        "",
        "tick_minor = 10\nending_modulus_minor = 100\nendings_minor = []\n",
        "tick_minor = 1\nending_modulus_minor = 100\nendings_minor = [49, 99]\n",
        "tick_minor = 5\nending_modulus_minor = 50\nendings_minor = [45]\n",
    ]
)
adaptive = shares(["", "adaptive_step = {tolerances = {units = 0.05, profit = 0.1}}\n"])
ladders = shares(
    [
        "",
        '[[ladders]]\nname = "size"\nskus = ["A", "B", "C"]\n',
        '[[ladders]]\nname = "pack"\nskus = ["A", "B"]\nratio_min = 1.2\nunits = [1, 2]\n',
    ]
)
selectors = shares(
    [
        'skus = ["A"]', 'families = ["F"]', 'categories = ["lamps"]', 'roles = ["anchor"]',
        'markets = ["DE"]', 'channels = ["letter"]', 'skus = ["B"], markets = ["FR"]',
    ]
)  # fmt: skip


def lines(table: dict[str, Any]) -> str:
    return "".join(f"{name} = {orjson.dumps(value).decode()}\n" for name, value in table.items())


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A policy with every kind of table; the rules need not fit together."""
    text = 'channels = ["web", "letter"]\n[guards]\n' + lines(draw(guard_tables))
    text += draw(roundings) + draw(adaptive) + "[markets.DE]\n[markets.FR]\n"
    for select in draw(st.lists(selectors, max_size=3)):
        text += f"[[scopes]]\nselect = {{{select}}}\n[scopes.guards]\n{lines(draw(guard_tables))}"
    return text + draw(ladders)


happenings = st.one_of(
    st.tuples(st.just("cost_changed"), st.fixed_dictionaries({"unit_cost_minor": money})),
    st.tuples(
        st.just("product_listed"),
        st.fixed_dictionaries(
            {
                "unit_cost_minor": money,
                "list_price_minor": st.none() | money,
                "vat_rate": shares([0.0, 0.19]),
                "role": shares(["plain", "anchor"]),
                "minimum_resale_price_minor": shares([{}, {"DE": 900}]),
            }
        ),
    ),
    st.tuples(
        st.just("competitor_price_observed"),
        st.fixed_dictionaries({"price_minor": money, "competitor": shares(["x", "y"])}),
    ),
    st.tuples(st.just("inventory_changed"), st.fixed_dictionaries({"on_hand": st.integers(0, 90)})),
    st.tuples(st.just("policy_published"), documents().map(policy)),
    st.tuples(
        st.just("operator_command"),
        st.fixed_dictionaries(
            {"command": shares(["kill_switch_on", "kill_switch_off", "breaker_reset"])}
        ),
    ),
    st.tuples(st.just("product_retired"), st.just({})),
)
stories = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from(SKUS), happenings), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(first=documents(), costs=st.tuples(money, money, money), story=stories)
def test_no_published_price_breaks_an_active_guard(kernel: Kernel, first, costs, story) -> None:
    shop, oracle = Partition(kernel), Oracle()
    opening: list[tuple[int, str, tuple[str, dict[str, Any]]]] = [
        (0, "A", ("policy_published", policy(first)))
    ]
    opening += [
        (0, sku, ("product_listed", {"unit_cost_minor": cost, "list_price_minor": None}))
        for sku, cost in zip(SKUS, costs, strict=True)
    ]
    hours, kept = 0, dict[str, float]()
    for wait, sku, (kind, fields) in [*opening, *story]:
        hours += wait
        about = {} if kind in NO_SKU else {"sku": sku}
        if kind == "product_listed":
            about["family"] = "F"
        for one, given_fields in (("clock_ticked", {}), (kind, about | fields)):
            found = shop.send(one, at(hours=hours), **given_fields)
            event = orjson.loads(tape.raw_event(shop.tape.records[-1][1]))
            oracle.observe(event, applied=found.letters == [])
            for decision in found.decisions:
                assert oracle.judge(msgspec.to_builtins(decision)) == []
                reproduces(decision, kept.get(decision.sku, 0.0))
                if decision.status != "held":
                    kept[decision.sku] = decision.exogenous_log


def reproduces(decision: PriceDecided, kept_log: float) -> None:
    """Each step's price follows from the one before, and the last is the price."""
    record = decision.record
    if record is None:
        assert decision.status == "held"
        return
    clamps = {f"guard {clamp.guard}": clamp for clamp in record.clamps}
    price = record.steps[1].price_minor
    for step in record.steps[2:]:
        if step.name in clamps:
            clamp = clamps[step.name]
            assert clamp.price_before_minor == price
            after = clamp.bound_minor
        elif step.name == "exploration":
            after = step.price_minor
            assert abs(math.log(after / price)) == pytest.approx(0.03, rel=1e-9)
        elif step.name == "exploration kept":
            after = price * math.exp(kept_log)
        elif step.name.startswith("rounded"):
            after = step.price_minor
            assert after == int(after)
            assert "ending" in step.name or abs(after - price) < 10.0
        else:  # a price that was there before: the present one, or one of an expert or a family
            after = step.price_minor
        assert step.price_minor == after
        price = after
    if decision.status == "published":
        assert decision.price_minor == price
