"""A product's record stays below a kilobyte, after months of a shop with three rivals."""

import msgspec
import orjson
import pytest

from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas.codec import packed
from schemas.errors import EngineError
from schemas.state import SkuState, Stock, Traffic
from streams.tape.tape_builder import TapeBuilder

DAYS = 45
RECORD_BYTES_MAX = 1024


def test_a_products_state_stays_below_a_kilobyte(kernel: Kernel) -> None:
    shop, tape = Shop(5, settings=ShopSettings(products=12, step_hours=6)), TapeBuilder(1)
    engine = PartitionEngine.new(0, kernel)
    prices: dict[str, int] = {}
    for _ in range(4 * DAYS):
        placed = [one for topic, value in shop.step(prices) for one in tape.append(topic, value)]
        batch = engine.apply([(one.offset, one.value) for one in placed], with_state=False)
        for output in batch.outputs:
            if output.topic == "prices-latest":
                decision = orjson.loads(output.value)
                prices[decision["sku"]] = decision["price_minor"]
    sizes = {
        key.decode(): len(value)
        for key, value in engine.state.all_records()
        if key.startswith(b"sku/")
    }
    assert len(sizes) >= 12
    assert {key: size for key, size in sizes.items() if size >= RECORD_BYTES_MAX} == {}


def test_a_packed_record_has_the_same_future() -> None:
    state = SkuState(sku="A", stock=Stock(3, 0, None, 7), rivals={}, recent_events=b"\x00\xff")
    assert msgspec.msgpack.decode(packed(state), type=SkuState) == state


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_number_that_is_none_is_packed(number: float) -> None:
    with pytest.raises(EngineError, match="expected a finite number"):
        packed(SkuState(sku="A", traffic=Traffic(number, 1.0, 7)))
