"""The publisher gate of discounts: a second look, in other code, from the gate's own entries.

It can only refuse. The list price that a discount stands beside must be the one that was published,
so that a segment can never move what others pay.
"""

from collections.abc import Sequence

from schemas.outputs import DiscountOffered
from schemas.policy import DiscountPolicy
from schemas.scopes import PlacedGuards
from schemas.state import GateEntry

ROUNDING = 1e-9  # relative slack for bounds that are products of floats


def check(
    offer: DiscountOffered,
    entry: GateEntry | None,
    placed: Sequence[PlacedGuards],
    policy: DiscountPolicy,
) -> tuple[str, ...]:
    """Reasons to refuse an offer; empty when it may pass."""
    if entry is None or entry.retired or entry.unit_cost_minor is None:
        return ("gate: no price is in force, or no floor is known",)
    reasons = list(is_sound(offer))
    if offer.currency != entry.currency:
        reasons.append(f"gate: currency {offer.currency} is not the catalogue's {entry.currency}")
    if offer.list_price_minor != entry.published_minor:
        reasons.append("gate: the list price is not the one published")
    if offer.segment not in policy.segments:
        reasons.append("gate: the policy names no such segment")
    if offer.market != policy.market or offer.disclosure != policy.disclosure:
        reasons.append("gate: market or disclosure is not the policy's")
    paid_minor = (offer.list_price_minor or 0) - offer.amount_minor
    if offer.amount_minor > policy.depth_ratio_max * (offer.list_price_minor or 0) * (1 + ROUNDING):
        reasons.append("gate: deeper than the policy allows")
    kept_minor = paid_minor * entry.kept_share * (1.0 + ROUNDING)
    if kept_minor < entry.unit_cost_minor:
        reasons.append("gate: below cost")
    for _, guards in placed:
        if kept_minor * (1.0 - guards.margin_floor_ratio) < entry.unit_cost_minor:
            reasons.append("gate: below the margin floor")
        for market in guards.minimum_resale_price_markets:
            if paid_minor < entry.minimum_resale_price_minor.get(market, 0):
                reasons.append(f"gate: below the minimum resale price of {market}")
    return tuple(reasons)


def is_sound(offer: DiscountOffered) -> tuple[str, ...]:
    """The outbox's last look at a discount about to leave, from its own fields alone."""
    if offer.status == "withdrawn":
        sound = offer.amount_minor == 0 and offer.discounted_minor is None
        return () if sound else ("gate: a withdrawn discount has an amount",)
    evidence = offer.evidence
    if offer.list_price_minor is None or offer.discounted_minor is None or evidence is None:
        return ("gate: a discount lacks its prices or evidence",)
    reasons = []
    if not 0 < offer.amount_minor == offer.list_price_minor - offer.discounted_minor:
        reasons.append("gate: list price less amount is not the discounted price")
    if offer.market is None or offer.disclosure is None:
        reasons.append("gate: no market or no disclosure")
    if offer.discounted_minor * evidence.kept_share * (1.0 + ROUNDING) < evidence.unit_cost_minor:
        reasons.append("gate: below cost")
    return tuple(reasons)
