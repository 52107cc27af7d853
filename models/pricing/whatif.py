"""Price a product from its parameters alone: the objective, without a tape or a broker."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from models.kernel.greeks import Greeks, to_minor
from models.kernel.objective import Row
from models.kernel.solver import AT_LOWER, AT_UPPER
from models.kernel.tile import Evaluation, Kernel
from schemas.errors import FieldError
from schemas.money import minor_digits
from schemas.whatif import (
    TARGET_LEFTOVER_DAYS,
    ConstantReturns,
    LogisticPrice,
    ReturnRate,
    WhatIfRequest,
    defaulted,
    read_request,
)

# The default search spans from this share of the smaller to this multiple of the larger of the
# reference price and the break-even price: an elasticity of -1.001 still has its optimum inside.
LOWER_SHARE = 0.01
UPPER_MULTIPLE = 1_000.0
SLICES = 8  # each gets a grid of its own, since the default range is wide
RETURN_RATE_CAP = 0.99  # in the break-even price of the default range

STEPS = ("frictionless", "with_stock", "with_risk")


class _Best(NamedTuple):
    """The best of a problem's slices, normalised by the reference price."""

    price: float
    objective: float
    at_bound: int
    converged: bool


def whatif(document: object, kernel: Kernel) -> dict[str, Any]:
    """Return the best price of one problem, or the value of a given price.

    Parameters
    ----------
    document : the fields of :class:`schemas.whatif.WhatIfRequest`
    kernel : the compiled kernels

    Returns
    -------
    Plain values, money in minor units: ``price_minor``, ``expected_profit_minor``,
    ``objective_minor``, ``greeks``, ``at_bound``, ``method``, what the profit is made of,
    ``steps``, ``flags``, and the fields that took a default.

    Raises
    ------
    FieldError : a field is wrong, or the problem overflows float64
    """
    return whatifs([document], kernel)[0]


def whatifs(documents: Sequence[object], kernel: Kernel) -> list[dict[str, Any]]:
    """Return :func:`whatif` of each document, in order, priced together."""
    requests = [_read(document, index, len(documents)) for index, document in enumerate(documents)]
    problems = [_steps(request) for request in requests]
    slices = [row for steps in problems for step in steps for row in _sliced(step)]
    solutions = kernel.solve(slices)
    found = iter(
        _best(slices[start : start + SLICES], solutions[start : start + SLICES])
        for start in range(0, len(slices), SLICES)
    )
    steps = [[next(found) for _ in STEPS] for _ in requests]
    prices = [_asked(request, best[-1]) for request, best in zip(requests, steps, strict=True)]
    rows = [problem[-1] for problem in problems]
    at = kernel.evaluate(rows, [[price] for price in prices])
    return [
        _answer(_Case(index, len(documents), document, request, row, best, price, evaluation))
        for index, (document, request, row, best, price, evaluation) in enumerate(
            zip(documents, requests, rows, steps, prices, at, strict=True)
        )
    ]


def request_row(request: WhatIfRequest) -> Row:
    """Return the kernel's row of a request, normalised by its reference price."""
    unit = request.reference_price_minor
    kept = (1.0 - request.fee_rate) / (1.0 + request.vat_rate)
    lower, upper = _bounds(request, kept)
    worth = request.continuation_value_minor
    target = request.target_leftover
    low, high, intercept, linear, log_slope = _return_curve(request.return_rate, request)
    return Row(
        unit_cost=request.cost_minor / unit,
        return_cost=request.return_cost_minor / unit,
        kept_share=kept,
        horizon_days=request.horizon_days,
        demand_per_day=request.demand_per_day,
        elasticity=request.elasticity,
        rival_price=1.0,
        rival_omega=0.0,
        rival_tau=0.0,
        demand_volatility=request.demand_volatility,
        stock=1.0 if request.stock is None else request.stock,
        unlimited=1.0 if request.stock is None else 0.0,
        holding_cost_per_day=request.holding_cost_minor_per_day / unit,
        continuation_value=(request.cost_minor if worth is None else worth) / unit,
        risk_aversion=request.risk_aversion,
        target_leftover=(
            max(TARGET_LEFTOVER_DAYS * request.demand_per_day, 1.0) if target is None else target
        ),
        value_volatility=request.value_volatility_per_sqrt_day,
        level_variance=request.level_sd**2,
        level_elasticity_covariance=0.0,
        elasticity_variance=request.elasticity_sd**2,
        return_min=low,
        return_max=high,
        return_intercept=intercept,
        return_linear=linear,
        return_log=log_slope,
        return_rate_sd=request.return_rate_sd,
        exact_small_stock=1.0 if request.sales_model == "exact_small_stock" else 0.0,
        lower=lower / unit,
        upper=upper / unit,
    )


def _read(document: object, index: int, count: int) -> WhatIfRequest:
    try:
        return read_request(document)
    except FieldError as error:
        error.where = _where(index, count)
        raise


def _where(index: int, count: int) -> str | None:
    return f"case {index + 1} of {count}" if count > 1 else None


def _return_curve(
    rate: ReturnRate, request: WhatIfRequest
) -> tuple[float, float, float, float, float]:
    """Return the curve's min, max, intercept, slope by normalised price, slope by its log."""
    if isinstance(rate, ConstantReturns):
        return rate.rate, rate.rate, 0.0, 0.0, 0.0
    if isinstance(rate, LogisticPrice):
        per_minor = rate.steepness / 10 ** minor_digits(request.currency)
        linear = per_minor * request.reference_price_minor
        return rate.min, rate.max, -per_minor * rate.midpoint_minor, linear, 0.0
    return rate.min, rate.max, rate.intercept, 0.0, rate.slope


def _bounds(request: WhatIfRequest, kept: float) -> tuple[float, float]:
    """Return the search's bounds in minor units: given, or far away."""
    rate = request.return_rate
    worst = rate.rate if isinstance(rate, ConstantReturns) else rate.max
    worst = min(worst, RETURN_RATE_CAP)
    returned = request.return_cost_minor * worst / (1.0 - worst)
    break_even = (request.cost_minor + returned) / kept
    low, high = sorted((request.reference_price_minor, break_even))
    lower = LOWER_SHARE * low if request.lower_minor is None else request.lower_minor
    upper = UPPER_MULTIPLE * high if request.upper_minor is None else request.upper_minor
    if lower < upper:
        return lower, upper
    # Only one bound was given, and it lies beyond the other's default.
    if request.lower_minor is None:
        return upper * LOWER_SHARE, upper
    return lower, lower * UPPER_MULTIPLE


def _steps(request: WhatIfRequest) -> tuple[Row, Row, Row]:
    """Return the problem without stock and risk, without risk, and whole."""
    row = request_row(request)
    with_stock = row._replace(risk_aversion=0.0)
    return with_stock._replace(unlimited=1.0), with_stock, row


def _sliced(row: Row) -> list[Row]:
    """Return the row once for each slice of its range, even in log price."""
    ratio = math.log(row.upper / row.lower) / SLICES
    inner = [row.lower * math.exp(ratio * index) for index in range(1, SLICES)]
    edges = [row.lower, *inner, row.upper]
    return [row._replace(lower=low, upper=high) for low, high in pairwise(edges)]


def _best(rows: Sequence[Row], solutions: Sequence[Any]) -> _Best | None:
    """Return the best of the slices; None when no slice gave a number."""
    usable = [solution for solution in solutions if solution.finite]
    if not usable:
        return None
    best = max(usable, key=lambda solution: solution.objective)
    at_bound = 0
    if best.price <= rows[0].lower:
        at_bound = AT_LOWER
    elif best.price >= rows[-1].upper:
        at_bound = AT_UPPER
    return _Best(best.price, best.objective, at_bound, best.converged)


def _asked(request: WhatIfRequest, best: _Best | None) -> float:
    if request.price_minor is not None:
        return request.price_minor / request.reference_price_minor
    return 1.0 if best is None else best.price


class _Case(NamedTuple):
    """One problem with its results."""

    number: int
    of: int
    document: Any
    request: WhatIfRequest
    row: Row
    steps: list[_Best | None]
    price: float
    at: Evaluation


def _answer(case: _Case) -> dict[str, Any]:
    request, at, unit = case.request, case.at, case.request.reference_price_minor
    best = case.steps[-1]
    if best is None or not at.finite:
        raise FieldError(
            "not_finite",
            "the objective is not a finite number at this problem's prices.",
            where=_where(case.number, case.of),
            field="price_minor" if request.price_minor is not None else "elasticity",
            value=case.price * unit if request.price_minor is not None else request.elasticity,
            expected="demand, costs and prices whose products stay below 1e308",
            fix="Narrow lower_minor and upper_minor, or bring the amounts nearer to each other.",
        )
    given = request.price_minor is not None
    at_bound = _position(case) if given else best.at_bound
    greeks = to_minor(at.greeks, unit)
    return {
        "price_minor": request.price_minor if given else case.price * unit,
        "currency": request.currency,
        "expected_profit_minor": at.expected_profit * unit,
        "objective_minor": at.objectives[-1] * unit,
        "method": "given" if given else ("bound" if at_bound else "newton"),
        "at_bound": {AT_LOWER: "lower", AT_UPPER: "upper"}.get(at_bound),
        "greeks": {
            name: None if value is None else value + 0.0  # -0.0 becomes 0.0
            for name, value in greeks._asdict().items()
        },
        "scaled_delta": _scaled_delta(greeks, case.price * unit, at.objectives[-1] * unit),
        "mean_demand_units": at.mean_demand,
        "expected_sales_units": at.expected_sales,
        "return_rate": at.return_rate,
        "margin_minor": at.margin * unit,
        "profit_sd_minor": at.profit_sd * unit,
        "left_on_table_minor": max(best.objective - at.objectives[-1], 0.0) * unit,
        "lower_minor": case.row.lower * unit,
        "upper_minor": case.row.upper * unit,
        "steps": [_step(name, step, unit) for name, step in zip(STEPS, case.steps, strict=True)],
        "flags": _flags(case, at_bound),
        "defaulted": defaulted(case.document, request),
    }


def _position(case: _Case) -> int:
    """Return at which bound a given price lies, or 0."""
    if case.price <= case.row.lower:
        return AT_LOWER
    return AT_UPPER if case.price >= case.row.upper else 0


def _scaled_delta(greeks: Greeks, price_minor: float, objective_minor: float) -> float | None:
    """Return Delta P / Pi; None when there is no profit to compare with."""
    return greeks.delta * price_minor / objective_minor if objective_minor > 0.0 else None


def _step(name: str, best: _Best | None, unit: float) -> dict[str, Any]:
    if best is None:
        return {"step": name, "price_minor": None, "objective_minor": None, "at_bound": None}
    return {
        "step": name,
        "price_minor": best.price * unit,
        "objective_minor": best.objective * unit,
        "at_bound": {AT_LOWER: "lower", AT_UPPER: "upper"}.get(best.at_bound),
    }


def _flags(case: _Case, at_bound: int) -> list[str]:
    """Return what a reader should know, in a fixed order."""
    request, best = case.request, case.steps[-1]
    given = request.price_minor is not None
    known = {
        "inelastic": request.elasticity >= -1.0,
        "at_lower_bound": at_bound == AT_LOWER,
        "at_upper_bound": at_bound == AT_UPPER,
        "outside_bounds": given and not case.row.lower <= case.price <= case.row.upper,
        "unlimited_stock": request.stock is None,
        "out_of_stock": request.stock == 0.0,
        "loses_money": case.at.expected_profit < 0.0,
        "not_concave": not at_bound and case.at.greeks.gamma >= 0.0,
        "not_converged": best is None or not best.converged,
    }
    return [name for name, present in known.items() if present]
