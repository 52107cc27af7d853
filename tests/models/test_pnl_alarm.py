"""The P&L's drift alarm: its false rate, how fast it fires, and what a sum of products says."""

import numpy as np
import pytest

from models.pnl.pnl_alarm import ALARM_DAYS, Direction, Sums, Watched, limit_nats, watch
from streams.explain.pnl_alarms import AlarmDay, PnlAlarm, alarm_days

DAYS = 40_000


def run(ratio: float, days: int) -> list[tuple[int, Direction]]:
    counts = np.random.default_rng(1).poisson(4.0 * ratio, days)
    sums, found = Sums(), list[tuple[int, Direction]]()
    for day, orders in enumerate(counts.tolist()):
        seen = Watched(orders=orders, expected=4.0, dispersion=0.0, doubt_sd=0.0)
        sums, fired = watch(sums, seen, limit_nats(ALARM_DAYS))
        if fired is not None:
            found.append((day, fired))
    return found


def test_false_alarms_are_at_most_as_many_as_set() -> None:
    assert len(run(1.0, DAYS)) <= DAYS / ALARM_DAYS


@pytest.mark.parametrize(("ratio", "way"), [(0.5, "down"), (1.5, "up")])
def test_a_break_fires_within_weeks_and_the_right_way(ratio: float, way: str) -> None:
    day, found = run(ratio, 60)[0]
    assert found == way
    assert day < 30


def test_a_day_without_expectation_changes_nothing() -> None:
    none = Watched(orders=3, expected=0.0, dispersion=0.1, doubt_sd=0.1)
    assert watch(Sums(1.0, 2.0), none, 7.0) == (Sums(1.0, 2.0), None)


def test_a_common_shock_shows_in_the_sum_first() -> None:
    half = Watched(orders=1, expected=2.0, dispersion=0.0, doubt_sd=0.0)
    skus = [f"S{number}" for number in range(30)]
    found = alarm_days({(sku, day): half for sku in skus for day in (0, 1, 2)},
                       dict.fromkeys(skus, "toys"), 1000.0)  # fmt: skip
    fired = [(one.scope, one.name, one.day) for one in found if one.seen.fired == "down"]
    assert fired == [("catalogue", "all", 2), ("category", "toys", 2)]
    assert found[2] == PnlAlarm(
        scope="catalogue", name="all", day=2,
        seen=AlarmDay(down_nats=0.0, up_nats=0.0, limit_nats=limit_nats(1000.0), fired="down"),
    )  # fmt: skip
