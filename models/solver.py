"""Find the best price of each row: a global grid, then safeguarded Newton in the best cells.

All shapes are [tile] or [GRID_POINTS, tile]. No row's result depends on its neighbours: the loops
run until the slowest row of the tile is done, and rows that are done no longer move.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from models.objective import Fixed, Row, fixed_parts, slope_and_curvature, terms

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


def price_grid(row: Row, fixed: Fixed) -> Array:
    """Return log prices [GRID_POINTS, tile], even, with the kinks in place of the nearest points.

    The kinks are the bounds (the ends), the rival's threshold and the reference price. Moving the
    nearest point keeps the grid sorted and its size fixed.
    """
    low, high = jnp.log(row.lower), jnp.log(row.upper)
    share = (jnp.arange(GRID_POINTS) / (GRID_POINTS - 1))[:, None]
    even = low * (1.0 - share) + high * share
    half_cell = 0.5 * (high - low) / (GRID_POINTS - 1)
    inner = (share > 0.0) & (share < 1.0)
    grid = even
    for kink in (jnp.zeros_like(low), fixed.log_threshold):
        grid = jnp.where(inner & (jnp.abs(even - kink) <= half_cell), kink, grid)
    return grid


def _peaks(grid: Array, height: Array) -> tuple[_Cell, _Cell, Array]:
    """Return the cells of the two highest peaks, and the height of the grid's best point."""
    low_end = jnp.full_like(height[:1], -jnp.inf)
    left = jnp.concatenate([low_end, height[:-1]])
    right = jnp.concatenate([height[1:], low_end])
    peak = jnp.where((height >= left) & (height > right), height, -jnp.inf)
    first = jnp.argmax(peak, axis=0)
    index = jnp.arange(GRID_POINTS)[:, None]
    others = jnp.where(index == first, -jnp.inf, peak)
    second = jnp.argmax(others, axis=0)
    alone = jnp.max(others, axis=0) == -jnp.inf
    none = jnp.zeros_like(alone)
    return _cell(grid, first, none), _cell(grid, second, alone), jnp.max(peak, axis=0)


def _cell(grid: Array, index: Array, done: Array) -> _Cell:
    def at(position: Array) -> Array:
        chosen = jnp.arange(GRID_POINTS)[:, None] == position
        return jnp.sum(jnp.where(chosen, grid, 0.0), axis=0)

    low = at(jnp.maximum(index - 1, 0))
    high = at(jnp.minimum(index + 1, GRID_POINTS - 1))
    return _Cell(at(index), low, high, high - low, done)


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
        frozen = [jnp.where(cell.done, old, new) for old, new in zip(cell, moved, strict=True)]
        cell = _Cell._make(frozen)
        return _Climb(climb.steps + 1, cell, *slope_and_curvature(cell.x, row, fixed))

    steps = jnp.zeros((), jnp.int32)
    climb = _Climb(steps, start, *slope_and_curvature(start.x, row, fixed))
    closed: _Climb = lax.while_loop(is_open, step, climb)
    return closed.cell


def optimise(row: Row) -> Optimum:
    """Return the best price of each row within its bounds.

    With ``|elasticity| <= 1`` and no interior optimum the bound is the answer, and says so.
    """
    fixed = fixed_parts(row)
    grid = price_grid(row, fixed)

    def heights(log_prices: Array) -> Array:
        # lax.map keeps the heights in memory: fused into each use they would be computed again.
        found: Array = lax.map(lambda x: terms(x, row, fixed).objective, log_prices)
        return found

    height = heights(grid)
    first, second, grid_best = _peaks(grid, jnp.where(jnp.isnan(height), -jnp.inf, height))
    one, two = _climb(first, row, fixed), _climb(second, row, fixed)
    height_one, height_two = heights(jnp.stack([one.x, two.x]))
    better = height_two > height_one
    x = jnp.where(better, two.x, one.x)
    best = jnp.where(better, height_two, height_one)
    # Two peaks inside one cell can mislead the climb; the grid's own best point is then kept.
    kept = best >= grid_best - 1e-12 * jnp.abs(grid_best)
    x, best = jnp.where(kept, x, first.x), jnp.where(kept, best, grid_best)
    low, high = grid[0], grid[-1]
    at_bound = jnp.where(x - low <= BOUND_LOG, AT_LOWER, INTERIOR)
    at_bound = jnp.where(high - x <= BOUND_LOG, AT_UPPER, at_bound)
    price = jnp.where(at_bound == AT_LOWER, row.lower, jnp.exp(x))
    price = jnp.where(at_bound == AT_UPPER, row.upper, price)
    converged = kept & jnp.where(better, two.done, one.done)
    return Optimum(price, best, at_bound, converged)
