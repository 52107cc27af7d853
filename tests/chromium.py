"""The system's Chromium, headless, for tests that open pages in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.conftest import IN_CI

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,900",
)  # fmt: skip
DEADLINE_S = 120
PHONE_PX = 600


@contextmanager
def started(profile: Path) -> Iterator[Any]:
    """A browser with an empty profile; without Chromium skip, or fail in CI."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "no chromium with its chromedriver is here: apt-get install chromium-driver"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(driver, env={**os.environ, "LANG": "C.UTF-8"})
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_page_load_timeout(DEADLINE_S)
    browser.set_script_timeout(DEADLINE_S)
    try:
        yield browser
    finally:
        browser.quit()


def appear(browser: Any, scheme: str, width: int, height: int = 900) -> None:
    """Show pages in a colour scheme, in a window of that width; narrow ones as a phone does."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < PHONE_PX}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
