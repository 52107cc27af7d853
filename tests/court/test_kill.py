"""A runaway after a kill: no price twice or lost, versions gapless, the same bytes."""

from collections import defaultdict

import orjson
import pytest

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from tests.models.tapes import Record, Tape, at, policy

PRODUCTS = 200


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel.warm()


def tape() -> list[Record]:
    """A catalogue, a policy that reprices all of it at one tick, and orders behind that wave."""
    made = Tape()
    for number in range(PRODUCTS):
        made.add("product_listed", at(), sku=f"P{number:03d}", unit_cost_minor=400 + number)
    made.add("policy_published", at(hours=1), **policy("[guards]\nmargin_floor_ratio = 0.3\n"))
    made.add("clock_ticked", at(days=1))
    for number in range(PRODUCTS):
        cost = {"sku": f"P{number:03d}", "unit_cost_minor": 500 + number}
        made.add("cost_changed", at(days=1, minutes=1), **cost)
    return made.records


@pytest.mark.parametrize("kill_at", [PRODUCTS // 2, PRODUCTS + 1, PRODUCTS + 2, PRODUCTS + 90])
@pytest.mark.parametrize("batch", [7, 64, 1000])
def test_no_price_twice_or_lost(kernel: Kernel, kill_at: int, batch: int) -> None:
    """The batch with record ``kill_at`` is folded and lost with its worker, then folded again."""
    records = tape()
    alone = PartitionEngine.new(0, kernel)
    truth = alone.apply(records).outputs
    engine, committed, outputs, kills = PartitionEngine.new(0, kernel), {}, [], 1
    while engine.position + 1 < len(records):
        start = engine.position + 1
        done = engine.apply(records[start : start + batch])
        if kills and start <= kill_at < start + batch:
            kills = 0  # what was not committed dies with the worker
            engine = PartitionEngine.new(0, kernel)
            if committed:
                engine = PartitionEngine.restore(0, committed.items(), kernel)
            continue
        outputs += done.outputs
        for key, value in done.state:
            if value is None:
                committed.pop(key, None)
            else:
                committed[key] = value
    assert kills == 0
    assert outputs == truth
    assert engine.state.sha256() == alone.state.sha256()
    versions = defaultdict(list)
    for output in outputs:
        if output.topic == "prices":
            decision = orjson.loads(output.value)
            versions[decision["sku"]].append(decision["version"])
    assert dict(versions) == {f"P{number:03d}": [1, 2, 3] for number in range(PRODUCTS)}
