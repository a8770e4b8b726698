"""Every kind of report in a browser: at 800 and 1,400 px, light, dark and printed.

Screenshots stay in pytest's temporary folder, or go to the folder that ``LOADGEN_SCREENSHOTS`` names.
"""

import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import NEEDS_BROWSER, chromium, screenshots, shoot, wear
from conftest import ROOT
from selenium.webdriver import Chrome
from support.drawn_runs import rate_run, run, speed_run, sweep_run
from test_matrix_pages import full

from loadgen.matrix.html import html as matrix_html
from loadgen.results.document import document
from loadgen.results.html import html
from loadgen.results.report import report

pytestmark = NEEDS_BROWSER

KEPT = ("speed", "throughput", "sweep", "rate", "distributed", "interrupted")
MADE = {"made-speed": speed_run, "made-throughput": run, "made-sweep": sweep_run, "made-rate": rate_run}
MOST_BYTES = 2_000_000

OVERLAPS = """
return [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
  const boxes = texts.map((text) => text.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).flatMap((b, j) => {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const up = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return across > 1 && up > 3 ? [`${texts[i].textContent} / ${texts[i + 1 + j].textContent}`] : [];
  }));
});
"""
CUT = """
return [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1;
  }).map((text) => text.textContent);
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile"), "1400,1000") as started:
        yield started


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screenshots(tmp_path_factory.mktemp("shots"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    found = {}
    for name in KEPT:
        copy = shutil.copytree(ROOT / "tests" / "kept" / name, folder / name)
        report(copy)
        found[name] = copy / "report.html"
    for name, make in MADE.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(html(document(make())))
    found["matrix"] = folder / "matrix.html"
    found["matrix"].write_text(matrix_html(full()))
    return found


@pytest.mark.parametrize("name", [*KEPT, *MADE, "matrix"])
def test_a_report_fits_each_window_and_none_of_its_labels_collide(
    name: str, pages: dict[str, Path], browser: Chrome, shots: Path
) -> None:
    assert pages[name].stat().st_size < MOST_BYTES
    for dark in (False, True):
        for width in (800, 1400):
            wear(browser, width=width, dark=dark)
            browser.get(pages[name].as_uri())
            shoot(browser, shots / f"report-{name}-{width}-{'dark' if dark else 'light'}.png")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.execute_script(OVERLAPS) == []
            assert browser.execute_script(CUT) == []
    assert not browser.get_log("browser")


@pytest.mark.parametrize("name", [*MADE, "interrupted", "matrix"])
def test_a_report_prints_on_light_paper_with_everything_unfolded(
    name: str, pages: dict[str, Path], browser: Chrome, shots: Path
) -> None:
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    browser.get(pages[name].as_uri())
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for table in ("Checks", "Instrument"):
        if name != "matrix":
            script = "return document.getElementsByClassName(arguments[0])[0].getBoundingClientRect().height"
            assert browser.execute_script(script, table) > 50
    printed = b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})["data"])
    assert printed.startswith(b"%PDF")
    (shots / f"report-{name}.pdf").write_bytes(printed)


def test_a_report_has_its_parts_in_order(pages: dict[str, Path], browser: Chrome) -> None:
    browser.get(pages["made-sweep"].as_uri())
    headings = browser.execute_script("return [...document.querySelectorAll('h2')].map((h) => h.textContent)")
    expected = ["Throughput by concurrent users", "Time line", "What was run", "Throughput"]
    expected += ["Checks that were passed or could not be made", "Instrument"]
    assert [heading for heading in headings if heading in expected] == expected
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0


def test_a_run_that_came_to_no_result_starts_with_why(pages: dict[str, Path], browser: Chrome) -> None:
    browser.get(pages["interrupted"].as_uri())
    header = browser.execute_script("return document.querySelector('header').innerText")
    assert header.index("The run is inconclusive") < header.index("requests/min")
