"""Several units at once: what the stock that they take is worth.

With ``V(q)`` the objective over the horizon with q units in stock, at the price P_1 that one unit
costs, n units at once take

    omega(n) = (V(q) - V(q - n)) / n

each from what the stock can earn (0 with unlimited stock; below 0 where leftovers cost more than
they bring). To let them go for P is worth ``m(P) - omega(n)`` each, m the margin per unit sold; so

    reservation:   m(P_r) = omega(n)
    quoted:        P(n) = P_1 p(omega(n)) / p(omega(1)),
                   p(omega) = argmax over P of Q(P) (m(P) - omega)

``p`` is the best price with unlimited stock, no risk, and ``omega`` added to the unit cost and to
what a return costs: ``(a P - C - omega)(1 - R) - (c_r + omega) R = m - omega``. V is concave in q,
so many at once are never cheaper than one by stock alone; what a buyer of many may be granted lies
between the reservation price and this one.

Notes
-----
Source of the idea: indifference pricing as in Avellaneda and Stoikov (2008), whose reservation
price is the value of the book with a trade less that without.
"""

import math

from models.kernel.objective import Row
from models.kernel.tile import Evaluation
from models.returns.logistic import sigmoid

COST_SHARE_MIN = 1e-3  # of the unit cost stays, however much leftovers cost
UPPER_MULTIPLE = 5.0
HALVINGS = 60


def with_stock(row: Row, units: float) -> Row:
    """The row with so many units in stock instead."""
    return row._replace(stock=max(units, 0.0))


def worth_per_unit(before: Evaluation, after: Evaluation, quantity: int) -> float:
    """omega(n), normalised; ``before`` and ``after`` with the stock before and after the sale."""
    return (before.objectives[-1] - after.objectives[-1]) / quantity


def with_worth(frictionless: Row, worth: float) -> Row:
    """The row whose best price is p(omega)."""
    cost = max(frictionless.unit_cost + worth, COST_SHARE_MIN * frictionless.unit_cost)
    moved = cost - frictionless.unit_cost
    return frictionless._replace(
        unit_cost=cost,
        return_cost=max(frictionless.return_cost + moved, 0.0),
        upper=max(frictionless.upper, UPPER_MULTIPLE * cost / frictionless.kept_share),
    )


def margin(row: Row, price: float) -> float:
    """m: what a unit sold brings after returns, normalised."""
    score = row.return_intercept + row.return_linear * price + row.return_log * math.log(price)
    rate = row.return_min + (row.return_max - row.return_min) * sigmoid(score)
    return (row.kept_share * price - row.unit_cost) * (1.0 - rate) - row.return_cost * rate


def reservation(row: Row, worth: float) -> float | None:
    """The lowest price whose margin is omega, normalised; None where none is, far up."""
    low = row.lower * 1e-3
    high = max(row.upper, UPPER_MULTIPLE * (row.unit_cost + abs(worth)) / row.kept_share)
    if margin(row, high) < worth:
        return None
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if margin(row, middle) >= worth else (middle, high)
    return high
