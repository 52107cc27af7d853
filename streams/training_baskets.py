"""What ``pricemaker train baskets`` does: read orders and listings off a tape, and propose."""

from typing import Any

from models.demand.baskets import Baskets, Listed, propose
from schemas import tape
from schemas.errors import InputError
from schemas.events import OrderPlaced, ProductListed, ProductRetired
from schemas.families import FamilyProposal
from streams.tape_sources import Progress, open_source


def propose_from(
    settings: Any, source: str, partitions: int, progress: Progress | None = None
) -> FamilyProposal:
    """Read a tape once, without folding it, and propose families.

    Raises
    ------
    InputError : the tape is not whole, or has no orders
    """
    baskets, catalogue = Baskets(), dict[str, Listed]()
    for placed in open_source(source, settings, partitions, progress).records:
        event = tape.decode(placed.value).event
        if isinstance(event, OrderPlaced):
            baskets.add(event.order_id, event.sku)
        elif isinstance(event, ProductListed):
            catalogue[event.sku] = Listed(event.category, event.family or event.sku)
        elif isinstance(event, ProductRetired):
            catalogue.pop(event.sku, None)
    if not baskets.orders:
        raise InputError("no_orders", "the tape has no orders.", where=source)
    return propose(baskets, catalogue, source)
