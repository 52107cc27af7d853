"""Model-based profit: histories of one's own making, whose right answer is known."""

import math

import numpy as np
import pytest

from models.backtest import demand_ratio, hindsight, return_fit
from models.backtest.columns import INPUTS, Decisions, Epochs, Outcomes, Products
from models.backtest.pieces import cut
from models.backtest.policy_value import DRAWS, MISFIT, compare
from models.kernel.objective import PADDING
from schemas.events import DAY_MS

REFERENCE = 1000.0
COST, KEPT, HANDLING = 400.0, 0.8, 50.0
DAYS = 100


def shop(
    elasticity: list[float], *, seed: int = 3, moves: float = 0.15, per_day: float = 20.0
) -> tuple[Products, Epochs, Outcomes]:
    """Products of known constant elasticity, at prices that chance moved every five days."""
    rng = np.random.default_rng(seed)
    n = len(elasticity)
    product = np.repeat(np.arange(n), DAYS)
    day = np.tile(np.arange(DAYS), n)
    x = rng.normal(0.0, moves, (n, DAYS // 5)).repeat(5, axis=1).reshape(-1)
    price = np.rint(REFERENCE * np.exp(x))
    x = np.log(price / REFERENCE)
    orders = rng.poisson(per_day * np.exp(np.array(elasticity)[product] * x)).astype(float)
    rows = len(product)
    epochs = Epochs(
        product=product,
        begin_ms=day * DAY_MS,
        end_ms=(day + 1) * DAY_MS,
        price_minor=price,
        reference_minor=np.full(rows, REFERENCE),
        orders=orders,
        units=orders,
        exposure_days=np.ones(rows),
        ln_rival=np.full(rows, np.nan),
        control=np.zeros(rows),
        offset=np.zeros(rows),
        mean_orders=per_day * np.exp(np.array(elasticity)[product] * x),
        posterior_mean=np.zeros((rows, 4)),
        posterior_cov=np.zeros((rows, 4, 4)),
    )
    outcomes = Outcomes(
        product=product,
        day=day,
        orders=orders,
        units=orders,
        revenue_minor=orders * price,
        returned_units=np.rint(0.1 * orders),
        refund_minor=np.zeros(rows),
        unit_cost_minor=np.full(rows, COST),
        kept_share=np.full(rows, KEPT),
        handling_minor=np.full(rows, HANDLING),
    )
    skus = [f"s{i}" for i in range(n)]
    return Products(skus, skus, ["c"] * n, ["EUR"] * n), epochs, outcomes


def path(product: list[int], at_day: list[float], price: list[float], **row: float) -> Decisions:
    """Decisions of which nothing counts but place, price and the kernel's row."""
    n = len(product)
    inputs = np.tile(np.array(PADDING._replace(**row)), (n, 1))
    zeros, never = np.zeros(n), np.zeros(n, np.bool_)
    known = {
        "product": np.array(product, np.int64),
        "at_ms": (np.array(at_day) * DAY_MS).astype(np.int64),
        "partition": np.zeros(n, np.int64),
        "offset": np.arange(n),
        "price_minor": np.array(price, float),
        "wanted_minor": np.array(price, float),
        "plain_minor": np.array(price, float),
        "effective": ~never,
        "probe": never,
        "drew_up": never,
        "reference_minor": np.full(n, REFERENCE),
        "inputs": inputs.reshape(n, len(INPUTS)),
    }
    return Decisions(**{name: known.get(name, zeros) for name in Decisions._fields})


NOBODY = path([], [], [])
WHOLE = {"from_ms": 0, "to_ms": DAYS * DAY_MS}


def profit(price: float, rate: float) -> float:
    return (KEPT * price - COST) * (1.0 - rate) - HANDLING * rate


def test_a_policy_that_shows_what_was_shown_earns_nothing_more() -> None:
    products, epochs, outcomes = shop([-2.0, -3.0])
    (value,) = compare(products, NOBODY, NOBODY, epochs, outcomes, **WHOLE, seed=1)
    found = value.difference
    assert (found.mean_minor, found.sd_minor, found.low_minor, found.high_minor) == (0, 0, 0, 0)
    rate = np.sum(outcomes.returned_units) / np.sum(outcomes.units)
    realised = float(np.sum(epochs.units * profit(epochs.price_minor, rate)))
    assert value.baseline.mean_minor == pytest.approx(realised, rel=0.02)
    assert value.calibration == pytest.approx(1.0, abs=0.03)


def test_the_interval_holds_the_difference_that_the_true_elasticity_gives() -> None:
    truth = [-2.0, -2.4, -3.0, -2.6]
    products, epochs, outcomes = shop(truth)
    higher = path([0, 1, 2, 3], [50] * 4, [1100.0] * 4)
    (value,) = compare(products, NOBODY, higher, epochs, outcomes, **WHOLE, seed=1)
    late = epochs.begin_ms >= 50 * DAY_MS
    ratio = (1100.0 / epochs.price_minor) ** np.array(truth)[epochs.product]
    rate = np.sum(outcomes.returned_units) / np.sum(outcomes.units)
    gained = ratio * profit(1100.0, rate) - profit(epochs.price_minor, rate)
    true = float(np.sum((20.0 * (epochs.price_minor / REFERENCE)
                         ** np.array(truth)[epochs.product] * gained)[late]))  # fmt: skip
    assert value.difference.low_minor < true < value.difference.high_minor
    assert value.difference.sd_minor < 0.02 * value.baseline.mean_minor
    assert value.parameter_sd_minor == pytest.approx(value.difference.sd_minor)
    assert value.realised_low_minor < value.difference.low_minor
    assert [kind.products for kind in value.categories] == [4]


def test_draws_and_the_delta_method_agree_where_little_is_unknown() -> None:
    """For a small move the sd is that of the gradient by the coefficients' covariance."""
    products, epochs, outcomes = shop([-2.0, -3.0], per_day=400.0)
    slightly = path([0, 1], [0, 0], [1020.0, 1020.0])
    (value,) = compare(products, NOBODY, slightly, epochs, outcomes, **WHOLE, seed=1)
    rng = np.random.default_rng(5)
    belief = hindsight.draw(hindsight.evidence(epochs, 2), np.zeros(2, np.int64), 4000, rng)
    cov, mean = np.cov(belief.elasticity.T), belief.elasticity.mean(axis=0)
    rate = np.sum(outcomes.returned_units) / np.sum(outcomes.units)
    move = np.log(1020.0 / epochs.price_minor)
    earned = epochs.units * np.exp(mean[epochs.product] * move) * profit(1020.0, rate)
    gradient = np.bincount(epochs.product, earned * move)
    single = earned / np.maximum(epochs.units, 1) - profit(epochs.price_minor, rate)
    variance = gradient @ cov @ gradient + np.sum(epochs.units * single**2)
    assert value.difference.sd_minor == pytest.approx(MISFIT * math.sqrt(variance), rel=0.1)


def test_what_is_common_to_products_does_not_average_out() -> None:
    """Prices that never moved tell nothing: forty products are hardly surer than ten."""
    relative = []
    for n in (10, 40):
        products, epochs, outcomes = shop([-2.0] * n, moves=0.0)
        higher = path(list(range(n)), [0] * n, [1100.0] * n)
        (value,) = compare(products, NOBODY, higher, epochs, outcomes, **WHOLE, seed=1)
        relative.append(value.difference.sd_minor / value.baseline.mean_minor)
    assert 0.75 < relative[1] / relative[0] < 1.2  # independent errors would give 0.5


def test_prices_far_outside_those_charged_are_less_known(monkeypatch: pytest.MonkeyPatch) -> None:
    products, epochs, outcomes = shop([-2.0] * 4, moves=0.05)
    doubled = path([0, 1, 2, 3], [0] * 4, [2000.0] * 4)
    (value,) = compare(products, NOBODY, doubled, epochs, outcomes, **WHOLE, seed=1)
    monkeypatch.setattr(demand_ratio, "CURVE_SD", 0.0)
    (straight,) = compare(products, NOBODY, doubled, epochs, outcomes, **WHOLE, seed=1)
    assert value.difference.sd_minor > 1.1 * straight.difference.sd_minor


def test_the_seed_decides_the_figures_and_row_order_of_products_is_kept() -> None:
    products, epochs, outcomes = shop([-2.0, -3.0])
    higher = path([0, 1], [0, 0], [1100.0, 1200.0])
    once, again, other = (
        compare(products, NOBODY, higher, epochs, outcomes, **WHOLE, seed=seed)
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_products_without_a_cost_are_left_out_and_counted() -> None:
    products, epochs, outcomes = shop([-2.0, -3.0])
    cost = np.where(outcomes.product == 1, np.nan, outcomes.unit_cost_minor)
    (value,) = compare(
        products, NOBODY, NOBODY, epochs, outcomes._replace(unit_cost_minor=cost), **WHOLE, seed=1
    )
    assert [kind.products for kind in value.categories] == [1]
    assert "1 products without a known cost are left out." in value.notes


def test_pieces_end_where_a_price_or_the_range_does() -> None:
    _, epochs, outcomes = shop([-2.0])
    policy = path([0, 0, 0], [1.25, 1.25, 3.5], [1100.0, 1200.0, 900.0])
    pieces = cut(epochs, NOBODY, policy, outcomes, round(0.5 * DAY_MS), 4 * DAY_MS)
    begin = (pieces.begin_ms / DAY_MS).tolist()
    assert begin == [0.5, 1.0, 1.25, 2.0, 3.0, 3.5]
    assert pieces.share.tolist() == [0.5, 0.25, 0.75, 1.0, 0.5, 0.5]
    shown = epochs.price_minor[:2].tolist()
    assert pieces.candidate_minor.tolist() == [*shown, 1200.0, 1200.0, 1200.0, 900.0]
    assert pieces.baseline_minor.tolist() == epochs.price_minor[[0, 1, 1, 2, 3, 3]].tolist()
    assert pieces.unit_cost_minor.tolist() == [COST] * 6


def test_stock_that_is_not_ordered_again_caps_what_a_lower_price_sells() -> None:
    products, epochs, outcomes = shop([-2.0])
    found = []
    for stock in (30.0, 1e6):
        row = {"unlimited": 0.0, "stock": stock, "horizon_days": 2.0, "demand_per_day": 20.0}
        lower = path([0], [0], [900.0], elasticity=-2.0, demand_volatility=0.1, **row)
        (value,) = compare(products, NOBODY, lower, epochs, outcomes, **WHOLE, seed=1)
        found.append(value.candidate.mean_minor)
    assert found[0] < 0.93 * found[1]


def test_stock_that_is_ordered_again_is_sold_out_for_longer_when_sales_are_faster() -> None:
    found = demand_ratio.Circumstances(
        *(np.array([value]) for value in (-0.1, np.nan, 0.0, 0.0, 0.2, np.nan, np.nan, np.nan))
    )
    draws = demand_ratio.Draw(
        np.array([[-3.0]]), np.zeros((1, 1)), np.zeros((1, 1)), np.ones(1), np.zeros(1),
        np.array([1.5]),
    )  # fmt: skip
    rho = math.exp(0.3)
    expected = 1.0 / (0.8 / rho + 0.2 * math.exp(1.5 * (1.0 - 1.0 / rho)))
    ratio = demand_ratio.sales_ratio(found, np.zeros(1, np.int64), draws)
    assert ratio.tolist() == [[pytest.approx(expected, rel=1e-12)]]


def test_evidence_is_that_of_a_poisson_regression() -> None:
    """With many orders the filter's information is the sum of mu x x', the level taken out."""
    _, epochs, _ = shop([-2.0], per_day=200.0)
    settings = hindsight.DEFAULT_SETTINGS._replace(
        dispersion=1e-9, level_walk_per_day=0.0, missing_rival_sd=0.0
    )
    found = hindsight.evidence(epochs, 1, settings)
    x = np.log(epochs.price_minor / REFERENCE)
    weight = 200.0 * np.exp(-2.0 * x)
    centred = x - np.sum(weight * x) / np.sum(weight)
    assert found.information[0, 0, 0] == pytest.approx(np.sum(weight * centred**2), rel=0.05)
    assert found.score[0, 0] / found.information[0, 0, 0] == pytest.approx(-2.0, abs=0.1)
    assert found.information[0, 1].tolist() == [0.0, 0.0, 0.0]  # no rival was ever known


def test_return_draws_find_level_and_slope() -> None:
    rng = np.random.default_rng(2)
    _, epochs, outcomes = shop([-1.0] * 5, per_day=200.0)
    x = np.log(epochs.price_minor / REFERENCE)
    rate = 1.0 / (1.0 + np.exp(2.0 - 1.5 * x))
    back = rng.binomial(outcomes.units.astype(np.int64), rate).astype(float)
    draws = return_fit.draw_returns(
        outcomes._replace(returned_units=back), np.full(5, REFERENCE), DRAWS, rng
    )
    assert draws.level.mean() == pytest.approx(-2.0, abs=0.05)
    common = draws.slope.mean(axis=1)
    assert common.mean() == pytest.approx(1.5, abs=0.2)
    assert 0.2 < common.std() < 0.35  # own slopes of sd 0.5, five of them, and what is not known
