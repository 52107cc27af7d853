"""Pricing problems for the kernel tests, as numpy problems and as the kernel's rows."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from models.kernel.objective import Row
from tests.models.numpy_objective import Problem


def to_row(problem: Problem, lower: float = 0.2, upper: float = 5.0) -> Row:
    """The kernel's row of a problem; the bounds are multiples of the reference price."""
    unit = problem.reference_price
    return Row(
        unit_cost=problem.cost / unit,
        return_cost=problem.return_cost / unit,
        kept_share=problem.kept_share,
        horizon_days=problem.horizon_days,
        demand_per_day=problem.demand_per_day * math.exp(problem.level_shift),
        elasticity=problem.elasticity,
        rival_price=problem.rival_price / unit,
        rival_omega=problem.rival_omega,
        rival_tau=problem.rival_tau,
        demand_volatility=problem.demand_volatility,
        stock=1.0 if problem.stock is None else problem.stock,
        unlimited=1.0 if problem.stock is None else 0.0,
        holding_cost_per_day=problem.holding_cost_per_day / unit,
        continuation_value=problem.continuation_value / unit,
        risk_aversion=problem.risk_aversion,
        target_leftover=problem.target_leftover,
        value_volatility=problem.value_volatility,
        level_variance=problem.level_sd**2,
        level_elasticity_covariance=(
            problem.correlation * problem.level_sd * problem.elasticity_sd
        ),
        elasticity_variance=problem.elasticity_sd**2,
        return_min=problem.return_min,
        return_max=problem.return_max,
        return_intercept=problem.return_intercept,
        return_linear=problem.return_per_minor * unit,
        return_log=problem.return_per_log,
        return_rate_sd=problem.return_rate_sd,
        exact_small_stock=1.0 if problem.exact else 0.0,
        lower=lower,
        upper=upper,
        partner_profit_up=problem.partner_profit_up / unit,
        partner_elasticity_up=problem.partner_elasticity_up,
        partner_profit_down=problem.partner_profit_down / unit,
        partner_elasticity_down=problem.partner_elasticity_down,
        price_weight=problem.price_weight,
        cost_weight=problem.cost_weight,
        unit_weight=problem.unit_weight,
    )


def random_problem(rng: np.random.Generator) -> Problem:
    """One problem from all over the domain, every term of the objective at work."""
    reference = float(10.0 ** rng.uniform(1.5, 6.0))
    cost = reference * float(rng.uniform(0.3, 0.8))
    demand = float(10.0 ** rng.uniform(-1.0, 2.0))
    horizon = float(rng.uniform(0.5, 21.0))
    stock = None if rng.random() < 0.4 else float(demand * horizon * 10.0 ** rng.uniform(-1.0, 1.0))
    exact = rng.random() < 0.3
    if exact and stock is not None:
        stock = float(rng.uniform(0.5, 12.0))
    low, high = sorted(rng.uniform(0.0, 0.5, 2).tolist())
    return Problem(
        cost=cost,
        return_cost=cost * float(rng.uniform(0.0, 0.4)),
        reference_price=reference,
        horizon_days=horizon,
        demand_per_day=demand,
        elasticity=-float(rng.uniform(1.3, 5.0)),
        demand_volatility=float(rng.uniform(0.05, 0.8)),
        stock=stock,
        holding_cost_per_day=cost * float(rng.uniform(0.0, 0.01)),
        continuation_value=cost * float(rng.uniform(0.3, 1.0)),
        risk_aversion=float(rng.uniform(0.0, 0.5)),
        kept_share=float(rng.uniform(0.75, 1.0)),
        elasticity_sd=float(rng.uniform(0.01, 0.6)),
        level_sd=float(rng.uniform(0.01, 0.5)),
        return_rate_sd=float(rng.uniform(0.001, 0.1)),
        target_leftover=max(14.0 * demand, 1.0),
        value_volatility=float(rng.uniform(0.0, 0.05)),
        return_min=low,
        return_max=high,
        return_intercept=float(rng.normal()),
        return_per_minor=float(rng.normal()) / reference,
        return_per_log=float(rng.normal()),
        correlation=float(rng.uniform(-0.9, 0.9)),
        rival_price=reference * float(rng.uniform(0.7, 1.4)),
        rival_omega=0.0 if rng.random() < 0.5 else float(rng.uniform(0.1, 3.0)),
        rival_tau=0.03,
        exact=exact,
    )


def random_goal(problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem with a family beside it, and anything between profit, revenue and units."""
    profit = problem.reference_price * problem.demand_per_day
    return replace(
        problem,
        partner_profit_up=profit * float(rng.uniform(-0.1, 0.5)),
        partner_elasticity_up=float(rng.uniform(0.05, 1.5)),
        partner_profit_down=profit * float(rng.uniform(-0.1, 0.5)),
        partner_elasticity_down=-float(rng.uniform(0.05, 1.5)),
        price_weight=float(rng.uniform(0.0, 1.0)),
        cost_weight=float(rng.uniform(0.0, 1.0)),
        unit_weight=float(rng.uniform(0.0, 1.0)),
    )


def plain(**changes: float | None) -> Problem:
    """A simple problem to change one thing in: no returns, no risk, unlimited stock."""
    fields: dict[str, float | None] = {
        "cost": 50.0,
        "return_cost": 0.0,
        "reference_price": 100.0,
        "horizon_days": 7.0,
        "demand_per_day": 10.0,
        "elasticity": -2.0,
        "demand_volatility": 0.3,
        "stock": None,
        "holding_cost_per_day": 0.0,
        "continuation_value": 50.0,
        "risk_aversion": 0.0,
        "kept_share": 1.0,
        "elasticity_sd": 0.0,
        "level_sd": 0.0,
        "return_rate_sd": 0.0,
        "target_leftover": 140.0,
        "value_volatility": 0.0,
        "return_min": 0.0,
        "return_max": 0.0,
    }
    return Problem(**(fields | changes))  # type: ignore[arg-type]


#: Problems drawn by Hypothesis: a seed, so that a failure shrinks to one number and repeats.
problems = st.integers(0, 2**32 - 1).map(lambda seed: random_problem(np.random.default_rng(seed)))
