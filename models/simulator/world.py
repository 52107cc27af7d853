"""The reference world: a shop's market by the day, in arrays, whose truth is known.

It answers the question that no history can: what would have been sold at another price. One step
is one day of all products at once, so millions of product-days take seconds. Orders are Poisson at
the rate of :mod:`models.simulator.world_demand`, whose shock no event tells but the shop's habit of
pricing reacts to: its prices are endogenous.

Every random number is drawn from the seed, its purpose and the day, and demand by inversion of its
distribution: two policies that share a seed meet the same customers, and differ by their prices
alone. docs/simulator.md has the figures and what they were chosen for.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from models.simulator.world_demand import Demand
from models.simulator.world_truth import (
    Bools,
    Draws,
    Floats,
    Ints,
    Products,
    WorldSettings,
    draw_products,
    kink,
    margin,
    return_rate,
)

__all__ = ["Day", "Products", "World", "WorldSettings", "kink", "margin", "return_rate"]

LN_PRICE_MIN, LN_PRICE_MAX = float(np.log(0.55)), float(np.log(2.0))  # prices may be chosen here
DELAY_SHAPE = 2.0  # of the gamma distribution of return delays
RETURN_DAYS_MAX = 120
PRICE_GRID = np.linspace(LN_PRICE_MIN, LN_PRICE_MAX, 257)
FAMILY_SWEEPS_MAX = 8
SUMMED_RATE_MAX = 40.0  # orders a day
SUMMED_TERMS_MAX = 150
SUMMED_TERM_MIN = 1e-18


class Day(NamedTuple):
    """What happened on a day, arrays [n]. ``shock`` and ``rate`` are truth that no event tells."""

    day: int
    ln_price: Floats
    exogenous_log: Floats
    ln_rival: Floats
    orders: Ints
    lost: Ints
    exposure_days: Floats  # share of the day in stock
    returned: Ints  # of orders of earlier days
    stock: Ints  # at the day's end; -1 where unlimited
    shock: Floats
    rate: Floats
    listed: Bools
    visits: Ints | None  # None: not observed
    searches: Ints | None
    orders_of_new_customers: Ints


class World:
    """A shop's market, day by day.

    Parameters
    ----------
    seed : of everything random
    settings : how it is drawn
    products : the truth, where it is not to be drawn

    Attributes
    ----------
    products : the truth
    demand : its demand on the next day
    """

    def __init__(
        self, seed: int, settings: WorldSettings | None = None, products: Products | None = None
    ) -> None:
        self.seed = seed
        self.settings = settings or WorldSettings()
        self._draws = Draws(seed)
        self.products = draw_products(self.settings, self._draws) if products is None else products
        self.demand = Demand(self.products, self.settings, self._draws)
        n = len(self.products.level)
        self._noise: Floats = self._rng("rival").normal(0.0, self.settings.rival_noise_sd, n)
        self._last_ln_price: Floats = np.zeros(n)
        self._returns: Ints = np.zeros((RETURN_DAYS_MAX, n), np.int64)
        delivery = np.ceil(np.exp(self.products.level) * self.settings.cover_days)
        self._delivery: Ints = np.maximum(delivery, 3).astype(np.int64)
        self._stock: Ints = self._delivery.copy()
        self._due: Ints = np.full(n, -1, np.int64)

    @property
    def day(self) -> int:
        """The next day to step, from 0."""
        return self.demand.day

    @property
    def limited(self) -> bool:
        """Whether stock can run out."""
        return self.settings.cover_days > 0.0

    @property
    def stock(self) -> Ints:
        """Units on hand [n] at the start of the next day; meaningless where unlimited."""
        return self._stock

    @property
    def inbound(self) -> tuple[Ints, Ints]:
        """Units on their way [n], and days until they come [n]; 0 and -1 where none are."""
        on_way = self._due >= 0
        return np.where(on_way, self._delivery, 0), np.where(on_way, self._due - self.day, -1)

    @property
    def elasticity(self) -> Floats:
        """Own-price elasticity [n] as of now."""
        return self.demand.elasticity

    def ln_rival(self) -> Floats:
        """ln(rival / reference) [n] of the next day, which the shop sees before it prices."""
        follow = self.settings.rival_follow * self._last_ln_price
        return np.asarray(self.products.rival_base + follow + self._noise)

    def habit(self) -> tuple[Floats, Floats]:
        """The next day's ln price [n] of the shop's habit, and its exogenous part [n].

        Around the reference price: an exogenous move that stays for a while, and a reaction to
        the demand that nobody else sees.
        """
        held = self.day // self.settings.price_hold_days
        rng = self._rng("habit", held)
        exogenous = rng.normal(0.0, self.settings.exogenous_sd, len(self.products.level))
        return exogenous + self.settings.price_reaction * self.demand.shock, exogenous

    def step(self, ln_price: Floats, exogenous_log: Floats | None = None) -> Day:
        """Let a day pass at ``ln_price`` [n].

        Parameters
        ----------
        exogenous_log : the part of it that no demand signal caused; all of it where not given
        """
        day = self.day
        x = np.asarray(ln_price, dtype=np.float64)
        y, listed, shock = self.ln_rival(), self.demand.listed(), self.demand.shock
        rate = np.where(listed, np.exp(self.demand.ln_rate(x, y)) * self.demand.noise(), 0.0)
        wanted = _poisson(self._rng("demand", day).random(len(x)), rate)
        orders, exposure = wanted, listed.astype(np.float64)
        if self.limited:
            self._deliver(day)
            orders = np.minimum(wanted, self._stock)
            in_stock = np.where(
                wanted > orders, orders / np.maximum(wanted, 1), (self._stock > 0) * 1.0
            )
            exposure = np.asarray(exposure * in_stock)
            self._stock = self._stock - orders
            self._reorder(day)
        visits, searches = self._traffic(day, listed)
        new = self._of_new_customers(day, orders)
        returned = self._return(day, x, orders, new)
        self._advance(day, x)
        return Day(
            day=day,
            ln_price=x,
            exogenous_log=x if exogenous_log is None else exogenous_log,
            ln_rival=y,
            orders=orders,
            lost=wanted - orders,
            exposure_days=exposure,
            returned=returned,
            stock=self._stock.copy() if self.limited else np.full(len(x), -1),
            shock=shock,
            rate=np.asarray(rate),
            listed=listed,
            visits=visits,
            searches=searches,
            orders_of_new_customers=new,
        )

    def history(self, days: int) -> list[Day]:
        """Step ``days`` days by the shop's habit."""
        return [self.step(*self.habit()) for _ in range(days)]

    def steady_log_rate(self, ln_price: Floats, *, follows: bool = True) -> Floats:
        """ln orders per day [n] at a price that stays, on an average day.

        Parameters
        ----------
        follows : rivals follow that price; else they stand where our reference price left them
        """
        x = np.asarray(ln_price)
        y = self.products.rival_base + (self.settings.rival_follow * x if follows else 0.0)
        return self.demand.steady_ln_rate(x, y)

    def steady_profit(self, ln_price: Floats, *, follows: bool = True) -> Floats:
        """True contribution margin per day [n] at a price that stays, over the reference price."""
        rate = np.exp(self.steady_log_rate(ln_price, follows=follows))
        return np.asarray(rate * margin(self.products, ln_price, self.settings.kept_share))

    def best_ln_price(self, *, follows: bool = True) -> Floats:
        """ln price [n] of the highest true profit, between the bounds.

        A family's prices are chosen together, to within a grid step of 0.005; those of products
        alone to within 1e-4.
        """
        n = len(self.products.level)
        columns = [self.steady_profit(np.full(n, x), follows=follows) for x in PRICE_GRID]
        profits = np.stack(columns)
        best = np.argmax(profits, axis=0)
        inner = np.clip(best, 1, len(PRICE_GRID) - 2)
        left, here, right = (profits[inner + k, np.arange(n)] for k in (-1, 0, 1))
        bend = left - 2.0 * here + right
        shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)
        shift = np.where(best == inner, np.clip(shift, -1.0, 1.0), 0.0)
        alone = np.asarray(PRICE_GRID[best] + shift * (PRICE_GRID[1] - PRICE_GRID[0]))
        return self._best_of_families(alone, follows) if self.products.cross.any() else alone

    def _best_of_families(self, x: Floats, follows: bool) -> Floats:
        """Raise each family's profit by one member's price at a time, until nothing moves."""
        family = np.unique(self.products.family, return_inverse=True)[1]
        slots = self.products.slot
        for _ in range(FAMILY_SWEEPS_MAX):
            before = x
            for slot in range(int(slots.max()) + 1):
                here = slots == slot
                profits = np.stack([
                    np.bincount(family, self.steady_profit(np.where(here, p, x), follows=follows))
                    for p in PRICE_GRID
                ])  # fmt: skip
                x = np.where(here, PRICE_GRID[np.argmax(profits, axis=0)][family], x)
            if np.array_equal(x, before):
                break
        return np.asarray(x)

    # -- parts of a day

    def _traffic(self, day: int, listed: Bools) -> tuple[Ints | None, Ints | None]:
        visits = searches = None
        if self.settings.visits_per_order:
            rate = self.settings.visits_per_order * np.exp(self.demand.ln_traffic())
            rate = np.where(listed, rate * self.demand.noise(), 0.0)
            visits = self._rng("visits", day).poisson(rate)
        if self.settings.searches_per_order:
            rate = np.where(listed, np.exp(self.demand.ln_searches()), 0.0)
            searches = self._rng("searches", day).poisson(rate)
        return visits, searches

    def _of_new_customers(self, day: int, orders: Ints) -> Ints:
        share = self.settings.new_customer_share
        if not share:
            return np.zeros_like(orders)
        return self._rng("segment", day).binomial(orders, share)

    def _deliver(self, day: int) -> None:
        came = self._due == day
        self._stock = self._stock + np.where(came, self._delivery, 0)
        self._due = np.where(came, -1, self._due)

    def _reorder(self, day: int) -> None:
        needed = np.exp(self.products.level) * self.settings.lead_days
        low = (self._due < 0) & (self._stock <= needed)
        lead = self._rng("lead", day).integers(1, 2 * self.settings.lead_days, len(low))
        self._due = np.where(low, day + lead, self._due)

    def _return(self, day: int, x: Floats, orders: Ints, new: Ints) -> Ints:
        rng = self._rng("returns", day)
        back = rng.binomial(orders - new, self.demand.return_rate(x))
        if new.any():
            back = back + rng.binomial(new, self.demand.return_rate(x, new_customer=True))
        product = np.repeat(np.arange(len(orders)), back)
        scale = self.settings.return_delay_days / DELAY_SHAPE
        delay = np.ceil(rng.gamma(DELAY_SHAPE, scale, len(product))).astype(np.int64)
        when = (day + np.clip(delay, 1, RETURN_DAYS_MAX - 1)) % RETURN_DAYS_MAX
        np.add.at(self._returns, (when, product), 1)
        today: Ints = self._returns[day % RETURN_DAYS_MAX].copy()
        self._returns[day % RETURN_DAYS_MAX] = 0
        return today

    def _advance(self, day: int, x: Floats) -> None:
        self.demand.advance(x)
        self._last_ln_price = x
        kept = self.settings.rival_noise_memory
        fresh = self._rng("rival", day + 1).normal(0.0, self.settings.rival_noise_sd, len(x))
        self._noise = kept * self._noise + np.sqrt(1.0 - kept**2) * fresh

    def _rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        return self._draws.rng(purpose, day)


def _poisson(uniform: Floats, rate: Floats) -> Ints:
    """Poisson counts by inversion: a higher rate never gives fewer at the same uniform number.

    The count is the smallest whose distribution function reaches the uniform number: summed term
    by term for small rates, which is ten times as fast as the inverse of the incomplete gamma.
    """
    counts = np.zeros(len(rate), np.int64)
    large = np.flatnonzero(rate > SUMMED_RATE_MAX)
    if len(large):
        counts[large] = _poisson_of_large(uniform[large], rate[large])
    left = np.flatnonzero((rate <= SUMMED_RATE_MAX) & (uniform > np.exp(-rate)))
    wanted, mean = uniform[left], rate[left]
    term = total = np.exp(-mean)
    for count in range(1, SUMMED_TERMS_MAX):
        if not len(left):
            break
        term = term * mean / count
        total = total + term
        counts[left] = count
        # far beyond the mean terms no longer add up to anything, however near 1 the number is
        open_ = (wanted > total) & ((term > SUMMED_TERM_MIN) | (count < mean))
        left, wanted, mean = left[open_], wanted[open_], mean[open_]
        term, total = term[open_], total[open_]
    return counts


def _poisson_of_large(uniform: Floats, rate: Floats) -> Ints:
    smallest = np.ceil(special.pdtrik(uniform, rate))
    below = special.pdtr(np.maximum(smallest - 1.0, 0.0), rate) >= uniform
    return np.asarray(np.where(below & (smallest > 0), smallest - 1.0, smallest), dtype=np.int64)
