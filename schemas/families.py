"""The document that proposes families of products, for a person to approve."""

from msgspec import Struct

from schemas.events import Identifier, Name


class ProposedAddition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product that an anchor sells: orders with it, with both, by chance; lift and its 90 %."""

    sku: Identifier
    orders: int
    orders_together: int
    expected_together: float
    lift: float
    lift_low: float
    lift_high: float


class ProposedFamily(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An anchor, by its category, and its additions; ``orders`` are those with the anchor."""

    name: Identifier
    category: Name
    anchor: Identifier
    orders: int
    additions: tuple[ProposedAddition, ...]


class FamilyProposal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Families found in baskets. ``sha256`` is of the document's canonical JSON with it empty."""

    version: int = 1
    source: str
    orders: int
    families: tuple[ProposedFamily, ...]
    sha256: str
