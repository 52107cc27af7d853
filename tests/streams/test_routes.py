"""Routes: where a SKU goes, known to everybody before anything follows its listing."""

import threading

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError, InputError
from streams.kafka import admin, kafka_settings
from streams.settings import Settings
from streams.worker.outbox import IntakeOutbox, Send
from streams.worker.routes import Route, RouteTable, encode_route, tape_partition
from streams.worker.transport import BatchAbandoned
from tests.streams.spine import Shop, fresh_topics, listing


@pytest.mark.parametrize(
    ("family", "partitions", "expected"),
    # (murmur2(key) & 0x7fffffff) % n, with the hashes of Kafka's own UtilsTest: "21" is
    # -973932308, "foobar" -790332482, "a-little-bit-long-string" -985981536.
    [
        ("21", 4, (-973932308 & 0x7FFFFFFF) % 4),
        ("foobar", 7, (-790332482 & 0x7FFFFFFF) % 7),
        ("a-little-bit-long-string", 12, (-985981536 & 0x7FFFFFFF) % 12),
    ],
)
def test_the_partition_of_a_family_is_javas(family: str, partitions: int, expected: int) -> None:
    assert tape_partition(family, partitions) == expected


@given(st.text(min_size=1, max_size=40), st.integers(1, 64))
def test_the_partition_of_any_family_exists(family: str, partitions: int) -> None:
    assert 0 <= tape_partition(family, partitions) < partitions


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def write(settings: Settings, sku: str, route: Route) -> None:
    IntakeOutbox(settings).send([Send("routes", sku.encode(), encode_route(sku, route))])


class Following(RouteTable):
    """A started table that keeps what went wrong."""

    def __init__(self, settings: Settings) -> None:
        self.failures: list[BaseException] = []
        self.failed = threading.Event()
        super().__init__(settings, self._failed)

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    def __enter__(self) -> "Following":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.mark.kafka
def test_what_was_there_is_known_at_the_start_and_the_rest_after_catching_up(
    settings: Settings,
) -> None:
    write(settings, "A", Route("fa", 1))
    with Following(settings) as routes:
        assert routes.get("A") == Route("fa", 1)
        assert routes.get("B") is None
        write(settings, "B", Route("fb", 2))
        routes.catch_up()
        assert routes.get("B") == Route("fb", 2)


@pytest.mark.kafka
def test_settling_waits_for_listings_that_intake_has_not_passed(settings: Settings) -> None:
    Shop(settings).send("products", [listing("A")], partition=2)
    with Following(settings) as routes:
        settled = threading.Event()

        def settle() -> None:
            routes.settle(lambda: True)
            settled.set()

        threading.Thread(target=settle, daemon=True).start()
        assert not settled.wait(0.5)  # the listing waits in products, and nobody has read it
        write(settings, "A", Route("A", 0))
        commit_products(settings, {2: 1})
        assert settled.wait(10)
        assert routes.get("A") == Route("A", 0)


@pytest.mark.kafka
def test_settling_ends_when_the_partitions_are_taken_away(settings: Settings) -> None:
    Shop(settings).send("products", [listing("A")])
    with Following(settings) as routes, pytest.raises(BatchAbandoned):
        routes.settle(lambda: False)


@pytest.mark.kafka
def test_a_transaction_marker_at_the_end_of_products_is_not_waited_for(settings: Settings) -> None:
    producer = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap, "transactional.id": settings.topics.prefix}
    )
    producer.init_transactions()
    producer.begin_transaction()
    name = settings.topics.prefix + "products"
    producer.produce(name, key="A", value=orjson.dumps(listing("A")), partition=1)
    producer.commit_transaction()
    with Following(settings) as routes:
        with pytest.raises(BatchAbandoned):
            routes.settle(lambda: False)  # the listing itself is not passed
        commit_products(settings, {1: 1})
        routes.settle(lambda: False)  # only the marker is left: no wait


def commit_products(settings: Settings, offsets: dict[int, int]) -> None:
    """What the products intake does once the listing is on the tape and its route is written."""
    group = {"group.id": kafka_settings.group_id(settings)}
    consumer = Consumer({**kafka_settings.reader_config(settings, "x"), **group})
    name = settings.topics.prefix + "products"
    places = [TopicPartition(name, partition, offset) for partition, offset in offsets.items()]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


@pytest.mark.kafka
def test_a_torn_route_ends_the_worker_and_says_where(settings: Settings) -> None:
    with Following(settings) as routes:
        IntakeOutbox(settings).send([Send("routes", b"A", b"{}", 2)])
        assert routes.failed.wait(10)
    [error] = routes.failures
    assert isinstance(error, InputError)
    assert (error.code, error.where) == ("torn_route", f"{settings.topics.prefix}routes[2]@0")


@pytest.mark.kafka
def test_a_tape_with_another_number_of_partitions_is_refused(settings: Settings) -> None:
    write(settings, "A", Route("foobar", tape_partition("foobar", 4)))
    with Following(settings) as routes:
        routes.check_partitions(admin.tape_partitions(settings))
        with pytest.raises(ConfigError) as caught:
            routes.check_partitions(7)
    assert (caught.value.code, caught.value.exit_code) == ("tape_partitions_changed", 2)
