"""How the prices of a family move its members' demand, and what they then earn together.

Two forms of demand: `LogLinear`, with own and cross elasticities and the bend at a rival's price,
and `BudgetChoice`, in which customers with budgets choose one product of the family. Shapes as in
`models.family.family_profit`.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import special

from models.family.family_profit import Floats, Member, earned, own_log, own_slope, stand, take

SPREADS_MAX = 4096  # price vectors that a search may start from
TINY = 1e-300
FADE_MAX = -0.5  # demand that hardly reacts keeps its effects long, but not for ever
POWER_MAX = 8.0  # no partner's demand follows a price more steeply
CURVATURE_LOG = 1e-4  # half the distance over which slopes are compared for second derivatives


class BudgetGroup(NamedTuple):
    """Customers who buy at most one product of the family, and spend at most their budget."""

    budget_minor: float  # median of the group's budgets
    share: float  # of the family's customers
    budget_sd_log: float  # spread of the budgets


class Budgets(NamedTuple):
    """A family's groups by budget.

    ``spend`` is how much a customer prefers the dearer of two products that the budget allows
    (d ln odds / d ln price); ``outside_ratio`` the price, over the budget, of a product that is as
    good as buying elsewhere. Without ``customers_per_day`` each product's demand at the present
    prices is its own, and only what it becomes at other prices is the groups'.
    """

    groups: tuple[BudgetGroup, ...]
    customers_per_day: float | None = None
    spend: float = 6.0
    outside_ratio: float = 0.5


class LogLinear:
    """``ln Q_i = ln(q_i T_i) + eps_i x_i - omega_i g_i(x_i) + sum_j C_ij (s_j(x_j) - s_j(now))``.

    ``s(x) = x``: constant cross elasticities. With ``fading``, above the reference price
    ``s(x) = (1 - exp(eps x)) / |eps|``: who left can't leave twice, so an effect fades as fast as
    the product's own demand; and partners together gain at most the units that it loses.
    """

    def __init__(self, columns: Member, cross: Floats, *, fading: bool = False) -> None:
        self.columns = columns
        self.fading = fading
        self.fade = np.minimum(np.asarray(columns.elasticity), FADE_MAX)
        self.cross = np.array(cross, dtype=np.float64)
        np.fill_diagonal(self.cross, 0.0)
        self.coupled = bool(self.cross.any())
        rate = np.asarray(columns.demand_per_day)
        if fading:
            gained = np.einsum("ij,i->j", np.maximum(self.cross, 0.0), rate)
            most = -self.fade * rate / np.maximum(gained, TINY)
            self.cross *= np.where(self.cross > 0.0, np.minimum(most, 1.0), 1.0)
        now = self.spread(np.asarray(columns.ln_price))
        self.level = np.log(rate * columns.horizon_days)
        self.level = self.level - np.einsum("ij,j->i", self.cross, now)

    def spread(self, x: Floats) -> Floats:
        """``s(x)`` [..., n]: how far a price acts on partners."""
        if not self.fading:
            return x
        return np.where(x > 0.0, np.expm1(self.fade * np.maximum(x, 0.0)) / self.fade, x)

    def spread_slope(self, x: Floats) -> Floats:
        """``ds/dx`` [..., n]."""
        if not self.fading:
            return np.ones_like(x)
        return np.asarray(np.exp(self.fade * np.maximum(x, 0.0)))

    def log_demand(self, x: Floats) -> Floats:
        """ln units over the horizon [..., n]."""
        partners = np.einsum("...j,ij->...i", self.spread(x), self.cross)
        return np.asarray(self.level + own_log(self.columns, x) + partners)

    def own(self, x: Floats, grid: Floats) -> Floats:
        """Each member's profit at its own grid's prices [s, n, k], from x [s, n]."""
        columns = stand(self.columns)
        before = self.log_demand(x) - own_log(self.columns, x)
        at = earned(columns, grid, before[..., None] + own_log(columns, grid))
        return np.asarray(at.profit)

    def if_one_moves(self, x: Floats, grid: Floats) -> Floats:
        """What a member earns [s, n, k] and about what partners earn more when it alone moves.

        Partners whose demand rises with the price are taken together, and those whose falls: each
        side earns ``A (exp(e shift) - 1)`` more, which is exact for one partner without a stock.
        """
        worth = earned(self.columns, x, self.log_demand(x)).by_demand
        shift, found = self._moves(x, grid), self.own(x, grid)
        for side in (np.maximum(self.cross, 0.0), np.minimum(self.cross, 0.0)):
            total = np.einsum("...j,ji->...i", worth, (side != 0.0).astype(float))
            slope = np.einsum("...j,ji->...i", worth, side)
            safe = np.where(total == 0.0, 1.0, total)
            power = np.clip(slope / safe, -POWER_MAX, POWER_MAX)[..., None]
            found += np.where(total == 0.0, 0.0, total)[..., None] * np.expm1(power * shift)
        return found

    def _moves(self, x: Floats, grid: Floats) -> Floats:
        """How far moves from x [..., n] to a grid [n, k] act on partners [..., n, k]."""
        return np.asarray(self.spread(grid.T).T - self.spread(x)[..., None])

    def if_one_moves_exactly(self, x: Floats, grid: Floats) -> Floats:
        """What the family earns more when one price alone moves from x [n] to its grid: [n, k]."""
        u = self.log_demand(x)
        found = self.own(x[None, :], grid)[0] - earned(self.columns, x, u).profit[:, None]
        to, by = np.nonzero(self.cross)
        columns = stand(take(self.columns, to))
        moved = u[to, None] + self.cross[to, by, None] * self._moves(x, grid)[by]
        before = earned(self.columns, x, u).profit[to, None]
        np.add.at(found, by, earned(columns, x[to, None], moved).profit - before)
        return np.asarray(found)

    def pull(self, x: Floats, worth: Floats) -> Floats:
        """``sum_i worth_i d ln Q_i / d x_j`` [..., n]."""
        own = worth * own_slope(self.columns, x)
        partners = np.einsum("...i,ij->...j", worth, self.cross)
        return np.asarray(own + partners * self.spread_slope(x))

    def pull_own(self, x: Floats, worth: Floats) -> Floats:
        """The part of it that is each product's own, ``worth_j d ln Q_j / d x_j``."""
        return worth * own_slope(self.columns, x)

    def kinks(self) -> Floats:
        """Where each member's demand bends: log prices [n, .] that a grid must not miss."""
        return np.asarray(self.columns.rival_threshold)[:, None]

    def starts(self) -> list[Floats]:
        """Price vectors of its own that a search should start from: none."""
        return []


class BudgetChoice:
    """A mixture over budget groups of a logit choice within the family.

    A customer of group g weighs product i at price P_i with
    ``v_ig = (P_i / B_g)^spend  N(ln(B_g / P_i) / sd_g)`` - the dearest that the budget is likely
    to cover - and buying elsewhere with ``outside_ratio^spend``. A product's demand follows
    ``sum_g share_g v_ig / (outside + sum_j v_jg)`` from its level at the present prices.
    """

    coupled = True

    def __init__(self, columns: Member, budgets: Budgets) -> None:
        self.columns = columns
        self.spend, self.groups = budgets.spend, budgets.groups
        budget, share, sd = (np.array(part) for part in zip(*budgets.groups, strict=True))
        self.log_budget, self.sd = np.log(budget)[:, None], sd[:, None]
        self.share = (share / share.sum())[:, None]
        self.outside = budgets.outside_ratio**budgets.spend
        self.log_reference = np.log(np.asarray(columns.weight))
        horizon = np.asarray(columns.horizon_days)
        if budgets.customers_per_day is not None:
            self.level = np.log(budgets.customers_per_day * horizon)
            return
        now = np.asarray(columns.ln_price)
        ordered = np.log(np.asarray(columns.demand_per_day) * horizon) + own_log(columns, now)
        self.level = ordered - self._log_share_bought(now)

    def weights(self, x: Floats) -> tuple[Floats, Floats]:
        """``ln v`` [..., g, n] and its derivative by ln price."""
        room = (self.log_budget - x[..., None, :] - self.log_reference) / self.sd
        covered = special.log_ndtr(room)
        ratio = np.exp(-0.5 * room * room - covered) / np.sqrt(2.0 * np.pi) / self.sd
        return self.spend * -room * self.sd + covered, self.spend - ratio

    def choice(self, logs: Floats) -> Floats:
        """The share that each product has in each group [..., g, n]."""
        weights = np.exp(logs)
        return np.asarray(weights / (self.outside + weights.sum(axis=-1, keepdims=True)))

    def _log_share_bought(self, x: Floats) -> Floats:
        chosen = self.choice(self.weights(x)[0])
        return np.asarray(np.log(np.maximum((self.share * chosen).sum(axis=-2), TINY)))

    def log_demand(self, x: Floats) -> Floats:
        """ln units over the horizon [..., n]."""
        return np.asarray(self.level + self._log_share_bought(x))

    def own(self, x: Floats, grid: Floats) -> Floats:
        """Each member's profit at its own grid's prices [s, n, k], from x [s, n]."""
        return np.asarray(
            np.einsum("snki,ni->snk", self._moved(x, grid), np.eye(len(self.log_reference)))
        )

    def if_one_moves(self, x: Floats, grid: Floats) -> Floats:
        """What the family earns when one price alone moves to its grid [s, n, k]."""
        return np.asarray(self._moved(x, grid).sum(axis=-1))

    def if_one_moves_exactly(self, x: Floats, grid: Floats) -> Floats:
        """What the family earns more when one price alone moves from x [n] to its grid: [n, k]."""
        before = earned(self.columns, x, self.log_demand(x)).profit.sum()
        return np.asarray(self.if_one_moves(x[None, :], grid)[0] - before)

    def _moved(self, x: Floats, grid: Floats) -> Floats:
        """Profits [s, n, k, n] of all when one price alone moves to its grid."""
        moves = np.eye(grid.shape[0])[:, None, :]
        prices = np.where(moves > 0.0, grid[..., None], x[:, None, None, :])
        return earned(self.columns, prices, self.log_demand(prices)).profit

    def pull(self, x: Floats, worth: Floats) -> Floats:
        """``sum_i worth_i d ln Q_i / d x_j`` [..., n]."""
        slopes, chosen, part = self._parts(x, worth)
        given = chosen * part.sum(axis=-1, keepdims=True)
        return np.asarray((slopes * (part - given)).sum(axis=-2))

    def pull_own(self, x: Floats, worth: Floats) -> Floats:
        """The part of it that is each product's own."""
        slopes, chosen, part = self._parts(x, worth)
        return np.asarray((slopes * part * (1.0 - chosen)).sum(axis=-2))

    def _parts(self, x: Floats, worth: Floats) -> tuple[Floats, Floats, Floats]:
        """Slopes of ln weights, shares, and what each group brings in of ``worth`` [..., g, n]."""
        logs, slopes = self.weights(x)
        chosen = self.choice(logs)
        joint = self.share * chosen
        bought = np.maximum(joint.sum(axis=-2, keepdims=True), TINY)
        return slopes, chosen, joint / bought * worth[..., None, :]

    def kinks(self) -> Floats:
        """Just below each budget, where the dearest affordable product stands: [n, .]."""
        below = (self.log_budget - self.sd * np.array([0.0, 1.0, 2.0])).ravel()
        return np.asarray(below - self.log_reference[:, None])

    def starts(self) -> list[Floats]:
        """The products just below the budgets, or dear beyond all of them.

        All ways to spread a small family; of a large one, each product near its own budget.
        """
        below = np.sort((self.log_budget - 1.5 * self.sd)[:, 0])
        dear = self.log_budget.max() + 3.0 * self.sd.max()
        options, n = np.append(below, dear), len(self.log_reference)
        if len(options) ** n > SPREADS_MAX:
            order = np.argsort(np.argsort(self.log_reference, kind="stable"))
            turns = [(order + turn) % len(options) for turn in range(len(options))]
            return [options[places] - self.log_reference for places in turns]
        return list(np.array(list(product(options, repeat=n))) - self.log_reference)


Demand = LogLinear | BudgetChoice


def profits(columns: Member, demand: Demand, x: Floats) -> Floats:
    """The family's profit a day [...] at price vectors x [..., n], minor units."""
    return np.asarray(earned(columns, x, demand.log_demand(x)).profit.sum(axis=-1))


def gradient(columns: Member, demand: Demand, x: Floats) -> Floats:
    """Slope of the family's profit by each ln price [..., n]."""
    at = earned(columns, x, demand.log_demand(x))
    return np.asarray(at.by_price + demand.pull(x, at.by_demand))


def curvature(columns: Member, demand: Demand, x: Floats) -> Floats:
    """The family's profit by ln prices, twice [n, n], at x [n]: central differences of slopes."""
    step = CURVATURE_LOG
    if isinstance(demand, BudgetChoice):
        steps = np.eye(len(x)) * step
        slopes = gradient(columns, demand, np.concatenate([x + steps, x - steps]))
        found = (slopes[: len(x)] - slopes[len(x) :]) / (2.0 * step)
        return np.asarray(0.5 * (found + found.T))
    u = demand.log_demand(x)
    at = earned(columns, np.stack([x + step, x - step, x, x]), np.stack([u, u, u + step, u - step]))
    price_price = (at.by_price[0] - at.by_price[1]) / (2.0 * step)
    price_demand = (at.by_demand[0] - at.by_demand[1]) / (2.0 * step)
    demand_demand = (at.by_demand[2] - at.by_demand[3]) / (2.0 * step)
    bends = (own_slope(columns, x + step) - own_slope(columns, x - step)) / (2.0 * step)
    moves = demand.cross * demand.spread_slope(x) + np.diag(own_slope(columns, x))
    fades = demand.spread_slope(x + step) - demand.spread_slope(x - step)
    beside = price_demand[:, None] * moves
    worth = 0.5 * (at.by_demand[2] + at.by_demand[3])
    alone = price_price + worth * bends
    alone = alone + np.einsum("i,ij->j", worth, demand.cross) * fades / (2.0 * step)
    found = np.einsum("ki,k,kj->ij", moves, demand_demand, moves)
    return np.asarray(found + beside + beside.T + np.diag(alone))
