"""Headless Chromium, where it is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

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
