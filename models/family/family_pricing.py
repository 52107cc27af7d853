"""The prices of a family, chosen together: a global search over a joint profit with several peaks.

1. Starts: the present prices, each product's best price alone, and the ends around it.
2. Sweeps: one price after another (and runs of a ladder as one) is put on a grid over all that is
   allowed, with the points where demand bends on it; the best point wins. A sweep never loses.
3. Newton on all prices from the best two ends, with ties of ladders kept, uphill only.
4. The best end is swept again; what that gains is climbed again, until nothing is gained.

How good the answer is, `models.family.family_bound` says. No random numbers: the same input gives
the same bytes. All arrays are over the members, [n].
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.family.family_demand import (
    BudgetChoice,
    Budgets,
    Demand,
    LogLinear,
    curvature,
    gradient,
    profits,
)
from models.family.family_ladders import Ladders, Link
from models.family.family_profit import Floats, Member, as_columns, earned

STARTS_LOG = (0.0, -0.25, 0.25)  # beside the prices alone
STARTS_MAX = 12
GRID_POINTS = 33
SOLO_ZOOMS = 5
SWEEPS_MAX = 6
SHARES = np.array([1.0, 0.5, 0.2])  # of the way to the aims, which were chosen one by one
SWEEP_GAIN_MIN = 1e-6  # of the profit's size; a sweep that gains less is the last
APART_LOG = 0.01  # ends nearer than this are one
AGREE_SHARE = 1e-3
PAIRS_MEMBERS_MAX = 8
LARGE_MEMBERS = 12  # a larger family has starts enough in its own size
ENDS_CLIMBED = 3
NEWTON_STEPS_MAX = 40
STEP_LOG = 1e-9  # a step this small ends the climb
HALVINGS_MAX = 30
ROUNDS_MAX = 6
EDGE = 1e-12


class Family(NamedTuple):
    """A family's problem: members as columns, how demand moves, and what prices are allowed."""

    columns: Member
    demand: Demand
    ladders: Ladders


class Joint(NamedTuple):
    """The family's optimum.

    ``ln_price`` [n], ln P/P_ref; ``alone`` [n], where each would stand by itself; ``profit_slope``
    [n], the family's profit by each ln price, minor units a day; ``partner_slope`` [n], the part of
    it that partners earn; ``cross_gamma`` [n, n], second derivatives of the family's profit by ln
    prices, minor units a day. ``starts_agree``: whether the ends of all starts earn the same, to a
    thousandth: a hint, no proof. ``ladders_kept``: False where no prices keep bounds and ladders.
    """

    ln_price: Floats
    alone: Floats
    profit_slope: Floats
    partner_slope: Floats
    cross_gamma: Floats
    profit_per_day_minor: float
    starts_agree: bool
    ladders_kept: bool


def family_of(
    members: Sequence[Member],
    cross: Floats | None = None,
    *,
    budgets: Budgets | None = None,
    links: Sequence[Link] = (),
    fading: bool = False,
) -> Family:
    """Put a family's problem together.

    Parameters
    ----------
    cross : [n, n] d ln units_i / d ln price_j; the diagonal is not read; not with ``budgets``
    budgets : groups by budget instead of elasticities
    links : rules between prices
    fading : cross effects fade as the product's own demand does, see `LogLinear`

    Raises
    ------
    ValueError : not exactly one of ``cross`` and ``budgets``; ``cross`` not [n, n] or not finite
    """
    n, columns = len(members), as_columns(members)
    if (cross is None) == (budgets is None):
        raise ValueError("a family has either cross elasticities or budgets; expected one of them")
    demand: Demand
    if cross is not None:
        if cross.shape != (n, n) or not np.isfinite(cross).all():
            raise ValueError(
                f"cross was of shape {cross.shape}; expected finite numbers, [{n}, {n}]"
            )
        demand = LogLinear(columns, cross, fading=fading)
    else:
        assert budgets is not None
        demand = BudgetChoice(columns, budgets)
    low, high = np.asarray(columns.low), np.asarray(columns.high)
    return Family(columns, demand, Ladders(low, high, links, np.log(np.asarray(columns.weight))))


def joint_optimum(family: Family) -> Joint:
    """Maximise the family's profit over all its prices, within bounds and ladders.

    A family without cross effects and ladders gets the prices alone.
    """
    alone = _alone(family)
    fitted = family.ladders.fit(alone)
    best, agree = fitted, True
    if family.demand.coupled or family.ladders.apart is not None:
        best, agree = _search(family, alone)
    columns, demand = family.columns, family.demand
    at = earned(columns, best, demand.log_demand(best))
    slope = at.by_price + demand.pull(best, at.by_demand)
    own = at.by_price + demand.pull_own(best, at.by_demand)
    return Joint(
        ln_price=best,
        alone=alone,
        profit_slope=slope,
        partner_slope=slope - own,
        cross_gamma=curvature(columns, demand, best),
        profit_per_day_minor=float(at.profit.sum()),
        starts_agree=agree,
        ladders_kept=family.ladders.feasible,
    )


def _alone(family: Family) -> Floats:
    """Each member's best ln price, its partners at their present ones [n].

    A grid, then finer ones around its best point.
    """
    columns = family.columns
    low, high = np.asarray(columns.low), np.asarray(columns.high)
    now = np.clip(np.asarray(columns.ln_price), low, high)[None, :]
    grid = _grid(family)
    for _ in range(SOLO_ZOOMS):
        place = np.argmax(family.demand.own(now, grid)[0], axis=1)[:, None]
        last = grid.shape[1] - 1
        a = np.take_along_axis(grid, np.maximum(place - 1, 0), axis=1)
        b = np.take_along_axis(grid, np.minimum(place + 1, last), axis=1)
        best = np.take_along_axis(grid, place, axis=1)[:, 0]
        grid = a + (b - a) * np.linspace(0.0, 1.0, GRID_POINTS)
    return best


def _grid(family: Family) -> Floats:
    """Log prices over all that is allowed [n, k], rising: even steps, and the bends on them."""
    low, high = family.ladders.low[:, None], family.ladders.high[:, None]
    even = low + (high - low) * np.linspace(0.0, 1.0, GRID_POINTS)
    bends = np.clip(family.demand.kinks(), low, high)
    return np.sort(np.concatenate([even, bends], axis=1), axis=1)


def _search(family: Family, alone: Floats) -> tuple[Floats, bool]:
    columns, demand, ladders = family.columns, family.demand, family.ladders
    starts = [np.asarray(columns.ln_price), *(alone + shift for shift in STARTS_LOG)]
    grid = _grid(family)
    if len(alone) <= LARGE_MEMBERS:
        starts += [ladders.low, ladders.high]
    starts += demand.starts()
    x = ladders.fit(np.array(starts))
    if len(x) > STARTS_MAX:
        x = x[np.argsort(-profits(columns, demand, x), kind="stable")[:STARTS_MAX]]
    x = _swept(family, x, grid)
    order = np.argsort(-profits(columns, demand, x), kind="stable")
    ends = [climbed(family, x[order[0]])]
    ends += [
        climbed(family, x[index])
        for index in order[1 : ENDS_CLIMBED if len(alone) <= LARGE_MEMBERS else 1]
        if np.abs(x[index] - ends[0]).max() > APART_LOG
    ]
    found = np.array([float(profits(columns, demand, end)) for end in ends])
    best = ends[int(np.argmax(found))]
    for _ in range(ROUNDS_MAX):
        moved = _looked_around(family, best, grid)
        if moved is None and len(best) <= PAIRS_MEMBERS_MAX:
            moved = _pairs_tried(family, best, grid)
        if moved is None:
            break
        best = climbed(family, moved)
    value = float(profits(columns, demand, best))
    agree = bool(profits(columns, demand, x).min() >= value - AGREE_SHARE * abs(value))
    return best, agree


def _swept(family: Family, x: Floats, grid: Floats) -> Floats:
    """Move all prices of each start [s, n] towards their best grid points until nothing is won."""
    columns, demand, ladders = family.columns, family.demand, family.ladders
    rows = np.arange(len(x))
    best = profits(columns, demand, x)
    for _ in range(SWEEPS_MAX):
        gains = demand.if_one_moves(x, grid)
        aim = np.take_along_axis(grid[None], np.argmax(gains, axis=-1)[..., None], axis=-1)[..., 0]
        moved = x[:, None, :] + SHARES[:, None] * (aim - x)[:, None, :]
        moved = ladders.fit(moved)
        profit = profits(columns, demand, moved)
        place = np.argmax(profit, axis=1)
        higher = profit[rows, place] > best
        x = np.where(higher[:, None], moved[rows, place], x)
        now = np.where(higher, profit[rows, place], best)
        if not (now > best + SWEEP_GAIN_MIN * np.abs(best)).any():
            break
        best = now
    return x


def _looked_around(family: Family, x: Floats, grid: Floats) -> Floats | None:
    """A better price vector in which one price, or one run of a ladder, moved; None without.

    Exact: what partners earn is worked out at every point.
    """
    columns, demand, ladders = family.columns, family.demand, family.ladders
    before = float(profits(columns, demand, x))
    groups = ladders.groups()
    singles = [group for group in groups if len(group) == 1]
    inside = grid
    if ladders.apart is not None:
        down, up = np.array([ladders.room(x[None, :], group) for group in singles])[:, :, 0].T
        inside = np.clip(grid, (x + down)[:, None], (x + up)[:, None])
    gains = demand.if_one_moves_exactly(x, inside)
    i, k = np.unravel_index(int(np.argmax(gains)), gains.shape)
    found = x.copy()
    found[i] = inside[i, k]
    best = float(profits(columns, demand, found))
    for group in groups[len(singles) :]:
        lowest, highest = ladders.room(x[None, :], group)
        shifts = lowest[0] + (highest[0] - lowest[0]) * np.linspace(0.0, 1.0, GRID_POINTS)
        moved = np.repeat(x[None, :], GRID_POINTS, axis=0)
        moved[:, group] += shifts[:, None]
        profit = profits(columns, demand, moved)
        if float(profit.max()) > best:
            found, best = moved[int(np.argmax(profit))], float(profit.max())
    return found if best > before + SWEEP_GAIN_MIN * abs(before) else None


def _pairs_tried(family: Family, x: Floats, grid: Floats) -> Floats | None:
    """The same with two prices at a time, on every third point and the bends."""
    columns, demand, n = family.columns, family.demand, len(x)
    best = float(profits(columns, demand, x))
    best, found = best + SWEEP_GAIN_MIN * abs(best), None
    for i in range(n):
        for j in range(i + 1, n):
            first, second = np.meshgrid(grid[i, ::3], grid[j, ::3], indexing="ij")
            moved = np.repeat(x[None, :], first.size, axis=0)
            moved[:, i], moved[:, j] = first.ravel(), second.ravel()
            moved = family.ladders.fit(moved)
            profit = profits(columns, demand, moved)
            if float(profit.max()) > best:
                best, found = float(profit.max()), moved[int(np.argmax(profit))]
    return found


def climbed(family: Family, x: Floats) -> Floats:
    """Newton on all prices from x [n], uphill only, within bounds and ladders."""
    columns, demand, ladders = family.columns, family.demand, family.ladders
    profit = float(profits(columns, demand, x))
    for _ in range(NEWTON_STEPS_MAX):
        slope = gradient(columns, demand, x)
        free = _free(family, x, slope)
        if not len(free):
            break
        bend = free @ curvature(columns, demand, x) @ free.T
        step = newton_step(bend, free @ slope) @ free
        for halving in range(HALVINGS_MAX):
            moved = ladders.fit(x + step * 0.5**halving)
            higher = float(profits(columns, demand, moved))
            if higher > profit:
                break
        else:
            break
        size = float(np.abs(moved - x).max())
        x, profit = moved, higher
        if size < STEP_LOG:
            break
    return x


def _free(family: Family, x: Floats, slope: Floats) -> Floats:
    """Directions that may be climbed [k, n]: members, tied ones as one, that no bound holds."""
    ladders, together = family.ladders, np.eye(len(x))
    if ladders.apart is not None:
        together = ladders.tied(x)
    at_low = together @ (x <= ladders.low + EDGE)
    at_high = together @ (x >= ladders.high - EDGE)
    pulled = together @ slope
    held = ((at_low > 0.0) & (pulled < 0.0)) | ((at_high > 0.0) & (pulled > 0.0))
    return np.asarray(together[~held])


def newton_step(bend: Floats, slope: Floats) -> Floats:
    """The step to the top of the local parabola; directions that bend upwards count as down."""
    values, vectors = np.linalg.eigh(bend)
    scale = np.maximum(np.abs(values), 1e-9 * np.abs(values).max() + 1e-300)
    return np.asarray(vectors @ ((vectors.T @ slope) / scale))
