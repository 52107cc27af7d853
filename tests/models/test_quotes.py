"""Quotes: by the full engine and from what is kept warm, never outside the guards."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fold.partition import PartitionState
from models.fold.replica import take_cut
from models.kernel.objective import Row
from models.kernel.tile import Kernel
from models.quotes import warm
from models.quotes.full import Answer, Found, Wanted, answers
from models.quotes.heat import Heat
from models.quotes.standing import InForce, Timed
from models.quotes.warm import Kept, Places, WarmProduct
from models.returns import returns_book
from schemas import tape
from schemas.errors import EngineError, InputError
from schemas.events import rfc3339
from schemas.quotes import Quote, QuoteRequest
from tests.models.tapes import Partition, Seen, at, policy, simulated
from tests.models.test_decisions import believe, orders
from tests.models.test_discounts import DISCLOSURE, POLICY, priced
from tests.models.test_guard_laws import NO_SKU, SKUS, documents, money, stories
from tests.oracle import Oracle


class Shop:
    """A shop, and the prices in force in it."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.kernel = partition.engine.kernel
        self.in_force: dict[str, InForce] = {}

    def send(self, kind: str, at_ms: int, **fields: Any) -> Seen:
        found = self.partition.send(kind, at_ms, **fields)
        self.note(found)
        return found

    def note(self, found: Seen) -> None:
        for one in found.latest:
            assert one.price_minor is not None
            self.in_force[one.sku] = InForce(
                one.price_minor, one.price_id, one.version, one.currency, one.valid_until
            )

    def wanted(self, **asked: Any) -> Wanted:
        request = msgspec.convert({"sku": "A"} | asked, QuoteRequest)
        return Wanted(self.partition.engine.state, request, self.in_force.get(request.sku))

    def answer(self, **asked: Any) -> Answer:
        (found,) = answers(self.kernel, [self.wanted(**asked)])
        return found

    def quote(self, **asked: Any) -> Quote:
        found = self.answer(**asked)
        assert isinstance(found, Found), found
        return found.quote

    def refusal(self, **asked: Any) -> str:
        found = self.answer(**asked)
        assert isinstance(found, InputError), found
        return found.code

    def kept(self, sku: str = "A") -> Kept | None:
        """What L2 keeps of a product, as it comes back from bytes."""
        for found in warm.products(self.kernel, [self.wanted(sku=sku)]):
            product = msgspec.msgpack.decode(warm.encoded(found.product), type=WarmProduct)
            places = msgspec.msgpack.decode(warm.encoded(found.places), type=Places)
            assert (product, places) == found
            return Kept(product, places)
        return None

    def solve(self, row: Row) -> tuple[float, float] | None:
        """A light model that is never wrong."""
        (found,) = self.kernel.solve([row])
        return (found.price, 0.0) if found.finite else None


def established(kernel: Kernel, **listing: Any) -> Shop:
    """A product that is known well, and has a price."""
    shop = Shop(Partition(kernel))
    believe(shop.partition, -2.6, 0.05)
    shop.send("product_listed", at(), **listing)
    for seen in orders(shop.partition, 0.1, 30, 0.1):
        shop.note(seen)
    for day in range(1, 12):
        shop.note(shop.partition.tick(at(days=day)))
    return shop


@pytest.fixture(scope="module")
def shop(kernel: Kernel) -> Shop:
    return established(kernel)


# -- the copy of the state


def test_a_copy_follows_the_state_cut_by_cut(kernel: Kernel) -> None:
    records = simulated(kernel, seed=5, days=24)
    shop = Partition(kernel)
    copy = PartitionState(0, kernel.fingerprint)
    before: list[tuple[bytes, bytes | None]] = []
    for start in range(0, len(records), 97):
        batch = shop.engine.apply(records[start : start + 97])
        assert take_cut(copy, batch.state)
        assert copy.all_records() == shop.engine.state.all_records()
        assert not take_cut(copy, before or batch.state), "an older cut, or the same once more"
        before = batch.state
    assert copy.families == shop.engine.state.families
    asked = [(sku, at(days=24)) for sku in sorted(copy.skus)]
    marked = returns_book.marked(copy, asked)
    assert marked == returns_book.marked(shop.engine.state, asked)
    assert copy.sha256() == shop.engine.state.sha256()


def test_a_cut_without_its_manifest_is_refused(kernel: Kernel) -> None:
    with pytest.raises(EngineError, match="without its manifest"):
        take_cut(PartitionState(0, "x"), [(b"sku/A", b"")])


# -- what needs no reckoning


def test_without_conditions_the_price_in_force_is_quoted(shop: Shop) -> None:
    price = shop.in_force["A"]
    assert shop.quote() == Quote(
        sku="A", price_minor=price.price_minor, currency="EUR", quantity=1, tier="L3", source="L3",
        error_bound=0.0, version=shop.partition.state.version, price_id=price.price_id,
        list_price_minor=price.price_minor, as_of="2026-01-16T00:00:00.000Z",
        valid_until=price.valid_until,
    )  # fmt: skip


def test_what_cannot_be_quoted_says_why(kernel: Kernel) -> None:
    shop = established(kernel)
    assert shop.refusal(sku="Z") == "unknown_sku"
    assert shop.refusal(market="DE") == "unknown_place"
    shop.send("inventory_changed", at(days=11, hours=1), on_hand=4)
    assert shop.refusal(quantity=5) == "beyond_stock"
    shop.send("operator_command", at(days=11, hours=2), command="kill_switch_on")
    assert shop.refusal() == "kill_switch"
    shop.send("operator_command", at(days=11, hours=3), command="kill_switch_off")
    shop.send("cost_changed", at(days=11, hours=4), unit_cost_minor=None)
    assert shop.refusal(stock_units=3) == "not_priced"
    shop.send("product_retired", at(days=11, hours=5))
    assert shop.refusal() == "retired"


def test_an_open_breaker_quotes_the_last_good_price_whatever_is_asked(kernel: Kernel) -> None:
    shop = established(kernel)
    last = shop.in_force["A"].price_minor
    scope = {"kind": "sku", "name": "A"}
    shop.send("operator_command", at(days=11, hours=1), command="breaker_trip", scope=scope)
    for asked in ({}, {"unit_cost_minor": 100}, {"stock_units": 10_000}, {"quantity": 3}):
        found = shop.quote(**asked)
        assert (found.price_minor, found.flags) == (last, ("held: breaker: manual trip",))
        kept = shop.kept()
        assert kept is not None
        from_warm = warm.answer(kept, shop.wanted(**asked).request, shop.solve)
        assert isinstance(from_warm, Timed)
        assert from_warm.quote == msgspec.structs.replace(found, tier="L2", source="L2")


def test_a_segment_is_quoted_its_standing_discount(kernel: Kernel) -> None:
    partition, seen = priced(kernel)
    shop = Shop(partition)
    shop.note(seen)
    (offer,) = seen.discounts
    found = shop.quote(segment="student")
    assert (found.price_minor, found.discount_minor) == (offer.discounted_minor, offer.amount_minor)
    assert (found.disclosure, found.valid_until) == (DISCLOSURE, offer.valid_until)
    assert shop.quote(segment="regular").flags == ("no discount for segment regular",)
    kept = shop.kept()
    assert kept is not None
    for segment in ("student", "regular"):
        request = shop.wanted(segment=segment).request
        again = warm.answer(kept, request, shop.solve)
        assert isinstance(again, Timed)
        assert again.quote == msgspec.structs.replace(
            shop.quote(segment=segment), tier="L2", source="L2"
        )


def test_a_segment_beside_what_is_supposed_keeps_the_floor(kernel: Kernel) -> None:
    partition, seen = priced(kernel, POLICY.replace("0.08", "0.5"))
    shop = Shop(partition)
    shop.note(seen)
    plain = shop.quote(unit_cost_minor=700)
    found = shop.quote(unit_cost_minor=700, segment="student")
    assert found.price_minor == plain.price_minor - found.discount_minor
    assert 700 / 0.95 <= found.price_minor <= plain.price_minor
    assert found.discount_minor == 0 or found.disclosure == DISCLOSURE


# -- several at once


def test_with_unlimited_stock_the_quantity_moves_nothing(shop: Shop) -> None:
    one, many = shop.quote(), shop.quote(quantity=500)
    assert many.price_minor == one.price_minor
    assert many.flags == ("stock is unlimited: the quantity moves nothing",)
    assert many.reservation_minor == pytest.approx(500, rel=0.2)  # unit cost, and returns


def test_stock_alone_never_makes_many_cheaper_than_one(kernel: Kernel) -> None:
    shop = established(kernel)
    for on_hand in (5, 20, 100, 4000):
        shop.send("inventory_changed", at(days=11, minutes=on_hand), on_hand=on_hand)
        list_minor = shop.in_force["A"].price_minor
        found = [shop.quote(quantity=max(int(on_hand * share), 2)) for share in (0.2, 0.6, 1.0)]
        prices = [one.price_minor for one in found]
        assert list_minor <= prices[0] <= prices[1] <= prices[2]
        lowest = [one.reservation_minor for one in found]
        assert lowest == sorted(lowest)
        assert all(least < price for least, price in zip(lowest, prices, strict=True)), (
            "between the two lies what a buyer of many may be granted"
        )
    assert lowest[0] < 500 / (1 - 0.05), "overstock goes for less than cost, were there no floor"


# -- what is supposed


def test_a_supposed_cost_leads_where_the_cost_would(kernel: Kernel) -> None:
    text = (
        "[guards]\nstep_ratio_max = 0.9\nday_step_ratio_max = 0.9\nceiling_list_price_ratio = 9.0\n"
    )
    shop = established(kernel)
    shop.send("policy_published", at(days=11, hours=1), **policy(text))
    supposed = shop.quote(unit_cost_minor=650)
    assert shop.partition.engine.state.catalogue["A"].unit_cost_minor == 500, "nothing is changed"
    decided = shop.send("cost_changed", at(days=11), unit_cost_minor=650).decision
    assert supposed.price_minor == round(decided.record.steps[1].price_minor)
    assert supposed.error_bound == 0.0


def test_quotes_are_the_same_alone_and_together(kernel: Kernel, shop: Shop) -> None:
    asked = [
        {"unit_cost_minor": cost, "stock_units": stock, "quantity": quantity}
        for cost in (300, 500, 900) for stock in (3, 50) for quantity in (1, 2)
    ]  # fmt: skip
    together = answers(kernel, [shop.wanted(**one) for one in asked])
    assert together == [shop.answer(**one) for one in asked]


quotes = st.fixed_dictionaries(
    {"sku": st.sampled_from(SKUS)},
    optional={
        "unit_cost_minor": money,
        "stock_units": st.integers(0, 300),
        "market": st.sampled_from(["DE", "FR"]),
        "channel": st.sampled_from(["web", "letter"]),
        "quantity": st.integers(1, 40),
    },
)


@settings(max_examples=50, deadline=None)
@given(
    first=documents(), costs=st.tuples(money, money, money), story=stories,
    asked=st.lists(quotes, min_size=1, max_size=6), off=st.floats(0.2, 5.0),
)  # fmt: skip
def test_no_quote_of_any_tier_breaks_a_guard(
    kernel: Kernel, first, costs, story, asked, off
) -> None:
    """Whatever the light model says; and if it says what the kernel does, L2 is L3."""
    shop, oracle = Shop(Partition(kernel)), Oracle()
    opening = [(0, "A", ("policy_published", policy(first)))]
    opening += [
        (0, sku, ("product_listed", {"unit_cost_minor": cost, "list_price_minor": None}))
        for sku, cost in zip(SKUS, costs, strict=True)
    ]
    hours = 0
    for wait, sku, (kind, fields) in [*opening, *story, (1, "A", ("clock_ticked", {}))]:
        hours += wait
        about = {} if kind in (*NO_SKU, "clock_ticked") else {"sku": sku}
        for one, given_fields in (("clock_ticked", {}), (kind, about | fields)):
            found = shop.send(one, at(hours=hours), **given_fields)
            event = orjson.loads(tape.raw_event(shop.partition.tape.records[-1][1]))
            oracle.observe(event, applied=found.letters == [])
            for decision in found.decisions:
                assert oracle.judge(msgspec.to_builtins(decision)) == []
    for one in asked:
        answer = shop.answer(**one)
        if isinstance(answer, Found):
            assert oracle.judge_quote(one, msgspec.to_builtins(answer.quote)) == []
        kept = shop.kept(one["sku"])
        if kept is not None:
            from_warm(shop, oracle, one, kept, answer, off)


def from_warm(
    shop: Shop, oracle: Oracle, asked: dict[str, Any], kept: Kept, full: Answer, off: float
) -> None:
    request = shop.wanted(**asked).request

    def astray(row: Row) -> tuple[float, float] | None:
        found = shop.solve(row)
        return None if found is None else (found[0] * off, 0.0)

    if isinstance(full, InputError) and full.code in ("unknown_place", "held"):
        with pytest.raises(InputError) as refused:
            warm.answer(kept, request, shop.solve)
        assert refused.value.code == full.code
        return
    right = warm.answer(kept, request, shop.solve)
    wrong = warm.answer(kept, request, astray)
    if not isinstance(right, str):
        assert isinstance(full, Found)
        assert right.quote == msgspec.structs.replace(full.quote, tier="L2", source="L2")
    if not isinstance(wrong, str):
        assert oracle.judge_quote(asked, msgspec.to_builtins(wrong.quote)) == []


@pytest.mark.parametrize(
    ("on_hand", "days", "by_warm"), [(5, 3.0, (False, True, True)), (0, 3.0, (False,) * 3),
                                     (5, 0.1, (False,) * 3), (5, None, (True,) * 3)],
)  # fmt: skip
def test_with_stock_on_its_way_the_full_engine_is_asked_where_the_horizon_moves(
    kernel: Kernel, on_hand, days, by_warm
) -> None:
    shop = established(kernel)
    eta = {} if days is None else {"inbound_eta": rfc3339(at(days=11 + days))}
    shop.send("inventory_changed", at(days=11), on_hand=on_hand, inbound=40, **eta)
    kept = shop.kept()
    assert kept is not None
    for units, answered in zip((0, 1, 90), by_warm, strict=True):
        found = warm.answer(kept, shop.wanted(stock_units=units).request, shop.solve)
        assert isinstance(found, Timed) == answered, units
        if isinstance(found, Timed):
            full = shop.quote(stock_units=units)
            assert found.quote == msgspec.structs.replace(full, tier="L2", source="L2")
    cost = warm.answer(kept, shop.wanted(unit_cost_minor=520).request, shop.solve)
    assert isinstance(cost, Timed), "a cost moves no horizon"
    assert cost.quote.price_minor == shop.quote(unit_cost_minor=520).price_minor


# -- heat


def test_heat_forgets_by_halves_and_keeps_the_hottest() -> None:
    heat = Heat(half_life_s=10.0, products_max=8)
    for second in range(4):
        heat.count("A", second * 1000)
    assert heat.quotes("A", 3000) == pytest.approx(sum(2 ** (-k / 10) for k in range(4)))
    assert heat.quotes("A", 13_000) == pytest.approx(heat.quotes("A", 3000) / 2)
    late = Heat(half_life_s=10.0, products_max=8)
    for second in (3, 1, 0, 2):
        late.count("A", second * 1000)
    assert late.quotes("A", 3000) == pytest.approx(heat.quotes("A", 3000)), "in any order"
    for number in range(20):
        heat.count(f"B{number}", 3000 + number)
    assert len(heat) <= 8
    assert heat.hotter("A", "B19")
    assert heat.quotes("B0", 4000) == 0.0
