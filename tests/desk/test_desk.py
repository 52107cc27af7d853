"""What people do at the desk, in a real Chromium."""

from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from models.pricing.ledger import charges
from tests.desk.conftest import Desk
from tests.desk.shop import WAITING, Shop, lag_document

pytestmark = pytest.mark.chromium

OPEN = "COO-00164"
MINUS = "−"


def euros(minor: float, signed: bool = False) -> str:
    """As the page writes it in an English browser."""
    amount = f"€{abs(minor) / 100:,.2f}"
    if amount == "€0.00":
        return amount
    return f"{MINUS if minor < 0 else '+' if signed else ''}{amount}"


def test_the_worst_exception_is_found_and_understood(desk: Desk, shop: Shop) -> None:
    worst = shop.cases(2)["exceptions"][1]  # the first can't be priced: nobody knows what it costs
    desk.open()
    desk.click("nav a", "Exceptions")
    desk.shows(".cases", worst["sku"])
    rows = desk.texts(".cases tbody tr")
    assert rows[0] == "1 – unknown LAM-90001 ✕ Can't be priced no unit cost is known – unknown"
    stake = euros(worst["at_stake_per_day_minor"])
    assert rows[1].startswith(f"2 {stake} {worst['sku']} ⌈ Limits cost money list price ceiling")
    desk.click(".cases a", worst["sku"])
    desk.shows(".waterfall tfoot", stake)
    decision = shop.last[worst["sku"]]
    charged = charges(decision)[-1].cost_per_day_minor
    best = decision.record.steps[0] if decision.record else None
    assert best is not None
    assert desk.texts(".waterfall tbody tr")[0] == (
        f"Best price with endless stock and no risk {euros(best.price_minor)}"
    )
    last = desk.texts(".waterfall tbody tr")[-1]
    assert last.startswith("Guard list price ceiling ")
    assert last.endswith(euros(charged))
    assert desk.text(".waterfall tfoot tr") == f"Left on the table a day {stake}"
    assert desk.browser.current_url.endswith(f"#/product/{worst['sku']}")
    assert "In short" in desk.text(".words")


def figures(desk: Desk) -> dict[str, str]:
    """The column "What if" of the comparison."""
    script = """return Object.fromEntries([...document.querySelectorAll('.compared [data-figure]')]
        .map((one) => [one.dataset.figure, one.innerText]))"""
    return dict(desk.run(script))


def test_what_if(desk: Desk, shop: Shop) -> None:
    sku = "HEA-00041"
    desk.open(f"product/{sku}")
    desk.shows(".best", "Best price")
    decision = shop.last[sku]
    assert decision.price_minor is not None
    before = shop.whatif(sku, {"price_minor": decision.price_minor})
    assert figures(desk)["objective_per_day_minor"] == euros(before["objective_per_day_minor"])
    desk.click(".best button", "Try it")
    best = euros(before["best_price_minor"])
    desk.wait(lambda: figures(desk)["price_minor"] == best)
    gain = before["best_objective_per_day_minor"] - before["objective_per_day_minor"]
    assert euros(gain, signed=True) in desk.texts(".compared tbody tr")[1]
    desk.run("document.getElementById('if-unit_cost_minor').focus()")
    desk.press(Keys.HOME)  # half the cost, by keyboard
    desk.shows(".slider", "was 92.58")
    cheaper = shop.whatif(
        sku, {"price_minor": before["best_price_minor"], "unit_cost_minor": 4629.0}
    )
    desk.wait(lambda: figures(desk)["margin_minor"] == euros(cheaper["margin_minor"]))
    desk.click("#whatif ~ button", "Reset sliders")
    desk.wait(lambda: figures(desk)["price_minor"] == euros(decision.price_minor))
    assert shop.sent == []


def test_a_breaker_is_tripped_and_reset(desk: Desk, shop: Shop) -> None:
    sku = "HEA-00041"
    desk.open(f"product/{sku}")
    desk.click("button", "Trip breaker…")
    desk.confirm("supplier recalled it")
    desk.shows(".toasts", "The trip is on the tape.")
    desk.go("breakers")
    desk.shows("[data-panel=open]", f"Product {sku}")
    assert shop.sent == [
        (
            "breakers/trip",
            {"scope": {"kind": "sku", "name": sku}, "reason": "supplier recalled it"},
        )
    ]
    row = next(text for text in desk.texts("[data-panel=open] tbody tr") if sku in text)
    assert row.startswith(f"Product {sku} ○ Open tripped by local: supplier recalled it")
    desk.click(f"button[aria-label='Reset Product {sku}']")
    desk.confirm("it was the wrong one")
    desk.shows("[data-panel=open]", "it was the wrong one")
    assert shop.sent[1:] == [
        (
            "breakers/reset",
            {"scope": {"kind": "sku", "name": sku}, "reason": "it was the wrong one"},
        )
    ]
    row = next(text for text in desk.texts("[data-panel=open] tbody tr") if sku in text)
    assert row.startswith(f"Product {sku} ◐ Half open reset by local: it was the wrong one")
    timeline = desk.texts("[data-panel=timeline] tbody tr")
    assert [text.partition("UTC ")[2] for text in timeline] == [
        f"Product {sku} ◐ Half open reset by local: it was the wrong one",
        f"Product {sku} ○ Open tripped by local: supplier recalled it",
    ]


def test_the_kill_switch(desk: Desk, shop: Shop) -> None:
    desk.open("breakers")
    desk.click("button", "Throw the kill switch…")
    desk.confirm("prices look wrong")
    desk.shows(".banner", "The kill switch is on: no new price goes out. By local")
    desk.shows(".panel", "On: nothing goes out")
    assert shop.sent == [("kill-switch", {"on": True, "reason": "prices look wrong"})]
    assert desk.browser.title.startswith("■ ")
    desk.click("button", "Release the kill switch…")
    desk.confirm("a wrong feed, mended")
    desk.wait(lambda: desk.texts(".banner") == [])
    assert shop.sent[1:] == [("kill-switch", {"on": False, "reason": "a wrong feed, mended"})]


def test_a_held_price_is_approved(desk: Desk, shop: Shop) -> None:
    (sku,) = WAITING
    held = shop.last[sku]
    assert held.price_minor is not None
    assert held.wanted_minor is not None
    desk.open("approvals")
    desk.shows(".card", euros(held.wanted_minor))
    assert f"{euros(held.price_minor)} → {euros(held.wanted_minor)} +12.0 %" in desk.text(
        ".proposal"
    ).replace("from ", "").replace(" to ", " ")
    desk.click(".card button", "Approve…")
    desk.confirm("season begins")
    desk.shows(".toasts", f"The approval of {sku} is on the tape.")
    desk.shows("main", "Nothing waits for approval")
    answer = {"sku": sku, "price_id": held.price_id, "answer": "approve", "reason": "season begins"}
    assert shop.sent == [("approvals", answer)]
    desk.go(f"catalogue?q={sku}")
    desk.shows(f"[data-id='{sku}']", euros(held.wanted_minor))


def test_a_reader_sees_but_does_not_steer(desk: Desk, shop: Shop) -> None:
    shop.session = {"actor": "eve", "role": "read"}
    desk.open("breakers")
    buttons = desk.run(
        "return [...document.querySelectorAll('main button')].map((b) => b.disabled)"
    )
    assert buttons == [True] * 4
    desk.go(f"product/{OPEN}")
    desk.shows(".product-head", "Held")
    assert desk.run("return document.querySelector('.product-head button').disabled") is True
    assert shop.sent == []


def test_without_a_reason_nothing_is_sent(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # the gateway's refusal is in the console
    desk.open("breakers")
    desk.click("button", "Trip the catalogue…")
    desk.confirm("no")  # too short: the browser itself asks for more
    assert desk.run("return document.querySelector('dialog').open") is True
    desk.press(Keys.SPACE * 3)  # what is left without blanks is too short: the gateway refuses
    desk.click("dialog button[type=submit]")
    desk.shows("dialog [role=alert]", "A reason of at least 3 characters is needed.")
    desk.press(Keys.ESCAPE)
    desk.wait(lambda: not desk.run("return document.querySelector('dialog')"))
    assert shop.sent == []
    active = desk.run("return document.activeElement.innerText")
    assert active == "Trip the catalogue…"  # the focus is back where it came from


def test_lag_rises_while_the_worker_is_paused(desk: Desk, shop: Shop) -> None:
    desk.open("lag")
    desk.wait(lambda: desk.text("[data-lag=pricemaker]") == "2")
    assert desk.texts("nav .tag")[-1:] != ["WARN"]
    rows = desk.texts(".panel tbody tr")
    assert rows[-1].startswith("tape 1 ? Unknown")
    for messages, status in ((40, "OK"), (4_000, "WARN"), (9_000, "STOP")):
        shop.push("lag", lag_document(messages, status))
        desk.wait(lambda text=f"{messages:,}": desk.text("[data-lag=pricemaker]") == text)
    assert desk.texts(".panel-head .badge") == ["■ STOP"]
    assert desk.texts("nav .tag")[-1] == "STOP"


def test_rows_change_in_place_and_stay_where_they_are(desk: Desk, shop: Shop) -> None:
    desk.open()
    first, second = (text.split()[0] for text in desk.texts(".grid-body [role=row]")[:2])
    row = list(shop.rows[second])
    row[4], row[18], row[23] = 777_77, 999_999.0, row[23] + 1
    shop.push("row", row)
    desk.shows(f"[data-id='{second}']", "€777.77")
    assert [t.split()[0] for t in desk.texts(".grid-body [role=row]")[:2]] == [first, second]
    older = [*row]
    older[4], older[23] = 1, row[23] - 1
    shop.push("row", older)
    new = [*row]
    new[0], new[18], new[23] = "NEW-00001", 5_000_000.0, 1
    shop.push("row", new)
    desk.shows(".shown", f"of {len(shop.rows) + 1} products")
    assert "€777.77" in desk.text(f"[data-id='{second}']")  # an older version changed nothing
    desk.click(".controls button", "Sort changes in")
    desk.wait(
        lambda: (
            [t.split()[0] for t in desk.texts(".grid-body [role=row]")[:3]]
            == ["NEW-00001", second, first]
        )
    )


def test_search_and_filters_are_in_the_address(desk: Desk, shop: Shop) -> None:
    desk.open("catalogue?q=head&sort=price_minor")
    prices = sorted(row[4] for sku, row in shop.rows.items() if "head" in f"{sku} {row[1]}".lower())
    desk.shows(".shown", f"{len(prices)} of {len(shop.rows)} products")
    shown = [text.split()[2] for text in desk.texts(".grid-body [role=row]")]
    assert shown == [euros(price) for price in prices[: len(shown)]]
    desk.click("#standing option", "Breaker not closed")
    desk.shows("main", "No product matches")
    assert "state=tripped" in desk.browser.current_url


def test_who_has_no_session_logs_in(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # 401s are in the console
    shop.session = None
    desk.open("breakers")
    for token in ("wrong", "right"):
        desk.shows("main", "Log in with your token.")
        field = desk.browser.find_element("id", "token")
        field.clear()
        field.send_keys(token + Keys.ENTER)
        if token == "wrong":
            desk.shows("[role=alert]", "The token is not known.")
    desk.shows(".actor", "ann operate")
    desk.shows("main", "Kill switch")
    desk.click("button", "Log out")
    desk.shows("main", "Log in with your token.")


def test_not_ready_and_gone_and_back(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True
    shop.ready = False
    desk.browser.get(f"{desk.address}#/exceptions")
    desk.browser.refresh()
    desk.shows("main", "The gateway is not ready yet")
    shop.ready = True
    desk.shows("main", "LAM-90001")
    desk.shows(".connection", "Live")
    desk.go("product/NONE-1")
    desk.shows("main", "There is no product NONE-1")
    shop.drop()
    desk.shows(".connection", "Reconnecting")
    desk.shows(".connection", "Live")


def test_money_has_the_digits_of_its_currency(desk: Desk) -> None:
    """Browsers write no cents of HUF; a table of our own does."""
    import iso4217

    from schemas.money import is_currency, minor_digits

    expected = {
        one.code: minor_digits(one.code) for one in iso4217.Currency if is_currency(one.code)
    }
    desk.open("lag")
    script = """const [codes, address, done] = arguments;
        import(`${address}js/currencies.js`).then(({ minorDigits }) =>
            done(Object.fromEntries(codes.map((code) => [code, minorDigits(code)]))));"""
    found: Any = desk.browser.execute_async_script(script, list(expected), desk.address)
    assert found == expected
