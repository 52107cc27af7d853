"""The monitor: what each partition may do is too much for the whole, and both partitions stop."""

from collections.abc import Callable

import orjson
import pytest

from models.kernel.tile import Kernel
from schemas.events import BreakerTripped
from streams.settings import Settings
from streams.worker.engines import PricingEngines
from streams.worker.monitor import Monitor, WholeCatalogue
from streams.worker.pricer import publisher_gate
from streams.worker.routes import tape_partition
from streams.worker.worker import WorkerThread
from tests.models.tapes import Partition, at, event, policy
from tests.streams.spine import Shop, fresh_topics, read_topic, settings_for, wait_until

LIMITS = "[breaker]\ncatalogue_moved_count_min = 10\n"
PARTITIONS = 4


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


# -- the pure part


class Shops:
    """Two partitions, and the whole as the monitor has read it from their state."""

    def __init__(self, kernel: Kernel) -> None:
        self.parts = [Partition(kernel, number) for number in range(2)]
        self.whole = WholeCatalogue()
        for number, part in enumerate(self.parts):
            part.tick(at())
            part.send("policy_published", at(), **policy(LIMITS))
            for sku in self.skus(number):
                listing = {"unit_cost_minor": 500, "list_price_minor": 1400}
                part.send("product_listed", at(minutes=1), sku=sku, **listing)
            part.tick(at(minutes=2))

    def skus(self, number: int) -> list[str]:
        return [f"P{number}-{index}" for index in range(8)]

    def raise_costs(self, number: int, count: int, hours: float = 1.0) -> None:
        part = self.parts[number]
        for index, sku in enumerate(self.skus(number)[:count]):
            minor = int(1.2 * (part.engine.state.skus[sku].published_minor or 0)) + index
            part.send("cost_changed", at(hours=hours), sku=sku, unit_cost_minor=minor)

    def judge(self) -> BreakerTripped | None:
        for number, part in enumerate(self.parts):
            for key, value in part.stored.items():
                self.whole.take(number, key.decode(), value)
        return self.whole.judge()


@pytest.fixture
def shops(kernel: Kernel) -> Shops:
    return Shops(kernel)


def test_the_sum_of_two_partitions_is_beyond_what_each_may_do(shops: Shops) -> None:
    shops.raise_costs(0, 6)
    assert shops.judge() is None
    shops.raise_costs(1, 6)
    found = shops.judge()
    assert found is not None
    assert (found.event_id, found.event_time_ms) == ("monitor-2026-01-05", at(minutes=2))
    assert found.reason == "12 of 16 products moved by 5% or more, beyond a share of 0.5"
    assert found.evidence == {
        "moved": 12, "products": 16, "at_one_price": 1,
        "skus": [*shops.skus(0)[:6], *shops.skus(1)[:4]],
    }  # fmt: skip
    for part in shops.parts:
        assert part.engine.state.catalogue_breaker.state == "CLOSED"


def same(shops: Shops) -> None:
    """Nothing else happens."""


def next_day(shops: Shops) -> None:
    shops.parts[0].tick(at(days=1))


def retire(shops: Shops) -> None:
    for sku in shops.skus(0)[:3]:
        shops.parts[0].send("product_retired", at(hours=2), sku=sku)


def looser(shops: Shops) -> None:
    text = "[breaker]\ncatalogue_moved_count_min = 13\n"
    for part in shops.parts:
        part.send("policy_published", at(hours=2), **policy(text))


def looser_in_one(shops: Shops) -> None:
    text = "[breaker]\ncatalogue_moved_count_min = 13\n"
    shops.parts[0].send("policy_published", at(hours=2), **policy(text))


@pytest.mark.parametrize(
    ("then", "trips"),
    [(same, True), (next_day, False), (retire, False), (looser, False), (looser_in_one, True)],
)
def test_what_counts(shops: Shops, then: Callable[[Shops], None], trips: bool) -> None:
    """Moves of the furthest clock's day, of products on sale, by any policy in force."""
    shops.raise_costs(0, 6)
    shops.raise_costs(1, 6)
    then(shops)
    assert (shops.judge() is not None) == trips


def test_unrelated_products_that_meet_at_one_price_are_counted_together(kernel: Kernel) -> None:
    parts = [Partition(kernel, number) for number in range(2)]
    whole = WholeCatalogue()
    for number, part in enumerate(parts):
        part.tick(at())
        text = "[breaker]\nsame_price_count_max = 4\n[guards]\ntick_minor = {}\n"
        part.send("policy_published", at(), **policy(text.format(1)))
        for index in range(3):
            part.send(
                "product_listed", at(minutes=1), sku=f"P{number}-{index}",
                unit_cost_minor=500 + 30 * index + 10 * number, list_price_minor=1400,
            )  # fmt: skip
        coarse = text.format(1300) + "ceiling_list_price_ratio = 2.0\n"
        part.send("policy_published", at(hours=1), **policy(coarse))
        part.tick(at(hours=2))
        for key, value in part.stored.items():
            whole.take(number, key.decode(), value)
    found = whole.judge()
    assert found is not None
    assert found.reason.startswith("6 unrelated products moved to one price, ")


def test_a_look_that_changes_nothing_is_not_judged(shops: Shops) -> None:
    shops.raise_costs(0, 6)
    shops.judge()
    shops.judge()
    part = shops.parts[0]
    assert not shops.whole.changed
    fields = {"order_id": "1", "quantity": 1, "unit_price_minor": 1400}
    part.send("order_placed", at(hours=2), sku=shops.skus(0)[0], **fields)
    part.tick(at(hours=3))
    for key, value in part.stored.items():
        shops.whole.take(0, key.decode(), value)
    assert not shops.whole.changed


# -- on a broker


def families() -> list[str]:
    """Four names for each tape partition."""
    found: dict[int, list[str]] = {number: [] for number in range(PARTITIONS)}
    for number in range(200):
        name = f"P{number:03}"
        of = found[tape_partition(name, PARTITIONS)]
        if len(of) < 4:
            of.append(name)
    return [name for names in found.values() for name in names]


@pytest.mark.kafka
def test_the_trip_of_the_whole_arrives_in_all_partitions_of_two_workers(
    kafka_bootstrap: str, kernel: Kernel
) -> None:
    first = fresh_topics(kafka_bootstrap)
    second = settings_for(kafka_bootstrap, first.topics.prefix, "w2")
    shop, names = Shop(first), families()

    def send(topic: str, kind: str, minutes: float, sku: str | None = None, **fields) -> None:
        found = event(kind, at(minutes=minutes), f"{kind}-{sku}-{minutes}", **fields)
        shop.send(topic, [found | ({"sku": sku} if sku else {})])

    def latest() -> dict[str, int]:
        found = [orjson.loads(message.value()) for message in read_topic(first, "prices-latest")]
        return {price["sku"]: price["price_minor"] for price in found}

    def worker(settings: Settings) -> WorkerThread:
        return WorkerThread(settings, PricingEngines(kernel), gate=publisher_gate)

    send("controls", "clock_ticked", 0)
    send("controls", "policy_published", 0, **policy(LIMITS))
    with worker(first), worker(second):
        for name in names:
            costs = {"unit_cost_minor": 500, "list_price_minor": 1400}
            send("products", "product_listed", 1, name, **costs)
        send("controls", "clock_ticked", 2)
        wait_until(lambda: len(latest()) == len(names), "all are priced")
        for index, (name, minor) in enumerate(sorted(latest().items())):
            costs = {"unit_cost_minor": int(1.2 * minor) + index}
            send("products", "cost_changed", 3, name, **costs)
        wait_until(lambda: len(monitor_alerts(first)) == PARTITIONS, "all partitions open")
    assert {alert["evidence"]["products"] for alert in monitor_alerts(first)} == {len(names)}
    assert len(told(first)) == 1
    # a monitor that starts anew reads the same state, and that it was told
    again = Monitor(first, pytest.fail)
    assert again.look() is False
    assert again._told_day is not None
    again.close()
    assert len(told(first)) == 1


def monitor_alerts(settings: Settings) -> list[dict]:
    found = [orjson.loads(message.value()) for message in read_topic(settings, "alerts")]
    return [
        alert
        for alert in found
        if alert["message"].startswith("catalogue: CLOSED -> OPEN: monitor")
    ]


def told(settings: Settings) -> list[bytes]:
    values = [message.value() for message in read_topic(settings, "controls")]
    return [value for value in values if b"breaker_tripped" in value]
