"""Exploration: who probes, what it is said to cost, and that a day's budget bounds it."""

import math

import pytest

from models.fold.partition import PartitionState
from models.kernel.tile import Kernel
from models.pricing import exploration
from schemas.state import ExplorationLedger, SkuState
from tests.models.tapes import Partition, at, policy

BUDGET = 0.001  # the policy's share


def ledger(partition: PartitionState) -> ExplorationLedger:
    return partition.manifest.exploration["EUR"]


def listed(kernel: Kernel, **decision: float) -> Partition:
    shop = Partition(kernel)
    text = "[decision]\n" + "".join(f"{name} = {value}\n" for name, value in decision.items())
    shop.send("policy_published", at(), **policy(text))
    return shop


def test_a_probe_is_chosen_by_what_it_earns(kernel: Kernel) -> None:
    """The default belief of half an order a day is wide: it pays in half a year, not in a week."""
    for days, probes in ((180.0, 1), (7.0, 0)):
        shop = listed(kernel, exploration_payback_days=days)
        decision = shop.send("product_listed", at()).decision
        assert shop.engine.state.manifest.counts.probes == probes
        assert (decision.exogenous_log != 0.0) == bool(probes)


@pytest.mark.parametrize(
    "off",
    [
        {"exploration_log": 0.0},
        {"exploration_budget_profit_share": 0.0},
        {"exploration_profit_share_max": 0.0005},  # one product's own bound
    ],
)
def test_it_can_be_switched_off(kernel: Kernel, off: dict[str, float]) -> None:
    shop = listed(kernel, **off)
    decision = shop.send("product_listed", at()).decision
    assert (decision.exogenous_log, decision.exploration_cost_per_day_minor) == (0.0, 0.0)
    assert ledger(shop.engine.state).cost_per_day_milli == 0


def test_a_probe_says_what_it_costs(kernel: Kernel) -> None:
    shop = listed(kernel)
    decision = shop.send("product_listed", at()).decision
    price, greeks, record = decision.wanted_minor, decision.greeks, decision.record
    assert None not in (price, greeks, record)
    moved = price * (1.0 - math.exp(-decision.exogenous_log))
    cost = 0.5 * abs(greeks.gamma) * moved**2 / record.stock.horizon_days
    assert decision.exploration_cost_per_day_minor == pytest.approx(cost, rel=1e-9)
    assert 0.0 < cost < 0.005 * record.expected_profit_per_day_minor
    assert ledger(shop.engine.state) == ExplorationLedger(
        profit_per_day_milli=round(1000 * record.expected_profit_per_day_minor),
        cost_per_day_milli=round(1000 * cost),
    )


def test_days_add_up_and_a_retired_product_costs_nothing(kernel: Kernel) -> None:
    shop = listed(kernel)
    shop.send("product_listed", at())
    rate = ledger(shop.engine.state).cost_per_day_milli
    for days in (0.0, 1.0, 1.5, 4.0):  # the first tick begins the count; four days in all
        shop.tick(at(days))
    assert ledger(shop.engine.state).spent_milli == 4 * rate
    shop.send("product_retired", at(4.5))
    shop.tick(at(5))
    after = ledger(shop.engine.state)
    assert (after.profit_per_day_milli, after.cost_per_day_milli) == (0, 0)
    assert after.spent_milli == 4 * rate


def test_sums_follow_each_products_last_booking(kernel: Kernel) -> None:
    partition = PartitionState(0, kernel.fingerprint)
    one, two = SkuState(sku="1"), SkuState(sku="2")
    for state, profit, cost in ((one, 9.0, 0.5), (two, 2.0, 0.1), (one, 4.0, 0.0)):
        exploration.book(partition, state, "EUR", profit, cost)
    exploration.book(partition, SkuState(sku="3"), "JPY", 70.0, 0.0)
    assert partition.manifest.exploration == {
        "EUR": ExplorationLedger(profit_per_day_milli=6000, cost_per_day_milli=100),
        "JPY": ExplorationLedger(profit_per_day_milli=70_000),
    }


PRICES = [
    # why, cost of a profit of 1,000,000 a day, price of the budget before and after a day
    ("twice over: up by a quarter", 2000, 1.0, 1.25),
    ("a little over", 1100, 2.0, 2.2),
    ("a little under", 900, 2.0, 1.8),
    ("nothing spent: down by a fifth", 0, 2.0, 1.6),
    ("never below 1: a probe has to pay for itself", 0, 1.1, 1.0),
]


@pytest.mark.parametrize(
    ("cost", "before", "after"), [case[1:] for case in PRICES], ids=[case[0] for case in PRICES]
)
def test_the_price_of_the_budget(kernel: Kernel, cost: int, before: float, after: float) -> None:
    partition = PartitionState(0, kernel.fingerprint)
    partition.manifest.exploration["EUR"] = ExplorationLedger(
        profit_per_day_milli=1_000_000, cost_per_day_milli=cost, budget_price=before
    )
    assert partition.policy.decision.exploration_budget_profit_share == BUDGET
    exploration.new_day(partition, 7)
    assert ledger(partition).budget_price == pytest.approx(after, rel=1e-12)


def test_a_dear_budget_ends_probes(kernel: Kernel) -> None:
    shop = listed(kernel)
    shop.engine.state.manifest.exploration["EUR"] = ExplorationLedger(budget_price=1e3)
    decision = shop.send("product_listed", at()).decision
    assert decision.exogenous_log == 0.0


def test_the_coin_is_logged_with_what_either_side_led_to(kernel: Kernel) -> None:
    """Enough to weigh what was sold afterwards: both prices, and how likely each was."""
    shop = listed(kernel)
    drew_up = []
    for number in range(40):
        decision = shop.send("product_listed", at(), sku=f"S{number}").decision
        found = decision.exploration
        assert found is not None
        steps = {step.name: step.price_minor for step in decision.record.steps}
        aims = [steps["with stock and risk"] * math.exp(sign * 0.03) for sign in (1, -1)]
        assert [found.up_minor, found.down_minor] == [round(aim) for aim in aims]
        assert found.up_probability == 0.5
        drawn = found.up_minor if found.drew_up else found.down_minor
        assert decision.wanted_minor == drawn
        drew_up.append(found.drew_up)
    assert 8 <= sum(drew_up) <= 32  # of 40 fair coins: outside once in 10,000


SIDES = [
    # why, guards, whether the sides are apart
    ("a ceiling on both", "ceiling_reference_ratio = 1.01\nfloor_reference_ratio = 1.0", False),
    ("none", "", True),
]


@pytest.mark.parametrize(
    ("guards", "apart"), [case[1:] for case in SIDES], ids=[case[0] for case in SIDES]
)
def test_guards_can_leave_a_coin_no_choice(kernel: Kernel, guards: str, apart: bool) -> None:
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy(f"[guards]\n{guards}\n"))
    found = shop.send("product_listed", at()).decision.exploration
    assert found is not None
    assert (found.up_minor > found.down_minor) == apart


def test_no_coin_where_a_probe_is_kept_or_none_is_made(kernel: Kernel) -> None:
    shop = listed(kernel)
    first = shop.send("product_listed", at()).decision
    kept = shop.send("cost_changed", at(1), unit_cost_minor=505).decision
    assert first.exploration is not None
    assert kept.exploration is None
    off = listed(kernel, exploration_log=0.0)
    assert off.send("product_listed", at()).decision.exploration is None
