"""Bad data: each kind has its stated effect, the belief stays proper, and it recovers."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fold.lessons import release
from models.fold.market import close_epoch
from models.fold.partition import PartitionState
from models.kernel.tile import Kernel
from schemas.codec import decode_event
from schemas.errors import EventError
from schemas.events import rfc3339
from schemas.learned import is_positive_definite
from tests.models.tapes import Partition, Seen, at, event

CLEAN_DAYS = 20
RECOVERY_DAYS = 60
RATE_PER_DAY = 4.0  # at the reference price of 1000
ELASTICITY = -2.5


class Incident(NamedTuple):
    """What a case leads to: codes of dead letters, kinds of alerts."""

    letters: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


class Market:
    """A shop with one product and customers who answer its price, without noise."""

    def __init__(self, kernel: Kernel) -> None:
        self.partition = Partition(kernel)
        self.day = 0
        self.owed = 0.0  # of an order line
        self.seen: list[Seen] = []
        self.send("product_listed", at(), attributes={"size": 2.0})
        self.send("inventory_changed", at(), on_hand=100_000)

    def send(self, kind: str, at_ms: int, **fields: Any) -> None:
        self.seen.append(self.partition.send(kind, at_ms, **fields))
        assert_proper(self.partition)

    def days(self, number: int) -> None:
        """Let clean days pass: orders by the price, and a tick at the end of each."""
        for _ in range(number):
            price = self.partition.state.published_minor
            self.owed += RATE_PER_DAY * (price / 1000.0) ** ELASTICITY
            orders = math.floor(self.owed)
            self.owed -= orders
            for index in range(orders):
                hours = 24.0 * (index + 0.5) / orders
                self.send(
                    "order_placed", at(self.day, hours), order_id=f"{self.day}-{index}",
                    unit_price_minor=price,
                )  # fmt: skip
            self.day += 1
            self.send("clock_ticked", at(self.day))

    def since(self, mark: int) -> Incident:
        """Dead letters and alerts since a mark in what was seen, breakers' moves left out."""
        found = self.seen[mark:]
        letters = [letter.headers["dl_error"] for seen in found for letter in seen.letters]
        alerts = [alert.kind for seen in found for alert in seen.alerts]
        return Incident(tuple(letters), tuple(kind for kind in alerts if kind != "breaker_changed"))


def assert_proper(partition: Partition) -> None:
    """Every belief is finite, positive definite, and neither certain nor boundless."""
    for state in partition.engine.state.skus.values():
        posterior = state.posterior
        assert all(math.isfinite(value) for value in (*posterior.mean, *posterior.cov))
        assert is_positive_definite(posterior.cov)
        variances = [posterior.cov[index] for index in (0, 4, 7, 9)]
        assert 1e-5 < min(variances) <= max(variances) < 10.0


def many_orders(shop: Market, number: int, *, over_hours: float, cancelled: bool) -> None:
    for index in range(number):
        hours = 1.0 + over_hours * index / number
        shop.send("order_placed", at(shop.day, hours), order_id=f"burst-{index}")
    if cancelled:
        for index in range(number):
            shop.send("order_cancelled", at(shop.day, 30), order_id=f"burst-{index}")


def relisted(shop: Market) -> None:
    fields: dict[str, Any] = {"category": "sofas", "attributes": {"size": "large"}}
    shop.send("product_listed", at(shop.day, 1), **fields)


def returned_without_order(shop: Market) -> None:
    shop.send("order_returned", at(shop.day, 1), order_id="never", quantity=500)
    assert shop.partition.state.unmatched_returns == 1


def more_returned_than_sold(shop: Market) -> None:
    shop.send("order_placed", at(shop.day, 1), order_id="x", quantity=2)
    for index in range(3):
        shop.send("order_returned", at(shop.day, 2 + index), order_id="x", quantity=2)
    assert shop.partition.state.unmatched_returns == 2
    cohorts = shop.partition.engine.state.cohorts["A"].values()
    assert sum(sum(cohort.returned) for cohort in cohorts) == 2.0


def sent_again(shop: Market) -> None:
    for index in range(3):
        shop.send("order_placed", at(shop.day, 1), order_id="x", event_id=f"again-{index}")
    assert shop.partition.state.epoch.orders == 1


def gigantic_then_cancelled(shop: Market) -> None:
    mean = shop.partition.state.posterior.size_units
    shop.send("order_placed", at(shop.day, 1), order_id="x", quantity=80_995)
    shop.send("order_cancelled", at(shop.day, 3), order_id="x", quantity=80_995)
    epoch = shop.partition.state.epoch
    assert (epoch.orders, epoch.units, epoch.capped_units) == (0, 0, 0)
    assert shop.partition.state.posterior.size_units == mean


def burst_then_cancelled(shop: Market) -> None:
    many_orders(shop, 300, over_hours=20.0, cancelled=True)


def burst_at_once(shop: Market) -> None:
    many_orders(shop, 300, over_hours=0.01, cancelled=False)


def no_traffic(shop: Market) -> None:
    for day in range(2):
        begin, end = at(shop.day + day), at(shop.day + day + 1)
        shop.send(
            "traffic_counted", end, visits=400 if day == 0 else 0,
            from_time=rfc3339(begin), to_time=rfc3339(end),
        )  # fmt: skip
        if day == 0:
            for index in range(12):
                shop.send("order_placed", at(shop.day + 1, index + 1), order_id=f"t-{index}")
    shop.send("clock_ticked", at(shop.day + 2))
    shop.day += 2


def absurd_rivals(shop: Market) -> None:
    for index, price in enumerate((1, 10**12, 3)):
        shop.send(
            "competitor_price_observed", at(shop.day, 1 + index), price_minor=price,
            competitor=f"rival {index}",
        )  # fmt: skip
    assert shop.partition.state.epoch.ln_rival is None


CASES: list[tuple[Callable[[Market], None], Incident]] = [
    (relisted, Incident(alerts=("data_quality",))),
    (returned_without_order, Incident()),
    (more_returned_than_sold, Incident()),
    (sent_again, Incident(letters=("duplicate_line", "duplicate_line"))),
    (gigantic_then_cancelled, Incident()),
    (burst_then_cancelled, Incident(alerts=("data_quality",))),
    (burst_at_once, Incident(alerts=("data_quality",))),
    (absurd_rivals, Incident(alerts=("data_quality",))),
]


@pytest.fixture(scope="module")
def clean(kernel: Kernel) -> Market:
    """A market in which nothing ever went wrong."""
    shop = Market(kernel)
    shop.days(CLEAN_DAYS + 2 + RECOVERY_DAYS)
    return shop


@pytest.mark.parametrize(("happens", "expected"), CASES, ids=[c[0].__name__ for c in CASES])
def test_it_has_its_stated_effect_and_is_forgotten(
    kernel: Kernel, clean: Market, happens: Callable[[Market], None], expected: Incident
) -> None:
    shop = Market(kernel)
    shop.days(CLEAN_DAYS)
    mark = len(shop.seen)
    happens(shop)
    shop.days(2)
    assert shop.since(mark) == expected
    shop.days(RECOVERY_DAYS)
    learned, twin = shop.partition.state.posterior, clean.partition.state.posterior
    assert abs(learned.mean[0] - twin.mean[0]) < 0.25
    assert abs(learned.mean[1] - twin.mean[1]) < 0.35
    for index in (0, 4):
        assert 0.5 < learned.cov[index] / twin.cov[index] < 2.0


def test_a_burst_that_is_cancelled_in_quarantine_leaves_no_trace(
    kernel: Kernel, clean: Market
) -> None:
    shop = Market(kernel)
    shop.days(CLEAN_DAYS)
    before = shop.partition.state.posterior
    burst_then_cancelled(shop)
    held = shop.partition.state.quarantine
    assert held is not None
    assert held.epoch.orders + shop.partition.state.epoch.orders < 10
    after = shop.partition.state.posterior
    assert (after.mean, after.orders) == (before.mean, before.orders)


def test_a_burst_that_stays_is_learned_capped(kernel: Kernel) -> None:
    shop, twin = Market(kernel), Market(kernel)
    for each in (shop, twin):
        each.days(CLEAN_DAYS)
    burst_at_once(shop)
    for each in (shop, twin):
        each.days(14)
    learned, without = shop.partition.state.posterior, twin.partition.state.posterior
    assert shop.partition.state.quarantine is None
    assert 0 < learned.orders - without.orders < 100  # of 300
    assert abs(learned.mean[0] - without.mean[0]) < 0.3


def test_the_observer_is_told_of_what_leaves_quarantine(kernel: Kernel) -> None:
    shop, told = Market(kernel), list[int]()
    shop.days(CLEAN_DAYS)
    before = shop.partition.state.posterior
    shop.partition.engine.state.observer = lambda entry, epoch, seen, now_ms: told.append(
        seen.orders
    )
    burst_at_once(shop)
    shop.days(14)
    after = shop.partition.state.posterior
    assert (len(told), sum(told)) == (after.epochs - before.epochs, after.orders - before.orders)


def test_sales_are_compared_with_the_belief_that_what_left_quarantine_taught(
    kernel: Kernel,
) -> None:
    shop = Market(kernel)
    shop.days(CLEAN_DAYS)
    burst_at_once(shop)
    shop.days(1)
    partition = shop.partition.engine.state
    twin = PartitionState.restore(0, partition.all_records(), kernel.fingerprint)
    released_ms = shop.partition.state.quarantine.release_ms
    release(twin, twin.skus["A"], released_ms)
    found, expected = (close_epoch(each, each.skus["A"], released_ms) for each in (partition, twin))
    assert found.sales_ratio == expected.sales_ratio


def test_orders_without_traffic_imply_it(kernel: Kernel) -> None:
    shop = Market(kernel)
    shop.days(CLEAN_DAYS)
    mark = len(shop.seen)
    no_traffic(shop)
    assert shop.since(mark) == Incident(alerts=("data_quality",))
    assert shop.partition.state.posterior.orders > 0


@pytest.mark.parametrize(
    ("topic", "fields", "field"),
    [
        ("orders", event("order_placed", at(), "e", order_id="o", unit_price_minor=0),
         "unit_price_minor"),
        ("orders", event("order_placed", at(), "e", order_id="o", quantity=0), "quantity"),
        ("products", event("product_listed", at(), "e", unit_cost_minor=0), "unit_cost_minor"),
        ("products", event("price_applied", at(), "e", price_minor=0), "price_minor"),
        ("competitor-prices", event("competitor_price_observed", at(), "e", price_minor=0),
         "price_minor"),
        ("inventory", event("inventory_changed", at(), "e", on_hand=-3), "on_hand"),
        ("traffic", event("traffic_counted", at(), "e", visits=-1, from_time=rfc3339(at()),
                          to_time=rfc3339(at(1))), "visits"),
    ],
    ids=["order price 0", "order of 0", "cost 0", "applied price 0", "rival 0", "stock", "visits"],
)  # fmt: skip
def test_numbers_that_cannot_be_never_reach_the_tape(
    topic: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(EventError) as refused:
        decode_event(topic, None, orjson.dumps(fields))
    assert (refused.value.code, refused.value.field) == ("invalid_field", field)


quantities = st.integers(1, 20) | st.integers(1, 10_000_000)
prices = st.integers(700, 1300) | st.integers(1, 10**12)
orders = st.integers(0, 9).map(str)
minutes = st.integers(1, 60) | st.integers(1, 3 * 24 * 60)
NASTY = st.one_of(
    st.tuples(st.just("order_placed"), st.fixed_dictionaries(
        {"order_id": orders, "quantity": quantities, "unit_price_minor": prices})),
    st.tuples(st.just("order_cancelled"), st.fixed_dictionaries(
        {"order_id": orders, "quantity": quantities})),
    st.tuples(st.just("order_returned"), st.fixed_dictionaries(
        {"order_id": orders, "quantity": quantities})),
    st.tuples(st.just("competitor_price_observed"), st.fixed_dictionaries(
        {"price_minor": prices, "competitor": orders})),
    st.tuples(st.just("inventory_changed"), st.fixed_dictionaries(
        {"on_hand": st.integers(0, 10**9)})),
    st.tuples(st.just("traffic_counted"), st.fixed_dictionaries(
        {"visits": st.integers(0, 50) | st.integers(0, 10**12)})),
    st.tuples(st.just("price_applied"), st.fixed_dictionaries({"price_minor": prices})),
    st.tuples(st.just("cost_changed"), st.fixed_dictionaries(
        {"unit_cost_minor": st.none() | prices})),
    st.tuples(st.just("product_listed"), st.fixed_dictionaries(
        {"category": orders, "attributes": st.dictionaries(
            orders, st.floats(-1e300, 1e300) | orders, max_size=3)})),
    st.tuples(st.just("clock_ticked"), st.just({})),
    st.tuples(st.just("burst"), st.just({})),
)  # fmt: skip


def events_of(
    kind: str, now_ms: int, before_ms: int, fields: dict[str, Any]
) -> Iterable[tuple[str, dict[str, Any]]]:
    if kind == "burst":
        return [("order_placed", {"order_id": f"{now_ms}-{i}"}) for i in range(60)]
    if kind == "traffic_counted":
        fields = fields | {"from_time": rfc3339(before_ms), "to_time": rfc3339(now_ms)}
    return [(kind, fields)]


@settings(max_examples=60, deadline=None)
@given(tape=st.lists(st.tuples(minutes, NASTY), max_size=40))
def test_no_sequence_of_events_spoils_a_belief(kernel: Kernel, tape) -> None:
    partition = Partition(kernel)
    partition.send("product_listed", at())
    now_ms = at()
    for wait, (kind, fields) in tape:
        before_ms, now_ms = now_ms, now_ms + wait * 60_000
        for sent, given_fields in events_of(kind, now_ms, before_ms, fields):
            partition.send(sent, now_ms, **given_fields)
        posterior = partition.state.posterior
        assert all(math.isfinite(value) for value in (*posterior.mean, *posterior.cov))
        assert is_positive_definite(posterior.cov)
        assert min(posterior.cov[0], posterior.cov[4]) > 1e-6
