"""The market maker's view: limits of the skew, the reservation price, the spread, toxicity.

Limits that belong to the objective stand in test_solver (more stock, the half spread as gamma goes
to 0) and test_objective (a short horizon).
"""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernel.tile import Kernel
from models.returns.cohorts import new_cohort
from models.returns.cohorts import sell as sell_unit
from models.returns.liability import Owner, mark
from models.returns.open_cohorts import OpenCohorts
from models.returns.returns import ReturnRateModel
from models.returns.toxicity import NONE_YET, ORDERS_MIN, Toxicity, last_move, sides, toxicity
from schemas.events import DAY_MS
from schemas.learned import ReturnCohort
from schemas.outputs import MarketMakerView, PriceDecided
from schemas.state import PriceMove
from tests.models.numpy_objective import Problem
from tests.models.problems import plain, to_row
from tests.models.tapes import Partition, at, policy

# Far more stock than demand at any price near the best: sales are demand, to the last digit.
AMPLE = plain(stock=400.0, demand_volatility=0.0, target_leftover=140.0)


def best(kernel: Kernel, problem: Problem) -> float:
    """The best price over the reference price."""
    (solution,) = kernel.solve([to_row(problem)])
    return solution.price


def leftover(problem: Problem, price: float) -> float:
    assert problem.stock is not None
    mean = problem.demand_per_day * problem.horizon_days * price**problem.elasticity
    return problem.stock - mean


# -- limits of the skew

gammas, wildness = st.floats(0.01, 0.5), st.floats(0.005, 0.1)


@given(gammas, st.floats(100.0, 4_000.0), st.floats(-4.0, -1.5))
def test_no_inventory_risk_no_skew(kernel: Kernel, gamma: float, target: float, eps: float):
    # Leftovers keep their worth (v = C, h = 0, w = 0): stock moves nothing, at any risk aversion.
    case = replace(AMPLE, risk_aversion=gamma, target_leftover=target, elasticity=eps, stock=4e4)
    assert best(kernel, case) == pytest.approx(best(kernel, replace(case, stock=None)), rel=1e-8)


@given(gammas, wildness)
def test_a_leftover_at_its_target_does_not_skew(kernel: Kernel, gamma: float, w: float):
    fair = best(kernel, replace(AMPLE, stock=None))
    case = replace(
        AMPLE, risk_aversion=gamma, value_volatility=w, target_leftover=leftover(AMPLE, fair)
    )
    assert best(kernel, case) == pytest.approx(fair, rel=1e-8)
    more = replace(case, target_leftover=0.9 * case.target_leftover)
    less = replace(case, target_leftover=1.1 * case.target_leftover)
    assert best(kernel, more) < fair < best(kernel, less)


@given(wildness)
def test_more_risk_aversion_skews_more(kernel: Kernel, w: float):
    cases = [
        replace(AMPLE, risk_aversion=gamma, value_volatility=w)
        for gamma in (0.0, 0.02, 0.1, 0.3, 0.5)
    ]
    prices = [best(kernel, case) for case in cases]
    assert prices == sorted(prices, reverse=True)
    assert len(set(prices)) == len(prices)


@given(gammas, wildness, st.floats(1.0, 14.0), st.floats(0.5, 3.0))
def test_the_price_is_a_mark_up_on_the_reservation_cost(
    kernel: Kernel, gamma: float, w: float, horizon: float, target: float
):
    """Of one unit, as Avellaneda and Stoikov's r = s - q gamma sigma^2 (T - t), with the inventory
    counted from its target and in targets: C - gamma w^2 T C (L - L*) / L*."""
    case = replace(
        AMPLE, horizon_days=horizon, demand_per_day=70.0 / horizon, risk_aversion=gamma,
        value_volatility=w, target_leftover=140.0 * target,
    )  # fmt: skip
    price = best(kernel, case)
    off = (leftover(case, price) - case.target_leftover) / case.target_leftover
    reservation = 0.5 * (1.0 - gamma * w * w * horizon * off)
    assert price == pytest.approx(2.0 * reservation, rel=1e-8)


# -- the view in a decision


def view(decision: PriceDecided) -> MarketMakerView:
    assert decision.record is not None
    assert decision.record.market_maker is not None
    return decision.record.market_maker


def test_a_decision_tells_its_quote(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at(), list_price_minor=None)
    decision = shop.send("inventory_changed", at(hours=1), on_hand=3).decision
    record, found = decision.record, view(decision)
    assert record is not None
    assert decision.greeks is not None
    assert decision.acceptable is not None
    assert decision.wanted_minor is not None
    assert found.fair_minor == record.steps[0].price_minor
    assert found.reservation_minor == record.steps[1].price_minor
    assert found.skew_minor == found.reservation_minor - found.fair_minor == record.stock.skew_minor
    stock = record.stock
    assert found.leftover_over_target_units == pytest.approx(
        3.0 - stock.expected_sales_units - stock.target_leftover_units
    )
    # From the half spread a change gains 0.05 % of the objective, the default cost of a change.
    cost = 0.0005 * record.objective_per_day_minor * stock.horizon_days
    expected = math.sqrt(2.0 * cost / -decision.greeks.gamma)
    assert found.half_spread_minor == pytest.approx(expected, rel=1e-9)
    low, high = decision.acceptable.low_minor, decision.acceptable.high_minor
    assert decision.wanted_minor - found.half_spread_minor <= low <= decision.wanted_minor
    assert decision.wanted_minor <= high <= decision.wanted_minor + found.half_spread_minor


def test_unlimited_stock_has_no_leftover(kernel: Kernel) -> None:
    found = view(Partition(kernel).send("product_listed", at()).decision)
    assert found.leftover_over_target_units is None


# -- toxicity


MOVE = PriceMove(10 * DAY_MS + 7, 1_000)


def likely(day: int, orders: int, came: float, comes_back: float) -> ReturnCohort:
    """A cohort of single units, and (as its rival's sum) how likely the rest comes back."""
    found = new_cohort("A", f"s{day}", day * DAY_MS)
    for number in range(orders):
        sell_unit(found, str(number), 1, 0.0, day * DAY_MS)
    found.returned[0], found.ln_rival_sum = came, comes_back
    return found


def toxicity_of(cohorts: list[ReturnCohort], move: PriceMove) -> Toxicity:
    columns = OpenCohorts((f"{one.day}/{one.segment}", one) for one in cohorts).of_products(["A"])
    found = sides(columns, [move], columns.ln_rival_sum)
    return toxicity(*(float(column.sum()) for column in found))


def test_toxicity_is_the_share_of_likely_returns_on_either_side_of_the_move():
    days = [
        likely(5, 30, 3.0, 0.0),  # old: what came has come
        likely(9, 10, 1.0, 0.1),
        likely(10, 500, 500.0, 0.0),  # the day of the move counts in neither
        likely(11, 20, 8.0, 0.25),
        likely(12, 20, 0.0, 0.3),
    ]
    expected = Toxicity((8.0 + 12.0 * 0.25 + 20.0 * 0.3) / 40.0, 40, (3.0 + 1.0 + 0.9) / 40.0, 40)
    assert toxicity_of(days, MOVE) == expected
    assert toxicity_of(days[::-1], MOVE) == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], NONE_YET),
        ([likely(11, ORDERS_MIN - 1, 5.0, 0.1)], Toxicity(None, ORDERS_MIN - 1, None, 0)),
        ([likely(11, ORDERS_MIN, 0.0, 0.0)], Toxicity(0.0, ORDERS_MIN, None, 0)),
        ([likely(9, 40, 40.0, 0.0)], Toxicity(None, 0, 1.0, 40)),
        # Cancelled after part of it came back: never more than all.
        ([likely(11, 30, 32.0, 0.5)], Toxicity(1.0, 30, None, 0)),
    ],
)
def test_too_few_orders_tell_nothing(days: list[ReturnCohort], expected: Toxicity):
    assert toxicity_of(days, MOVE) == expected


def test_without_a_price_move_there_is_no_side():
    cohort = likely(9, 50, 5.0, 0.0)
    columns = OpenCohorts([("", cohort)]).of_products(["A"])
    owner = Owner(None, "shoes", 9 * DAY_MS, None)
    (found,) = mark(columns, [owner], ReturnRateModel().snapshot())
    assert (found.open_units, found.flow) == (50, NONE_YET)


def test_small_moves_add_up_to_one():
    assert last_move(None, 1000, 5) == PriceMove(5, 1000)
    shown, move = [1030, 1049, 1050, 1030, 1000, 997], PriceMove(0, 1000)
    moves = [move := last_move(move, price, time) for time, price in enumerate(shown, start=1)]
    first, up, down = PriceMove(0, 1000), PriceMove(3, 1050), PriceMove(6, 997)
    assert moves == [first, first, up, up, up, down]


def sell(shop: Partition, day: int, orders: int, back: int, segment: str) -> None:
    """Orders of one day, of which the first ones come back a day later."""
    for number in range(orders):
        shop.send(
            "order_placed", at(days=day, minutes=number), order_id=f"{day}-{number}",
            segment=segment, unit_price_minor=shop.state.published_minor,
        )  # fmt: skip
    for number in range(back):
        shop.send("order_returned", at(days=day + 1, hours=1), order_id=f"{day}-{number}")


LAZY = "[decision]\nchange_cost_profit_share = 0.5\nexploration_log = 0.0\n"
QUIET = "[breaker]\nfast_sales_ratio = 1000\n[guards]\nstep_ratio_max = 0.2\n"


def test_a_cut_that_draws_those_who_send_back_is_toxic(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy(QUIET))
    first = shop.send("product_listed", at()).decision
    assert view(first).toxicity_orders == view(first).toxicity_before_orders == 0
    sell(shop, 1, 40, 2, "all")
    shop.tick(at(days=3))
    cut = shop.send("cost_changed", at(days=3, hours=12), unit_cost_minor=300).decision
    shop.send("policy_published", at(days=3, hours=13), **policy(QUIET + LAZY))
    assert cut.price_minor is not None
    assert cut.price_minor < (cut.previous_minor or 0)
    sell(shop, 4, 40, 16, "bargain")
    shop.tick(at(days=6))
    decided = shop.send("cost_changed", at(days=6, hours=1), unit_cost_minor=299).decision
    found = view(decided)
    assert (found.toxicity_orders, found.toxicity_before_orders) == (40, 40)
    assert found.toxicity is not None
    assert found.toxicity_before is not None
    assert 16 / 40 < found.toxicity < 0.6
    assert 2 / 40 < found.toxicity_before < 0.25


def test_a_shop_that_shows_another_price_moves_it(kernel: Kernel) -> None:
    shop = Partition(kernel)
    price = shop.send("product_listed", at()).decision.price_minor
    assert price is not None
    move = shop.state.price_move
    assert move.price_minor == price
    shop.send("price_applied", at(hours=1), price_minor=price)  # ours, shown: no move
    assert shop.state.price_move == move
    shop.send("price_applied", at(hours=2), price_minor=price + 90)
    move = shop.state.price_move
    assert move.price_minor == price + 90
    shop.send("cost_changed", at(hours=3), unit_cost_minor=700)  # published, but not yet shown
    assert shop.state.price_move == move


# -- what is maximised


@pytest.mark.parametrize("goal", ["revenue", "units"])
def test_other_goals_fall_to_the_margin_floor_and_tell_the_true_profit(
    kernel: Kernel, goal: str
) -> None:
    # Ample stock and elastic demand: the lowest price that the policy's floor allows.
    shop = Partition(kernel)
    guards = "[guards]\nmargin_floor_ratio = 0.1\nstep_ratio_max = 0.5\n"
    shop.send("policy_published", at(), **policy(f'[objective]\nmaximise = "{goal}"\n{guards}'))
    shop.send("product_listed", at())
    for day in range(1, 14):
        for hour in range(3):
            shop.send("order_placed", at(days=day, hours=hour), order_id=f"{day}-{hour}")
        shop.tick(at(days=day, hours=22))
    record = shop.send("cost_changed", at(days=14), unit_cost_minor=520).decision.record
    assert record is not None
    assert record.steps[1].price_minor == 0.2 * 1000  # the end of the search, before any guard
    assert shop.state.published_minor == 578  # 520 / 0.9, rounded up
    units_per_day = record.stock.expected_sales_units / record.stock.horizon_days
    margin = (578 - 520) * (1.0 - record.returns.rate)
    margin -= record.returns.handling_cost_minor * record.returns.rate
    assert record.expected_profit_per_day_minor == pytest.approx(margin * units_per_day, rel=1e-9)
    assert record.objective_per_day_minor > 5.0 * record.expected_profit_per_day_minor
    assert record.breaker.state == "CLOSED"
