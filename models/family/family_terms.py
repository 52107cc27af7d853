"""From a family's optimum to the rows of its members: what the own price does to partners.

The kernel prices each member by itself, exactly with its stock and risk. What it needs to know of
the family are the partners' profits as a function of its own price, ``A + B P^eps``: they gain
or lose with the customers that the own demand loses. Then its best price is its mark-up on what a
unit costs *and* on what the buyer would bring elsewhere in the family (the diversion ratio of
J. Farrell, C. Shapiro, 2010).
"""

import math
from typing import NamedTuple

import numpy as np

from models.family.family_demand import BudgetChoice
from models.family.family_pricing import Family, Joint
from models.family.family_profit import Floats, Member, earned
from models.kernel.objective import Row
from models.kernel.tile import Solution
from schemas.outputs import FamilyView

STOCK_UNITS_MIN = 1e-3  # an empty shelf has the limit of a nearly empty one
BUDGET_ROOM_LOG = 0.02  # how far the kernel looks around prices that were chosen by budgets


class Together(NamedTuple):
    """What a member's decision knows of its family.

    ``alone`` is its row without partners, ``alone_minor`` its best price once that is solved.
    """

    alone: Row
    told: FamilyView
    alone_minor: float | None = None

    def priced(self, solution: Solution, reference_minor: int) -> "Together":
        """With the best price alone; None where the numbers were not finite."""
        price = solution.price * reference_minor if solution.finite else None
        return self._replace(alone_minor=price)


def member_of(row: Row, reference_minor: int, now: float, low: float, high: float) -> Member:
    """A kernel row as a member of a family; its log price now, and the least and most allowed.

    What is maximised is the row's: margins are weighed as the kernel weighs them.
    """
    limited = row.unlimited < 0.5
    overage = row.unit_cost + row.holding_cost_per_day * row.horizon_days - row.continuation_value
    risk = 0.5 * row.risk_aversion * row.value_volatility**2 * row.horizon_days
    return Member(
        weight=float(reference_minor),
        demand_per_day=row.demand_per_day,
        elasticity=row.elasticity,
        unit_cost=(row.cost_weight - row.unit_weight) * row.unit_cost,
        return_cost=row.cost_weight * row.return_cost,
        kept_share=row.price_weight * row.kept_share,
        return_min=row.return_min,
        return_max=row.return_max,
        return_intercept=row.return_intercept,
        return_log=row.return_log,
        ln_price=now,
        low=low,
        high=high,
        rival_omega=row.rival_omega,
        rival_threshold=math.log(row.rival_price) + row.rival_tau,
        horizon_days=row.horizon_days,
        stock=max(row.stock, STOCK_UNITS_MIN) if limited else math.inf,
        demand_volatility=row.demand_volatility,
        overage=row.cost_weight * overage if limited else 0.0,
        value_risk=risk * row.unit_cost / row.target_leftover if limited else 0.0,
        target_leftover=row.target_leftover,
    )


def gains_of_moving(family: Family, joint: Joint, now: Floats) -> tuple[Floats, Floats]:
    """What each member's move from its present price to the joint optimum earns [n], a day.

    The others stand at the optimum. And the size [n] of what it earns together with its partners.
    """
    columns, demand, x = family.columns, family.demand, joint.ln_price
    back = np.where(np.eye(len(x)) > 0.0, now, x)
    at = earned(columns, x, demand.log_demand(x))
    stayed = earned(columns, back, demand.log_demand(back)).profit.sum(axis=1)
    beside = np.abs(at.profit + partner_worth(family, at.by_demand).sum(axis=1))
    return at.profit.sum() - stayed, beside


def partner_worth(family: Family, worth: Floats) -> Floats:
    """``worth_j`` where the price of i moves the demand of j, by (i, j); 0 elsewhere [n, n]."""
    if isinstance(family.demand, BudgetChoice):
        moved = 1.0 - np.eye(len(worth))
    else:
        moved = (family.demand.cross.T != 0.0).astype(float)
    return np.asarray(moved * worth)


def row_with_partners(row: Row, family: Family, joint: Joint, stand: Floats, index: int) -> Row:
    """A member's row that knows its partners.

    Parameters
    ----------
    stand : [n], the log prices that the members will have
    """
    columns, demand = family.columns, family.demand
    at = stand.copy()
    at[index] = joint.ln_price[index]
    x, weight = float(at[index]), float(np.asarray(columns.weight)[index])
    worth = earned(columns, at, demand.log_demand(at)).by_demand / weight
    if isinstance(demand, BudgetChoice):
        return _budget_row(row, demand, at, worth, index)
    moved = demand.spread(stand) - demand.spread(np.asarray(columns.ln_price))
    moves = math.fsum((demand.cross[index] * moved).tolist())
    power = float(demand.fade[index])
    slope = float(demand.spread_slope(at)[index]) * math.fsum(
        (worth * demand.cross[:, index]).tolist()
    )
    fades = slope / power * math.exp(-power * x)
    total = math.fsum((worth * (demand.cross[:, index] != 0.0)).tolist())
    return row._replace(
        demand_per_day=row.demand_per_day * math.exp(moves),
        partner_profit_up=total - slope / power,
        partner_elasticity_up=0.0,
        partner_profit_down=fades,
        partner_elasticity_down=power,
    )


def _budget_row(row: Row, demand: BudgetChoice, at: Floats, worth: Floats, index: int) -> Row:
    """The row near the joint optimum, with the level and slope that the budgets give there."""
    x, ones = float(at[index]), np.ones(len(at))
    elasticity = float(demand.pull_own(at, ones)[index])
    per_horizon = float(np.exp(demand.log_demand(at)[index]))
    others = worth.copy()
    others[index] = 0.0
    slope = float(demand.pull(at, others)[index])
    side = "up" if slope >= 0.0 else "down"
    power = math.copysign(1.0, slope)
    return row._replace(
        demand_per_day=per_horizon / row.horizon_days * math.exp(-elasticity * x),
        elasticity=elasticity,
        rival_omega=0.0,
        lower=max(row.lower, math.exp(x - BUDGET_ROOM_LOG)),
        upper=min(row.upper, math.exp(x + BUDGET_ROOM_LOG)),
        **{
            f"partner_profit_{side}": slope / power * math.exp(-power * x),
            f"partner_elasticity_{side}": power,
        },
    )
