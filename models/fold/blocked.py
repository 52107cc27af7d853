"""Products that can't be priced: noted once, told when it begins and when it ends."""

from models.fold.context import Placed, Request, alert
from models.fold.partition import PartitionState
from schemas.outputs import AlertKind


def block(partition: PartitionState, request: Request, reason: str) -> list[Placed]:
    """Note why a product can't be priced; told where the reason is new."""
    state = partition.skus[request.sku]
    if state.blocked == reason:
        return []
    state.blocked = reason
    message = f"{request.sku} is not priced: {reason}"
    return _told(partition, request, "product_blocked", message)


def unblock(partition: PartitionState, request: Request) -> list[Placed]:
    """Note that a product can be priced; told where it could not be."""
    state = partition.skus[request.sku]
    if state.blocked is None:
        return []
    state.blocked = None
    return _told(partition, request, "product_unblocked", f"{request.sku} is priced again")


def _told(
    partition: PartitionState, request: Request, kind: AlertKind, message: str
) -> list[Placed]:
    partition.touch(f"sku/{request.sku}")
    evidence = {"trigger": request.trigger}
    return [alert(partition, request.offset, request.now_ms, kind, request.sku, message, evidence)]
