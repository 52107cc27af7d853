"""One-step-ahead forecasts of weekly order lines: the demand model, and simple baselines.

Each forecast of a product's week uses earlier weeks alone, and the calendar of open days. Its score
is the natural log of the probability that it gave to the count that came.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.demand import demand
from models.demand.demand import DemandSettings
from models.prior import prior
from models.prior.empirical_bayes import Member, refresh
from schemas.events import DAY_MS
from schemas.learned import DemandPosterior, DemandPrior
from streams.adapters.weekly import WEEK_DAYS, ProductWeeks, Week, observations

Floats = NDArray[np.float64]

WEEK_MS = WEEK_DAYS * DAY_MS
QUADRATURE_POINTS = 32
AVERAGE_WEEKS = 4
POISSON = 0.0  # dispersion of the Poisson distribution


class Table(NamedTuple):
    """Scored product-weeks, arrays [row] in the order of SKU and week."""

    sku: list[str]
    week: NDArray[np.int64]
    lines: Floats
    open_days: Floats
    lines_before: Floats  # of the same product, all earlier weeks
    days_before: Floats
    rate_last: Floats  # lines per open day of the week before
    rate_average: Floats  # of the last four weeks
    moved: NDArray[np.bool_]  # the price moved by 5 % or more within the four weeks before


@dataclass(slots=True)
class Forecasts:
    """Forecasts of ln(order lines): mean and variance [row], and where learning ended."""

    mean: Floats
    variance: Floats
    posteriors: dict[str, DemandPosterior] = field(default_factory=dict)
    document: DemandPrior = prior.DEFAULT_PRIOR


def scored_weeks(weeks: tuple[Week, ...]) -> Iterator[tuple[int, Week]]:
    """Weeks with an open day that have one before them in time, with their place."""
    earlier = False
    for place, week in enumerate(weeks):
        if week.open_days > 0.0:
            if earlier:
                yield place, week
            earlier = True


def table(products: Mapping[str, ProductWeeks]) -> Table:
    """The product-weeks that are scored, and what the baselines know before each."""
    skus: list[str] = []
    rows: list[tuple[float, ...]] = []
    for sku, product in products.items():
        for place, week in scored_weeks(product.weeks):
            before = [one for one in product.weeks[:place] if one.open_days > 0.0]
            recent = before[-AVERAGE_WEEKS:]
            prices = [one.price_minor for one in product.weeks[max(place - AVERAGE_WEEKS, 0) :]]
            prices = prices[: AVERAGE_WEEKS + 1]
            skus.append(sku)
            rows.append(
                (
                    week.week,
                    week.lines,
                    week.open_days,
                    sum(one.lines for one in before),
                    sum(one.open_days for one in before),
                    before[-1].lines / before[-1].open_days,
                    sum(one.lines for one in recent) / sum(one.open_days for one in recent),
                    max(prices) >= 1.05 * min(prices),
                )
            )
    columns = np.array(rows).T
    return Table(
        skus, columns[0].astype(np.int64), *columns[1:7], moved=columns[7].astype(np.bool_)
    )


def model_forecasts(
    products: Mapping[str, ProductWeeks],
    settings: DemandSettings,
    *,
    refresh_weeks: int | None = None,
    uses_price: bool = True,
) -> Forecasts:
    """The demand model, week by week over all products.

    Parameters
    ----------
    refresh_weeks : so often the prior is learned again from what all products have shown, and they
        change over to it; never where None
    uses_price : else every price counts as the reference price
    """
    document, found = prior.DEFAULT_PRIOR, dict[tuple[str, int], tuple[float, float]]()
    beliefs: dict[str, DemandPosterior] = {}
    initial: dict[str, DemandPosterior] = {}
    by_week: dict[int, list[tuple[str, Week]]] = {}
    for sku, product in products.items():
        for week in product.weeks:
            by_week.setdefault(week.week, []).append((sku, week))
    for number in sorted(by_week):
        start_ms = number * WEEK_MS
        sha = prior.prior_sha256(document)
        for sku, week in by_week[number]:
            product = products[sku]
            if sku not in beliefs:
                beliefs[sku], _ = prior.adapt(
                    document, product.category, {}, start_ms, prior_hash=sha
                )
                initial[sku] = beliefs[sku]
            if week.open_days <= 0.0:
                continue
            reference = product.reference_price_minor if uses_price else week.price_minor
            found[sku, number] = _predict(beliefs[sku], week, reference, settings)
            for seen in observations(week, reference):
                beliefs[sku] = demand.learn(beliefs[sku], seen, start_ms + WEEK_MS, settings)
        if refresh_weeks and number % refresh_weeks == 0:
            document = _change_over(products, beliefs, initial, document, settings)
    keys = [
        (sku, week.week)
        for sku, product in products.items()
        for _, week in scored_weeks(product.weeks)
    ]
    pairs = np.array([found[key] for key in keys])
    return Forecasts(pairs[:, 0], pairs[:, 1], beliefs, document)


def _predict(
    belief: DemandPosterior, week: Week, reference_price_minor: int, settings: DemandSettings
) -> tuple[float, float]:
    """Mean and variance of ln(expected order lines) of the week, at the price known before it."""
    x = math.log(week.price_minor / reference_price_minor)
    now = demand.forecast(belief, None, 0.0, settings)
    walked = settings.level_walk_per_day + settings.elasticity_walk_per_day * x * x
    variance = now.v_bb + 2.0 * now.v_be * x + now.v_ee * x * x + WEEK_DAYS * walked
    mean = math.log(now.demand_per_day) + now.elasticity * x + math.log(week.open_days)
    return mean, variance


def _change_over(
    products: Mapping[str, ProductWeeks],
    beliefs: dict[str, DemandPosterior],
    initial: dict[str, DemandPosterior],
    document: DemandPrior,
    settings: DemandSettings,
) -> DemandPrior:
    """A prior learned from all beliefs so far; changes them, and their beginnings, over to it."""
    members = [
        Member(sku, products[sku].category, {}, belief, initial[sku])
        for sku, belief in beliefs.items()
        if belief.epochs
    ]
    learned = refresh(document, members, "weeks so far", settings=settings)
    sha = prior.prior_sha256(learned)
    for sku, belief in beliefs.items():
        begun, _ = prior.adapt(learned, products[sku].category, {}, belief.begun_ms, prior_hash=sha)
        beliefs[sku] = prior.exchange(belief, initial[sku], begun, settings)
        initial[sku] = begun
    return learned


def log_probability(lines: Floats, mean: Floats, dispersion: float) -> Floats:
    """Ln P(count) [row]: negative binomial with variance mean + dispersion mean^2, or Poisson."""
    if dispersion == POISSON:
        return np.asarray(lines * np.log(mean) - mean - special.gammaln(lines + 1.0))
    size = 1.0 / dispersion
    ways = special.gammaln(lines + size) - special.gammaln(size) - special.gammaln(lines + 1.0)
    share = dispersion * mean
    return np.asarray(ways - size * np.log1p(share) + lines * (np.log(share) - np.log1p(share)))


def log_score(lines: Floats, forecasts: Forecasts, dispersion: float) -> Floats:
    """Ln P(count) [row] with ln(mean) normal: Gauss-Hermite quadrature of the mixture."""
    nodes, weights = special.roots_hermitenorm(QUADRATURE_POINTS)
    log_weights = np.log(weights / weights.sum())
    total = np.full(len(lines), -np.inf)
    sd = np.sqrt(forecasts.variance)
    for node, log_weight in zip(nodes, log_weights, strict=True):
        mean = np.exp(np.clip(forecasts.mean + sd * node, -40.0, 20.0))
        total = np.logaddexp(total, log_weight + log_probability(lines, mean, dispersion))
    return total


def static_mean(rows: Table, prior_lines: float) -> Floats:
    """All earlier weeks' rate, with so many lines of prior at one line in two open days."""
    rate = (rows.lines_before + prior_lines) / (rows.days_before + 2.0 * prior_lines)
    return np.asarray(rate * rows.open_days)


def naive_mean(rows: Table, floor_lines: float) -> Floats:
    """The same days of the week before, at least ``floor_lines``."""
    return np.maximum(rows.rate_last * rows.open_days, floor_lines)


def average_mean(rows: Table, floor_lines: float) -> Floats:
    """The mean of the last four weeks, at least ``floor_lines``."""
    return np.maximum(rows.rate_average * rows.open_days, floor_lines)
