"""Open cohorts as columns: the same whatever the history of the table's rows."""

import random

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from models.returns.cohorts import new_cohort, sell
from models.returns.open_cohorts import ROWS_FIRST, Cohorts, OpenCohorts
from schemas.events import DAY_MS
from schemas.learned import DELAY_DAYS, ReturnCohort

DAYS, SKUS, SEGMENTS = range(100, 109), ("A", "B/1", "C"), ("web", "app", "all")


def shop(rng: random.Random) -> list[tuple[str, ReturnCohort]]:
    """More cohorts than a new table has rows."""
    found = []
    for sku in SKUS:
        for day in DAYS:
            for segment in SEGMENTS:
                cohort = new_cohort(sku, segment, day * DAY_MS)
                sell(cohort, "a", rng.randint(1, 9), rng.gauss(0.0, 1.0), day * DAY_MS)
                found.append((f"{day}/{segment}", cohort))
    assert len(found) > ROWS_FIRST
    return found


def told(found: Cohorts) -> list[tuple[object, ...]]:
    """Columns as rows that name products and segments."""
    rows = zip(
        [found.owners[place] for place in found.owner],
        found.day.tolist(),
        [found.segments[place] for place in found.segment],
        *(column.tolist() for column in found[5:13]),
        found.returned.T.tolist(),
        strict=True,
    )
    return list(rows)


def as_told(cohort: ReturnCohort) -> tuple[object, ...]:
    return (
        cohort.sku,
        cohort.day,
        cohort.segment,
        cohort.milestones_done,
        cohort.sold,
        cohort.ln_price_sum,
        cohort.rival_sold,
        cohort.ln_rival_sum,
        cohort.units_left,
        len(cohort.lines),
        cohort.exposed_share,
        cohort.returned,
    )


@pytest.mark.parametrize("seed", range(3))
def test_rows_come_by_product_day_and_segment_whatever_came_before(seed: int) -> None:
    rng = random.Random(seed)
    cohorts = shop(rng)
    table = OpenCohorts(rng.sample(cohorts, len(cohorts)))
    gone = rng.sample(cohorts, 30)
    for name, cohort in gone:
        table.drop(name, cohort)
    for name, cohort in gone[10:]:
        table.put(name, cohort)
    left = [cohort for name, cohort in cohorts if (name, cohort) not in gone[:10]]
    changed = rng.choice(left)
    sell(changed, "b", 3, 0.5, changed.day * DAY_MS, ln_rival=-0.5)
    table.put(f"{changed.day}/{changed.segment}", changed)

    of_products = table.of_products(["C", "unknown", "A"])
    wanted = [one for sku in ("C", "A") for one in left if one.sku == sku]
    wanted.sort(key=lambda one: (one.sku == "A", one.day, one.segment))
    assert told(of_products) == [as_told(one) for one in wanted]
    assert_array_equal(of_products.starts(), [0, sum(one.sku == "C" for one in left)])
    of_days = table.of_days([101, 108, 99])
    assert sorted(told(of_days)) == sorted(as_told(one) for one in left if one.day in (101, 108))


def test_an_age_is_passed_by_all_cohorts_of_a_day() -> None:
    cohorts = shop(random.Random(4))
    table = OpenCohorts(cohorts)
    table.pass_age(102, 2, 0.25)
    found = table.of_days([102, 103])
    passed = found.day == 102
    assert_array_equal(found.done, np.where(passed, 2, 0))
    assert_array_equal(found.exposed, np.where(passed, 0.25, 0.0))
    assert {(one.milestones_done, one.exposed_share) for one in table.records_of_day(102)} == {
        (2, 0.25)
    }


def test_what_was_dropped_leaves_nothing() -> None:
    cohorts = shop(random.Random(5))
    table = OpenCohorts(cohorts)
    for name, cohort in cohorts:
        table.drop(name, cohort)
    assert (table.by_product, table.records_of_day(101)) == ({}, [])
    assert table.of_days(DAYS).returned.shape == (len(DELAY_DAYS), 0)
