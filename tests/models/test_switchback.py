"""Switchback tests: balanced schedules, exact analysis, honest power, and when none fits."""

from collections import Counter

import numpy as np
import pytest
from msgspec.structs import replace

from models.backtest import switchback
from models.backtest.columns import Floats, Outcomes, Products
from models.backtest.switchback import CarryOver
from models.backtest.switchback_analysis import analyse
from models.backtest.switchback_units import UNITS_MAX, units_of
from schemas.backtest import Estimate, SwitchbackDesign

DAYS, WASHOUT = 336, 7
NAMES = ("old", "new")


def catalogue(count: int, categories: int = 1) -> Products:
    names = [f"{i:04}" for i in range(count)]
    return Products(names, names, [f"c{i % categories}" for i in range(count)], ["EUR"] * count)


def outcomes(profit: Floats) -> Outcomes:
    """Profit [product, day] as revenue without cost."""
    count, days = profit.shape
    none = np.zeros(count * days)
    return Outcomes(
        product=np.repeat(np.arange(count), days), day=np.tile(np.arange(days), count),
        orders=none + 1.0, units=none + 1.0, revenue_minor=profit.ravel(), returned_units=none,
        refund_minor=none, unit_cost_minor=none, kept_share=none + 1.0, handling_minor=none,
    )  # fmt: skip


def noisy(count: int, days: int, seed: int, start: int = 0) -> Floats:
    """Autocorrelated profit of products of all sizes, with weekdays and a season in common."""
    size = 1000.0 * np.exp(np.random.default_rng(0).normal(0.0, 1.0, (count, 1)))
    rng = np.random.default_rng([seed, 1])
    noise = rng.normal(0.0, 0.3, (count, days))
    for k in range(1, days):
        noise[:, k] = 0.6 * noise[:, k - 1] + 0.8 * noise[:, k]
    day = start + np.arange(days)
    season = 0.3 * np.sin(day / 58.0) + 0.2 * (day % 7 == 5)
    return np.asarray(size * np.exp(noise + season))


def estimate(mean: float) -> Estimate:
    return Estimate(
        currency="EUR", mean_minor=mean, sd_minor=1.0, low_minor=mean - 1.6, high_minor=mean + 1.6,
        level=0.9,
    )  # fmt: skip


def designed(
    count: int = 40, effect: float | None = None, days_max: int = 84, seed: int = 3
) -> SwitchbackDesign:
    (found,) = switchback.design(
        catalogue(count), outcomes(noisy(count, DAYS, 1)),
        () if effect is None else (estimate(effect),), days_max=days_max, seed=seed, names=NAMES,
    )  # fmt: skip
    return found


def test_a_schedule_is_balanced_in_every_block_and_unit() -> None:
    found = designed()
    assert found.refused is None
    assert len(found.schedule) == found.units * found.blocks == 40 * found.blocks
    blocks = Counter((cell.block, cell.policy) for cell in found.schedule)
    units = Counter((cell.unit, cell.policy) for cell in found.schedule)
    assert set(blocks.values()) == {20}
    assert set(units.values()) == {found.blocks // 2}
    has = np.array([cell.policy for cell in found.schedule]).reshape(-1, found.blocks)
    assert (has[0::2] != has[1::2]).all()  # of a pair, one has each


def test_a_schedule_is_its_seeds() -> None:
    assert designed(seed=3) == designed(seed=3)
    assert designed(seed=3).schedule != designed(seed=4).schedule


def test_analysis_is_exact_where_only_the_policy_differs() -> None:
    """Days and sizes cancel, and what still works of the policy before is not measured."""
    found = designed()
    days, length = int(found.days), int(found.block_days)
    has = np.array([cell.policy == "new" for cell in found.schedule]).reshape(-1, found.blocks)
    units = [cell.unit for cell in found.schedule if cell.block == 0]
    daily = np.repeat(has, length, axis=1).astype(np.float64)
    size = np.arange(1.0, 41.0)[:, None] * 100.0
    profit = size + 50.0 * (np.arange(days) % 7) + 3.0 * size / 100.0 * daily
    profit[:, np.arange(days) % length < WASHOUT] *= 7.0  # carry-over
    order = [int(unit) for unit in units]
    table = np.zeros((40, 10 + days))
    table[order, 10:] = profit
    found_effect = analyse(found, catalogue(40), outcomes(table), first_day=10, candidate="new")
    assert found_effect.mean_minor == pytest.approx(3.0 * np.arange(1, 41).sum(), rel=1e-9)
    assert found_effect.low_minor <= found_effect.mean_minor <= found_effect.high_minor
    assert found_effect.level == 0.95


def test_level_and_power_are_what_the_design_says() -> None:
    """20 histories, 20 tests each on other days: 5 % false alarms, 80 % finds, within 3.3 sd."""
    products = catalogue(40)
    false = finds = 0
    for seed in range(1, 21):
        history = outcomes(noisy(40, DAYS, seed))
        (found,) = switchback.design(products, history, (), days_max=84, seed=seed, names=NAMES)
        effect = found.detectable_minor_per_day
        assert effect is not None
        units = [cell.unit for cell in found.schedule if cell.block == 0]
        for test in range(1000 * seed, 1000 * seed + 20):
            cells = switchback.schedule(units, found.blocks, test, NAMES)
            earned = outcomes(noisy(40, int(found.days), test, 37 * test))
            tested = replace(found, schedule=cells)
            null = analyse(tested, products, earned, first_day=0, candidate="new")
            false += not null.low_minor <= 0.0 <= null.high_minor
            finds += null.low_minor + effect > 0.0
    assert 6 <= false <= 34
    assert 293 <= finds <= 360  # planned with the upper limit of the variance


def test_the_shortest_test_that_finds_the_effect() -> None:
    most = designed()
    assert most.detectable_minor_per_day is not None
    found = designed(effect=-2.0 * most.detectable_minor_per_day)
    assert found.refused is None
    assert found.days < most.days
    assert found.effect_minor_per_day == 2.0 * most.detectable_minor_per_day
    assert found.detectable_minor_per_day is not None
    assert found.detectable_minor_per_day <= found.effect_minor_per_day
    assert "no effect was given: this is what a test of this length can find" in most.notes


def test_money_in_another_unit_scales_the_design() -> None:
    profit = noisy(40, DAYS, 1)
    cents, euros = (
        switchback.design(catalogue(40), outcomes(one), (), days_max=84, seed=3)[0]
        for one in (profit * 100.0, profit)
    )
    assert cents.schedule == euros.schedule
    assert cents.detectable_minor_per_day == pytest.approx(
        100.0 * float(euros.detectable_minor_per_day or 0.0), rel=1e-9
    )


@pytest.mark.parametrize(
    ("why", "count", "effect", "days", "days_max", "reason"),
    [
        ("too small", 40, 1.0, DAYS, 84, "as many like units, or an effect"),
        ("none expected", 40, 0.0, DAYS, 84, "no difference is expected"),
        ("too short a test", 40, None, DAYS, 30, "30 days are too few: 4 blocks of 8 days"),
        ("too short a history", 40, None, 25, 84, "history has 24 whole days; 32 needed"),
        ("too few units", 3, None, DAYS, 84, "3 units sold anything"),
    ],
)
def test_it_says_why_no_test_fits(
    why: str, count: int, effect: float | None, days: int, days_max: int, reason: str
) -> None:
    (found,) = switchback.design(
        catalogue(count), outcomes(noisy(count, days, 1)),
        () if effect is None else (estimate(effect),), days_max=days_max, seed=1,
    )  # fmt: skip
    assert found.refused is not None
    assert reason in found.refused
    assert found.schedule == ()
    with pytest.raises(ValueError, match="has no schedule"):
        analyse(found, catalogue(count), outcomes(noisy(count, days, 1)), first_day=0)


def test_what_would_do_is_what_does() -> None:
    """A refused effect fits once it is as many times larger as was said."""
    most = designed()
    assert most.detectable_minor_per_day is not None
    refused = designed(effect=most.detectable_minor_per_day / 2.0)
    assert refused.refused is not None
    assert "4.0 times as many like units, or an effect 2.0 times as large" in refused.refused
    assert designed(effect=most.detectable_minor_per_day * 1.001).refused is None


def test_the_longest_carry_over_is_the_washout() -> None:
    for carried, days in (
        (CarryOver(), 7),
        (CarryOver(memory_half_life=5.2), 11),
        (CarryOver(rivals_follow=2.5, stockpiling=0.0, memory_half_life=0.1), 3),
    ):
        assert carried.washout_days == days


def test_a_leaking_category_is_one_unit_and_families_stay_whole() -> None:
    products = catalogue(12, categories=3)._replace(families=[f"f{i // 2}" for i in range(12)])
    products = products._replace(categories=["a", "a", "a", "a", *["b"] * 8])
    sold = outcomes(np.ones((12, 10)) * np.arange(12.0, 0.0, -1.0)[:, None])
    found = units_of(products, sold, "EUR", ("a",), (0, 10))
    assert found.names == ["category a", "f2", "f3", "f4", "f5"]
    assert found.members == [["f0", "f1"], ["f2"], ["f3"], ["f4"], ["f5"]]
    assert found.profit[:, 0].tolist() == [42.0, 15.0, 11.0, 7.0, 3.0]
    assert units_of(products, sold, "USD", (), (0, 10)).names == []


def test_many_families_are_put_together_to_groups_of_like_size() -> None:
    count = 3 * UNITS_MAX
    sold = outcomes(np.arange(1.0, count + 1.0)[:, None] * np.ones((1, 4)))
    found = units_of(catalogue(count), sold, "EUR", (), (0, 4))
    assert found.kind == "group of families"
    assert len(found.names) == UNITS_MAX
    families = [family for members in found.members for family in members]
    assert sorted(families) == catalogue(count).families
    assert found.profit[:, 0].max() / found.profit[:, 0].min() < 1.6


def test_a_product_whose_profit_is_unknown_is_left_out() -> None:
    sold = outcomes(noisy(8, DAYS, 1))
    unknown = np.where((sold.product == 3) & (sold.day == 5), np.nan, sold.kept_share)
    (found,) = switchback.design(
        catalogue(8), sold._replace(kept_share=unknown), (), days_max=84, seed=1
    )
    assert found.units == 7
    assert "1 products are left out: their profit is not known" in found.notes
    assert "0003" not in {cell.unit for cell in found.schedule}
