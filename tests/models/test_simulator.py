"""The simulated shop: repeatable, valid, true to the demand it claims, and closed in its loop."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from models.simulator import Shop
from models.simulator_events import BAD_KINDS, TimeText
from models.simulator_habit import STEP_LN_MAX, CostPlusHabit
from models.simulator_truth import NEVER, ShopSettings, Truth, draw_truth
from schemas.codec import decode_event
from schemas.errors import ConfigError, EventError
from schemas.events import rfc3339

QUIET = {"duplicate_share": 0.0, "bad_share": 0.0}


def run(shop: Shop, days: int, prices: Callable[[], Mapping[str, int]] = dict) -> list[Any]:
    return [record for _ in range(24 * days) for record in shop.step(prices())]


def decoded(records: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(topic, json.loads(value)) for topic, value in records]


def test_the_same_seed_and_prices_give_the_same_bytes() -> None:
    settings = ShopSettings(products=15, bad_share=0.05)
    one, two = Shop(5, settings=settings), Shop(5, settings=settings)
    habits = CostPlusHabit(one, 5), CostPlusHabit(two, 5)
    assert run(one, 20, habits[0].prices) == run(two, 20, habits[1].prices)
    assert one.truth_json() == two.truth_json()
    other = Shop(6, settings=settings)
    assert run(other, 1) != run(Shop(5, settings=settings), 1)


def test_every_record_is_a_good_event_in_time_order() -> None:
    shop = Shop(7, products=40)
    begin_ms = shop.now_ms
    told: set[str] = set()
    for _ in range(24 * 12):
        start_ms = shop.now_ms
        times = []
        for topic, value in shop.step({}):
            event = decode_event(topic, None, value).event
            if event.event_id not in told:  # a repeat keeps its time and comes later
                times.append(event.event_time_ms)
            told.add(event.event_id)
        assert times == sorted(times)
        assert all(start_ms <= at_ms <= shop.now_ms for at_ms in times)
    assert shop.now_ms == begin_ms + 12 * 86_400_000
    assert shop.repeats > 0


def test_a_product_s_listing_comes_first_and_only_once() -> None:
    shop = Shop(3, settings=ShopSettings(products=30, late_share=0.5))
    listed: set[str] = set()
    retired: set[str] = set()
    late = predecessors = 0
    for topic, event in decoded(run(shop, 100)):
        kind = event["type"]
        if kind == "product_listed":
            assert event["sku"] not in listed
            listed.add(event["sku"])
            late += event["event_time"] > "2025-01-07"
            if event["predecessor"]:
                predecessors += 1
                assert event["predecessor"] in listed
        assert event["sku"] in listed
        if kind == "product_retired":
            retired.add(event["sku"])
        if kind in ("order_placed", "traffic_counted", "price_applied"):
            assert event["sku"] not in retired, topic
    assert listed == set(shop.catalogue.skus)
    assert late == 15
    assert predecessors == len(retired) > 3


def test_a_family_holds_a_product_s_predecessor() -> None:
    truth = draw_truth(
        ShopSettings(products=200, late_share=0.3, family_share=0.3), np.random.default_rng(1)
    )
    own = [family or sku for sku, family in zip(truth.skus, truth.families, strict=True)]
    heirs = np.flatnonzero(truth.predecessor >= 0)
    assert len(heirs) > 10
    for heir in heirs.tolist():
        old = int(truth.predecessor[heir])
        assert own[heir] == own[old]
        assert truth.categories[heir] == truth.categories[old]
    sizes = Counter(own)
    assert {family: size for family, size in sizes.items() if size > 1}
    same = [sizes[family] > 1 for family in own]
    assert same == (truth.family_elasticity > 0).tolist()


def test_the_shop_shows_published_prices_and_says_so() -> None:
    shop = Shop(9, settings=ShopSettings(products=3, late_share=0, **QUIET))
    sku = shop.catalogue.skus[0]
    list_price = int(shop.catalogue.list_price_minor[0])

    def shown(records: list[Any]) -> list[tuple[str, int]]:
        return [
            (event["event_time"], event["price_minor"])
            for _, event in decoded(records)
            if event["type"] == "price_applied" and event["sku"] == sku
        ]

    assert shown(shop.step({})) == [("2025-01-06T00:00:00.000Z", list_price)]
    assert shown(shop.step({sku: list_price + 100})) == [
        ("2025-01-06T01:00:00.000Z", list_price + 100)
    ]
    later = run(shop, 3, lambda: {sku: list_price + 100})
    assert shown(later) == []
    orders = [event for _, event in decoded(later) if event["type"] == "order_placed"]
    paid = {event["unit_price_minor"] for event in orders if event["sku"] == sku}
    assert paid <= {list_price + 100}
    assert len(orders) > 5
    assert shown(shop.step({})) == [("2025-01-09T02:00:00.000Z", list_price)]


def test_stock_balances() -> None:
    """What inventory tells is what orders, returns and deliveries leave."""
    shop = Shop(13, settings=ShopSettings(products=12, late_share=0, cancelled_share=0.1, **QUIET))
    on_hand: dict[str, int] = {}
    sold_out = 0
    inbound: dict[str, int] = {}
    for _, event in decoded(run(shop, 40)):
        kind, sku = event["type"], event["sku"]
        if kind == "order_placed":
            on_hand[sku] -= event["quantity"]
            assert on_hand[sku] >= 0
        elif kind in ("order_cancelled", "order_returned"):
            on_hand[sku] += event["quantity"]
        elif kind == "inventory_changed":
            if event["reason"] == "replenished":
                on_hand[sku] += inbound.pop(sku)
            inbound |= {sku: event["inbound"]} if event["inbound"] else {}
            told = event["on_hand"]
            sold_out += event["reason"] == "sold_out"
            # what came back within the hour is on the shelf from the next hour on
            if event["reason"] == "sold_out":
                assert told == 0 <= on_hand[sku]
            else:
                assert told == on_hand.setdefault(sku, told)
    assert sold_out >= 1
    assert shop.totals["orders_lost"] >= 1


def test_returns_and_cancellations_refer_to_their_orders() -> None:
    shop = Shop(21, settings=ShopSettings(products=30, cancelled_share=0.05, **QUIET))
    placed: dict[str, dict[str, Any]] = {}
    delays_days: list[float] = []
    counts: Counter[str] = Counter()
    for _, event in decoded(run(shop, 60)):
        counts[event["type"]] += 1
        if event["type"] == "order_placed":
            assert event["order_id"] not in placed
            placed[event["order_id"]] = event
        if event["type"] in ("order_returned", "order_cancelled"):
            order = placed[event["order_id"]]
            assert (order["sku"], order["quantity"]) == (event["sku"], event["quantity"])
            assert order["event_time"] < event["event_time"]
        if event["type"] == "order_returned":
            assert event["refund_minor"] == order["quantity"] * order["unit_price_minor"]
            begin, end = (np.datetime64(e["event_time"][:-1]) for e in (order, event))
            delays_days.append(float((end - begin) / np.timedelta64(1, "D")))
    assert 0.03 < counts["order_cancelled"] / counts["order_placed"] < 0.07
    assert 0.04 < counts["order_returned"] / counts["order_placed"] < 0.25
    assert 7.5 < np.mean(delays_days) < 9.5  # 9, less what is cut off at the end


def wanted_per_day(ln_price: float, days: int) -> tuple[float, Truth]:
    """Orders that customers want, met or lost, over all products."""
    settings = ShopSettings(products=150, late_share=0, family_share=0, rival_move_rate=0, **QUIET)
    shop = Shop(31, settings=settings)
    truth = shop.catalogue
    prices = {
        sku: round(int(price) * np.exp(ln_price))
        for sku, price in zip(truth.skus, truth.list_price_minor, strict=True)
    }
    run(shop, days, lambda: prices)
    return (shop.totals["orders"] + shop.totals["orders_lost"]) / days, truth


def test_demand_is_what_the_truth_says() -> None:
    """Orders at two prices agree with the true mean, and so with the true elasticity."""
    days = 30
    for ln_price in (0.0, 0.12):
        seen, truth = wanted_per_day(ln_price, days)
        n = len(truth.skus)
        rivals = np.where(np.arange(3) < truth.rivals[:, None], truth.rival_base, np.nan)
        counts = truth.rivals
        y = np.where(counts > 0, np.nansum(rivals, axis=1) / np.maximum(counts, 1), np.nan)
        x = np.full(n, ln_price)
        ln_demand = truth.log_demand(x, y, np.zeros(n))
        # E exp(shock) over the year's shocks, both halves: exp(0.2 ** 2 / 2)
        expected = truth.demand_rate_per_day * np.exp(ln_demand + 0.02)
        assert 0.93 < seen / expected.sum() < 1.07


def test_the_best_price_is_where_profit_is_flat() -> None:
    shop = Shop(17, products=60)
    run(shop, 2)
    truth = shop.truth()
    products = truth["products"]
    share = np.sum(products["profit_per_day_minor"]) / np.sum(products["best_profit_per_day_minor"])
    assert 0.7 < share < 0.99  # list prices are not the best ones: there is something to gain
    best = np.array(products["best_price_minor"]) / np.array(products["list_price_minor"])
    assert np.all((best > np.exp(-0.9)) & (best < np.exp(0.9)))  # inside the grid
    present = np.array(products["profit_per_day_minor"])
    assert np.all(np.array(products["best_profit_per_day_minor"]) >= present - 1e-6 * abs(present))


def test_return_rate_rises_with_price_and_for_new_customers() -> None:
    truth = draw_truth(ShopSettings(products=20), np.random.default_rng(2))
    at_list = np.zeros(len(truth.skus))
    assert np.all(truth.return_rate(at_list + 0.1, False) > truth.return_rate(at_list, False))
    assert np.all(truth.return_rate(at_list, True) > truth.return_rate(at_list, False))


def test_some_costs_are_unknown_some_of_them_only_for_a_while() -> None:
    settings = ShopSettings(products=60, late_share=0, unknown_cost_share=0.5, cost_change_rate=0)
    shop = Shop(4, settings=settings)
    listed: dict[str, int | None] = {}
    told: list[str] = []
    for _, event in decoded(run(shop, 25)):
        if event["type"] == "product_listed":
            listed[event["sku"]] = event["unit_cost_minor"]
        if event["type"] == "cost_changed":
            told.append(event["sku"])
    unknown = [sku for sku, cost in listed.items() if cost is None]
    assert 15 < len(unknown) < 45
    assert set(told) < set(unknown)
    assert len(told) == len(set(told)) > 5
    never = [
        sku
        for sku, day in zip(shop.catalogue.skus, shop.catalogue.cost_known_day, strict=True)
        if day == NEVER
    ]
    assert sorted(never) == sorted(set(unknown) - set(told))


def test_bad_records_and_repeats_come_in_the_share_asked_for() -> None:
    settings = ShopSettings(products=40, bad_share=0.1, duplicate_share=0.05)
    shop = Shop(8, settings=settings)
    records = run(shop, 10)
    refused = 0
    ids: Counter[str] = Counter()
    for topic, value in records:
        try:
            event = decode_event(topic, None, value).event
        except EventError:
            refused += 1
            continue
        ids[event.event_id] += 1
    bad = shop.bad_records
    accepted_by_the_codec = bad["unknown_product"] + bad["far_future"]
    assert refused == bad.total() - accepted_by_the_codec
    assert bad.keys() == BAD_KINDS.keys()
    good = len(records) - bad.total() - shop.repeats
    assert 0.085 < bad.total() / good < 0.115
    assert 0.03 < shop.repeats / good < 0.06  # what is about products is never repeated
    assert sum(count - 1 for count in ids.values()) == shop.repeats


def test_the_habit_follows_demand_within_its_step() -> None:
    shop = Shop(12, settings=ShopSettings(products=40, late_share=0, **QUIET))
    habit = CostPlusHabit(shop, 12)
    truth = shop.catalogue
    usual = truth.demand_rate_per_day * truth.units_per_order * 7
    before = {sku: int(truth.list_price_minor[i]) for i, sku in enumerate(truth.skus)}
    sold = [shop.units_sold.copy()]
    moves, surprises = [], []
    for day in range(60):
        prices = before | habit.prices()
        week = sold[-1] - sold[max(0, len(sold) - 8)]
        for i, sku in enumerate(truth.skus):
            if prices[sku] != before[sku]:
                assert day > 0
                moves.append(np.log(prices[sku] / before[sku]))
                surprises.append(np.log((week[i] + 1) / (usual[i] + 1)))
        before = prices
        run(shop, 1, habit.prices)
        sold.append(shop.units_sold.copy())
    assert len(moves) > 200
    assert np.max(np.abs(moves)) < STEP_LN_MAX + 0.002  # rounded up to a whole cent
    assert 0.02 < np.std(moves) < 0.08
    assert np.corrcoef(moves, surprises)[0, 1] > 0.15  # prices follow demand: endogenous


def test_truth_is_canonical_json_of_the_shop() -> None:
    shop = Shop(2, products=4)
    run(shop, 1)
    truth = json.loads(shop.truth_json())
    assert truth["at"] == "2025-01-07T00:00:00.000Z"
    assert truth["settings"]["products"] == 4
    assert truth["products"]["skus"] == list(shop.catalogue.skus)
    lengths = {len(values) for values in truth["products"].values()}
    assert lengths == {len(shop.catalogue.skus)}
    assert truth["totals"]["orders"] == shop.totals["orders"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("products", 0),
        ("step_hours", 5),
        ("step_hours", 0),
        ("traffic_hours", 0),
        ("bad_share", 0.6),
        ("start", "2025-01-06T01:00:00Z"),
        ("start", "2025-01-06"),
        ("start", "tomorrow"),
    ],
)
def test_a_shop_that_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ShopSettings(**{field: value})
    assert (caught.value.field, caught.value.value) == (field, str(value))


@pytest.mark.parametrize("at_ms", [0, 1, 59_999, 3_599_999, 3_600_000, 1_736_121_600_123])
def test_time_text_is_rfc3339(at_ms: int) -> None:
    text = TimeText()
    for offset in (0, 1, 61_001):
        assert text(at_ms + offset).decode() == rfc3339(at_ms + offset)
