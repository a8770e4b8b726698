"""Headless Chromium, where it is installed. LOADGEN_SCREENSHOTS names a folder for screenshots."""

import base64
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)

NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium or its driver is not installed"),
]


@contextmanager
def chromium(folder: Path, size: str) -> Iterator[Chrome]:
    """Start a browser with a window of this size, as in ``1400,1000``; it keeps what it keeps in ``folder``."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS.split(), f"--window-size={size}", f"--user-data-dir={folder}"):
        options.add_argument(flag)
    with Chrome(options, ChromeService(DRIVER)) as chrome:
        yield chrome


def screenshots(otherwise: Path) -> Path:
    """The folder for screenshots: outside the repository, and only of the test unless somebody wants to look."""
    folder = Path(os.environ.get("LOADGEN_SCREENSHOTS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wear(browser: Chrome, *, width: int, dark: bool, height: int = 1000) -> None:
    """Give the page a width, and the colours that somebody prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})


def shoot(browser: Chrome, path: Path) -> Path:
    """Keep a picture of the whole page, also of what one has to scroll to."""
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(picture["data"]))
    return path


@dataclass
class BrowserPage:
    """A page in a browser."""

    browser: Chrome
    shots: Path

    def wait(self, until: Callable[[], Any], seconds: float = 120) -> Any:
        waiting = WebDriverWait(self.browser, seconds, 0.1, ignored_exceptions=[WebDriverException])
        try:
            return waiting.until(lambda _: until())
        except TimeoutException:
            raise AssertionError(f"not seen in {seconds:g} s on this page:\n{self.text()}") from None

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        return str(self.browser.find_element(By.CSS_SELECTOR, selector).text)
