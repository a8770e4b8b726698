"""The LLM tab of the web UI, in a real browser, while a sweep runs under two workers."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import NEEDS_BROWSER, chromium, screenshots, shoot
from conftest import ROOT, free_port
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from loadgen.launch.simulated import start_simulated

SWEEP = "--processes 2 --steps 2,8 --step-time 8 --max-tokens 16 --warmup 2 --autostart --autoquit 60"

pytestmark = NEEDS_BROWSER


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    with chromium(tmp_path / "chromium", "1280,1500") as chrome:
        yield chrome


@pytest.fixture
def ui(start_locust: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Iterator[str]:
    """Address of a web UI whose sweep has begun by itself."""
    port, master_port = str(free_port()), str(free_port())
    server = start_simulated(tmp_path / "log.jsonl", profile="batch-bound", time_factor=4.0)
    where = ["--web-host", "127.0.0.1", "--web-port", port, "--master-bind-port", master_port]
    arguments = [*where, "--master-port", master_port, "--host", server.host, *SWEEP.split()]
    start_locust(arguments, locustfile=ROOT / "locustfiles" / "sweep.py")
    yield f"http://127.0.0.1:{port}"
    server.child.stop()


def test_a_sweep_under_two_workers_is_seen_in_charts_and_in_locusts_own_page(
    browser: Chrome, ui: str, tmp_path: Path
) -> None:
    wait = WebDriverWait(browser, 300, ignored_exceptions=[WebDriverException])

    def text() -> str:
        return str(browser.find_element(By.TAG_NAME, "body").text)

    def opened(path: str) -> bool:
        browser.get(ui + path)
        return True

    def keep(name: str) -> None:
        shoot(browser, screenshots(tmp_path / "screenshots") / f"{name}.png")

    wait.until(lambda _: opened("/llm"))
    wait.until(lambda _: "step 2 of 2" in text().lower() and "8 users" in text().lower())
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "figure canvas")) >= 6)
    for words in ("SIMULATED", "TTFT", "TPOT", "E2E", "Output tokens/s", "Requests/min", "Verdict so far", "Workers"):
        assert words in text()
    keep("workers-live")
    opened("/?tab=llm")
    wait.until(lambda _: "TTFT" in text() and "p99" in text())
    browser.switch_to.frame(wait.until(lambda _: browser.find_element(By.TAG_NAME, "iframe")))
    wait.until(lambda _: "Workers" in text())
    browser.switch_to.default_content()
    keep("workers-tab")
    opened("/llm")
    wait.until(lambda _: "Verdict: " in text())
    assert "Steps: throughput by concurrent users" in text()
    assert "Workers" not in text()
    keep("workers-result")
