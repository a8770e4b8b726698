"""The page of a run in a real browser: before it, while it goes on, and as its result, one run after another."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from browsing import NEEDS_BROWSER, BrowserPage, chromium, screenshots, shoot, wear
from cluster import Starter, engine
from conftest import ROOT, free_port
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from loadgen.launch.simulated import SimulatedServer

pytestmark = NEEDS_BROWSER

COMMON = "--max-tokens 16 --warmup 2 --metrics off --web-host 127.0.0.1"
SPEED = "--users 1 --requests 40"
SWEEP = "--steps 2,8 --step-time 6"
LOOKS = [(width, dark) for width, dark in product((800, 1400), (False, True))]
LIVE_WORDS = ("so far", "last 10 s")

INK = """
const [box] = arguments, drawn = box.querySelector("canvas"), canvas = new OffscreenCanvas(drawn.width, drawn.height);
const context = canvas.getContext("2d", { willReadFrequently: true });
context.drawImage(drawn, 0, 0);
const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
return [...box.querySelectorAll(".values > span")].map((name) => {
  const [r, g, b] = getComputedStyle(name).color.match(/\\d+/g);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    count += data[i + 3] > 60 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 40;
  }
  return [name.querySelector("small").textContent, count];
});
"""
"""How many pixels of a chart have the colour of each series."""


@dataclass
class Page(BrowserPage):
    """The page of a run in a browser."""

    url: str

    def open(self, path: str = "/llm") -> None:
        self.wait(lambda: self.browser.get(self.url + path) is None)

    def start(self) -> None:
        """Start a run from Locust's form, and come back."""
        self.open("/")
        (button,) = self.wait(lambda: self.browser.find_elements(By.XPATH, "//button[@type='submit']"))
        button.send_keys(Keys.ENTER)
        self.wait(lambda: "STOP" in self.text().upper())
        self.open()

    def when(self, state: str) -> None:
        self.wait(lambda: self.text("#state") == state)

    def figures(self) -> dict[str, WebElement]:
        return {figure.find_element(By.TAG_NAME, "figcaption").text: figure for figure in self.all("figure")}

    def ink(self, title: str) -> dict[str, int]:
        return dict(self.browser.execute_script(INK, self.figures()[title]))

    def look(self, name: str, *, reload: Callable[[], None] | None = None) -> None:
        """Keep screenshots in all widths and colours; nothing may be wider than the window."""
        for width, dark in LOOKS:
            wear(self.browser, width=width, dark=dark)
            if reload is not None:
                reload()
            self.wait(lambda width=width: self.browser.execute_script("return innerWidth") == width)
            self.wait(lambda: self.browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"))
            assert self.is_dark() is dark
            shoot(self.browser, self.shots / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        wear(self.browser, width=1400, dark=False)

    def is_dark(self) -> bool:
        colour = self.browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) < 200

    def complaints(self) -> list[str]:
        """What the browser's console has, and figures that are none."""
        console = [str(entry["message"]) for entry in self.browser.get_log("browser")]
        return console + re.findall(r"NaN|Infinity|undefined|\[object", self.text())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium"), "1400,1000") as chrome:
        wear(chrome, width=1400, dark=False)
        yield chrome


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    with engine(tmp_path_factory.mktemp("engine"), ttft_ms=30, itl_ms=12) as started:
        yield started


@pytest.fixture
def opened(browser: Chrome, server: SimulatedServer, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Starts locust with a web UI, and opens the page of its runs."""
    starter = Starter(tmp_path)

    def start(locustfile: str, options: str) -> Page:
        port = str(free_port())
        given = (*options.split(), *COMMON.split(), "--host", server.host, "--web-port", port)
        starter(*given, locustfile=ROOT / "locustfiles" / f"{locustfile}.py")
        page = Page(browser, screenshots(tmp_path / "screenshots"), f"http://127.0.0.1:{port}")
        page.open()
        browser.get_log("browser")  # what was said before it answered
        return page

    yield start
    starter.end()


def test_a_run_of_one_user_is_followed_and_then_shown_as_its_result_and_so_is_the_next(
    opened: Callable[..., Page],
) -> None:
    page = opened("chat", SPEED)
    page.wait(lambda: "No run yet: start one on Locust's page" in page.text())
    page.look("before")
    page.start()
    page.when("measuring")
    page.wait(lambda: "p50" in page.text("#charts") and min(page.ink("Output tokens/s").values()) > 20)
    text = page.text()
    assert "Verdict so far: VALID" in text or "Verdict so far: WARN" in text
    assert "last 10 s" in text
    assert "left" in page.text("#time")
    assert not page.all("#result:not([hidden]), #files:not([hidden])")
    page.look("speed-live")
    page.when("ended")
    first_run, first = page.text("#run"), shown_result(page)
    assert first["headline"].endswith("tokens/s")
    assert first["of"].startswith("one user, full round trip, mean over 40 requests")
    assert "Time line of the run" in page.text()
    assert_nothing_live(page)
    page.look("speed-result")
    page.open("/?tab=llm")  # the form of the next run is behind a button there
    page.wait(lambda: page.browser.find_elements(By.XPATH, "//button[.='New']"))[0].send_keys(Keys.ENTER)
    page.wait(lambda: page.browser.find_elements(By.XPATH, "//button[@type='submit']"))[0].send_keys(Keys.ENTER)
    page.open()
    page.wait(lambda: page.text("#run") != first_run and page.text("#state") == "measuring")
    assert not page.all("#result:not([hidden]), #files:not([hidden])")
    assert page.text("#tables") == ""
    page.when("ended")
    second = shown_result(page)
    assert second["report"] != first["report"]
    assert page.complaints() == []
    page.browser.get(second["report"])
    assert second["headline"] in page.text()
    pictures = page.browser.execute_script(
        "return [...document.querySelectorAll('img, svg')].map((e) => e.clientHeight)"
    )
    assert min(pictures) > 100
    assert page.complaints() == []  # its policy refuses nothing that it has


def shown_result(page: Page) -> dict[str, str]:
    """What an ended run shows, which is that of its report."""
    page.wait(lambda: page.text("#headline b"))
    found = {"headline": page.text("#headline b"), "of": page.text("#of")}
    interval = page.text("#headline span")
    assert re.fullmatch(r"95 % interval [\d.,]+ to [\d.,]+|no 95 % interval", interval)  # other work here may cost it
    assert re.match(r"Verdict: (VALID|WARN|INVALID)", page.text("#verdict"))
    page.wait(lambda: page.browser.find_elements(By.LINK_TEXT, "Report"))
    links = {link.text: link.get_attribute("href") or "" for link in page.all("#files a")}
    assert {"Report", "summary.json", "run.json", "records.jsonl", "time-line"} <= set(links)
    assert page.text("#run").removeprefix("run ") in links["Report"]
    titles = [heading.text for heading in page.all("#tables h2")]
    assert any(title.startswith("Latency, ms") for title in titles), titles
    folded = page.browser.find_element(By.CSS_SELECTOR, "#passed")
    assert re.match(r"\d+ checks passed, \d+ not checked$", folded.text)
    folded.find_element(By.TAG_NAME, "summary").click()
    assert "failures: " in folded.text
    folded.find_element(By.TAG_NAME, "summary").click()
    return found | {"report": links["Report"]}


def assert_nothing_live(page: Page) -> None:
    text = page.text()
    assert not [word for word in LIVE_WORDS if word in text], text
    assert re.fullmatch(r"\d+:\d\d in all", page.text("#time"))
    assert not page.all("#bar:not([hidden]), #steps:not([hidden]), #workers:not([hidden])")


def test_a_sweep_is_followed_step_by_step_and_ends_with_its_table_of_steps(opened: Callable[..., Page]) -> None:
    page = opened("sweep", SWEEP)
    page.start()
    page.wait(lambda: "step 2 of 2" in page.text("#step"))
    assert "8 users" in page.text("#step")
    page.wait(lambda: "Steps so far" in page.text())
    assert len(page.all("#steps tbody tr")) == 1
    assert len(page.all("#bar > span")) == 2
    page.wait(lambda: min(page.ink("Requests in flight").values()) > 20)
    page.look("sweep-live")
    page.when("ended")
    shown_result(page)
    assert "highest throughput, at 8 users" in page.text("#of")
    assert "Steps: throughput by concurrent users" in page.text("#tables")
    assert_nothing_live(page)
    page.look("sweep-result")
    assert page.complaints() == []


def test_charts_share_a_cursor_that_the_arrow_keys_move_and_name_their_series_once(
    opened: Callable[..., Page],
) -> None:
    page = opened("sweep", SWEEP)
    page.start()
    page.when("ended")
    page.wait(lambda: page.text("#headline b"))
    for title, names in {"Time to first token (TTFT), ms": ["p50", "p90", "p99"], "Output tokens/s": [""]}.items():
        figure = page.figures()[title]
        assert [name.text for name in figure.find_elements(By.CSS_SELECTOR, ".values small")] == names
        assert figure.text.count("p50") == names.count("p50")
        assert page.ink(title)[names[0]] > 20
    planes = page.all(".plane")
    planes[0].send_keys(Keys.ARROW_LEFT)
    (at,) = page.wait(lambda: cursors(page) if len(cursors(page)) == 1 else None)
    assert re.fullmatch(r"at \d+:\d\d", at)
    planes[0].send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    page.wait(lambda: len(cursors(page)) == 1 and cursors(page) != {at})
    assert cursors(page).pop() in planes[0].get_attribute("aria-label")
    planes[0].send_keys(Keys.ESCAPE)
    page.wait(lambda: cursors(page) == {"at 8 users", ""})
    ActionChains(page.browser).move_to_element(planes[1]).perform()
    (at,) = page.wait(lambda: cursors(page) if len(cursors(page)) == 1 else None)
    assert re.fullmatch(r"at \d+:\d\d", at)


def cursors(page: Page) -> set[str]:
    """What the figures above the charts are of."""
    return {time.text for time in page.all(".values time")}


def test_the_page_asks_nobody_but_its_own_server(opened: Callable[..., Page]) -> None:
    page = opened("chat", SPEED)
    page.start()
    page.when("measuring")
    names = page.browser.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
    assert any(name.endswith("uPlot.iife.min.js") for name in names)
    assert {name for name in names if not name.startswith((f"{page.url}/llm/", "data:"))} == set()


def test_a_page_whose_server_is_gone_says_since_when(opened: Callable[..., Page]) -> None:
    page = opened("chat", f"{SPEED} --autostart --autoquit 1")
    page.when("ended")
    page.wait(lambda: page.text("#stale"))
    stale = page.text("#stale")
    assert re.fullmatch(
        r"Stale: the last answer came at \d\d:\d\d:\d\d, 0:\d\d ago\. Locust does not answer; trying again\.", stale
    )
    assert page.text("#headline b").endswith("tokens/s")


def test_locusts_tab_has_the_page_below_its_table_and_only_there(opened: Callable[..., Page]) -> None:
    page = opened("chat", SPEED)
    page.start()
    page.open("/?tab=llm")
    page.wait(lambda: page.text("main tbody tr").startswith("result"))
    page.look("tab", reload=lambda: with_result(page))
    with_result(page)
    frame = page.wait(lambda: page.all("iframe"))[0]
    table = page.wait(lambda: page.all("main table"))[0]
    assert frame.location["y"] >= table.location["y"] + table.size["height"]
    rows = [row.text for row in page.all("main tbody tr")]
    assert rows[-1].startswith("verdict ")
    assert not [row for row in rows if "last 10 s" in row or "so far" in row]
    height = frame.size["height"]
    page.browser.switch_to.frame(frame)
    assert page.browser.execute_script("return document.documentElement.offsetHeight") <= height + 1
    assert not page.is_dark()
    page.browser.switch_to.default_content()
    (*_, moon) = [button for button in page.all("header button") if button.is_displayed()]
    moon.click()
    page.browser.switch_to.frame(frame)
    page.wait(page.is_dark)
    page.browser.switch_to.default_content()
    moon.click()
    for tab in page.all("[role=tab]"):
        tab.click()
        is_ours = tab.text.upper() == "LLM"
        page.wait(lambda is_ours=is_ours: bool(page.all("iframe")) is is_ours)


def with_result(page: Page) -> None:
    """Load Locust's page anew, which has its colours from then on, and wait until the frame shows a result."""
    page.open("/?tab=llm")
    page.browser.switch_to.frame(page.wait(lambda: page.all("iframe"))[0])
    page.wait(lambda: page.text("#headline b") and page.all("figure canvas"))
    page.browser.switch_to.default_content()
