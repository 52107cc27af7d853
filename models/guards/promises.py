"""What a decision tells people of announced reductions that do not hold."""

from models.fold.context import Placed, alert
from models.fold.partition import PartitionState
from models.guards import promotions
from models.pricing.pose import Posed


def broken(partition: PartitionState, posed: Posed, price_minor: int | None) -> list[Placed]:
    """Tell, once a promotion, where the price after a decision breaks what is announced."""
    state, request = posed.state, posed.request
    found = promotions.broken_promise(partition, state, posed.asked, price_minor, request.now_ms)
    if found is None:
        return []
    place = (partition, request.offset, request.now_ms)
    return [alert(*place, promotions.ANNOUNCED, state.sku, *found)]
