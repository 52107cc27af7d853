"""Searches as a signal: only days before an epoch, and nothing where nothing is known."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from models.demand.search_history import DAYS_MAX, SearchHistory
from schemas.events import TrafficCounted
from tests.models.catalogues import catalogue

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def report(sku: str, day: int, searches: int | None) -> TrafficCounted:
    start = EPOCH + timedelta(days=day)
    return TrafficCounted(
        event_id=f"{sku}-{day}", event_time=start, sku=sku, from_time=start,
        to_time=start + timedelta(days=1), visits=100, searches=searches,
    )  # fmt: skip


def test_the_signal_is_of_the_days_before_the_epoch() -> None:
    episodes = catalogue(1, each=1)  # P000 and P001; an epoch ends every second day, from 0 on
    history = SearchHistory()
    assert history.signals(episodes) is None
    for day in range(20):
        history.add(report("P000", day, 5 if day < 7 else 20))
        history.add(report("P001", day, None))
    assert SearchHistory().signals(episodes) is None
    signals = history.signals(episodes)
    assert signals is not None
    assert signals.shape == (2, 20, 1)
    assert not signals[1].any()
    # epoch 5 begins on day 8: days 5, 6, 7 against days 0 to 4
    assert signals[0, 5, 0] == math.log((5 + 5 + 20 + 1) / 3) - math.log((5 * 5 + 1) / 5)
    assert signals[0, :2, 0].tolist() == [0.0, 0.0]
    history.add(report("P000", 8, 9_999))
    again = history.signals(episodes)
    assert again is not None
    assert again[0, :6].tolist() == signals[0, :6].tolist()
    assert again[0, 6, 0] > signals[0, 6, 0]


def test_only_the_last_days_of_a_product_are_kept() -> None:
    history = SearchHistory()
    for day in range(DAYS_MAX + 50):
        history.add(report("P000", day, 1))
    episodes = catalogue(1, each=1)
    late = episodes._replace(end_days=episodes.end_days + DAYS_MAX)
    early, kept = history.signals(episodes), history.signals(late)
    assert early is not None
    assert kept is not None
    assert not np.any(early)
    assert np.all(kept[0, 1:] != 0.0)
