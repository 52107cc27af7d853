"""Where the fold keeps open return cohorts: one record per SKU, event day and segment."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.fold.partition import PartitionState
from models.returns import cohorts, maturing
from models.returns.liability import Marked, Owner, mark
from models.returns.open_cohorts import Cohorts
from models.returns.return_curve import learn_level
from schemas.events import DAY_MS, OrderCancelled, OrderPlaced, OrderReturned
from schemas.learned import ReturnCohort
from schemas.state import SkuState


class Line(NamedTuple):
    """An order line: its event time, its hash, and the cohort that it belongs to, by name.

    ``cohort`` is None before the first line of its product, day and segment.
    """

    ordered_ms: int
    line: str
    name: str
    cohort: ReturnCohort | None


def line_of(partition: PartitionState, event: OrderPlaced) -> Line:
    """Where an order line belongs."""
    ordered_ms = event.event_time_ms
    name = f"{ordered_ms // DAY_MS}/{event.segment}"
    named = partition.cohorts.get(event.sku)
    line = cohorts.order_line_hash(event.order_id, event.line_id)
    return Line(ordered_ms, line, name, None if named is None else named.get(name))


def has_line(found: Line, units: int) -> bool:
    """Whether this very line (same time, same quantity) is in its cohort already.

    A source that sends an order again under a new event id is found so, as long as the cohort is
    open; further units of a line come at another time or in another quantity.
    """
    if found.cohort is None:
        return False
    known = found.cohort.lines.get(found.line)
    return known is not None and (known[0], known[2]) == (units, found.ordered_ms % DAY_MS)


def sold(partition: PartitionState, state: SkuState, event: OrderPlaced, found: Line) -> None:
    """Put an order line into the cohort of its event day; not while no reference price is known."""
    if state.reference_price_minor is None:
        return
    cohort = found.cohort
    if cohort is None:
        cohort = cohorts.new_cohort(state.sku, event.segment, found.ordered_ms)
    ln_price = math.log(event.unit_price_minor / state.reference_price_minor)
    opened = state.epoch  # its rival price is the robust one, to within its 3 %
    ln_rival = None if opened is None or opened.ln_rival is None else opened.ln_rival - ln_price
    kept = cohorts.sell(
        cohort,
        found.line,
        event.quantity,
        ln_price,
        found.ordered_ms,
        ln_rival=ln_rival,
        today=partition.manifest.returns_day,
    )
    if kept == "tracked":
        partition.put_cohort(found.name, cohort)


def cancelled(
    partition: PartitionState, state: SkuState, event: OrderCancelled
) -> cohorts.Cancelled | None:
    """Take a cancelled line out of its cohort; None if the line is not known."""
    line = cohorts.order_line_hash(event.order_id, event.line_id)
    name, cohort = _find(partition, state.sku, line)
    removed = cohorts.cancel(cohort, line, event.quantity)
    if removed is not None and cohort is not None:
        partition.put_cohort(name, cohort)
    return removed


def returned(partition: PartitionState, state: SkuState, event: OrderReturned) -> bool:
    """Count a return against its order line; False if any unit of it found none."""
    line = cohorts.order_line_hash(event.order_id, event.line_id)
    name, cohort = _find(partition, state.sku, line)
    found = cohorts.give_back(cohort, line, event.quantity, event.event_time_ms)
    if isinstance(found, cohorts.Unmatched):
        return False
    if cohort is not None:
        partition.put_cohort(name, cohort)
    return found.unmatched_units == 0


def _find(partition: PartitionState, sku: str, line: str) -> tuple[str, ReturnCohort | None]:
    for name, cohort in sorted(partition.cohorts.get(sku, {}).items()):
        if line in cohort.lines:
            return name, cohort
    return "", None


def marked(partition: PartitionState, asked: Sequence[tuple[str, int]]) -> list[Marked]:
    """What should still come back of the open cohorts of some products, each at its event time."""
    owners = []
    for sku, now_ms in asked:
        state = partition.skus[sku]
        category = partition.catalogue[sku].category
        owners.append(Owner(state.returns, category, now_ms, state.price_move))
    found = partition.open_cohorts.of_products([sku for sku, _ in asked])
    return mark(found, owners, partition.return_snapshot)


def new_day(partition: PartitionState, day: int) -> None:
    """At the first tick of an event day: cohorts that passed an age teach, and the pool learns."""
    manifest = partition.manifest
    before, manifest.returns_day = manifest.returns_day, day
    if before is None:
        return
    days = cohorts.days_due(before, day)
    due = partition.open_cohorts.of_days(days)
    if not len(due.owner):
        return
    snapshot = partition.return_snapshot
    sold_as = maturing.sales(due, [partition.catalogue[sku].category for sku in due.owners])
    expected_rates = snapshot.rates(sold_as)
    lessons = maturing.mature(due, day, sold_as, snapshot.delay_shares)
    _learn_levels(partition, day, due, lessons, expected_rates * lessons.exposure)
    for cohort_day in days:
        reached = cohorts.ages_passed(day - cohort_day)
        partition.pass_age(cohort_day, reached, snapshot.delay_shares[reached - 1])
    partition.returns.learn_lessons(lessons)
    partition.return_snapshot = partition.returns.snapshot()
    partition.touch("returns")


def _learn_levels(
    partition: PartitionState,
    day: int,
    due: Cohorts,
    lessons: maturing.Lessons,
    expected: maturing.Floats,
) -> None:
    """Add what a day's cohorts taught to their products' levels.

    ``expected`` are the returns that the pool expected.
    """
    segments: dict[str, dict[str, float]] = {}
    first = np.flatnonzero((due.done == 0) & (due.sold > 0.0))
    for owner, segment, sold in zip(
        due.owner[first].tolist(),
        due.segment[first].tolist(),
        due.sold[first].tolist(),
        strict=True,
    ):
        by_segment = segments.setdefault(due.owners[owner], {})
        name = due.segments[segment]
        by_segment[name] = by_segment.get(name, 0.0) + sold
    sums = np.add.reduceat(np.stack([expected, lessons.positives]), due.starts(), axis=1)
    for sku, likely, came in zip(due.owners, *sums.tolist(), strict=True):
        state = partition.skus[sku]
        state.returns = learn_level(state.returns, day, likely, came, segments.get(sku))
        partition.touch(f"sku/{sku}")
