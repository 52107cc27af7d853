"""How good a family's prices are: an upper bound of its profit, by branch and bound.

The allowed prices are cut into boxes. In a box partners' prices move a member's demand within an
interval, so each member alone bounds what it can earn there, and the sum bounds the family. With
elasticities what a member gains from its partners is first priced at what a relative rise of its
demand is worth at the answer (a Lagrangian relaxation of ``z_i = sum_j C_ij x_j``), so that the
bound of a box closes with the square of its size. Boxes that cannot beat the answer are dropped;
the rest are halved.

Each member's best point in a box is looked for on a grid, and the bound has twice what its largest
second difference allows between the points. So it is a numerical bound: not one in interval
arithmetic, but one that a test compares with brute force. Ladders are left out of it, which can
only raise it.
"""

from typing import NamedTuple

import numpy as np

from models.family.family_demand import BudgetChoice, LogLinear, profits
from models.family.family_pricing import Family, climbed
from models.family.family_profit import Floats, Member, earned, own_log

GRID_POINTS = 9  # of a member's log price in a box
LEVELS = 3  # of what partners do to its demand
SAFETY = 2.0  # times the second differences, which are those of the grid
BATCH_BOXES = 256


class Bound(NamedTuple):
    """The best prices known [n] and what no allowed prices earn more than, minor units a day.

    ``gap_ratio`` is the distance between the two over the size of the profit; ``boxes`` how many
    were looked at.
    """

    ln_price: Floats
    profit_per_day_minor: float
    bound_per_day_minor: float
    gap_ratio: float
    boxes: int


class _Boxes(NamedTuple):
    """Boxes of log prices [b, n] and the bound of each [b]."""

    low: Floats
    high: Floats
    bound: Floats


def bounded(
    family: Family, x: Floats, *, gap_ratio: float = 0.005, boxes_max: int = 20_000
) -> Bound:
    """Bound a family's profit from above, and go on from x [n] to better prices where there are.

    Stops when no prices can earn more than ``1 + gap_ratio`` times the answer, or at ``boxes_max``
    boxes (1: only the bound of all prices together).
    """
    best, profit = x, float(profits(family.columns, family.demand, x))
    worth = earned(family.columns, x, family.demand.log_demand(x)).by_demand
    low, high = family.ladders.low[None, :], family.ladders.high[None, :]
    open_boxes = _Boxes(low, high, _bounds(family, worth, low, high))
    settled, boxes = -np.inf, 1
    while len(open_boxes.bound) and boxes < boxes_max:
        done = open_boxes.bound <= profit + gap_ratio * abs(profit)
        settled = max(settled, float(np.max(open_boxes.bound[done], initial=-np.inf)))
        order = np.argsort(-open_boxes.bound[~done], kind="stable")
        open_boxes = _Boxes._make(part[~done][order] for part in open_boxes)
        if not len(order):
            break
        first = _Boxes._make(part[:BATCH_BOXES] for part in open_boxes)
        rest = _Boxes._make(part[BATCH_BOXES:] for part in open_boxes)
        halves = _halved(family, worth, first)
        boxes += len(halves.bound)
        middle = 0.5 * (halves.low + halves.high)
        middle = family.ladders.fit(middle)
        found = profits(family.columns, family.demand, middle)
        if float(found.max()) > profit:
            best = climbed(family, middle[int(np.argmax(found))])
            profit = float(profits(family.columns, family.demand, best))
        open_boxes = _Boxes._make(np.concatenate(parts) for parts in zip(rest, halves, strict=True))
    bound = max(profit, settled, float(np.max(open_boxes.bound, initial=-np.inf)))
    return Bound(best, profit, bound, (bound - profit) / max(abs(profit), 1e-12), boxes)


def _halved(family: Family, worth: Floats, boxes: _Boxes) -> _Boxes:
    """Each box in two, along the price whose width leaves most open."""
    rows = np.arange(len(boxes.bound))
    width = boxes.high - boxes.low
    axis = np.argmax(width * _stakes(family, worth), axis=1)
    middle = 0.5 * (boxes.low[rows, axis] + boxes.high[rows, axis])
    left_high, right_low = boxes.high.copy(), boxes.low.copy()
    left_high[rows, axis] = right_low[rows, axis] = middle
    low, high = np.concatenate([boxes.low, right_low]), np.concatenate([left_high, boxes.high])
    parent = np.concatenate([boxes.bound, boxes.bound])
    return _Boxes(low, high, np.minimum(_bounds(family, worth, low, high), parent))


def _stakes(family: Family, worth: Floats) -> Floats:
    """How much each price's width matters [n]: what partners' demand does with it."""
    size = np.abs(worth) + 1e-12
    if isinstance(family.demand, BudgetChoice):
        return np.ones(len(size))
    return np.asarray(np.einsum("ij,i->j", np.abs(family.demand.cross), size)) + 0.01 * size


def _bounds(family: Family, worth: Floats, low: Floats, high: Floats) -> Floats:
    """Upper bound of the family's profit in each box [b]."""
    steps = np.linspace(0.0, 1.0, GRID_POINTS)
    x = low[..., None] + (high - low)[..., None] * steps
    demand = family.demand
    columns = Member._make(np.asarray(column)[:, None, None] for column in family.columns)
    if isinstance(demand, BudgetChoice):
        least, most = _choice_range(demand, x)
        fixed = np.zeros_like(x)
        price = np.zeros(len(worth))
    else:
        least, most = _partner_range(demand, low, high, x)
        fixed = demand.level[:, None] + own_log(
            Member._make(np.asarray(column)[:, None] for column in family.columns), x
        )
        price = worth
    u = least[..., None] + (most - least)[..., None] * np.linspace(0.0, 1.0, LEVELS)
    profit = earned(columns, x[..., None], u).profit
    profit = profit - price[:, None, None] * (u - fixed[..., None])
    if isinstance(demand, LogLinear):
        spread = np.moveaxis(demand.spread(np.moveaxis(x, 1, 2)), 2, 1)
        profit = profit + (np.einsum("ij,i->j", demand.cross, price)[:, None] * spread)[..., None]
    between = _second(profit, 2) + _second(profit, 3)
    return np.asarray((profit.max(axis=(2, 3)) + SAFETY * between / 8.0).sum(axis=1))


def _second(profit: Floats, axis: int) -> Floats:
    return np.asarray(np.abs(np.diff(profit, 2, axis=axis)).max(axis=(2, 3)))


def _partner_range(
    demand: LogLinear, low: Floats, high: Floats, x: Floats
) -> tuple[Floats, Floats]:
    """ln demand [b, n, k] at its least and most, whatever partners cost in the box."""
    low, high = demand.spread(low), demand.spread(high)
    rising, falling = np.maximum(demand.cross, 0.0), np.minimum(demand.cross, 0.0)
    least = np.einsum("bj,ij->bi", low, rising) + np.einsum("bj,ij->bi", high, falling)
    most = np.einsum("bj,ij->bi", high, rising) + np.einsum("bj,ij->bi", low, falling)
    columns = Member._make(np.asarray(column)[:, None] for column in demand.columns)
    own = demand.level[:, None] + own_log(columns, x)
    return own + least[..., None], own + most[..., None]


def _choice_range(demand: BudgetChoice, x: Floats) -> tuple[Floats, Floats]:
    """The same for choice by budget: partners in the box weigh between their least and most.

    A product's ln weight is concave in its ln price, with a second derivative of at least
    ``-1/sd^2``: the least is at an end, the most near a grid point.
    """
    logs = demand.weights(np.moveaxis(x, 1, 2))[0]  # [b, k, g, n]
    logs = np.moveaxis(logs, 3, 1)  # [b, n, k, g]
    cell = (x[..., 1] - x[..., 0])[..., None]
    most = np.exp(logs.max(axis=2) + cell * cell / (8.0 * demand.sd[:, 0] ** 2))  # [b, n, g]
    least = np.exp(np.minimum(logs[:, :, 0], logs[:, :, -1]))
    own, found = np.exp(logs), []
    for beside in (most, least):
        others = np.maximum(beside.sum(axis=1, keepdims=True) - beside, 0.0) + demand.outside
        share = own / (own + others[:, :, None, :])
        bought = np.einsum("bnkg,g->bnk", share, demand.share[:, 0])
        level = np.broadcast_to(demand.level, (x.shape[1],))[:, None]
        found.append(level + np.log(np.maximum(bought, 1e-300)))
    return found[0], found[1]
