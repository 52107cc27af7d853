"""Tiered quotes under a Zipf load, in process and over HTTP, and the light model's error.

    python -m benchmarks.quotes [--redis URL] [--quotes N] [--rate N]

The light model is trained on a simulated shop (seed 101) and asked in others (seeds 1, 2, 3): how
far its prices are from the full engine's, before the guards and as quoted. The load asks products
by Zipf's law (exponent 1.1): two thirds for the price in force, the rest with a supposed cost or
stock or several units at once. Baseline: the full engine alone, with the same questions. Over HTTP
client and server share one process and its cores.
"""

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from benchmarks import harness
from models.fold.engine import PartitionEngine
from models.kernel.tile import Kernel
from models.quotes import warm
from models.quotes.full import Found, Wanted, answers
from models.quotes.standing import InForce
from models.quotes.warm import Kept
from models.simulator.simulator import Shop
from models.simulator.simulator_truth import ShopSettings
from schemas.errors import InputError
from schemas.quotes import Quote, QuoteRequest
from streams.quotes.full_engine import FullEngine
from streams.quotes.light_model import LightModel
from streams.quotes.metrics import QuoteMetrics
from streams.quotes.replica import Replica
from streams.quotes.router import quote_router
from streams.quotes.tiers import TieredQuotes
from streams.quotes.training import errors, rows_of, train
from streams.quotes.warm_store import RedisWarmStore
from streams.settings import Settings
from streams.tape.tape_builder import TapeBuilder
from streams.worker.engines import warm_kernel

PRODUCTS, DAYS = 250, 14
TRAIN_SEED, SEEDS = 101, (1, 2, 3)
EXPONENT, CLIENTS = 1.1, 4
COSTS, STOCKS, UNITS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2), (0, 3, 20, 200), (2, 5, 10)
TIERS = ("L1", "L2", "L3")


def folded(kernel: Kernel, seed: int) -> PartitionEngine:
    """A shop after some days, on one partition."""
    shop = Shop(seed, settings=ShopSettings(products=PRODUCTS, step_hours=6))
    builder, engine, records = TapeBuilder(1), PartitionEngine.new(0, kernel), 0
    for _ in range(DAYS * 4):
        prices = {
            sku: state.published_minor
            for sku, state in engine.state.skus.items()
            if state.published_minor is not None
        }
        batch = [
            placed.value
            for topic, value in shop.step(prices)
            for placed in builder.append(topic, value)
        ]
        engine.apply(list(enumerate(batch, records)), with_state=False)
        records += len(batch)
    return engine


class Book(NamedTuple):
    """A shop that is quoted: its state and the prices in force."""

    engine: PartitionEngine
    prices: dict[str, InForce]


def book_of(engine: PartitionEngine) -> Book:
    """Every product that has a price."""
    prices = {}
    for sku, state in engine.state.skus.items():
        if state.published_minor is not None and not engine.state.catalogue[sku].retired:
            currency = engine.state.catalogue[sku].currency
            prices[sku] = InForce(state.published_minor, f"0-0-{sku}", state.version, currency)
    return Book(engine, prices)


class Copy(Replica):
    """The replica of a state that stands still."""

    def __init__(self, book: Book) -> None:
        super().__init__(None, book.engine.kernel.fingerprint)
        self.states = {0: book.engine.state}

    def check(self) -> None:
        """It always is."""


class Drawer:
    """Warm products in memory, where no Redis is given."""

    why_not: str | None = None

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}

    async def get(self, sku: str) -> Kept | None:
        """The product."""
        return self.kept.get(sku)

    def put(self, kept: Kept) -> None:
        """Keep a product."""
        self.kept[kept.product.basis.sku] = kept


def load(book: Book, count: int, seed: int) -> list[QuoteRequest]:
    """Questions by Zipf's law over products."""
    rng = np.random.default_rng(seed)
    skus = rng.permutation(sorted(book.prices)).tolist()
    weights = np.arange(1, len(skus) + 1) ** -EXPONENT
    chosen = rng.choice(len(skus), count, p=weights / weights.sum())
    return [_question(book, skus[place], rng) for place in chosen.tolist()]


def _question(book: Book, sku: str, rng: np.random.Generator) -> QuoteRequest:
    kind = rng.random()
    if kind < 2 / 3:
        return QuoteRequest(sku=sku)
    cost = book.engine.state.catalogue[sku].unit_cost_minor or 1
    if kind < 0.85:
        return QuoteRequest(sku=sku, unit_cost_minor=max(int(cost * rng.choice(COSTS)), 1))
    if kind < 0.95:
        return QuoteRequest(sku=sku, stock_units=int(rng.choice(STOCKS)))
    return QuoteRequest(sku=sku, quantity=int(rng.choice(UNITS)))


class Seconds(QuoteMetrics):
    """Every answer's time, by tier."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, list[float]] = {tier: [] for tier in TIERS}

    def answered(self, tier: str, seconds: float) -> None:
        """Note one."""
        self.taken[tier].append(seconds)


def told(taken: dict[str, list[float]]) -> dict[str, Any]:
    """Share, mean, p50 and p99 of each tier that answered."""
    count = sum(map(len, taken.values()))
    return {
        tier: {"share": round(len(found) / count, 4), **harness.percentiles_ms(found)}
        for tier, found in taken.items()
        if found
    }


@contextlib.asynccontextmanager
async def tiers_of(
    book: Book, model: LightModel | None, redis_url: str | None, metrics: QuoteMetrics
) -> AsyncIterator[TieredQuotes]:
    """The tiers over a shop; without a model the full engine alone."""
    store: Any = None
    if model is not None:
        store = Drawer()
        if redis_url is not None:
            prefix = f"{harness.new_prefix()}:"
            store = RedisWarmStore(Settings(redis={"url": redis_url, "prefix": prefix}))
            store.open()
    copy = Copy(book)
    full = FullEngine(book.engine.kernel, copy, book.prices.get, store and store.put).start()
    quotes_max = 50_000 if model is not None else 1
    tiers = TieredQuotes(
        copy, full, store=store, model=model, metrics=metrics, quotes_max=quotes_max
    )
    try:
        yield tiers
    finally:
        full.close()
        if isinstance(store, RedisWarmStore):
            await store.close()


async def in_process(
    book: Book, model: LightModel | None, redis_url: str | None, asked: Sequence[QuoteRequest]
) -> dict[str, Any]:
    """Clients that ask one quote after the other, each as fast as it is answered."""
    metrics, questions, refused = Seconds(), iter(asked), 0

    async def client(tiers: TieredQuotes) -> None:
        nonlocal refused
        for request in questions:
            try:
                await tiers.quote(request)
            except InputError:
                refused += 1
            await asyncio.sleep(0)

    async with tiers_of(book, model, redis_url, metrics) as tiers:
        started = time.perf_counter()
        await asyncio.gather(*(client(tiers) for _ in range(CLIENTS)))
        seconds = time.perf_counter() - started
    return {
        "quotes_per_second": round(len(asked) / seconds), "refused": refused,
        "tiers": told(metrics.taken),
    }  # fmt: skip


async def over_http(
    book: Book, model: LightModel, redis_url: str | None, asked: Sequence[QuoteRequest], rate: float
) -> dict[str, Any]:
    """One question every 1/rate seconds, whether the last was answered or not."""
    taken: dict[str, list[float]] = {tier: [] for tier in TIERS}
    async with tiers_of(book, model, redis_url, QuoteMetrics()) as tiers:
        app = FastAPI()
        app.include_router(quote_router(lambda: tiers))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        found = await asyncio.to_thread(_clients, f"http://127.0.0.1:{port}", asked, rate, taken)
        server.should_exit = True
        await serving
    return {"asked_per_second": rate, "refused": found, "tiers": told(taken)}


def _clients(
    url: str, asked: Sequence[QuoteRequest], rate: float, taken: dict[str, list[float]]
) -> int:
    """Ask from a loop of its own; how many were refused."""
    return asyncio.run(_ask_at(url, asked, rate, taken))


async def _ask_at(
    url: str, asked: Sequence[QuoteRequest], rate: float, taken: dict[str, list[float]]
) -> int:
    refused = 0
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:

        async def one(request: QuoteRequest) -> None:
            nonlocal refused
            body = {
                name: value
                for name in request.__struct_fields__
                if (value := getattr(request, name)) is not None
            }
            began = time.perf_counter()
            answer = await client.post("/v1/quote", json=body)
            if answer.status_code == 200:
                taken[answer.json()["tier"]].append(time.perf_counter() - began)
            else:
                refused += 1

        started, running = time.perf_counter(), []
        for number, request in enumerate(asked):
            await asyncio.sleep(max(started + number / rate - time.perf_counter(), 0.0))
            running.append(asyncio.create_task(one(request)))
        await asyncio.gather(*running)
    return refused


def quoted_errors(book: Book, model: LightModel) -> dict[str, Any]:
    """L2's quoted prices against L3's where a cost or a stock is supposed, over all products."""
    off, passed, asked = [], 0, 0
    for sku, price in sorted(book.prices.items()):
        wanted = [Wanted(book.engine.state, request, price) for request in _supposing(book, sku)]
        kept = warm.products(
            book.engine.kernel, [Wanted(book.engine.state, wanted[0].request, price)]
        )
        for one, full in zip(wanted, answers(book.engine.kernel, wanted), strict=True):
            if not isinstance(full, Found) or not kept:
                continue
            asked += 1
            found = warm.answer(kept[0], one.request, model.predict)
            if isinstance(found, str):
                passed += 1
            else:
                off.append(_off(found.quote, full.quote))
    return {
        "quotes": asked, "passed_on_share": round(passed / asked, 4),
        "within_1_percent_share": float(np.mean(np.array(off) <= 0.01)),
        "equal_share": round(float(np.mean(np.array(off) == 0.0)), 4),
        "p99": float(np.quantile(off, 0.99)), "worst": max(off),
    }  # fmt: skip


def _supposing(book: Book, sku: str) -> list[QuoteRequest]:
    cost = book.engine.state.catalogue[sku].unit_cost_minor or 1
    costs = [QuoteRequest(sku=sku, unit_cost_minor=max(int(cost * by), 1)) for by in COSTS]
    return costs + [QuoteRequest(sku=sku, stock_units=units) for units in STOCKS]


def _off(found: Quote, full: Quote) -> float:
    return abs(found.price_minor / full.price_minor - 1.0)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis")
    parser.add_argument("--quotes", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=50.0)
    chosen = parser.parse_args()
    kernel = warm_kernel(Settings().engine.compilation_cache_dir)
    trained = train(kernel, rows_of([folded(kernel, TRAIN_SEED)]), TRAIN_SEED, "")
    model = LightModel(trained.content)
    by_seed: dict[str, Any] = {}
    book = None
    for seed in SEEDS:
        book = book_of(folded(kernel, seed))
        rows = rows_of([book.engine])
        before_guards = errors(kernel, model, rows, len(rows))
        by_seed[str(seed)] = {
            "before_guards": {
                name: getattr(before_guards, name) for name in before_guards.__struct_fields__
            },
            "as_quoted": quoted_errors(book, model),
        }
    assert book is not None
    asked = load(book, chosen.quotes, SEEDS[-1])
    warm_up = asked[: len(asked) // 10]
    asyncio.run(in_process(book, model, None, warm_up))
    http_asked = asked[: int(chosen.rate * 20)]
    harness.write_result(
        "quotes",
        {
            "machine": harness.machine("jax", "onnxruntime", "scikit-learn"),
            "products": len(book.prices), "redis": chosen.redis is not None,
            "held_out": {"train_seed": TRAIN_SEED, "seeds": by_seed},
            "in_process": asyncio.run(in_process(book, model, chosen.redis, asked)),
            "baseline_full_engine_alone": asyncio.run(in_process(book, None, None, asked)),
            "over_http": asyncio.run(
                over_http(book, model, chosen.redis, http_asked, chosen.rate)
            ),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
