"""Compiled kernels over tiles of rows: one shape, so that bytes do not depend on the batch.

The same row computed in a batch of one and in a large one differs in its last bits when the
shapes differ, because the compiler chooses other instructions. Here every call runs the same two
executables on the same padded shape, and no row's result depends on its neighbours.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxlib import version as jaxlib_version
from numpy.typing import NDArray

from models.greeks import Greeks, greeks_at, objective_and_slope
from models.objective import PADDING, Row, Terms, fixed_parts
from models.solver import optimise

KERNEL_VERSION = 1  # raised with every change that can move a bit of a result
TILE = 256  # rows per call; a multiple of every vector width, so no row is a remainder
PRICES = 10  # prices evaluated per row and call

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
    profit_sd: float  # sqrt(Var), normalised
    finite: bool  # False: at least one number here is NaN or infinite


_SOLUTION_FIELDS = 5
_GREEKS = len(Greeks._fields)
_PARTS = Terms._fields[1:]


def _solve_tile(matrix: Array) -> Array:
    """Return [5, tile]: price, objective, at_bound, converged, finite."""
    best = optimise(Row._make(matrix))
    finite = jnp.isfinite(best.price) & jnp.isfinite(best.objective)
    return jnp.stack([jnp.asarray(x, matrix.dtype) for x in (*best, finite)])


def _evaluate_tile(matrix: Array, prices: Array) -> Array:
    """Return [2 PRICES + Greeks + parts, tile] for ``prices`` [PRICES, tile]."""
    row = Row._make(matrix)
    fixed = fixed_parts(row)
    objectives, slopes = lax.map(lambda price: objective_and_slope(price, row, fixed), prices)
    parts, greeks = greeks_at(prices[-1], row)
    return jnp.concatenate([objectives, slopes, greeks, jnp.stack(parts[1:])])


def _compile(function: Any, *shapes: tuple[int, int]) -> Any:
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float64)  # type: ignore[no-untyped-call]
        for shape in shapes
    ]
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
        rows = (len(Row._fields), tile)
        solve = _compile(_solve_tile, rows)
        evaluate = _compile(_evaluate_tile, rows, (PRICES, tile))
        return cls(tile, engine_fingerprint(tile, machine), solve, evaluate)

    def solve(self, rows: Sequence[Row]) -> list[Solution]:
        """Return the best price of each row, in order."""
        if not rows:
            return []
        columns = self.solve_arrays(np.array(rows, dtype=np.float64).T)
        return [
            Solution(price, objective, int(bound), converged > 0.5, finite > 0.5)
            for price, objective, bound, converged, finite in columns.T.tolist()
        ]

    def evaluate(self, rows: Sequence[Row], prices: Sequence[Sequence[float]]) -> list[Evaluation]:
        """Return each row at each of its prices, and everything else at the last of them.

        Parameters
        ----------
        rows : as for :meth:`solve`
        prices : per row 1 to PRICES normalised prices

        Raises
        ------
        ValueError : not one list of 1 to PRICES prices for each row
        """
        if len(rows) != len(prices):
            raise ValueError(f"{len(prices)} price lists for {len(rows)} rows; expected one each")
        if not rows:
            return []
        if not all(1 <= len(at) <= PRICES for at in prices):
            raise ValueError(f"expected 1 to {PRICES} prices for each row")
        padded = [[*at, *[at[-1]] * (PRICES - len(at))] for at in prices]
        matrix = np.array(rows, dtype=np.float64).T
        columns = self.evaluate_arrays(matrix, np.array(padded, dtype=np.float64).T)
        finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(columns), axis=0)
        return [
            _evaluation(values, len(at), row.unlimited > 0.5, usable)
            for values, at, row, usable in zip(
                columns.T.tolist(), prices, rows, finite.tolist(), strict=True
            )
        ]

    def solve_arrays(self, matrix: Floats) -> Floats:
        """Return [5, n]: price, objective, at_bound, converged, finite, for ``matrix`` [fields, n].

        The matrix holds the fields of :class:`Row` in order. Same executable as :meth:`solve`, so
        the same bytes.
        """
        return self._in_tiles(self._solve, matrix)

    def evaluate_arrays(self, matrix: Floats, prices: Floats) -> Floats:
        """Return [2 PRICES + Greeks + parts, n] for ``matrix`` [fields, n], ``prices`` [PRICES, n].

        The rows are objectives, slopes, the fields of Greeks, and those of Terms after the
        objective.
        """
        return self._in_tiles(self._evaluate, matrix, prices)

    def _in_tiles(self, executable: Any, matrix: Floats, *others: Floats) -> Floats:
        count = matrix.shape[1]
        results = []
        for start in range(0, count, self.tile):
            stop = min(start + self.tile, count)
            if stop - start == self.tile:
                inputs = [np.ascontiguousarray(x[:, start:stop]) for x in (matrix, *others)]
            else:
                inputs = [_padded(matrix[:, start:stop], self.tile, PADDING)]
                inputs += [_padded(x[:, start:stop], self.tile, [1.0] * len(x)) for x in others]
            results.append((executable(*inputs), stop - start))
        return np.concatenate([np.asarray(out)[:, :used] for out, used in results], axis=1)


def _padded(part: Floats, tile: int, filling: Iterable[float]) -> Floats:
    column = np.array(list(filling), dtype=np.float64)[:, None]
    return np.concatenate([part, np.repeat(column, tile - part.shape[1], axis=1)], axis=1)


def _evaluation(values: list[float], used: int, unlimited: bool, finite: bool) -> Evaluation:
    numbers = iter(values)
    objectives = tuple(islice(numbers, PRICES))[:used]
    slopes = tuple(islice(numbers, PRICES))[:used]
    greeks = Greeks._make(islice(numbers, _GREEKS))
    if unlimited:
        greeks = greeks._replace(rho=None, price_stock=None)
    parts = dict(zip(_PARTS, numbers, strict=True))
    return Evaluation(objectives, slopes, greeks, finite=finite, **parts)


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
