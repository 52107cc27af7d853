"""20,000 products: only what is in view is drawn, and nothing that a person does freezes the page.

A step's cost is the CPU time of the page's main thread, which no other process of the machine can
stretch; the longest task of a step is below that.
"""

from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.desk.conftest import Desk
from tests.desk.shop import Shop

pytestmark = pytest.mark.chromium

PRODUCTS = 20_000
LONG_TASK_MS = 200
JUMPS = 8
LIVE_ROWS = 500
JUMP = """const done = arguments[1];
    const grid = document.querySelector('[role=grid]');
    grid.scrollTop = grid.scrollHeight * arguments[0];
    requestAnimationFrame(() => requestAnimationFrame(() => done(grid.scrollTop)));"""


@pytest.fixture
def shop() -> Shop:
    return Shop(PRODUCTS)


@pytest.fixture
def cost_ms(desk: Desk) -> Callable[[Callable[[], Any]], float]:
    """What a step costs the page's main thread, ms."""
    desk.browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def busy_s() -> float:
        told = desk.browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return float(next(one["value"] for one in told if one["name"] == "TaskDuration"))

    def of(step: Callable[[], Any]) -> float:
        before = busy_s()
        step()
        return 1000 * (busy_s() - before)

    return of


def first(desk: Desk) -> str:
    return desk.texts(".grid-body [role=row]")[0].split()[0]


def test_twenty_thousand_products(
    desk: Desk, shop: Shop, cost_ms: Callable[[Callable[[], Any]], float]
) -> None:
    desk.open()
    desk.shows(".shown", f"{PRODUCTS:,} of {PRODUCTS:,} products")
    assert desk.run("return document.querySelectorAll('[role=row]').length") < 60
    steps: dict[str, Callable[[], Any]] = {}

    for place in range(JUMPS):
        share = (place * 37 % 100) / 100
        steps[f"jump to {share:.0%}"] = lambda share=share: desk.browser.execute_async_script(
            JUMP, share
        )

    def sort(name: str, leaders: set[str]) -> None:
        desk.click("[role=columnheader]", name)
        desk.wait(lambda: first(desk) in leaders)

    steps["to the top"] = lambda: desk.browser.execute_async_script(JUMP, 0)
    rows = shop.rows()
    for name, column in (("Margin", "margin_pct"), ("Price", "price_minor")):
        best = max(row[column] for row in rows.values())
        leaders = {sku for sku, row in rows.items() if row[column] == best}
        steps[f"sort by {name}"] = lambda name=name, leaders=leaders: sort(name, leaders)
    steps["sort by product"] = lambda: sort("Product", {min(rows)})

    search = desk.browser.find_element("id", "search")
    for typed in ("l", "la", "lamps 0019"):
        found = sum(
            all(word in f"{sku} {row['category']}".lower() for word in typed.split())
            for sku, row in rows.items()
        )

        def look(typed: str = typed, found: int = found) -> None:
            search.send_keys(Keys.END, Keys.BACKSPACE * 12, typed)
            desk.shows(".shown", f"{found:,} of {PRODUCTS:,} products")

        steps[f"search for {typed!r}"] = look

    costs = {name: cost_ms(step) for name, step in steps.items()}
    assert {name: cost for name, cost in costs.items() if cost >= LONG_TASK_MS} == {}

    desk.go("catalogue?sort=sku")
    desk.wait(lambda: first(desk) == min(rows))
    live = sorted(rows)[:LIVE_ROWS]

    def burst() -> None:
        for number, sku in enumerate(live):
            shop.decide(sku, price_minor=100_000 + number)
        desk.shows(f"[data-id='{live[0]}']", "€1,000.00")
        desk.wait(lambda: desk.run("return document.querySelectorAll('.fresh').length") > 10)

    assert cost_ms(burst) < LIVE_ROWS  # a row costs less than a millisecond
