"""Find the best price of each row: a global grid, then safeguarded Newton in the best cells.

All shapes are [tile] or [GRID_POINTS, tile]. No row's result depends on its neighbours: the loops
run until the slowest row of the tile is done, and rows that are done no longer move.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from models.kernel.objective import Fixed, Row, fixed_parts, slope_and_curvature, terms

GRID_POINTS = 16
NEWTON_STEPS_MAX = 60  # bisection alone closes the widest allowed cell in fewer
BRACKET_LOG = 1e-9  # the bracket, or the last Newton step, relative to the price
BOUND_LOG = 1e-9  # an answer this near a bound is at the bound

AT_LOWER, INTERIOR, AT_UPPER = -1, 0, 1


class Optimum(NamedTuple):
    """The best price of each row, each [tile]."""

    price: Array  # normalised by the reference price
    objective: Array  # Pi there, normalised
    at_bound: Array  # AT_LOWER, INTERIOR or AT_UPPER
    converged: Array  # bool


class _Cell(NamedTuple):
    """A bracket in log price around one peak of the grid, each [tile]."""

    x: Array
    low: Array
    high: Array
    last_step: Array
    done: Array


class _Climb(NamedTuple):
    """The state of the Newton loop."""

    steps: Array
    cell: _Cell
    slope: Array  # at cell.x
    curvature: Array


class Grid(NamedTuple):
    """A grid of log prices with the kinks in place of the nearest points, each [tile].

    The kinks are the bounds (the ends), the reference price and the rival's threshold. Moving the
    nearest point keeps the grid sorted and its size fixed.
    """

    low: Array
    cell: Array  # width
    kinks: tuple[Array, ...]

    def point(self, index: ArrayLike) -> Array:
        """Return the log price [..., tile] of the points 0 to GRID_POINTS - 1."""
        even = self.low + index * self.cell
        moved = even
        inner = (jnp.asarray(index) > 0) & (jnp.asarray(index) < GRID_POINTS - 1)
        for kink in self.kinks:
            moved = jnp.where(inner & (jnp.abs(even - kink) <= 0.5 * self.cell), kink, moved)
        return moved


def price_grid(row: Row, fixed: Fixed) -> Grid:
    """Return the grid of each row between its bounds."""
    low, high = jnp.log(row.lower), jnp.log(row.upper)
    return Grid(low, (high - low) / (GRID_POINTS - 1), (jnp.zeros_like(low), fixed.log_threshold))


def _peaks(grid: Grid, height: Array) -> tuple[_Cell, _Cell, Array]:
    """Return the cells of the two highest peaks, and the height of the grid's best point.

    Unrolled and without masks on purpose: the compiler vectorises this form, and a reduction over
    the grid or a chain of masked selects costs several times as much.
    """
    lowest = jnp.full_like(height[0], -jnp.inf)
    around = [lowest, *height, lowest]
    peaks = []
    for left, here, right in zip(around, around[1:], around[2:], strict=False):
        peaks.append(jnp.where(here >= left, jnp.where(here > right, here, lowest), lowest))
    top = runner_up = lowest
    for peak in peaks:
        runner_up = jnp.maximum(runner_up, jnp.minimum(top, peak))
        top = jnp.maximum(top, peak)
    first = second = jnp.zeros_like(lowest)
    for index, peak in enumerate(peaks):  # of two equal peaks the first is the left one
        second = jnp.where(peak == runner_up, float(index), second)
    for index, peak in reversed(list(enumerate(peaks))):
        first = jnp.where(peak == top, float(index), first)
    return _cell(grid, top, first), _cell(grid, runner_up, second), top


def _cell(grid: Grid, height: Array, index: Array) -> _Cell:
    low = grid.point(jnp.maximum(index - 1, 0))
    high = grid.point(jnp.minimum(index + 1, GRID_POINTS - 1))
    return _Cell(grid.point(index), low, high, high - low, height == -jnp.inf)


def _climb(start: _Cell, row: Row, fixed: Fixed) -> _Cell:
    """Close each bracket: Newton where it halves the step and stays inside, else bisection.

    Slope and curvature travel from one step to the next instead of being computed where they are
    used: the compiler would copy their arithmetic into each use, slowly, and with roundings that
    disagree about the sign of the slope at the root.
    """

    def is_open(climb: _Climb) -> Array:
        return (climb.steps < NEWTON_STEPS_MAX) & ~jnp.all(climb.cell.done)

    def step(climb: _Climb) -> _Climb:
        cell = climb.cell
        rising = climb.slope > 0.0
        low = jnp.where(rising, cell.x, cell.low)
        high = jnp.where(rising, cell.high, cell.x)
        concave = climb.curvature < 0.0
        move = -climb.slope / jnp.where(concave, climb.curvature, -1.0)
        target = cell.x + move
        newton = concave & (target >= low) & (target <= high)
        newton &= jnp.abs(move) <= jnp.maximum(0.5 * cell.last_step, BRACKET_LOG)
        x = jnp.where(newton, target, 0.5 * (low + high))
        size = jnp.abs(x - cell.x)
        closed = (newton & (size <= BRACKET_LOG)) | (high - low <= BRACKET_LOG)
        moved = _Cell(x, low, high, size, closed)
        still = cell.done | (climb.steps == 0)  # the first pass only finds the slope
        frozen = [jnp.where(still, old, new) for old, new in zip(cell, moved, strict=True)]
        cell = _Cell._make(frozen)
        return _Climb(climb.steps + 1, cell, *slope_and_curvature(cell.x, row, fixed))

    steps = jnp.zeros((), jnp.int32)
    climb = _Climb(steps, start, jnp.ones_like(start.x), jnp.ones_like(start.x))
    closed: _Climb = lax.while_loop(is_open, step, climb)
    return closed.cell


def optimise(row: Row) -> Optimum:
    """Return the best price of each row within its bounds.

    With ``|elasticity| <= 1`` and no interior optimum the bound is the answer, and says so.
    """
    fixed = fixed_parts(row)
    grid = price_grid(row, fixed)

    def height_at(log_price: Array) -> Array:
        height = terms(log_price, row, fixed).objective
        return jnp.where(jnp.isnan(height), -jnp.inf, height)

    # lax.map keeps heights in memory: fused into each of their uses they would be computed again.
    heights = lax.map(lambda index: height_at(grid.point(index)), jnp.arange(GRID_POINTS))
    first, second, grid_best = _peaks(grid, heights)
    one, two = _climb(first, row, fixed), _climb(second, row, fixed)
    height_one, height_two = lax.map(height_at, jnp.stack([one.x, two.x]))
    better = height_two > height_one
    x = jnp.where(better, two.x, one.x)
    best = jnp.where(better, height_two, height_one)
    # Two peaks inside one cell can mislead the climb; the grid's own best point is then kept.
    kept = best >= grid_best - 1e-12 * jnp.abs(grid_best)
    x, best = jnp.where(kept, x, first.x), jnp.where(kept, best, grid_best)
    low, high = grid.point(0), grid.point(GRID_POINTS - 1)
    at_bound = jnp.where(x - low <= BOUND_LOG, AT_LOWER, INTERIOR)
    at_bound = jnp.where(high - x <= BOUND_LOG, AT_UPPER, at_bound)
    price = jnp.where(at_bound == AT_LOWER, row.lower, jnp.exp(x))
    price = jnp.where(at_bound == AT_UPPER, row.upper, price)
    converged = kept & jnp.where(better, two.done, one.done)
    return Optimum(price, best, at_bound, converged)
