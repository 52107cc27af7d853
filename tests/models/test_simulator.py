"""The simulated shop: repeatable, valid, true to the demand it claims, and closed in its loop."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from models.simulator.simulator import Shop
from models.simulator.simulator_events import BAD_KINDS, TimeText
from models.simulator.simulator_habit import STEP_LN_MAX, CostPlusHabit
from models.simulator.simulator_tables import best_ln_price, profit_per_day_minor
from models.simulator.simulator_truth import WORLD, ShopSettings, Truth, draw_truth, world_settings
from models.simulator.world import World, WorldSettings
from models.simulator.world_truth import NEVER, Draws
from schemas.codec import decode_event
from schemas.errors import ConfigError, EventError
from schemas.events import rfc3339

QUIET = {"duplicate_share": 0.0, "bad_share": 0.0}


ONE_OFFER = ShopSettings(
    products=150,
    late_share=0,
    family_share=0,
    rival_move_rate=0,
    **QUIET,  # type: ignore[arg-type]
)


def run(shop: Shop, days: int, prices: Callable[[], Mapping[str, int]] = dict) -> list[Any]:
    return [record for _ in range(24 * days) for record in shop.step(prices())]


def decoded(records: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(topic, json.loads(value)) for topic, value in records]


def test_the_same_seed_and_prices_give_the_same_bytes() -> None:
    settings = ShopSettings(products=15, bad_share=0.05)
    one, two = Shop(5, settings=settings), Shop(5, settings=settings)
    habits = CostPlusHabit(one, 5), CostPlusHabit(two, 5)
    assert run(one, 20, habits[0].prices) == run(two, 20, habits[1].prices)
    assert one.totals == two.totals
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
    truth = draw_truth(ShopSettings(products=200, late_share=0.3, family_share=0.3), Draws(1))
    own = [family or sku for sku, family in zip(truth.skus, truth.families, strict=True)]
    heirs = np.flatnonzero(truth.products.predecessor >= 0)
    assert len(heirs) > 10
    for heir in heirs.tolist():
        old = int(truth.products.predecessor[heir])
        assert own[heir] == own[old]
        assert truth.categories[heir] == truth.categories[old]
        assert truth.roles[heir] == truth.roles[old]
    for i, anchor in enumerate(truth.anchors):
        assert (truth.roles[i] == "addition") == (anchor >= 0)
        if anchor >= 0:
            assert (truth.roles[anchor], own[anchor]) == ("anchor", own[i])
            assert truth.products.cross[i, truth.products.slot[anchor]] < 0.0


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
    placed: dict[tuple[str, str], dict[str, Any]] = {}
    delays_days: list[float] = []
    counts: Counter[str] = Counter()
    for _, event in decoded(run(shop, 60)):
        counts[event["type"]] += 1
        line = event.get("order_id"), event.get("line_id")
        if event["type"] == "order_placed":
            assert line not in placed
            placed[line] = event
        if event["type"] in ("order_returned", "order_cancelled"):
            order = placed[line]
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
    shop = Shop(31, settings=ONE_OFFER)
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
        x = np.full(len(truth.skus), ln_price)
        demand = Shop(31, settings=ONE_OFFER).demand
        # E exp(shock) over the year's shocks, both halves: exp(0.2 ** 2 / 2)
        expected = np.exp(demand.steady_ln_rate(x, truth.products.rival_base) + 0.02)
        assert 0.93 < seen / expected.sum() < 1.07


def test_the_best_price_is_where_profit_is_flat() -> None:
    shop = Shop(17, products=60)
    run(shop, 2)
    best_x, x = best_ln_price(shop), shop.ln_price
    best, present = profit_per_day_minor(shop, best_x), profit_per_day_minor(shop, x)
    assert 0.7 < present.sum() / best.sum() < 0.99  # there is something to gain
    assert np.all(np.abs(best_x) < 0.9)  # inside the grid
    for other in (x, best_x - 0.005, best_x + 0.005):
        assert np.all(best >= profit_per_day_minor(shop, other) - 1e-9 * np.abs(best))


def test_return_rate_rises_with_price_and_for_new_customers() -> None:
    demand = Shop(2, products=20).demand
    at_list = np.zeros(len(demand.shock))
    assert np.all(demand.return_rate(at_list + 0.1) > demand.return_rate(at_list))
    assert np.all(demand.return_rate(at_list, new_customer=True) > demand.return_rate(at_list))


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


def test_a_shop_s_visitors_do_not_depend_on_its_prices() -> None:
    """Shops that share a seed share their customers: dearer, each product sells no more."""
    settings = replace(ONE_OFFER, world=replace(WORLD, memory_effect=0.0))
    cheap, dear = Shop(3, settings=settings), Shop(3, settings=settings)
    catalogue = cheap.catalogue
    prices = dict(zip(catalogue.skus, catalogue.list_price_minor.tolist(), strict=True))
    dearer = {sku: round(1.1 * price) for sku, price in prices.items()}
    visits: list[Any] = []
    wanted: list[Counter[str]] = []
    for shop, chosen in ((cheap, prices), (dear, dearer)):
        shop._market.on_hand = [1_000_000] * len(catalogue.skus)  # as much as anyone wants
        records = []
        for hour in range(24 * 5):
            records += shop.step(chosen)
            if hour == 0:
                shop._market.on_hand = [1_000_000] * len(catalogue.skus)
        found = decoded(records)
        visits.append([(e["sku"], e["visits"]) for _, e in found if e["type"] == "traffic_counted"])
        day_sku = (e["event_time"][:10] + e["sku"] for _, e in found if e["type"] == "order_placed")
        wanted.append(Counter(day_sku))
    assert visits[0] == visits[1]
    assert all(count <= wanted[0][place] for place, count in wanted[1].items())
    assert wanted[1].total() < wanted[0].total()


def test_the_reference_shop_has_the_reference_world_s_products() -> None:
    """One truth, two steppers: what both sell of it agrees, too."""
    settings = ShopSettings(
        preset="reference", products=80, rival_move_rate=0, world=WorldSettings(shock_sd=0.0),
        **QUIET,
    )  # fmt: skip
    shop = Shop(7, settings=settings)
    world = World(7, world_settings(settings))
    for ours, theirs in zip(shop.catalogue.products, world.products, strict=True):
        assert np.array_equal(ours, theirs)
    days = 40
    run(shop, days)
    rates = np.exp(world.steady_log_rate(np.zeros(80), follows=False)).sum()
    wanted = shop.totals["orders"] + shop.totals["orders_lost"]
    assert abs(wanted - days * rates) < 4.0 * np.sqrt(days * rates) + 0.01 * days * rates
    still = replace(world_settings(settings), rival_noise_sd=0.0)
    arrays = World(7, still)
    stepped = sum(arrays.step(np.zeros(80)).orders.sum() for _ in range(days))
    assert abs(stepped - days * rates) < 4.0 * np.sqrt(days * rates)


def test_an_addition_is_bought_together_with_its_anchor() -> None:
    settings = ShopSettings(
        products=60, late_share=0, family_share=0.6, basket_share=0.8, step_hours=24,
        traffic_hours=24, **QUIET,
    )  # fmt: skip
    shop = Shop(5, settings=settings)
    index = {sku: i for i, sku in enumerate(shop.catalogue.skus)}
    orders: dict[str, list[dict[str, Any]]] = {}
    for _, event in decoded([record for _ in range(30) for record in shop.step({})]):
        if event["type"] == "order_placed":
            orders.setdefault(event["order_id"], []).append(event)
    baskets = [lines for lines in orders.values() if len(lines) > 1]
    assert len(baskets) > 50
    for lines in baskets:
        assert [line["line_id"] for line in lines] == [str(k + 1) for k in range(len(lines))]
        assert len({line["event_time"] for line in lines}) == 1
        assert len({(line["segment"], line["channel"]) for line in lines}) == 1
        assert len({shop.catalogue.families[index[line["sku"]]] for line in lines}) == 1
        assert len({line["sku"] for line in lines}) == len(lines)
        roles = [shop.catalogue.roles[index[line["sku"]]] for line in lines]
        assert set(roles) <= {"anchor", "addition"}
        assert roles.count("anchor") <= 1
    alone = replace(settings, basket_share=0.0)
    single = Shop(5, settings=alone)
    records = decoded([record for _ in range(30) for record in single.step({})])
    placed = [e["order_id"] for _, e in records if e["type"] == "order_placed"]
    assert len(placed) == len(set(placed))
    wanted = [s.totals["orders"] + s.totals["orders_lost"] for s in (single, shop)]
    assert wanted[0] == wanted[1]  # baskets join orders, and make none


def test_newsletter_buyers_hardly_react() -> None:
    world = replace(WORLD, channel_shares=(0.5, 0.5), channel_elasticity=(0.0, 2.0))
    settings = replace(
        ONE_OFFER, channels=("web", "newsletter"), channel_shares=(0.5, 0.5), world=world
    )
    counts = {}
    for ln_price in (0.0, 0.2):
        shop = Shop(4, settings=settings)
        catalogue = shop.catalogue
        prices = {
            sku: round(price * np.exp(ln_price))
            for sku, price in zip(catalogue.skus, catalogue.list_price_minor.tolist(), strict=True)
        }
        found = decoded(run(shop, 6, lambda prices=prices: prices))
        counts[ln_price] = Counter(e["channel"] for _, e in found if e["type"] == "order_placed")
    reaction = {
        channel: np.log(counts[0.2][channel] / counts[0.0][channel]) / 0.2
        for channel in ("web", "newsletter")
    }
    assert reaction["web"] < -1.8
    assert reaction["newsletter"] - reaction["web"] == pytest.approx(2.0, abs=0.5)


def test_promotions_are_told_a_day_ahead_and_made() -> None:
    settings = replace(ONE_OFFER, products=12, promotion_rate=0.05)
    shop = Shop(6, settings=settings)
    habit = CostPlusHabit(shop, 6)
    applied: dict[str, tuple[str, int]] = {}
    promotions = 0
    ended: dict[str, tuple[str, float, int]] = {}
    for topic, event in decoded(run(shop, 60, habit.prices)):
        if event["type"] == "promotion_scheduled":
            assert topic == "controls"
            (sku,) = event["skus"]
            assert event["event_time"] < event["from_time"]
            ended[sku] = (event["from_time"], event["depth"], applied[sku][1])
            promotions += 1
        if event["type"] == "price_applied":
            start = ended.get(event["sku"])
            if start is not None and event["event_time"] == start[0]:
                before = applied[event["sku"]][1]
                move = np.log(event["price_minor"] / before) - np.log(1.0 - start[1])
                assert abs(move) < STEP_LN_MAX + 0.01  # the habit's own step may fall on that day
                promotions += 100
            applied[event["sku"]] = event["event_time"], event["price_minor"]
    told, made = promotions % 100, promotions // 100
    assert told > 10
    assert told - 3 <= made <= told  # the last ones begin after the end


def test_the_calendar_is_told_first_and_known_by_its_content() -> None:
    calendar = {"2025-01-15": ("pay_day",), "2025-01-10": ("epiphany", "day_after")}
    settings = replace(ONE_OFFER, products=3, world=replace(WORLD, calendar=calendar))
    topic, first = decoded(Shop(1, settings=settings).step({}))[0]
    assert (topic, first["type"]) == ("controls", "calendar_published")
    assert first["calendar"] == {day: list(kinds) for day, kinds in calendar.items()}
    text = json.dumps(first["calendar"], sort_keys=True, separators=(",", ":"))
    assert first["calendar_sha256"] == sha256(text.encode()).hexdigest()


def test_searches_are_counted_where_they_lead() -> None:
    world = replace(WORLD, searches_per_order=5.0, search_effect=0.3)
    watched = Shop(3, settings=replace(ONE_OFFER, products=4, world=world))
    plain = Shop(3, settings=replace(ONE_OFFER, products=4))
    for shop, counts in ((watched, True), (plain, False)):
        found = [e for _, e in decoded(run(shop, 2)) if e["type"] == "traffic_counted"]
        assert [("searches" in event) for event in found] == [counts] * len(found)
        assert not counts or sum(event["searches"] for event in found) > 10


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
