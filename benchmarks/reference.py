"""What the model benchmarks share: the reference world's history, learned in arrays."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.demand.demand import DemandSettings
from models.demand.demand_batch import learn_many
from models.demand.history import Episodes
from models.prior.empirical_bayes import Member
from models.prior.prior import adapt, exchange, prior_sha256
from models.simulator.world import Day, Products, WorldSettings
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior, DemandPrior

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

SEEDS = (1, 2, 3)
KEPT_SHARE = WorldSettings().kept_share
OPEN_DAYS_MIN = 1e-3  # less of a day in stock teaches nothing
HELD_OUT_SHARE = 0.25


class History(NamedTuple):
    """Days of a world as arrays [day, product]."""

    ln_price: Floats
    control: Floats  # the part of ln price that reacted to demand
    ln_rival: Floats
    orders: Floats
    exposure_days: Floats


class Belief(NamedTuple):
    """Demand posteriors of n products."""

    mean: Floats  # [n, 4]
    cov: Floats  # [n, 10]

    def take(self, index: Index) -> "Belief":
        return Belief(self.mean[index], self.cov[index])


def history_of(days: list[Day]) -> History:
    """Stack a world's days."""
    return History(
        np.stack([day.ln_price for day in days]),
        np.stack([day.ln_price - day.exogenous_log for day in days]),
        np.stack([day.ln_rival for day in days]),
        np.stack([day.orders for day in days]).astype(np.float64),
        np.stack([day.exposure_days for day in days]),
    )


def attributes_of(products: Products, i: int) -> dict[str, float | str]:
    """A product's attributes as its listing would name them."""
    return {f"a{k}": float(value) for k, value in enumerate(products.attributes[i])}


def category_of(products: Products, i: int) -> str:
    """Name of a product's category."""
    return f"c{products.category[i]:03d}"


def begin(prior: DemandPrior, products: Products, index: Index) -> Belief:
    """What the products at ``index`` start with."""
    name = prior_sha256(prior)
    started = [
        adapt(prior, category_of(products, i), attributes_of(products, i), 0, prior_hash=name)[0]
        for i in index.tolist()
    ]
    return Belief(np.array([p.mean for p in started]), np.array([p.cov for p in started]))


def split(products: Products, seed: int) -> tuple[Index, Index]:
    """Products of known categories to train on, and held out: every category in both."""
    known = np.flatnonzero(~products.unseen)
    shuffled = np.random.default_rng([seed, 77]).permutation(known)
    held = round(HELD_OUT_SHARE * len(known))
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def learn_day(
    belief: Belief, history: History, day: int, index: Index, settings: DemandSettings
) -> Belief:
    """Learn one day of the products at ``index``; a day out of stock teaches nothing."""
    exposure = history.exposure_days[day, index]
    open_ = exposure > OPEN_DAYS_MIN
    learned = learn_many(
        belief.mean,
        belief.cov,
        history.ln_price[day, index],
        history.ln_rival[day, index],
        history.control[day, index],
        np.where(open_, history.orders[day, index], 0.0),
        np.where(open_, exposure, 1e-9),
        np.ones(len(index)),
        settings,
    )
    return Belief(*learned)


def learn_days(
    belief: Belief, history: History, index: Index, settings: DemandSettings, days: range
) -> Belief:
    """Learn a stretch of days."""
    for day in days:
        belief = learn_day(belief, history, day, index, settings)
    return belief


def posterior_of(belief: Belief, row: int, days: int) -> DemandPosterior:
    """One product's belief as the record that the fold keeps."""
    mean: Any = tuple(belief.mean[row].tolist())
    cov: Any = tuple(belief.cov[row].tolist())
    return DemandPosterior(mean=mean, cov=cov, epochs=days, orders=0, updated_ms=days * DAY_MS)


def members(
    products: Products, index: Index, begun: Belief, learned: Belief, days: int
) -> list[Member]:
    """A catalogue to fit a prior to."""
    return [
        Member(
            f"s{i:05d}",
            category_of(products, i),
            attributes_of(products, i),
            posterior_of(learned, row, days),
            posterior_of(begun, row, 0),
        )
        for row, i in enumerate(index.tolist())
    ]


def episodes_of(products: Products, history: History, index: Index, days: range) -> Episodes:
    """A stretch of history as training reads it."""
    stretch = [column[days.start : days.stop, index].T for column in history]
    ln_price, control, ln_rival, orders, exposure_days = stretch
    return Episodes(
        skus=[f"s{i:05d}" for i in index.tolist()],
        categories=[category_of(products, i) for i in index.tolist()],
        attributes=[attributes_of(products, i) for i in index.tolist()],
        end_days=np.tile(np.arange(days.start, days.stop) + 1.0, (len(index), 1)),
        ln_price=ln_price,
        ln_rival=ln_rival,
        rival_known=np.ones_like(ln_price, dtype=np.bool_),
        control=control,
        orders=orders,
        exposure_days=np.where(exposure_days > OPEN_DAYS_MIN, exposure_days, 0.0),
        ln_markup=np.mean(ln_price, axis=1) + np.log(KEPT_SHARE / products.unit_cost[index]),
        costed=np.ones(len(index), dtype=np.bool_),
    )


def exchange_all(
    products: Products,
    belief: Belief,
    old: Belief,
    new: DemandPrior,
    settings: DemandSettings,
    days: int,
) -> tuple[Belief, Belief]:
    """Let every product change over; returns the beliefs and what they begin with now."""
    begins = begin(new, products, np.arange(len(belief.mean)))
    changed = [
        exchange(
            posterior_of(belief, row, days),
            posterior_of(old, row, 0),
            posterior_of(begins, row, 0),
            settings,
        )
        for row in range(len(belief.mean))
    ]
    return Belief(np.array([p.mean for p in changed]), np.array([p.cov for p in changed])), begins


def spread(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each figure over the seeds."""
    return {
        name: {
            "median": round(float(np.median([row[name] for row in rows])), 4),
            "min": round(min(row[name] for row in rows), 4),
            "max": round(max(row[name] for row in rows), 4),
        }
        for name in rows[0]
    }
