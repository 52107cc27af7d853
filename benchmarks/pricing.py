"""Pricing and all Greeks: the compiled kernels against vectorised numpy, in one run.

    python -m benchmarks.pricing [--skus N] [--repeats N]

Both get the same catalogue as arrays, float64, one thread, and search with the same grid, starts,
steps and tolerance. The kernels give price and all Greeks at it; numpy gives the price alone, in
the chunk size that was fastest of the sizes tried. The best of the repeats counts, in turns. The
two must agree on every price to 1e-8, or the benchmark fails.

The result goes to stdout and to benchmarks/results/pricing.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy
from numpy.typing import NDArray

from benchmarks import numpy_solver
from models.kernel.objective import Row
from models.kernel.tile import TILE, Kernel
from streams.worker.machine import read_machine, use_one_thread

RESULT = Path(__file__).parent / "results" / "pricing.json"
AGREEMENT = 1e-8  # relative, of prices
CHUNKS = (2_048, 4_096, 8_192, 16_384, 60_000)

Floats = NDArray[np.float64]


def make_catalogue(skus: int, seed: int = 1) -> Floats:
    """Return rows [fields, skus] as the live engine poses them: stock, rivals, returns, risk."""
    rng = np.random.default_rng(seed)

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, skus)

    demand = 10.0 ** uniform(-1.0, 1.5)
    cost = uniform(0.35, 0.75)
    low = uniform(0.01, 0.1)
    row = Row(
        unit_cost=cost,
        return_cost=0.1 * cost,
        kept_share=np.full(skus, 1.0 / 1.2),
        horizon_days=np.full(skus, 7.0),
        demand_per_day=demand,
        elasticity=-uniform(1.4, 4.0),
        rival_price=uniform(0.8, 1.3),
        rival_omega=np.where(rng.random(skus) < 0.6, uniform(0.2, 2.0), 0.0),
        rival_tau=np.full(skus, 0.03),
        demand_volatility=uniform(0.1, 0.5),
        stock=np.ceil(7.0 * demand * 10.0 ** uniform(-0.7, 1.0)),
        unlimited=(rng.random(skus) < 0.2).astype(np.float64),
        holding_cost_per_day=0.0005 * cost,
        continuation_value=0.95 * cost,
        risk_aversion=np.full(skus, 0.1),
        target_leftover=np.maximum(14.0 * demand, 1.0),
        value_volatility=np.full(skus, 0.02),
        level_variance=uniform(0.01, 0.1),
        level_elasticity_covariance=uniform(-0.005, 0.005),
        elasticity_variance=uniform(0.01, 0.2),
        return_min=low,
        return_max=low + uniform(0.05, 0.4),
        return_intercept=rng.normal(-1.0, 0.5, skus),
        return_linear=np.zeros(skus),
        return_log=rng.normal(0.5, 1.0, skus),
        return_rate_sd=uniform(0.005, 0.05),
        exact_small_stock=np.ones(skus),
        lower=np.full(skus, 0.5),
        upper=np.full(skus, 2.5),
        partner_profit_up=np.zeros(skus),
        partner_elasticity_up=np.zeros(skus),
        partner_profit_down=np.zeros(skus),
        partner_elasticity_down=np.zeros(skus),
        price_weight=np.ones(skus),
        cost_weight=np.ones(skus),
        unit_weight=np.zeros(skus),
    )  # type: ignore[arg-type]
    return np.array(row)


def by_kernel(kernel: Kernel, matrix: Floats) -> Floats:
    """Return the prices, having found all Greeks at them too."""
    solved = kernel.solve_arrays(matrix)
    kernel.evaluate_arrays(matrix, solved[:1])
    return solved[0]


def by_numpy(matrix: Floats, chunk: int) -> Floats:
    """Return the prices."""
    skus = matrix.shape[1]
    parts = [numpy_solver.solve(matrix[:, at : at + chunk])[0] for at in range(0, skus, chunk)]
    return np.concatenate(parts)


def seconds(run: Callable[[], Floats]) -> tuple[float, Floats]:
    """Return how long a run took, and its prices."""
    start = time.perf_counter()
    prices = run()
    return time.perf_counter() - start, prices


def compare(kernel: Kernel, matrix: Floats, repeats: int) -> dict[str, Any]:
    """Time both in turns and check that they agree."""
    tried = {chunk: seconds(lambda c=chunk: by_numpy(matrix, c))[0] for chunk in CHUNKS}
    chunk = min(tried, key=lambda size: tried[size])
    by_kernel(kernel, matrix[:, :TILE])
    ours, theirs, solving = [], [], []
    for _ in range(repeats):
        took, prices = seconds(lambda: by_kernel(kernel, matrix))
        ours.append(took)
        took, expected = seconds(lambda: by_numpy(matrix, chunk))
        theirs.append(took)
        solving.append(seconds(lambda: kernel.solve_arrays(matrix)[0])[0])
    per_sku = 1e6 / matrix.shape[1]
    return {
        "ratio": min(theirs) / min(ours),
        "kernel_microseconds_per_sku": min(ours) * per_sku,
        "kernel_price_only_microseconds_per_sku": min(solving) * per_sku,
        "numpy_price_only_microseconds_per_sku": min(theirs) * per_sku,
        "price_only_ratio": min(theirs) / min(solving),
        "numpy_chunk_rows": chunk,
        "prices_differ_relative_max": float(np.max(np.abs(prices / expected - 1.0))),
    }


def main() -> int:
    """Run the benchmark; 5 when the two do not agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skus", type=int, default=60_000, help="rows priced (default 60000)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each (default 5)")
    options = parser.parse_args()
    use_one_thread()
    start = time.perf_counter()
    kernel = Kernel.warm(machine=read_machine())
    compiled_seconds = time.perf_counter() - start
    result = compare(kernel, make_catalogue(options.skus), options.repeats)
    document = {
        "benchmark": "pricing",
        "skus": options.skus,
        "tile": kernel.tile,
        **result,
        "compile_seconds": compiled_seconds,
        "python": sys.version.split()[0],
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": read_machine(),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    return 0 if result["prices_differ_relative_max"] <= AGREEMENT else 5


if __name__ == "__main__":
    sys.exit(main())
