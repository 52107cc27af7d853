"""The open return cohorts of a partition: its records, and the same numbers as columns.

A catalogue has tens of thousands of open cohorts. They change one at a time, at orders and returns,
and are read many at a time, at day ticks and in waves of decisions: so each has a row in a table
beside its record. The place of a row never reaches a result: what is read comes by product, then by
day and segment.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.learned import DELAY_DAYS, ReturnCohort

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

ROWS_FIRST = 64  # of the table; it doubles when it is full
_INTS = 4  # owner, segment, day, milestones done
_NUMBERS = 7  # those of `Cohorts` before ``returned``


class Cohorts(NamedTuple):
    """Open cohorts as columns [n], by product, day and segment.

    ``owners`` are the products, ``owner`` the place there of each row, rising; so ``segments`` and
    ``segment``. The rest is as in `schemas.learned.ReturnCohort`: ``done`` the milestones,
    ``left`` units, ``lines`` how many order lines, ``exposed`` the share that has taught,
    ``returned`` [ages, n].
    """

    owners: Sequence[str]
    owner: Places
    segments: Sequence[str]
    segment: Places
    day: Places
    done: Places
    sold: Floats
    ln_price_sum: Floats
    rival_sold: Floats
    ln_rival_sum: Floats
    left: Floats
    lines: Floats
    exposed: Floats
    returned: Floats

    def starts(self) -> Places:
        """The first row of each product that has any [products]."""
        return np.flatnonzero(np.diff(self.owner, prepend=-1))


class OpenCohorts:
    """The open cohorts of one tape partition; ``by_product`` are the records, by SKU and name.

    A cohort's name is ``<event day>/<segment>``. A record that was changed is `put` again.
    """

    def __init__(self, found: Iterable[tuple[str, ReturnCohort]] = ()) -> None:
        self.by_product: dict[str, dict[str, ReturnCohort]] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._rows_of_day: dict[int, dict[int, ReturnCohort]] = {}
        self._free: list[int] = []
        self._changed: dict[int, ReturnCohort] = {}  # records, by row, that were put since a read
        self._owners: dict[str, int] = {}
        self._segments: dict[str, int] = {}
        self._ranks = np.empty(0, dtype=np.intp)  # of segments, in the order of their names
        self._ints = np.zeros((ROWS_FIRST, _INTS), dtype=np.intp)
        self._numbers = np.zeros((ROWS_FIRST, _NUMBERS + len(DELAY_DAYS)))
        self._used = 0
        for name, cohort in found:
            self.put(name, cohort)

    def put(self, name: str, cohort: ReturnCohort) -> None:
        """Take up a cohort, or what has changed of it."""
        rows = self._rows.get(cohort.sku)
        row = None if rows is None else rows.get(name)
        if row is None:
            row = self._begin(name, cohort)
        self._changed[row] = cohort

    def _begin(self, name: str, cohort: ReturnCohort) -> int:
        row = self._free.pop() if self._free else self._next()
        self.by_product.setdefault(cohort.sku, {})[name] = cohort
        self._rows.setdefault(cohort.sku, {})[name] = row
        self._rows_of_day.setdefault(cohort.day, {})[row] = cohort
        owner = self._owners.setdefault(cohort.sku, len(self._owners))
        segment = self._segments.get(cohort.segment)
        if segment is None:
            segment = self._segments[cohort.segment] = len(self._segments)
            self._ranks = np.argsort(np.argsort(list(self._segments)))
        self._ints[row] = (owner, segment, cohort.day, cohort.milestones_done)
        return row

    def _next(self) -> int:
        if self._used == len(self._ints):
            self._ints = np.concatenate([self._ints, np.zeros_like(self._ints)])
            self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
        self._used += 1
        return self._used - 1

    def _write(self) -> None:
        """Bring the rows of changed records up to date."""
        if not self._changed:
            return
        self._numbers[list(self._changed)] = [
            (
                cohort.sold,
                cohort.ln_price_sum,
                cohort.rival_sold,
                cohort.ln_rival_sum,
                cohort.units_left,
                len(cohort.lines),
                cohort.exposed_share,
                *cohort.returned,
            )
            for cohort in self._changed.values()
        ]
        self._changed.clear()

    def drop(self, name: str, cohort: ReturnCohort) -> None:
        """Forget a cohort."""
        of_product, rows = self.by_product[cohort.sku], self._rows[cohort.sku]
        of_day = self._rows_of_day[cohort.day]
        row = rows.pop(name)
        del of_product[name], of_day[row]
        self._changed.pop(row, None)
        self._free.append(row)
        if not rows:
            del self.by_product[cohort.sku], self._rows[cohort.sku]
        if not of_day:
            del self._rows_of_day[cohort.day]

    def records_of_day(self, day: int) -> list[ReturnCohort]:
        """The records of one event day."""
        return list(self._rows_of_day.get(day, {}).values())

    def pass_age(self, day: int, done: int, exposed: float) -> None:
        """Note that the cohorts of an event day have taught up to an age."""
        of_day = self._rows_of_day.get(day, {})
        for cohort in of_day.values():
            cohort.milestones_done, cohort.exposed_share = done, exposed
        rows = list(of_day)
        self._ints[rows, 3] = done
        self._numbers[rows, 6] = exposed

    def of_products(self, skus: Sequence[str]) -> Cohorts:
        """The cohorts of some products; ``owner`` is the place in ``skus``."""
        found = [list(self._rows[sku].values()) if sku in self._rows else [] for sku in skus]
        rows = np.fromiter(chain.from_iterable(found), dtype=np.intp)
        owner = np.repeat(np.arange(len(skus)), [len(one) for one in found])
        return self._taken(rows, skus, owner)

    def of_days(self, days: Iterable[int]) -> Cohorts:
        """The cohorts of some event days."""
        found = [self._rows_of_day.get(day, {}) for day in days]
        rows = np.fromiter(chain.from_iterable(found), dtype=np.intp)
        known, owner = np.unique(self._ints[rows, 0], return_inverse=True)
        skus = list(self._owners)
        return self._taken(rows, [skus[place] for place in known.tolist()], owner)

    def _taken(self, rows: Places, owners: Sequence[str], owner: Places) -> Cohorts:
        self._write()
        ints = self._ints[rows]
        order = np.lexsort((self._ranks[ints[:, 1]], ints[:, 2], owner))
        _, segment, day, done = np.ascontiguousarray(ints[order].T)
        numbers = np.ascontiguousarray(self._numbers[rows[order]].T)
        return Cohorts._make((
            owners, owner[order], list(self._segments), segment, day, done, *numbers[:_NUMBERS],
            numbers[_NUMBERS:],
        ))  # fmt: skip
