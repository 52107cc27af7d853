"""Tiers of quotes: who answers, who passes on, what is remembered, and what HTTP says."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from models.kernel.tile import Kernel
from models.quotes.heat import Heat
from models.quotes.standing import Stamp
from models.quotes.warm import Kept
from schemas.errors import InputError, ServiceError
from schemas.quotes import Quote, QuoteRequest
from streams.config import load_settings
from streams.edge.follower import Record
from streams.quotes import full_engine
from streams.quotes.circuit import FAILURES_MAX, PAUSE_S_MAX, Circuit
from streams.quotes.full_engine import FullEngine
from streams.quotes.hot import HotQuotes, Remembered
from streams.quotes.in_force import PricesInForce
from streams.quotes.metrics import QuoteMetrics
from streams.quotes.replica import Replica
from streams.quotes.router import BODY_BYTES_MAX, quote_router
from streams.quotes.tiers import TieredQuotes
from streams.worker.engines import warm_kernel
from tests.models.tapes import at, policy
from tests.models.test_quotes import Shop, established
from tests.streams.gateway_app import price, record, tombstone

START_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


class Copy(Replica):
    """A replica that is always in step with a shop of this process."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(None, shop.kernel.fingerprint)
        self.states = {0: shop.partition.engine.state}
        self.ready = True

    def check(self) -> None:
        if not self.ready:
            super().check()


class Drawer:
    """Warm products in memory."""

    def __init__(self) -> None:
        self.why_not: str | None = None
        self.kept: dict[str, Kept] = {}

    async def get(self, sku: str) -> Kept | None:
        return None if self.why_not else self.kept.get(sku)

    def put(self, found: Kept) -> None:
        self.kept[found.product.basis.sku] = found


class Model:
    """A light model that is always 0.2 % above the kernel."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.why_not: str | None = None

    def predict(self, row: Any) -> tuple[float, float] | None:
        found = self.shop.solve(row)
        return None if found is None else (found[0] * 1.002, 0.004)


class Counter(QuoteMetrics):
    """Metrics that remember the order, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tiers: list[str] = []

    def answered(self, tier: str, seconds: float) -> None:
        super().answered(tier, seconds)
        assert seconds >= 0.0
        self.tiers.append(tier)


class Desk:
    """The tiers over one shop, asked one quote at a time."""

    def __init__(self, shop: Shop, **changes: Any) -> None:
        self.shop, self.store, self.model, self.meter = shop, Drawer(), Model(shop), Counter()
        self.copy = Copy(shop)
        self.full = FullEngine(shop.kernel, self.copy, shop.in_force.get, self.store.put).start()
        self.now_ms = START_MS
        parts = {"store": self.store, "model": self.model} | changes
        self.tiers = TieredQuotes(
            self.copy, self.full, metrics=self.meter, clock_ms=lambda: self.now_ms, **parts
        )

    def ask(self, **asked: Any) -> Quote:
        return asyncio.run(self.tiers.quote(QuoteRequest(**({"sku": "A"} | asked))))

    def close(self) -> None:
        self.full.close()


@pytest.fixture
def desk(kernel: Kernel) -> Iterator[Desk]:
    made = Desk(established(kernel))
    yield made
    made.close()


def test_each_answer_fills_the_tiers_above_it(desk: Desk) -> None:
    first = desk.ask(unit_cost_minor=520)
    assert (first.tier, first.source, desk.store.kept) == ("L3", "L3", {}), "asked for once"
    again = desk.ask(unit_cost_minor=520)
    assert (again.tier, again.source, again.price_minor) == ("L1", "L3", first.price_minor)
    assert desk.ask(unit_cost_minor=530).tier == "L3", "warm from here on"
    desk.full.close()  # which waits until what is warm was put away
    warm = desk.ask(unit_cost_minor=540)
    assert (warm.tier, warm.source, warm.error_bound) == ("L2", "L2", 0.004)
    assert (warm.version, warm.price_id) == (first.version, first.price_id)
    remembered = desk.ask(unit_cost_minor=540)
    assert remembered == Quote(**{**fields(warm), "tier": "L1"})
    assert desk.meter.tiers == ["L3", "L1", "L3", "L2", "L1"]


def fields(quote: Quote) -> dict[str, Any]:
    return {name: getattr(quote, name) for name in quote.__struct_fields__}


def test_a_newer_decision_evicts_from_every_tier(desk: Desk) -> None:
    for cost in (520, 530):
        desk.ask(unit_cost_minor=cost)
    before = desk.ask(unit_cost_minor=520)
    text = "[guards]\nmargin_floor_ratio = 0.3\n"
    desk.shop.send("policy_published", at(days=11, hours=1), **policy(text))
    desk.shop.send("clock_ticked", at(days=11, hours=2))
    after = desk.ask(unit_cost_minor=520)
    assert (before.tier, after.tier) == ("L1", "L3")
    assert after.version > before.version
    assert desk.ask(unit_cost_minor=540).tier == "L3", "what was warm rests on an older decision"


def test_an_answer_ends_with_its_event_day(desk: Desk) -> None:
    assert [desk.ask(unit_cost_minor=520).tier for _ in range(2)] == ["L3", "L1"]
    state = desk.shop.partition.engine.state
    state.manifest.clock_ms = at(days=12)
    assert desk.ask(unit_cost_minor=520).tier == "L3"


def test_l2_passes_on_and_says_why(desk: Desk) -> None:
    for cost in (520, 530):
        desk.ask(unit_cost_minor=cost)
    desk.ask(unit_cost_minor=531)
    desk.model.why_not = "the light model is of another kernel"
    found = desk.ask(unit_cost_minor=532)
    assert (found.tier, found.flags) == ("L3", ("L2: the light model is of another kernel",))
    assert desk.ask(unit_cost_minor=532).flags == (), "what is remembered is the full answer"
    desk.model.why_not = None
    desk.store.why_not = "Redis is away"
    found = desk.ask(unit_cost_minor=533)
    assert (found.tier, found.flags) == ("L3", ("L2: Redis is away",))


def test_without_l2_the_full_engine_answers(kernel: Kernel) -> None:
    desk = Desk(established(kernel), store=None, model=None)
    try:
        assert [desk.ask(unit_cost_minor=cost).tier for cost in (1, 2, 2)] == ["L3", "L3", "L1"]
    finally:
        desk.close()


def test_the_kill_switch_stops_every_tier_before_the_tape_has_it(kernel: Kernel) -> None:
    thrown: list[str] = []
    desk = Desk(established(kernel), switch=lambda: thrown[-1] if thrown else None)
    try:
        assert desk.ask().tier == "L3"
        thrown.append("fire")
        with pytest.raises(InputError, match="kill switch is thrown: fire"):
            desk.ask()
    finally:
        desk.close()


def test_concurrent_quotes_share_a_batch_and_get_their_own_answers(desk: Desk) -> None:
    costs = [500 + number for number in range(100)]

    async def all_at_once() -> list[Quote]:
        asked = [desk.tiers.quote(QuoteRequest(sku="A", unit_cost_minor=cost)) for cost in costs]
        return list(await asyncio.gather(*asked))

    found = asyncio.run(all_at_once())
    alone = [desk.shop.quote(unit_cost_minor=cost) for cost in costs]
    assert found == alone


def test_a_full_queue_refuses(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_engine, "QUEUE_MAX", 2)
    shop = established(kernel)
    engine = FullEngine(kernel, Copy(shop), shop.in_force.get)  # not started: nobody takes away
    for _ in range(2):
        engine.ask(QuoteRequest(sku="A"))
    with pytest.raises(ServiceError) as refused:
        engine.ask(QuoteRequest(sku="A"))
    assert refused.value.code == "overloaded"


def test_a_failed_batch_does_not_end_the_thread(desk: Desk) -> None:
    state = desk.shop.partition.engine.state
    posterior = desk.shop.partition.state.posterior
    state.skus["A"].posterior = "broken"
    with pytest.raises(AttributeError):
        desk.ask(unit_cost_minor=520)
    state.skus["A"].posterior = posterior
    assert desk.ask(unit_cost_minor=520).tier == "L3"


# -- what is remembered


def test_a_long_tail_does_not_wash_hot_quotes_out() -> None:
    heat = Heat(60.0, 1000)
    hot = HotQuotes(2, heat)
    stamp = Stamp(1, None, ("CLOSED", "CLOSED", "CLOSED"), "p")
    quote = Quote(
        sku="", price_minor=1, currency="EUR", quantity=1, tier="L1", source="L3", error_bound=0.0,
        version=1, price_id=None, list_price_minor=None, as_of="", valid_until=None,
    )  # fmt: skip
    for sku in ("A", "A", "A", "B", "B"):
        heat.count(sku, 0)
    for sku in ("A", "B"):
        assert hot.put(QuoteRequest(sku=sku), Remembered(quote, 10, stamp))
    for number in range(50):
        heat.count(f"T{number}", 0)
        assert not hot.put(QuoteRequest(sku=f"T{number}"), Remembered(quote, 10, stamp))
    for _ in range(3):
        heat.count("C", 0)
    assert hot.put(QuoteRequest(sku="C"), Remembered(quote, 10, stamp))
    kept = [sku for sku in ("A", "B", "C") if hot.get(QuoteRequest(sku=sku), stamp, 5)]
    assert (kept, len(hot)) == (["A", "C"], 2) or (kept, len(hot)) == (["B", "C"], 2)
    assert hot.get(QuoteRequest(sku="C"), stamp, 10) is None, "its time is over"
    assert len(hot) == 1


def test_a_circuit_opens_for_longer_each_time_and_closes_again() -> None:
    now = [0.0]
    circuit = Circuit(lambda: now[0])
    for _ in range(FAILURES_MAX):
        assert circuit.may_ask()
        circuit.failed()
    pauses = []
    for _ in range(8):
        assert not circuit.may_ask()
        began = now[0]
        while not circuit.may_ask():
            now[0] += 0.5
        pauses.append(now[0] - began)
        assert not circuit.may_ask(), "one at a time"
        circuit.failed()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, PAUSE_S_MAX, PAUSE_S_MAX, PAUSE_S_MAX]
    now[0] += PAUSE_S_MAX
    assert circuit.may_ask()
    circuit.succeeded()
    assert circuit.may_ask()
    assert not circuit.is_open


# -- over HTTP


@pytest.fixture
def client(desk: Desk) -> TestClient:
    app = FastAPI()
    app.include_router(quote_router(lambda: desk.tiers))
    return TestClient(app)


def test_a_quote_over_http(client: TestClient, desk: Desk) -> None:
    answered = client.post("/v1/quote", json={"sku": "A", "quantity": 2, "stock_units": 10})
    assert answered.status_code == 200
    full = desk.shop.quote(quantity=2, stock_units=10)
    found = answered.json()
    assert found == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields(full).items()
    }


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b'{"sku": "Z"}', 404, "unknown_sku", "sku"),
        (b'{"sku": "A", "quantity": 0}', 400, "invalid_quote", "quantity"),
        (b'{"sku": "A", "unit_cost_minor": 1.5}', 400, "invalid_quote", "unit_cost_minor"),
        (b'{"sku": "A", "price": 1}', 400, "invalid_quote", "request"),
        (b'{"quantity": 1}', 400, "invalid_quote", "request"),
        (b"[", 400, "invalid_quote", "request"),
        (b"\xff", 400, "invalid_quote", "request"),
        (b'{"sku": "A", "market": "DE"}', 400, "unknown_place", "market"),
        (b'{"sku": "A", "stock_units": 2, "quantity": 3}', 409, "beyond_stock", "quantity"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "body_too_large", "request"),
    ],
)
def test_bad_questions_are_answered_in_kind(client: TestClient, body, status, code, field) -> None:
    answered = client.post("/v1/quote", content=body)
    error = answered.json()["error"]
    assert (answered.status_code, error["code"], error["field"]) == (status, code, field)


def test_not_ready_says_when_to_ask_again(client: TestClient, desk: Desk) -> None:
    desk.copy.ready = False
    answered = client.post("/v1/quote", json={"sku": "A"})
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "5")
    assert answered.json()["error"]["code"] == "not_ready"


def test_the_route_is_described(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/quote"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(asked["properties"]) == set(QuoteRequest.__struct_fields__)
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(answered["properties"]) == set(Quote.__struct_fields__)
    assert {"400", "404", "409", "413", "429", "503"} <= set(operation["responses"])


def test_a_record_that_is_no_price_is_left_out() -> None:
    prices = PricesInForce(load_settings())
    good = [record(number, price(sku, 3)) for number, sku in enumerate("AB")]
    prices.take([good[0], Record(0, 7, b"A", b"no price", 0), good[1], tombstone(8, "A")])
    assert [prices(sku) and prices(sku).version for sku in "ABC"] == [3, 3, None]
