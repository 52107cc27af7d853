"""Series for the report: sums by day, ledger, P&L explain, breakers, calibration, paths."""

import math
import pickle
from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from models.backtest.calibration import binned, demand_calibration, return_calibration
from models.backtest.columns import INPUTS, Decisions, Epochs, Outcomes, Products
from models.backtest.day_book import decided_ms, valid_days
from models.backtest.paths import path, product_series
from models.backtest.series import Series, SeriesCollector, move_of, series
from models.fold.engine import PartitionEngine
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from models.pnl import pnl
from models.pricing.ledger import charges
from schemas.backtest import BreakerMove, PricePoint
from schemas.events import DAY_MS
from schemas.outputs import PriceDecided
from tests.models.tapes import Seen, at, seen, simulated

DAYS = 18
END_MS = at(DAYS)


@pytest.fixture(scope="module")
def outputs(kernel: Kernel) -> Seen:
    engine = PartitionEngine.new(0, kernel)
    return seen(engine.apply(simulated(kernel, 3, DAYS)))


def collected(outputs: Seen, skus: set[str] | None = None) -> SeriesCollector:
    collector = SeriesCollector()
    for decision in outputs.decisions:
        if skus is None or decision.sku in skus:
            collector.decided(decision)
    for alert in outputs.alerts:
        if skus is None or alert.sku in skus:
            collector.alerted(alert)
    return collector.result()


@pytest.fixture(scope="module")
def found(outputs: Seen) -> Series:
    return series("own", [collected(outputs)], at(), END_MS)


def test_days_count_what_was_decided(outputs: Seen, found: Series) -> None:
    (days,) = found.days
    assert (days.policy, days.currency) == ("own", "EUR")
    by_day = Counter(one.decided_at[:10] for one in outputs.decisions)
    assert dict(zip(days.days, days.decisions, strict=True)) == {
        day: by_day[day] for day in days.days
    }
    assert sum(days.held) == sum(one.status == "held" for one in outputs.decisions) > 0
    moved = [one for one in outputs.decisions if one.status != "held" and one.previous_minor
             and one.previous_minor != one.price_minor]  # fmt: skip
    assert sum(days.price_changes) == len(moved) > 0
    assert days.days[-1] == "2026-01-23"  # the tape's last day, decisions or not


def test_levels_are_those_of_the_prices_in_force(outputs: Seen, found: Series) -> None:
    (days,) = found.days
    number = 12
    end_ms = (at() // DAY_MS + number + 1) * DAY_MS
    standing: dict[str, PriceDecided] = {}
    last: dict[str, int] = {}
    for one in outputs.decisions:
        if decided_ms(one) < end_ms:
            last[one.sku] = decided_ms(one)
            if one.status != "held" and one.record is not None:
                standing[one.sku] = one
    there = [one for sku, one in standing.items() if last[sku] >= end_ms - 15 * DAY_MS]
    profit = [one.record.expected_profit_per_day_minor for one in there]
    turnover = [one.price_minor * one.record.stock.expected_sales_units
                / one.record.stock.horizon_days for one in there]  # fmt: skip
    delta = [one.price_minor * one.greeks.delta / one.record.stock.horizon_days for one in there]
    gamma = [one.price_minor**2 * one.greeks.gamma / one.record.stock.horizon_days
             for one in there]  # fmt: skip
    vega = [one.record.inputs["demand_volatility"] * one.greeks.vega
            / one.record.stock.horizon_days for one in there]  # fmt: skip
    assert len(there) > 4
    place = days.days.index("2026-01-17")
    assert days.expected_profit_minor[place] == pytest.approx(math.fsum(profit), rel=1e-12)
    assert days.margin_ratio[place] == pytest.approx(sum(profit) / sum(turnover), rel=1e-12)
    assert days.delta_minor[place] == pytest.approx(math.fsum(delta), rel=1e-12)
    assert days.gamma_minor[place] == pytest.approx(math.fsum(gamma), rel=1e-12)
    assert days.vega_minor[place] == pytest.approx(math.fsum(vega), rel=1e-12)


def test_what_is_not_decided_any_more_leaves_the_sums(outputs: Seen) -> None:
    first = next(one for one in outputs.decisions if one.status == "published")
    collector = SeriesCollector()
    collector.decided(first)
    (days,) = series("own", [collector], 0, decided_ms(first) + 40 * DAY_MS).days
    assert valid_days(first) == 15.0
    assert [value is not None for value in days.expected_profit_minor] == [True] * 15
    assert days.decisions == (1,) + (0,) * 14


def test_the_ledger_weighs_with_time(outputs: Seen, found: Series) -> None:
    made = [one for one in outputs.decisions if one.record is not None]
    total: dict[str, float] = {}
    for sku in {one.sku for one in made}:
        own = [one for one in made if one.sku == sku]
        times = [*map(decided_ms, own), END_MS]
        for one, (begin_ms, end_ms) in zip(own, pairwise(times), strict=True):
            for charge in charges(one):
                cost = charge.cost_per_day_minor * min(
                    (end_ms - begin_ms) / DAY_MS, valid_days(one)
                )
                total[charge.rule] = total.get(charge.rule, 0.0) + cost
    told = {one.rule: one.cost_per_day_minor for one in found.ledger}
    assert told == pytest.approx({rule: cost / DAYS for rule, cost in total.items() if cost})
    costs = [one.cost_per_day_minor for one in found.ledger]
    assert costs == sorted(costs, reverse=True)
    assert any(one.rule.startswith("held: ") and one.products > 0 for one in found.ledger)


def test_the_explain_adds_up_to_what_pi_changed(outputs: Seen, found: Series) -> None:
    changes: dict[str, float] = {}
    before: dict[str, float] = {}
    for one in outputs.decisions:
        value = pnl.valuation_of(one)
        if value is not None:
            if one.sku in before:
                day = one.decided_at[:10]
                change = value.objective_minor - before[one.sku]
                changes[day] = changes.get(day, 0.0) + change
            before[one.sku] = value.objective_minor
    told = {one.day: sum(one.terms.values()) + one.residual_minor for one in found.explained}
    assert told == pytest.approx(changes, rel=1e-9, abs=1e-6)
    assert {"level", "delta"} <= {name for one in found.explained for name in one.terms}


def test_breakers_move_by_scope(outputs: Seen, found: Series) -> None:
    told = [alert for alert in outputs.alerts if alert.kind == "breaker_changed"]
    assert len(found.breakers) == len(told) > 10
    assert {one.scope for one in found.breakers} == {"product", "family"}
    assert {one.state for one in found.breakers} == {"OPEN", "HALF_OPEN", "CLOSED"}
    by_hand = next(alert for alert in told if "from" in alert.evidence)
    assert move_of(by_hand) == BreakerMove(
        policy="", at=by_hand.at, scope="product", name=str(by_hand.sku), state="OPEN",
        reason=by_hand.message,
    )  # fmt: skip


def test_parts_join_to_the_same_whatever_their_cut(outputs: Seen, found: Series) -> None:
    skus = sorted({one.sku for one in outputs.decisions})
    parts = [collected(outputs, set(skus[:3])), collected(outputs, {*skus[3:], None})]
    again = [pickle.loads(pickle.dumps(part)) for part in parts]
    joined = series("own", again, at(), END_MS)
    one, other = (msgspec.to_builtins(each.days[0]) for each in (found, joined))
    words = ("policy", "currency", "days")
    assert [other[name] for name in words] == [one[name] for name in words]
    for name in one.keys() - words:
        assert other[name] == pytest.approx(one[name], rel=1e-12)
    assert joined.breakers == found.breakers
    assert [line.rule for line in joined.ledger] == [line.rule for line in found.ledger]
    assert joined.explained[3].terms == pytest.approx(found.explained[3].terms, rel=1e-9)


def test_bins_hold_like_forecasts_and_their_interval() -> None:
    forecast = np.array([1.0, 8.0, 8.0, 1.0, 8.0, 1.0, 1.0, 8.0, 1.0, 8.0])
    observed = np.array([0.0, 2.0, 4.0, 1.0, 1.0, 2.0, 1.0, 3.0, 1.0, 2.0])
    low, high = binned(forecast, observed, np.ones(10))
    half = 1.6448536269514722 * math.sqrt(5.0) / 5.0  # Poisson's: the residuals spread less
    assert msgspec.to_builtins(low) == pytest.approx({
        "forecast": 1.0, "observed": 1.0, "observed_low": 1.0 - half, "observed_high": 1.0 + half,
        "weight": 5.0,
    })  # fmt: skip
    half = 1.6448536269514722 * math.sqrt(12.0) / 5.0
    assert (high.forecast, high.observed) == (8.0, 2.4)
    assert high.observed_high == pytest.approx(2.4 + half)
    assert high.observed_low == pytest.approx(2.4 - half)
    nothing = binned(forecast, np.zeros(10), np.ones(10))
    assert [one.observed_high for one in nothing] == pytest.approx([1.6448536269514722 / 5.0] * 2)
    assert binned(forecast[:4], observed[:4], np.ones(4)) == ()


def test_demand_that_was_well_forecast_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(5)
    mean = rng.gamma(0.7, 3.0, 4_000)
    found = demand_calibration(epochs(mean, rng.poisson(mean).astype(float)))
    off = demand_calibration(epochs(mean, rng.poisson(2.0 * mean).astype(float)))
    assert found.name == "demand"
    held = [one.observed_low <= one.forecast <= one.observed_high for one in found.bins]
    assert sum(held) >= 0.8 * len(held) >= 8
    assert all(one.observed_low > one.forecast for one in off.bins if one.forecast > 0.1)
    assert sum(one.weight for one in found.bins) == 4_000.0


def test_returns_are_forecast_by_the_last_decision_before_the_day() -> None:
    rng = np.random.default_rng(5)
    days, products = 60, 30
    product = np.repeat(np.arange(products), days)
    day = np.tile(np.arange(100, 100 + days), products)
    units = rng.poisson(20.0, len(product)).astype(float)
    rate = 0.05 + 0.3 / (1.0 + np.exp(-(product - 15.0) / 5.0))
    decided = decisions(np.repeat(np.arange(products), 2), np.tile([100, 200], products) * DAY_MS)
    outcomes = Outcomes(
        product=product, day=day, orders=units, units=units, revenue_minor=units * 1_000.0,
        returned_units=rng.binomial(units.astype(int), rate).astype(float),
        refund_minor=units, unit_cost_minor=units, kept_share=units, handling_minor=units,
    )  # fmt: skip
    inputs = decided.inputs
    inputs[:, INPUTS.index("return_min")] = 0.05
    inputs[:, INPUTS.index("return_max")] = 0.35
    inputs[::2, INPUTS.index("return_intercept")] = (np.arange(products) - 15.0) / 5.0
    inputs[1::2, INPUTS.index("return_intercept")] = 9.0  # decided too late to be the forecast
    found = return_calibration(decided, outcomes)
    assert len(found.bins) >= 10
    assert sum(one.observed_low <= one.forecast <= one.observed_high for one in found.bins) >= 8
    ripe = day <= 100 + days - 1 - 30
    assert sum(one.weight for one in found.bins) == pytest.approx(units[ripe].sum())
    none = return_calibration(decided._replace(inputs=np.full_like(inputs, np.nan)), outcomes)
    assert none.bins == ()


def test_a_path_tells_changes_alone() -> None:
    times = np.array([1, 2, 3, 4, 5, 6]) * DAY_MS
    minor = np.array([np.nan, 500.0, 500.0, 450.0, np.nan, 450.0])
    assert path(times, minor) == (
        PricePoint(at="1970-01-03T00:00:00.000Z", minor=500.0),
        PricePoint(at="1970-01-05T00:00:00.000Z", minor=450.0),
        PricePoint(at="1970-01-06T00:00:00.000Z", minor=None),
        PricePoint(at="1970-01-07T00:00:00.000Z", minor=450.0),
    )


def test_products_with_most_at_stake_come_first() -> None:
    products = Products(["A", "B", "C"], ["A", "B", "C"], ["x", "y", "z"], ["EUR"] * 3)
    decided = decisions(np.array([0, 0, 2]), np.array([1, 2, 1]) * DAY_MS)
    decided.inputs[:, INPUTS.index("unit_cost")] = [0.5, 0.6, 0.25]
    other = decided._replace(price_minor=decided.price_minor + 50.0)
    seen = epochs(np.ones(3), np.ones(3))._replace(product=np.array([0, 0, 2]))
    found = product_series(
        products, {"own": decided, "other": other}, seen, "own", {"A": 10.0, "B": 99.0, "C": -30.0}
    )
    assert [one.sku for one in found] == ["C", "A"]  # nothing was ever decided of B
    assert found[0].at_stake_minor == -30.0
    assert {name: [p.minor for p in points] for name, points in found[1].prices.items()} == {
        "own": [1_000.0], "other": [1_050.0],
    }  # fmt: skip
    assert [point.minor for point in found[1].unit_cost] == [500.0, 600.0]
    assert [point.minor for point in found[1].shown] == [1_000.0]
    assert [point.minor for point in found[1].rival] == [1_105.17]
    assert found[1].elasticity == (("1970-01-02", -2.0, 0.5), ("1970-01-03", -2.0, 0.5))


def decisions(product: np.ndarray, at_ms: np.ndarray) -> Decisions:
    rows = len(product)
    value = np.full(rows, 1_000.0)
    yes = np.ones(rows, dtype=bool)
    return Decisions(
        product=product, at_ms=at_ms, partition=product, offset=at_ms, price_minor=value,
        wanted_minor=value, plain_minor=value, effective=yes, probe=~yes,
        up_minor=value, down_minor=value, up_probability=0.0 * value, drew_up=~yes,
        exogenous_log=0.0 * value, reference_minor=value, profit_per_day_minor=value,
        inputs=np.tile(np.array(PADDING), (rows, 1)),
    )  # fmt: skip


def epochs(mean: np.ndarray, orders: np.ndarray) -> Epochs:
    rows = len(mean)
    at_ms = np.arange(rows, dtype=np.int64) * DAY_MS
    one = np.ones(rows)
    return Epochs(
        product=np.zeros(rows, dtype=np.int64), begin_ms=at_ms, end_ms=at_ms + DAY_MS,
        price_minor=1_000.0 * one, reference_minor=1_000.0 * one, orders=orders, units=orders,
        exposure_days=one, ln_rival=0.1 * one, control=0.0 * one, offset=0.0 * one,
        mean_orders=mean, posterior_mean=np.tile([0.0, -2.0, 0.0, 0.0], (rows, 1)),
        posterior_cov=np.tile(0.25 * np.eye(4), (rows, 1, 1)),
    )  # fmt: skip
