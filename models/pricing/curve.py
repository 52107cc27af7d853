"""A decision's profit as a curve of its price, and under other conditions: what if.

All of it is computed by the kernel from the decision record's ``inputs``, so at the decided price
it says what the record says.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from models.kernel.greeks import to_minor
from models.kernel.objective import Row
from models.kernel.tile import Evaluation, Kernel
from models.kernel.valuation import row_of
from models.pricing.pose import SEARCH_LOW, search_high, with_unit_cost
from schemas.errors import FieldError
from schemas.outputs import DecisionRecord

POINTS = 120
ROOM_BELOW, ROOM_ABOVE = 0.6, 1.5  # of the lowest and highest price that the curve has to show


class Problem(NamedTuple):
    """What the objective of a decision is computed from."""

    row: Row  # normalised
    reference_minor: float


class Changes(Struct, frozen=True, kw_only=True):
    """Conditions that differ from the decision's; those that are null do not."""

    unit_cost_minor: float | None = None
    elasticity: float | None = None
    stock_units: float | None = None
    return_rate: float | None = None
    horizon_days: float | None = None


class Point(Struct, frozen=True, kw_only=True):
    """The objective at one price; money in minor units, Greeks per horizon."""

    price_minor: float
    objective_per_day_minor: float
    expected_units_per_day: float
    margin_minor: float
    return_rate: float
    profit_sd_minor: float
    greeks: dict[str, float | None]


def problem_of(record: DecisionRecord) -> Problem:
    """The problem that a decision solved, with the bounds that its search had.

    Raises
    ------
    FieldError : the record is of a version that did not keep its inputs
    """
    if not record.inputs:
        raise FieldError(
            "no_inputs", "this decision was made before its inputs were recorded.",
            field="inputs", fix="Wait for the product's next decision.",
        )  # fmt: skip
    row = row_of(record.inputs)
    upper = search_high(row.unit_cost, row.kept_share)
    return Problem(
        row._replace(lower=SEARCH_LOW, upper=upper), float(record.demand.reference_price_minor)
    )


def changed(problem: Problem, changes: Changes, price_minor: float) -> Problem:
    """The problem under other conditions.

    With the unit cost move what a leftover costs to hold and is worth, in proportion, as for the
    Greek ``cost_slope``. A return rate is the one at ``price_minor``: the curve is shifted by its
    intercept, so that its slope stays.

    Raises
    ------
    FieldError : a return rate that the curve can't have
    """
    row, unit = problem.row, problem.reference_minor
    if changes.unit_cost_minor is not None:
        row = with_unit_cost(row, changes.unit_cost_minor / unit)
    if changes.elasticity is not None:
        row = row._replace(elasticity=changes.elasticity)
    if changes.stock_units is not None:
        row = row._replace(stock=changes.stock_units, unlimited=0.0)
    if changes.horizon_days is not None:
        row = row._replace(horizon_days=changes.horizon_days)
    if changes.return_rate is not None:
        row = _with_return_rate(row, changes.return_rate, price_minor / unit)
    return Problem(row, unit)


def _with_return_rate(row: Row, rate: float, price: float) -> Row:
    low, high = row.return_min, row.return_max
    if low == high:
        return row._replace(return_min=rate, return_max=rate)
    if not low < rate < high:
        raise FieldError(
            "return_rate_beyond", f"the return rate can't be {rate:g}.", field="return_rate",
            value=rate, expected=f"above {low:g} and below {high:g}",
        )  # fmt: skip
    share = (rate - low) / (high - low)
    here = row.return_linear * price + row.return_log * math.log(price)
    return row._replace(return_intercept=math.log(share / (1.0 - share)) - here)


def best_minor(problem: Problem, kernel: Kernel) -> float | None:
    """The price with the highest objective, minor units; None where it is not finite."""
    found = kernel.solve([problem.row])[0]
    return found.price * problem.reference_minor if found.finite else None


def points(problem: Problem, prices_minor: Sequence[float], kernel: Kernel) -> list[Point | None]:
    """The objective at each price; None where it is not finite."""
    unit = problem.reference_minor
    prices = [[price / unit] for price in prices_minor]
    found = kernel.evaluate([problem.row] * len(prices), prices)
    return [
        _point(problem, price, at) if at.finite else None
        for price, at in zip(prices_minor, found, strict=True)
    ]


def _point(problem: Problem, price_minor: float, at: Evaluation) -> Point:
    unit, days = problem.reference_minor, problem.row.horizon_days
    return Point(
        price_minor=price_minor,
        objective_per_day_minor=at.objectives[-1] * unit / days,
        expected_units_per_day=at.expected_sales / days,
        margin_minor=at.margin * unit,
        return_rate=at.return_rate,
        profit_sd_minor=at.profit_sd * unit,
        greeks=dict(to_minor(at.greeks, unit)._asdict()),
    )


def grid(known_minor: Sequence[float]) -> list[float]:
    """`POINTS` prices, even in their logarithm, around those that the curve has to show."""
    low, high = ROOM_BELOW * min(known_minor), ROOM_ABOVE * max(known_minor)
    step = math.log(high / low) / (POINTS - 1)
    return [low * math.exp(step * index) for index in range(POINTS)]


def bounds_minor(record: DecisionRecord) -> tuple[float | None, float | None]:
    """The least and the highest price that the guards left, where one of them bound."""
    clamps = record.clamps
    lifted = [one.bound_minor for one in clamps if one.price_after_minor > one.price_before_minor]
    capped = [one.bound_minor for one in clamps if one.price_after_minor < one.price_before_minor]
    return max(lifted, default=None), min(capped, default=None)


def curve(record: DecisionRecord, chosen_minor: float, kernel: Kernel) -> dict[str, Any]:
    """The curve with the chosen price, the optimum, and what the guards left of it.

    Raises
    ------
    FieldError : the record has no inputs
    """
    problem = problem_of(record)
    best = best_minor(problem, kernel)
    lower, upper = bounds_minor(record)
    known = [price for price in (chosen_minor, best, lower, upper) if price is not None]
    prices = grid(known)
    found = points(problem, [*prices, chosen_minor, *([] if best is None else [best])], kernel)
    optimum = None if best is None else found[POINTS + 1]
    return {
        "price_minor": prices,
        "objective_per_day_minor": [
            None if one is None else one.objective_per_day_minor for one in found[:POINTS]
        ],
        "expected_units_per_day": [
            None if one is None else one.expected_units_per_day for one in found[:POINTS]
        ],
        "chosen": found[POINTS],
        "optimum": optimum,
        "lower_minor": lower,
        "upper_minor": upper,
        "clamps": record.clamps,
    }


def what_if(
    record: DecisionRecord,
    present_minor: float,
    changes: Changes,
    price_minor: float | None,
    kernel: Kernel,
) -> dict[str, Any]:
    """The objective under other conditions: at a price, or at the best one under them.

    ``present`` is the same conditions at today's price.

    Raises
    ------
    FieldError : the record has no inputs, a return rate can't be, or nothing is finite
    """
    problem = changed(problem_of(record), changes, present_minor)
    best = best_minor(problem, kernel)
    asked = best if price_minor is None else price_minor
    if best is None or asked is None:
        raise _not_finite()
    at, at_best, present = points(problem, [asked, best, present_minor], kernel)
    if at is None or at_best is None or present is None:
        raise _not_finite()
    return {
        **{name: getattr(at, name) for name in Point.__struct_fields__},
        "best_price_minor": best,
        "best_objective_per_day_minor": at_best.objective_per_day_minor,
        "present": present,
    }


def _not_finite() -> FieldError:
    return FieldError(
        "not_finite", "the objective is no finite number under these conditions.",
        expected="conditions nearer to the present ones",
    )  # fmt: skip
