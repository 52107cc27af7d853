"""A price that lowers the 30-day low costs what announced reductions to come lose by it."""

import pytest

from models.fold.context import Request
from models.guards.prior_charge import charge_minor
from models.kernel.tile import Kernel
from models.pricing import exploration
from models.pricing.pose import Posed, pose
from tests.models.tapes import Partition, at, policy
from tests.models.test_promotions import promote


def posed(shop: Partition) -> Posed:
    now_ms = at(days=1)
    found = pose(shop.engine.state, Request("A", "epoch", 99, now_ms, now_ms))
    assert isinstance(found, Posed)
    return found


def listed(kernel: Kernel, share: float) -> Partition:
    shop = Partition(kernel)
    shop.send("policy_published", at(), **policy(f"[guards]\nprior_price_charge_share = {share}\n"))
    shop.send("product_listed", at())
    return shop


def units_per_day(one: Posed, price_minor: float) -> float:
    row = one.full
    return row.demand_per_day * (price_minor / one.reference_minor) ** row.elasticity


def test_a_reduction_to_come_is_charged_per_unit_and_one_out_of_reach_is_not(
    kernel: Kernel,
) -> None:
    shop = listed(kernel, 0.5)
    promote(shop, at(minutes=1), at(days=9), at(days=19), 0.2)
    promote(shop, at(minutes=2), at(days=60), at(days=70), 0.2)  # its window opens on day 30
    one, seen = posed(shop), shop.state.published_minor
    expected = units_per_day(one, 0.8 * seen) * 10 * 0.8 * (seen - 800)
    assert charge_minor(shop.engine.state, one, 800.0) == pytest.approx(expected, rel=1e-12)
    assert charge_minor(shop.engine.state, one, float(seen)) == 0.0


def test_where_none_is_known_a_share_of_the_next_days_is_charged(kernel: Kernel) -> None:
    for share in (0.0, 0.01):
        shop = listed(kernel, share)
        one, seen = posed(shop), shop.state.published_minor
        expected = share * units_per_day(one, 800.0) * 30 * (seen - 800)
        assert charge_minor(shop.engine.state, one, 800.0) == pytest.approx(expected, rel=1e-12)


def test_a_probe_pays_for_the_low_that_it_makes(kernel: Kernel) -> None:
    """Down from 845 it would cost a reduction to come more than it teaches; up it costs none."""
    shop = listed(kernel, 0.0)
    one, state = posed(shop), shop.engine.state
    assert exploration.pays(state, one, 845.0, 820.0)
    promote(shop, at(minutes=1), at(days=9), at(days=39), 0.1)
    assert exploration.pays(state, one, 845.0, 870.0)
    assert not exploration.pays(state, one, 845.0, 820.0)
