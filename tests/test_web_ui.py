"""The web UI, as somebody with a browser meets it."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from browsing import NEEDS_BROWSER, chromium, screenshots, shoot
from conftest import free_port
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from loadgen.scenario import Scenario

REQUESTS = 8
RUN = f"--sample {REQUESTS} --requests {REQUESTS} --warmup 2 --max-tokens 16"
ROWS = ("ask", "TTFT, ms", "TPOT, ms", "tokens/s")

pytestmark = NEEDS_BROWSER
T = TypeVar("T")


class Page:
    """Locust's page in a browser, and what the process behind it leaves on disk."""

    def __init__(self, browser: Chrome, url: str, process: subprocess.Popen[str], results: Path) -> None:
        self._browser, self._url, self.process, self._results = browser, url, process, results

    def wait(self, condition: Callable[[], T]) -> T:
        # Until the process answers, and while React replaces an element, looking at the page fails.
        waiting = WebDriverWait(self._browser, 30, 0.1, [WebDriverException])
        return waiting.until(lambda _: condition())

    def open(self) -> bool:
        self._browser.get(self._url)
        return True

    def shown(self, path: str) -> WebElement:
        """The first such element that can be seen, when there is one."""
        return self.wait(lambda: [e for e in self._browser.find_elements(By.XPATH, path) if e.is_displayed()])[0]

    def value(self, name: str) -> str | None:
        return self.shown(f"//input[@name='{name}']").get_attribute("value")

    def fill(self, name: str, value: str) -> None:
        self.shown(f"//input[@name='{name}']").send_keys(Keys.CONTROL + "a" + Keys.NULL + value)

    def is_whole(self, element: WebElement) -> bool:
        """Whether all text of an element can be read: nothing is cut off."""
        cut = "return arguments[0].scrollWidth > arguments[0].clientWidth"
        return not self._browser.execute_script(cut, element)

    def press(self, text: str) -> None:
        # By keyboard: while a part of the form unfolds, a click may miss.
        self.shown(f"//*[self::button or @role='button'][.='{text}']").send_keys(Keys.ENTER)

    def counts(self) -> dict[str, str]:
        """From the names in the statistics table to the numbers of requests."""
        lines = self._browser.find_elements(By.XPATH, "//table/tbody/tr")
        cells = [[cell.text for cell in line.find_elements(By.TAG_NAME, "td")] for line in lines]
        return {cell[1]: cell[2] for cell in cells if len(cell) > 2}

    def runs(self) -> list[Path]:
        return list(self._results.glob("*"))

    def summaries(self, number: int) -> list[dict[str, Any]]:
        """The runs' summaries, when there are so many and the page says that the last run has ended."""
        self.wait(lambda: len(list(self._results.glob("*/summary.json"))) == number)
        self.shown("//*[.='stopped']")
        return [msgspec.json.decode((run / "summary.json").read_bytes()) for run in self.runs()]

    def shoot(self, name: str) -> None:
        shoot(self._browser, screenshots(self._results.parent) / f"{name}.png")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium"), "1400,1000") as chrome:
        yield chrome


@pytest.fixture
def page(browser: Chrome, start_locust: Callable[[Sequence[str]], subprocess.Popen[str]], tmp_path: Path) -> Page:
    """The start form of a new process."""
    port = str(free_port())
    results = tmp_path / "results"
    process = start_locust(
        ["--web-host", "127.0.0.1", "--web-port", port, *RUN.split(), "--results", str(results)],
    )
    page = Page(browser, f"http://127.0.0.1:{port}", process, results)
    page.wait(page.open)
    return page


def test_the_form_offers_our_parameters_with_the_values_of_the_command_line(page: Page) -> None:
    page.press("Custom parameters")
    names = ("model", "engine", "dataset", "sample", "requests", "maxTokens", "warmup")
    assert [page.value(name) for name in names] == ["", "endpoint", "samples", "8", "8", "16", "2"]
    page.shoot("form")


def test_the_form_shows_the_whole_help_of_each_parameter(page: Page) -> None:
    page.press("Custom parameters")
    for name in ("model", "maxTokens", "requests", "slo"):
        label = page.shown(f"//label[../div/input[@name='{name}']]")
        field = page.shown(f"//input[@name='{name}']")
        (help_text,) = (f.metadata["help"] for f in fields(Scenario) if f.name == name.replace("T", "_t"))
        assert help_text in label.text
        assert page.is_whole(label)
        assert label.location["y"] + label.size["height"] <= field.location["y"]


def test_a_run_ends_by_itself_and_another_can_be_started(page: Page) -> None:
    page.fill("userCount", "1")
    page.press("Start")
    page.summaries(1)
    page.wait(lambda: [page.counts().get(row) for row in ROWS] == [str(REQUESTS)] * len(ROWS))
    page.shoot("statistics")
    page.press("New")
    page.press("Start")
    for summary in page.summaries(2):
        assert summary["verdict"]["status"] != "INVALID"
        assert summary["requests"]["completed"] == REQUESTS
    assert page.process.poll() is None


def test_a_mistake_is_shown_in_the_form_and_can_be_mended_there(page: Page) -> None:
    page.press("Custom parameters")
    host = page.value("host") or ""
    page.fill("host", "localhost:1")
    page.press("Start")
    page.shown("//*[@role='alert'][contains(., '--host localhost:1: the scheme is missing')]")
    page.shoot("mistake")
    page.fill("host", host)
    page.fill("dataset", "nope")
    page.press("Start")
    page.shown("//*[@role='alert'][contains(., '--dataset')]")
    assert page.runs() == []
    page.fill("dataset", "samples")
    page.press("Start")
    (summary,) = page.summaries(1)
    assert summary["requests"]["completed"] == REQUESTS
    assert page.process.poll() is None
