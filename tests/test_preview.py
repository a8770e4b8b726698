"""The preview of the dashboards, in a real browser: what a real Prometheus has scraped of a real run.

LOADGEN_SHOTS names a folder for screenshots.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import NEEDS_BROWSER, chromium
from cluster import Started, Starter
from conftest import ROOT, free_port
from dashboards import DASHBOARDS, GRAFANA, Json, panels
from matplotlib.image import imread
from prometheus import Prometheus, prometheus
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from watching import hurried

from loadgen.launch.simulated import start_simulated

pytestmark = NEEDS_BROWSER

SWEEP = "--steps 2,4 --step-time 8 --sample 20 --max-tokens 8 --warmup 1 --slo ttft_ms=60,e2e_ms=200"
MODEL = "<img src=x onerror=alert(1)>"
SIZE = "1600,4200"  # that all panels are seen: only those are asked for
UNITS = {"": 1, "s": 1, "ms": 1e-3, "\u00b5s": 1e-6, "%": 0.01}
STATES = """
const panels = [...document.querySelectorAll(".panel")], tab = document.querySelector("#boards [aria-current]");
return [tab?.textContent, panels.map((panel) => [panel.querySelector("h3").textContent, panel.dataset.state ?? ""])];
"""
DRAWN = """
const drawn = arguments[0].querySelector("canvas"), canvas = new OffscreenCanvas(drawn.width, drawn.height);
const context = canvas.getContext("2d", { willReadFrequently: true });
context.drawImage(drawn, 0, 0);
const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
return [...arguments[0].querySelectorAll(".legend i")].map((swatch) => {
  const [r, g, b] = getComputedStyle(swatch).backgroundColor.match(/\\d+/g);
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    found += data[i + 3] > 150 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 40;
  }
  return found;
});
"""
"""How many pixels of a chart have the colour of each series."""


@dataclass
class Page:
    """The preview, in a browser."""

    browser: Chrome
    shots: Path

    def open(self, server: Prometheus, query: str) -> None:
        self.browser.get_log("browser")  # what was said before
        self.browser.get(f"{server.url}/user/preview/{query}")

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

    def states(self, title: str) -> dict[str, str]:
        """What each panel of a dashboard shows: data, that there is none, or an error; when all have an answer."""

        def answered() -> dict[str, str] | None:
            shown, states = self.browser.execute_script(STATES)
            return dict(states) if shown == title and all(state for _, state in states) else None

        found: dict[str, str] = self.wait(answered)
        return found

    def panel(self, title: str) -> WebElement:
        (found,) = [one for one in self.all(".panel") if one.find_element(By.TAG_NAME, "h3").text == title]
        return found

    def shoot(self, name: str) -> Path:
        path = self.shots / f"{name}.png"
        assert self.browser.save_screenshot(str(path))
        return path

    def complaints(self) -> list[str]:
        """What the browser's console has, and figures that are none."""
        said = [str(entry["message"]) for entry in self.browser.get_log("browser")]
        return said + re.findall(r"NaN|Infinity|undefined|\[object", self.text())


@dataclass(frozen=True)
class Seen:
    """A run that has ended, and the Prometheus that has scraped it."""

    server: Prometheus
    run: Started
    live: dict[str, str]
    """What its page said while it went on."""

    @property
    def span(self) -> tuple[int, int]:
        """Unix time, in ms, of its start and its end."""
        (began,) = self.server.query("max_over_time(llmload_run_start_timestamp_seconds[10m])")
        (ended,) = self.server.query("max_over_time(timestamp(llmload_run_info)[10m:1s])")
        return int(float(began["value"][1]) * 1000), int(float(ended["value"][1]) * 1000) + 1000

    def address(self, board: str) -> str:
        return "?board={}&from={}&to={}".format(board, *self.span)

    def answers(self, target: Json) -> list[dict[str, Any]]:
        """Ask at the end of the run, as the page does."""
        began, ended = self.span
        span = f"{-(-(ended - began) // 1000)}s"
        expression = target["expr"].replace("$run_id", self.run.folder.name).replace("$__range", span)
        found: list[dict[str, Any]] = self.server.get("query", query=expression, time=ended / 1000)["result"]
        return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("chromium")
    with chromium(folder / "profile", SIZE) as browser:
        yield Page(browser, Path(os.environ.get("LOADGEN_SHOTS") or folder))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[Seen]:
    """Let a sweep go on under the page's eyes."""
    folder = tmp_path_factory.mktemp("preview")
    starter = Starter(folder)
    with ExitStack() as held:
        held.callback(starter.end)
        simulated = start_simulated(folder / "truth.jsonl", ttft_ms=20, itl_ms=5, model=MODEL)
        held.callback(simulated.child.stop)
        metrics = f"127.0.0.1:{free_port()}"  # chosen here, that Prometheus and the run start together
        more = ("--headless", "--metrics", metrics, "--host", simulated.host)
        run = starter(*SWEEP.split(), *more, name="sweep", locustfile=ROOT / "locustfiles" / "sweep.py")
        jobs = {"loadgen": f"{metrics}/metrics"}
        server = held.enter_context(prometheus(folder / "prometheus", jobs, hurried(folder), GRAFANA))
        server.wait_until_up(jobs)
        page.open(server, "?board=run&from=now-5m&to=now")
        page.wait(lambda: page.states("Run")["Users and requests in flight"] == "there")
        state = page.wait(lambda: text if "measuring" in (text := page.panel("State").text) else None)
        live = {"asked": page.text("#asked"), "State": state}
        live["Users and requests in flight"] = page.panel("Users and requests in flight").text
        run.wait()
        yield Seen(server, run, live)


def numbers(text: str) -> list[float]:
    """The figures of a tile, in the unit that Prometheus has them in."""
    found = re.findall(r"^([\d.,]+)(?: (\S+))?$", text, re.MULTILINE)
    return [float(number.replace(",", "")) * UNITS[unit] for number, unit in found]


def test_the_page_says_that_it_is_no_grafana_and_follows_a_run(seen: Seen, page: Page) -> None:
    assert "measuring" in seen.live["State"]
    assert re.search(r"in flight\s+\d", seen.live["Users and requests in flight"])
    page.wait(lambda: "ended" in page.panel("State").text)
    assert page.text("#asked") != seen.live["asked"]
    assert "Preview, not Grafana: panels drawn by this page from Prometheus's answers" in page.text("#label")
    assert [chip.text for chip in page.all("#choices .chip")] == ["SIMULATED"]
    assert page.complaints() == []


def test_tiles_have_the_figures_that_prometheus_answers(seen: Seen, page: Page) -> None:
    page.open(seen.server, seen.address("run"))
    states = page.states("Run")
    compared = 0
    for panel in panels(DASHBOARDS["run"]):
        if panel["type"] != "stat" or not all(target["instant"] for target in panel["targets"]):
            continue
        answers = [(target, one) for target in panel["targets"] for one in seen.answers(target)]
        assert answers, panel["title"]
        assert states[panel["title"]] == "there"
        said = page.panel(panel["title"]).text
        if panel["options"]["textMode"] == "name":
            ((target, answer),) = answers
            assert said.splitlines()[-1] == answer["metric"][target["legendFormat"].strip("{}")]
        else:
            assert numbers(said) == pytest.approx([float(one["value"][1]) for _, one in answers], rel=0.006)
        compared += len(answers)
    assert compared >= 16


def test_lines_are_drawn_in_their_colours_and_the_legend_tells_their_figures(seen: Seen, page: Page) -> None:
    page.open(seen.server, seen.address("run"))
    empty = {title for title, state in page.states("Run").items() if state != "there"}
    assert empty - {"What the verdict objects to"} == {
        "Engine's batch and queue",
        "KV cache in use, now",
        "GPU utilisation",
        "GPU power",
        "Errors by kind",
        "Errors so far",
        "Schedule lag",
    }
    for title in ("TTFT", "TPOT", "ITL", "E2E"):
        rows = page.panel(title).find_elements(By.CSS_SELECTOR, ".legend tr")[1:]
        assert [row.text.split()[0] for row in rows][:2] == ["p50", "p90"]  # for p99 there may be too few values
        for row in rows:
            assert len(re.findall(r"[\d.]+ (?:m|\u00b5)?s", row.text)) == 2, row.text
        assert min(page.browser.execute_script(DRAWN, page.panel(title))) > 10, title
    assert page.complaints() == []


def test_every_dashboard_can_be_gone_to_shows_no_error_and_makes_a_picture(seen: Seen, page: Page) -> None:
    page.open(seen.server, seen.address("run"))
    page.states("Run")
    for name, board in DASHBOARDS.items():
        title = board["title"]
        page.browser.find_element(By.LINK_TEXT, title).click()
        states = page.states(title)
        assert set(states) == {panel["title"] for panel in panels(board)}
        assert "error" not in states.values(), states
        assert "there" in states.values()
        assert page.complaints() == []
        assert f"board={name}&from={seen.span[0]}" in page.browser.current_url
        picture = (imread(page.shoot(f"preview-{name}"))[..., :3] * 255).astype(np.uint32)
        colours = picture[..., 0] << 16 | picture[..., 1] << 8 | picture[..., 2]
        assert len(np.unique(colours)) > 300


def test_a_name_that_looks_like_html_is_text_and_leads_to_its_run(seen: Seen, page: Page) -> None:
    page.open(seen.server, seen.address("compare-runs"))
    page.states("Compare runs")
    row = page.panel("Runs").find_elements(By.TAG_NAME, "tr")[1].text
    assert MODEL in row
    assert "SIMULATED" in row
    assert page.all("#panels img") == []
    page.browser.find_element(By.LINK_TEXT, seen.run.folder.name).click()
    assert page.states("Run")["State"] == "there"
    assert f"var-run_id={seen.run.folder.name}" in page.browser.current_url
    assert page.complaints() == []


def test_a_prometheus_without_runs_says_what_to_do_and_one_that_is_gone_is_told(tmp_path: Path, page: Page) -> None:
    with prometheus(tmp_path / "prometheus", {}, assets=GRAFANA) as server:
        page.open(server, "")
        assert set(page.states("Run").values()) == {"none"}
        assert "--metrics" in page.text("#notice")
        assert page.complaints() == []
        assert page.text("#away") == ""
    page.wait(lambda: "Prometheus does not answer" in page.text("#away"))
    assert "Preview, not Grafana" in page.text("#label")
