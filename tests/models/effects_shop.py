"""A simulated shop by the day, fed to the fold's own learning: epochs of a day, ticks between."""

from models.demand import effects_book
from models.fold import market
from models.fold.partition import PartitionState
from models.prior.prior import DEFAULT_PRIOR, adapt, prior_sha256
from models.simulator.world import Day, World, WorldSettings
from schemas.events import DAY_MS
from schemas.learned import OpenEpoch
from schemas.state import CatalogueEntry, SkuState

REFERENCE_MINOR = 1000


def open_shop(world: World) -> PartitionState:
    """A partition with the world's products listed, none of them known beyond the prior."""
    partition = PartitionState(0, "benchmark")
    sha256 = prior_sha256(DEFAULT_PRIOR)
    for number, kind in enumerate(world.products.category.tolist()):
        sku, category = f"p{number:05d}", f"c{kind:02d}"
        posterior, _ = adapt(DEFAULT_PRIOR, category, {}, 0, prior_hash=sha256)
        partition.skus[sku] = SkuState(
            sku=sku, reference_price_minor=REFERENCE_MINOR, posterior=posterior
        )
        partition.catalogue[sku] = CatalogueEntry(
            sku=sku,
            family=sku,
            category=category,
            currency="EUR",
            attributes={},
            unit_cost_minor=REFERENCE_MINOR // 2,
            return_handling_cost_minor=None,
            list_price_minor=REFERENCE_MINOR,
            minimum_resale_price_minor={},
            kept_share=1.0,
            exit_ms=None,
            predecessor=None,
            retired=False,
            changed_ms=0,
        )
    return partition


def learn_day(partition: PartitionState, day: Day) -> None:
    """One day of all products: the day's tick, then an epoch of that day for each."""
    effects_book.new_day(partition, day.day)
    partition.manifest.returns_day = day.day
    start_ms = day.day * DAY_MS
    columns = (day.ln_price, day.exogenous_log, day.ln_rival, day.orders)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for sku, (ln_price, exogenous, ln_rival, orders) in zip(partition.skus, rows, strict=True):
        state = partition.skus[sku]
        state.epoch = OpenEpoch(
            start_ms=start_ms,
            accrued_ms=start_ms,
            price_minor=REFERENCE_MINOR,
            ln_price=ln_price,
            ln_rival=ln_rival,
            control=ln_price - exogenous,
            in_stock=None,
            orders=orders,
        )
        effects_book.opened(partition, state, start_ms)
        if state.epoch.rate_micro:
            partition.today.orders += orders
        market.close_epoch(partition, state, start_ms + DAY_MS)


def learn_history(seed: int, settings: WorldSettings, days: int) -> tuple[World, PartitionState]:
    """A world after ``days`` of its shop's habit, and what was learned of it."""
    world = World(seed, settings)
    partition = open_shop(world)
    for _ in range(days):
        learn_day(partition, world.step(*world.habit()))
    effects_book.new_day(partition, days)
    return world, partition
