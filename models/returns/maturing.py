"""What the cohorts that pass an age at one day tick teach, as columns: one row each.

A catalogue's cohorts pass thousands of ages a day, so they are told and priced in arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.returns import cohorts
from models.returns.return_features import Sale, month_of_day
from schemas.learned import DELAY_DAYS, ReturnCohort

Floats = NDArray[np.float64]
Kind = tuple[str | None, str | None, int | None]

AGES = len(DELAY_DAYS)


class Sales(NamedTuple):
    """Circumstances of sales, as columns [n]: see `models.returns.return_features.Sale`.

    ``kinds`` are the different (category, segment, month), ``kind`` the place there of each row.
    ``ln_rival`` is NaN where no rival is known.
    """

    kinds: list[Kind]
    kind: NDArray[np.intp]
    ln_price: Floats
    ln_rival: Floats


class Lessons(NamedTuple):
    """What cohorts teach at the ages they have passed since they last taught: columns [n].

    ``positives`` are returned units, of ``exposure``: units sold times the share of returns that
    these ages bring. ``delays``: (bin, returns in it, returns before it), where there were any.
    ``closed`` cohorts have taught all: ``final_returned`` and ``final_kept`` units, 0 elsewhere.
    """

    sales: Sales
    positives: Floats
    exposure: Floats
    delays: list[tuple[int, float, float]]
    closed: NDArray[np.bool_]
    final_returned: Floats
    final_kept: Floats

    def of_closed(self) -> "Lessons":
        """The rows of closed cohorts."""
        rows, sales = self.closed, self.sales
        return Lessons(
            Sales(sales.kinds, sales.kind[rows], sales.ln_price[rows], sales.ln_rival[rows]),
            self.positives[rows],
            self.exposure[rows],
            [],
            rows[rows],
            self.final_returned[rows],
            self.final_kept[rows],
        )


def sales_of(rows: Sequence[Sale]) -> Sales:
    """Sales as columns."""
    places: dict[Kind, int] = {}
    return Sales(
        kind=np.array([places.setdefault(row[:3], len(places)) for row in rows], dtype=np.intp),
        ln_price=np.array([row.ln_price for row in rows], dtype=np.float64),
        ln_rival=np.array(
            [np.nan if row.ln_rival is None else row.ln_rival for row in rows], dtype=np.float64
        ),
        kinds=list(places),
    )


def sales(open_cohorts: Sequence[ReturnCohort], categories: Sequence[str]) -> Sales:
    """`models.returns.cohorts.sale` of each cohort, with the category of its product."""
    places: dict[Kind, int] = {}
    months = {day: month_of_day(day) for day in {cohort.day: None for cohort in open_cohorts}}
    kind = [
        places.setdefault((category, cohort.segment, months[cohort.day]), len(places))
        for cohort, category in zip(open_cohorts, categories, strict=True)
    ]
    sold = np.array([cohort.sold for cohort in open_cohorts], dtype=np.float64)
    price = np.array([cohort.ln_price_sum for cohort in open_cohorts], dtype=np.float64)
    rival_sold = np.array([cohort.rival_sold for cohort in open_cohorts], dtype=np.float64)
    ln_rival = np.full_like(sold, np.nan)
    if rival_sold.any():
        rival = np.array([cohort.ln_rival_sum for cohort in open_cohorts], dtype=np.float64)
        np.divide(rival, rival_sold, out=ln_rival, where=rival_sold > 0.5 * sold)
    return Sales(
        kinds=list(places),
        kind=np.array(kind, dtype=np.intp),
        ln_price=np.divide(price, sold, out=np.zeros_like(sold), where=sold > 0.0),
        ln_rival=ln_rival,
    )


def mature(
    due: Sequence[ReturnCohort], day: int, sold_as: Sales, delay_shares: tuple[float, ...]
) -> Lessons:
    """Teach what the ages passed by the start of event day ``day`` say, and note it, in place.

    Parameters
    ----------
    due : cohorts that `models.returns.cohorts.due` names
    sold_as : their `sales`
    delay_shares : share of returns that come by each age of ``DELAY_DAYS``, rising to 1

    Notes
    -----
    Source: O. Chapelle (2014), Modeling delayed feedback in display advertising, KDD: a label not
    seen yet is negative only with the probability that it will stay so.
    """
    sold = np.array([cohort.sold for cohort in due], dtype=np.float64)
    exposed = np.array([cohort.exposed_share for cohort in due], dtype=np.float64)
    positives, returned = np.zeros_like(sold), np.zeros_like(sold)
    delays: list[tuple[int, float, float]] = []
    shares, closed = [], []
    for row, cohort in enumerate(due):
        age, reached = cohort.milestones_done, cohorts.ages_passed(day - cohort.day)
        shares.append(delay_shares[reached - 1])
        closed.append(reached == AGES)
        cohort.milestones_done, cohort.exposed_share = reached, shares[-1]
        came = cohort.returned
        if any(came):
            before = sum(came[:age])
            positives[row] = sum(came[age:reached])
            for each in range(age, reached):
                if came[each] + before > 0.0:
                    delays.append((each, came[each], before))
                before += came[each]
            returned[row] = before
    is_closed = np.array(closed, dtype=np.bool_)
    return Lessons(
        sales=sold_as,
        positives=positives,
        exposure=sold * (np.array(shares, dtype=np.float64) - exposed),
        delays=delays,
        closed=is_closed,
        final_returned=np.where(is_closed, returned, 0.0),
        final_kept=np.where(is_closed, np.maximum(sold - returned, 0.0), 0.0),
    )
