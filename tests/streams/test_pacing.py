"""A feeder stays near the worker, and says so when nobody takes anything in."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.errors import ServiceError
from streams.kafka.kafka_settings import group_id, topic_name
from streams.settings import Settings
from streams.tape.pacing import GroupPace
from tests.streams.spine import Shop, fresh_topics, order, returned


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    return fresh_topics(kafka_bootstrap)


def take_in(settings: Settings, topic: str, partition: int, offset: int) -> None:
    """Commit as a worker would that has everything below ``offset`` on the tape."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap, "group.id": group_id(settings)}
    )
    place = TopicPartition(topic_name(settings, topic), partition, offset)
    consumer.commit(offsets=[place], asynchronous=False)
    consumer.close()


@pytest.mark.kafka
def test_what_is_sent_and_not_taken_in_is_counted_over_all_sources(settings: Settings) -> None:
    pace = GroupPace(settings, 5)
    assert pace.behind() == 0
    shop = Shop(settings)
    shop.send("orders", (order(number, "A") for number in range(7)))
    shop.send("returns", (returned(number, "A") for number in range(2)))
    assert pace.behind() == 9
    GroupPace(settings, 9)(9)  # near enough: it does not wait


@pytest.mark.kafka
def test_it_waits_until_the_group_has_come_near_enough(settings: Settings) -> None:
    shop = Shop(settings)
    shop.send("orders", (order(number, "A") for number in range(8)), partition=2)
    pace = GroupPace(settings, 5)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(pace, 8)
        take_in(settings, "orders", 2, 2)
        assert not waiting.done()  # 6 behind: still too far
        take_in(settings, "orders", 2, 3)
        waiting.result(timeout=30)
    assert pace.behind() == 5


@pytest.mark.kafka
def test_a_group_that_stands_still_ends_the_feed(settings: Settings) -> None:
    Shop(settings).send("orders", (order(number, "A") for number in range(3)))
    with pytest.raises(ServiceError) as caught:
        GroupPace(settings, 2, standstill_s=0.2)(3)
    assert caught.value.as_dict() == {
        "code": "group_stands_still",
        "message": f"group {group_id(settings)} stayed 3 records behind for 0 s.",
        "where": None,
        "field": None,
        "value": None,
        "expected": None,
        "fix": "Start a worker, or feed without --ahead.",
    }
