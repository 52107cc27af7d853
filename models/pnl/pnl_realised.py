"""P&L explain, realised layer: what a product earned in a day against what was expected of it.

Expected is what the decisions in force said of the day's exposure, with the stock that there was;
realised is what the day's orders earn, returns as expected in both. What differs is volume, basket
size and price paid; volume beyond its predictive interval counts as drift. ``docs/pnl-explain.md``.
"""

import math
from typing import NamedTuple

from msgspec import Struct

from models.demand.surprise import SPREAD_MAX
from models.kernel import valuation
from models.kernel.objective import RIVAL_WIDTH, Row
from models.pnl.pnl_alarm import Watched
from schemas.outputs import PriceDecided

INTERVAL_SDS = 1.96  # of the predictive interval: a day in twenty lies outside without any drift
TAIL_SDS = 10.0  # stock beyond so many sd of demand does not censor it
INFORMATIVE_SHARE = 0.25  # of the sd without stock: below, stock and not demand sets the count
ENOUGH_RATIO, ENOUGH_SDS = 1.6, 3.0  # stock above so many times demand and sd shows it whole
LOG_MAX = 60.0


class Quote(NamedTuple):
    """What a published decision expects; money in minor units."""

    price_minor: int
    reference_minor: int
    row: Row  # normalised by the reference price
    units_per_order: float
    visits_per_day: float | None  # that the row's demand rests on; None: a day of time does
    dispersion: float  # variance of a count beyond Poisson, relative to its mean squared


class Expected(NamedTuple):
    """Orders of an exposure at one price: mean and dispersion (`demand.surprise`), margin."""

    orders: float
    dispersion: float
    margin_minor: float  # per unit, after expected returns


class DayResult(Struct, frozen=True, kw_only=True):
    """One product and day; money in minor units. Volume, size and price add up to the difference.

    ``residual`` is volume in standard deviations, None where stock left demand nothing to show
    (all volume is noise then); noise and drift add up to volume. ``watched`` is the day as the
    alarm sees it, None without a belief that is old enough or where stock was short.
    """

    expected_orders: float
    orders_sd: float
    orders: int
    expected_minor: float
    realised_minor: float
    volume_minor: float
    size_minor: float
    price_minor: float
    noise_minor: float
    drift_minor: float
    residual: float | None
    watched: Watched | None = None


def quote_of(decision: PriceDecided) -> Quote | None:
    """What a published decision expects; None where its record does not say."""
    record, price_minor = decision.record, decision.price_minor
    if decision.status != "published" or price_minor is None or record is None:
        return None
    units, spread = record.demand.units_per_order, record.demand.dispersion
    if not record.inputs or units is None or spread is None:
        return None
    return Quote(
        price_minor=price_minor,
        reference_minor=record.demand.reference_price_minor,
        row=valuation.row_of(record.inputs),
        units_per_order=units,
        visits_per_day=record.demand.visits_per_day,
        dispersion=spread,
    )


def margin_minor(quote: Quote, price_minor: float) -> float:
    """m = (a P - C)(1 - R) - c_r R at a price, minor units per unit."""
    row, price = quote.row, price_minor / quote.reference_minor
    score = row.return_intercept + row.return_linear * price + row.return_log * math.log(price)
    rate = row.return_min + (row.return_max - row.return_min) / (1.0 + math.exp(-score))
    earned = row.kept_share * price - row.unit_cost
    return (earned * (1.0 - rate) - row.return_cost * rate) * quote.reference_minor


def expected(quote: Quote, price_minor: float, exposure: float) -> Expected:
    """Orders expected in an exposure at a price, stock aside.

    Parameters
    ----------
    exposure : visits where the quote rests on visits, else days in stock; 0 or above

    Notes
    -----
    The log of the rate is normal with the variance that the decision knew, so the mean is above
    what the price was chosen with, the median.
    """
    row, days = quote.row, exposure
    if quote.visits_per_day is not None:
        days = exposure / quote.visits_per_day if quote.visits_per_day > 0.0 else 0.0
    x = math.log(price_minor / quote.reference_minor)
    bend = (x - math.log(row.rival_price) - row.rival_tau) / RIVAL_WIDTH
    softplus = max(bend, 0.0) + math.log1p(math.exp(-abs(bend)))
    log_rate = math.log(row.demand_per_day) + row.elasticity * x
    log_rate -= row.rival_omega * RIVAL_WIDTH * softplus
    spread = row.level_variance + x * (
        2.0 * row.level_elasticity_covariance + x * row.elasticity_variance
    )
    spread = min(max(spread, 0.0), SPREAD_MAX)
    per_day = math.exp(min(log_rate + 0.5 * spread, LOG_MAX)) / quote.units_per_order
    dispersion = (1.0 + quote.dispersion) * math.exp(spread) - 1.0
    return Expected(per_day * days, dispersion, margin_minor(quote, price_minor))


def censored(mean: float, dispersion: float, most: int | None) -> tuple[float, float]:
    """Mean and variance of min(N, most) for negative-binomial N.

    >>> [round(part, 4) for part in censored(2.0, 0.5, 1)]
    [0.75, 0.1875]
    >>> censored(2.0, 0.5, None)
    (2.0, 4.0)
    """
    variance = mean + dispersion * mean * mean
    if most is None or most >= mean + TAIL_SDS * math.sqrt(variance) + 1.0:
        return mean, variance
    if mean <= 0.0 or most <= 0:
        return 0.0, 0.0
    size = 1.0 / dispersion if dispersion > 0.0 else math.inf
    stop = 1.0 / (1.0 + dispersion * mean)
    chance = stop**size if dispersion > 0.0 else math.exp(-mean)
    total = first = second = 0.0
    for count in range(most):
        total += chance
        first += chance * count
        second += chance * count * count
        chance *= mean * stop * (1.0 + count * dispersion) / (count + 1)
    rest = max(1.0 - total, 0.0)
    first += rest * most
    second += rest * most * most
    return first, max(second - first * first, 0.0)


class Day:
    """Adds up one product's day: exposure as it passes, orders as they come."""

    def __init__(self, stock_units: int | None) -> None:
        self._available = stock_units
        self._mean = self._square = self._margin = 0.0
        self._units_per_order = 1.0
        self._orders = 0
        self._units = 0
        self._earned_minor = 0.0
        self._old_mean = self._old_doubt = 0.0
        self._old_weight = self._old_phi = 0.0
        self._old_known = True

    def expose(
        self, quote: Quote, price_minor: float, exposure: float, old: Quote | None = None
    ) -> None:
        """A stretch of the day at one price, under one decision; ``old`` is for the alarm."""
        if exposure <= 0.0:
            return
        found = expected(quote, price_minor, exposure)
        self._mean += found.orders
        # one belief and one day: what is unknown is common to its stretches
        self._square += found.orders * math.sqrt(max(found.dispersion, 0.0))
        self._margin += found.orders * found.margin_minor
        self._units_per_order = quote.units_per_order
        self._compare(quote, price_minor, exposure, old)

    def _compare(
        self, quote: Quote, price_minor: float, exposure: float, old: Quote | None
    ) -> None:
        if old is None or (old.visits_per_day is None) != (quote.visits_per_day is None):
            self._old_known = False
            return
        # a day of time with the visits of then: fewer visits are less demand, too
        seen = expected(old, price_minor, 1.0 if old.visits_per_day is None else old.visits_per_day)
        doubt = max(math.log1p(seen.dispersion) - math.log1p(old.dispersion), 0.0)
        self._old_mean += exposure * seen.orders
        self._old_doubt += exposure * seen.orders * math.sqrt(doubt)
        self._old_weight += exposure
        self._old_phi = old.dispersion

    def _watched(self) -> Watched | None:
        """The day against the old belief, where stock lets any likely demand show."""
        if not self._old_known or self._old_mean <= 0.0:
            return None
        mean = self._old_mean / self._old_weight
        likely = max(mean, self._mean)
        enough = ENOUGH_RATIO * likely + ENOUGH_SDS * math.sqrt(likely)
        if self._available is not None and self._available < enough * self._units_per_order:
            return None
        return Watched(
            orders=self._orders,
            expected=mean,
            dispersion=self._old_phi,
            doubt_sd=self._old_doubt / self._old_mean,
        )

    def restock(self, units: int) -> None:
        """Units that came in, or with units below 0 were gone without an order."""
        if self._available is not None:
            self._available += units

    def order(self, quote: Quote, units: int, paid_minor: int) -> None:
        """An order line of this day."""
        self._orders += 1
        self._units += units
        self._earned_minor += units * margin_minor(quote, paid_minor)

    def cancel(self, quote: Quote, units: int, paid_minor: int, *, whole: bool) -> None:
        """Take back an order line of this day, or some of its units."""
        self._orders -= whole
        self._units -= units
        self._earned_minor -= units * margin_minor(quote, paid_minor)

    def result(self) -> DayResult | None:
        """The day's account; None where nothing was expected and nothing came."""
        if self._mean <= 0.0:
            return None
        dispersion = (self._square / self._mean) ** 2
        most = None
        if self._available is not None:
            # what was sold was there: returned units may come back unreported
            available = max(self._available, self._units)
            most = max(math.ceil(available / self._units_per_order), self._orders, 0)
        mean, variance = censored(self._mean, dispersion, most)
        margin, sd = self._margin / self._mean, math.sqrt(variance)
        per_order = margin * self._units_per_order
        volume = (self._orders - mean) * per_order
        size = (self._units - self._orders * self._units_per_order) * margin
        free_sd = math.sqrt(self._mean + dispersion * self._mean**2)
        told = sd > 0.0 and sd >= INFORMATIVE_SHARE * free_sd
        limit = INTERVAL_SDS * sd * abs(per_order)
        noise = min(max(volume, -limit), limit) if told else volume
        return DayResult(
            expected_orders=mean,
            orders_sd=sd,
            orders=self._orders,
            expected_minor=mean * per_order,
            realised_minor=self._earned_minor,
            volume_minor=volume,
            size_minor=size,
            price_minor=self._earned_minor - self._units * margin,
            noise_minor=noise,
            drift_minor=volume - noise,
            residual=(self._orders - mean) / sd if told else None,
            watched=self._watched(),
        )
