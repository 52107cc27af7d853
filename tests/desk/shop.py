"""A shop in memory that answers as the gateway does, for the desk's tests: no broker, no worker."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from models.kernel.objective import PADDING, Row
from models.kernel.tile import Kernel
from models.pricing.ledger import STAYS, exceptions, left_on_table
from schemas.outputs import PriceDecided
from streams.config import load_settings
from streams.explain.explanation_text import explanation_group, step_words
from streams.explain.ledger_text import CASE_WORDS
from streams.worker.engines import warm_kernel

RECORDED = Path(__file__).parent / "decisions.jsonl.gz"
COLUMNS = (
    "sku", "category", "family", "status", "price_minor", "currency", "margin_pct", "elasticity",
    "elasticity_low", "elasticity_high", "return_rate", "stock_units", "stock_cover_days", "delta",
    "gamma", "vega", "scaled_delta", "profit_per_day_minor", "left_on_table_per_day_minor",
    "breaker", "held_by", "orders", "decided_at", "version",
)  # fmt: skip
CURVE_POINTS = 121
GOODBYE = "goodbye"  # ends the streams, is not sent
WAITING = ("BAC-00006",)
NOW = "2025-02-20T00:00:00.000Z"


@cache
def kernel() -> Kernel:
    """The compiled kernels, once."""
    return warm_kernel(load_settings(None, {}).engine.compilation_cache_dir)


@cache
def recorded() -> tuple[PriceDecided, ...]:
    """Decisions that a replay of a simulated shop wrote, in tape order."""
    with gzip.open(RECORDED) as file:
        return tuple(msgspec.json.decode(line, type=PriceDecided) for line in file)


def held_by(decision: PriceDecided) -> str | None:
    """What holds a decision, in the words of the exceptions."""
    if decision.status == "published":
        return None
    found = exceptions([decision], {}, {})
    return CASE_WORDS[found[0].kind] if found else None


def row_of(decision: PriceDecided) -> list[Any]:
    """A decision as a row of the catalogue, by COLUMNS."""
    record, greeks = decision.record, decision.greeks
    assert record is not None
    assert greeks is not None
    stock, demand = record.stock, record.demand
    daily = stock.expected_sales_units / stock.horizon_days
    cover = None if stock.sellable_units is None or not daily else stock.sellable_units / daily
    total = record.objective_per_day_minor * stock.horizon_days
    scaled = greeks.delta * decision.price_minor / total if decision.price_minor and total else None
    return [
        decision.sku, record.category, decision.sku, decision.status, decision.price_minor,
        decision.currency, decision.margin_pct, demand.elasticity, demand.elasticity_low,
        demand.elasticity_high, record.returns.rate, stock.sellable_units, cover, greeks.delta,
        greeks.gamma, greeks.vega, scaled, record.expected_profit_per_day_minor,
        left_on_table(decision), record.breaker.state, held_by(decision), demand.orders,
        decision.decided_at, decision.version,
    ]  # fmt: skip


class Shop:
    """What the gateway would know, and what it was told to do.

    ``products`` above what was recorded are copies under other names. ``sent`` has the steering
    requests. :meth:`push` sends an event to every page that listens.
    """

    def __init__(self, products: int | None = None) -> None:
        self.history: dict[str, list[PriceDecided]] = {}
        for decision in recorded():
            self.history.setdefault(decision.sku, []).append(decision)
        self._await_approval()
        self.last = {sku: found[-1] for sku, found in self.history.items()}
        self.rows = {sku: row_of(one) for sku, one in self.last.items()}
        self._enlarge(products or 0)
        self.blocked = {"LAM-90001": "no unit cost is known"}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.switch: dict[str, Any] = {"on": False, "actor": None, "reason": None, "at": None}
        self.breakers: list[dict[str, Any]] = [
            breaker("catalogue", None, "CLOSED", (), len(self.rows))
        ]
        self.breakers += [
            breaker("sku", sku, one.record.breaker.state, one.record.breaker.reasons, 1)
            for sku, one in self.last.items()
            if one.record is not None and one.record.breaker.state != "CLOSED"
        ]
        self.timeline: list[dict[str, Any]] = []
        self.session: dict[str, str] | None = {"actor": "local", "role": "admin"}
        self.token = ("ann", "operate")
        self.lag = lag_document(2)
        self.ready = True
        self._queues: set[asyncio.Queue[tuple[str, str, str]]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cursor = 0

    def _await_approval(self) -> None:
        """One price waits for a person, as under a policy that asks for large moves."""
        for sku in WAITING:
            decision = self.history[sku][-1]
            assert decision.price_minor is not None
            self.history[sku][-1] = msgspec.structs.replace(
                decision,
                status="held",
                wanted_minor=round(decision.price_minor * 1.12),
                reasons=("approval: a move of 12.0 % is not below 10.0 %",),
            )

    def _enlarge(self, products: int) -> None:
        whole = list(self.rows.values())
        for number in range(len(whole), products):
            row = list(whole[number % len(whole)])
            row[0] = f"{row[0]}-{number:05}"
            for column in (4, 6, 17, 18):
                if row[column] is not None:
                    row[column] = round(row[column] * (0.5 + (number * 7919 % 1000) / 1000.0), 3)
            row[4] = int(row[4])
            self.rows[row[0]] = row

    # -- live

    def push(self, event: str, data: Any) -> None:
        """Send an event to all pages; callable from any thread."""
        self._cursor += 1
        message = (event, json.dumps(data), f"0:{self._cursor}")
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._deliver, message)

    def _deliver(self, message: tuple[str, str, str]) -> None:
        for queue in self._queues:
            queue.put_nowait(message)

    async def listen(self) -> AsyncIterator[dict[str, str]]:
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield {"event": "switch", "data": json.dumps(self.switch), "id": f"0:{self._cursor}"}
            yield {"event": "lag", "data": json.dumps(self.lag)}
            while True:
                event, data, number = await queue.get()
                if event == GOODBYE:
                    return
                yield {"event": event, "data": data, "id": number}
        finally:
            self._queues.discard(queue)

    def drop(self) -> None:
        """End all event streams, as a gateway that restarts does."""
        self.push(GOODBYE, None)

    # -- views

    def catalogue(self) -> dict[str, Any]:
        rows = [[*row] for row in self.rows.values()]
        return {
            "cursor": f"0:{self._cursor}",
            "currencies": sorted({row[5] for row in rows}),
            "columns": COLUMNS,
            "rows": rows,
        }

    def cases(self, limit: int) -> dict[str, Any]:
        found = exceptions(self.last.values(), self.blocked, {})
        shown = [
            {**msgspec.to_builtins(case), "label": CASE_WORDS[case.kind]} for case in found[:limit]
        ]
        return {"found": len(found), "exceptions": shown}

    def product(self, sku: str) -> dict[str, Any]:
        history = self.history[sku]
        decision = history[-1]
        record = decision.record
        console = Console(width=100)
        with console.capture() as captured:
            console.print(explanation_group(decision, self.blocked.get(sku), None, ()))
        shown = None
        if decision.price_minor is not None:
            shown = {name: getattr(decision, name) for name in (
                "sku", "version", "price_id", "price_minor", "previous_minor", "currency",
                "status", "effective_from", "valid_until", "decided_at",
            )}  # fmt: skip
        return {
            "decision": msgspec.to_builtins(decision),
            "price": shown,
            "history": [moment(one) for one in history],
            "waterfall": waterfall(decision),
            "text": captured.get(),
            "passport": None if record is None else msgspec.to_builtins(record.passport),
            "blocked": self.blocked.get(sku),
            "drift": None,
        }

    def portfolio(self, by: str) -> dict[str, Any]:
        groups: dict[tuple[str, str], list[PriceDecided]] = {}
        for one in self.last.values():
            assert one.record is not None
            name = {
                "category": one.record.category, "family": one.sku, "currency": one.currency,
                "breaker": one.record.breaker.state,
            }[by]  # fmt: skip
            groups.setdefault((name, one.currency), []).append(one)
        return {"groups": [group(*key, ones) for key, ones in sorted(groups.items())], "unknown": 1}

    # -- by the kernel

    def curve(self, sku: str) -> dict[str, Any]:
        decision, row, unit = self._problem(sku, {})
        assert decision.record is not None
        assert decision.price_minor is not None
        days = decision.record.stock.horizon_days
        chosen = decision.price_minor / unit
        best = kernel().solve([row])[0].price
        low, high = 0.6 * min(chosen, best), 1.4 * max(chosen, best)
        prices = [low + (high - low) * index / (CURVE_POINTS - 1) for index in range(CURVE_POINTS)]
        at = kernel().evaluate([row] * 2, [[*prices, chosen], [best]])
        units = kernel().evaluate([row] * CURVE_POINTS, [[price] for price in prices])
        return {
            "currency": decision.currency,
            "price_minor": [price * unit for price in prices],
            "objective_per_day_minor": [one * unit / days for one in at[0].objectives[:-1]],
            "expected_units_per_day": [one.expected_sales / days for one in units],
            "chosen": {
                "price_minor": decision.price_minor,
                "objective_per_day_minor": at[0].objectives[-1] * unit / days,
                "greeks": msgspec.to_builtins(decision.greeks),
            },
            "optimum": {
                "price_minor": best * unit,
                "objective_per_day_minor": at[1].objectives[-1] * unit / days,
                "greeks": None,
            },
            "lower_minor": None,
            "upper_minor": None,
            "clamps": msgspec.to_builtins(decision.record.clamps),
        }

    def whatif(self, sku: str, changes: dict[str, float]) -> dict[str, Any]:
        decision, row, unit = self._problem(sku, changes)
        _, present_row, _ = self._problem(sku, {})
        assert decision.price_minor is not None
        best = kernel().solve([row])[0].price
        asked = changes.get("price_minor", best * unit) / unit
        now = decision.price_minor / unit
        at, top, present = kernel().evaluate([row, row, present_row], [[asked], [best], [now]])
        days, present_days = row.horizon_days, present_row.horizon_days
        return {
            **valued(at, asked, unit, days),
            "best_price_minor": best * unit,
            "best_objective_per_day_minor": top.objectives[-1] * unit / days,
            "present": valued(present, now, unit, present_days),
        }

    def _problem(self, sku: str, changes: dict[str, float]) -> tuple[PriceDecided, Row, float]:
        decision = self.last[sku]
        assert decision.record is not None
        unit = float(decision.record.demand.reference_price_minor)
        row = Row(**{**PADDING._asdict(), "lower": 0.2, "upper": 5.0, **decision.record.inputs})
        if "unit_cost_minor" in changes:
            row = row._replace(unit_cost=changes["unit_cost_minor"] / unit)
        if "stock_units" in changes:
            row = row._replace(stock=changes["stock_units"], unlimited=0.0)
        kept = {name: changes[name] for name in ("elasticity", "horizon_days") if name in changes}
        return decision, row._replace(**kept), unit


def moment(one: PriceDecided) -> dict[str, Any]:
    """A decision as an entry of the product's history."""
    record = one.record
    assert record is not None
    return {
        "decided_at": one.decided_at,
        "version": one.version,
        "status": one.status,
        "price_minor": one.price_minor,
        "wanted_minor": one.wanted_minor,
        "rival_minor": record.competitors.robust_price_minor,
        "margin_pct": one.margin_pct,
        "elasticity": record.demand.elasticity,
        "return_rate": record.returns.rate,
        "trigger": record.trigger,
    }


def waterfall(decision: PriceDecided) -> list[dict[str, Any]]:
    """The steps from the best price to the decided one."""
    record = decision.record
    assert record is not None
    clamps = {f"guard {clamp.guard}": clamp for clamp in record.clamps}
    return [
        {
            "name": step.name,
            "price_minor": step.price_minor,
            "objective_per_day_minor": step.objective_per_day_minor,
            "why": STAYS
            if step.name == STAYS
            else step_words(decision, step.name, clamps.get(step.name)),
        }
        for step in record.steps
    ]


def valued(at: Any, price: float, unit: float, days: float) -> dict[str, Any]:
    """A price's value, in minor units."""
    return {
        "price_minor": price * unit,
        "objective_per_day_minor": at.objectives[-1] * unit / days,
        "expected_units_per_day": at.expected_sales / days,
        "margin_minor": at.margin * unit,
        "return_rate": at.return_rate,
        "profit_sd_minor": at.profit_sd * unit,
        "greeks": None,
    }


def group(name: str, currency: str, ones: list[PriceDecided]) -> dict[str, Any]:
    """Currency Greeks of some products, summed."""
    sums = dict.fromkeys(
        ("price_delta_minor", "price2_gamma_minor", "sigma_vega_minor", "theta_minor",
         "profit_per_day_minor", "left_on_table_per_day_minor"), 0.0,
    )  # fmt: skip
    for one in ones:
        assert one.greeks is not None
        assert one.record is not None
        price = float(one.price_minor or 0)
        sums["price_delta_minor"] += price * one.greeks.delta
        sums["price2_gamma_minor"] += price * price * one.greeks.gamma
        sums["sigma_vega_minor"] += one.record.inputs["demand_volatility"] * one.greeks.vega
        sums["theta_minor"] += one.greeks.theta
        sums["profit_per_day_minor"] += one.record.expected_profit_per_day_minor
        sums["left_on_table_per_day_minor"] += left_on_table(one) or 0.0
    return {"name": name, "currency": currency, "products": len(ones), **sums}


def breaker(
    kind: str, name: str | None, state: str, reasons: tuple[str, ...], products: int
) -> dict[str, Any]:
    """A line of the breaker board."""
    return {
        "scope": {"kind": kind, "name": name},
        "state": state,
        "reasons": list(reasons),
        "since": NOW,
        "evidence": {},
        "products": products,
    }


def lag_document(messages: int, status: str = "OK") -> dict[str, Any]:
    """The document of ``pricemaker lag --json`` for one group of one partition."""
    partition = {
        "topic": "tape",
        "partition": 0,
        "status": status,
        "offset_committed": 1000,
        "offset_end": 1000 + messages,
        "consumer_lag_messages": messages,
        "consumer_lag_ms": messages * 20,
        "rate_in": 50.0,
        "rate_out": None if messages else 50.0,
        "catch_up_s": None,
        "unknown": None,
    }
    never = {**dict.fromkeys(partition), "topic": "tape", "partition": 1, "offset_end": 0}
    group = {
        "group": "pricemaker",
        "state": "STABLE",
        "status": status,
        "members": 1,
        "topics_missing": [],
        "partitions": [partition, {**never, "unknown": "never committed"}],
        "consumer_lag_messages_sum": messages,
        "consumer_lag_ms_max": messages * 20,
        "catch_up_s": None,
    }
    return {"observed_at": NOW, "groups": [group], "freshness": None}
