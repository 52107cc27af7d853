"""What ``pricemaker train baskets`` does: read orders and listings off a tape, and propose."""

from typing import Any

from models.demand.baskets import Baskets, Listed, propose
from schemas.errors import InputError
from schemas.events import OrderPlaced, ProductListed, ProductRetired
from schemas.families import FamilyProposal
from streams.tape.tape_faults import decoded
from streams.tape.tape_selection import SourceSpec
from streams.tape.tape_sources import Progress, open_source


def propose_from(
    settings: Any, spec: SourceSpec, progress: Progress | None = None
) -> FamilyProposal:
    """Read a tape once, without folding it, and propose families.

    Raises
    ------
    InputError : the tape is not whole, or has no orders
    """
    baskets, catalogue = Baskets(), dict[str, Listed]()
    opened = open_source(spec, settings, progress)
    with opened.faults():
        for placed in opened.records:
            event = decoded(placed).event
            if isinstance(event, OrderPlaced):
                baskets.add(event.order_id, event.sku)
            elif isinstance(event, ProductListed):
                catalogue[event.sku] = Listed(event.category, event.family or event.sku)
            elif isinstance(event, ProductRetired):
                catalogue.pop(event.sku, None)
    if not baskets.orders:
        raise InputError("no_orders", "the tape has no orders.", where=spec.source)
    return propose(baskets, catalogue, spec.source)
