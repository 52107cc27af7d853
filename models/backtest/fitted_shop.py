"""Simulated shops that are like the one whose history was read, for a closed loop.

Each run draws its own truth from what is believed of the shop (a parametric bootstrap): demand
level, elasticity, rivals' effect and their follow rate, returns. What is not drawn is measured:
daily scatter, how often rivals move and by how much, deliveries. Products of a sample stand alone,
and costs stand still. docs/backtest-value.md has what that leaves out.
"""

from typing import NamedTuple

import numpy as np

from models.backtest import demand_ratio, hindsight, return_fit
from models.backtest.columns import (
    INPUTS,
    Bools,
    Decisions,
    Epochs,
    Floats,
    Integers,
    Outcomes,
    Products,
)
from models.backtest.hindsight import by_product
from models.simulator.simulator_truth import RIVALS_MAX, ShopSettings, Truth
from models.simulator.world_truth import NEVER, WorldSettings
from models.simulator.world_truth import Products as TrueProducts
from schemas.events import DAY_MS, rfc3339

RECENT_DAYS = 56  # of the tape, for the level of demand and for what a run is compared with
SHOCK_MEMORY = 0.9
SCATTER_MAX = 0.5  # relative variance of a day's demand
NEVER_RUNS_OUT_DAYS = 10_000.0
COVER_DAYS_MIN, COVER_DAYS_MAX, LEAD_DAYS = 3.0, 120.0, 7.0
MOVES_PER_DAY_MIN, MOVES_PER_DAY_MAX = 0.02, 1.0
RIVAL_NOISE_SD_MAX = 0.3


class Fitted(NamedTuple):
    """What is measured of the sampled products [product], and of the shop.

    ``stock_ordered`` are those whose stock can run out; ``cover_days`` what a delivery covers.
    ``scatter`` is the relative variance of a day's demand beyond single sales.
    """

    skus: tuple[str, ...]
    categories: tuple[str, ...]
    reference_minor: Floats
    shown_minor: Floats
    unit_cost_minor: Floats
    handling_minor: Floats
    kept_share: Floats
    units_per_order: Floats
    orders: Floats
    ln_rival: Floats  # mean of the recent past, NaN without
    ln_shown: Floats  # mean ln(P / P_ref) of the recent past
    omega: Floats
    stock_ordered: Bools
    cover_days: Floats
    scatter: float
    rival_moves_per_day: float
    rival_noise_sd: float


class Drawn(NamedTuple):
    """The parameters of every run: [run, product], ``follow`` [run]."""

    level: Floats
    elasticity: Floats
    rival: Floats
    return_level: Floats
    return_slope: Floats
    follow: Floats


def eligible(products: Products, epochs: Epochs, outcomes: Outcomes, end_ms: int) -> Integers:
    """Products that sold or could have sold lately, and whose cost is known, in order."""
    count = len(products.skus)
    recent = (epochs.end_ms > end_ms - RECENT_DAYS * DAY_MS) & taught(epochs)
    seen = by_product(epochs.product[recent], epochs.exposure_days[recent], count)
    known = ~np.isnan(outcomes.unit_cost_minor + outcomes.kept_share + outcomes.handling_minor)
    costed = by_product(outcomes.product, known.astype(float), count)
    return np.flatnonzero((seen > 1.0) & (costed > 0.0))


def taught(epochs: Epochs) -> Bools:
    """Which epochs had exposure enough to teach, as a mask."""
    return np.asarray(epochs.exposure_days >= hindsight.EXPOSURE_DAYS_MIN)


def fit(
    products: Products,
    epochs: Epochs,
    outcomes: Outcomes,
    decisions: Decisions,
    sample: Integers,
    end_ms: int,
) -> Fitted:
    """Measure the sampled products over the last weeks before ``end_ms``.

    Parameters
    ----------
    sample : numbers of the products, out of `eligible`
    decisions : the baseline's
    """
    count = len(products.skus)
    last = {
        name: _last(outcomes.product, getattr(outcomes, name), count)[sample]
        for name in ("unit_cost_minor", "handling_minor", "kept_share")
    }
    recent = (epochs.end_ms > end_ms - RECENT_DAYS * DAY_MS) & taught(epochs)
    here = Epochs._make(column[recent] for column in epochs)
    weight = here.exposure_days
    x = np.log(here.price_minor / here.reference_minor)
    days = by_product(here.product, weight, count)
    with_rival = np.where(np.isnan(here.ln_rival), 0.0, weight)
    rival_days = by_product(here.product, with_rival, count)
    rival = by_product(here.product, with_rival * np.nan_to_num(here.ln_rival), count)
    units = by_product(here.product, here.units, count)
    orders = by_product(here.product, here.orders, count)
    limited, delivered = _deliveries(decisions, count)
    per_day = np.maximum(units / np.maximum(days, 1.0), 1e-3)
    cover = np.clip(delivered / per_day, COVER_DAYS_MIN, COVER_DAYS_MAX)
    moves, noise = _rival_habit(epochs)
    return Fitted(
        skus=tuple(products.skus[i] for i in sample.tolist()),
        categories=tuple(products.categories[i] for i in sample.tolist()),
        reference_minor=_last(epochs.product, epochs.reference_minor, count)[sample],
        shown_minor=_last(epochs.product, epochs.price_minor, count)[sample],
        **last,
        units_per_order=np.maximum((5.0 + units) / (5.0 + orders), 1.0)[sample],
        orders=orders[sample],
        ln_rival=np.where(
            rival_days > 0.5 * days, rival / np.where(rival_days > 0.0, rival_days, 1.0), np.nan
        )[sample],
        ln_shown=(by_product(here.product, weight * x, count) / np.maximum(days, 1e-9))[sample],
        omega=_last(decisions.product, decisions.inputs[:, INPUTS.index("rival_omega")], count)[
            sample
        ],
        stock_ordered=limited[sample],
        cover_days=np.where(limited, cover, NEVER_RUNS_OUT_DAYS)[sample],
        scatter=_scatter(epochs),
        rival_moves_per_day=moves,
        rival_noise_sd=noise,
    )


def draw(
    products: Products,
    epochs: Epochs,
    outcomes: Outcomes,
    sample: Integers,
    runs: int,
    end_ms: int,
    seed: int,
) -> Drawn:
    """Draw the parameters of each run from what the whole catalogue's history tells."""
    rng = np.random.default_rng([seed, 2])
    count = len(products.skus)
    names = {name: number for number, name in enumerate(sorted(set(products.categories)))}
    category = np.array([names[name] for name in products.categories], np.int64)
    belief = hindsight.draw(hindsight.evidence(epochs, count), category, runs, rng)
    reference = _last(epochs.product, epochs.reference_minor, count)
    returns = return_fit.draw_returns(outcomes, reference, runs, rng)
    mean, sd = demand_ratio.follow_rate(epochs)
    recent = (epochs.end_ms > end_ms - RECENT_DAYS * DAY_MS) & taught(epochs)
    here = Epochs._make(column[recent] for column in epochs)
    x = np.log(here.price_minor / here.reference_minor)
    y = np.nan_to_num(here.ln_rival)
    orders = by_product(here.product, here.orders, count)
    level = np.empty((runs, count))
    for run in range(runs):
        eps, eta = belief.elasticity[run, here.product], belief.rival[run, here.product]
        usual = by_product(here.product, here.exposure_days * np.exp(eps * x + eta * y), count)
        level[run] = np.log(rng.gamma(orders + 0.5) / np.maximum(usual, 1e-9))
    return Drawn(
        level=level[:, sample],
        elasticity=belief.elasticity[:, sample],
        rival=belief.rival[:, sample],
        return_level=returns.level[:, sample],
        return_slope=returns.slope[:, sample],
        follow=np.clip(mean + sd * rng.standard_normal(runs), 0.0, 1.0),
    )


def settings_of(fitted: Fitted, start_ms: int) -> ShopSettings:
    """How a fitted shop runs: a day a step, nothing late, no family, costs that stand still."""
    kept = float(np.average(fitted.kept_share, weights=fitted.orders + 1.0))
    world = WorldSettings(
        categories=len(set(fitted.categories)),
        shock_memory=SHOCK_MEMORY,
        shock_sd=float(np.sqrt(0.5 * fitted.scatter)),
        visits_shock_share=0.5,
        overdispersion=0.5 * fitted.scatter,
        cover_days=1.0,
        new_customer_share=0.0,
    )
    return ShopSettings(
        products=len(fitted.skus),
        late_share=0.0,
        start=rfc3339(start_ms),
        step_hours=24,
        traffic_hours=24,
        family_share=0.0,
        unknown_cost_share=0.0,
        cost_change_rate=0.0,
        rival_move_rate=fitted.rival_moves_per_day,
        rival_noise_sd=fitted.rival_noise_sd,
        vat_rate=0.0,
        fee_rate=1.0 - kept,
        basket_share=0.0,
        world=world,
    )


def truth_of(fitted: Fitted, drawn: Drawn, run: int, visits_per_day: Floats) -> Truth:
    """The truth of one run.

    Parameters
    ----------
    visits_per_day : [product] of a typical day, NaN where visits are not counted
    """
    n = len(fitted.skus)
    kinds = {name: number for number, name in enumerate(sorted(set(fitted.categories)))}
    category = np.array([kinds[name] for name in fitted.categories], np.int64)
    list_price = np.rint(fitted.reference_minor).astype(np.int64)
    cost = np.maximum(np.rint(fitted.unit_cost_minor), 1.0).astype(np.int64)
    follow = float(drawn.follow[run])
    base = fitted.ln_rival - follow * fitted.ln_shown
    alone, none = np.arange(n), np.zeros(n, np.int64)
    level = drawn.level[run]
    conversion = np.exp(level) / np.where(np.isnan(visits_per_day), np.inf, visits_per_day)
    return Truth(
        products=TrueProducts(
            category=category,
            attributes=np.zeros((n, 0)),
            level=level,
            elasticity=drawn.elasticity[run],
            cross_price_elasticity=drawn.rival[run],
            unit_cost=cost / list_price,
            return_cost=fitted.handling_minor / list_price,
            return_logit=drawn.return_level[run],
            return_slope=drawn.return_slope[run],
            rival_base=base,
            habit_markup=np.ones(n),
            reference_price_minor=list_price,
            unseen=np.zeros(n, np.bool_),
            elasticity_expected=drawn.elasticity[run],
            dearer_penalty=np.nan_to_num(fitted.omega),
            family=alone,
            slot=none,
            members=np.empty((n, 0), np.int64),
            cross=np.empty((n, 0)),
            listed_from=none,
            listed_until=np.full(n, NEVER),
            predecessor=np.full(n, -1),
        ),
        skus=fitted.skus,
        categories=fitted.categories,
        families=(None,) * n,
        roles=("plain",) * n,
        anchors=(-1,) * n,
        attribute_names=(),
        list_price_minor=list_price,
        first_cost_minor=cost,
        return_cost_minor=np.rint(fitted.handling_minor).astype(np.int64),
        cost_known_day=none,
        conversion=np.where(conversion > 0.0, np.clip(conversion, 1e-6, 0.5), 0.04),
        units_per_order=fitted.units_per_order,
        rivals=(~np.isnan(base)).astype(np.int64),
        rival_base=np.column_stack([np.nan_to_num(base), np.zeros((n, RIVALS_MAX - 1))]),
        rival_follow=np.full((n, RIVALS_MAX), follow),
        lead_days=np.where(fitted.stock_ordered, LEAD_DAYS, 1.0),
        cover_days=fitted.cover_days,
    )


# -- measures


def _last(product: Integers, values: Floats, count: int) -> Floats:
    """Each product's last value that is known [product]; NaN without one."""
    found = np.full(count, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    found[product[known]] = values[known]  # in time order: the last one stays
    return found


def _deliveries(decisions: Decisions, count: int) -> tuple[Bools, Floats]:
    """Whose stock can run out [product], and the mean rise of it when it rises, in units."""
    stock = decisions.inputs[:, INPUTS.index("stock")]
    limited = decisions.inputs[:, INPUTS.index("unlimited")] == 0.0
    same = (decisions.product[1:] == decisions.product[:-1]) & limited[1:] & limited[:-1]
    rise = np.where(same, stock[1:] - stock[:-1], 0.0) if len(stock) else np.zeros(0)
    large = rise > 0.25 * stock[1:] if len(stock) else np.zeros(0, np.bool_)
    rises = by_product(decisions.product[1:], np.where(large, rise, 0.0), count)
    times = by_product(decisions.product[1:], large.astype(float), count)
    ordered = times > 0.0
    return ordered, rises / np.where(ordered, times, 1.0)


def _rival_habit(epochs: Epochs) -> tuple[float, float]:
    """How often a rival's price moves a day, and the sd of where it moves to."""
    change = epochs.ln_rival[1:] - epochs.ln_rival[:-1]
    same = (epochs.product[1:] == epochs.product[:-1]) & ~np.isnan(change)
    if not same.any():
        return MOVES_PER_DAY_MIN, 0.0
    days = float(np.sum((epochs.end_ms - epochs.begin_ms)[1:][same])) / DAY_MS
    moved = same & (change != 0.0)
    rate = float(np.sum(moved)) / max(days, 1.0)
    sd = float(np.std(change[moved]) / np.sqrt(2.0)) if moved.any() else 0.0
    return float(np.clip(rate, MOVES_PER_DAY_MIN, MOVES_PER_DAY_MAX)), min(sd, RIVAL_NOISE_SD_MAX)


def _scatter(epochs: Epochs) -> float:
    """Relative variance of orders beyond Poisson around the forecasts, by moments."""
    known = ~np.isnan(epochs.mean_orders)
    mean, orders = epochs.mean_orders[known], epochs.orders[known]
    total = float(np.sum(mean**2))
    if total <= 0.0:
        return 0.0
    return float(np.clip(np.sum((orders - mean) ** 2 - mean) / total, 0.0, SCATTER_MAX))
