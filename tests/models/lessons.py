"""Lessons of cohorts, written as rows."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from models.returns.cohorts import ages_passed
from models.returns.maturing import Lessons, mature, sales_of
from models.returns.open_cohorts import OpenCohorts
from models.returns.return_features import Sale
from schemas.learned import ReturnCohort


class Lesson(NamedTuple):
    """One row of `models.returns.maturing.Lessons`; ``final``: (returned, kept) once closed."""

    sale: Sale
    positives: float
    exposure: float
    delays: tuple[tuple[int, float, float], ...] = ()
    final: tuple[float, float] | None = None


def columns(rows: Iterable[Lesson]) -> Lessons:
    """Rows as the columns that the models learn."""
    found = list(rows)
    finals = np.array([row.final or (0.0, 0.0) for row in found]).reshape(-1, 2)
    return Lessons(
        sales=sales_of([row.sale for row in found]),
        positives=np.array([row.positives for row in found]),
        exposure=np.array([row.exposure for row in found]),
        delays=[delay for row in found for delay in row.delays],
        closed=np.array([row.final is not None for row in found], dtype=np.bool_),
        final_returned=finals[:, 0],
        final_kept=finals[:, 1],
    )


def teach(cohort: ReturnCohort, day: int, sold_as: Sale, shares: tuple[float, ...]) -> Lesson:
    """What one cohort teaches on a day."""
    table = OpenCohorts([("", cohort)])
    found = mature(table.of_days([cohort.day]), day, sales_of([sold_as]), shares)
    reached = ages_passed(day - cohort.day)
    table.pass_age(cohort.day, reached, shares[reached - 1])
    final = (float(found.final_returned[0]), float(found.final_kept[0]))
    return Lesson(
        sold_as,
        float(found.positives[0]),
        float(found.exposure[0]),
        tuple(found.delays),
        final if found.closed[0] else None,
    )
