"""What a simulated shop is made of: its products as they truly are, and their true demand.

Demand of product i at shown price P, orders per day, on an average day:

    rate_i exp(eps_i x + eta_i y + cross_i z - omega_i g(x - y)),   x = ln(P / list_i)

y is the mean ln(rival / list_i) of rivals that list it in stock (no rival: both terms vanish), z
the mean x of the other members of its family, and g(r) = 0.03 softplus((r - 0.03) / 0.03) the
extra loss when dearer than the rivals. A unit sold comes back with probability
logit R = r0 + r1 x, plus an offset for new customers. Price elasticity is eps_i - omega_i g'.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RIVALS_MAX = 3
RIVAL_WIDTH = 0.03  # of the kink g and its offset, in ln price
FAMILY_SIZE = 3
CROSS_ELASTICITY = 0.3
NEW_CUSTOMER_SHARE = 0.4
NEW_CUSTOMER_LOGIT = 0.3
CATEGORIES = (
    "lamps", "shoes", "jackets", "headphones", "backpacks", "cookware", "rugs", "toys",
    "watches", "garden-tools", "bedding", "keyboards",
)  # fmt: skip
PRODUCTS_PER_CATEGORY = 25
NEVER = 1 << 30  # a day
BEST_PRICE_GRID = np.exp(np.linspace(-0.9, 0.9, 361))  # over list price: steps of 0.5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSettings:
    """How a shop is drawn. Shares are of products or of events; rates are per product and day."""

    products: int = 100
    late_share: float = 0.05  # products on top, listed on some day of the first 90
    start: str = "2025-01-06T00:00:00.000Z"
    step_hours: int = 1
    traffic_hours: int = 6
    family_share: float = 0.12
    unknown_cost_share: float = 0.03
    cost_change_rate: float = 1 / 60
    rival_move_rate: float = 1 / 4
    cancelled_share: float = 0.015
    duplicate_share: float = 0.002
    bad_share: float = 0.0
    vat_rate: float = 0.19
    fee_rate: float = 0.02
    return_delay_days: float = 9.0

    def __post_init__(self) -> None:
        _require("products", self.products, self.products >= 1, "at least 1")
        divides = self.step_hours >= 1 and 24 % self.step_hours == 0
        _require("step_hours", self.step_hours, divides, "a divisor of 24")
        whole = self.traffic_hours % self.step_hours == 0 and self.traffic_hours >= 1
        _require("traffic_hours", self.traffic_hours, whole, "whole steps")
        expected = "midnight UTC such as 2025-01-06T00:00:00.000Z"
        _require("start", self.start, _is_midnight(self.start), expected)
        _require("bad_share", self.bad_share, 0 <= self.bad_share <= 0.5, "0 to 0.5")

    @property
    def kept_share(self) -> float:
        """What the shop keeps of a shown price: a = (1 - fee) / (1 + VAT)."""
        return (1 - self.fee_rate) / (1 + self.vat_rate)


@dataclass(frozen=True, slots=True)
class Truth:
    """The products' true parameters, arrays over all products [n], late ones last.

    Money in minor units, rates per day. ``listed_day`` is the day of the first listing;
    ``predecessor`` the index of the product it replaces, or -1; ``family`` an index of equals.
    """

    skus: tuple[str, ...]
    categories: tuple[str, ...]
    families: tuple[str | None, ...]
    family: Ints
    predecessor: Ints
    listed_day: Ints
    quality: Floats
    weight_kg: Floats
    list_price_minor: Ints
    first_cost_minor: Ints
    return_cost_minor: Ints
    cost_known_day: Ints
    demand_rate_per_day: Floats
    conversion: Floats
    units_per_order: Floats
    elasticity: Floats
    cross_price_elasticity: Floats
    family_elasticity: Floats
    dearer_penalty: Floats
    return_logit: Floats
    return_slope: Floats
    rivals: Ints
    rival_base: Floats  # [n, RIVALS_MAX], ln(rival / list) of a rival left alone
    rival_follow: Floats  # [n, RIVALS_MAX], share of our ln price move that it follows
    lead_days: Floats
    cover_days: Floats

    def log_demand(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Ln of demand over ``demand_rate_per_day``; NaN in y is "no rival".

        Parameters
        ----------
        x, y, z : [n] or broadcastable, see the module
        """
        rival = ~np.isnan(y)
        ratio = np.where(rival, y, 0.0)
        kink = RIVAL_WIDTH * np.logaddexp(0.0, (x - ratio - RIVAL_WIDTH) / RIVAL_WIDTH)
        against = np.where(
            rival, self.cross_price_elasticity * ratio - self.dearer_penalty * kink, 0.0
        )
        return self.elasticity * x + against + self.family_elasticity * z

    def return_rate(self, x: Floats, new_customer: bool) -> Floats:
        """Probability [n] that a unit sold at ln price x over list comes back."""
        logit = self.return_logit + self.return_slope * x + NEW_CUSTOMER_LOGIT * new_customer
        return np.asarray(1 / (1 + np.exp(-logit)))

    def profit_per_day_minor(
        self, x: Floats, y: Floats, z: Floats, cost_minor: Floats, kept_share: float
    ) -> Floats:
        """Expected contribution margin [n] per day with enough stock, minor units."""
        price_minor = self.list_price_minor * np.exp(x)
        returned = (1 - NEW_CUSTOMER_SHARE) * self.return_rate(x, False)
        returned += NEW_CUSTOMER_SHARE * self.return_rate(x, True)
        units = self.demand_rate_per_day * self.units_per_order * np.exp(self.log_demand(x, y, z))
        margin = kept_share * price_minor - cost_minor
        return np.asarray(units * (margin * (1 - returned) - self.return_cost_minor * returned))

    def best_prices_minor(
        self, y: Floats, z: Floats, cost_minor: Floats, kept_share: float
    ) -> Ints:
        """The most profitable price [n] on a grid of 0.5 % steps, all else as it is."""
        profits = np.stack(
            [
                self.profit_per_day_minor(np.full(len(self.skus), x), y, z, cost_minor, kept_share)
                for x in np.log(BEST_PRICE_GRID)
            ]
        )
        best = BEST_PRICE_GRID[np.argmax(profits, axis=0)]
        return np.asarray(np.rint(self.list_price_minor * best), dtype=np.int64)

    def as_dict(self) -> dict[str, Any]:
        """All parameters as plain lists, one entry a product."""
        plain = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            plain[name] = value.tolist() if isinstance(value, np.ndarray) else list(value)
        return plain


def draw_truth(settings: ShopSettings, rng: np.random.Generator) -> Truth:
    """Draw the products of a shop."""
    first = settings.products
    late = int(np.ceil(settings.late_share * first))
    n = first + late
    kinds = min(len(CATEGORIES), max(2, first // PRODUCTS_PER_CATEGORY))
    category = rng.integers(kinds, size=n)
    predecessor = np.full(n, -1, np.int64)
    heirs = np.arange(first, n)[rng.random(late) < 0.5]
    predecessor[heirs] = rng.permutation(first)[: len(heirs)]
    category[heirs] = category[predecessor[heirs]]
    skus = tuple(f"{CATEGORIES[kind][:3].upper()}-{i:05d}" for i, kind in enumerate(category))
    families, family = _families(settings, rng, category, predecessor, skus)
    quality, weight_kg = rng.uniform(0, 1, n), np.asarray(np.exp(rng.normal(0, 0.7, n)))
    elasticity = rng.normal(-2.5, 0.4, kinds)[category] + 0.6 * (quality - 0.5)
    elasticity = np.clip(elasticity + rng.normal(0, 0.3, n), -5.0, -1.3)
    level = rng.uniform(np.log(1200), np.log(12000), kinds)[category]
    list_price_minor, first_cost_minor = _money(settings, rng, level, quality, elasticity)
    return Truth(
        skus=skus,
        categories=tuple(CATEGORIES[kind] for kind in category),
        families=families,
        family=family,
        predecessor=predecessor,
        listed_day=np.concatenate([np.zeros(first, np.int64), np.sort(rng.integers(1, 91, late))]),
        quality=np.round(quality, 4),
        weight_kg=np.asarray(np.round(weight_kg, 3)),
        list_price_minor=list_price_minor,
        first_cost_minor=first_cost_minor,
        return_cost_minor=np.rint(150 + 120 * weight_kg).astype(np.int64),
        cost_known_day=_cost_known_days(settings, rng, n),
        demand_rate_per_day=np.exp(rng.uniform(np.log(0.2), np.log(20), n)),
        conversion=rng.uniform(0.02, 0.06, n),
        units_per_order=1 / rng.uniform(0.7, 0.97, n),
        elasticity=elasticity,
        cross_price_elasticity=rng.uniform(0.2, 0.8, n),
        family_elasticity=np.where(np.bincount(family)[family] > 1, CROSS_ELASTICITY, 0.0),
        dearer_penalty=rng.uniform(0, 1.5, n),
        return_logit=rng.normal(-2.4, 0.7, kinds)[category] + rng.normal(0, 0.2, n),
        return_slope=rng.uniform(0.2, 1.6, n),
        rivals=rng.integers(0, RIVALS_MAX + 1, n),
        rival_base=rng.normal(-0.01, 0.06, (n, RIVALS_MAX)),
        rival_follow=rng.uniform(0.0, 0.7, (n, RIVALS_MAX)),
        lead_days=rng.uniform(3, 14, n),
        cover_days=rng.uniform(10, 40, n),
    )


def _is_midnight(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return moment.tzinfo is not None and moment.astimezone(UTC).time() == time(0)


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(
            "wrong_setting",
            f"{name} was {value}; expected {expected}.",
            field=name,
            value=value,
            expected=expected,
        )


def _money(
    settings: ShopSettings,
    rng: np.random.Generator,
    level: Floats,
    quality: Floats,
    elasticity: Floats,
) -> tuple[Ints, Ints]:
    """List prices from 5 to 300 that end in 99, and costs.

    A list price lies around the best one, some 20 % off: there is something to gain.
    """
    n = len(level)
    price = np.clip(np.exp(level + 0.6 * (quality - 0.5) + rng.normal(0, 0.4, n)), 500, 30000)
    list_price_minor = (np.rint(price / 100) * 100 - 1).astype(np.int64)
    kept = settings.kept_share * list_price_minor
    cost = kept * (1 + 1 / elasticity) * np.exp(rng.normal(0, 0.2, n))
    return list_price_minor, np.rint(np.clip(cost, 0.2 * kept, 0.8 * kept)).astype(np.int64)


def _cost_known_days(settings: ShopSettings, rng: np.random.Generator, n: int) -> Ints:
    """Day from which each product's cost is told: 0, some day later, or ``NEVER``."""
    days = np.where(rng.random(n) < settings.unknown_cost_share, NEVER, 0)
    told_later = (days > 0) & (rng.random(n) < 0.5)
    days[told_later] = rng.integers(5, 21, n)[told_later]
    return days


def _families(
    settings: ShopSettings,
    rng: np.random.Generator,
    category: Ints,
    predecessor: Ints,
    skus: tuple[str, ...],
) -> tuple[tuple[str | None, ...], Ints]:
    """Names and numbers: most products stand alone, some share a family, heirs join theirs."""
    names: list[str | None] = [None] * len(skus)
    family = np.arange(len(skus))
    chosen = np.flatnonzero(rng.random(settings.products) < settings.family_share)
    chosen = chosen[np.argsort(category[chosen], kind="stable")]
    for start in range(0, len(chosen), FAMILY_SIZE):
        members = [
            i for i in chosen[start : start + FAMILY_SIZE] if category[i] == category[chosen[start]]
        ]
        if len(members) > 1:
            for member in members:
                names[member] = f"family-{members[0]:05d}"
                family[member] = members[0]
    for heir in np.flatnonzero(predecessor >= 0):
        old = predecessor[heir]
        names[heir] = names[old] or skus[old]  # a product alone is its own family
        family[heir] = family[old]
    return tuple(names), family
