"""The report in a real Chromium, offline: plots, chooser, both schemes, phone, paper."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from streams.report.page import write_report
from tests.chromium import DEADLINE_S, appear, started
from tests.streams.report_sample import sample_report

pytestmark = pytest.mark.chromium

HOSTILE = (
    '</script><script>window.broken = true</script><b onmouseover="window.broken = true">x</b>'
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(sample_report(days=40, products=3, mark=HOSTILE), path)
    return path


@pytest.fixture
def opened(chromium: Any, page: Path) -> Open:
    """Opens the page in a colour scheme and a window, with every plot drawn."""

    def open_page(scheme: str = "light", width: int = 1280) -> Any:
        appear(chromium, scheme, width)
        chromium.get(page.as_uri())
        WebDriverWait(chromium, DEADLINE_S).until(
            lambda browser: browser.execute_script("return document.documentElement.dataset.drawn")
        )
        return chromium

    return open_page


def colour(browser: Any, selector: str, name: str) -> str:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return str(browser.execute_script(script, selector, name))


def lines_of(browser: Any, key: str) -> list[str]:
    """The paths of a plot's lines, as they are drawn."""
    script = """return [...document.querySelectorAll(`#${arguments[0]} .scatterlayer .js-line`)]
        .map((line) => line.getAttribute("d"))"""
    return list(browser.execute_script(script, key))


def test_every_plot_is_drawn_and_nothing_is_fetched(opened: Open, page: Path) -> None:
    browser = opened()
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].filter((one) => one.offsetParent)"
        ".map((one) => [one.dataset.figure, one.querySelectorAll('.trace').length"
        " + one.querySelectorAll('.bars .point').length])"
    )
    assert len(shown) == 23
    assert [key for key, traces in shown if not traces] == []
    assert (
        len(lines_of(browser, "path-0")) == 7
    )  # three policies, shown, cost, a rival that was away
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    ours = [one["request"]["url"] for one in requests if one["documentURL"] == page.as_uri()]
    assert set(ours) - {"data:,"} == {page.as_uri()}
    assert browser.execute_script("return window.broken") is None


def test_the_chooser_shows_another_product(opened: Open) -> None:
    browser = opened()
    choose = Select(browser.find_element(By.ID, "prices-choose"))
    assert len(choose.options) == 3
    before = lines_of(browser, "path-0")
    choose.select_by_index(2)
    assert lines_of(browser, "path-0") == []
    after = lines_of(browser, "path-2")
    assert len(after) == 7
    assert after != before
    assert not browser.find_element(By.ID, "path-0").is_displayed()
    assert browser.find_element(By.ID, "path-2").is_displayed()


def test_light_and_dark_by_the_system_and_by_the_button(opened: Open) -> None:
    browser = opened("light")
    white, black = "rgb(255, 255, 255)", "rgb(20, 24, 29)"
    line = "#path-0 .scatterlayer .js-line"
    assert colour(browser, "body", "backgroundColor") == white
    light = {name: colour(browser, selector, name) for selector, name in ((line, "stroke"),)}
    browser.find_element(By.ID, "theme").click()
    assert colour(browser, "body", "backgroundColor") == black
    assert colour(browser, line, "stroke") != light["stroke"]
    assert browser.find_element(By.ID, "theme").get_attribute("aria-pressed") == "true"
    browser = opened("dark")
    assert colour(browser, "body", "backgroundColor") == black
    assert colour(browser, "#path-0 .xtick text", "fill") == "rgb(163, 173, 184)"
    browser.find_element(By.ID, "theme").click()
    assert colour(browser, "body", "backgroundColor") == white
    assert colour(browser, line, "stroke") == light["stroke"]


def test_nothing_is_wider_than_a_phone(opened: Open) -> None:
    browser = opened(width=360)
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths == [360, 360]
    assert len(lines_of(browser, "path-0")) == 7


def test_paper_is_light_and_has_plots_and_tables(opened: Open) -> None:
    browser = opened("dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    reader = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"])))
    pages = [one.extract_text() for one in reader.pages]
    text = "\n".join(pages)
    assert 8 <= len(pages) <= 30
    assert [number for number, found in enumerate(pages) if len(found) < 40] == []
    assert "By the models, “bolder” earns more than “as it was”" in text.replace("\n", " ")
    assert "event time, UTC" in text  # an axis of a plot
    assert "Table: Constraint ledger" in text
    assert "Product" not in text.split("Prices of")[0].rpartition("Prices")[2]  # no chooser
    assert colour(browser, "body", "backgroundColor") == "rgb(20, 24, 29)"  # and back


def test_the_keyboard_reaches_all_that_acts(opened: Open) -> None:
    browser = opened()
    reached = browser.execute_script(
        "return [...document.querySelectorAll('a[href], button, select, summary, [tabindex]')]"
        ".filter((one) => one.offsetParent && one.tabIndex < 0).length"
    )
    assert reached == 0
    names = browser.execute_script(
        "return [...document.querySelectorAll('.plot')].filter((one) =>"
        " !one.getAttribute('aria-label')).length"
    )
    assert names == 0
