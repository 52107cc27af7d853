"""What was earned, by product and event day, from orders and returns alone."""

from typing import NamedTuple

import numpy as np

from models.backtest.columns import Floats, Integers, Outcomes

DAYS_MAX = 1 << 22  # event days that a key has room for


def profit_minor(outcomes: Outcomes) -> Floats:
    """Realised profit of each product-day [product-day], minor units, returns as known.

    ``a (revenue - refund) - C (units - returned) - c_r returned``: a unit that came back is worth
    its cost again. NaN where something was sold or came back whose cost is not known.
    """
    kept_units = outcomes.units - outcomes.returned_units
    revenue = outcomes.revenue_minor - outcomes.refund_minor
    profit = np.zeros(len(outcomes.product))
    for amount, price in (
        (revenue, outcomes.kept_share),
        (-kept_units, outcomes.unit_cost_minor),
        (-outcomes.returned_units, outcomes.handling_minor),
    ):
        profit += np.where(amount == 0.0, 0.0, amount * price)
    return profit


class DaySums(NamedTuple):
    """Amounts added up over the days of a group: a product, or a family.

    ``keys`` rise by group, then day; ``total`` [k + 1] runs on over all of them.
    """

    keys: Integers
    total: Floats

    @classmethod
    def of(cls, group: Integers, day: Integers, amount: Floats) -> "DaySums":
        """From rows in any order; a day without a row is 0."""
        keys = group * DAYS_MAX + day
        order = np.argsort(keys, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(amount[order])])
        return cls(keys[order], total)

    def between(self, group: Integers, first: Integers, end: Integers) -> Floats:
        """Sums over the days from ``first`` up to before ``end``, each [n]."""
        low = np.searchsorted(self.keys, group * DAYS_MAX + first)
        high = np.searchsorted(self.keys, group * DAYS_MAX + end)
        return np.asarray(self.total[high] - self.total[low])
