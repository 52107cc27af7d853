"""Chunks through Faust on a real broker: nothing lost, nothing twice, through every rebalance."""

import signal
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.streams.spine import (
    SKUS,
    Shop,
    assert_exactly_once,
    fresh_topics,
    listing,
    order,
    returned,
    until_applied,
    until_state_grows,
    workers,
)

pytestmark = pytest.mark.kafka

EVENTS = 3_000


@pytest.fixture
def settings(kafka_bootstrap: str) -> Settings:
    settings = fresh_topics(kafka_bootstrap)
    Shop(settings).send("products", (listing(sku) for sku in SKUS))
    return settings


def load(settings: Settings, first: int, last: int) -> None:
    shop = Shop(settings)
    shop.send("orders", (order(number) for number in range(first, last)))
    shop.send("returns", (returned(number) for number in range(first, last, 3)))


SOURCES = ("products", "orders", "returns")


def test_a_join_and_a_graceful_stop_lose_and_double_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with workers(settings, tmp_path) as start:
        first = start("w1")
        load(settings, 0, EVENTS)
        second = start("w2")
        load(settings, EVENTS, 2 * EVENTS)
        until_state_grows(settings, EVENTS)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        load(settings, 2 * EVENTS, 2 * EVENTS + 500)
        until_applied(settings, *SOURCES)
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
    assert_exactly_once(settings, *SOURCES)


def test_kill_9_and_a_restart_lose_and_double_nothing(settings: Settings, tmp_path: Path) -> None:
    load(settings, 0, 20_000)
    with workers(settings, tmp_path) as start:
        first = start("w1")
        until_state_grows(settings, 2_000)
        first.signal(signal.SIGKILL)
        first.wait()
        load(settings, 20_000, 21_000)
        start("w1")
        until_applied(settings, *SOURCES)
    assert_exactly_once(settings, *SOURCES)


def test_a_stopped_worker_is_fenced_and_the_other_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    load(settings, 0, EVENTS)
    with workers(settings, tmp_path) as start:
        zombie = start("w1")
        until_state_grows(settings, 1_000)
        zombie.signal(signal.SIGSTOP)
        other = start("w2")
        load(settings, EVENTS, EVENTS + 1_000)
        until_applied(settings, *SOURCES)
        zombie.signal(signal.SIGCONT)
        load(settings, EVENTS + 1_000, EVENTS + 2_000)
        until_applied(settings, *SOURCES)
        other.signal(signal.SIGTERM)
        assert other.wait() == 0
    assert_exactly_once(settings, *SOURCES)
