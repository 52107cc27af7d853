"""The world in arrays: repeatable, true to its equation; an effect is there only if asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.simulator.world import (
    LN_PRICE_MAX,
    LN_PRICE_MIN,
    Day,
    World,
    WorldSettings,
    _poisson,
    kink,
)
from models.simulator.world_truth import NEVER
from schemas.errors import ConfigError

SMALL = WorldSettings(products=120, categories=6, unseen_categories=1, orders_per_day_median=4.0)
CALENDAR = {f"2025-{month:02d}-{day:02d}": ["pay_day"] for month in range(1, 7) for day in (1, 15)}
DAYS = 120


def same(one: list[Day], two: list[Day]) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, two, strict=True)
        for name in Day._fields
    )


def test_the_same_seed_gives_the_same_days() -> None:
    settings = replace(
        SMALL, cover_days=5.0, visits_per_order=20.0, searches_per_order=2.0, family_size=3,
        successor_share=0.1, new_customer_share=0.4, overdispersion=0.1,
    )  # fmt: skip
    one = World(3, settings).history(40)
    assert same(one, World(3, settings).history(40))
    assert not same(one, World(4, settings).history(40))


def test_effects_that_are_off_change_no_draw_of_the_others() -> None:
    """What a setting adds is drawn apart: the world without it is the same world."""
    plain = World(3, SMALL).history(20)
    watched = World(3, replace(SMALL, visits_per_order=20.0, searches_per_order=2.0)).history(20)
    for a, b in zip(plain, watched, strict=True):
        assert np.array_equal(a.orders, b.orders)
        assert np.array_equal(a.returned, b.returned)


def test_a_higher_price_never_sells_more_to_the_same_customers() -> None:
    cheap, dear = World(5, SMALL), World(5, SMALL)
    for _ in range(60):
        x, exogenous = cheap.habit()
        few, many = dear.step(x + 0.1, exogenous), cheap.step(x, exogenous)
        assert np.all(few.orders <= many.orders)
        assert few.orders.sum() < many.orders.sum()


def test_orders_are_what_the_truth_says_in_total() -> None:
    """The law of total orders: their sum is the sum of the rates, within Poisson noise."""
    for seed in (1, 2, 3):
        days = World(seed, SMALL).history(DAYS)
        expected = sum(day.rate.sum() for day in days)
        assert abs(sum(day.orders.sum() for day in days) - expected) < 4.0 * np.sqrt(expected)


def test_demand_is_drawn_by_the_inverse_of_the_poisson_distribution() -> None:
    rng = np.random.default_rng(5)
    rate = np.concatenate([np.exp(rng.uniform(-6.0, 5.0, 20_000)), [0.0, 40.0, 40.0, 1e-9]])
    uniform = np.concatenate([rng.random(20_000), [0.5, 1.0 - 1e-12, 0.0, 1.0 - 1e-12]])
    expected = np.maximum(stats.poisson.ppf(uniform, rate), 0.0)
    assert np.array_equal(_poisson(uniform, rate), expected.astype(int))
    highest = np.full(3, 1.0 - 2.0**-53)  # of a generator's numbers
    assert np.all(_poisson(highest, np.array([0.5, 5.0, 40.0])) <= [20, 45, 115])
    more = _poisson(uniform, rate * 1.01)
    assert np.all(more >= _poisson(uniform, rate))


def fitted(days: list[Day], without: list[Day], covariates: list[Any]) -> tuple[float, float]:
    """Poisson estimate and its standard error of an effect on ln demand, the rest known."""
    orders = np.concatenate([day.orders for day in days])
    rate = np.concatenate([day.rate for day in without])
    z = np.concatenate([np.broadcast_to(column, days[0].orders.shape) for column in covariates])
    effect = 0.0
    for _ in range(30):
        mean = rate * np.exp(effect * z)
        information = np.sum(mean * z**2)
        effect += float(np.sum((orders - mean) * z) / information)
    return effect, float(1.0 / np.sqrt(information))


def _gap_to_memory(days: list[Day], world: World) -> list[Any]:
    memory, found = np.zeros(len(days[0].orders)), []
    for day in days:
        found.append(day.ln_price - memory)
        memory = memory + (day.ln_price - memory) / world.settings.memory_days
    return found


def _searched_before(days: list[Day], world: World) -> list[Any]:
    """What searches told ``search_lead_days`` ago, as interest in sds (at very many searches)."""
    lead, settings = world.settings.search_lead_days, world.settings
    found: list[Any] = [0.0] * lead
    for day in days[:-lead]:
        usual = np.exp(world.products.level) * settings.searches_per_order
        assert day.searches is not None
        found.append(np.log(day.searches / usual) / settings.search_sd)
    return found


def _anchor_s_price(days: list[Day], world: World) -> list[Any]:
    addition = world.products.slot > 0
    size = np.abs(world.products.cross[:, 0])
    anchor = world.products.members[:, 0]
    return [np.where(addition, -size * day.ln_price[anchor], 0.0) for day in days]


def _pay_day(days: list[Day], world: World) -> list[Any]:
    first = np.datetime64(world.settings.start_date)
    return [1.0 * (str(first + day.day) in CALENDAR) for day in days]


def _wave(days: list[Day], world: World) -> list[Any]:
    phase = world.demand._phase
    return [np.sqrt(2.0) * np.sin(2.0 * np.pi * d.day / 365.25 + phase) for d in days]


EFFECTS: list[tuple[str, dict[str, Any], dict[str, Any], Callable[[list[Day], World], list[Any]],
                    Callable[[World], float]]] = [
    ("dearer", {"dearer_penalty": 1.5}, {}, lambda days, _: [kink(d.ln_price - d.ln_rival)
     for d in days], lambda _: -1.5),
    ("memory", {"memory_effect": 0.8}, {}, _gap_to_memory, lambda _: 0.8),
    ("break", {"break_day": 40, "break_elasticity": -0.6},
     {"elasticity_min": -9.0},
     lambda days, _: [d.ln_price * (d.day >= 40) for d in days], lambda _: -0.6),
    ("level", {"break_day": 40, "break_level": 0.3}, {},
     lambda days, _: [1.0 * (d.day >= 40) for d in days], lambda _: 0.3),
    ("search", {"search_effect": 0.2}, {"searches_per_order": 1e5, "search_sd": 0.2},
     _searched_before, lambda _: 0.2),
    ("season", {"season_sd": 0.2}, {}, _wave, lambda _: 0.2),
    ("calendar", {"calendar_sd": 0.3}, {"calendar": CALENDAR}, _pay_day,
     lambda world: world.demand._kinds["pay_day"]),
    ("anchor", {"anchor_effect": 0.5}, {"family_size": 4}, _anchor_s_price, lambda _: 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "on", "always", "covariates", "truth"), EFFECTS)
def test_an_effect_is_in_the_data_only_where_it_is_on(
    name: str,
    on: dict[str, Any],
    always: dict[str, Any],
    covariates: Callable[[list[Day], World], list[Any]],
    truth: Callable[[World], float],
) -> None:
    without, with_it = (World(7, replace(SMALL, **always, **more)) for more in ({}, on))
    days_without, days_with = without.history(DAYS), with_it.history(DAYS)
    # where the effect is off, the covariate is still what it would be
    column_with = covariates(days_with, with_it)
    column_without = column_with if name == "anchor" else covariates(days_without, without)
    found, error = fitted(days_without, days_without, column_without)
    assert abs(found) < 3.5 * error
    found, error = fitted(days_with, days_without, column_with)
    expected = truth(with_it)
    assert abs(found - expected) < 3.5 * error
    assert error < abs(expected) / 4.0  # the data would have told


def test_channels_react_as_far_as_their_share() -> None:
    settings = replace(SMALL, channel_shares=(0.7, 0.3), channel_elasticity=(0.0, 2.0))
    world = World(2, settings)
    x = np.full(settings.products, 0.2)
    expected = np.log(0.7 + 0.3 * np.exp(2.0 * 0.2))
    np.testing.assert_allclose(world.demand.channels(x), expected, rtol=1e-12)
    without = World(2, SMALL).steady_log_rate(x)
    np.testing.assert_allclose(world.steady_log_rate(x) - without, expected, rtol=1e-9)
    with pytest.raises(ConfigError) as caught:
        replace(SMALL, channel_shares=(0.7, 0.3))
    assert caught.value.field == "channel_elasticity"


def test_stock_is_never_negative_and_balances() -> None:
    world = World(6, replace(SMALL, cover_days=4.0, lead_days=5))
    before, sold_out = world.stock.copy(), 0
    for _ in range(90):
        inbound, due = world.inbound
        came = np.where(due == 0, inbound, 0)
        day = world.step(*world.habit())
        assert np.all(day.stock >= 0)
        assert np.array_equal(day.stock, before + came - day.orders)
        assert np.all((day.exposure_days >= 0.0) & (day.exposure_days <= 1.0))
        assert np.all((day.lost == 0) | (day.stock == 0))
        before = day.stock
        sold_out += int((day.lost > 0).sum())
    assert sold_out > 20


def test_traffic_shows_demand_but_not_prices() -> None:
    settings = replace(SMALL, visits_per_order=20.0, visits_shock_share=1.0, overdispersion=0.05)
    cheap, dear = World(8, settings), World(8, settings)
    visits, shocks = [], []
    for _ in range(60):
        x, exogenous = cheap.habit()
        a, b = cheap.step(x, exogenous), dear.step(x + 0.2, exogenous)
        assert a.visits is not None
        assert b.visits is not None
        assert np.array_equal(a.visits, b.visits)
        visits.append(np.log((a.visits + 1) / np.exp(cheap.products.level)))
        shocks.append(a.shock)
    assert np.corrcoef(np.ravel(visits), np.ravel(shocks))[0, 1] > 0.5
    assert World(8, SMALL).step(*World(8, SMALL).habit()).visits is None


def test_late_products_and_successors_are_sold_only_while_listed() -> None:
    settings = replace(SMALL, late_category_day=30, successor_share=0.2, successor_days=(10, 50))
    world = World(9, settings)
    products = world.products
    heirs = np.flatnonzero(products.predecessor >= 0)
    old = products.predecessor[heirs]
    assert len(heirs) > 10
    assert np.array_equal(products.listed_from[heirs], products.listed_until[old])
    assert np.array_equal(products.category[heirs], products.category[old])
    assert np.all(np.abs(products.elasticity[heirs] - products.elasticity[old]) < 0.7)
    late = products.category == settings.categories - 1
    assert set(products.listed_from[late].tolist()) == {30}
    assert set(products.listed_until[late].tolist()) == {NEVER}
    for day in world.history(60):
        listed = (products.listed_from <= day.day) & (day.day < products.listed_until)
        assert np.array_equal(day.listed, listed)
        assert not np.any(day.orders[~listed])
        assert np.array_equal(day.exposure_days, listed * 1.0)


def test_new_customers_and_the_season_move_returns() -> None:
    settings = replace(SMALL, new_customer_share=0.5, new_customer_logit=0.8, return_season_sd=0.3)
    world = World(4, settings)
    x = np.zeros(settings.products)
    plain, new = world.demand.return_rate(x), world.demand.return_rate(x, new_customer=True)
    odds = new / (1.0 - new) / (plain / (1.0 - plain))
    np.testing.assert_allclose(odds, np.exp(0.8), rtol=1e-9)
    days = world.history(200)
    shares = sum(d.orders_of_new_customers.sum() for d in days) / sum(d.orders.sum() for d in days)
    assert 0.48 < shares < 0.52
    later = world.demand.return_rate(x)
    assert np.max(np.abs(np.log(later / plain))) > 0.2
    off = World(4, SMALL)
    start = off.demand.return_rate(x)
    off.history(200)
    assert np.array_equal(off.demand.return_rate(x), start)


def test_a_family_s_best_prices_are_chosen_together() -> None:
    settings = replace(SMALL, family_size=4, anchor_effect=0.8, substitute_effect=0.5)
    world = World(11, settings)
    best = world.best_ln_price()
    alone = World(11, replace(settings, anchor_effect=0.0, substitute_effect=0.0)).best_ln_price()
    assert np.all((best >= LN_PRICE_MIN) & (best <= LN_PRICE_MAX))
    family = np.unique(world.products.family, return_inverse=True)[1]

    def profit(x: Any) -> Any:
        return np.bincount(family, world.steady_profit(x))

    assert profit(best).sum() > 1.005 * profit(alone).sum()
    for slot in range(4):
        for move in (-0.02, 0.02):
            x = np.where(world.products.slot == slot, best + move, best)
            x = np.clip(x, LN_PRICE_MIN, LN_PRICE_MAX)
            assert np.all(profit(x) <= profit(best) + 1e-3 * np.abs(profit(best)))


def test_cross_effects_have_the_signs_of_their_kinds() -> None:
    settings = replace(
        SMALL, family_size=5, anchor_effect=0.5, substitute_effect=0.4, complement_effect=0.3
    )
    products = World(1, settings).products
    addition = products.slot > 0
    others = products.cross[addition, 1:]
    assert np.all(products.cross[addition, 0] < 0.0)  # a dear anchor sells fewer additions
    assert np.all(products.cross[~addition] == 0.0)
    kinds = [np.mean(others > 0.0), np.mean(others < 0.0), np.mean(others == 0.0)]
    assert min(kinds) > 0.15
    for i in np.flatnonzero(addition).tolist():
        for j, member in enumerate(products.members[i].tolist()):
            if member >= 0 and j > 0:
                assert products.cross[i, j] == products.cross[member, products.slot[i]]
