"""The desk's data: rows, exceptions, breakers, portfolio, products, curves, what if, steering."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from models.kernel.tile import Kernel
from schemas.errors import ServiceError
from schemas.outputs import Alert, DiscountOffered, PriceDecided, TapePosition
from streams.cli import cli
from streams.controls import controls
from streams.explain.explain import Explanation, explanation_text
from streams.gateway.board import BLOCKED, Board, Decided
from streams.gateway.breaker_board import TIMELINE_MAX, BreakerBoard
from streams.gateway.history import PER_SKU_MIN, Histories, Past
from streams.gateway.judged import COLUMNS, judged
from streams.gateway.portfolio import portfolio
from streams.gateway.subjects import Subjects
from streams.settings import Settings
from streams.worker.engines import warm_kernel
from tests.models.tapes import Partition, at, policy
from tests.streams.gateway_app import (
    DESK,
    ShownDesk,
    ShownPrices,
    application,
    bearer,
    client_of,
    price,
    record,
    token_settings,
)

FAMILIES = {"A": "A", "B": "F", "C": "F"}
WAITS_ON_5_PERCENT = "[approval]\nmove_ratio_min = 0.05\nexpires_hours = 24\n"


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The compiled kernels."""
    return warm_kernel(Settings().engine.compilation_cache_dir)


class Scene(NamedTuple):
    """What the pricer said of three products."""

    decisions: list[PriceDecided]
    alerts: list[Alert]


@pytest.fixture(scope="module")
def scene(kernel: Kernel) -> Scene:
    """A waits for approval; B's breaker and its family's are open; C has no cost."""
    shop, found = Partition(kernel), Scene([], [])
    trip = {"command": "breaker_trip"}
    for kind, at_ms, fields in [
        ("product_listed", at(), {"unit_cost_minor": 900}),
        ("product_listed", at(), {"sku": "B", "family": "F", "unit_cost_minor": 500}),
        ("product_listed", at(), {"sku": "C", "family": "F", "unit_cost_minor": None}),
        ("policy_published", at(hours=1), policy(WAITS_ON_5_PERCENT)),
        ("clock_ticked", at(hours=2), {}),
        ("cost_changed", at(hours=25), {"unit_cost_minor": 500}),
        ("operator_command", at(hours=26), {**trip, "scope": {"kind": "sku", "name": "B"}}),
        ("operator_command", at(hours=27), {**trip, "scope": {"kind": "family", "name": "F"}}),
    ]:
        seen = shop.send(kind, at_ms, **fields)
        found.decisions.extend(seen.decisions)
        found.alerts.extend(seen.alerts)
    return found


@pytest.fixture
def desk(kernel: Kernel, scene: Scene) -> ShownDesk:
    """The desk with the scene on it, and A's price in the shop window."""
    prices = ShownPrices([record(0, price("A", 2, price_minor=1000))])
    return ShownDesk(prices, kernel, scene.decisions, scene.alerts, FAMILIES)


def ask(
    question: Callable[[httpx.AsyncClient], Awaitable[None]], desk: ShownDesk, **gateway: Any
) -> None:
    async def run() -> None:
        app = application(desk.prices, desk.reckoner, desk, **gateway)
        async with client_of(app) as client:
            await question(client)

    asyncio.run(run())


def plain(value: Any) -> Any:
    """As it is after a way through JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# -- the catalogue


def test_a_row_for_each_product(desk: ShownDesk, scene: Scene) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/catalogue")).json()
        assert (found["currencies"], tuple(found["columns"])) == (["EUR"], COLUMNS)
        rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in found["rows"]}
        assert [(r["sku"], r["family"], r["status"], r["held_by"], r["breaker"], r["version"])
                for _, r in sorted(rows.items())] == [
            ("A", "A", "held", "approval", "CLOSED", 3),
            ("B", "F", "published", None, "OPEN", 2),
            ("C", "F", "blocked", "blocked", None, None),
        ]  # fmt: skip
        last = scene.decisions[-1]
        assert last.sku == "A"
        record, greeks = last.record, last.greeks
        assert record is not None
        assert greeks is not None
        assert rows["A"] == {
            "sku": "A", "category": "lamps", "family": "A", "status": "held", "price_minor": 1000,
            "currency": "EUR", "margin_pct": last.margin_pct,
            "elasticity": record.demand.elasticity,
            "elasticity_low": record.demand.elasticity_low,
            "elasticity_high": record.demand.elasticity_high,
            "return_rate": record.returns.rate, "stock_units": None, "stock_cover_days": None,
            "delta": greeks.delta, "gamma": greeks.gamma, "vega": greeks.vega,
            "scaled_delta": greeks.delta * 900 / (record.objective_per_day_minor * 7.0),
            "profit_per_day_minor": record.expected_profit_per_day_minor,
            "left_on_table_per_day_minor": rows["A"]["left_on_table_per_day_minor"],
            "breaker": "CLOSED", "held_by": "approval", "orders": 0,
            "decided_at": last.decided_at, "version": 3,
        }  # fmt: skip

    ask(question, desk)


def test_stock_cover_is_units_over_sales_a_day(scene: Scene) -> None:
    decision = scene.decisions[0]
    assert decision.record is not None
    stock = msgspec.structs.replace(
        decision.record.stock, sellable_units=60, expected_sales_units=14.0, horizon_days=7.0
    )
    stocked = msgspec.structs.replace(
        decision, record=msgspec.structs.replace(decision.record, stock=stock)
    )
    row = dict(zip(COLUMNS, judged(stocked).row, strict=True))
    assert (row["stock_units"], row["stock_cover_days"]) == (60, 30.0)


def test_a_decision_without_numbers_has_nulls_and_no_zeros(scene: Scene) -> None:
    bare = msgspec.structs.replace(scene.decisions[0], record=None, greeks=None)
    found = judged(bare)
    row = dict(zip(COLUMNS, found.row, strict=True))
    known = {name for name, value in row.items() if value is not None}
    assert known == {
        "sku", "status", "price_minor", "currency", "margin_pct", "decided_at", "version",
    }  # fmt: skip
    assert (found.exposure, found.case) == (None, None)


def test_a_version_that_is_not_above_the_last_changes_nothing(scene: Scene) -> None:
    board = Board("p", 1000)
    new, old = (one for one in (scene.decisions[-1], scene.decisions[0]) if one.sku == "A")
    for one in (new, old, new):
        past = Past(
            decided_ms=0, version=one.version, status=one.status, price_minor=None,
            wanted_minor=None, rival_minor=None, margin_pct=None, elasticity=None,
            return_rate=None, trigger=None,
        )  # fmt: skip
        board.decide([Decided("A", one.version, msgspec.json.encode(one), past, judged(one))])
    assert board.decision("A") == new
    assert [one["version"] for one in board.histories.of("A")] == [3]
    assert board.cursor == "p-2"  # its row and the number of exceptions


def test_what_was_put_off_is_computed_and_not_over_something_newer(scene: Scene) -> None:
    board = Board("p", 1000)
    past = Past(
        decided_ms=0, version=0, status="held", price_minor=None, wanted_minor=None,
        rival_minor=None, margin_pct=None, elasticity=None, return_rate=None, trigger=None,
    )  # fmt: skip
    old, new = scene.decisions[0], scene.decisions[-1]
    board.decide([Decided("A", old.version, msgspec.json.encode(old), past, None)])
    assert board.rows() == []
    assert [sku for sku, _ in board.unjudged()] == ["A"]
    board.decide([Decided("A", new.version, msgspec.json.encode(new), past, judged(new))])
    assert board.unjudged() == []
    board.judge([("A", judged(old))])
    assert [row[COLUMNS.index("version")] for row in board.rows()] == [3]


# -- its stream


def test_a_reader_who_is_behind_gets_each_subject_once_and_none_is_lost() -> None:
    subjects = Subjects("p")
    for number in range(5):
        subjects.changed("row", f"S{number % 2}", lambda number=number: b"%d" % number)
    assert subjects.since(0) == (
        b"event: row\nid: p-4\ndata: 3\n\nevent: row\nid: p-5\ndata: 4\n\n", 5,
    )  # fmt: skip
    assert subjects.since(4) == (b"event: row\nid: p-5\ndata: 4\n\n", 5)
    assert subjects.since(5) == (b"", 5)
    subjects.changed("row", "gone", lambda: None)
    assert subjects.since(5) == (b"", 6)


def test_a_chunk_has_an_end_and_the_next_goes_on_there() -> None:
    subjects = Subjects("p")
    for number in range(1200):
        subjects.changed("row", number, lambda number=number: b"%d" % number)
    place, told = 0, []
    for _ in range(4):
        frames, place = subjects.since(place)
        told.append(frames.count(b"event:"))
    assert (told, place) == ([500, 500, 200, 0], 1200)


@pytest.mark.parametrize("name", ["q-1", "p-7", "p-", "p", "p-x", "p--1", "p-" + "9" * 30])
def test_places_of_another_process_are_none(name: str) -> None:
    subjects = Subjects("p")
    subjects.changed("row", "A", lambda: b"1")
    assert subjects.read(name) is None
    assert subjects.read("p-1") == 1


# -- exceptions


def test_exceptions_are_those_of_the_command_with_their_kind_in_words(
    desk: ShownDesk, scene: Scene, tmp_path: Any
) -> None:
    file = tmp_path / "decisions.jsonl"
    file.write_bytes(b"\n".join(msgspec.json.encode(one) for one in scene.decisions))
    said = CliRunner().invoke(cli, ["exceptions", "--from", str(file), "--json"])
    by_command = msgspec.json.decode(said.stdout)["exceptions"]

    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/exceptions")).json()
        labels = {one["sku"]: one.pop("label") for one in found["exceptions"]}
        blocked, *others = found["exceptions"]
        assert others == by_command
        assert labels == {"C": "can't be priced", "A": "waits for approval"}
        assert (found["found"], blocked["kind"]) == (2, BLOCKED)
        first = (await client.get("/v1/desk/exceptions?limit=1")).json()
        assert [one["sku"] for one in first["exceptions"]] == ["C"]
        wrong = await client.get("/v1/desk/exceptions?limit=0")
        assert code_of(wrong) == (400, "invalid_request")

    ask(question, desk)


def drift(sku: str, day: int) -> Alert:
    return Alert(
        alert_id=f"drift-{day}", kind="drift", sku=sku, at=f"2026-01-{day:02d}T00:00:00.000Z",
        message="demand fell", evidence={}, tape=TapePosition(0, 99),
    )  # fmt: skip


def test_drift_is_an_exception_for_a_week_of_the_alerts_time(kernel: Kernel, scene: Scene) -> None:
    published = [one for one in scene.decisions if one.sku == "B"]
    desk = ShownDesk(ShownPrices(), kernel, published, [drift("B", 10)], FAMILIES)

    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/exceptions")).json()["exceptions"]
        assert [(one["sku"], one["kind"], one["reasons"]) for one in found] == [
            ("B", "drift", ["demand fell"])
        ]
        desk.alert(drift("ELSEWHERE", 18))
        found = (await client.get("/v1/desk/exceptions")).json()["exceptions"]
        assert [one for one in found if one["sku"] == "B"] == []

    ask(question, desk)


# -- breakers


def test_breakers_that_are_not_closed_and_the_catalogues(desk: ShownDesk) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/breakers")).json()
        assert found["switch"] == {
            "on": False, "actor": None, "reason": None, "at": None, "expires_at": None,
        }  # fmt: skip
        assert [
            (one["scope"], one["state"], one["reasons"], one["products"])
            for one in found["breakers"]
        ] == [
            ({"kind": "catalogue", "name": None}, "CLOSED", [], 3),
            ({"kind": "family", "name": "F"}, "OPEN", ["manual trip"], 2),
            ({"kind": "sku", "name": "B"}, "OPEN", ["by kim: drill"], 1),
        ]
        assert [(one["scope"]["kind"], one["from"], one["to"]) for one in found["timeline"]] == [
            ("family", "CLOSED", "OPEN"),
            ("sku", "CLOSED", "OPEN"),
        ]

    ask(question, desk)


def moved(partition: int, offset: int, states: list[str], **evidence: Any) -> Alert:
    found = {"scope": "catalogue", "name": None, "states": states, "reasons": ["r"], **evidence}
    return Alert(
        alert_id=f"{partition}-{offset}", kind="breaker_changed", sku=None,
        at=f"2026-01-10T00:00:{offset % 60:02d}.000Z", message="catalogue: moved", evidence=found,
        tape=TapePosition(partition, offset),
    )  # fmt: skip


def test_the_catalogue_stands_as_the_worst_of_its_partitions() -> None:
    board = BreakerBoard()
    board.take(moved(1, 5, ["CLOSED", "OPEN"]))
    board.take(moved(0, 6, ["CLOSED", "OPEN", "HALF_OPEN"]))
    assert board.take(moved(1, 4, ["OPEN", "CLOSED"])) is None  # it came late
    found = board.entry("catalogue", None, 7)
    assert (found["state"], found["products"]) == ("OPEN", 7)
    assert [(p["partition"], p["state"]) for p in found["evidence"]["partitions"]] == [
        (0, "HALF_OPEN"),
        (1, "OPEN"),
    ]
    assert [one["at"][17:19] for one in board.timeline()] == ["06", "05", "04"]


def test_the_timeline_has_an_end() -> None:
    board = BreakerBoard()
    for offset in range(TIMELINE_MAX + 50):
        board.take(moved(0, offset, ["CLOSED", "OPEN"]))
    assert len(board.timeline()) == TIMELINE_MAX


# -- portfolio


def test_the_portfolio_adds_up_money_within_a_currency(desk: ShownDesk, scene: Scene) -> None:
    last = {one.sku: one for one in scene.decisions}

    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/portfolio?by=currency")).json()
        (group,) = found["groups"]
        assert (found["unknown"], group["name"], group["products"]) == (0, "EUR", 2)
        expected = sum(
            price * one.greeks.delta
            for one, price in ((last["A"], 900), (last["B"], 796))
            if one.greeks is not None
        )
        assert group["price_delta_minor"] == pytest.approx(expected, rel=1e-12)
        by_family = (await client.get("/v1/desk/portfolio?by=family")).json()["groups"]
        assert [one["name"] for one in by_family] == ["A", "F"]
        total = sum(one["sigma_vega_minor"] for one in by_family)
        assert total == pytest.approx(group["sigma_vega_minor"], rel=1e-12)
        wrong = await client.get("/v1/desk/portfolio?by=colour")
        assert code_of(wrong) == (400, "invalid_request")

    ask(question, desk)


def test_currencies_are_not_mixed_and_what_is_unknown_is_counted(scene: Scene) -> None:
    euro = scene.decisions[0]
    dollar = msgspec.structs.replace(euro, sku="D", currency="USD")
    bare = msgspec.structs.replace(euro, sku="E", record=None, greeks=None)
    found = [judged(one) for one in (euro, dollar, bare)]
    sums = portfolio([(one.row, one) for one in found], "category")
    assert [(one["name"], one["currency"], one["products"]) for one in sums["groups"]] == [
        ("lamps", "EUR", 1),
        ("lamps", "USD", 1),
    ]
    assert sums["unknown"] == 1


# -- a product


def test_a_product(desk: ShownDesk, scene: Scene) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/products/A")).json()
        assert found["decision"] == plain(scene.decisions[-1])
        assert found["price"] == msgspec.to_builtins(price("A", 2, price_minor=1000))
        told = [(one["version"], one["status"], one["wanted_minor"]) for one in found["history"]]
        assert told == [(1, "published", 1000), (2, "published", 1000), (3, "held", 900)]
        assert [step["name"] for step in found["waterfall"]][:2] == [
            "frictionless optimum", "with stock and risk",
        ]  # fmt: skip
        assert found["waterfall"][0]["why"] == "best price with endless stock and no risk"
        assert "It does not go out: approval: it moves by -10.0%" in found["text"]
        assert (found["blocked"], found["drift"]) == (None, None)
        blocked = (await client.get("/v1/desk/products/C")).json()
        assert (blocked["decision"], blocked["price"], blocked["history"]) == (None, None, [])
        assert blocked["blocked"] == "no unit cost is known, so there is no floor"
        assert blocked["text"].startswith("NOT PRICED: no unit cost is known")
        unknown = await client.get("/v1/desk/products/NOPE")
        assert code_of(unknown) == (404, "unknown_sku")

    ask(question, desk)


def test_the_text_is_that_of_the_explain_command(desk: ShownDesk, scene: Scene) -> None:
    offer = DiscountOffered(
        discount_id="d", sku="B", segment="new", status="offered", amount_minor=50, currency="EUR",
        list_price_minor=796, discounted_minor=746, market=None, disclosure=None,
        valid_from="2026-01-05T00:00:00.000Z", valid_until=None, reasons=(), evidence=None,
        tape=TapePosition(0, 1), engine="e", policy_sha256="p",
    )  # fmt: skip
    decision = [one for one in scene.decisions if one.sku == "B"][-1]
    trip = next(one for one in scene.alerts if one.sku == "B")
    found = Explanation(
        sku="B", decision=decision, blocked=None, breaker=f"{trip.at}: {trip.message}",
        discounts=(offer,),
    )  # fmt: skip
    lines = io.StringIO()
    Console(file=lines, width=100, highlight=False, markup=False).print(explanation_text(found))

    async def question(client: httpx.AsyncClient) -> None:
        desk.offer(offer)
        text = (await client.get("/v1/desk/products/B")).json()["text"]
        assert text == lines.getvalue()
        assert "CLOSED -> OPEN by kim: drill" in text
        assert "Discounts beside the list price" in text

    ask(question, desk)


def test_a_past_decision_comes_back_as_it_was() -> None:
    histories = Histories(1000)
    whole = Past(
        decided_ms=1_767_571_200_000, version=7, status="reverted", price_minor=2**40,
        wanted_minor=0, rival_minor=1250.55, margin_pct=39.914, elasticity=-2.67895,
        return_rate=0.1, trigger="cost",
    )  # fmt: skip
    histories.add("A", whole)
    empty = Past(
        decided_ms=0, version=8, status="held", price_minor=None, wanted_minor=None,
        rival_minor=None, margin_pct=None, elasticity=None, return_rate=None, trigger=None,
    )  # fmt: skip
    histories.add("A", empty)
    first, second = histories.of("A")
    assert first == {
        "decided_at": "2026-01-05T00:00:00.000Z", "version": 7, "status": "reverted",
        "price_minor": 2**40, "wanted_minor": 0, "rival_minor": 1250.55, "margin_pct": 39.914,
        "elasticity": -2.67895, "return_rate": 0.1, "trigger": "cost",
    }  # fmt: skip
    assert {name for name, value in second.items() if value is None} == {
        "price_minor", "wanted_minor", "rival_minor", "margin_pct", "elasticity", "return_rate",
        "trigger",
    }  # fmt: skip


def test_histories_share_their_room() -> None:
    histories = Histories(records_max=4 * PER_SKU_MIN)
    for version in range(300):
        for sku in ("A", "B"):
            histories.add(sku, past(version))
    assert [one["version"] for one in histories.of("A")] == list(range(200, 300))
    for sku in ("C", "D", "E", "F", "G", "H"):
        histories.add(sku, past(1))
    histories.add("A", past(300))
    assert [one["version"] for one in histories.of("A")] == list(range(251, 301))


def past(version: int) -> Past:
    return Past(
        decided_ms=0, version=version, status="published", price_minor=1, wanted_minor=1,
        rival_minor=None, margin_pct=1.0, elasticity=-2.0, return_rate=0.1, trigger="epoch",
    )  # fmt: skip


# -- curve and what if


def test_the_curve_says_what_the_record_says(desk: ShownDesk, scene: Scene) -> None:
    record = scene.decisions[-1].record
    assert record is not None

    async def question(client: httpx.AsyncClient) -> None:
        found = (await client.get("/v1/desk/products/A/curve")).json()
        prices, objective = found["price_minor"], found["objective_per_day_minor"]
        assert (len(prices), len(objective), found["currency"]) == (120, 120, "EUR")
        assert prices == sorted(prices)
        chosen, optimum = found["chosen"], found["optimum"]
        assert chosen["price_minor"] == 900.0
        assert chosen["objective_per_day_minor"] == pytest.approx(
            record.objective_per_day_minor, rel=1e-9
        )
        for name, value in plain(scene.decisions[-1].greeks).items():
            expected = value if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)
            assert chosen["greeks"][name] == expected, name
        steps = {step.name: step for step in record.steps}
        best = steps["with stock and risk"]
        assert optimum["price_minor"] == pytest.approx(best.price_minor, rel=1e-9)
        assert optimum["objective_per_day_minor"] >= max(objective) - 1e-9
        near = float(np.interp(900.0, prices, objective))
        assert near == pytest.approx(chosen["objective_per_day_minor"], rel=1e-3)
        bounds = [(clamp.guard, clamp.bound_minor) for clamp in record.clamps]
        assert [(one["guard"], one["bound_minor"]) for one in found["clamps"]] == bounds
        assert (found["lower_minor"], found["upper_minor"]) == (900.0, None)

    ask(question, desk)


async def whatif(client: httpx.AsyncClient, **conditions: Any) -> dict[str, Any]:
    answer = await client.post("/v1/desk/products/A/whatif", json=conditions, headers=DESK)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_if(desk: ShownDesk) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        as_is = await whatif(client)
        assert as_is["price_minor"] == as_is["best_price_minor"]
        assert as_is["objective_per_day_minor"] == as_is["best_objective_per_day_minor"]
        assert as_is["present"]["price_minor"] == 1000.0
        at_price = await whatif(client, price_minor=1000.0)
        shown = {name: at_price[name] for name in as_is["present"]}
        assert shown == as_is["present"] == at_price["present"]
        dearer = await whatif(client, unit_cost_minor=600.0)
        assert dearer["best_price_minor"] > as_is["best_price_minor"]
        assert dearer["best_objective_per_day_minor"] < as_is["best_objective_per_day_minor"]
        bump, slope = 1e-3, as_is["greeks"]["cost_slope"]
        moved = await whatif(client, unit_cost_minor=500.0 + bump, price_minor=as_is["price_minor"])
        rise = moved["objective_per_day_minor"] - as_is["objective_per_day_minor"]
        assert rise * 7.0 / bump == pytest.approx(slope, rel=1e-4)
        elastic = await whatif(client, elasticity=-4.0)
        assert elastic["best_price_minor"] < as_is["best_price_minor"]
        returned = await whatif(client, return_rate=0.4)
        assert returned["present"]["return_rate"] == pytest.approx(0.4, rel=1e-12)
        short = await whatif(client, stock_units=1.0, horizon_days=7.0)
        assert short["expected_units_per_day"] * 7.0 <= 1.0
        assert short["greeks"]["rho"] > 0.0

    ask(question, desk)


@pytest.mark.parametrize(
    ("conditions", "code", "field"),
    [
        ({"price_minor": 0}, "invalid_request", "price_minor"),
        ({"elasticity": 0.5}, "invalid_request", "elasticity"),
        ({"colour": 1}, "invalid_request", "colour"),
        ({"return_rate": 0.95}, "return_rate_beyond", "return_rate"),
    ],
)
def test_conditions_that_can_not_be(desk: ShownDesk, conditions, code, field) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        path = "/v1/desk/products/A/whatif"
        found = await client.post(path, json=conditions, headers=DESK)
        assert (found.status_code, found.json()["error"]["code"]) == (400, code)
        assert found.json()["error"]["field"] == field

    ask(question, desk)


def test_without_a_decision_there_is_no_curve(desk: ShownDesk) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        for sku in ("C", "NOPE"):
            found = await client.get(f"/v1/desk/products/{sku}/curve")
            assert code_of(found) == (404, "unknown_sku")

    ask(question, desk)


# -- steering


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Events that went to ``controls``."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        controls, "send", lambda settings, event: found.append(msgspec.to_builtins(event))
    )
    return found


CATALOGUE = {"kind": "catalogue"}
COMMANDS = [
    ("breakers/trip", {"scope": {"kind": "sku", "name": "A"}}, "breaker_trip",
     {"kind": "sku", "name": "A"}),
    ("breakers/reset", {"scope": {"kind": "family", "name": "F"}}, "breaker_reset",
     {"kind": "family", "name": "F"}),
    ("breakers/trip", {"scope": CATALOGUE}, "breaker_trip", {"kind": "catalogue", "name": None}),
    ("kill-switch", {"on": True}, "kill_switch_on", {"kind": "catalogue", "name": None}),
    ("kill-switch", {"on": False}, "kill_switch_off", {"kind": "catalogue", "name": None}),
    ("approvals", {"sku": "A", "price_id": "0-5-A", "answer": "approve"}, "approve",
     {"kind": "sku", "name": "A"}),
    ("approvals", {"sku": "A", "price_id": "0-5-A", "answer": "reject"}, "reject",
     {"kind": "sku", "name": "A"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "command", "scope"), COMMANDS)
def test_commands_go_on_the_tape_with_who_and_why(
    desk: ShownDesk, sent, path, body, command, scope
) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        body["reason"] = "  costs are wrong "
        answer = await client.post(f"/v1/desk/{path}", json=body, headers=bearer("operator"))
        assert answer.status_code == 200, answer.text
        (event,) = sent
        assert answer.json() == {"event_id": event["event_id"], "sent": True}
        told = {name: event[name] for name in ("command", "actor", "reason", "scope")}
        assert told == {
            "command": command, "actor": "operator", "reason": "costs are wrong", "scope": scope,
        }  # fmt: skip
        assert event.get("price_id") == body.get("price_id")

    ask(question, desk, tokens=token_settings())


REFUSED = [
    # why, path, body, who, status, code
    ("the role read may not", "kill-switch", {"on": True, "reason": "drill"}, "reader", 403,
     "role_missing"),
    ("no reason", "kill-switch", {"on": True}, "boss", 400, "invalid_request"),
    ("a reason of nothing", "kill-switch", {"on": True, "reason": "    "}, "boss", 400,
     "invalid_request"),
    ("a typing error", "kill-switch", {"on": True, "reason": "drill", "of": 1}, "boss", 400,
     "invalid_request"),
    ("a product without a name", "breakers/trip", {"scope": {"kind": "sku"}, "reason": "drill"},
     "boss", 400, "invalid_scope"),
    ("a catalogue with a name", "breakers/trip",
     {"scope": {"kind": "catalogue", "name": "A"}, "reason": "drill"}, "boss", 400,
     "invalid_scope"),
    ("no such product", "breakers/trip",
     {"scope": {"kind": "sku", "name": "NOPE"}, "reason": "drill"}, "boss", 404, "unknown_sku"),
    ("no such family", "breakers/reset",
     {"scope": {"kind": "family", "name": "NOPE"}, "reason": "drill"}, "boss", 404,
     "unknown_family"),
    ("it does not wait any more", "approvals",
     {"sku": "A", "price_id": "0-4-A", "answer": "approve", "reason": "drill"}, "boss", 409,
     "nothing_waits"),
    ("it was published", "approvals",
     {"sku": "B", "price_id": "0-4-B", "answer": "reject", "reason": "drill"}, "boss", 409,
     "nothing_waits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "who", "status", "code"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_commands_that_are_refused(desk: ShownDesk, sent, path, body, who, status, code) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        answer = await client.post(f"/v1/desk/{path}", json=body, headers=bearer(who))
        assert (code_of(answer), sent) == ((status, code), [])

    ask(question, desk, tokens=token_settings())


def test_another_site_can_not_steer_on_a_machine_without_tokens(desk: ShownDesk, sent) -> None:
    async def question(client: httpx.AsyncClient) -> None:
        body = {"on": True, "reason": "drill"}
        answer = await client.post("/v1/desk/kill-switch", json=body)
        assert (code_of(answer), sent) == ((403, "not_from_the_desk"), [])
        answer = await client.post("/v1/desk/kill-switch", json=body, headers=DESK)
        assert (answer.status_code, sent[0]["actor"]) == (200, "local")

    ask(question, desk)


def test_a_command_that_the_broker_does_not_confirm(desk: ShownDesk, monkeypatch) -> None:
    def away(settings: Any, event: Any) -> None:
        raise ServiceError("delivery_unconfirmed", "1 of 1 records were not confirmed.")

    monkeypatch.setattr(controls, "send", away)

    async def question(client: httpx.AsyncClient) -> None:
        body = {"on": True, "reason": "drill"}
        answer = await client.post("/v1/desk/kill-switch", json=body, headers=DESK)
        assert code_of(answer) == (503, "not_confirmed")
        assert answer.headers["retry-after"] == "5"
        again = await client.get("/v1/desk/breakers")
        assert again.status_code == 200

    ask(question, desk)


def test_while_the_board_is_being_read_the_desk_says_so(desk: ShownDesk) -> None:
    desk.caught_up = False

    async def question(client: httpx.AsyncClient) -> None:
        for path in ("catalogue", "stream", "exceptions", "breakers", "portfolio", "products/A"):
            assert code_of(await client.get(f"/v1/desk/{path}")) == (503, "not_ready")
        assert (await client.get("/v1/prices/A")).status_code == 200

    ask(question, desk)
