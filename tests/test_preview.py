"""The preview of the dashboards: what it shows of a run, how it lays panels out, and where its links lead."""

import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from browsing import NEEDS_BROWSER, wear
from dashboards import DASHBOARDS, GRAFANA, panels
from matplotlib.image import imread
from previewing import CUT, DRAWN, GAPS, HEIGHT, LINES_OF_CELLS, MODEL, Page, Seen, in_usual_dress, page, seen
from prometheus import prometheus
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

__all__ = ["in_usual_dress", "page", "seen"]

pytestmark = NEEDS_BROWSER

UNITS = {"": 1, "s": 1, "ms": 1e-3, "\u00b5s": 1e-6, "%": 0.01}
NO_DATA = {
    "Engine and GPUs, all that are scraped": "4 panels without data",
    "Errors": "No errors",
    "Open loop": "No open loop",
}
"""The rows of the dashboard Run that have no data in this run, and why."""


def seconds_of(text: str) -> tuple[float, float]:
    """Unix time of the two ends of a range that is shown, as in ``2026-11-30 11:20:00 to 11:30:00``."""
    day, began, ended = re.findall(r"\d+-\d+-\d+|\d+:\d+:\d+", text)
    first, last = (datetime.fromisoformat(f"{day} {clock}").timestamp() for clock in (began, ended))
    return first, last if last >= first else last + 86_400


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


def test_rows_are_collapsed_while_there_are_no_data_and_open_when_these_come(seen: Seen, page: Page) -> None:
    assert seen.live["collapsed"] == seen.live["rows"] != ""
    page.open(seen.server, seen.address("run"))
    page.states("Run")
    assert page.collapsed() == NO_DATA


def test_without_times_in_its_address_the_page_shows_the_whole_run(seen: Seen, page: Page) -> None:
    assert re.fullmatch(r"Whole run: .* to now", seen.live["times"])
    page.open(seen.server, "?board=run")
    page.states("Run")
    first, last = seconds_of(page.wait(lambda: text if (text := page.times()).startswith("Whole run: 2") else None))
    assert first == seen.span[0] // 1000
    states = seen.server.query('llmload_run_state{state!="ended"}[10m]')
    ended = max(at for one in states for at, value in one["values"] if value == "1")
    assert last == int(ended + 2)  # two intervals of a scrape
    assert "from=" not in page.browser.current_url
    page.browser.find_element(By.LINK_TEXT, "Engine and GPU").click()
    page.states("Engine and GPU")
    assert seconds_of(page.times()) == (first, last)
    page.browser.find_element(By.LINK_TEXT, "Compare runs").click()
    page.states("Compare runs")
    assert re.fullmatch(r"Runs of the last 24 hours: .* to now", page.times())
    assert page.times().split()[-3] == datetime.fromtimestamp(first).strftime("%H:%M:%S")  # noqa: DTZ006  as shown
    assert page.collapsed() == {}


def test_a_run_of_yesterday_is_shown_to_its_end_though_its_process_was_scraped_for_hours_more(
    tmp_path: Path, page: Page
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs prometheus, which scripts/test installs")
    began = int(time.time()) - 86_400
    scraped = range(began + 5, began + 7_200, 15)
    ended = [at for at in scraped if at <= began + 600][-1]
    samples = {
        'llmload_run_info{run_id="yesterday"}': dict.fromkeys(scraped, 1),
        'llmload_run_start_timestamp_seconds{run_id="yesterday"}': dict.fromkeys(scraped, began),
        'llmload_run_state{run_id="yesterday",state="measuring"}': {at: int(at <= ended) for at in scraped},
        'llmload_run_state{run_id="yesterday",state="ended"}': {at: int(at > ended) for at in scraped},
    }
    lines = [f"{series} {value} {at}" for series, values in samples.items() for at, value in values.items()]
    (tmp_path / "samples").write_text("\n".join([*lines, "# EOF\n"]))
    data = tmp_path / "prometheus" / "data"
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", tmp_path / "samples", data], check=True)
    with prometheus(tmp_path / "prometheus", {}, assets=GRAFANA) as server:
        page.open(server, "?board=run")
        assert page.states("Run")["State"] == "there"
        assert seconds_of(page.times()) == (began, ended + 2)  # two intervals of a scrape
        assert page.complaints() == []


def test_other_times_can_be_chosen_and_the_whole_run_again(seen: Seen, page: Page) -> None:
    page.open(seen.server, "?board=run")
    page.states("Run")
    whole = page.times()
    choose_times(page, "Last hour")
    page.wait(lambda: "from=now-1h&to=now" in page.browser.current_url)
    page.wait(lambda: choose_times(page, "Whole run") or True)  # as soon as the choices are there anew
    page.wait(lambda: page.times() == whole)
    assert "from=" not in page.browser.current_url


def choose_times(page: Page, text: str) -> None:
    Select(page.browser.find_element(By.NAME, "time")).select_by_visible_text(text)


@pytest.mark.parametrize("width", [800, 1400])
def test_a_panel_without_data_takes_a_line_and_the_others_leave_no_gaps(seen: Seen, page: Page, width: int) -> None:
    wear(page.browser, width=width, dark=False, height=HEIGHT)
    page.open(seen.server, seen.address("run"))
    states = page.states("Run")
    for title in NO_DATA:
        page.row(title).find_element(By.TAG_NAME, "summary").click()
    page.wait(lambda: page.collapsed() == {})
    empty = page.all(".lines .panel")
    titles = [one.find_element(By.TAG_NAME, "h3").text for one in empty]
    assert titles == [title for title, state in states.items() if state == "none"]
    assert all(one.size["height"] <= (30 if width == 1400 else 60) for one in empty)
    assert "GPU power" in titles
    assert "No GPU exporter is scraped" in page.panel("GPU power").text
    lines = [line for lines in page.browser.execute_script(GAPS) for line in lines]
    assert len(lines) > 10
    page.browser.find_element(By.LINK_TEXT, "Engine and GPU").click()
    assert page.states("Engine and GPU")["KV cache in use"] == "none"  # another panel stood next to it
    lines += [line for lines in page.browser.execute_script(GAPS) for line in lines]
    for heights, below, free in lines:
        assert heights == pytest.approx(0, abs=0.1)
        assert below == pytest.approx(8, abs=0.1)
        assert free < 1


def test_steps_are_in_numeric_order(seen: Seen, page: Page) -> None:
    (steps,) = (panel for panel in panels(DASHBOARDS["run"]) if panel["title"] == "Steps")
    expression = steps["targets"][0]["expr"].replace("$run_id", seen.run.folder.name)
    began, ended = (ms / 1000 for ms in seen.span)
    series = seen.server.get("query_range", query=expression, start=began, end=ended, step=1)["result"]
    assert [one["metric"]["users"] for one in series] == ["1", "2", "10"]
    page.open(seen.server, seen.address("run"))
    page.states("Run")
    plot = page.panel("Steps").find_element(By.CSS_SELECTOR, ".u-over")
    for row, users in enumerate(("1 users", "2 users", "10 users")):  # from top to bottom, near the end of the run
        at = int(0.45 * plot.size["width"]), int(plot.size["height"] * ((row + 0.5) / 3 - 0.5))
        ActionChains(page.browser).move_to_element_with_offset(plot, *at).perform()
        page.wait(lambda users=users: users in page.text("#pointed").splitlines(), 10)
    sort = """
        return import(new URL("format.js", location.href).href)
            .then(({ naturally }) => ["step 16", "step 1", "step 2"].sort(naturally));
    """
    assert page.browser.execute_script(sort) == ["step 1", "step 2", "step 16"]


def test_a_heat_map_ends_shortly_beyond_its_cells(seen: Seen, page: Page) -> None:
    page.open(seen.server, seen.address("run"))
    page.states("Run")
    for title in ("TTFT", "E2E"):  # the others may have values in the lowest of all buckets
        lines = page.browser.execute_script(LINES_OF_CELLS, page.panel(f"{title} distribution"))
        cells = [number for number, has_cells in enumerate(lines) if has_cells]
        assert cells, title
        assert cells[0] > 0.04 * len(lines), title
        assert cells[-1] < 0.96 * len(lines), title


@pytest.mark.parametrize("width", [800, 1400])
@pytest.mark.parametrize("name", DASHBOARDS)
def test_long_names_are_whole(seen: Seen, page: Page, name: str, width: int) -> None:
    wear(page.browser, width=width, dark=False, height=HEIGHT)
    page.open(seen.server, seen.address(name))
    page.states(DASHBOARDS[name]["title"])
    run_id = seen.run.folder.name
    assert len(run_id) > 60
    assert page.browser.execute_script(CUT) == []
    assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
    scrolled = (
        "return [...document.querySelectorAll('.table .body')].some((body) => body.scrollWidth > body.clientWidth)"
    )
    assert width < 1400 or not page.browser.execute_script(scrolled)
    if name == "compare-runs":
        assert run_id in [one.text for one in page.panel("Requests in flight").find_elements(By.TAG_NAME, "td")]
        page.browser.find_element(By.CSS_SELECTOR, "[data-name=model] summary").click()
        menu = page.browser.find_element(By.CSS_SELECTOR, "[data-name=model] > div")
        assert MODEL in menu.text
        assert menu.rect["x"] + menu.rect["width"] <= width
    else:
        chosen = page.browser.find_element(By.NAME, "run_id")
        assert chosen.get_attribute("title") == run_id
        text = str(page.browser.execute_script("return arguments[0].selectedOptions[0].text", chosen))
        assert (text[:15], text[-15:]) == (run_id[:15], run_id[-15:])
        assert chosen.rect["x"] + chosen.rect["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [800, 1400])
@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_dashboard_makes_a_picture(seen: Seen, page: Page, name: str, width: int, scheme: str) -> None:
    dark = scheme == "dark"
    wear(page.browser, width=width, dark=dark, height=HEIGHT)
    page.open(seen.server, f"?board={name}")
    states = page.states(DASHBOARDS[name]["title"])
    assert "error" not in states.values()
    end = page.browser.execute_script("return document.getElementById('panels').getBoundingClientRect().bottom")
    wear(page.browser, width=width, dark=dark, height=int(end) + 40)
    picture = imread(page.shoot(f"preview-{name}-{width}-{scheme}"))
    assert picture.shape[1] == width
    page_colour = picture[-5, 5, :3].mean()
    assert page_colour < 0.2 if dark else page_colour > 0.9
    colours = (picture[..., :3] * 255).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    assert len(np.unique(colours)) > 300


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


def test_every_dashboard_can_be_gone_to_and_shows_no_error(seen: Seen, page: Page) -> None:
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
    assert page.times().startswith("Whole run: ")
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
