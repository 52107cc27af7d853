"""Where the fold keeps open return cohorts: one record per SKU, event day and segment."""

import math

from models.fold.partition import PartitionState
from models.returns import cohorts
from models.returns.return_curve import learn_level
from schemas.events import DAY_MS, OrderCancelled, OrderPlaced, OrderReturned
from schemas.learned import ReturnCohort
from schemas.state import SkuState


def has_line(partition: PartitionState, event: OrderPlaced) -> bool:
    """Whether this very line (same time, same quantity) is in its cohort already.

    A source that sends an order again under a new event id is found so, as long as the cohort is
    open; further units of a line come at another time or in another quantity.
    """
    ordered_ms = event.event_time_ms
    name = f"{ordered_ms // DAY_MS}/{event.segment}"
    cohort = partition.cohorts.get(event.sku, {}).get(name)
    if cohort is None:
        return False
    known = cohort.lines.get(cohorts.order_line_hash(event.order_id, event.line_id))
    return known is not None and (known[0], known[2]) == (event.quantity, ordered_ms % DAY_MS)


def sold(partition: PartitionState, state: SkuState, event: OrderPlaced) -> None:
    """Put an order line into the cohort of its event day; not while no reference price is known."""
    if state.reference_price_minor is None:
        return
    ordered_ms = event.event_time_ms
    name = f"{ordered_ms // DAY_MS}/{event.segment}"
    cohort = partition.cohorts.get(state.sku, {}).get(name)
    if cohort is None:
        cohort = cohorts.new_cohort(state.sku, event.segment, ordered_ms)
    line = cohorts.order_line_hash(event.order_id, event.line_id)
    ln_price = math.log(event.unit_price_minor / state.reference_price_minor)
    opened = state.epoch  # its rival price is the robust one, to within its 3 %
    ln_rival = None if opened is None or opened.ln_rival is None else opened.ln_rival - ln_price
    today = partition.manifest.returns_day
    kept = cohorts.sell(
        cohort, line, event.quantity, ln_price, ordered_ms, ln_rival=ln_rival, today=today
    )
    if kept == "tracked":
        partition.put_cohort(name, cohort)


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


def new_day(partition: PartitionState, day: int) -> None:
    """At the first tick of an event day: cohorts that passed an age teach, and the pool learns."""
    manifest = partition.manifest
    if manifest.returns_day is None:
        manifest.returns_day = day
        return
    snapshot, lessons = partition.return_snapshot, []
    for cohort_day in cohorts.days_due(manifest.returns_day, day):
        for sku, name in sorted(partition.cohorts_by_day.get(cohort_day, {})):
            cohort = partition.cohorts[sku][name]
            if not cohorts.due(cohort, day):
                continue
            category = partition.catalogue[sku].category
            sold_as = cohorts.sale(cohort, category)
            lesson = cohorts.mature(
                cohort, day, sold_as, snapshot.rate(sold_as), snapshot.delay_shares
            )
            lessons.append(lesson)
            state = partition.skus[sku]
            state.returns = learn_level(state.returns, lesson, day)
            partition.touch(f"sku/{sku}")
            if lesson.final is not None:
                partition.drop_cohort(name, cohort)
            else:
                partition.touch(f"cohort/{sku}/{name}")
    manifest.returns_day = day
    if lessons:
        partition.returns.learn_lessons(lessons)
        partition.return_snapshot = partition.returns.snapshot()
        partition.touch("returns")
