"""Adverse selection: whether the orders that follow a price move will come back more often.

A market maker's quote is taken most eagerly by those who know that it is wrong; a shop's price by
those who will not keep what they bought. Of the units sold on days after the shown price last
moved by 5 % or more, this is the share that is back or should still come back, beside the same
share of the days before the move. Units that are not back by now come back as the return model
says of their price, segment and month (`models.returns.liability`), so a young group and an old one
can be compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.returns.open_cohorts import Cohorts, Floats
from schemas.events import DAY_MS
from schemas.state import PriceMove

MOVE_RATIO = 0.05  # most probes stay below; a small move selects nobody, and would leave no orders
ORDERS_MIN = 20  # order lines on either side; below, the share is not told


class Toxicity(NamedTuple):
    """Likely shares of returns after the last price move and before it, and the order lines behind.

    A share is None while fewer than ``ORDERS_MIN`` lines stand behind it. Before: orders of the
    last 60 days. The day of the move has orders at either price and counts in neither.
    """

    after: float | None
    orders_after: int
    before: float | None
    orders_before: int


NONE_YET = Toxicity(None, 0, None, 0)


def last_move(before: PriceMove | None, shown_minor: int, now_ms: int) -> PriceMove:
    """Return the last move when the shop shows ``shown_minor`` from ``now_ms`` on.

    Small moves add up: each is compared with the price of the last one that counted.
    """
    if before is not None and abs(shown_minor / before.price_minor - 1.0) < MOVE_RATIO:
        return before
    return PriceMove(now_ms, shown_minor)


def sides(cohorts: Cohorts, moves: Sequence[PriceMove | None], comes_back: Floats) -> list[Floats]:
    """What each open cohort adds to `toxicity`, in the order of its arguments: six columns [n].

    Parameters
    ----------
    moves : by product
    comes_back : probability that a unit not yet back will come [n]
    """
    moved_days = np.array([0 if move is None else move.at_ms // DAY_MS for move in moves])
    since = cohorts.day - moved_days[cohorts.owner]
    came = cohorts.returned.sum(axis=0)
    likely = came + np.maximum(cohorts.sold - came, 0.0) * comes_back
    return [
        np.where(side, column, 0.0)
        for side in (since > 0, since < 0)
        for column in (cohorts.lines, cohorts.sold, likely)
    ]


def toxicity(
    orders_after: float,
    sold_after: float,
    likely_after: float,
    orders_before: float,
    sold_before: float,
    likely_before: float,
) -> Toxicity:
    """Compare the open cohorts on either side of the day of the last price move.

    Parameters
    ----------
    orders_after, orders_before : order lines
    sold_after, likely_after, ... : units sold, and likely returns of them, in statistical weights
    """
    return Toxicity(
        _share(orders_after, sold_after, likely_after),
        round(orders_after),
        _share(orders_before, sold_before, likely_before),
        round(orders_before),
    )


def _share(orders: float, sold: float, likely: float) -> float | None:
    """Likely returns over units sold."""
    return None if orders < ORDERS_MIN or sold <= 0.0 else min(likely / sold, 1.0)
