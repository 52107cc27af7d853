"""What the prices earn: 180 days of the reference world in closed loop, against an oracle.

    python -m benchmarks.closed_loop

Stock is limited and delivered, rivals follow, units come back. Every policy meets the same
customers, rivals and lead times (common random numbers), and all start after the same 364 days of
the shop's habit, on which three quarters of the known products taught the prior and every product
its own belief. Policies:

- ``ours``: the engine's demand update, objective, kernel, step guard and exploration rule;
- ``new_products``: the same for products that have only the prior, with no orders seen;
- ``oracle``: the same objective and guards with the true parameters, no knowledge of shocks;
- ``cost_plus``: each category's habitual mark-up on cost;
- ``no_inventory``: ours, with stock taken for unlimited;
- ``no_exploration``: ours, without probes;
- ``all_control``: ours, with our own price moves entered as the control.

Returns are known to all alike. Profit is the expected contribution margin of the units sold, after
returns at their true rate, less holding cost: over the reference price, summed over the catalogue.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import machine, write_result
from benchmarks.reference import (
    OPEN_DAYS_MIN,
    SEEDS,
    Belief,
    begin,
    episodes_of,
    history_of,
    learn_days,
    split,
    spread,
)
from models.demand.demand import DEFAULT_SETTINGS, DemandSettings
from models.demand.demand_batch import learn_many
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from models.pricing.pose import HORIZON_DAYS_MIN
from models.pricing.probe_value import value_over_cost
from models.prior.prior_fit import fit
from models.simulator.world import LN_PRICE_MAX, LN_PRICE_MIN, Day, World, WorldSettings, margin
from schemas.policy import Policy

Floats = NDArray[np.float64]

DAYS, HISTORY_DAYS = 180, 364
SETTINGS = WorldSettings(cover_days=28.0)
POLICY = Policy()
UNLEARNED = ("oracle", "cost_plus")
STEP_LOG = float(np.log1p(POLICY.guards.step_ratio_max))


class Known(NamedTuple):
    """What a policy takes for true, arrays [n]; the level holds the rival's and control's terms."""

    level: Floats
    elasticity: Floats
    v_bb: Floats
    v_be: Floats
    v_ee: Floats


class Loop:
    """One policy in its world.

    Parameters
    ----------
    start, settings : beliefs about the products, and what they learn with
    """

    def __init__(
        self, name: str, seed: int, kernel: Kernel, start: Belief, settings: DemandSettings
    ) -> None:
        self.name = name
        self.world = World(seed, SETTINGS)
        self.ln_price: Floats = np.zeros(SETTINGS.products)
        for _ in range(HISTORY_DAYS):
            self.ln_price, _ = self.world.habit()
            self.world.step(self.ln_price)
        self._kernel, self._belief, self._settings = kernel, start, settings
        self._control: Floats = np.zeros(SETTINGS.products)
        self._coins = np.random.default_rng([seed, 5])

    def day(self) -> dict[str, float]:
        """Price, sell and learn; returns the day's totals."""
        products, kept = self.world.products, self.world.settings.kept_share
        ln_price, probe = self._price()
        plain = self.world.steady_profit(ln_price - probe) - self.world.steady_profit(ln_price)
        day = self.world.step(ln_price)
        self.ln_price = ln_price
        if self.name not in UNLEARNED:
            self._learn(day, probe)
        holding = POLICY.objective.holding_cost_share_per_day * products.unit_cost * day.stock
        return {
            "profit": float(np.sum(day.orders * margin(products, ln_price, kept) - holding)),
            "units_sold": float(day.orders.sum()),
            "units_lost": float(day.lost.sum()),
            "probe_cost": float(plain.sum()),
        }

    def elasticity_bias(self) -> float:
        """Mean error of the believed elasticity."""
        return float(np.mean(self._belief.mean[:, 1] - self.world.elasticity))

    def _price(self) -> tuple[Floats, Floats]:
        """The day's ln price [n], and the part of it that is a probe [n]."""
        products = self.world.products
        if self.name == "cost_plus":
            cost = products.unit_cost / self.world.settings.kept_share
            wanted = np.log(products.habit_markup * cost)
            return np.clip(wanted, LN_PRICE_MIN, LN_PRICE_MAX), np.zeros_like(wanted)
        known = self._known()
        wanted = np.log(self._kernel.solve_arrays(self._rows(known))[0])
        plain = self._guarded(wanted)
        guarded = self._guarded(wanted + self._probe(known))
        return guarded, guarded - plain

    def _guarded(self, ln_price: Floats) -> Floats:
        stepped = np.clip(ln_price, self.ln_price - STEP_LOG, self.ln_price + STEP_LOG)
        return np.clip(stepped, LN_PRICE_MIN, LN_PRICE_MAX)

    def _probe(self, known: Known) -> Floats:
        """The rule of `models.pricing.exploration`, at the lowest price of its budget."""
        if self.name in ("oracle", "no_exploration"):
            return np.zeros_like(known.level)
        policy, size = POLICY.decision, np.maximum(-known.elasticity, 1.0 + 1e-6)
        cost = 0.5 * size * (size - 1.0) * policy.exploration_log**2
        orders = np.exp(known.level + known.elasticity * self.ln_price)
        days = np.clip(policy.epoch_orders_close / orders, 1.0, policy.epoch_days_max)
        information = orders / (1.0 + DEFAULT_SETTINGS.dispersion * orders * days)
        taught = value_over_cost(size, known.v_ee, information, policy.exploration_payback_days)
        chosen = (taught > 1.0) & (cost <= policy.exploration_profit_share_max)
        sign = np.where(self._coins.random(len(size)) < 0.5, -1.0, 1.0)
        return np.where(chosen, sign * policy.exploration_log, 0.0)

    def _known(self) -> Known:
        products, rival = self.world.products, self.world.ln_rival()
        if self.name == "oracle":
            level = products.level + products.cross_price_elasticity * rival
            nothing = np.zeros_like(level)
            return Known(level, self.world.elasticity, nothing, nothing, nothing)
        (b, eps, eta, delta), u = self._belief.mean.T, self._control
        c_bb, c_be, c_bn, c_bd, c_ee, c_en, c_ed, c_nn, c_nd, c_dd = self._belief.cov.T
        v_bb = c_bb + rival * (2.0 * c_bn + rival * c_nn) + u * (2.0 * c_bd + u * c_dd)
        v_bb = v_bb + 2.0 * rival * u * c_nd
        v_be = c_be + rival * c_en + u * c_ed
        return Known(b + eta * rival + delta * u, eps, v_bb, v_be, c_ee)

    def _rows(self, known: Known) -> Floats:
        """The kernel's matrix, posed as `models.pricing.pose` does it."""
        goal, products, world = POLICY.objective, self.world.products, self.world
        inbound, due_days = world.inbound
        stock, per_day = world.stock.astype(np.float64), np.exp(known.level)
        comes = inbound > 0
        soon = comes & ((stock == 0) | (due_days <= HORIZON_DAYS_MIN))
        until = np.minimum(np.maximum(due_days, HORIZON_DAYS_MIN), goal.horizon_days_max)
        row = PADDING._replace(
            unit_cost=products.unit_cost,
            return_cost=products.return_cost,
            kept_share=world.settings.kept_share,
            horizon_days=np.where(comes & ~soon, until, goal.horizon_days_max),
            demand_per_day=per_day,
            elasticity=known.elasticity,
            demand_volatility=goal.demand_volatility,
            stock=np.where(soon, stock + inbound, stock),
            unlimited=float(self.name == "no_inventory"),
            holding_cost_per_day=goal.holding_cost_share_per_day * products.unit_cost,
            continuation_value=goal.continuation_value_share * products.unit_cost,
            risk_aversion=goal.risk_aversion,
            target_leftover=np.maximum(goal.target_leftover_days * per_day, 1.0),
            value_volatility=goal.value_volatility_per_sqrt_day,
            level_variance=known.v_bb,
            level_elasticity_covariance=known.v_be,
            elasticity_variance=known.v_ee,
            return_min=0.0,
            return_max=1.0,
            return_intercept=products.return_logit,
            return_log=products.return_slope,
            exact_small_stock=1.0,
            lower=np.exp(LN_PRICE_MIN),
            upper=np.exp(LN_PRICE_MAX),
        )
        return np.stack([np.broadcast_to(column, per_day.shape) for column in row]).astype(float)

    def _learn(self, day: Day, probe: Floats) -> None:
        if self.name == "all_control":
            self._control = day.ln_price - probe
        taught = day.exposure_days > OPEN_DAYS_MIN
        learned = learn_many(
            *self._belief,
            day.ln_price,
            day.ln_rival,
            self._control,
            np.where(taught, day.orders, 0),
            np.where(taught, day.exposure_days, 1e-9),
            np.ones(len(taught)),
            self._settings,
        )
        self._belief = Belief(*learned)


def measure(seed: int, kernel: Kernel) -> dict[str, dict[str, float]]:
    """Every policy's figures of one seed; profit as a share of the oracle's."""
    world = World(seed, SETTINGS)
    history, products = history_of(world.history(HISTORY_DAYS)), world.products
    everyone = np.arange(SETTINGS.products)
    train, _ = split(products, seed)
    prior = fit(episodes_of(products, history, train, range(HISTORY_DAYS)), "habit")
    settings = DEFAULT_SETTINGS._replace(dispersion=prior.dispersion)
    begun = begin(prior, products, everyone)
    learned = learn_days(begun, history, everyone, settings, range(HISTORY_DAYS))
    rows: dict[str, dict[str, float]] = {}
    oracle = 0.0
    for name in POLICIES:
        loop = Loop(name, seed, kernel, begun if name == "new_products" else learned, settings)
        days = [loop.day() for _ in range(DAYS)]
        total = {key: sum(day[key] for day in days) for key in days[0]}
        oracle = oracle or total["profit"]
        rows[name] = {
            "of_oracle": total["profit"] / oracle,
            "units_lost_share": total["units_lost"] / (total["units_lost"] + total["units_sold"]),
            "probe_cost_share": total["probe_cost"] / total["profit"],
        }
        if name not in UNLEARNED:
            rows[name]["elasticity_bias_at_end"] = loop.elasticity_bias()
    rows["ours"]["times_cost_plus"] = rows["ours"]["of_oracle"] / rows["cost_plus"]["of_oracle"]
    return rows


POLICIES = (
    "oracle", "cost_plus", "ours", "new_products", "no_inventory", "no_exploration", "all_control",
)  # fmt: skip


def main() -> None:
    """Print every policy's figures and their spread over the seeds."""
    kernel = Kernel.warm()
    by_seed = [measure(seed, kernel) for seed in SEEDS]
    result: dict[str, Any] = {
        "seeds": list(SEEDS),
        "products": SETTINGS.products,
        "days": DAYS,
        "bars": {
            "ours": "of_oracle at least 0.965, times_cost_plus at least 1.02",
            "no_inventory": "below ours",
        },
        "figures": {name: spread([rows[name] for rows in by_seed]) for name in POLICIES},
        "machine": machine("numpy", "jax"),
    }
    write_result("closed_loop", result)


if __name__ == "__main__":
    main()
