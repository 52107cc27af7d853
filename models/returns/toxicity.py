"""Adverse selection: whether the orders that follow a price move will come back more often.

A market maker's quote is taken most eagerly by those who know that it is wrong; a shop's price by
those who will not keep what they bought. Of the units sold on days after the shown price last
moved by 5 % or more, this is the share that is back or should still come back, beside the same
share of the days before the move. Units that are not back by now come back as the return model
says of their price, segment and month (`models.returns.liability`), so a young group and an old one
can be compared.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from models.returns.liability import MarkedCohort
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


def toxicity(marked: Sequence[MarkedCohort], move: PriceMove | None) -> Toxicity:
    """Compare the open cohorts on either side of the day of the last price move."""
    if move is None:
        return NONE_YET
    moved_day = move.at_ms // DAY_MS
    after, orders_after = _share([one for one in marked if one.day > moved_day])
    before, orders_before = _share([one for one in marked if one.day < moved_day])
    return Toxicity(after, orders_after, before, orders_before)


def _share(marked: Sequence[MarkedCohort]) -> tuple[float | None, int]:
    """Likely returns over units sold, both in statistical weights, and the order lines."""
    orders = sum(one.orders for one in marked)
    sold = math.fsum(one.sold for one in marked)
    if orders < ORDERS_MIN or sold <= 0.0:
        return None, orders
    likely = math.fsum(one.came + max(one.sold - one.came, 0.0) * one.comes_back for one in marked)
    return min(likely / sold, 1.0), orders
