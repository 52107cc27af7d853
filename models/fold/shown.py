"""History's prices in another policy's fold: what buyers saw is held as it was.

A fold that only asks what would have been published must learn from the prices that were shown.
Where the shop reported them they are on the tape; where it did not, the published prices were
shown, and the fold that published them tells where on the tape (`models.fold.watch.Shown`).
"""

from models.fold.context import Placed, alert
from models.fold.market import begin_epoch, close_epoch
from models.fold.partition import PartitionState
from models.fold.watch import Shown
from models.guards import gate, promotions
from models.returns.toxicity import last_move


def show(partition: PartitionState, shown: Shown) -> list[Placed]:
    """Let buyers see a price that history published: the epoch before it ends, its own begins.

    No decision is asked for, and the control is 0: history's own price was a function of what the
    belief had learned. Returns what was found when the epoch closed, as alerts.
    """
    state, entry = partition.skus.get(shown.sku), partition.catalogue.get(shown.sku)
    if state is None or entry is None or state.applied_minor is not None:
        return []
    partition.shown[shown.sku] = shown.price_minor
    gate.applied(partition.gates[shown.sku], shown.price_minor, shown.now_ms)
    promotions.shown(partition, state, entry, shown.price_minor, shown.now_ms)
    state.price_move = last_move(state.price_move, shown.price_minor, shown.now_ms)
    state.exogenous_log = None
    closed = close_epoch(partition, state, shown.now_ms)
    begin_epoch(partition, state, entry, shown.now_ms)
    partition.touch(f"gate/{shown.sku}")
    partition.touch(f"sku/{shown.sku}")
    return [
        alert(
            partition, shown.offset, shown.now_ms, found.kind, shown.sku, found.message,
            found.evidence,
        )
        for found in (closed.findings if closed else ())
    ]  # fmt: skip
