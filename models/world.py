"""The reference world: a shop's market by the day, in arrays, whose truth is known.

It answers the question that no history can: what would have been sold at another price. One step
is one day of all products at once, so millions of product-days take seconds. Demand of product i
on a day, orders at ln price x over the reference price, is Poisson with

    ln rate = level_i + eps_i x + eta_i y + shock_i - omega g(x - y) + psi (x - memory) + season

y is ln(rival / reference), ``memory`` an average of past own x, and the shock an AR(1) that no
event tells but to which the shop's habit of pricing reacts: its prices are endogenous.

Every random number is drawn from the seed, its purpose and the day, and demand by inversion of its
distribution: two policies that share a seed meet the same customers, and differ by their prices
alone. docs/simulator.md has the figures and what they were chosen for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LN_PRICE_MIN, LN_PRICE_MAX = float(np.log(0.55)), float(np.log(2.0))  # prices may be chosen here
RIVAL_WIDTH = 0.03  # of the kink g, in ln price
DELAY_SHAPE = 2.0  # of the gamma distribution of return delays
RETURN_DAYS_MAX = 120
HABIT_ELASTICITY_MAX = -1.3  # no habit marks up further than this elasticity asks
PRICE_GRID = np.linspace(LN_PRICE_MIN, LN_PRICE_MAX, 257)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """How a world is drawn; the defaults are the reference world. Log units where ``_sd``."""

    products: int = 2000
    categories: int = 40
    unseen_categories: int = 4  # the last ones, whose attributes lie elsewhere
    elasticity_mean: float = -2.4
    elasticity_category_sd: float = 0.5
    elasticity_product_sd: float = 0.4
    elasticity_attributes: tuple[float, ...] = (0.30, -0.20, 0.15, 0.10, 0.0, 0.0)
    elasticity_min: float = -5.0
    elasticity_max: float = -1.1
    attribute_sd: float = 0.7
    attribute_shift_unseen: float = 1.5
    orders_per_day_median: float = 1.0
    level_sd: float = 1.0
    shock_memory: float = 0.8
    shock_sd: float = 0.20
    price_reaction: float = 0.25  # ln price per unit of shock
    own_price_sd: float = 0.13  # of ln price in all, the reaction included
    price_hold_days: int = 7  # the exogenous part stays for so long
    cross_price_elasticity_mean: float = 0.2
    cross_price_elasticity_sd: float = 0.1
    rival_follow: float = 0.6
    rival_noise_sd: float = 0.08
    rival_noise_memory: float = 0.9
    return_rate: float = 0.12
    return_category_sd: float = 0.3  # of the logit
    return_product_sd: float = 0.2
    return_slope_mean: float = 1.5
    return_slope_sd: float = 0.5
    return_delay_days: float = 9.0
    return_cost_share: float = 0.08  # of the reference price
    kept_share: float = 0.98 / 1.19
    habit_markup_sd: float = 0.10  # by which a category's habit misses its best mark-up, ln
    habit_product_sd: float = 0.10
    # Effects that the reference world does not have.
    dearer_penalty: float = 0.0  # omega
    memory_effect: float = 0.0  # psi
    memory_days: float = 30.0
    weekday_sd: float = 0.0
    season_sd: float = 0.0
    drift_sd_per_day: float = 0.0  # random walk of the elasticity
    # Stock: 0 is unlimited.
    cover_days: float = 0.0  # demand at the reference price that a delivery covers
    lead_days: int = 7

    @property
    def exogenous_sd(self) -> float:
        """Sd of the part of ln price that no demand signal caused."""
        return float(np.sqrt(self.own_price_sd**2 - (self.price_reaction * self.shock_sd) ** 2))


class Products(NamedTuple):
    """The truth, arrays over products [n]; money over the reference price."""

    category: Ints
    attributes: Floats  # [n, attribute]
    level: Floats  # ln orders per day at the reference price
    elasticity: Floats
    cross_price_elasticity: Floats
    unit_cost: Floats
    return_cost: Floats
    return_logit: Floats
    return_slope: Floats
    rival_base: Floats  # ln(rival / reference) of a rival left alone
    habit_markup: Floats  # price over (cost / kept share), by category
    reference_price_minor: Ints
    unseen: Bools
    elasticity_expected: Floats  # given category and attributes, before clipping

    def take(self, index: NDArray[np.generic]) -> "Products":
        """The products of an index or mask."""
        return Products._make(column[index] for column in self)


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


def kink(ratio: Floats) -> Floats:
    """g: how much dearer than the rival, smoothed; ``ratio`` is ln(P / P_c)."""
    return np.asarray(RIVAL_WIDTH * np.logaddexp(0.0, (ratio - RIVAL_WIDTH) / RIVAL_WIDTH))


def return_rate(products: Products, ln_price: Floats) -> Floats:
    """Probability [n] that a unit comes back at ``ln_price`` [n]."""
    return np.asarray(special.expit(products.return_logit + products.return_slope * ln_price))


def margin(
    products: Products, ln_price: Floats, kept_share: float, rate: Floats | None = None
) -> Floats:
    """Contribution margin per unit [n] after returns, over the reference price.

    Parameters
    ----------
    rate : return rate [n] at that price where another than the true one is meant
    """
    returned = return_rate(products, ln_price) if rate is None else rate
    earned = kept_share * np.exp(ln_price) - products.unit_cost
    return np.asarray(earned * (1.0 - returned) - products.return_cost * returned)


class World:
    """A shop's market, day by day.

    Parameters
    ----------
    seed : of everything random
    settings : how it is drawn

    Attributes
    ----------
    products : the truth
    day : the next day to step, from 0
    """

    def __init__(self, seed: int, settings: WorldSettings | None = None) -> None:
        self.seed = seed
        self.settings = settings or WorldSettings()
        self.products = _draw(self.settings, self._rng("products"))
        n = self.settings.products
        self.day = 0
        self._shock: Floats = self._rng("shock").normal(0.0, self.settings.shock_sd, n)
        self._noise: Floats = self._rng("rival").normal(0.0, self.settings.rival_noise_sd, n)
        self._last_ln_price: Floats = np.zeros(n)
        self._memory: Floats = np.zeros(n)
        self._returns: Ints = np.zeros((RETURN_DAYS_MAX, n), np.int64)
        self._weekday = self._rng("weekday").normal(0.0, self.settings.weekday_sd, 7)
        self._season_phase = self._rng("season").uniform(0.0, 2.0 * np.pi, self.settings.categories)
        self._elasticity: Floats = self.products.elasticity.copy()
        delivery = np.ceil(np.exp(self.products.level) * self.settings.cover_days)
        self._delivery: Ints = np.maximum(delivery, 3).astype(np.int64)
        self._stock: Ints = self._delivery.copy()
        self._due: Ints = np.full(n, -1, np.int64)

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
        return self._elasticity

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
        exogenous = rng.normal(0.0, self.settings.exogenous_sd, self.settings.products)
        return exogenous + self.settings.price_reaction * self._shock, exogenous

    def step(self, ln_price: Floats, exogenous_log: Floats | None = None) -> Day:
        """Let a day pass at ``ln_price`` [n].

        Parameters
        ----------
        exogenous_log : the part of it that no demand signal caused; all of it where not given
        """
        settings, day = self.settings, self.day
        x = np.asarray(ln_price, dtype=np.float64)
        y = self.ln_rival()
        rate = np.exp(self._log_rate(x, y) + self._shock + self._calendar(day))
        wanted = _poisson(self._rng("demand", day).random(len(x)), rate)
        orders, exposure = wanted, np.ones(len(x))
        if self.limited:
            self._deliver(day)
            orders = np.minimum(wanted, self._stock)
            exposure = np.where(
                wanted > orders, orders / np.maximum(wanted, 1), (self._stock > 0) * 1.0
            )
            self._stock = self._stock - orders
            self._reorder(day)
        returned = self._return(day, x, orders)
        self._last_ln_price = x
        self._memory = self._memory + (x - self._memory) / settings.memory_days
        shock = self._shock
        self._advance(day)
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
        effects = self.products.level + self._elasticity * x
        effects = effects + self.products.cross_price_elasticity * y
        return np.asarray(effects - self.settings.dearer_penalty * kink(x - y))

    def steady_profit(self, ln_price: Floats, *, follows: bool = True) -> Floats:
        """True contribution margin per day [n] at a price that stays, over the reference price."""
        rate = np.exp(self.steady_log_rate(ln_price, follows=follows))
        return np.asarray(rate * margin(self.products, ln_price, self.settings.kept_share))

    def best_ln_price(self, *, follows: bool = True) -> Floats:
        """ln price [n] of the highest true profit, between the bounds, to within 1e-4."""
        columns = [
            self.steady_profit(np.full(self.settings.products, x), follows=follows)
            for x in PRICE_GRID
        ]
        profits = np.stack(columns)
        best = np.argmax(profits, axis=0)
        inner = np.clip(best, 1, len(PRICE_GRID) - 2)
        left, here, right = (profits[inner + k, np.arange(len(best))] for k in (-1, 0, 1))
        bend = left - 2.0 * here + right
        shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)
        shift = np.where(best == inner, np.clip(shift, -1.0, 1.0), 0.0)
        return np.asarray(PRICE_GRID[best] + shift * (PRICE_GRID[1] - PRICE_GRID[0]))

    # -- parts of a day

    def _log_rate(self, x: Floats, y: Floats) -> Floats:
        products, settings = self.products, self.settings
        effects = products.level + self._elasticity * x + products.cross_price_elasticity * y
        if settings.dearer_penalty:
            effects = effects - settings.dearer_penalty * kink(x - y)
        if settings.memory_effect:
            effects = effects + settings.memory_effect * (x - self._memory)
        return np.asarray(effects)

    def _calendar(self, day: int) -> Floats:
        angle = 2.0 * np.pi * day / 365.25 + self._season_phase[self.products.category]
        season = self.settings.season_sd * np.sqrt(2.0) * np.sin(angle)
        return np.asarray(season + self._weekday[day % 7])

    def _deliver(self, day: int) -> None:
        came = self._due == day
        self._stock = self._stock + np.where(came, self._delivery, 0)
        self._due = np.where(came, -1, self._due)

    def _reorder(self, day: int) -> None:
        needed = np.exp(self.products.level) * self.settings.lead_days
        low = (self._due < 0) & (self._stock <= needed)
        lead = self._rng("lead", day).integers(1, 2 * self.settings.lead_days, len(low))
        self._due = np.where(low, day + lead, self._due)

    def _return(self, day: int, x: Floats, orders: Ints) -> Ints:
        rng = self._rng("returns", day)
        back = rng.binomial(orders, return_rate(self.products, x))
        product = np.repeat(np.arange(len(orders)), back)
        scale = self.settings.return_delay_days / DELAY_SHAPE
        delay = np.ceil(rng.gamma(DELAY_SHAPE, scale, len(product))).astype(np.int64)
        when = (day + np.clip(delay, 1, RETURN_DAYS_MAX - 1)) % RETURN_DAYS_MAX
        np.add.at(self._returns, (when, product), 1)
        today: Ints = self._returns[day % RETURN_DAYS_MAX].copy()
        self._returns[day % RETURN_DAYS_MAX] = 0
        return today

    def _advance(self, day: int) -> None:
        settings, n = self.settings, self.settings.products
        kept = settings.shock_memory
        fresh = self._rng("shock", day + 1).normal(0.0, settings.shock_sd, n)
        self._shock = kept * self._shock + np.sqrt(1.0 - kept**2) * fresh
        kept = settings.rival_noise_memory
        fresh = self._rng("rival", day + 1).normal(0.0, settings.rival_noise_sd, n)
        self._noise = kept * self._noise + np.sqrt(1.0 - kept**2) * fresh
        if settings.drift_sd_per_day:
            drift = self._rng("drift", day).normal(0.0, settings.drift_sd_per_day, n)
            limits = settings.elasticity_min, settings.elasticity_max
            self._elasticity = np.clip(self._elasticity + drift, *limits)
        self.day = day + 1

    def _rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, int.from_bytes(purpose.encode(), "big"), day])


def _poisson(uniform: Floats, rate: Floats) -> Ints:
    """Poisson counts by inversion: a higher rate never gives fewer at the same uniform number."""
    smallest = np.ceil(special.pdtrik(uniform, rate))
    below = special.pdtr(np.maximum(smallest - 1.0, 0.0), rate) >= uniform
    return np.asarray(np.where(below & (smallest > 0), smallest - 1.0, smallest), dtype=np.int64)


def _draw(settings: WorldSettings, rng: np.random.Generator) -> Products:
    n, kinds = settings.products, settings.categories
    category = np.sort(np.arange(n) % kinds)
    unseen = category >= kinds - settings.unseen_categories
    weights = np.array(settings.elasticity_attributes)
    attributes = rng.normal(0.0, settings.attribute_sd, (n, len(weights)))
    attributes = attributes + settings.attribute_shift_unseen * unseen[:, None]
    by_category = rng.normal(settings.elasticity_mean, settings.elasticity_category_sd, kinds)
    expected = by_category[category] + attributes @ weights
    noise = rng.normal(0.0, settings.elasticity_product_sd, n)
    limits = settings.elasticity_min, settings.elasticity_max
    cross_sd = settings.cross_price_elasticity_sd / np.sqrt(2.0)
    cross = rng.normal(settings.cross_price_elasticity_mean, cross_sd, kinds)[category]
    cross = np.maximum(cross + rng.normal(0.0, cross_sd, n), 0.0)
    followed = settings.rival_follow * settings.cross_price_elasticity_mean
    typical = np.minimum(np.clip(by_category, *limits) + followed, HABIT_ELASTICITY_MAX)
    habit = typical / (1.0 + typical) * np.exp(rng.normal(0.0, settings.habit_markup_sd, kinds))
    markup = habit[category] * np.exp(rng.normal(0.0, settings.habit_product_sd, n))
    base_logit = float(special.logit(settings.return_rate))
    logit = base_logit + rng.normal(0.0, settings.return_category_sd, kinds)[category]
    return Products(
        category=category,
        attributes=attributes,
        level=np.log(settings.orders_per_day_median) + rng.normal(0.0, settings.level_sd, n),
        elasticity=np.clip(expected + noise, *limits),
        cross_price_elasticity=cross,
        unit_cost=settings.kept_share / markup,
        return_cost=np.full(n, settings.return_cost_share),
        return_logit=logit + rng.normal(0.0, settings.return_product_sd, n),
        return_slope=rng.normal(settings.return_slope_mean, settings.return_slope_sd, n),
        rival_base=rng.normal(0.0, 0.05, n),
        habit_markup=habit[category],
        reference_price_minor=np.rint(np.exp(rng.normal(np.log(4000.0), 0.6, n))).astype(np.int64),
        unseen=unseen,
        elasticity_expected=expected,
    )
