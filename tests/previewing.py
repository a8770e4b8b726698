"""The preview of the dashboards in a real browser, and a run that a real Prometheus has scraped meanwhile."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browsing import BrowserPage, chromium, screenshots, wear
from cluster import Started, Starter
from conftest import ROOT, free_port
from dashboards import GRAFANA, Json
from prometheus import Prometheus, prometheus
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from watching import hurried

from loadgen.launch.simulated import start_simulated

SWEEP = "--steps 1,2,10 --step-time 8 --sample 20 --max-tokens 8 --warmup 1 --slo ttft_ms=60,e2e_ms=200"
MODEL = "<img src=x onerror=alert(1)>/a-model-whose-name-has-more-than-sixty-letters-fp8-dynamic"
WIDTH, HEIGHT = 1600, 12_000  # that all panels are seen: only those are asked for
STATES = """
const panels = [...document.querySelectorAll(".panel")], tab = document.querySelector("#boards [aria-current]");
return [tab?.textContent, panels.map((panel) => [panel.querySelector("h3").textContent, panel.dataset.state ?? ""])];
"""
CUT = """
const isWide = (element) => element.scrollWidth > element.clientWidth + 1, ARROW_PX = 16;
function isNarrow(select) {
  const context = document.createElement("canvas").getContext("2d"), { font, paddingLeft } = getComputedStyle(select);
  context.font = font;
  const text = context.measureText(select.selectedOptions[0].text).width;
  return text + 2 * parseFloat(paddingLeft) + ARROW_PX > select.clientWidth;
}
return [...document.querySelectorAll("#choices *, #panels *")].filter((element) => {
  const cuts = /hidden|clip/.test(getComputedStyle(element).overflowX) && element.closest("canvas, .uplot") === null;
  return element.checkVisibility() && (element.matches("select") ? isNarrow(element) : cuts && isWide(element));
}).map((element) => element.outerHTML.slice(0, 200));
"""
"""Elements whose text is wider than they are, and is cut off."""
GAPS = """
return [...document.querySelectorAll(".grid")].filter((grid) => grid.checkVisibility()).map((grid) => {
  const lines = new Map(), { right } = grid.getBoundingClientRect();
  for (const { top, bottom, ...rect } of [...grid.children].map((panel) => panel.getBoundingClientRect().toJSON())) {
    const line = lines.get(top) ?? { top, bottom: [], right: 0 };
    lines.set(top, { top, bottom: [...line.bottom, bottom], right: Math.max(line.right, rect.right) });
  }
  const sorted = [...lines.values()].sort((a, b) => a.top - b.top);
  return sorted.map((line, i) => [
    Math.max(...line.bottom) - Math.min(...line.bottom),
    i + 1 < sorted.length ? sorted[i + 1].top - line.bottom[0] : 8,
    right - line.right,
  ]);
});
"""
"""Of each line of panels: how much their heights differ, the distance to the next line, and what is free at its end."""
LINES_OF_CELLS = """
const [drawn, over] = ["canvas", ".u-over"].map((name) => arguments[0].querySelector(name));
const context = new OffscreenCanvas(drawn.width, drawn.height).getContext("2d", { willReadFrequently: true });
context.drawImage(drawn, 0, 0);
const [top, left] = [over.offsetTop, over.offsetLeft].map((at) => Math.round(at * devicePixelRatio));
const { data, width, height } = context.getImageData(left, top, over.offsetWidth, over.offsetHeight);
return Array.from({ length: height }, (_, y) => {
  let coloured = 0;
  for (let i = 4 * y * width; i < 4 * (y + 1) * width; i += 4) {
    const [r, g, b] = data.slice(i, i + 3);
    coloured += data[i + 3] > 150 && Math.max(r, g, b) - Math.min(r, g, b) > 40;
  }
  return coloured > 12; // annotations are dotted lines, of a pixel each
});
"""
"""Of each line of pixels of a heat map: whether it has cells."""
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


class Page(BrowserPage):
    """The preview, in a browser."""

    def open(self, server: Prometheus, query: str) -> None:
        self.browser.get_log("browser")  # what was said before
        self.browser.get(f"{server.url}/user/preview/{query}")

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

    def row(self, title: str) -> WebElement:
        (found,) = [one for one in self.all(".row") if one.find_element(By.TAG_NAME, "h2").text == title]
        return found

    def collapsed(self) -> dict[str, str]:
        """The rows that are collapsed, and why."""
        rows = self.all(".row:not([open]) > summary")
        return {
            row.find_element(By.TAG_NAME, "h2").text: row.find_element(By.CSS_SELECTOR, ".reason").text for row in rows
        }

    def times(self) -> str:
        """The chosen times, as they are shown."""
        return str(self.browser.execute_script("return document.querySelector('[name=time]').selectedOptions[0].text"))

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
    """What its page said before it, and while it went on."""

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
    with chromium(folder / "profile", f"{WIDTH},{HEIGHT}") as browser:
        yield Page(browser, screenshots(folder))


@pytest.fixture(autouse=True)
def in_usual_dress(page: Page) -> None:
    wear(page.browser, width=WIDTH, dark=False, height=HEIGHT)


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
        jobs = {"loadgen": f"{metrics}/metrics"}
        server = held.enter_context(prometheus(folder / "prometheus", jobs, hurried(folder), GRAFANA))
        page.open(server, "?board=run")
        page.states("Run")
        rows = [one.text for one in page.all(".row h2")]
        live = {"rows": " ".join(rows), "collapsed": " ".join(page.collapsed())}
        run = starter(*SWEEP.split(), *more, name="sweep", locustfile=ROOT / "locustfiles" / "sweep.py")
        page.wait(lambda: page.states("Run")["Users and requests in flight"] == "there")
        state = page.wait(lambda: text if "measuring" in (text := page.panel("State").text) else None)
        live |= {"asked": page.text("#asked"), "State": state, "times": page.times()}
        live["Users and requests in flight"] = page.panel("Users and requests in flight").text
        run.wait()
        yield Seen(server, run, live)
