"""P&L explain, model layer: why the expected profit Pi changed between two decisions.

Pi is a function of price and inputs, all of them recorded. The straight path between two decisions
is cut into small steps, and each step's change is told by the Greeks at its two ends (trapezoidal
rule): a Taylor expansion to the second order, whose terms add up over the path. What they leave is
the revaluation. Equations, choice of the steps, and figures: ``docs/pnl-explain.md``.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from models.kernel import valuation
from models.kernel.objective import PADDING, Row, fixed_parts, terms
from schemas.outputs import PriceDecided

Floats = NDArray[np.float64]

STEPS = 16
TILE = 256  # rows a call: one compiled shape
#: The terms of the price, of the other inputs, and what they leave; money in minor units.
PRICE_TERMS = ("delta", "gamma", "vanna", "price_stock", "price_cross")
#: Which term an input's change belongs to; whatever is not named is policy's.
INPUT_TERMS = {
    "demand_volatility": "vega",
    "stock": "rho",
    "horizon_days": "theta",
    "elasticity": "elasticity",
    "demand_per_day": "level",
    "target_leftover": "target",
    "level_variance": "uncertainty",
    "level_elasticity_covariance": "uncertainty",
    "elasticity_variance": "uncertainty",
    "rival_price": "rivals",
    "rival_omega": "rivals",
    "unit_cost": "cost",
    "holding_cost_per_day": "cost",
    "continuation_value": "cost",
    "return_cost": "handling",
    "return_intercept": "returns",
    "return_linear": "returns",
    "return_log": "returns",
    "return_rate_sd": "returns",
    "kept_share": "fees",
    "partner_profit_up": "family",
    "partner_elasticity_up": "family",
    "partner_profit_down": "family",
    "partner_elasticity_down": "family",
}
TERMS = (*PRICE_TERMS, *dict.fromkeys(INPUT_TERMS.values()), "policy")
_LOGS = ("demand_per_day", "rival_price")  # these move in logarithms
_PRICE = len(Row._fields)  # the price stands after the row's fields
_SIGMA, _STOCK = Row._fields.index("demand_volatility"), Row._fields.index("stock")


class Valuation(NamedTuple):
    """A decision's Pi, and what it follows from."""

    objective_minor: float  # Pi over the horizon
    reference_minor: int
    price: float  # normalised by the reference price, as the row is
    row: Row


class Change(NamedTuple):
    """Why Pi changed, minor units over the horizon; terms and revaluation add up to the change."""

    change_minor: float
    terms: dict[str, float]  # by TERMS
    revaluation_minor: float


def valuation_of(decision: PriceDecided) -> Valuation | None:
    """What a published decision says its price is worth; None where it says nothing.

    A held decision values a price that no buyer sees.
    """
    record, price_minor = decision.record, decision.price_minor
    if decision.status != "published" or price_minor is None or record is None:
        return None
    if not record.inputs:
        return None
    row = valuation.row_of(record.inputs)
    reference_minor = record.demand.reference_price_minor
    return Valuation(
        objective_minor=record.objective_per_day_minor * row.horizon_days,
        reference_minor=reference_minor,
        price=price_minor / reference_minor,
        row=row,
    )


def explain(pairs: Sequence[tuple[Valuation, Valuation]], steps: int = STEPS) -> list[Change]:
    """Explain the change of Pi from the first to the second valuation of each pair.

    Parameters
    ----------
    pairs : of one product each, in one currency
    steps : into which the path is cut; 1 takes the Greeks at the two decisions alone

    Notes
    -----
    Where stock was not known before, or the reference price was set anew, there is no path: all
    of it is revaluation.

    Raises
    ------
    ValueError : steps is below 1
    """
    if steps < 1:
        raise ValueError(f"steps was {steps}; expected 1 or more")
    found: list[Change] = []
    for start in range(0, len(pairs), TILE):
        part = pairs[start : start + TILE]
        split = _split(_points([a for a, _ in part]), _points([b for _, b in part]), steps)
        for number, (a, b) in enumerate(part):
            found.append(_change(a, b, split[:, number]))
    return found


def _change(before: Valuation, after: Valuation, split: Floats) -> Change:
    change = after.objective_minor - before.objective_minor
    connected = (
        before.reference_minor == after.reference_minor
        and before.row.unlimited == after.row.unlimited
        and bool(np.all(np.isfinite(split)))
    )
    values = split * before.reference_minor if connected else np.zeros_like(split)
    told = dict.fromkeys(TERMS, 0.0)
    told.update(zip(PRICE_TERMS, values[_PRICE:].tolist(), strict=True))
    for name, value in zip(Row._fields, values[:_PRICE].tolist(), strict=True):
        told[INPUT_TERMS.get(name, "policy")] += value
    return Change(change, told, change - sum(told.values()))


def _points(at: Sequence[Valuation]) -> Floats:
    """Rows and prices [fields + 1, TILE], some in logs, filled up with harmless ones."""
    points = np.tile(np.array([*PADDING, 1.0])[:, None], TILE)
    points[:, : len(at)] = np.array([[*one.row, one.price] for one in at]).T
    for name in _LOGS:
        place = Row._fields.index(name)
        points[place] = np.log(points[place])
    return points


def _split(a: Floats, b: Floats, steps: int) -> Floats:
    """What each input and each term of the price contributes [fields + price terms, TILE].

    With moves d and the gradient g(t) along the path, an input contributes ``d int g dt``. The
    price's own integral is told apart by what moved delta, with Taylor's integral remainder:
    ``d delta(0) + d int (1 - t) (gamma d + vanna d_sigma + ...) dt``.
    """
    gradient, second = _compiled()
    moves = b - a
    first = np.zeros_like(a)
    of_delta = np.zeros_like(a)
    delta = np.zeros_like(moves[_PRICE])
    for step in range(steps + 1):
        t = step / steps
        weight = (0.5 if step in (0, steps) else 1.0) / steps
        at = a + t * moves
        slopes = np.asarray(gradient(at))
        first += weight * slopes
        of_delta += weight * (1.0 - t) * np.asarray(second(at))
        if step == 0:
            delta = slopes[_PRICE]
    inputs = first * moves
    move = moves[_PRICE]
    of_delta = of_delta * moves * move
    told = [delta * move, of_delta[_PRICE], of_delta[_SIGMA], of_delta[_STOCK]]
    told.append(inputs[_PRICE] - sum(told))
    return np.concatenate([inputs[:_PRICE], np.array(told)])


@cache
def _compiled() -> tuple[Any, Any]:
    """Gradient of Pi, and of its delta, by all inputs and the price: [fields + 1, TILE] each."""

    def total(at: Array) -> Array:
        row = Row._make(
            jnp.exp(values) if name in _LOGS else values
            for name, values in zip(Row._fields, at[:_PRICE], strict=True)
        )
        return jnp.sum(terms(jnp.log(at[_PRICE]), row, fixed_parts(row)).objective)

    gradient = jax.grad(total)

    def by_price(at: Array) -> Array:
        along = jnp.zeros_like(at).at[_PRICE].set(1.0)
        tangent: Array = jax.jvp(gradient, (at,), (along,))[1]
        return tangent

    return jax.jit(gradient), jax.jit(by_price)
