"""20,000 products: only what is in view is drawn, and nothing freezes."""

import pytest
from selenium.webdriver.common.keys import Keys

from tests.desk.conftest import Desk
from tests.desk.shop import Shop

pytestmark = pytest.mark.chromium

PRODUCTS = 20_000
LONG_TASK_MS = 200
PASSES_MAX = 5  # a busy machine may hold up any task: the calmest of these counts
WATCH = """const seen = (list) => list.getEntries().forEach((one) => {
        window.longest = Math.max(window.longest, one.duration) });
    new PerformanceObserver(seen).observe({ type: 'longtask' });"""
SCROLL = """const done = arguments[0];
    const grid = document.querySelector('[role=grid]');
    let step = 0;
    const next = () => {
        grid.scrollTop = (grid.scrollHeight * (step * 37 % 100)) / 100;
        step += 1;
        if (step < 60) requestAnimationFrame(next);
        else requestAnimationFrame(() => requestAnimationFrame(() => done(step)));
    };
    next();"""


@pytest.fixture
def shop() -> Shop:
    return Shop(PRODUCTS)


def first(desk: Desk) -> str:
    return desk.texts(".grid-body [role=row]")[0].split()[0]


def scroll_sort_and_search(desk: Desk, shop: Shop) -> float:
    """What a person may do; the longest task of the page meanwhile, ms."""
    desk.run("window.longest = 0")
    for row in list(shop.rows.values())[:500]:  # a burst of live rows
        row[23] += 1
        shop.push("row", row)
    desk.wait(lambda: desk.run("return document.querySelectorAll('.fresh').length") > 0)
    assert desk.browser.execute_async_script(SCROLL) == 60
    desk.run("document.querySelector('[role=grid]').scrollTop = 0")
    for name, column in (("Margin", 6), ("Price", 4)):
        desk.click("[role=columnheader]", name)
        best = max(row[column] for row in shop.rows.values())
        leaders = {sku for sku, row in shop.rows.items() if row[column] == best}
        desk.wait(lambda found=leaders: first(desk) in found)
    desk.click("[role=columnheader]", "Product")
    desk.wait(lambda: first(desk) == min(shop.rows))
    search = desk.browser.find_element("id", "search")
    search.send_keys("lamps 0019")
    found = sum("0019" in sku and row[1] == "lamps" for sku, row in shop.rows.items())
    desk.shows(".shown", f"{found:,} of {PRODUCTS:,} products")
    search.send_keys(Keys.BACKSPACE * len("lamps 0019"))
    desk.shows(".shown", f"{PRODUCTS:,} of {PRODUCTS:,} products")
    return float(desk.run("return window.longest"))


def test_twenty_thousand_products(desk: Desk, shop: Shop) -> None:
    desk.open()
    desk.shows(".shown", f"{PRODUCTS:,} of {PRODUCTS:,} products")
    assert desk.run("return document.querySelectorAll('[role=row]').length") < 60
    desk.run(WATCH)
    longest = []
    while len(longest) < PASSES_MAX and not (longest and min(longest) < LONG_TASK_MS):
        longest.append(scroll_sort_and_search(desk, shop))
    assert min(longest) < LONG_TASK_MS
