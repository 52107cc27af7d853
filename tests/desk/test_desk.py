"""What people do at the desk, in a real Chromium."""

from typing import Any

import iso4217
import orjson
import pytest
from selenium.webdriver.common.keys import Keys

from models.pricing import curve
from models.pricing.ledger import charges
from schemas.money import is_currency, minor_digits
from streams.gateway.portfolio import portfolio
from streams.lag import Status
from tests.desk.conftest import Desk
from tests.desk.shop import LIVES, NO_COST, WAITS, Shop, kernel

pytestmark = pytest.mark.chromium

MINUS = "−"


def euros(minor: float, signed: bool = False) -> str:
    """As the page writes it in an English browser."""
    amount = f"€{abs(minor) / 100:,.2f}"
    if amount == "€0.00":
        return amount
    return f"{MINUS if minor < 0 else '+' if signed else ''}{amount}"


def test_the_worst_exception_is_found_and_understood(desk: Desk, shop: Shop) -> None:
    worst = shop.desk.board.cases()[1]  # the first can't be priced: nobody knows what it costs
    assert worst.at_stake_per_day_minor is not None
    stake = euros(worst.at_stake_per_day_minor)
    desk.open()
    desk.click("nav a", "Exceptions")
    desk.shows(".cases", worst.sku)
    rows = desk.texts(".cases tbody tr")
    assert rows[0].startswith(f"1 – unknown {NO_COST} ✕ Can't be priced no unit cost")
    assert rows[1].startswith(f"2 {stake} {worst.sku} ⌈ Limits cost money list price ceiling")
    desk.click(".cases a", worst.sku)
    desk.shows(".waterfall tfoot", stake)
    decision = shop.last(worst.sku)
    assert decision.record is not None
    steps = desk.texts(".waterfall tbody tr")
    best = euros(decision.record.steps[0].price_minor)
    assert steps[0] == f"Best price with endless stock and no risk {best}"
    assert steps[-1].startswith("Guard list price ceiling")
    assert steps[-1].endswith(euros(charges(decision)[-1].cost_per_day_minor))
    assert desk.text(".waterfall tfoot tr") == f"Left on the table a day {stake}"
    assert desk.browser.current_url.endswith(f"#/product/{worst.sku}")
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
    decision = shop.last(sku)
    record, price = decision.record, decision.price_minor
    assert record is not None
    assert price is not None
    nothing = curve.Changes()
    before = curve.what_if(record, price, nothing, float(price), kernel())
    best, best_pays = before["best_price_minor"], before["best_objective_per_day_minor"]
    assert figures(desk)["objective_per_day_minor"] == euros(before["objective_per_day_minor"])
    desk.click(".best button", "Try it")
    desk.wait(lambda: figures(desk)["price_minor"] == euros(best))
    gain = euros(best_pays - before["objective_per_day_minor"], signed=True)
    assert desk.texts(".compared tbody tr")[1].endswith(f"{euros(best_pays)} {gain}")
    desk.run("document.getElementById('if-unit_cost_minor').focus()")
    desk.press(Keys.HOME)  # half the cost, by keyboard
    desk.shows(".slider", "was 92.58")
    halved = curve.Changes(unit_cost_minor=4629.0)
    cheaper = curve.what_if(record, price, halved, best, kernel())
    desk.wait(lambda: figures(desk)["margin_minor"] == euros(cheaper["margin_minor"]))
    desk.click("[data-panel=whatif] button", "Reset sliders")
    desk.wait(lambda: figures(desk)["price_minor"] == euros(price))
    assert shop.sent == []


def test_a_breaker_is_tripped_and_reset(desk: Desk, shop: Shop) -> None:
    desk.open(f"product/{LIVES}")
    desk.shows(".product-head", "● Closed")
    desk.click("button", "Trip breaker…")
    desk.confirm("supplier recalled it")
    desk.shows(".toasts", "The trip is on the tape.")
    desk.shows(".product-head", "○ Open")
    desk.go("breakers")
    opened = f"Product {LIVES} ○ Open by local: supplier recalled it"
    desk.shows("[data-panel=open] tbody tr", opened)
    desk.click(f"button[aria-label='Reset Product {LIVES}']")
    desk.confirm("it was the wrong one")
    desk.shows("[data-panel=open]", "Every breaker is closed")  # its canary passes at once
    assert shop.commands() == [
        {
            "command": "breaker_trip",
            "scope": ("sku", LIVES),
            "by": ("local", "supplier recalled it"),
        },
        {
            "command": "breaker_reset",
            "scope": ("sku", LIVES),
            "by": ("local", "it was the wrong one"),
        },
    ]
    timeline = desk.texts("[data-panel=timeline] tbody tr")
    assert sorted(text.partition("UTC ")[2] for text in timeline) == [
        opened,
        f"Product {LIVES} ● Closed canary passed",
        f"Product {LIVES} ◐ Half open by local: it was the wrong one",
    ]


def test_a_family_is_tripped_by_name(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # the refusal is in the console
    desk.open("breakers")
    desk.click("button", "Trip a product or family…")
    desk.click("dialog option", "Family")
    name = desk.browser.find_element("name", "name")
    name.send_keys("NONE-1")
    desk.confirm("a look at it")
    desk.shows("dialog [role=alert]", "There is no family 'NONE-1'.")
    name.clear()
    name.send_keys(LIVES)
    desk.click("dialog button[type=submit]")
    desk.shows("[data-panel=open] tbody tr", f"Family {LIVES} ○ Open")
    assert [one["scope"] for one in shop.commands()] == [("family", LIVES)]


def test_the_kill_switch(desk: Desk, shop: Shop) -> None:
    desk.open("breakers")
    desk.click("button", "Throw the kill switch…")
    desk.confirm("prices look wrong")
    desk.shows(".banner", "The kill switch is on: no new price goes out. By local")
    desk.shows(".panel", "On: nothing goes out")
    assert desk.browser.title.startswith("■ ")
    desk.browser.refresh()  # who comes later sees it, too
    desk.shows(".banner", "prices look wrong")
    desk.click("button", "Release the kill switch…")
    desk.confirm("a wrong feed, mended")
    desk.wait(lambda: desk.texts(".banner") == [])
    assert shop.commands() == [
        {
            "command": "kill_switch_on",
            "scope": ("catalogue", None),
            "by": ("local", "prices look wrong"),
        },
        {
            "command": "kill_switch_off",
            "scope": ("catalogue", None),
            "by": ("local", "a wrong feed, mended"),
        },
    ]


def test_a_held_price_is_approved(desk: Desk, shop: Shop) -> None:
    held = shop.last(WAITS)
    assert held.price_minor is not None
    assert held.wanted_minor is not None
    wanted = euros(held.wanted_minor)
    desk.open("approvals")
    desk.shows(".card", wanted)
    assert desk.text(".proposal").startswith(f"from {euros(held.price_minor)} → to {wanted}")
    desk.click(".card button", "Approve…")
    desk.confirm("season begins")
    desk.shows(".toasts", f"The approval of {WAITS} is on the tape.")
    desk.shows("main", "Nothing waits for approval")
    (sent,) = shop.sent
    assert (sent.command, sent.price_id, sent.reason) == ("approve", held.price_id, "season begins")
    desk.go(f"catalogue?q={WAITS}")
    desk.shows(f"[data-id='{WAITS}']", wanted)
    assert (shop.last(WAITS).status, shop.last(WAITS).price_minor) == (
        "published",
        held.wanted_minor,
    )


@pytest.mark.parametrize("tokens", [True])
def test_a_reader_sees_but_does_not_steer(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # the first 401 is in the console
    desk.open("breakers")
    log_in(desk, "reader")
    desk.shows("main", "Kill switch")
    assert desk.run("return document.querySelectorAll('main button:not(:disabled)').length") == 0
    assert len(desk.texts("main button:disabled")) == 3
    desk.go(f"product/{WAITS}")
    desk.shows(".product-head", "Held")
    assert desk.texts(".product-head button:disabled") == ["Approve…", "Reject…", "Trip breaker…"]


def test_without_a_reason_nothing_is_sent(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # the gateway's refusal is in the console
    desk.open("breakers")
    desk.click("button", "Trip the catalogue…")
    desk.confirm("no")  # too short: the browser itself asks for more
    assert desk.run("return document.querySelector('dialog').open") is True
    desk.press(Keys.SPACE * 3)  # what is left without blanks is too short: the gateway refuses
    desk.click("dialog button[type=submit]")
    desk.shows("dialog [role=alert]", "3 characters")
    desk.press(Keys.ESCAPE)
    desk.wait(lambda: not desk.run("return document.querySelector('dialog')"))
    assert shop.sent == []
    active = desk.run("return document.activeElement.innerText")
    assert active == "Trip the catalogue…"  # the focus is back where it came from


def test_lag_as_it_rises(desk: Desk, shop: Shop) -> None:
    desk.open("lag")
    desk.shows("[data-panel=group-pricemaker] tbody tr", "tape 1 ? Unknown")
    assert desk.texts(".figures .big") == ["– unknown"] * 3  # of one partition nothing is known
    rows = desk.texts("[data-panel=group-pricemaker] tbody tr")
    assert rows == [
        "tape 0 ● OK 2 0.04 s 60.0 50.0 – unknown 1,000 1,002 as a test says",
        "tape 1 ? Unknown – unknown – unknown – unknown – unknown – unknown – unknown 0 "
        "never committed; not judged",
    ]
    assert desk.texts("[data-panel=freshness] tbody tr td:nth-child(4)") == ["1.0 min"]
    for messages, status in ((40, Status.OK), (4_000, Status.WARN), (9_000, Status.STOP)):
        shop.lag.show(messages, status)
        desk.shows("[data-panel=group-pricemaker] tbody tr:first-child", f" {messages:,} ")
    assert "■ STOP 9,000 3.0 min" in desk.texts("[data-panel=group-pricemaker] tbody tr")[0]
    assert "assigned but not moving" in desk.texts("[data-panel=group-pricemaker] tbody tr")[0]
    assert desk.texts("nav .tag")[-1] == "STOP"


def test_the_portfolio_adds_up(desk: Desk, shop: Shop) -> None:
    desk.open("portfolio")
    desk.shows("tr.total", "All")
    groups = portfolio(shop.desk.board.judgements(), "category")["groups"]
    rows = sorted(groups, key=lambda one: -abs(one["price_delta_minor"]))
    shown = [
        "profit_per_day_minor", "left_on_table_per_day_minor", "price_delta_minor",
        "price2_gamma_minor", "sigma_vega_minor", "theta_minor",
    ]  # fmt: skip
    assert desk.texts("tbody tr:not(.total)") == [
        " ".join([one["name"], str(one["products"]), *(euros(one[key]) for key in shown)])
        for one in rows
    ]
    whole = sum(one["price_delta_minor"] for one in groups)
    assert desk.texts("tr.total td")[3] == euros(whole)
    desk.click(".tabs label", "Breaker")
    desk.shows("tbody", "CLOSED")
    assert desk.browser.current_url.endswith("#/portfolio?by=breaker")


def skus(desk: Desk, count: int) -> list[str]:
    """Products in the first rows that are shown."""
    return [text.split()[0] for text in desk.texts(".grid-body [role=row]")[:count]]


def test_rows_change_in_place_and_stay_where_they_are(desk: Desk, shop: Shop) -> None:
    desk.open("catalogue?sort=-price_minor")
    first, second = skus(desk, 2)
    shop.decide(second, price_minor=777_777)
    desk.shows(f"[data-id='{second}']", "€7,777.77")
    assert skus(desk, 2) == [first, second]
    older = [*shop.rows()[second].values()]
    older[4], older[23] = 1, older[23] - 1
    stale = orjson.dumps(older)
    shop.on_loop(lambda: shop.desk.board.subjects.changed("row", "an older one", lambda: stale))
    count = len(shop.rows()) + 1
    shop.decide("NEW-00001", as_of=first, price_minor=888_888)
    desk.shows(".shown", f"of {count} products")
    assert "€7,777.77" in desk.text(f"[data-id='{second}']")  # an older version changed nothing
    desk.click(".controls button", "Sort changes in")
    desk.wait(lambda: skus(desk, 3) == ["NEW-00001", second, first])


def test_search_and_filters_are_in_the_address(desk: Desk, shop: Shop) -> None:
    desk.open("catalogue?q=head&sort=price_minor")
    rows = shop.rows()
    prices = sorted(
        row["price_minor"] for row in rows.values() if "head" in f"{row['category']}".lower()
    )
    desk.shows(".shown", f"{len(prices)} of {len(rows)} products")
    shown = [text.split()[2] for text in desk.texts(".grid-body [role=row]")]
    assert shown == [euros(price) for price in prices[: len(shown)]]
    desk.click("#standing option", "Breaker not closed")
    desk.shows("main", "No product matches")
    assert "state=tripped" in desk.browser.current_url


def log_in(desk: Desk, token: str) -> None:
    desk.shows("main", "Log in with your token.")
    field = desk.browser.find_element("id", "token")
    field.clear()
    field.send_keys(token + Keys.ENTER)


@pytest.mark.parametrize("tokens", [True])
def test_who_has_no_session_logs_in(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True  # 401s are in the console
    desk.open("breakers")
    log_in(desk, "guessed")
    desk.shows("[role=alert]", "This token is not known.")
    log_in(desk, "operator")
    desk.shows(".actor", "operator operate")
    desk.shows("main", "Kill switch")
    desk.click("button", "Log out")
    desk.shows("main", "Log in with your token.")


def test_not_ready_then_ready(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True
    shop.desk.caught_up = False
    desk.browser.get("about:blank")
    desk.browser.get(f"{desk.address}#/exceptions")
    desk.shows("main", "The gateway is not ready yet")
    shop.desk.caught_up = True
    desk.shows("main", NO_COST)
    desk.shows(".connection", "Live")
    desk.go("product/NONE-1")
    desk.shows("main", "There is no product NONE-1")


def test_the_gateway_goes_and_comes_back(desk: Desk, shop: Shop) -> None:
    desk.failures_expected = True
    desk.open("catalogue?sort=-price_minor")
    first = skus(desk, 1)[0]
    desk.serving.stop()
    desk.shows(".connection", "Reconnecting")
    assert skus(desk, 1) == [first]  # what was known stays
    desk.serving.start()
    desk.shows(".connection", "Live")
    shop.decide(first, price_minor=777_777)
    desk.shows(f"[data-id='{first}']", "€7,777.77")


def test_money_has_the_digits_of_its_currency(desk: Desk) -> None:
    """Browsers write no cents of HUF; a table of our own does."""
    expected = {
        one.code: minor_digits(one.code) for one in iso4217.Currency if is_currency(one.code)
    }
    desk.open("lag")
    script = """const [codes, address, done] = arguments;
        import(`${address}js/currencies.js`).then(({ minorDigits }) =>
            done(Object.fromEntries(codes.map((code) => [code, minorDigits(code)]))));"""
    found: Any = desk.browser.execute_async_script(script, list(expected), desk.address)
    assert found == expected
