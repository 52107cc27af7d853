"""P&L explain: the terms add up, they are the kernel's Greeks, and small steps leave little."""

import itertools
import math

import pytest

from models.kernel import valuation
from models.kernel.objective import PADDING, Row
from models.kernel.tile import Kernel
from models.pnl.pnl import INPUT_TERMS, TERMS, Change, Valuation, explain, valuation_of
from tests.models.tapes import Partition, at

BASE = PADDING._replace(
    horizon_days=7.0, demand_per_day=2.0, stock=20.0, unlimited=0.0, demand_volatility=0.3,
    risk_aversion=0.1, target_leftover=28.0, value_volatility=0.02, level_variance=0.05,
    elasticity_variance=0.1, return_max=0.9, return_intercept=-2.0, return_log=0.5,
    return_cost=0.05, return_rate_sd=0.03, rival_omega=1.0,
)  # fmt: skip


def valued(kernel: Kernel, row: Row, price: float, reference_minor: int = 1000) -> Valuation:
    objective = kernel.evaluate([row], [[price]])[0].objectives[0]
    return Valuation(objective * reference_minor, reference_minor, price, row)


def told(found: Change) -> dict[str, float]:
    """The terms that are not 0."""
    return {name: value for name, value in found.terms.items() if value}


def one(kernel: Kernel, after: Row, price: float = 1.1, steps: int = 16) -> Change:
    return explain([(valued(kernel, BASE, 1.1), valued(kernel, after, price))], steps)[0]


@pytest.mark.parametrize(
    ("change", "term"),
    [
        ({name: getattr(BASE, name) + 0.01}, INPUT_TERMS[name])
        for name in INPUT_TERMS
        if name in Row._fields and not name.startswith("partner")
    ]
    + [({"risk_aversion": 0.11}, "policy")],
)
def test_one_input_moves_one_term(kernel: Kernel, change: dict[str, float], term: str) -> None:
    found = one(kernel, BASE._replace(**change))
    nothing_moves_it = term == "rivals" and "rival_price" in change and found.change_minor == 0.0
    assert set(told(found)) == (set() if nothing_moves_it else {term})
    assert found.terms[term] == pytest.approx(found.change_minor, rel=1e-3, abs=1e-9)


def test_terms_and_revaluation_add_up_to_the_change(kernel: Kernel) -> None:
    after = BASE._replace(demand_per_day=2.6, stock=50.0, unit_cost=0.55, elasticity=-2.3)
    for steps in (1, 16):
        found = one(kernel, after, 1.14, steps)
        assert sum(found.terms.values()) + found.revaluation_minor == pytest.approx(
            found.change_minor, rel=1e-12
        )
        assert tuple(found.terms) == TERMS


def test_a_small_move_is_told_by_the_kernel_s_greeks(kernel: Kernel) -> None:
    row, price, move = BASE, 1.1, 1e-4
    greeks = kernel.evaluate([row], [[price]])[0].greeks
    after = row._replace(demand_volatility=0.3 + move, stock=20.0 + move)
    pair = (valued(kernel, row, price), valued(kernel, after, price + move))
    terms = explain([pair])[0].terms
    assert greeks.rho is not None
    assert greeks.price_stock is not None
    assert terms["delta"] == pytest.approx(1000 * greeks.delta * move, rel=1e-6)
    assert terms["gamma"] == pytest.approx(500 * greeks.gamma * move**2, rel=1e-3)
    assert terms["vega"] == pytest.approx(1000 * greeks.vega * move, rel=1e-3)
    assert terms["vanna"] == pytest.approx(500 * greeks.vanna * move**2, rel=1e-3)
    assert terms["rho"] == pytest.approx(1000 * greeks.rho * move, rel=1e-3)
    assert terms["price_stock"] == pytest.approx(500 * greeks.price_stock * move**2, rel=1e-3)


def test_more_steps_leave_less(kernel: Kernel) -> None:
    after = BASE._replace(stock=60.0, demand_per_day=4.0, horizon_days=5.0)
    left = [abs(one(kernel, after, 1.15, steps).revaluation_minor) for steps in (1, 4, 16)]
    assert left[0] > 8 * left[1] > 64 * left[2]


def test_there_is_no_path_from_unknown_stock(kernel: Kernel) -> None:
    found = one(kernel, BASE._replace(unlimited=1.0))
    assert told(found) == {}
    assert found.revaluation_minor == found.change_minor != 0.0


def test_a_pair_does_not_see_its_neighbours(kernel: Kernel) -> None:
    rows = [
        BASE._replace(stock=10.0 + number, elasticity=-2.0 - number / 100) for number in range(300)
    ]
    points = [valued(kernel, row, 1.0) for row in rows]
    pairs = list(itertools.pairwise(points))
    everything = explain(pairs, 2)
    assert everything[280:] == explain(pairs[280:], 2)
    assert len(everything) == len(pairs)


def test_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        explain([], 0)


def test_the_record_says_what_was_valued(kernel: Kernel) -> None:
    shop = Partition(kernel)
    listed = shop.send("product_listed", at())
    stocked = shop.send("inventory_changed", at(hours=1), on_hand=12, inbound=0, reason="counted")
    decisions = [*listed.decisions, *stocked.decisions]
    assert len(decisions) == 2
    found = [valuation_of(decision) for decision in decisions]
    for value, decision in zip(found, decisions, strict=True):
        assert value is not None
        assert decision.record is not None
        assert valuation.named(value.row) == decision.record.inputs
        again = kernel.evaluate([value.row], [[value.price]])[0].objectives[0]
        assert math.isclose(again * value.reference_minor, value.objective_minor, rel_tol=1e-12)


def test_a_held_decision_is_not_valued(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("operator_command", at(), command="kill_switch_on")
    assert valuation_of(shop.send("product_listed", at()).decision) is None
