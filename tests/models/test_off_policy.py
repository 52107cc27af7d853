"""Off-policy estimates: exact on a history that can be reckoned by hand, and when they refuse."""

import math

import numpy as np
import pytest

from models.backtest import off_policy
from models.backtest.collect import Collector
from models.backtest.columns import Decisions, Epochs, Outcomes, Products
from models.backtest.experiment import is_coin, prices_at, up_share
from models.backtest.off_policy import DOUBLY_ROBUST, INVERSE, SELF_NORMALISED
from models.backtest.realised import DaySums, profit_minor
from models.backtest.trials import shown_after
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from schemas.backtest import OffPolicyValue
from schemas.events import DAY_MS
from tests.models.tapes import Partition, at

COUNT, UP, DOWN, FIRST_DAY = 400, 1030.0, 970.0, 20_000
SOLD_UP, SOLD_DOWN = 10.0, 4.0  # units a day at either price
COST = 500.0
PROFIT_UP, PROFIT_DOWN = SOLD_UP * (UP - COST), SOLD_DOWN * (DOWN - COST)
LAST_DAY = FIRST_DAY + 3


def products(count: int = COUNT, family_size: int = 1) -> Products:
    names = [f"{i:04}" for i in range(count)]
    families = [f"{i // family_size:04}" for i in range(count)]
    return Products(names, families, ["lamps"] * count, ["EUR"] * count)


def decisions(price: float | np.ndarray, *, coin: bool, count: int = COUNT) -> Decisions:
    """One a product at midnight; with a coin every other product drew the upper price."""
    row = PADDING._replace(unit_cost=0.5, demand_per_day=20.0, elasticity=-2.0)
    drew_up = np.arange(count) % 2 == 0
    drawn = np.where(drew_up, UP, DOWN) if coin else np.full(count, 1.0) * price
    nothing = np.full(count, np.nan)
    return Decisions(
        product=np.arange(count),
        at_ms=np.full(count, FIRST_DAY * DAY_MS),
        partition=np.zeros(count, np.int64),
        offset=np.arange(count),
        price_minor=drawn,
        wanted_minor=drawn,
        plain_minor=np.full(count, 1000.0),
        effective=np.ones(count, np.bool_),
        probe=np.full(count, coin),
        up_minor=np.full(count, UP) if coin else nothing,
        down_minor=np.full(count, DOWN) if coin else nothing,
        up_probability=np.full(count, 0.5) if coin else nothing,
        drew_up=drew_up & coin,
        exogenous_log=np.zeros(count),
        reference_minor=np.full(count, 1000.0),
        profit_per_day_minor=np.full(count, 4000.0),
        inputs=np.tile(np.array(row), (count, 1)),
    )


def epochs(price: np.ndarray) -> Epochs:
    count = len(price)
    zero, many = np.zeros(count), np.full(count, 10.0)
    return Epochs(
        product=np.arange(count), begin_ms=np.full(count, FIRST_DAY * DAY_MS),
        end_ms=np.full(count, LAST_DAY * DAY_MS), price_minor=price,
        reference_minor=np.full(count, 1000.0), orders=many, units=many, exposure_days=zero + 3.0,
        ln_rival=zero + np.nan, control=zero, offset=zero, mean_orders=many,
        posterior_mean=np.zeros((count, 4)), posterior_cov=np.zeros((count, 4, 4)),
    )  # fmt: skip


def outcomes(units: np.ndarray, price: np.ndarray) -> Outcomes:
    """The same sales on each of three days."""
    product = np.repeat(np.arange(len(units)), 3)
    none = np.zeros(len(product))
    return Outcomes(
        product=product, day=np.tile(FIRST_DAY + np.arange(3), len(units)), orders=units[product],
        units=units[product], revenue_minor=(units * price)[product], returned_units=none,
        refund_minor=none, unit_cost_minor=none + COST, kept_share=none + 1.0,
        handling_minor=none + np.nan,
    )  # fmt: skip


LOGGED = decisions(0.0, coin=True)
SOLD = np.where(LOGGED.drew_up, SOLD_UP, SOLD_DOWN)
HISTORY = (epochs(LOGGED.price_minor), outcomes(SOLD, LOGGED.price_minor))


def compare(candidate: Decisions, logged: Decisions = LOGGED) -> tuple[OffPolicyValue, ...]:
    return off_policy.compare(products(), logged, candidate, *HISTORY)


def test_every_estimator_finds_what_the_upper_price_earned_more() -> None:
    """A product and day: 5300 at the upper price, 1880 at the lower, so 1710 above their mean."""
    truth = COUNT * (PROFIT_UP - 0.5 * (PROFIT_UP + PROFIT_DOWN))
    found = compare(decisions(UP, coin=False))
    assert [value.estimator for value in found] == [DOUBLY_ROBUST, INVERSE, SELF_NORMALISED]
    for value in found:
        assert value.refused is None
        assert value.estimate is not None
        assert value.estimate.mean_minor == pytest.approx(truth, rel=1e-9)
        assert value.estimate.low_minor < truth < value.estimate.high_minor
        assert value.estimate.level == off_policy.LEVEL
        assert (value.decisions, value.explored, value.supported_share) == (COUNT, COUNT, 1.0)
        assert value.product_days == COUNT  # ten orders come in a day: the stretch is one
        assert value.bias_bound_minor == pytest.approx(0.0, abs=1e-6)
        assert value.effective_sample_size == pytest.approx(COUNT, rel=0.01)


def test_a_price_between_is_a_mixture_and_the_bend_counts_as_bias() -> None:
    """A quarter of the way up in log price: a quarter less than the even mixture of the coin."""
    price = DOWN * (UP / DOWN) ** 0.25
    value = compare(decisions(price, coin=False))[1]
    assert value.estimate is not None
    assert value.bias_bound_minor is not None
    first_order = -0.25 * COUNT * (PROFIT_UP - PROFIT_DOWN)
    assert value.bias_bound_minor > 0.0
    assert value.estimate.mean_minor == pytest.approx(
        first_order + value.bias_bound_minor, rel=1e-9
    )


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_money_in_another_unit_scales_the_estimate(factor: float) -> None:
    def scaled(found: Decisions) -> Decisions:
        return found._replace(
            price_minor=found.price_minor * factor,
            up_minor=found.up_minor * factor,
            down_minor=found.down_minor * factor,
            reference_minor=found.reference_minor * factor,
        )

    candidate = decisions(UP, coin=False)
    before = compare(candidate)[0].estimate
    sold = HISTORY[1]._replace(
        revenue_minor=HISTORY[1].revenue_minor * factor,
        unit_cost_minor=HISTORY[1].unit_cost_minor * factor,
    )
    seen = HISTORY[0]._replace(price_minor=HISTORY[0].price_minor * factor)
    values = off_policy.compare(products(), scaled(LOGGED), scaled(candidate), seen, sold)
    after = values[0].estimate
    assert before is not None
    assert after is not None
    assert after.mean_minor == pytest.approx(before.mean_minor * factor, rel=1e-9)
    assert after.high_minor == pytest.approx(before.high_minor * factor, rel=1e-9)


REFUSALS = [
    # why, logged, candidate, in the reason
    ("no exploration", decisions(1000.0, coin=False), decisions(UP, coin=False), "exploration was"),
    ("the same policy", LOGGED, LOGGED, "the candidate's prices are the baseline's"),
    ("never tried", LOGGED, decisions(1100.0, coin=False), "0.0% of the decisions"),
    ("hardly tried", LOGGED, decisions(np.where(np.arange(COUNT) < 3, UP, 1100.0), coin=False),
     "0.8% of the decisions"),
    ("tried on few", LOGGED, decisions(np.where(np.arange(COUNT) < 30, UP, 1100.0), coin=False),
     "equal families would tell, 40 needed"),
    ("not what buyers saw", LOGGED._replace(price_minor=np.full(COUNT, 1001.0)),
     decisions(UP, coin=False), "buyers saw 0% of the prices"),
    ("never seen", LOGGED._replace(effective=np.zeros(COUNT, np.bool_)), decisions(UP, coin=False),
     "nothing on the tape says that buyers saw"),
    ("nothing random", LOGGED._replace(up_probability=np.ones(COUNT)), decisions(UP, coin=False),
     "exploration was off"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("logged", "candidate", "reason"),
    [case[1:] for case in REFUSALS],
    ids=[case[0] for case in REFUSALS],
)
def test_it_refuses_with_a_reason(logged: Decisions, candidate: Decisions, reason: str) -> None:
    (value,) = compare(candidate, logged)
    assert value.estimate is None
    assert value.bias_bound_minor is None
    assert value.refused is not None
    assert reason in value.refused


def test_a_shop_that_shows_prices_a_day_later_is_waited_for() -> None:
    """On the day of the toss all sell seven; from the next one on the drawn price tells."""
    before, later = epochs(np.full(COUNT, 1000.0)), epochs(LOGGED.price_minor)
    change_ms = np.full(COUNT, (FIRST_DAY + 1) * DAY_MS)
    parts = zip(before._replace(end_ms=change_ms), later._replace(begin_ms=change_ms), strict=True)
    seen = Epochs._make(np.concatenate(part) for part in parts)
    first = HISTORY[1].day == FIRST_DAY
    units = np.where(first, 7.0, HISTORY[1].units)
    price = np.where(first, 1000.0, LOGGED.price_minor[HISTORY[1].product])
    sold = HISTORY[1]._replace(units=units, orders=units, revenue_minor=units * price)
    assert shown_after(LOGGED, seen, is_coin(LOGGED)).delay_days == 1
    found = off_policy.compare(products(), LOGGED, decisions(UP, coin=False), seen, sold)
    truth = 0.5 * COUNT * (PROFIT_UP - PROFIT_DOWN)
    for value in found:
        assert value.estimate is not None
        assert value.estimate.mean_minor == pytest.approx(truth, rel=1e-9)


def test_an_interval_too_wide_to_use_is_refused() -> None:
    """One product sells most of all there is: its luck with the coin is the estimate."""
    sold = np.where(np.arange(COUNT) == 0, 30_000.0, SOLD)
    values = off_policy.compare(
        products(), LOGGED, decisions(UP, coin=False), HISTORY[0],
        outcomes(sold, LOGGED.price_minor),
    )  # fmt: skip
    assert [value.estimate for value in values] == [None, None, None]
    assert all("the interval is as wide as" in str(value.refused) for value in values)


def test_a_candidates_own_coin_counts_as_chance() -> None:
    """The candidate tosses the same coin between the upper price and the plain one."""
    plain = math.sqrt(UP * DOWN)
    candidate = LOGGED._replace(
        down_minor=np.full(COUNT, plain), price_minor=np.where(LOGGED.drew_up, UP, plain)
    )
    mixture = prices_at(candidate, LOGGED.product, LOGGED.offset)
    share = up_share(mixture, LOGGED.up_minor, LOGGED.down_minor)
    assert share == pytest.approx(np.full(COUNT, 0.75))
    value = compare(candidate)[1]
    assert value.estimate is not None
    assert value.bias_bound_minor is not None
    gained = 0.25 * COUNT * (PROFIT_UP - PROFIT_DOWN) + value.bias_bound_minor
    assert value.estimate.mean_minor == pytest.approx(gained, rel=1e-9)


def test_a_coin_tossed_before_is_no_chance_any_more() -> None:
    later = prices_at(LOGGED, LOGGED.product, LOGGED.offset + 1000)
    assert later.up_minor.tolist() == LOGGED.price_minor.tolist()
    assert later.up_probability.tolist() == [1.0] * COUNT
    assert is_coin(LOGGED).all()


def test_what_partners_sell_less_is_part_of_a_price() -> None:
    """Families of two: the upper price of one takes its partner's sales, and all is counted."""
    coin = np.arange(2 * COUNT) % 2 == 0
    both = decisions(1000.0, coin=False, count=2 * COUNT)
    drew_up = coin & (np.arange(2 * COUNT) % 4 == 0)
    drawn = np.where(coin, np.where(drew_up, UP, DOWN), 1000.0)
    logged = both._replace(
        price_minor=drawn, drew_up=drew_up,
        up_minor=np.where(coin, UP, np.nan), down_minor=np.where(coin, DOWN, np.nan),
        up_probability=np.where(coin, 0.5, np.nan),
    )  # fmt: skip
    candidate = both._replace(price_minor=np.where(coin, UP, 1000.0))
    own = np.where(drew_up, SOLD_UP, SOLD_DOWN)
    sold = np.where(coin, own, np.where(np.roll(drew_up, 1), 0.0, 7.0))
    values = off_policy.compare(
        products(2 * COUNT, 2), logged, candidate, epochs(drawn), outcomes(sold, drawn)
    )
    truth = COUNT * 0.5 * (PROFIT_UP - PROFIT_DOWN - 7 * (1000.0 - COST))
    for value in values[1:]:
        assert value.estimate is not None
        assert value.estimate.mean_minor == pytest.approx(truth, rel=1e-9)


def test_realised_profit_takes_returns_back() -> None:
    """10 sold at 1000 with 0.8 kept and cost 500; 2 come back, each costs 50 to handle."""
    one = outcomes(np.array([10.0]), np.array([1000.0]))._replace(
        kept_share=np.full(3, 0.8), returned_units=np.array([2.0, 0.0, 0.0]),
        refund_minor=np.array([2000.0, 0.0, 0.0]), handling_minor=np.array([50.0, np.nan, np.nan]),
        unit_cost_minor=np.array([500.0, 500.0, np.nan]),
    )  # fmt: skip
    earned = profit_minor(one)
    assert earned[:2].tolist() == [0.8 * 8000 - 500 * 8 - 100, 0.8 * 10_000 - 500 * 10]
    assert np.isnan(earned[2])  # sold at a cost that nobody told


def test_days_without_a_row_add_nothing() -> None:
    sums = DaySums.of(np.array([1, 0, 1]), np.array([5, 5, 9]), np.array([3.0, 4.0, 2.0]))
    found = sums.between(np.array([0, 1, 1, 2]), np.array([5, 5, 6, 5]), np.array([9, 10, 9, 9]))
    assert found.tolist() == [4.0, 5.0, 0.0, 0.0]


def test_a_folds_coins_are_experiments_that_buyers_saw(kernel: Kernel) -> None:
    """Twenty products on sale for four weeks: every toss, both its prices, and what was shown."""
    shop = Partition(kernel)
    collector = Collector(shop.engine.state, lambda _: True, is_baseline=True)
    shop.engine.state.watch = collector
    skus = [f"S{number:02}" for number in range(20)]
    logged = {}
    for day in range(28):
        seen = [shop.tick(at(day))]
        if not day:
            seen += [shop.send("product_listed", at(), sku=sku) for sku in skus]
        for sku in skus:
            for line in range(3):
                order = {"sku": sku, "order_id": f"{day}-{sku}-{line}"}
                price = shop.engine.state.skus[sku].published_minor
                shop.send("order_placed", at(day, 12.0), unit_price_minor=price, **order)
        for decision in (decision for one in seen for decision in one.decisions):
            collector.decided(decision)
            logged[decision.tape.offset, decision.sku] = decision
    columns = collector.columns(kernel)
    found = columns.decisions
    coin = is_coin(found)
    assert coin.sum() > len(skus)  # epochs close, and a coin is tossed again
    for row in np.flatnonzero(coin).tolist():
        told = logged[int(found.offset[row]), columns.products.skus[found.product[row]]].exploration
        assert told is not None
        assert (found.up_minor[row], found.down_minor[row]) == (told.up_minor, told.down_minor)
        assert found.wanted_minor[row] == (told.up_minor if told.drew_up else told.down_minor)
    shown = shown_after(found, columns.epochs, coin)
    assert shown.delay_days == 0
    assert set(shown.seen[~np.isnan(shown.seen)].tolist()) == {1.0}
    (value,) = off_policy.compare(columns.products, found, found, columns.epochs, columns.outcomes)
    assert value.explored == coin.sum()
    assert value.refused == "the candidate's prices are the baseline's"
