"""What a simulated shop is made of: its settings, and its products as they truly are.

A shop is drawn in one of two ways: a small mixed catalogue (``shop``), or the products of the
reference world (``reference``), the very ones that :class:`models.simulator.world.World` steps at
the same seed. Either way demand is that of :mod:`models.simulator.world_demand`.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Any, Literal, NamedTuple

import numpy as np

from models.simulator.world_truth import (
    NEVER,
    Draws,
    Floats,
    Ints,
    Products,
    WorldSettings,
    draw_cross,
    draw_products,
    slots,
)
from schemas.errors import ConfigError

RIVALS_MAX = 3
FAMILY_SIZE = 3
CATEGORIES = (
    "lamps", "shoes", "jackets", "headphones", "backpacks", "cookware", "rugs", "toys",
    "watches", "garden-tools", "bedding", "keyboards",
)  # fmt: skip
PRODUCTS_PER_CATEGORY = 25
RETIRED_AFTER_DAYS = 7
WORLD = WorldSettings(
    elasticity_category_sd=0.4,
    elasticity_product_sd=0.3,
    elasticity_max=-1.3,
    shock_memory=0.9,
    anchor_effect=0.3,
    substitute_effect=0.3,
    complement_effect=0.2,
    visits_shock_share=0.5,
    overdispersion=0.15,
    new_customer_share=0.4,
    new_customer_logit=0.3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopSettings:
    """How a shop is drawn. Shares are of products or of events; rates are per product and day.

    ``world`` has its demand and all effects on it; the number of products and the first day are
    taken from here.
    """

    preset: Literal["shop", "reference"] = "shop"
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
    rival_noise_sd: float = 0.03
    promotion_rate: float = 0.0  # announced reductions by the shop's habit
    basket_share: float = 0.5  # additions bought in one order with their anchor, where both are
    channels: tuple[str, ...] = ("web", "app", "marketplace")
    channel_shares: tuple[float, ...] = (0.6, 0.3, 0.1)
    world: WorldSettings = field(default=WORLD)

    def __post_init__(self) -> None:
        _require("products", self.products, self.products >= 1, "at least 1")
        divides = self.step_hours >= 1 and 24 % self.step_hours == 0
        _require("step_hours", self.step_hours, divides, "a divisor of 24")
        whole = self.traffic_hours % self.step_hours == 0 and self.traffic_hours >= 1
        _require("traffic_hours", self.traffic_hours, whole, "whole steps")
        expected = "midnight UTC such as 2025-01-06T00:00:00.000Z"
        _require("start", self.start, _is_midnight(self.start), expected)
        _require("bad_share", self.bad_share, 0 <= self.bad_share <= 0.5, "0 to 0.5")
        named = len(self.channels) == len(self.channel_shares)
        _require("channels", len(self.channels), named, "as many as channel_shares")
        offsets = len(self.world.channel_elasticity)
        fits = offsets == 0 or self.world.channel_shares == self.channel_shares
        _require("world.channel_shares", self.world.channel_shares, fits, "channel_shares")

    @property
    def kept_share(self) -> float:
        """What the shop keeps of a shown price: a = (1 - fee) / (1 + VAT)."""
        return (1 - self.fee_rate) / (1 + self.vat_rate)


class Truth(NamedTuple):
    """A shop's products beside their demand: arrays or tuples over all products [n].

    Money in minor units. ``roles`` and ``anchors`` as in the listing. Late products come last.
    """

    products: Products
    skus: tuple[str, ...]
    categories: tuple[str, ...]
    families: tuple[str | None, ...]
    roles: tuple[str, ...]
    anchors: tuple[int, ...]  # index of the anchor, or -1
    attribute_names: tuple[str, ...]
    list_price_minor: Ints
    first_cost_minor: Ints
    return_cost_minor: Ints
    cost_known_day: Ints
    conversion: Floats  # orders per visit at the list price
    units_per_order: Floats
    rivals: Ints
    rival_base: Floats  # [n, RIVALS_MAX], ln(rival / list) of a rival left alone
    rival_follow: Floats  # [n, RIVALS_MAX], share of our ln price move that it follows
    lead_days: Floats
    cover_days: Floats

    @property
    def demand_rate_per_day(self) -> Floats:
        """Orders per day [n] at the list price, on an average day."""
        return np.asarray(np.exp(self.products.level))

    def attributes(self, i: int) -> dict[str, float]:
        """Attributes of product ``i`` as in its listing."""
        values = self.products.attributes[i].tolist()
        return dict(zip(self.attribute_names, values, strict=True))


def world_settings(settings: ShopSettings) -> WorldSettings:
    """The world of a shop: its demand settings, with the shop's size and first day."""
    return replace(settings.world, products=_count(settings), start_date=settings.start[:10])


def draw_truth(settings: ShopSettings, draws: Draws) -> Truth:
    """Draw the products of a shop."""
    return (_draw_reference if settings.preset == "reference" else _draw_shop)(settings, draws)


def _count(settings: ShopSettings) -> int:
    late = 0 if settings.preset == "reference" else settings.late_share * settings.products
    return settings.products + int(np.ceil(late))


def _draw_reference(settings: ShopSettings, draws: Draws) -> Truth:
    """The reference world's products as a shop: one rival each, known costs."""
    products = draw_products(world_settings(settings), draws)
    rng, n = draws.rng("shop"), settings.products
    skus = tuple(f"REF-{i:05d}" for i in range(n))
    families = tuple(
        skus[number] if size > 1 else None
        for number, size in zip(
            products.family.tolist(), np.bincount(products.family)[products.family].tolist(),
            strict=True,
        )
    )  # fmt: skip
    kept, price = settings.kept_share, products.reference_price_minor
    rival_base = np.zeros((n, RIVALS_MAX))
    rival_base[:, 0] = products.rival_base
    cost_minor = np.maximum(
        1, np.rint(products.unit_cost / settings.world.kept_share * kept * price)
    )
    return Truth(
        products=products,
        skus=skus,
        categories=tuple(f"category-{kind:02d}" for kind in products.category.tolist()),
        families=families,
        attribute_names=tuple(f"a{k}" for k in range(products.attributes.shape[1])),
        list_price_minor=price,
        first_cost_minor=cost_minor.astype(np.int64),
        return_cost_minor=np.rint(products.return_cost * price).astype(np.int64),
        cost_known_day=np.zeros(n, np.int64),
        conversion=np.full(n, 0.04),
        units_per_order=np.ones(n),
        rivals=np.ones(n, np.int64),
        rival_base=rival_base,
        rival_follow=np.full((n, RIVALS_MAX), settings.world.rival_follow),
        lead_days=rng.uniform(3, 14, n),
        cover_days=rng.uniform(10, 40, n),
        **_roles(products),
    )


def _draw_shop(settings: ShopSettings, draws: Draws) -> Truth:
    rng, world = draws.rng("shop"), world_settings(settings)
    first, n = settings.products, _count(settings)
    late = n - first
    kinds = min(len(CATEGORIES), max(2, first // PRODUCTS_PER_CATEGORY))
    category = rng.integers(kinds, size=n)
    predecessor = np.full(n, -1, np.int64)
    heirs = np.arange(first, n)[rng.random(late) < 0.5]
    predecessor[heirs] = rng.permutation(first)[: len(heirs)]
    category[heirs] = category[predecessor[heirs]]
    skus = tuple(f"{CATEGORIES[kind][:3].upper()}-{i:05d}" for i, kind in enumerate(category))
    families, family = _families(settings, rng, category, predecessor, skus)
    listed_from = np.concatenate([np.zeros(first, np.int64), np.sort(rng.integers(1, 91, late))])
    listed_from = listed_from + np.where(category == kinds - 1, world.late_category_day, 0)
    quality, weight_kg = rng.uniform(0, 1, n), np.asarray(np.exp(rng.normal(0, 0.7, n)))
    by_category = rng.normal(-2.5, world.elasticity_category_sd, kinds)
    expected = by_category[category] + 0.6 * (quality - 0.5)
    elasticity = expected + rng.normal(0, world.elasticity_product_sd, n)
    elasticity = np.clip(elasticity, world.elasticity_min, world.elasticity_max)
    price_level = rng.uniform(np.log(1200), np.log(12000), kinds)[category]
    list_price_minor, cost_minor = _money(settings, rng, price_level, quality, elasticity)
    return_cost_minor = np.rint(150 + 120 * weight_kg).astype(np.int64)
    members, cross = draw_cross(family, slots(family), predecessor, world, draws)
    products = Products(
        category=category,
        attributes=np.stack([np.round(quality, 4), np.round(weight_kg, 3)], axis=1),
        level=rng.uniform(np.log(0.2), np.log(20), n),
        elasticity=elasticity,
        cross_price_elasticity=rng.uniform(0.2, 0.8, n),
        unit_cost=cost_minor / list_price_minor,
        return_cost=return_cost_minor / list_price_minor,
        return_logit=rng.normal(-2.4, 0.7, kinds)[category] + rng.normal(0, 0.2, n),
        return_slope=rng.uniform(0.2, 1.6, n),
        rival_base=np.full(n, np.nan),
        habit_markup=settings.kept_share * list_price_minor / cost_minor,
        reference_price_minor=list_price_minor,
        unseen=np.zeros(n, np.bool_),
        elasticity_expected=expected,
        dearer_penalty=rng.uniform(0, 1.5, n),
        family=family,
        slot=slots(family),
        members=members,
        cross=cross,
        listed_from=listed_from,
        listed_until=_retired_days(predecessor, listed_from),
        predecessor=predecessor,
    )
    rivals = rng.integers(0, RIVALS_MAX + 1, n)
    rival_base = rng.normal(-0.01, 0.06, (n, RIVALS_MAX))
    alone = np.where(np.arange(RIVALS_MAX) < rivals[:, None], rival_base, 0.0).sum(axis=1)
    mean_base = np.where(rivals > 0, alone / np.maximum(rivals, 1), np.nan)
    return Truth(
        products=products._replace(rival_base=mean_base),
        skus=skus,
        categories=tuple(CATEGORIES[kind] for kind in category),
        families=families,
        attribute_names=("quality", "weight_kg"),
        list_price_minor=list_price_minor,
        first_cost_minor=cost_minor,
        return_cost_minor=return_cost_minor,
        cost_known_day=_cost_known_days(settings, rng, n),
        conversion=rng.uniform(0.02, 0.06, n),
        units_per_order=1 / rng.uniform(0.7, 0.97, n),
        rivals=rivals,
        rival_base=rival_base,
        rival_follow=rng.uniform(0.0, 0.7, (n, RIVALS_MAX)),
        lead_days=rng.uniform(3, 14, n),
        cover_days=rng.uniform(10, 40, n),
        **_roles(products),
    )


def _retired_days(predecessor: Ints, listed_from: Ints) -> Ints:
    """A replaced product stays for a week after its successor came."""
    until = np.full(len(predecessor), NEVER)
    heir = np.flatnonzero(predecessor >= 0)
    until[predecessor[heir]] = listed_from[heir] + RETIRED_AFTER_DAYS
    return until


def _roles(products: Products) -> Any:
    """Roles and anchors as a listing names them: the first of a family leads the additions."""
    n = len(products.family)
    additions = (products.slot > 0) & (products.predecessor < 0)
    leads = np.zeros(n, np.bool_)
    leads[np.flatnonzero(np.isin(products.family, products.family[additions]))] = True
    leads &= products.slot == 0
    first = np.full(n, -1)
    for i in np.flatnonzero(leads).tolist():
        first[products.family == products.family[i]] = i
    roles, anchors = ["plain"] * n, [-1] * n
    for i in range(n):
        old = int(products.predecessor[i])
        is_lead, is_addition = (leads[i], additions[i]) if old < 0 else (leads[old], additions[old])
        if is_lead:
            roles[i] = "anchor"
        elif is_addition:
            roles[i], anchors[i] = "addition", int(first[i])
    return {"roles": tuple(roles), "anchors": tuple(anchors)}


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
    price_level: Floats,
    quality: Floats,
    elasticity: Floats,
) -> tuple[Ints, Ints]:
    """List prices from 5 to 300 that end in 99, and costs.

    A list price lies around the best one, some 20 % off: there is something to gain.
    """
    n = len(price_level)
    price = np.clip(np.exp(price_level + 0.6 * (quality - 0.5) + rng.normal(0, 0.4, n)), 500, 30000)
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
