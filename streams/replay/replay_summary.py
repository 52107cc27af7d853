"""What a replay comes to: what each partition ends with, and the totals over them."""

import resource
import sys
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import asdict

from models.fold.engine import PartitionEngine
from models.pricing.exploration import MILLI
from schemas.state import Counts
from streams.tape.tape_hash import combined_sha256

PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class PartitionResult(Struct, kw_only=True):
    """One partition at the end of a replay; it can go from process to process."""

    partition: int
    position: int
    counts: Counts
    products: int
    products_priced: int
    exploration_cost_milli: dict[str, int]
    decisions_sha256: str
    state_sha256: str
    engine: str


class ReplaySummary(Struct, kw_only=True):
    """What a replay read and decided. ``records`` are tape records, ticks included.

    ``seconds`` are those of the fold; ``start_seconds`` those before it: processes and kernels.
    ``peak_memory_mib`` is the sum over the processes, ``cpu_seconds_max`` that of the busiest.
    """

    records: int
    applied: int
    duplicates: int
    dead_letters: int
    ticks: int
    products: int
    products_priced: int
    decisions: int
    published: int
    held: int
    reverted: int
    breaker_trips: int
    drifts: int
    probes: int
    exploration_cost_minor: dict[str, int]
    seconds: float
    records_per_second: float
    peak_memory_mib: float
    decisions_sha256: str
    state_sha256: str
    engine: str
    positions: dict[str, int]
    processes: int = 1
    start_seconds: float = 0.0
    cpu_seconds_max: float | None = None


def partition_result(engine: PartitionEngine) -> PartitionResult:
    """What an engine stands at."""
    state = engine.state
    return PartitionResult(
        partition=engine.partition,
        position=engine.position,
        counts=state.manifest.counts,
        products=len(state.skus),
        products_priced=sum(one.published_minor is not None for one in state.skus.values()),
        exploration_cost_milli={
            currency: ledger.spent_milli for currency, ledger in state.manifest.exploration.items()
        },
        decisions_sha256=state.manifest.decisions_sha256,
        state_sha256=state.sha256(),
        engine=engine.kernel.fingerprint,
    )


def summarise(
    results: Iterable[PartitionResult],
    records: int,
    seconds: float,
    *,
    peak_mib: float,
    processes: int = 1,
    start_seconds: float = 0.0,
    cpu_seconds_max: float | None = None,
) -> ReplaySummary:
    """Totals over the partitions, and the hashes."""
    found = sorted(results, key=lambda one: one.partition)
    counts = [asdict(one.counts) for one in found]
    spent: dict[str, int] = {}
    for one in found:
        for currency, milli in one.exploration_cost_milli.items():
            spent[currency] = spent.get(currency, 0) + milli
    return ReplaySummary(
        records=records,
        **{name: sum(one[name] for one in counts) for name in Counts.__struct_fields__},
        exploration_cost_minor={name: round(spent[name] / MILLI) for name in sorted(spent)},
        products=sum(one.products for one in found),
        products_priced=sum(one.products_priced for one in found),
        seconds=round(seconds, 3),
        records_per_second=round(records / seconds, 1),
        peak_memory_mib=round(peak_mib, 1),
        decisions_sha256=combined_sha256(
            (one.decisions_sha256 for one in found), (one.partition for one in found)
        ),
        state_sha256=combined_sha256(
            (one.state_sha256 for one in found), (one.partition for one in found)
        ),
        engine=found[0].engine,
        positions={str(one.partition): one.position for one in found},
        processes=processes,
        start_seconds=round(start_seconds, 3),
        cpu_seconds_max=None if cpu_seconds_max is None else round(cpu_seconds_max, 3),
    )


def peak_memory_mib() -> float:
    """This process's highest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT_BYTES / 2**20
