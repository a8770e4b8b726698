"""The process that exports metrics: never in the way of a run, whoever scrapes it and whatever becomes of it."""

import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from cluster import FEW, Starter, engine
from conftest import Locust, free_port
from scraping import ANY_PORT, children, followed, of_outcomes, samples, url_of
from serving import answer, serving

from loadgen.exporter.server import TIMEOUT, Scrapers


def test_off_starts_nothing_and_a_run_nobody_scrapes_ends_at_once(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        ran = {}
        for name, metrics in (("off", "off"), ("on", "127.0.0.1:0")):
            run = start("--headless", "--host", server.host, "--users", "1", *FEW, "--metrics", metrics, name=name)
            assert run.wait() in {0, 3}
            ran[name] = run
    assert "Metrics:" not in ran["off"].said
    assert "Metrics: http://127.0.0.1:" in ran["on"].said
    cwd = str(ran["on"].results.parent)
    assert not [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == cwd]


def test_a_taken_port_is_no_obstacle_and_is_told(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        taken = server.host.rpartition(":")[2]
        run = start("--headless", "--host", server.host, "--users", "1", *FEW, "--metrics", f"127.0.0.1:{taken}")
        assert f"({taken} is taken)" in run.said or url_of(run)
        assert run.wait() in {0, 3}
    assert re.search(rf"Metrics: http://127.0.0.1:\d+/metrics \({taken} is taken\)", run.said)


def test_two_runs_at_once_have_a_port_and_figures_of_their_own(start: Starter, tmp_path: Path) -> None:
    port, runs, lasts = "0", [], []
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server, ThreadPoolExecutor() as pool:
        common = ("--headless", "--host", server.host, *FEW)
        for name, requests in (("first", "400"), ("second", "100")):
            metrics = ("--metrics", f"127.0.0.1:{port}")
            runs.append(start(*common, *metrics, "--users", "2", "--requests", requests, name=name))
            port = url_of(runs[-1]).removesuffix("/metrics").rpartition(":")[2]
            lasts.append(pool.submit(lambda run: list(followed(run))[-1], runs[-1]))
        assert {run.wait() for run in runs} <= {0, 3}
    first, second = (int(url_of(run).removesuffix("/metrics").rpartition(":")[2]) for run in runs)
    assert second > first
    assert f"http://127.0.0.1:{second}/metrics ({first} is taken)" in runs[1].said
    assert [of_outcomes(samples(last.result()))["ok"] for last in lasts] == [400, 100]


def test_the_run_after_one_that_was_killed_has_its_port_and_begins_at_nought(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        common = ("--headless", "--host", server.host, *FEW, "--users", "2", "--metrics", f"127.0.0.1:{port}")
        killed = start(*common, "--requests", "5000", name="killed")
        for text in followed(killed, every=0.1):
            if of_outcomes(samples(text)).get("ok", 0) > 50:
                killed.process.kill()
        again = start(*common, "--requests", "60", name="again")
        texts = list(followed(again))
        assert again.wait() in {0, 3}
    assert of_outcomes(samples(texts[-1]))["ok"] == 60
    assert f'run_id="{again.manifest["run_id"]}"' in texts[-1]
    assert killed.results.exists()
    assert killed.manifest["run_id"] not in texts[-1]


def test_the_exporter_waits_for_a_scrape_that_was_answered_before_its_own_timeout() -> None:
    """An answer that came too late is thrown away by Prometheus: what it has last would be the run's middle."""
    scrapers = Scrapers()

    def came(timeout: str) -> Callable[[], None]:
        return scrapers.came({"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": "Prometheus", TIMEOUT: timeout})

    came("10")()
    under_way = came("10")
    scrapers.interval = dict.fromkeys(scrapers.interval, 60.0)  # so long that a slow machine does not end it
    waiting = threading.Thread(target=scrapers.wait_for_each, args=(120.0,), daemon=True)
    waiting.start()
    time.sleep(0.1)
    for answered in (under_way, came("1e-9")):
        answered()
        waiting.join(0.3)
        assert waiting.is_alive()
    came("10")()
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_scraper_that_goes_away_delays_the_end_by_two_intervals_at_most(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        arguments = ("--headless", "--host", server.host, *FEW, "--users", "2", "--requests", "300")
        run = start(*arguments, *ANY_PORT)
        scrapes = followed(run, every=0.5)
        assert len([next(scrapes), next(scrapes)]) == 2
        assert run.wait() in {0, 3}
        ended = datetime.fromisoformat(run.manifest["ended"]["at"]).timestamp()
        assert time.time() - ended < 55  # of the 60 s for which nobody is waited for longer
    assert run.summary["requests"]["completed"] == 300


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--metrics", "9646"), "--metrics 9646: write ADDR:PORT, as in 127.0.0.1:9646, or 'off'."),
        (("--metrics", "127.0.0.1:99999"), "write ADDR:PORT"),
        (("--metrics", "203.0.113.7:9646"), "--metrics 203.0.113.7:9646: cannot listen"),
        (("--metrics", "127.0.0.1:\u00b2"), "write ADDR:PORT"),
        (("--grafana", "http://[::1"), "--grafana: write its address"),
        (("--grafana", "http://h/?api_key=s3cret"), "--grafana: write its address"),
        (("--grafana", "http://h:99999999"), "--grafana: write its address"),
        (("--metrics-names", "mine"), "--metrics-names must be one of llmload, otel"),
    ],
)
def test_what_cannot_be_meant_is_refused(locust: Locust, flags: Sequence[str], said: str) -> None:
    with serving(answer(2)) as server:
        done = locust("--host", server.url, *FEW, *flags)
    assert done.status == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_exporter_that_dies_or_hangs_does_not_touch_the_run(
    start: Starter, tmp_path: Path, number: signal.Signals
) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        run = start("--headless", "--host", server.host, "--users", "2", *FEW, "--requests", "200", *ANY_PORT)
        url_of(run)
        (exporter,) = children(run, exporter=True)
        exporter.send_signal(number)
        if number == signal.SIGSTOP:
            while not list(run.results.glob("*/summary.json")):
                time.sleep(0.1)
            exporter.send_signal(signal.SIGCONT)
        assert run.wait() in {0, 3}
    assert run.summary["requests"]["completed"] == 200


def test_each_of_two_scrapers_sees_the_end_and_a_person_who_looks_is_not_waited_for(
    start: Starter, tmp_path: Path
) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server, ThreadPoolExecutor() as pool:
        arguments = ("--headless", "--host", server.host, *FEW, "--users", "2", "--requests", "300")
        run = start(*arguments, *ANY_PORT)
        url = url_of(run)
        scrapers = [
            pool.submit(lambda n, every: list(followed(run, every, n))[-1], n, e) for n, e in (("a", 0.5), ("b", 1.3))
        ]
        with urllib.request.urlopen(url, timeout=5) as reply:
            assert reply.status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.removesuffix("/metrics"), timeout=5)
        assert run.wait() in {0, 3}
    for scraper in scrapers:
        last = samples(scraper.result())
        assert last["llmload_run_state", (("state", "ended"),)] == 1
        assert of_outcomes(last)["ok"] == 300
