"""Days, channels, rivals that follow and searches: zero without the effect, the truth with it."""

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from models.demand import channels, day_effects, effects_book, following, searches
from models.demand.day_effects import DayFactors, in_use, learn_day
from models.demand.market_effects import new_effects
from models.fold.context import Request
from models.fold.partition import PartitionState
from models.kernel.tile import Kernel
from models.pricing.pose import Posed, pose
from models.simulator.world import WorldSettings
from models.simulator.world_truth import Draws
from schemas.effects import (
    ChannelEffects,
    DayEffects,
    Effect,
    MarketMemory,
    SearchEffect,
    Today,
)
from schemas.events import DAY_MS
from schemas.learned import OpenEpoch
from schemas.state import Traffic
from tests.models.effects_shop import learn_history
from tests.models.tapes import Partition, at

SHOP: dict[str, Any] = {"products": 160, "categories": 4, "unseen_categories": 0}
EVEN = {"a": 0.0, "b": 0.0, "c": 0.0}
UNLIKE = {"a": -0.8, "b": 1.6, "c": -0.4}
SHARES = {"a": 0.2, "b": 0.2, "c": 0.6}


# -- days


def test_weekdays_are_found_where_they_differ_and_zero_where_not() -> None:
    _, without = learn_history(1, WorldSettings(**SHOP), 120)
    world, beside = learn_history(1, WorldSettings(**SHOP, weekday_sd=0.15), 120)
    assert without.day_factors.week == (0.0,) * 7
    truth = np.roll(Draws(world.seed).rng("weekday").normal(0.0, 0.15, 7), 3)  # day 0: a Thursday
    truth -= truth.mean()
    assert beside.day_factors.week == pytest.approx(truth.tolist(), abs=0.05)


def named_days(effect: float, seed: int, years: int = 2) -> DayFactors:
    """Learn years of 100 expected orders a day, with two holidays and pay days in each month."""
    rng, effects = np.random.default_rng(seed), DayEffects()
    first = date(2026, 1, 1)
    for number in range(365 * years):
        day = first + timedelta(number)
        kinds = [k for k, n in (("pay_day", 1), ("easter", 8), ("unity", 20)) if day.day == n]
        if kinds:
            effects.calendar[day.isoformat()] = tuple(kinds)
    start = first.toordinal() - day_effects.EPOCH_ORDINAL
    for number in range(365 * years):
        day = first + timedelta(number)
        rate = 100.0 * math.exp(effect * (day.day in (1, 8, 20)) + 0.03 * rng.normal())
        learn_day(effects, start + number, int(rng.poisson(rate)), 100.0)
    return in_use(effects)


def test_named_days_are_found_where_they_differ_and_zero_where_not() -> None:
    without, beside = named_days(0.0, 1), named_days(0.4, 1)
    assert {name: found.used for name, found in without.kinds.items()} == {
        "pay_day": 0.0, "holiday": 0.0, "easter": 0.0, "unity": 0.0,
    }  # fmt: skip
    assert beside.kinds["pay_day"].mean == pytest.approx(0.4, abs=3.0 * beside.kinds["pay_day"].sd)
    for number, name in ((8, "easter"), (20, "unity")):
        day = date(2026, 3, number).toordinal() - day_effects.EPOCH_ORDINAL
        assert beside.log_factor(day) == pytest.approx(0.4, abs=0.15), name


def test_a_holiday_never_seen_has_the_effect_of_the_others() -> None:
    factors = named_days(0.4, 1)
    calendar = {"2029-05-09": ("a_new_one",)}
    day = date(2029, 5, 9).toordinal() - day_effects.EPOCH_ORDINAL
    unseen = factors._replace(calendar=calendar)
    assert unseen.log_factor(day) - factors.log_factor(day) == factors.kinds["holiday"].used > 0.1


def test_the_mean_factor_weighs_days_by_their_share() -> None:
    week = (0.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0)  # Thursdays: day 0 is one
    factors = DayFactors(week, {}, {}, 0.01, neutral=False, ratios={})
    assert factors.mean_log(DAY_MS // 2, DAY_MS + DAY_MS // 2) == pytest.approx(
        math.log(0.5 * math.exp(0.7) + 0.5)
    )
    assert factors.mean_log(5, 5) == 0.0


def test_a_day_of_few_expected_orders_teaches_nothing() -> None:
    effects = DayEffects()
    learn_day(effects, 0, 50, 4.9)
    assert effects == DayEffects()


def test_open_epochs_make_up_the_day_s_expectation(kernel: Kernel) -> None:
    """Opening and closing in any order adds up to time times rate."""
    partition = PartitionState(0, "test")
    partition.manifest.returns_day = 0
    epochs = [
        OpenEpoch(
            start_ms=0, accrued_ms=0, price_minor=1, ln_price=0.0, ln_rival=None, control=0.0,
            in_stock=None, rate_micro=rate,
        )
        for rate in (1_000_000, 2_000_000)
    ]  # fmt: skip
    effects_book._expect(partition, 1_000_000, 0)
    effects_book._expect(partition, 2_000_000, DAY_MS // 2)
    assert partition.today.expected_micro == 2_000_000
    effects_book.closed(partition, epochs[0], DAY_MS * 3 // 4)
    assert (partition.today.rate_micro, partition.today.expected_micro) == (2_000_000, 1_750_000)
    effects_book.new_day(partition, 1)
    assert (partition.today.rate_micro, partition.today.expected_micro) == (2_000_000, 2_000_000)


@pytest.mark.parametrize("kind", ["holiday", "level", "weekday_3"])
def test_a_kind_named_like_a_regressor_is_a_plain_holiday(kind: str) -> None:
    effects = DayEffects(calendar={"1970-01-01": (kind,)})
    learn_day(effects, 0, 150, 100.0)
    assert effects.names == ["level", *day_effects.WEEKDAYS, "holiday"]


# -- channels


def learned_channels(slopes: dict[str, float], days: int = 40) -> ChannelEffects:
    rng, effects = np.random.default_rng(5), ChannelEffects()
    names = sorted(SHARES)
    for _ in range(days):
        today: dict[str, list[int]] = {}
        for x in rng.normal(0.0, 0.13, 300).tolist():
            weights = np.array([SHARES[name] * math.exp(slopes[name] * x) for name in names])
            channels.count(today, names[rng.choice(3, p=weights / weights.sum())], x)
        channels.new_day(effects, today)
    return effects


def test_channels_that_are_alike_are_left_alone() -> None:
    found = learned_channels(EVEN)
    assert [effect.used for effect in found.effects.values()] == [0.0, 0.0, 0.0]
    assert channels.mixture(found, 0.3) == (0.0, 0.0)


def test_channels_that_differ_are_found_and_mixed() -> None:
    found = learned_channels(UNLIKE)
    average = sum(SHARES[name] * slope for name, slope in UNLIKE.items())
    for name, effect in found.effects.items():
        assert effect.mean == pytest.approx(UNLIKE[name] - average, abs=3.0 * effect.sd)
        assert found.shares[name] == pytest.approx(SHARES[name], abs=0.02)
    used = [(found.shares[name], found.effects[name].used) for name in sorted(found.shares)]
    total = sum(share * math.exp(0.2 * slope) for share, slope in used)
    mixed, slope = channels.mixture(found, 0.2)
    step = 1e-6
    assert mixed == pytest.approx(math.log(total), abs=1e-12)
    assert slope == pytest.approx((channels.mixture(found, 0.2 + step)[0] - mixed) / step, abs=1e-5)
    assert slope > 0.05  # dearer, those who hardly react remain


def test_which_channels_share_a_count_does_not_depend_on_the_order() -> None:
    names = [f"channel-{number:02d}" for number in range(40)]
    totals = []
    for order in (names, names[::-1], names[20:] + names[:20]):
        today: dict[str, list[int]] = {}
        for name in order:
            for _ in range(3):
                channels.count(today, name, 0.1)
        totals.append(today)
    assert totals[0] == totals[1] == totals[2]
    assert len(totals[0]) == channels.CHANNELS_A_DAY_MAX + 1
    assert sum(map(sum, totals[0].values())) == 120


# -- rivals that follow


def test_rivals_that_follow_are_found_and_others_left_at_zero() -> None:
    _, beside = learn_history(1, WorldSettings(**SHOP), 60)  # the reference world's follow by 0.6
    _, without = learn_history(1, WorldSettings(**SHOP, rival_follow=0.0), 60)
    for found in beside.effects.values():
        assert found.follow_rate.used == pytest.approx(0.6, abs=3.0 * found.follow_rate.sd)
    assert [found.follow_rate.used for found in without.effects.values()] == [0.0] * 4


def test_a_price_that_only_follows_its_rivals_says_nothing_of_them() -> None:
    """Without an exogenous part no response is identified, however much both move."""
    partition = PartitionState(0, "test")
    partition.effects["c"] = effects = new_effects()
    memory = MarketMemory(
        ln_price=0.0, control=0.0, last_price=0.0, last_rival=0.0, move=0.1, move_exogenous=0.0
    )
    epoch = OpenEpoch(
        start_ms=0, accrued_ms=0, price_minor=1, ln_price=0.1, ln_rival=0.08, control=0.1,
        in_stock=None,
    )  # fmt: skip
    for _ in range(500):
        following.teach(effects, memory, epoch)
    following.new_day(partition)
    assert effects.follow_rate == Effect(0.0, pytest.approx(following.CATEGORY_SD), 0.0)


# -- searches


def learned_searches(beta: float) -> SearchEffect:
    rng, found = np.random.default_rng(8), SearchEffect()
    shop = [Traffic(100.0, 100.0, 0) for _ in range(30)]
    interest = rng.normal(0.0, 0.3, 30)
    for _ in range(40):
        today = Today()
        visits = rng.poisson(100.0 * np.exp(beta * interest)).tolist()
        interest = rng.normal(0.0, 0.3, 30)
        counts = rng.poisson(500.0 * np.exp(interest)).tolist()
        for number, before in enumerate(shop):
            searches.teach(today, before, visits[number], 1.0)
            shop[number] = effects_book.searched(before, before, counts[number], 1.0)
        searches.new_day(found, today)
    return found


def test_searches_lead_visits_where_they_do_and_are_left_alone_where_not() -> None:
    assert learned_searches(0.0).effect.used == 0.0
    assert learned_searches(0.7).effect.used == pytest.approx(0.6, abs=0.1)


def test_searches_count_for_as_long_as_their_report() -> None:
    found = SearchEffect(effect=Effect(0.5, 0.1, 0.5))
    traffic = Traffic(100.0, 100.0, 0, searches_per_day=50.0, search_log=math.log(1.21))
    assert searches.log_factor(found, traffic, 1.0) == pytest.approx(math.log(1.1))
    assert searches.log_factor(found, traffic, 10.0) == pytest.approx(math.log(1.01))
    assert searches.log_factor(found, Traffic(100.0, 100.0, 0), 1.0) == 0.0


# -- what a decision sees


def posed(shop: Partition) -> Posed:
    found = pose(shop.engine.state, Request("A", "test", 0, at(days=1), at(days=1)))
    assert isinstance(found, Posed)
    return found


def test_effects_in_use_reach_the_row_and_the_record(kernel: Kernel) -> None:
    shop = Partition(kernel)
    shop.send("product_listed", at())
    shop.send("competitor_price_observed", at(hours=1), price_minor=900, promotion=False)
    plain = posed(shop)
    state = shop.engine.state
    effects = state.effects.setdefault("lamps", new_effects())
    effects.rival = Effect(2.0, 0.2, 1.9)
    effects.follow_rate = Effect(0.6, 0.02, 0.59)
    state.day_factors = DayFactors((0.1,) * 7, {}, {}, 0.01, neutral=False, ratios={})
    found = posed(shop)
    assert (plain.full.rival_omega, found.full.rival_omega) == (0.0, 1.9)
    assert found.full.elasticity == plain.full.elasticity  # rivals' response is opt-in
    assert found.full.demand_per_day == pytest.approx(plain.full.demand_per_day * math.exp(0.1))
    assert [(one.name, one.log_demand) for one in found.market.told] == [
        ("rival_threshold", None), ("calendar", pytest.approx(0.1)),
    ]  # fmt: skip
    state.set_policy(
        "[objective]\nrival_response = true\nrival_response_legal_note = 'cleared by counsel'\n"
    )
    eta = found.posterior.mean[2]
    assert posed(shop).full.elasticity == pytest.approx(plain.full.elasticity + 0.59 * eta)
