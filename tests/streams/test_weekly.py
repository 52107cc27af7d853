"""Weeks of demand from events, and the trap of price lists: a made-up shop whose truth is known."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import orjson
import pytest

from models.demand import demand
from models.prior.prior import DEFAULT_PRIOR, adapt
from schemas.events import DAY_MS, rfc3339
from streams.adapters.online_retail import Assumptions, Converter
from streams.adapters.rows import NO_MATCH, ORDER, Row
from streams.adapters.weekly import (
    ProductWeeks,
    Segment,
    Week,
    observations,
    weekly_demand,
)

TRUE_ELASTICITY = -2.0
WEEKS, PRODUCTS = 40, 24


def record(kind: str, day: float, **more: object) -> tuple[bytes, bytes]:
    topic = b"orders" if kind.startswith("order") else b"products"
    event = {"type": kind, "event_time": rfc3339(round(day * DAY_MS)), "sku": "A"}
    return topic, orjson.dumps(event | more)


def line(number: int, day: float, segment: str = "account") -> tuple[bytes, bytes]:
    return record("order_placed", day, order_id=f"O{number}", line_id="1", segment=segment)


def test_a_week_has_its_segments_open_days_and_lines_net_of_cancellations() -> None:
    made = [
        record("product_listed", 100.0, category="bags"),
        record("price_applied", 100.0, price_minor=210),
        line(0, 100.0, "guest"),
        line(1, 101.0),  # the first account line: weeks begin on day 107
        record("price_applied", 101.0, price_minor=100),
        line(2, 107.5),
        line(3, 109.25),
        record("price_applied", 109.25, price_minor=90),
        line(4, 109.25),
        line(5, 112.0),
        record("order_cancelled", 112.5, order_id="O5", line_id="1"),
        line(6, 122.0),  # day 121 is missing: the third week is not whole
    ]
    assert weekly_demand(made) == {
        "A": ProductWeeks(
            "bags",
            100,
            (
                Week(1, 100, 3.0, 3, (Segment(100, 1.25, 1), Segment(90, 1.75, 2))),
                Week(2, 90, 0.0, 0, (Segment(90, 0.0, 0),)),
            ),
        )
    }


def test_an_observation_is_a_segment_of_open_time() -> None:
    week = Week(1, 100, 2.0, 3, (Segment(100, 2.0, 3), Segment(50, 0.0, 0)))
    (seen,) = observations(week, 200)
    assert seen.features == (math.log(0.5), None, 0.0)
    assert (seen.orders, seen.exposure_days) == (3, 2.0)


def shop_rows(rng: np.random.Generator) -> Iterator[Row]:
    """Account lines of 4 units, a seventh of them bulk: 40 units at 15 % less; guests pay double.

    The account price of each product moves every eight weeks; demand has one true elasticity.
    """
    prices = np.round(500 * np.exp(rng.normal(0.0, 0.1, (PRODUCTS, WEEKS // 8 + 1))))
    number = 0
    for day in range(WEEKS * 7):
        for product in range(PRODUCTS):
            price = int(prices[product, day // 56])
            for _ in range(rng.poisson(2.0 * (price / 500) ** TRUE_ELASTICITY)):
                customer = "" if rng.random() < 0.25 else f"c{number}"
                is_bulk = customer != "" and rng.random() < 0.15
                paid = round(price * (0.85 if is_bulk else 1.0 if customer else 2.0))
                yield Row(
                    number, day * DAY_MS, f"I{number}", ORDER, f"P{product:02}",
                    40 if is_bulk else 4 if customer else 1, paid, customer, "United Kingdom",
                    None, NO_MATCH,
                )  # fmt: skip
                number += 1


def naive_slopes(rows: list[Row]) -> tuple[float, float]:
    """Ln units, and ln lines, on ln(mean price paid) by week, an intercept for each product."""
    units, money, lines = Counter[tuple[str, int]](), Counter[tuple[str, int]](), Counter()
    for row in rows:
        key = row.sku, row.at_ms // (7 * DAY_MS)
        units[key] += row.quantity
        money[key] += row.quantity * row.unit_price_minor
        lines[key] += 1
    slopes = []
    for counts in (units, lines):
        x, y = [], []
        for sku in sorted({sku for sku, _ in units}):
            keys = sorted(key for key in units if key[0] == sku)
            price = np.log([money[key] / units[key] for key in keys])
            count = np.log([counts[key] for key in keys])
            x.append(price - price.mean())
            y.append(count - count.mean())
        ln_price, ln_count = np.concatenate(x), np.concatenate(y)
        slopes.append(float(ln_price @ ln_count / (ln_price @ ln_price)))
    return slopes[0], slopes[1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_price_lists_mislead_a_regression_on_what_was_paid_and_not_the_adapter(seed: int) -> None:
    rows = list(shop_rows(np.random.default_rng(seed)))
    on_units, on_lines = naive_slopes(rows)
    converter = Converter(Assumptions())
    products = weekly_demand(made for row in rows for made in converter.convert(row))
    learned = []
    for product in products.values():
        posterior, _ = adapt(DEFAULT_PRIOR, product.category, {}, 0)
        for week in product.weeks:
            for seen in observations(week, product.reference_price_minor):
                posterior = demand.learn(posterior, seen, (week.week + 1) * 7 * DAY_MS)
        learned.append(posterior)
    weight = [1.0 / posterior.cov[4] for posterior in learned]
    pooled = np.average([posterior.mean[1] for posterior in learned], weights=weight)
    covered = sum(
        low < TRUE_ELASTICITY < high for low, high in map(demand.elasticity_interval, learned)
    )
    assert on_units < TRUE_ELASTICITY - 1.0  # a bulk order is both large and cheap
    assert on_lines > TRUE_ELASTICITY + 0.4  # the mix of lists is noise in the price: attenuation
    assert abs(pooled - TRUE_ELASTICITY) < 0.3  # and a part of that is the prior's -2.62
    assert covered >= 0.8 * PRODUCTS
