"""Simulated shops as a backtest sees them: columns, price paths, and what these truly earn."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference import Belief
from models.backtest.columns import INPUTS, Decisions, Epochs, Outcomes, Products
from models.demand.demand import DEFAULT_SETTINGS
from models.demand.demand_batch import learn_many
from models.kernel.objective import PADDING
from models.kernel.tile import Kernel
from models.pricing.pose import HORIZON_DAYS_MIN
from models.prior.prior import DEFAULT_PRIOR
from models.simulator.world import LN_PRICE_MAX, LN_PRICE_MIN, Day, World, WorldSettings, margin
from schemas.events import DAY_MS
from schemas.policy import Policy

Floats = NDArray[np.float64]

PRODUCTS, HABIT_DAYS, DAYS = 100, 90, 60
REPLICATES = 10
SETTINGS = WorldSettings(products=PRODUCTS, categories=10, unseen_categories=0, cover_days=28.0)
POLICY = Policy()
STEP_LOG = float(np.log1p(POLICY.guards.step_ratio_max))
CANDIDATES = ("engine", "dearer", "mixed")
PROBE_SHARE = 0.3  # of products and weeks, on even seeds
OPEN_DAYS_MIN = 1e-3


class Customers(World):
    """The same truth, shocks and rivals, other customers and deliveries."""

    def __init__(self, seed: int, settings: WorldSettings, replicate: int) -> None:
        self._replicate = replicate
        super().__init__(seed, settings)

    def _rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        if purpose in ("demand", "lead"):
            return np.random.default_rng([self.seed, self._replicate, len(purpose), day])
        return super()._rng(purpose, day)


class Tape(NamedTuple):
    """What a shop's history shows, and the paths over its last days [day, product]."""

    columns: tuple[Products, Epochs, Outcomes]
    baseline: Decisions
    candidates: dict[str, Decisions]
    paths: dict[str, Floats]  # ln price over the reference, from the first day on
    naive: dict[str, tuple[float, float]]  # difference and sd, minor units


class Deciding(NamedTuple):
    """The belief that decides on a day, and the kernel's rows of it [field, product]."""

    belief: Belief
    rows: Floats
    ln_rival: Floats
    control: Floats


def _started(n: int) -> Belief:
    prior = DEFAULT_PRIOR
    cov = np.array(prior.cov) + np.array(prior.category_cov)
    return Belief(np.tile(prior.mean, (n, 1)), np.tile(cov, (n, 1)))


def _rows(world: World, belief: Belief, ln_rival: Floats, control: Floats) -> Floats:
    """The kernel's rows, posed as `models.pricing.pose` does it; returns are known."""
    goal, products = POLICY.objective, world.products
    (b, eps, eta, delta), cov = belief.mean.T, belief.cov.T
    u, r = control, ln_rival
    v_bb = cov[0] + r * r * cov[7] + u * u * cov[9]
    v_bb = v_bb + 2.0 * (r * cov[2] + u * cov[3] + r * u * cov[8])
    inbound, due_days = world.inbound
    stock, per_day = world.stock.astype(np.float64), np.exp(b + eta * r + delta * u)
    soon = (inbound > 0) & ((stock == 0) | (due_days <= HORIZON_DAYS_MIN))
    until = np.clip(due_days, HORIZON_DAYS_MIN, goal.horizon_days_max)
    row = PADDING._replace(
        unit_cost=products.unit_cost,
        return_cost=products.return_cost,
        kept_share=world.settings.kept_share,
        horizon_days=np.where((inbound > 0) & ~soon, until, goal.horizon_days_max),
        demand_per_day=per_day,
        elasticity=eps,
        demand_volatility=goal.demand_volatility,
        stock=np.where(soon, stock + inbound, stock),
        unlimited=float(not world.limited),
        holding_cost_per_day=goal.holding_cost_share_per_day * products.unit_cost,
        continuation_value=goal.continuation_value_share * products.unit_cost,
        risk_aversion=goal.risk_aversion,
        target_leftover=np.maximum(goal.target_leftover_days * per_day, 1.0),
        value_volatility=goal.value_volatility_per_sqrt_day,
        level_variance=np.maximum(v_bb, 1e-9),
        level_elasticity_covariance=cov[1] + r * cov[5] + u * cov[6],
        elasticity_variance=cov[4],
        return_min=0.0,
        return_max=1.0,
        return_intercept=products.return_logit,
        return_log=products.return_slope,
        exact_small_stock=1.0,
        lower=np.exp(LN_PRICE_MIN),
        upper=np.exp(LN_PRICE_MAX),
    )
    return np.stack([np.broadcast_to(column, per_day.shape) for column in row]).astype(float)


def _in_cents(world: World, ln_price: Floats) -> Floats:
    reference = world.products.reference_price_minor
    clipped = np.clip(ln_price, LN_PRICE_MIN, LN_PRICE_MAX)
    return np.log(np.rint(reference * np.exp(clipped)) / reference)


def _step(before: Floats, wanted: Floats) -> Floats:
    return np.clip(wanted, before - STEP_LOG, before + STEP_LOG)


def _solve(kernel: Kernel, rows: Floats, **changes: float) -> Floats:
    changed = rows.copy()
    for name, value in changes.items():
        changed[INPUTS.index(name)] = value
    return np.log(kernel.solve_arrays(changed)[0])


def history(seed: int, kernel: Kernel) -> Tape:
    """Step a shop, and price the candidates beside it."""
    world, engine_logs = World(seed, SETTINGS), seed % 2 == 0
    products, n = world.products, PRODUCTS
    rng = np.random.default_rng([seed, 9])
    belief, shown = _started(n), np.zeros(n)
    own = np.zeros(n)  # the engine's or the unlimited candidate's path
    kind = rng.integers(3, size=SETTINGS.categories)[products.category]
    days: list[Day] = []
    expected: list[Floats] = []
    rows_of: list[Floats] = []
    paths: dict[str, list[Floats]] = {name: [] for name in ("shown", *CANDIDATES)}
    naive = {name: np.zeros(2) for name in CANDIDATES}
    probe = np.zeros(n)
    for day in range(HABIT_DAYS + DAYS):
        ln_rival = world.ln_rival()
        habit = day < HABIT_DAYS or not engine_logs
        if habit:
            price, exogenous = world.habit()
            control = price - exogenous
            rows = _rows(world, belief, ln_rival, control)
        else:
            control = np.zeros(n)
            rows = _rows(world, belief, ln_rival, control)
            if day % 7 == 0:
                sign = rng.choice([-1.0, 1.0], n) * (rng.random(n) < PROBE_SHARE)
                probe = sign * POLICY.decision.exploration_log
            price = _step(shown, _solve(kernel, rows)) + probe
            exogenous = price
        price = _in_cents(world, price)
        exogenous = price - control
        if day >= HABIT_DAYS:
            bold = {"risk_aversion": 0.0, "unlimited": 1.0} if engine_logs else {}
            own = _step(shown if day == HABIT_DAYS else own, _solve(kernel, rows, **bold))
            wanted = {"engine": own, "dearer": price + 0.08, "mixed": price + 0.1 * (kind - 1.0)}
            path = {name: _in_cents(world, wanted[name]) for name in CANDIDATES}
            for name in CANDIDATES:
                naive[name] += _naive(rows, price, path[name], products.reference_price_minor)
        else:
            path = dict.fromkeys(CANDIDATES, price)
        for name, x in {"shown": price, **path}.items():
            paths[name].append(x)
        stepped = world.step(price, exogenous)
        mean, x = belief.mean, stepped.ln_price
        z = mean[:, 0] + mean[:, 1] * x + mean[:, 2] * ln_rival + mean[:, 3] * control
        expected.append(np.exp(z) * stepped.exposure_days)
        open_ = stepped.exposure_days > OPEN_DAYS_MIN
        belief = Belief(
            *learn_many(
                *belief, x, ln_rival, control, np.where(open_, stepped.orders, 0),
                np.where(open_, stepped.exposure_days, 1e-9), np.ones(n), DEFAULT_SETTINGS,
            )
        )  # fmt: skip
        shown = price - probe if not habit else price
        days.append(stepped)
        rows_of.append(rows.T)
    stacked = {name: np.stack(path) for name, path in paths.items()}
    inputs = np.stack(rows_of)
    return Tape(
        columns=_columns(world, days, expected, rng),
        baseline=_decisions(world, stacked["shown"], inputs),
        candidates={name: _decisions(world, stacked[name], inputs) for name in CANDIDATES},
        paths=stacked,
        naive={name: (float(sums[0]), float(np.sqrt(sums[1]))) for name, sums in naive.items()},
    )


def _naive(rows: Floats, shown: Floats, price: Floats, reference: Any) -> Floats:
    """Difference of a day's profit by the deciding belief, and its variance."""
    row = dict(zip(INPUTS, rows, strict=True))
    profits, slopes = [], []
    for x in (price, shown):
        sold = row["demand_per_day"] * np.exp(row["elasticity"] * x)
        rate = 1.0 / (1.0 + np.exp(-(row["return_intercept"] + row["return_log"] * x)))
        earned = row["kept_share"] * np.exp(x) - row["unit_cost"]
        profit = reference * sold * (earned * (1.0 - rate) - row["return_cost"] * rate)
        profits.append(profit)
        slopes.append((profit, profit * x))
    by_level, by_elasticity = (a - b for a, b in zip(*slopes, strict=True))
    variance = by_level**2 * row["level_variance"] + by_elasticity**2 * row["elasticity_variance"]
    variance += 2.0 * by_level * by_elasticity * row["level_elasticity_covariance"]
    return np.array([np.sum(profits[0] - profits[1]), np.sum(variance)])


def _flat(matrix: Floats) -> Floats:
    """[day, product] as rows in the order of product, then day."""
    return np.ascontiguousarray(matrix.T).reshape(-1)


def _columns(
    world: World, days: list[Day], expected: list[Floats], rng: np.random.Generator
) -> tuple[Products, Epochs, Outcomes]:
    n, count, products = PRODUCTS, len(days), world.products
    reference = products.reference_price_minor.astype(np.float64)

    def stack(name: str) -> Floats:
        return _flat(np.stack([np.asarray(getattr(day, name), np.float64) for day in days]))

    product, day = np.repeat(np.arange(n), count), np.tile(np.arange(count), n)
    price = np.rint(reference[product] * np.exp(stack("ln_price")))
    orders, exposure = stack("orders"), stack("exposure_days")
    nothing = np.zeros(len(product))
    epochs = Epochs(
        product=product,
        begin_ms=day * DAY_MS,
        end_ms=np.rint((day + exposure) * DAY_MS).astype(np.int64),
        price_minor=price,
        reference_minor=reference[product],
        orders=orders,
        units=orders,
        exposure_days=exposure,
        ln_rival=stack("ln_rival"),
        control=stack("ln_price") - stack("exogenous_log"),
        offset=nothing,
        mean_orders=_flat(np.stack(expected)),
        posterior_mean=np.zeros((len(product), 4)),
        posterior_cov=np.zeros((len(product), 4, 4)),
    )
    epochs = Epochs._make(column[exposure > OPEN_DAYS_MIN] for column in epochs)
    rates = _flat(np.stack([world.demand.return_rate(one.ln_price) for one in days]))
    outcomes = Outcomes(
        product=product,
        day=day,
        orders=orders,
        units=orders,
        revenue_minor=orders * price,
        returned_units=rng.binomial(orders.astype(np.int64), rates).astype(np.float64),
        refund_minor=nothing,
        unit_cost_minor=(products.unit_cost * reference)[product],
        kept_share=np.full(len(product), world.settings.kept_share),
        handling_minor=(products.return_cost * reference)[product],
    )
    names = [f"c{kind:02d}" for kind in products.category.tolist()]
    skus = [f"s{i:05d}" for i in range(n)]
    return Products(skus, skus, names, ["EUR"] * n), epochs, outcomes


def _decisions(world: World, path: Floats, inputs: Floats) -> Decisions:
    """One decision a product and day."""
    count, n = path.shape
    reference = world.products.reference_price_minor.astype(np.float64)
    product, day = np.repeat(np.arange(n), count), np.tile(np.arange(count), n)
    price = np.rint(reference[product] * np.exp(_flat(path)))
    nothing, never = np.zeros(n * count), np.zeros(n * count, np.bool_)
    return Decisions(
        product=product,
        at_ms=day * DAY_MS,
        partition=np.zeros(n * count, np.int64),
        offset=np.arange(n * count),
        price_minor=price,
        wanted_minor=price,
        plain_minor=price,
        effective=~never,
        probe=never,
        up_minor=nothing,
        down_minor=nothing,
        up_probability=nothing,
        drew_up=never,
        exogenous_log=nothing,
        reference_minor=reference[product],
        profit_per_day_minor=nothing,
        inputs=inputs.transpose(1, 0, 2).reshape(n * count, -1),
    )


def truth(seed: int, paths: dict[str, Floats]) -> dict[str, float]:
    """Expected profit of each path over the evaluated days, minor units."""
    totals = dict.fromkeys(paths, 0.0)
    for name, path in paths.items():
        for replicate in range(REPLICATES):
            world = Customers(seed, SETTINGS, replicate)
            kept, products = world.settings.kept_share, world.products
            for day, x in enumerate(path):
                stepped = world.step(x)
                if day >= HABIT_DAYS:
                    earned = stepped.orders * margin(products, x, kept)
                    totals[name] += float(earned @ products.reference_price_minor) / REPLICATES
    return totals
