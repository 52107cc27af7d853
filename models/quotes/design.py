"""What the light model is trained on: products as they are, and a wide design around them.

Each row of the design is a product's with its cost, demand, elasticity, stock, horizon, doubts,
returns and rival drawn anew around what they are: what quotes may suppose, and what the next weeks
may bring. Seeded: the same rows and seed give the same design.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.kernel.objective import Row
from models.pricing.pose import SEARCH_HIGH

Floats = NDArray[np.float64]

COST, DEMAND, COVER_DAYS = (0.5, 2.0), (1 / 3, 3.0), (0.1, 60.0)
ELASTICITY, ELASTICITY_MAX = (0.75, 1.3), -1.15
UNLIMITED_SHARE, RIVAL_SHARE, OMEGA_MAX = 0.15, 0.5, 2.0
HELD_OUT_SHARE = 0.2


class Split(NamedTuple):
    """Places of products: those to learn from, those to test with."""

    training: list[int]
    held_out: list[int]


def split(products: int, seed: int) -> Split:
    """Hold a fifth of the products out, at least one."""
    rng = np.random.default_rng([seed, 0])
    order = rng.permutation(products).tolist()
    count = max(int(HELD_OUT_SHARE * products), 1)
    return Split(sorted(order[count:]), sorted(order[:count]))


def around(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """``count`` rows drawn around these, each around one of them."""
    rng = np.random.default_rng([seed, 1])
    base = np.array(rows, dtype=np.float64)[rng.integers(0, len(rows), count)].T
    drawn = dict(zip(Row._fields, base, strict=True))
    _costs(drawn, rng)
    _demand(drawn, rng)
    _stock(drawn, rng)
    _others(drawn, rng)
    drawn["upper"] = SEARCH_HIGH * np.maximum(1.0, drawn["unit_cost"] / drawn["kept_share"])
    return [Row._make(row) for row in np.array(list(drawn.values())).T.tolist()]


def _log(rng: np.random.Generator, bounds: tuple[float, float], count: int) -> Floats:
    low, high = bounds
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def _costs(drawn: dict[str, Floats], rng: np.random.Generator) -> None:
    count = len(drawn["unit_cost"])
    scale = _log(rng, COST, count)
    for name in ("unit_cost", "holding_cost_per_day", "continuation_value"):
        drawn[name] = drawn[name] * scale
    handled = np.where(rng.random(count) < 0.5, scale, 1.0)  # a share of the cost, or fixed
    drawn["return_cost"] = drawn["return_cost"] * handled


def _demand(drawn: dict[str, Floats], rng: np.random.Generator) -> None:
    count = len(drawn["unit_cost"])
    drawn["demand_per_day"] = drawn["demand_per_day"] * _log(rng, DEMAND, count)
    steeper = drawn["elasticity"] * rng.uniform(*ELASTICITY, count)
    drawn["elasticity"] = np.minimum(steeper, ELASTICITY_MAX)
    drawn["level_variance"] = drawn["level_variance"] * _log(rng, (0.3, 2.0), count)
    drawn["elasticity_variance"] = drawn["elasticity_variance"] * _log(rng, (0.1, 1.5), count)
    most = 0.8 * np.sqrt(drawn["level_variance"] * drawn["elasticity_variance"])
    name = "level_elasticity_covariance"
    drawn[name] = np.clip(drawn[name], -most, most)
    drawn["rival_price"] = drawn["rival_price"] * _log(rng, (0.8, 1.25), count)
    omega = np.where(rng.random(count) < RIVAL_SHARE, rng.uniform(0.0, OMEGA_MAX, count), 0.0)
    drawn["rival_omega"] = np.maximum(drawn["rival_omega"], omega)


def _stock(drawn: dict[str, Floats], rng: np.random.Generator) -> None:
    count = len(drawn["unit_cost"])
    drawn["unlimited"] = (rng.random(count) < UNLIMITED_SHARE).astype(np.float64)
    drawn["stock"] = np.round(_log(rng, COVER_DAYS, count) * drawn["demand_per_day"])
    days = drawn["horizon_days"] * _log(rng, (0.3, 2.0), count)
    drawn["horizon_days"] = np.clip(days, 0.25, 30.0)
    target = drawn["target_leftover"] * _log(rng, (0.3, 3.0), count)
    drawn["target_leftover"] = np.maximum(target, 1.0)


def _others(drawn: dict[str, Floats], rng: np.random.Generator) -> None:
    count = len(drawn["unit_cost"])
    drawn["return_intercept"] = drawn["return_intercept"] + rng.uniform(-1.0, 1.0, count)
    drawn["return_log"] = drawn["return_log"] + rng.uniform(-1.5, 1.5, count)
    drawn["return_rate_sd"] = drawn["return_rate_sd"] * _log(rng, (0.5, 2.0), count)
    drawn["risk_aversion"] = np.minimum(drawn["risk_aversion"] * _log(rng, (0.5, 2.0), count), 0.5)
    volatility = drawn["demand_volatility"] * _log(rng, (0.5, 1.5), count)
    drawn["demand_volatility"] = volatility
