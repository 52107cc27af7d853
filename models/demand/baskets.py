"""Which products are bought together: lift with its interval, and the families it proposes.

Of N orders n_i hold product i, n_j hold j and n_ij both. Were they bought independently, n_ij would
be Poisson with mean ``e = n_i n_j / N``; the lift is how many times as many there are. With a
gamma prior of mean 1 that is worth one expected pair, ``lift ~ Gamma(1 + n_ij, 1 + e)``: its
interval is exact in small counts, and a pair seen once in an unlikely place proves nothing.
A proposal is for a person to approve. docs/science/cross.md.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

from scipy import special

from schemas.codec import canonical
from schemas.errors import InputError
from schemas.families import FamilyProposal, ProposedAddition, ProposedFamily

ORDERS_MAX = 20_000_000
BASKET_PRODUCTS_MAX = 30  # a larger order is a reseller's, and would pair everything with all
TAIL = 0.05  # on either side of the 90 % interval
PRIOR_PAIRS = 1.0
LIFT_LOW_MIN = 1.5  # the interval's lower end from which one product is taken to sell another
ORDERS_TOGETHER_MIN = 10
ANCHORS_PER_CATEGORY = 2
ADDITIONS_MAX = 5


class Lift(NamedTuple):
    """How many times as often two products are in one order as chance would have it."""

    orders_together: int
    expected_together: float
    mean: float
    low: float
    high: float


def lift(together: int, first: int, second: int, orders: int) -> Lift:
    """Lift of a pair, with its central 90 % interval.

    Parameters
    ----------
    together, first, second, orders : orders with both, with each, and all; orders above 0

    >>> found = lift(30, 100, 100, 1000)
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
    (2.82, 2.04, 3.7)
    """
    expected = first * second / orders
    shape, rate = PRIOR_PAIRS + together, PRIOR_PAIRS + expected
    low, high = (float(special.gammaincinv(shape, p)) / rate for p in (TAIL, 1.0 - TAIL))
    return Lift(together, expected, shape / rate, low, high)


class Baskets:
    """Counts orders by product and by pair, order line by order line.

    Memory: the products of every order, by a hash of its id, at most 20 million orders.
    """

    def __init__(self) -> None:
        self._baskets: dict[bytes, set[str]] = {}

    def add(self, order_id: str, sku: str) -> None:
        """Take an order line in; lines of an order may come in any order.

        Raises
        ------
        InputError : more orders than fit
        """
        key = hashlib.blake2b(order_id.encode(), digest_size=8).digest()
        basket = self._baskets.get(key)
        if basket is None:
            if len(self._baskets) >= ORDERS_MAX:
                raise InputError(
                    "too_many_orders",
                    f"there are more than {ORDERS_MAX:,} orders.",
                    fix="Give a shorter stretch of the tape.",
                )
            basket = self._baskets[key] = set()
        basket.add(sku)

    @property
    def orders(self) -> int:
        """Orders taken in."""
        return len(self._baskets)

    def counts(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """Orders with each product, and with each pair of products (names sorted)."""
        single: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for basket in self._baskets.values():
            single.update(basket)
            if 1 < len(basket) <= BASKET_PRODUCTS_MAX:
                pairs.update(combinations(sorted(basket), 2))
        return single, pairs


class Listed(NamedTuple):
    """What a proposal needs of a product's listing."""

    category: str
    family: str


def propose(baskets: Baskets, catalogue: Mapping[str, Listed], source: str) -> FamilyProposal:
    """Propose anchors, additions and families.

    A product is a candidate anchor for those that are in fewer orders than itself, were bought with
    it at least 10 times, and whose lift is above 1.5 with 95 % probability. Candidates are taken
    by the orders they bring beyond chance, at most two of a category; an addition joins one
    family, at most five a family. Products that share a family with others already are left alone.

    Parameters
    ----------
    catalogue : products on sale
    source : what was read, for the record
    """
    single, pairs = baskets.counts()
    shared = Counter(listed.family for listed in catalogue.values())
    free = {sku for sku, listed in catalogue.items() if shared[listed.family] == 1}
    sells: dict[str, list[ProposedAddition]] = {}
    for (first, second), together in sorted(pairs.items()):
        if together < ORDERS_TOGETHER_MIN or first not in free or second not in free:
            continue
        found = lift(together, single[first], single[second], baskets.orders)
        if found.low >= LIFT_LOW_MIN:
            anchor, other = sorted((first, second), key=lambda sku: (-single[sku], sku))
            sells.setdefault(anchor, []).append(_addition(other, single[other], found))
    proposal = FamilyProposal(
        source=source,
        orders=baskets.orders,
        families=tuple(_families(sells, single, catalogue)),
        sha256="",
    )
    return signed(proposal)


def _addition(sku: str, orders: int, found: Lift) -> ProposedAddition:
    return ProposedAddition(
        sku=sku,
        orders=orders,
        orders_together=found.orders_together,
        expected_together=round(found.expected_together, 3),
        lift=round(found.mean, 3),
        lift_low=round(found.low, 3),
        lift_high=round(found.high, 3),
    )


def _brought(addition: ProposedAddition) -> float:
    return addition.orders_together - addition.expected_together


def _families(
    sells: Mapping[str, list[ProposedAddition]],
    single: Mapping[str, int],
    catalogue: Mapping[str, Listed],
) -> Iterable[ProposedFamily]:
    anchors: Counter[str] = Counter()
    taken: set[str] = set()
    ranked = sorted(sells, key=lambda sku: (-sum(_brought(one) for one in sells[sku]), sku))
    for anchor in ranked:
        category = catalogue[anchor].category
        if anchor in taken or anchors[category] == ANCHORS_PER_CATEGORY:
            continue
        left = [one for one in sells[anchor] if one.sku not in taken]
        best = sorted(left, key=lambda one: (-_brought(one), one.sku))[:ADDITIONS_MAX]
        if best:
            anchors[category] += 1
            taken.update([anchor, *(one.sku for one in best)])
            yield ProposedFamily(
                name=f"family-{anchor}",
                category=category,
                anchor=anchor,
                orders=single[anchor],
                additions=tuple(best),
            )


def signed(proposal: FamilyProposal) -> FamilyProposal:
    """The proposal with its content hash: the SHA-256 of its canonical JSON without it."""
    bare = FamilyProposal(
        source=proposal.source, orders=proposal.orders, families=proposal.families, sha256=""
    )
    digest = hashlib.sha256(canonical(bare)).hexdigest()
    return FamilyProposal(
        source=proposal.source, orders=proposal.orders, families=proposal.families, sha256=digest
    )
