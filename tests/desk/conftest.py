"""The desk opened in a real Chromium, over a shop in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from streams.controls import controls
from tests.chromium import appear, started
from tests.desk.shop import Serving, Shop

SETTLED = """return !!document.querySelector('main') && !document.querySelector('.boot, .spinner')
    && ['live', 'out'].includes(document.documentElement.dataset.connection ?? 'out')"""


DEADLINE_S = 30


class Desk:
    """The page as a person uses it: open, look, click, press keys, wait until something shows."""

    def __init__(self, browser: Any, serving: Serving) -> None:
        self.browser, self.serving = browser, serving
        self.address = f"{serving.url}/desk/"
        self.failures_expected = False

    def open(self, route: str = "catalogue", scheme: str = "light", width: int = 1400) -> None:
        appear(self.browser, scheme, width)
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}#/{route}")
        self.wait(lambda: self.run(SETTLED))

    def go(self, route: str) -> None:
        """Another view of the same page."""
        self.run("location.hash = arguments[0]", f"/{route}")
        self.wait(lambda: self.run(SETTLED))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, DEADLINE_S, poll_frequency=0.02).until(
            lambda _: condition()
        )

    def texts(self, selector: str) -> list[str]:
        """What is visible of each element, in one line each."""
        script = """return [...document.querySelectorAll(arguments[0])].map((one) =>
            one.innerText.replace(/\\s+/g, ' ').trim())"""
        return list(self.run(script, selector))

    def text(self, selector: str) -> str:
        return " ".join(self.texts(selector))

    def shows(self, selector: str, text: str) -> None:
        """Wait until it does."""
        self.wait(lambda: text in self.text(selector))

    def click(self, selector: str, text: str = "") -> None:
        """Click on the first such element with this text, once it is there."""

        def found() -> Any:
            ones = self.browser.find_elements(By.CSS_SELECTOR, selector)
            return next((one for one in ones if text in one.text), None)

        self.wait(found).click()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def chord(self, modifier: str, key: str) -> None:
        chain = ActionChains(self.browser, duration=0)
        chain.key_down(modifier).send_keys(key).key_up(modifier).perform()

    def confirm(self, reason: str) -> None:
        """Give a reason in the open dialog, and send."""
        self.wait(lambda: self.run("return !!document.querySelector('dialog[open]')"))
        field = self.browser.find_element(By.ID, "confirm-reason")
        field.send_keys(reason)
        self.click("dialog button[type=submit]")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def tokens() -> bool:
    """Whether callers need one."""
    return False


@pytest.fixture
def shop(tokens: bool) -> Shop:
    return Shop(tokens=tokens)


@pytest.fixture
def desk(chromium: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The desk of a shop; nothing may be written to the browser's console."""
    monkeypatch.setattr(controls, "send", shop.take)
    chromium.get_log("browser")
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    serving = Serving(shop)
    desk = Desk(chromium, serving)
    yield desk
    told = [one["message"] for one in chromium.get_log("browser") if one["level"] != "INFO"]
    chromium.get("about:blank")
    serving.stop()
    assert desk.failures_expected or told == []
