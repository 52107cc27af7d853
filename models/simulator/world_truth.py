"""How a simulated market is drawn: its settings, and the truth about its products.

The truth is what no event tells. Both steppers live in it: :class:`models.simulator.world.World` by
the day in arrays, :class:`models.simulator.simulator.Shop` by the hour in events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from schemas.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RIVAL_WIDTH = 0.03  # of the kink g, in ln price
HABIT_ELASTICITY_MAX = -1.3  # no habit marks up further than this elasticity asks
NEVER = 1 << 30  # a day


class Draws:
    """Random numbers by seed, purpose and number: none depends on what was drawn before it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def rng(self, purpose: str, number: int = 0) -> np.random.Generator:
        """A generator of its own for each purpose and number (a day, a step)."""
        return np.random.default_rng([self.seed, int.from_bytes(purpose.encode(), "big"), number])


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
    season_sd: float = 0.0  # of ln demand over the year, by category
    drift_sd_per_day: float = 0.0  # random walk of the elasticity
    break_day: int = NEVER  # on which the truth jumps, for a share of the products
    break_share: float = 1.0
    break_elasticity: float = 0.0
    break_level: float = 0.0
    # Calendar: kinds of the days by date, and how much their effects on ln demand spread.
    start_date: str = "2025-01-06"
    calendar: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calendar_sd: float = 0.0
    # Families: an anchor and its additions; each pair of additions is drawn as substitutes,
    # complements or neither. Effects are elasticities to the other's price, sizes only.
    family_size: int = 1
    anchor_effect: float = 0.0  # of the anchor's price on an addition: a complement
    substitute_effect: float = 0.0
    complement_effect: float = 0.0
    # Channels: shares of demand, and what is added to the elasticity in each.
    channel_shares: tuple[float, ...] = ()
    channel_elasticity: tuple[float, ...] = ()
    # Traffic: visits show a share of the shock; searches lead demand.
    visits_per_order: float = 0.0  # at the reference price; 0: not observed
    visits_shock_share: float = 0.0
    overdispersion: float = 0.0  # relative variance of a day's visits and orders beyond Poisson
    searches_per_order: float = 0.0
    search_effect: float = 0.0  # of an interest of one sd on ln demand, search_lead_days later
    search_sd: float = 0.5  # of ln searches
    search_memory: float = 0.9
    search_lead_days: int = 3
    # Assortment: the last category comes late; products are replaced by successors like them.
    late_category_day: int = 0
    successor_share: float = 0.0
    successor_days: tuple[int, int] = (60, 180)
    successor_sd: float = 0.15  # of its elasticity around its predecessor's
    # Returns by segment and season.
    new_customer_share: float = 0.0
    new_customer_logit: float = 0.0
    return_season_sd: float = 0.0  # of the logit over the year, by category
    # Stock: 0 is unlimited.
    cover_days: float = 0.0  # demand at the reference price that a delivery covers
    lead_days: int = 7

    def __post_init__(self) -> None:
        if len(self.channel_shares) != len(self.channel_elasticity):
            raise ConfigError(
                "wrong_setting",
                f"{len(self.channel_elasticity)} channel elasticities for "
                f"{len(self.channel_shares)} channel shares; expected one each.",
                field="channel_elasticity",
                value=len(self.channel_elasticity),
                expected=str(len(self.channel_shares)),
            )

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
    dearer_penalty: Floats  # omega
    family: Ints  # number of the family; equal ones are priced together
    slot: Ints  # place in the family; 0 is its anchor, or a product alone
    members: Ints  # [n, slot], index of the family's member among all products, or -1
    cross: Floats  # [n, slot], elasticity of the product's demand to that member's price
    listed_from: Ints  # first day on sale
    listed_until: Ints  # first day no longer on sale
    predecessor: Ints  # index of the product that it replaces, or -1

    def take(self, index: NDArray[np.generic]) -> "Products":
        """The products of an index or mask; ``members`` still counts among all of them."""
        return Products._make(column[index] for column in self)


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


def draw_products(settings: WorldSettings, draws: Draws) -> Products:
    """Draw the truth of ``settings.products`` products."""
    rng = draws.rng("products")
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
    heirs = _heirs(category, unseen, settings, draws) if settings.successor_share else []
    predecessor = np.full(n, -1)
    predecessor[heirs] = np.array(heirs, np.int64) - 1
    family = _families(category, predecessor, settings.family_size)
    slot = slots(family)
    members, cross_family = draw_cross(family, slot, predecessor, settings, draws)
    listed_from = np.where(category == kinds - 1, settings.late_category_day, 0)
    products = Products(
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
        dearer_penalty=np.full(n, settings.dearer_penalty),
        family=family,
        slot=slot,
        members=members,
        cross=cross_family,
        listed_from=listed_from,
        listed_until=np.full(n, NEVER),
        predecessor=predecessor,
    )
    return _succeed(products, settings, draws) if len(heirs) else products


def slots(family: Ints) -> Ints:
    """Place of each product in its family [n], in order; 0 is the first."""
    order = np.argsort(family, kind="stable")
    start = np.searchsorted(family[order], family[order])
    slot = np.empty(len(family), np.int64)
    slot[order] = np.arange(len(family)) - start
    return slot


def draw_cross(
    family: Ints, slot: Ints, predecessor: Ints, settings: WorldSettings, draws: Draws
) -> tuple[Ints, Floats]:
    """Draw each family's members [n, slot] and cross elasticities [n, slot]; -1 is no member.

    An addition sells less where its anchor (slot 0) is dearer. A pair of additions are
    substitutes, complements or neither, with a third of a chance each, and the same both ways.
    A successor has its predecessor's effects, and is a substitute for it.
    """
    width = int(slot.max()) + 1
    n = len(family)
    if width == 1:
        return np.empty((n, 0), np.int64), np.empty((n, 0))
    number = np.unique(family, return_inverse=True)[1]
    table = np.full((int(number.max()) + 1, width), -1)
    table[number, slot] = np.arange(n)
    rng = draws.rng("cross")
    size = rng.uniform(0.5, 1.5, (len(table), width, width))
    kind = rng.integers(3, size=(len(table), width, width))
    effect = np.array([settings.substitute_effect, -settings.complement_effect, 0.0])[kind]
    pairs = np.where(np.triu(np.ones((width, width), np.bool_), 1), effect * size, 0.0)
    pairs = pairs + pairs.transpose(0, 2, 1)
    pairs[:, 0, :] = 0.0
    pairs[:, 1:, 0] = -settings.anchor_effect * size[:, 1:, 0]
    for heir in np.flatnonzero(predecessor >= 0).tolist():
        own, new, old = pairs[number[heir]], slot[heir], slot[predecessor[heir]]
        own[new], own[:, new] = own[old].copy(), own[:, old].copy()
        own[new, new] = 0.0
        own[new, old] = own[old, new] = settings.substitute_effect
    members = table[number]
    return members, np.where(members >= 0, pairs[number, slot], 0.0)


def _families(category: Ints, predecessor: Ints, size: int) -> Ints:
    """Number of each product's family: neighbours of one category, heirs with their predecessor."""
    place = np.arange(len(category)) - np.searchsorted(category, category)  # in its category
    family = np.arange(len(category)) - place % size
    heir = predecessor >= 0
    family[heir] = family[predecessor[heir]]
    return family


def _heirs(category: Ints, unseen: Bools, settings: WorldSettings, draws: Draws) -> list[int]:
    """Every other product may replace the one before it, of its own category."""
    n = len(category)
    drawn = draws.rng("heirs").random(n) < 2.0 * settings.successor_share
    same = np.concatenate([[False], category[1:] == category[:-1]])
    heirs: list[int] = np.flatnonzero(drawn & same & ~unseen & (np.arange(n) % 2 == 1)).tolist()
    return heirs


def _succeed(products: Products, settings: WorldSettings, draws: Draws) -> Products:
    """Make successors like their predecessors, and on sale after them."""
    heir = np.flatnonzero(products.predecessor >= 0)
    old = products.predecessor[heir]
    rng = draws.rng("successors")
    day = rng.integers(*settings.successor_days, len(heir))
    columns = {name: column.copy() for name, column in products._asdict().items()}
    for name in ("attributes", "unit_cost", "return_logit", "return_slope", "elasticity_expected"):
        columns[name][heir] = columns[name][old]
    near = products.elasticity[old] + rng.normal(0.0, settings.successor_sd, len(heir))
    limits = settings.elasticity_min, settings.elasticity_max
    columns["elasticity"][heir] = np.clip(near, *limits)
    columns["level"][heir] = products.level[old] + rng.normal(0.0, settings.successor_sd, len(heir))
    columns["listed_from"][heir] = columns["listed_until"][old] = day
    return Products(**columns)
