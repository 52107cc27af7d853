"""The desk for everybody: axe's checks, by keyboard alone, on a phone, without motion."""

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from streams.edge.switch import SwitchState
from tests.desk.conftest import Desk
from tests.desk.shop import LIVES, Shop

pytestmark = pytest.mark.chromium

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
VIEWS = (
    "catalogue",
    "exceptions",
    "product/COO-00164",
    "approvals",
    "breakers",
    "portfolio",
    "lag",
)
PHONE_PX = 390


def findings(desk: Desk) -> list[Any]:
    """Rules that a view breaks, with where; axe by its default rules."""
    if not desk.run("return !!window.axe"):
        desk.run(AXE)
    script = """const done = arguments[0];
        const where = (node) => node.target.join(' ');
        const told = (one) => [one.id, one.impact, one.nodes.map(where).slice(0, 5)];
        axe.run(document, { resultTypes: ['violations'] })
            .then(({ violations }) => done(violations.map(told)));"""
    return [tuple(one) for one in desk.browser.execute_async_script(script)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(desk: Desk, shop: Shop, scheme: str) -> None:
    thrown = SwitchState(True, "ann", "a test", "2026-01-10T12:00:00.000Z")
    shop.on_loop(lambda: shop.desk.prices.switch._tell(thrown))
    found = {}
    desk.open(VIEWS[0], scheme)
    for view in VIEWS:
        desk.go(view)
        if view.startswith("product"):
            desk.shows(".best", "Best price")
            desk.wait(
                lambda: desk.run("return document.querySelectorAll('.plot canvas').length") == 2
            )
        if view == "breakers":  # with its dialog open
            assert findings(desk) == []
            desk.click("main button", "Trip a product or family…")
            desk.wait(lambda: desk.run("return !!document.querySelector('dialog[open]')"))
        found[view] = findings(desk)
        desk.press(Keys.ESCAPE)
    assert found == {view: [] for view in VIEWS}


@pytest.mark.parametrize("tokens", [True])
def test_axe_finds_nothing_at_the_login(desk: Desk) -> None:
    desk.failures_expected = True  # the 401 is in the console
    desk.open()
    desk.shows("main", "Log in with your token.")
    assert findings(desk) == []


def active(desk: Desk) -> str:
    """The row or head that the grid's active cell is in."""
    script = """const grid = document.querySelector('[role=grid]');
        const cell = document.getElementById(grid.getAttribute('aria-activedescendant'));
        return document.activeElement === grid && cell ? cell.innerText.trim() : ''"""
    return str(desk.run(script))


def test_by_keyboard_alone(desk: Desk, shop: Shop) -> None:
    """From the first key to a tripped breaker, without a mouse."""
    desk.open()
    names = []
    while not active(desk):
        desk.press(Keys.TAB)
        names.append(
            desk.run("return document.activeElement.innerText || document.activeElement.id")
        )
        assert len(names) < 30
    assert names[0] == "Skip to the page"
    assert [name.split("\n")[0] for name in names[2:8]] == [
        "Catalogue",
        "Exceptions",
        "Approvals",
        "Breakers",
        "Portfolio",
        "Lag",
    ]
    assert active(desk) == "Product"
    desk.press(Keys.ARROW_RIGHT * 2, Keys.ENTER)
    assert active(desk).startswith("Price")
    rows = shop.rows()
    priced = [row for row in rows.values() if row["price_minor"] is not None]
    dearest = max(priced, key=lambda row: row["price_minor"])["sku"]
    desk.wait(lambda: dearest in desk.texts(".grid-body [role=row]")[0])
    assert desk.run("return document.querySelector('[aria-sort=descending]').innerText").startswith(
        "Price"
    )
    desk.chord(Keys.CONTROL, Keys.END)
    last = f"[aria-rowindex='{len(rows) + 1}']"
    desk.wait(lambda: desk.run("return !!document.querySelector(arguments[0])", last))
    desk.chord(Keys.CONTROL, Keys.HOME)
    desk.press(Keys.ARROW_DOWN)
    desk.wait(lambda: active(desk) == dearest)
    assert desk.text(".cell-line").startswith(dearest)
    desk.press(Keys.ENTER)
    desk.shows("h1", dearest)
    desk.go(f"product/{LIVES}")
    desk.shows("h1", LIVES)
    reached = ""
    while reached != "Trip breaker…":
        desk.press(Keys.TAB)
        reached = desk.run("return document.activeElement.innerText")
    desk.press(Keys.ENTER)
    desk.wait(lambda: desk.run("return document.activeElement.id") == "confirm-reason")
    desk.press("too dear", Keys.TAB, Keys.TAB, Keys.ENTER)
    desk.shows(".toasts", "The trip is on the tape.")
    told = {"command": "breaker_trip", "scope": ("sku", LIVES), "by": ("local", "too dear")}
    assert shop.commands() == [told]
    desk.wait(lambda: desk.run("return document.activeElement.tagName") == "BUTTON")


def test_the_grid_tells_where_one_is(desk: Desk, shop: Shop) -> None:
    desk.open()
    rows = shop.rows()
    told = desk.run(
        """const grid = document.querySelector('[role=grid]');
        return [grid.getAttribute('aria-rowcount'), grid.getAttribute('aria-colcount'),
          grid.querySelectorAll('[role=columnheader]').length,
          [...grid.querySelectorAll('.grid-body [role=row]')].map((row) => row.ariaRowIndex)]"""
    )
    assert told[:2] == [str(len(rows) + 1), str(told[2])]
    assert told[3] == [str(number) for number in range(2, len(told[3]) + 2)]


def test_nothing_is_wider_than_a_phone(desk: Desk) -> None:
    desk.open(VIEWS[0], width=PHONE_PX)
    widths = {}
    for view in VIEWS:
        desk.go(view)
        if view.startswith("product"):
            desk.shows(".best", "Best price")
        at = desk.run(
            """const { left, right } = document.querySelector('nav [aria-current]')
            .getBoundingClientRect(); return [left, right]"""
        )
        assert 0 <= at[0] < at[1] <= PHONE_PX  # where one is, is in sight
        widths[view] = desk.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths == {view: [PHONE_PX, PHONE_PX] for view in VIEWS}


def test_light_and_dark_by_the_system_and_by_the_button(desk: Desk) -> None:
    papers = []
    for scheme in ("light", "dark"):
        desk.open("breakers", scheme)
        papers.append(desk.run("return getComputedStyle(document.body).backgroundColor"))
        desk.click(".who button", "Light" if scheme == "dark" else "Dark")
        papers.append(desk.run("return getComputedStyle(document.body).backgroundColor"))
        desk.run("localStorage.clear()")
    light, dark = "rgb(244, 246, 248)", "rgb(14, 19, 24)"
    assert papers == [light, dark, dark, light]


def test_without_motion(desk: Desk) -> None:
    desk.open("breakers")
    media = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    desk.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    script = """const row = document.body.appendChild(document.createElement('p'));
        row.className = 'fresh';
        const found = getComputedStyle(row).animationDuration;
        row.remove();
        return found"""
    assert desk.run(script) == "1e-05s"
