"""What the cohorts that pass an age at one day tick teach, as columns: one row each.

A catalogue's cohorts pass thousands of ages a day, so they are told and priced in arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.returns.open_cohorts import Cohorts
from models.returns.return_features import Sale
from schemas.learned import DELAY_DAYS

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


def sales(cohorts: Cohorts, categories: Sequence[str]) -> Sales:
    """`models.returns.cohorts.sale` of each cohort, with the categories of its products."""
    names: dict[str, int] = {}
    category = np.array([names.setdefault(one, len(names)) for one in categories], dtype=np.intp)
    segments = len(cohorts.segments)
    months = cohorts.day.astype("datetime64[D]").astype("datetime64[M]").astype(np.intp) % 12
    codes = (category[cohorts.owner] * segments + cohorts.segment) * 12 + months
    found, kind = np.unique(codes, return_inverse=True)
    of_name, sold = list(names), cohorts.sold
    ln_rival = np.full_like(sold, np.nan)
    known = cohorts.rival_sold > 0.5 * sold
    if known.any():
        np.divide(cohorts.ln_rival_sum, cohorts.rival_sold, out=ln_rival, where=known)
    return Sales(
        kinds=[
            (
                of_name[code // (12 * segments)],
                cohorts.segments[code // 12 % segments],
                code % 12 + 1,
            )
            for code in found.tolist()
        ],
        kind=kind,
        ln_price=np.divide(cohorts.ln_price_sum, sold, out=np.zeros_like(sold), where=sold > 0.0),
        ln_rival=ln_rival,
    )


def mature(due: Cohorts, day: int, sold_as: Sales, delay_shares: tuple[float, ...]) -> Lessons:
    """What the ages say that cohorts have passed by the start of event day ``day``.

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
    reached = np.searchsorted(DELAY_DAYS, day - due.day)  # `models.returns.cohorts.ages_passed`
    ages = np.arange(AGES)[:, None]
    came = np.where(ages < reached, due.returned, 0.0)
    sums = np.cumsum(came, axis=0)  # whole units, or shares of one: see `cohorts.give_back`
    before = sums - came
    new = came * (ages >= due.done)
    told = (ages >= due.done) & (ages < reached) & (sums > 0.0)
    returned, closed = sums[-1], reached == AGES
    age, row = np.nonzero(told)
    return Lessons(
        sales=sold_as,
        positives=new.sum(axis=0),
        exposure=due.sold * (np.array(delay_shares)[reached - 1] - due.exposed),
        delays=list(
            zip(age.tolist(), came[age, row].tolist(), before[age, row].tolist(), strict=True)
        ),
        closed=closed,
        final_returned=np.where(closed, returned, 0.0),
        final_kept=np.where(closed, np.maximum(due.sold - returned, 0.0), 0.0),
    )
