"""Compiled kernels over tiles of rows: one shape, so that bytes do not depend on the batch.

The same row computed in a batch of one and in a large one differs in its last bits when the
shapes differ, because the compiler chooses other instructions. Here every call runs the same two
executables on the same padded shape, and no row's result depends on its neighbours.
"""

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxlib import version as jaxlib_version
from numpy.typing import NDArray

from models.kernel.greeks import Greeks, greeks_at, objective_and_slope
from models.kernel.objective import PADDING, Row, Terms, fixed_parts
from models.kernel.solver import optimise

KERNEL_VERSION = 2  # raised with every change that can move a bit of a result
TILE = 256  # rows per call; a multiple of every vector width, so no row is a remainder
PRICES = 8  # prices evaluated per row and call; a longer list takes several rows

# One thread and one vector width, fixed here and not by the environment.
_COMPILER_OPTIONS: dict[str, str | bool] = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_cpu_prefer_vector_width": "512",
}

Floats = NDArray[np.float64]


class Solution(NamedTuple):
    """The best price of one row."""

    price: float  # normalised by the reference price
    objective: float  # Pi there, normalised
    at_bound: int  # -1 at the lower bound, 0 interior, 1 at the upper
    converged: bool
    finite: bool  # False: price and objective are not to be used


class Evaluation(NamedTuple):
    """One row at given prices; everything after ``slopes`` is at the last of them."""

    objectives: tuple[float, ...]  # Pi at each price, normalised
    slopes: tuple[float, ...]  # d Pi / d P at each price, units
    greeks: Greeks  # normalised
    expected_profit: float  # before the risk terms, normalised
    mean_demand: float  # Q, units over the horizon
    expected_sales: float  # S, units over the horizon
    sales_fill: float  # N(-d1)
    return_rate: float
    margin: float  # per unit, normalised
    profit_sd: float  # sqrt(Var), of what is maximised, normalised
    finite: bool  # False: at least one number here is NaN or infinite


_GREEKS = len(Greeks._fields)
_PARTS = Terms._fields[1:]
assert Evaluation._fields[3:-1] == _PARTS  # one stands behind the other in a column
_UNLIMITED = Row._fields.index("unlimited")
_PADDING = np.array(PADDING)


def _solve_tile(matrix: Array) -> Array:
    """Return [5, tile]: price, objective, at_bound, converged, finite."""
    best = optimise(Row._make(matrix))
    finite = jnp.isfinite(best.price) & jnp.isfinite(best.objective)
    return jnp.stack([jnp.asarray(x, matrix.dtype) for x in (*best, finite)])


def _evaluate_tile(matrix: Array, prices: Array, used: Array) -> Array:
    """Return [2 PRICES + Greeks + parts, tile] for the last ``used`` of ``prices`` [PRICES, tile].

    The loop and the branch also keep their results in memory: a ``stack`` of unfinished
    arithmetic compiles to scalar code, at four times the cost. The loop takes the last price too,
    although the Greeks have its slope: a guard that moved nothing must cost exactly 0.
    """
    row = Row._make(matrix)
    fixed = fixed_parts(row)

    def at_price(index: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        objective, slope = objective_and_slope(prices[index], row, fixed)
        return found[0].at[index].set(objective), found[1].at[index].set(slope)

    nothing = jnp.zeros_like(prices)
    at_each = lax.fori_loop(PRICES - used, PRICES, at_price, (nothing, nothing))

    def at_last() -> tuple[Array, ...]:
        parts, greeks = greeks_at(prices[-1], row)
        return (*greeks, *parts[1:])

    def unpriced() -> tuple[Array, ...]:
        return (nothing[0],) * (_GREEKS + len(_PARTS))

    at_end = lax.cond(used > 0, at_last, unpriced)
    return jnp.concatenate([*at_each, jnp.stack(at_end)])


def _compile(function: Any, *arguments: Floats | np.int32) -> Any:
    return jax.jit(function).lower(*arguments).compile(compiler_options=_COMPILER_OPTIONS)


class Kernel:
    """The compiled pricing kernels of one process. Make it with :meth:`warm`, once."""

    def __init__(self, tile: int, fingerprint: str, solve: Any, evaluate: Any) -> None:
        self.tile = tile
        self.fingerprint = fingerprint
        self._solve = solve
        self._evaluate = evaluate

    @classmethod
    def warm(cls, tile: int = TILE, machine: str = "unknown") -> "Kernel":
        """Compile both kernels, or load them from JAX's persistent cache when one is configured.

        Parameters
        ----------
        tile : rows per call, a multiple of 8
        machine : the CPU and the features that choose its instructions, as text
        """
        if tile < 8 or tile % 8:
            raise ValueError(f"tile was {tile}; expected a positive multiple of 8")
        matrix, prices = np.zeros((len(Row._fields), tile)), np.zeros((PRICES, tile))
        solve = _compile(_solve_tile, matrix)
        evaluate = _compile(_evaluate_tile, matrix, prices, np.int32(PRICES))
        return cls(tile, engine_fingerprint(tile, machine), solve, evaluate)

    def solve(self, rows: Sequence[Row] | Floats) -> list[Solution]:
        """Return the best price of each row, in order; rows may be a matrix [n, fields]."""
        if not len(rows):
            return []
        columns = self.solve_arrays(np.asarray(rows, dtype=np.float64).T)
        return [
            Solution(price, objective, int(bound), converged > 0.5, finite > 0.5)
            for price, objective, bound, converged, finite in columns.T.tolist()
        ]

    def evaluate(
        self, rows: Sequence[Row] | Floats, prices: Sequence[Sequence[float]]
    ) -> list[Evaluation]:
        """Return each row at each of its prices, and everything else at the last of them.

        Parameters
        ----------
        rows : as for :meth:`solve`
        prices : per row at least one normalised price

        Raises
        ------
        ValueError : not one list of prices for each row, or an empty one
        """
        if len(rows) != len(prices):
            raise ValueError(f"{len(prices)} price lists for {len(rows)} rows; expected one each")
        if not len(rows):
            return []
        if not all(prices):
            raise ValueError("a row has no price; expected at least one for each row")
        matrix = np.asarray(rows, dtype=np.float64)
        if max(map(len, prices)) <= PRICES:
            return self._evaluate_parts(matrix, prices)
        parts = [
            (place, at[start : start + PRICES])
            for place, at in enumerate(prices)
            for start in range(0, len(at), PRICES)
        ]
        places, cut = zip(*parts, strict=True)
        found = iter(self._evaluate_parts(matrix[list(places)], cut))
        return [_joined(list(islice(found, -(-len(at) // PRICES)))) for at in prices]

    def _evaluate_parts(
        self, matrix: Floats, prices: Sequence[Sequence[float]]
    ) -> list[Evaluation]:
        """Evaluate each row [n, fields] at 1 to PRICES prices."""
        used = max(map(len, prices))
        padded = [[at[0]] * (used - len(at)) + list(at) for at in prices]
        columns = self.evaluate_arrays(matrix.T, np.array(padded, dtype=np.float64).T)
        finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(columns), axis=0)
        unlimited = matrix[:, _UNLIMITED] > 0.5
        return [
            _evaluation(values, used, len(at), free, usable)
            for values, at, free, usable in zip(
                columns.T.tolist(), prices, unlimited.tolist(), finite.tolist(), strict=True
            )
        ]

    def solve_arrays(self, matrix: Floats) -> Floats:
        """Return [5, n]: price, objective, at_bound, converged, finite, for ``matrix`` [fields, n].

        The matrix holds the fields of :class:`Row` in order. Same executable as :meth:`solve`, so
        the same bytes.
        """
        return self._in_tiles(self._solve, [(matrix, _PADDING)])

    def evaluate_arrays(self, matrix: Floats, prices: Floats) -> Floats:
        """Return [2 k + Greeks + parts, n] for ``matrix`` [fields, n] and ``prices`` [k, n].

        The rows are the objectives, the slopes, the fields of Greeks, and those of Terms after
        the objective. k is 1 to PRICES.
        """
        used = len(prices)
        columns = [(matrix, _PADDING), (prices, np.ones(PRICES))]
        found = self._in_tiles(self._evaluate, columns, np.int32(used))
        return np.concatenate([found[PRICES - used : PRICES], found[2 * PRICES - used :]])

    def _in_tiles(
        self, executable: Any, columns: Sequence[tuple[Floats, Floats]], *settings: np.int32
    ) -> Floats:
        """Run ``executable`` over tiles of ``columns``: matrices [., n], each with its filling."""
        count = columns[0][0].shape[1]
        results = []
        for start in range(0, count, self.tile):
            stop = min(start + self.tile, count)
            inputs = [_cut(whole, start, stop, self.tile, fill) for whole, fill in columns]
            results.append((executable(*inputs, *settings), stop - start))
        return np.concatenate([np.asarray(out)[:, :used] for out, used in results], axis=1)


def _cut(whole: Floats, start: int, stop: int, tile: int, filling: Floats) -> Floats:
    """Return columns ``start`` to ``stop`` at the lower left of a tile full of ``filling``."""
    part = np.empty((len(filling), tile))
    part[:] = filling[:, None]
    part[len(filling) - len(whole) :, : stop - start] = whole[:, start:stop]
    return part


def _evaluation(
    values: list[float], columns: int, used: int, unlimited: bool, finite: bool
) -> Evaluation:
    greeks = Greeks._make(values[2 * columns : 2 * columns + _GREEKS])
    if unlimited:
        greeks = greeks._replace(rho=None, price_stock=None)
    objectives = tuple(values[columns - used : columns])
    slopes = tuple(values[2 * columns - used : 2 * columns])
    parts = values[2 * columns + _GREEKS :]
    return Evaluation._make((objectives, slopes, greeks, *parts, finite))


def _joined(parts: list[Evaluation]) -> Evaluation:
    """One row's evaluation from those of the parts of its prices."""
    if len(parts) == 1:
        return parts[0]
    return parts[-1]._replace(
        objectives=tuple(one for part in parts for one in part.objectives),
        slopes=tuple(one for part in parts for one in part.slopes),
        finite=all(part.finite for part in parts),
    )


def engine_fingerprint(tile: int, machine: str) -> str:
    """Name what the last bit of a result depends on: readable parts and a short hash of them."""
    parts = (
        f"kernel-{KERNEL_VERSION}",
        f"jax-{jax.__version__}",
        f"jaxlib-{jaxlib_version.__version__}",
        f"numpy-{np.__version__}",
        f"tile-{tile}",
        machine,
    )
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"{digest} {' '.join(parts)}"
