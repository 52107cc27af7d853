"""Realised P&L: what was expected of a day, and how the difference is split."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from models.kernel.objective import PADDING, Row
from models.kernel.tile import Kernel
from models.pnl.pnl_realised import Day, Quote, censored, expected, margin_minor

ROW: Row = PADDING._replace(
    unit_cost=0.5, demand_per_day=4.0, elasticity=-2.0, kept_share=0.8, return_cost=0.1,
    return_max=0.9, return_intercept=-2.0, return_log=0.5, level_variance=0.04,
    elasticity_variance=0.09, rival_omega=1.0, rival_price=1.05, rival_tau=0.03,
)  # fmt: skip
QUOTE = Quote(1100, 1000, ROW, units_per_order=2.0, visits_per_day=50.0, dispersion=0.1)


def test_margin_and_demand_are_the_kernel_s(kernel: Kernel) -> None:
    at = kernel.evaluate([ROW], [[1.1]])[0]
    found = expected(QUOTE, 1100, 50.0)
    assert margin_minor(QUOTE, 1100) == pytest.approx(1000 * at.margin, rel=1e-12)
    spread = 0.04 + 0.09 * math.log(1.1) ** 2
    assert found.orders == pytest.approx(at.mean_demand * math.exp(spread / 2) / 2, rel=1e-12)
    assert found.dispersion == pytest.approx(1.1 * math.exp(spread) - 1, rel=1e-12)
    assert expected(QUOTE, 1100, 25.0).orders == pytest.approx(found.orders / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("mean", "dispersion", "most"), [*product((0.3, 4.0), (0.0, 0.4), (0, 1, 6))]
)
def test_stock_censors_demand_as_sums_say(mean: float, dispersion: float, most: int) -> None:
    counts = np.arange(400)
    chance = (
        stats.poisson.pmf(counts, mean)
        if dispersion == 0.0
        else stats.nbinom.pmf(counts, 1 / dispersion, 1 / (1 + dispersion * mean))
    )
    sold = np.minimum(counts, most)
    first = float(chance @ sold)
    found = censored(mean, dispersion, most)
    assert found == pytest.approx((first, float(chance @ sold**2) - first**2), abs=1e-9)


def test_volume_size_and_price_add_up_to_the_difference() -> None:
    day = Day(None)
    day.expose(QUOTE, 1100, 50.0)
    day.order(QUOTE, 3, 1100)
    day.order(QUOTE, 1, 990)
    found = day.result()
    assert found is not None
    margin = margin_minor(QUOTE, 1100)
    assert found.orders == 2
    assert found.size_minor == pytest.approx(0.0, abs=1e-9)
    assert found.price_minor == pytest.approx(margin_minor(QUOTE, 990) - margin)
    assert found.volume_minor + found.size_minor + found.price_minor == pytest.approx(
        found.realised_minor - found.expected_minor
    )


@pytest.mark.parametrize(("orders", "drifts"), [(0, False), (4, False), (60, True)])
def test_only_what_lies_beyond_the_interval_is_drift(orders: int, drifts: bool) -> None:
    day = Day(None)
    day.expose(QUOTE, 1100, 50.0)
    for _ in range(orders):
        day.order(QUOTE, 2, 1100)
    found = day.result()
    assert found is not None
    assert found.residual is not None
    assert found.noise_minor + found.drift_minor == pytest.approx(found.volume_minor)
    assert (abs(found.residual) > 1.96) == drifts == (found.drift_minor != 0.0)


def test_a_cancelled_line_was_not_sold() -> None:
    day = Day(10)
    day.expose(QUOTE, 1100, 50.0)
    day.order(QUOTE, 3, 1100)
    day.cancel(QUOTE, 1, 1100, whole=False)
    day.cancel(QUOTE, 2, 1100, whole=True)
    found = day.result()
    assert found is not None
    assert (found.orders, found.realised_minor) == (0, pytest.approx(0.0, abs=1e-9))


def test_a_day_without_exposure_has_no_account() -> None:
    assert Day(5).result() is None


def test_an_empty_shelf_expects_nothing() -> None:
    day = Day(0)
    day.expose(QUOTE, 1100, 50.0)
    found = day.result()
    assert found is not None
    assert (found.expected_orders, found.orders_sd, found.residual) == (0.0, 0.0, None)


def test_what_was_sold_was_in_stock() -> None:
    day, known = Day(0), Day(2)
    for one in (day, known):
        one.expose(QUOTE, 1100, 50.0)
        one.order(QUOTE, 2, 1100)
    assert day.result() == known.result()


def test_a_day_that_sells_out_for_sure_says_nothing_of_demand() -> None:
    day = Day(2)
    day.expose(QUOTE, 1100, 500.0)
    found = day.result()
    assert found is not None
    assert (found.residual, found.drift_minor) == (None, 0.0)
    assert found.noise_minor == found.volume_minor
