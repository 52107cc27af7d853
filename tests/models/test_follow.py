"""Histories of another engine: its decisions are the actions, and each is compared."""

import hashlib
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from models.fold.engine import PartitionEngine
from models.fold.taken import Successor, Taken
from models.guards import guards
from models.kernel.tile import Evaluation, Floats, Kernel
from models.pricing import follow
from schemas.codec import canonical
from schemas.outputs import PriceDecided
from tests.models.tapes import Record, simulated

PRICE_NOISE, PROFIT_NOISE = 2e-4, 1e-9  # a fifth of a cent at 10.00, so that some cents differ
BATCH = 400
DAYS = 30


class Foreign(Kernel):
    """An engine of another machine: the same kernels with other last digits."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel.tile, "f0e1 another machine", kernel._solve, kernel._evaluate)

    def solve_arrays(self, matrix: Floats) -> Floats:
        """Prices a little off, by a noise that only depends on the row."""
        found = super().solve_arrays(matrix).copy()
        found[0] *= [1.0 + PRICE_NOISE * _noise(row.tobytes()) for row in matrix.T]
        return found

    def evaluate(self, rows: Any, prices: Any) -> list[Evaluation]:
        """Profits a little off."""
        return [
            at._replace(
                expected_profit=at.expected_profit
                * (1.0 + PROFIT_NOISE * _noise(repr(row).encode()))
            )
            for row, at in zip(rows, super().evaluate(rows, prices), strict=True)
        ]


def _noise(text: bytes) -> float:
    """-1 to 1, evenly."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) / 2**31 - 1.0


class Published:
    """A published history as actions; what was compared is kept."""

    def __init__(self, values: list[bytes], **successors: Successor) -> None:
        decisions = [msgspec.json.decode(value, type=PriceDecided) for value in values]
        self.taken = {
            (one.sku, one.tape.offset): Taken(one, value, successors.get(one.price_id))
            for one, value in zip(decisions, values, strict=True)
        }
        self.asked = 0
        self.confirmed = 0
        self.beyond: dict[str, dict[str, Any]] = {}

    def of(self, sku: str, offset: int) -> Taken | None:
        self.asked += 1
        return self.taken.get((sku, offset))

    def compared(self, taken: Taken, fields: dict[str, tuple[object, object]]) -> None:
        if fields:
            self.beyond[taken.decision.price_id] = fields
        else:
            self.confirmed += 1


def folded(kernel: Kernel, records: list[Record], actions: Published | None = None) -> list[bytes]:
    """The decisions of a tape; with actions those that were followed."""
    engine = PartitionEngine.new(0, kernel)
    engine.state.actions = actions
    found: list[bytes] = []
    for start in range(0, len(records), BATCH):
        batch = engine.apply(records[start : start + BATCH], with_state=False)
        found += [output.value for output in batch.outputs if output.topic == "prices"]
    return found


@pytest.fixture(scope="module")
def records(kernel: Kernel) -> list[Record]:
    """A market with all that operators and mistakes put on a tape."""
    return simulated(kernel, 3, DAYS)


@pytest.fixture(scope="module")
def history(kernel: Kernel, records: list[Record]) -> list[bytes]:
    """What another machine published."""
    return folded(Foreign(kernel), records)


def decided(value: bytes) -> PriceDecided:
    return msgspec.json.decode(value, type=PriceDecided)


def price_id(value: bytes) -> str:
    return decided(value).price_id


def changed(value: bytes, **fields: Any) -> bytes:
    """A decision with some fields of its own, or of its record, replaced."""
    decision = decided(value)
    own = {name: one for name, one in fields.items() if name in PriceDecided.__struct_fields__}
    if decision.record is not None and len(own) < len(fields):
        record = {name: one for name, one in fields.items() if name not in own}
        own["record"] = replace(decision.record, **record)
    return canonical(replace(decision, **own))


def beyond(
    kernel: Kernel, records: list[Record], history: list[bytes], index: int, **fields: Any
) -> dict[str, dict[str, Any]]:
    """What lies beyond its bounds after one decision was altered where its product goes on."""
    successor = fields.pop("successor", None)
    altered = [*history[:index], changed(history[index], **fields), *history[index + 1 :]]
    successors = {} if successor is None else {price_id(history[index]): successor}
    actions = Published(altered, **successors)
    folded(kernel, records, actions)
    return actions.beyond


def test_a_whole_history_of_another_engine_is_confirmed(
    kernel: Kernel, records: list[Record], history: list[bytes]
) -> None:
    """Alone, this engine comes to another history; with the actions taken, nothing is beyond."""
    alone = folded(kernel, records)
    prices = {price_id(value): decided(value).price_minor for value in alone}
    theirs = {price_id(value): decided(value).price_minor for value in history}
    assert sum(price != prices.get(name) for name, price in theirs.items()) > len(history) // 10
    actions = Published(history)
    assert folded(kernel, records, actions) == history
    assert (actions.confirmed, actions.beyond) == (len(history), {})
    assert {decided(value).status for value in history} == {"published", "held"}


def test_an_altered_price_is_named_and_does_not_spread(
    kernel: Kernel, records: list[Record], history: list[bytes]
) -> None:
    """The next decision says what price it found, so that what is learned since stays right."""
    index = effective(history, 40)
    one = decided(history[index])
    assert one.price_minor is not None
    altered = one.price_minor + 50
    found = beyond(
        kernel, records, history, index,
        price_minor=altered, wanted_minor=altered, successor=after(history, index),
    )  # fmt: skip
    own = found[one.price_id]["price_minor"][1]
    assert found == {one.price_id: {"price_minor": (altered, own), "wanted_minor": (altered, own)}}
    assert abs(own - one.price_minor) <= 1


def test_a_cent_that_the_next_decision_contradicts_is_an_alteration(
    kernel: Kernel, records: list[Record], history: list[bytes]
) -> None:
    """A cent is within the bounds; the product's next decision tells them apart."""
    index = effective(history, 40)
    one = decided(history[index])
    assert one.price_minor is not None
    for cent in (-1, 1):
        altered = one.price_minor + cent
        found = beyond(
            kernel, records, history, index,
            price_minor=altered, wanted_minor=altered, successor=after(history, index),
        )  # fmt: skip
        assert list(found) == [one.price_id]
        assert found[one.price_id]["price_minor"][0] == altered


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"status": "held"}, "status"),
        ({"version": 900}, "version"),
        ({"currency": "USD"}, "currency"),
        ({"decided_at": "2026-01-01T00:00:00.000Z"}, "decided_at"),
        ({"previous_minor": 4}, "previous_minor"),
        ({"margin_pct": 99.0}, "margin_pct"),
        ({"exogenous_log": 0.02}, "exogenous_log"),
        ({"policy_sha256": "0" * 64}, "policy_sha256"),
        ({"unit_cost_minor": 1}, "record.unit_cost_minor"),
        ({"trigger": "none"}, "record.trigger"),
        ({"record": None}, "record"),
    ],
)
def test_each_altered_field_is_named(
    kernel: Kernel,
    records: list[Record],
    history: list[bytes],
    fields: dict[str, Any],
    path: str,
) -> None:
    """Of the last decision of a product, which nothing after it contradicts."""
    index = last_of_its_product(history)
    found = beyond(kernel, records, history, index, **fields)
    name = decided(changed(history[index], **fields)).price_id
    assert list(found) == [name]
    assert path in found[name]


@pytest.mark.parametrize(("by", "is_beyond"), [(5e-7, False), (2e-6, True)])
def test_a_profit_may_differ_by_a_millionth(
    kernel: Kernel, records: list[Record], history: list[bytes], by: float, is_beyond: bool
) -> None:
    index = last_of_its_product(history)
    record = decided(history[index]).record
    assert record is not None
    profit = record.expected_profit_per_day_minor * (1.0 + by)
    found = beyond(kernel, records, history, index, expected_profit_per_day_minor=profit)
    fields = found.get(price_id(history[index]), {})
    assert list(fields) == ["record.expected_profit_per_day_minor"] * is_beyond


def test_a_decision_that_is_missing_is_made_up_for(
    kernel: Kernel, records: list[Record], history: list[bytes]
) -> None:
    index = last_of_its_product(history)
    actions = Published([*history[:index], *history[index + 1 :]])
    followed = folded(kernel, records, actions)
    assert (actions.confirmed, actions.beyond) == (len(history) - 1, {})
    assert [price_id(value) for value in followed] == [price_id(value) for value in history]


ENDINGS = guards.Rounding(1, 100, (49, 99))


@pytest.mark.parametrize(
    ("one", "other", "rounding", "is_within"),
    [
        (1000, 1001, guards.Rounding(1), True),
        (1000, 1002, guards.Rounding(1), False),
        (1000, 1005, guards.Rounding(5), True),
        (1000, 1006, guards.Rounding(5), False),
        (1049, 1099, ENDINGS, True),
        (1099, 1149, ENDINGS, True),
        (1049, 1149, ENDINGS, False),
        (1049, 1098, ENDINGS, False),  # the other is no such price
        (1098, 1099, ENDINGS, True),
        (None, None, ENDINGS, True),
        (None, 1099, ENDINGS, False),
    ],
)
def test_a_step_is_the_policys_rounding(
    one: int | None, other: int | None, rounding: guards.Rounding, is_within: bool
) -> None:
    assert follow.within_step(one, other, rounding) == is_within
    assert follow.within_step(other, one, rounding) == is_within


def effective(history: list[bytes], least: int) -> int:
    """A published decision, from a place on, that its product's next one finds in force."""
    return next(
        index
        for index in range(least, len(history))
        if decided(history[index]).status == "published"
        and decided(history[index]).exogenous_log == 0.0
        and any(decided(value).sku == decided(history[index]).sku for value in history[index + 1 :])
    )


def after(history: list[bytes], index: int) -> Successor:
    """What the product's next decision says."""
    sku = decided(history[index]).sku
    found = next(one for value in history[index + 1 :] if (one := decided(value)).sku == sku)
    return Successor(found.previous_minor, found.version)


def last_of_its_product(history: list[bytes]) -> int:
    """The last decision of the product that was decided on first among the last ones."""
    last = {decided(value).sku: index for index, value in enumerate(history)}
    return next(
        index
        for index in sorted(last.values())
        if decided(history[index]).status == "published" and decided(history[index]).record
    )
