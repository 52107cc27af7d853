"""Whether off-policy estimates cover the truth: a shop that explores, where truth is known.

    python -m benchmarks.off_policy [--products N] [--days N] [--seeds N]

The reference world for 120 days: half of the products toss a coin of 3 % up or down whenever an
epoch closes (10 orders, 1 to 14 days), around a price that is best for a belief with errors and
that reacts to demand nobody logs. Orders are Poisson, returns binomial, rivals follow. Candidates:
``inside`` 1.5 % dearer than the price without a probe, ``upper`` the upper probe, ``better`` the
best price for a belief with half the error, which is supported only where it lies between the
probes. Truth is the expected profit of the stretches that the estimate speaks of. Coverage is the
share of seeds whose 90 % interval has it; ``naive`` is the difference of mean profit a day between
product-days above their product's mean price and all of them, over the same stretches. ``off``: the
same shop without coins.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import machine, write_result
from models.backtest import off_policy
from models.backtest.columns import Decisions, Epochs, Floats, Integers, Outcomes, Products
from models.backtest.realised import profit_minor
from models.backtest.trials import Trials, supported, trials_of
from models.kernel.objective import PADDING
from models.simulator.world import World, WorldSettings, margin
from models.simulator.world import return_rate as true_return_rate
from schemas.backtest import OffPolicyValue
from schemas.events import DAY_MS
from schemas.policy import DecisionPolicy

PROBE_LOG = 0.03
FIRST_DAY = 20_000
ORDERS_CLOSE, DAYS_MAX = 10, 14
ELASTICITY_ERROR, LEVEL_ERROR = 0.5, 0.3
EXPLORING_SHARE = 0.5
CANDIDATES = ("inside", "upper", "better")


class History(NamedTuple):
    """A shop's history in columns, and what is needed to know better."""

    world: World
    products: Products
    decisions: Decisions
    candidates: dict[str, Decisions]
    epochs: Epochs
    outcomes: Outcomes
    ln_price: Floats  # [day, product]
    ln_rival: Floats
    ln_base: Floats  # ln orders less what own price and rival do
    stretch_end: Integers  # [decision], day


class _Shop:
    """The shop day by day."""

    def __init__(self, seed: int, products: int, *, explores: bool) -> None:
        self.world = World(seed, WorldSettings(products=products))
        truth = self.world.products
        rng = np.random.default_rng([seed, 4711])
        error = rng.normal(0.0, ELASTICITY_ERROR, products)
        self.believed = np.clip(truth.elasticity + error, -5.0, -1.3)
        self.better = np.clip(truth.elasticity + 0.5 * error, -5.0, -1.3)
        self.level = truth.level + rng.normal(0.0, LEVEL_ERROR, products)
        self.explores = explores & (rng.random(products) < EXPLORING_SHARE)
        self.reference = truth.reference_price_minor.astype(np.float64)
        self.rng = rng
        self.price = np.zeros(products)
        self.opened = np.zeros(products, np.int64)
        self.orders = np.zeros(products)
        self.rows: dict[str, list[Floats]] = {name: [] for name in _ROWS}
        self.sold: dict[str, list[Floats]] = {name: [] for name in ("orders", "back", "price")}
        self.days: dict[str, list[Floats]] = {name: [] for name in ("x", "y", "base")}

    def step(self) -> None:
        """One day: decide what is due, then sell."""
        day, demand = self.world.day, self.world.demand
        age = day - self.opened
        due = np.flatnonzero(
            ((self.orders >= ORDERS_CLOSE) & (age >= 1)) | (age >= DAYS_MAX) | (day == 0)
        )
        self._decide(day, due)
        x, y = np.log(self.price / self.reference), self.world.ln_rival()
        truth = self.world.products
        base = demand.ln_rate(x, y) - truth.elasticity * x - truth.cross_price_elasticity * y
        seen = self.world.step(x)
        back = self.rng.binomial(seen.orders, true_return_rate(truth, x))
        self.orders += seen.orders
        sold = (seen.orders, back, self.price)
        for name, column in zip(("orders", "back", "price"), sold, strict=True):
            self.sold[name].append(column.astype(np.float64))
        for name, column in zip(("x", "y", "base"), (x, y, base), strict=True):
            self.days[name].append(column)

    def _decide(self, day: int, due: Integers) -> None:
        reaction = 0.25 * self.world.demand.shock[due]
        plain = _markup(self, self.believed, due) * np.exp(reaction)
        better = _markup(self, self.better, due) * np.exp(reaction)
        up, down = (np.round(plain * np.exp(sign * PROBE_LOG)) for sign in (1.0, -1.0))
        coin, drew_up = self.explores[due], self.rng.random(len(due)) < 0.5
        drawn = np.where(coin, np.where(drew_up, up, down), np.round(plain))
        columns = (
            due,
            np.full(len(due), day),
            drawn,
            plain,
            better,
            up,
            down,
            coin,
            drew_up & coin,
        )
        for name, column in zip(_ROWS, columns, strict=True):
            self.rows[name].append(np.asarray(column, np.float64))
        self.price[due], self.opened[due], self.orders[due] = drawn, day, 0.0


_ROWS = ("product", "day", "price", "plain", "better", "up", "down", "coin", "drew_up")


def _markup(shop: _Shop, elasticity: Floats, index: Integers) -> Floats:
    truth = shop.world.products.take(index)
    best = elasticity[index] / (1.0 + elasticity[index])
    cost = truth.unit_cost * shop.reference[index] / shop.world.settings.kept_share
    return np.clip(best * cost, 0.6 * shop.reference[index], 1.9 * shop.reference[index])


def history(seed: int, products: int, days: int, *, explores: bool) -> History:
    """Let a shop live and hand its history over in columns."""
    shop = _Shop(seed, products, explores=explores)
    for _ in range(days):
        shop.step()
    rows = {name: np.concatenate(columns) for name, columns in shop.rows.items()}
    order = np.lexsort((rows["day"], rows["product"]))
    rows = {name: column[order] for name, column in rows.items()}
    product, day = rows["product"].astype(np.int64), rows["day"].astype(np.int64)
    follows = np.append(product[1:] == product[:-1], False)
    end = np.where(follows, np.append(day[1:], 0), days)
    logged = _decisions(shop, rows, rows["price"], coins=True)
    plain = rows["plain"]
    candidates = {
        "inside": _decisions(shop, rows, np.round(plain * np.exp(0.5 * PROBE_LOG)), coins=False),
        "upper": _decisions(shop, rows, np.round(plain * np.exp(PROBE_LOG)), coins=False),
        "better": _decisions(shop, rows, np.round(rows["better"]), coins=False),
    }
    stacked = {name: np.stack(columns) for name, columns in shop.days.items()}
    return History(
        world=shop.world,
        products=Products(
            [f"{i:06}" for i in range(products)], [f"{i:06}" for i in range(products)],
            [str(i) for i in shop.world.products.category], ["EUR"] * products,
        ),
        decisions=logged,
        candidates=candidates,
        epochs=_epochs(shop, product, day, end, rows["price"]),
        outcomes=_outcomes(shop, days),
        ln_price=stacked["x"],
        ln_rival=stacked["y"],
        ln_base=stacked["base"],
        stretch_end=end,
    )  # fmt: skip


def _decisions(shop: _Shop, rows: dict[str, Floats], price: Floats, *, coins: bool) -> Decisions:
    product = rows["product"].astype(np.int64)
    truth, reference = shop.world.products, shop.reference[product]
    coin = (rows["coin"] > 0.0) & coins
    inputs = np.tile(np.array(PADDING), (len(product), 1))
    for name, column in (
        ("unit_cost", truth.unit_cost[product]),
        ("return_cost", truth.return_cost[product]),
        ("kept_share", np.full(len(product), shop.world.settings.kept_share)),
        ("demand_per_day", np.exp(shop.level[product])),
        ("elasticity", shop.believed[product]),
        ("return_max", np.ones(len(product))),
        ("return_intercept", truth.return_logit[product]),
        ("return_log", truth.return_slope[product]),
    ):
        inputs[:, PADDING._fields.index(name)] = column
    return Decisions(
        product=product,
        at_ms=(rows["day"].astype(np.int64) + FIRST_DAY) * DAY_MS,
        partition=np.zeros(len(product), np.int64),
        offset=rows["day"].astype(np.int64) * len(truth.level) + product,
        price_minor=price,
        wanted_minor=price,
        plain_minor=np.round(rows["plain"]),
        effective=np.ones(len(product), np.bool_),
        probe=coin,
        up_minor=np.where(coin, rows["up"], np.nan),
        down_minor=np.where(coin, rows["down"], np.nan),
        up_probability=np.where(coin, 0.5, np.nan),
        drew_up=coin & (rows["drew_up"] > 0.0),
        exogenous_log=np.zeros(len(product)),
        reference_minor=reference,
        profit_per_day_minor=np.zeros(len(product)),
        inputs=inputs,
    )


def _epochs(shop: _Shop, product: Integers, day: Integers, end: Integers, price: Floats) -> Epochs:
    n = len(product)
    zero, none = np.zeros(n), np.full(n, np.nan)
    sold = np.cumsum(np.vstack([np.zeros(len(shop.price)), np.stack(shop.sold["orders"])]), axis=0)
    orders = sold[end, product] - sold[day, product]
    return Epochs(
        product=product, begin_ms=(day + FIRST_DAY) * DAY_MS, end_ms=(end + FIRST_DAY) * DAY_MS,
        price_minor=price, reference_minor=shop.reference[product], orders=orders, units=orders,
        exposure_days=(end - day).astype(np.float64), ln_rival=none, control=zero, offset=zero,
        mean_orders=orders, posterior_mean=np.zeros((n, 4)), posterior_cov=np.zeros((n, 4, 4)),
    )  # fmt: skip


def _outcomes(shop: _Shop, days: int) -> Outcomes:
    truth, n = shop.world.products, len(shop.price)
    orders, back, price = (
        np.stack(shop.sold[name]).T.ravel() for name in ("orders", "back", "price")
    )
    product = np.repeat(np.arange(n), days)
    return Outcomes(
        product=product, day=np.tile(np.arange(days) + FIRST_DAY, n), orders=orders, units=orders,
        revenue_minor=orders * price, returned_units=back, refund_minor=back * price,
        unit_cost_minor=(truth.unit_cost * shop.reference)[product],
        kept_share=np.full(len(product), shop.world.settings.kept_share),
        handling_minor=(truth.return_cost * shop.reference)[product],
    )  # fmt: skip


def truth_of(found: History, name: str) -> tuple[float, Trials]:
    """Expected profit that the candidate earns more in the stretches of the estimate."""
    logged, candidate = found.decisions, found.candidates[name]
    support = supported(logged, logged, candidate)
    trials = trials_of(
        found.products, logged, found.epochs, found.outcomes, support, DecisionPolicy()
    )
    rows = trials.row
    reference = logged.reference_minor[rows]
    prices = (candidate.price_minor[rows], logged.up_minor[rows], logged.down_minor[rows])
    other, up, down = (_earned(found, trials, np.log(price / reference)) for price in prices)
    return float((other - 0.5 * (up + down)).sum()), trials


def _earned(found: History, trials: Trials, x: Floats) -> Floats:
    """Expected profit of each stretch had it begun at ln price ``x``, rivals following."""
    product = found.decisions.product[trials.row]
    truth = found.world.products.take(product)
    kept, follow = found.world.settings.kept_share, found.world.settings.rival_follow
    reference = found.decisions.reference_minor[trials.row]
    total, first = np.zeros(len(x)), trials.first_day - FIRST_DAY
    end = np.minimum(first + trials.days.astype(np.int64), found.stretch_end[trials.row])
    for number in range(DAYS_MAX):
        day = np.minimum(first + number, len(found.ln_price) - 1)
        moved = follow * (x - found.ln_price[day - 1, product]) if number else 0.0
        y = found.ln_rival[day, product] + moved
        ln_rate = found.ln_base[day, product] + truth.elasticity * x
        rate = np.exp(ln_rate + truth.cross_price_elasticity * y)
        earned = rate * margin(truth, x, kept) * reference
        total += np.where(first + number < end, earned, 0.0)
    return total


def naive(found: History, trials: Trials) -> float:
    """Difference of means by price alone, whatever the reason of its moves, over the stretches."""

    days = len(found.ln_price)
    profit = profit_minor(found.outcomes).reshape(-1, days).T
    rows = np.unique(found.decisions.product[trials.row])
    price, profit = found.ln_price[:, rows], profit[:, rows]
    above = price > price.mean(axis=0)
    return float((profit[above].mean() - profit.mean()) * trials.days.sum())


def _line(values: tuple[OffPolicyValue, ...], estimator: str) -> OffPolicyValue | None:
    return next((value for value in values if value.estimator == estimator), None)


def run(seed: int, products: int, days: int) -> dict[str, dict[str, Any]]:
    """One shop: every candidate's truth, its estimates, and the naive one."""
    found = history(seed, products, days, explores=True)
    results: dict[str, dict[str, Any]] = {}
    for name in CANDIDATES:
        values = off_policy.compare(
            found.products, found.decisions, found.candidates[name], found.epochs, found.outcomes
        )
        truth, trials = truth_of(found, name)
        results[name] = {
            "truth": truth,
            "profit": float(trials.profit.sum()),
            "values": values,
            "naive": naive(found, trials),
        }
    return results


def measure(products: int, days: int, seeds: int) -> dict[str, Any]:
    """Coverage, error and width over the seeds."""
    runs = [run(seed, products, days) for seed in range(1, seeds + 1)]
    result: dict[str, Any] = {
        "products": products, "days": days, "seeds": list(range(1, seeds + 1)),
        "probe_log": PROBE_LOG, "exploring_share": EXPLORING_SHARE, "level": off_policy.LEVEL,
    }  # fmt: skip
    for name in CANDIDATES:
        found = [one[name] for one in runs]
        profit = np.array([one["profit"] for one in found])
        truth = np.array([one["truth"] for one in found])
        error = np.array([one["naive"] for one in found]) - truth
        result[name] = {
            "truth_share": float(np.mean(truth / profit)),
            "effective_sample_size": float(
                np.mean([one["values"][0].effective_sample_size for one in found])
            ),
            "refused": [one["values"][0].refused for one in found if one["values"][0].refused],
            "naive": _figures(error / profit, None, None),
            **{
                estimator: _estimator(found, estimator, truth, profit)
                for estimator in (
                    off_policy.DOUBLY_ROBUST, off_policy.INVERSE, off_policy.SELF_NORMALISED
                )
            },
        }  # fmt: skip
    off = [history(seed, products, days, explores=False) for seed in range(1, 4)]
    result["off"] = [
        off_policy.compare(
            one.products, one.decisions, one.candidates["upper"], one.epochs, one.outcomes
        )[0].refused
        for one in off
    ]
    return {**result, **machine("numpy", "scipy")}


def _estimator(
    found: list[dict[str, Any]], estimator: str, truth: Floats, profit: Floats
) -> dict[str, float]:
    errors, covered, halves = [], [], []
    for one, true, earned in zip(found, truth, profit, strict=True):
        value = _line(one["values"], estimator)
        if value is None or value.estimate is None:
            continue
        estimate = value.estimate
        errors.append((estimate.mean_minor - true) / earned)
        covered.append(estimate.low_minor <= true <= estimate.high_minor)
        halves.append(0.5 * (estimate.high_minor - estimate.low_minor) / earned)
    return _figures(np.array(errors), np.array(covered), np.array(halves))


def _figures(error: Floats, covered: Any, half: Any) -> dict[str, float]:
    """As shares of the stretches' profit."""
    if not len(error):
        return {"estimates": 0}
    found = {
        "estimates": len(error),
        "bias": float(error.mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
    }
    if covered is not None:
        found |= {"coverage": float(covered.mean()), "half_width": float(half.mean())}
    return {name: round(value, 5) for name, value in found.items()}


def main() -> None:
    """Print the result as one JSON document and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=40)
    chosen = parser.parse_args()
    write_result("off_policy", measure(chosen.products, chosen.days, chosen.seeds))


if __name__ == "__main__":
    main()
