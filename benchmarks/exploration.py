"""What price probes earn and cost: the same shop with and without them.

    python -m benchmarks.exploration [--products N] [--days N]

A closed loop in the reference world: each product is priced once a week at the best price for what
is believed of its elasticity, demand is learned with `learn_many`, returns are known, stock is not
limited. Policies that share a seed share demand. Arms: ``none`` never probes (the baseline);
``always`` probes every product every week by 3 %; ``rule`` is the engine's, with its daily budget.
Beliefs begin either at what category and attributes say (``informed``) or at one mean for all
(``blind``). Profit is true and expected, over the whole run; ``late_rate`` is the profit of the
prices that are believed best in the end. The rule's payback time was chosen on seed 100.
"""

import argparse
import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import machine, write_result
from models.demand.demand import DEFAULT_SETTINGS
from models.demand.demand_batch import learn_many
from models.pricing.exploration import PRICE_FALL, PRICE_RISE
from models.pricing.probe_value import value_over_cost
from models.simulator.world import (
    LN_PRICE_MAX,
    LN_PRICE_MIN,
    PRICE_GRID,
    Products,
    World,
    WorldSettings,
)
from models.simulator.world import margin as margin_of
from schemas.policy import DecisionPolicy

Floats = NDArray[np.float64]

SEEDS = (1, 2, 3)
PERIOD = 7  # days between two decisions on a product
POLICY = DecisionPolicy()
ELASTICITY_MAX = -1.15  # believed best prices stay finite
COVARIANCE = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.0, 0.25)
BLIND_SD, INFORMED_SD = 0.72, 0.42


class Arm:
    """A policy in its world: what it believes, where its prices stand, what it has earned."""

    def __init__(self, seed: int, rule: str, products: int, *, informed: bool) -> None:
        self.world = World(seed, WorldSettings(products=products))
        truth, settings = self.world.products, self.world.settings
        self.rule, self.kept = rule, settings.kept_share
        believed = np.full(products, settings.elasticity_mean)
        if informed:
            limits = settings.elasticity_min, settings.elasticity_max
            believed = np.clip(truth.elasticity_expected, *limits)
        cross = np.full(products, settings.cross_price_elasticity_mean)
        zero = np.zeros(products)
        self.mean: Floats = np.column_stack([zero, believed, cross, zero])
        self.cov: Floats = np.tile(COVARIANCE, (products, 1))
        self.cov[:, 4] = (INFORMED_SD if informed else BLIND_SD) ** 2
        self.ln_price, self.ln_rival = zero.copy(), self.world.ln_rival().copy()
        self.orders, self.days = np.zeros(products), np.zeros(products)
        self.cost_per_day, self.profit_per_day = zero.copy(), zero.copy()
        self.budget_price, self.profit, self.spent = 1.0, 0.0, 0.0
        self.spent_share_max = 0.0
        self._coins = np.random.default_rng([seed, 77])

    def step(self) -> None:
        """One day: learn and price the products that are due, then let customers come."""
        number = np.arange(len(self.ln_price))
        due = number if self.world.day == 0 else number[number % PERIOD == self.world.day % PERIOD]
        if self.world.day:
            self._learn(due)
        self._price(due)
        day = self.world.step(self.ln_price)
        self.orders += day.orders
        self.days += 1.0
        earned = day.rate * margin_of(self.world.products, self.ln_price, self.kept)
        self.profit += float(earned.sum())
        self.spent += float(self.cost_per_day.sum())
        share = self.cost_per_day.sum() / self.profit_per_day.sum()
        self.spent_share_max = max(self.spent_share_max, float(share))
        over = share / POLICY.exploration_budget_profit_share
        moved = self.budget_price * float(np.clip(over, PRICE_FALL, PRICE_RISE))
        self.budget_price = max(moved, 1.0)

    def late_rate(self) -> float:
        """True profit a day at the prices that are believed best now."""
        best = _best(self.world.products, self._elasticity(), self.kept)
        return float(self.world.steady_profit(best, follows=False).sum())

    def elasticity_rmse(self) -> float:
        error = self.mean[:, 1] - self.world.products.elasticity
        return float(np.sqrt(np.mean(error**2)))

    def _elasticity(self) -> Floats:
        return np.minimum(self.mean[:, 1], ELASTICITY_MAX)

    def _learn(self, due: NDArray[np.int64]) -> None:
        self.mean[due], self.cov[due] = learn_many(
            self.mean[due], self.cov[due], self.ln_price[due], self.ln_rival[due],
            np.zeros(len(due)), self.orders[due], self.days[due], self.days[due],
        )  # fmt: skip
        self.orders[due], self.days[due] = 0.0, 0.0

    def _price(self, due: NDArray[np.int64]) -> None:
        truth, believed = self.world.products.take(due), self._elasticity()[due]
        plain = _best(truth, believed, self.kept)
        level = self.mean[due, 0] + self.mean[due, 2] * self.world.ln_rival()[due]
        orders = np.exp(level + self.mean[due, 1] * plain)
        size = -believed
        cost_share = 0.5 * size * (size - 1.0) * POLICY.exploration_log**2
        probes = np.zeros(len(due), dtype=np.bool_)
        if self.rule == "always":
            probes = ~probes
        elif self.rule == "rule":
            information = orders / (1.0 + DEFAULT_SETTINGS.dispersion * orders * PERIOD)
            taught = value_over_cost(
                size, self.cov[due, 4], information, POLICY.exploration_payback_days
            )
            probes = taught > self.budget_price
            probes &= cost_share <= POLICY.exploration_profit_share_max
        profit = np.maximum(orders * margin_of(truth, plain, self.kept), 0.0)
        self.profit_per_day[due] = profit
        self.cost_per_day[due] = probes * cost_share * profit
        signs = np.where(self._coins.random(len(due)) < 0.5, -1.0, 1.0)
        moved = plain + probes * signs * POLICY.exploration_log
        self.ln_price[due] = np.clip(moved, LN_PRICE_MIN, LN_PRICE_MAX)
        self.ln_rival[due] = self.world.ln_rival()[due]


def _best(products: Products, elasticity: Floats, kept_share: float) -> Floats:
    """ln price [n] of the highest profit at a believed elasticity; margin and returns are known."""
    best, at = np.full(len(elasticity), -np.inf), np.zeros(len(elasticity))
    for x in PRICE_GRID[::2]:
        profit = np.exp(elasticity * x) * margin_of(products, np.full(len(at), x), kept_share)
        higher = profit > best
        best, at = np.where(higher, profit, best), np.where(higher, x, at)
    return at


def compare(seed: int, products: int, days: int, *, informed: bool) -> dict[str, dict[str, float]]:
    """Each arm beside the one without probes."""
    arms = {}
    for rule in ("none", "always", "rule"):
        arm = Arm(seed, rule, products, informed=informed)
        for _ in range(days):
            arm.step()
        arms[rule] = arm
    base = arms["none"]
    return {
        rule: {
            "profit_over_none": arm.profit / base.profit - 1.0,
            "late_rate_over_none": arm.late_rate() / base.late_rate() - 1.0,
            "expected_cost_share": arm.spent / arm.profit,
            "expected_cost_share_day_max": arm.spent_share_max,
            "elasticity_rmse": arm.elasticity_rmse(),
        }
        for rule, arm in arms.items()
    }


def measure(products: int, days: int) -> dict[str, Any]:
    """All seeds: mean and spread (lowest, highest) of each figure."""
    result: dict[str, Any] = {
        "products": products, "days": days, "seeds": SEEDS,
        "probe_log": POLICY.exploration_log,
        "budget_share": POLICY.exploration_budget_profit_share,
    }  # fmt: skip
    for name, informed in (("informed", True), ("blind", False)):
        runs = [compare(seed, products, days, informed=informed) for seed in SEEDS]
        result[name] = {
            rule: {
                figure: {
                    "mean": round(statistics.fmean(run[rule][figure] for run in runs), 6),
                    "low": round(min(run[rule][figure] for run in runs), 6),
                    "high": round(max(run[rule][figure] for run in runs), 6),
                }
                for figure in runs[0][rule]
            }
            for rule in runs[0]
        }
    return {**result, **machine("numpy", "scipy")}


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--days", type=int, default=180)
    chosen = parser.parse_args()
    write_result("exploration", measure(chosen.products, chosen.days))


if __name__ == "__main__":
    main()
