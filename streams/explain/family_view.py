"""A family's joint prices, from the last decisions of its products."""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from schemas.errors import InputError
from schemas.outputs import PriceDecided


def products_beside(decisions: Iterable[PriceDecided], sku: str) -> list[str]:
    """A product and all that their last decisions name as partners of each other, by SKU.

    Raises
    ------
    InputError : no decision of the product was reckoned with partners
    """
    partners: dict[str, set[str]] = {}
    for one in decisions:
        if one.record.family is not None:
            for partner in one.record.family.partners:
                partners.setdefault(one.sku, set()).add(partner.sku)
                partners.setdefault(partner.sku, set()).add(one.sku)
    if sku not in partners:
        raise InputError(
            "no_joint_decision", f"no last decision reckons {sku!r} together with partners.",
            field="name", value=sku,
            fix="Name a product with partners; without --from a family's name does as well.",
        )  # fmt: skip
    found, new = {sku}, [sku]
    while new:
        new = sorted(partners[new.pop()] - found) + new
        found.update(new)
    return sorted(found)


def joint_view(
    decisions: Iterable[PriceDecided], skus: Collection[str]
) -> dict[str, dict[str, Any]]:
    """What each product's last decision says of the family, by SKU; none where it says nothing.

    Each is as of its own ``decided_at``, since a round decides only the products that move.
    """
    return {
        one.sku: {
            "price_id": one.price_id,
            "decided_at": one.decided_at,
            "status": one.status,
            "currency": one.currency,
            "price_minor": one.price_minor,
            **msgspec.to_builtins(one.record.family),
        }
        for one in decisions
        if one.sku in skus and one.record.family is not None
    }


def newest(joint: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The newest of the views, the last by SKU of one time; None: there is none."""
    order = sorted(joint, key=lambda sku: (joint[sku]["decided_at"], sku))
    return joint[order[-1]] if order else None
