"""Another policy's fold sees what history showed, and learns what history learned."""

from collections.abc import Sequence
from typing import Any

import pytest

from models.fold.engine import PartitionEngine
from models.fold.watch import Closed, Shown
from models.kernel.tile import Kernel
from schemas.events import AnyEvent
from tests.models.tapes import Partition, Record, at, policy, simulated

DAYS = 20
BOLD = "[guards]\nstep_ratio_max = 0.5\nday_step_ratio_max = 0.5\n"


class Look:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.epochs: list[Closed] = []
        self.prices: list[Shown] = []

    def applied(self, event: AnyEvent, now_ms: int) -> None:
        self.events.append(event)

    def closed(self, closed: Closed) -> None:
        self.epochs.append(closed)

    def shown(self, shown: Shown) -> None:
        self.prices.append(shown)

    def at(self, offset: int) -> Sequence[Shown]:
        """What was shown from an offset on."""
        return [found for found in self.prices if found.offset == offset]

    def learned(self) -> list[Any]:
        """What each product's epochs taught."""
        found = [(one.entry.sku, one.now_ms, one.epoch, one.after) for one in self.epochs]
        return sorted(found, key=lambda one: one[:2])


def fold(
    kernel: Kernel,
    records: list[Record],
    batch: int = 1 << 30,
    shown: Look | None = None,
    text: str | None = None,
) -> tuple[PartitionEngine, Look]:
    """Fold a tape under its own policies or from the start under another, in batches."""
    engine, look = PartitionEngine.new(0, kernel), Look()
    engine.state.watch = look
    if shown is not None:
        engine.hold_shown(shown.at)
    if text is not None:
        engine.state.set_policy(text)
    for start in range(0, len(records), batch):
        engine.apply(records[start : start + batch])
    return engine, look


@pytest.fixture(scope="module")
def market(kernel: Kernel) -> list[Record]:
    """A tape of a simulated shop, with all that operators and mistakes put on one."""
    return simulated(kernel, seed=5, days=DAYS)


@pytest.fixture(scope="module")
def history(kernel: Kernel, market: list[Record]) -> tuple[PartitionEngine, Look]:
    """The tape as published."""
    return fold(kernel, market)


def test_the_same_policy_decides_the_same(
    kernel: Kernel, market: list[Record], history: tuple[PartitionEngine, Look]
) -> None:
    engine, look = history
    assert any(not found.applied for found in look.prices)
    assert any(found.applied for found in look.prices)
    again, _ = fold(kernel, market, shown=look)
    before, after = engine.state.manifest, again.state.manifest
    assert after.counts == before.counts
    assert after.decisions_sha256 == before.decisions_sha256


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_another_policy_decides_the_same_however_the_tape_is_cut(
    kernel: Kernel, market: list[Record], history: tuple[PartitionEngine, Look], batch: int
) -> None:
    _, look = history
    whole, _ = fold(kernel, market, shown=look, text=BOLD)
    cut, _ = fold(kernel, market, batch, look, BOLD)
    assert cut.state.sha256() == whole.state.sha256()
    assert cut.state.manifest.decisions_sha256 == whole.state.manifest.decisions_sha256
    assert whole.state.manifest.decisions_sha256 != history[0].state.manifest.decisions_sha256


def test_another_policy_learns_from_the_prices_that_were_shown(kernel: Kernel) -> None:
    partition, look = Partition(kernel), Look()
    partition.engine.state.watch = look
    partition.send("product_listed", at(), sku="A")
    for day in range(1, 30):
        for order in range(6):
            fields = {"order_id": f"{day}-{order}", "unit_price_minor": 900}
            partition.send("order_placed", at(day, order), **fields)
        partition.tick(at(day, 23))
    published = [found.price_minor for found in look.prices]
    assert len(published) > 2
    dear = "[guards]\nmargin_floor_ratio = 0.4\n"
    engine, told = fold(kernel, partition.tape.records, shown=look, text=dear)
    assert engine.state.skus["A"].published_minor == 834
    assert partition.state.published_minor == published[-1] == 765
    assert told.prices == []
    assert told.learned() == look.learned()


def test_what_was_shown_waits_behind_a_decision(kernel: Kernel) -> None:
    """A listing asks for a decision; the price shown from there on comes after it."""
    partition, look = Partition(kernel), Look()
    partition.engine.state.watch = look
    partition.send("product_listed", at(), sku="A")
    partition.send("policy_published", at(1), **policy(BOLD))
    told = Look()
    told.prices = [Shown(0, at(), "A", 777)]
    engine, _ = fold(kernel, partition.tape.records, shown=told)
    state = engine.state.skus["A"]
    assert state.epoch is not None
    assert state.epoch.price_minor == 777
    assert state.published_minor == look.prices[0].price_minor
