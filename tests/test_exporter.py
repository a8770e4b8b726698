"""Metrics of a run as Prometheus scrapes them: true to the records, and never in the way of the run."""

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from boards.names import LOADGEN
from cluster import FEW, Started, Starter, engine
from conftest import ROOT, Locust, free_port
from hypothesis import given
from hypothesis import strategies as st
from prometheus import prometheus
from prometheus_client.parser import text_string_to_metric_families
from serving import DONE, answer, event, serving, stream, token

from loadgen.exporter.buckets import BOUNDS_S, RATIO, bucket_of, cumulative
from loadgen.exporter.families import families
from loadgen.exporter.feed import Batch, Begin, Tick
from loadgen.exporter.totals import Totals
from loadgen.measure.histogram import Histogram
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.wire.trace import trace_id, traceparent

SWEEP = ROOT / "locustfiles" / "sweep.py"
ANY_PORT = ("--metrics", "127.0.0.1:0")


def scrape(url: str, name: str = "Prometheus") -> str:
    """One scrape, by a scraper of this name."""
    headers = {"User-Agent": name, "X-Prometheus-Scrape-Timeout-Seconds": "1"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
        return str(reply.read().decode())


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, by name and labels, without the run's own labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in {"run_id", "model", "engine"}}
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def url_of(run: Started, seconds: float = 30) -> str:
    """Where the metrics of a run are, as it says."""
    due = time.monotonic() + seconds
    while (said := re.search(r"Metrics: (http\S+)", run.said)) is None:
        assert time.monotonic() < due, run.said
        assert run.process.poll() is None, run.said
        time.sleep(0.05)
    return said.group(1)


def followed(run: Started, every: float = 0.3, name: str = "Prometheus") -> Iterator[str]:
    """Scrape a run until it has ended, the exporter's last words included."""
    url = url_of(run)
    while True:
        try:
            yield scrape(url, name)
        except OSError:
            return
        time.sleep(every)


def children(run: Started, *, exporter: bool) -> list[psutil.Process]:
    """Processes that it has started and that still run: the exporter, or the others."""
    found = []
    for process in psutil.Process(run.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it ends just now
            if ("loadgen.exporter" in process.cmdline()) == exporter:
                found.append(process)
    return found


def of_outcomes(found: dict[Any, float]) -> dict[str, float]:
    return {
        dict(labels)["outcome"]: value for (name, labels), value in found.items() if name == "llmload_requests_total"
    }


def test_the_last_scrape_says_exactly_what_the_records_say(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        slo = ("--slo", "ttft_ms=25,e2e_ms=1000")
        run = start("--headless", "--host", server.host, "--users", "4", *FEW, "--requests", "60", *slo, *ANY_PORT)
        texts = list(followed(run))
        assert run.wait() in {0, 3}
    last = samples(texts[-1])
    records = [r for r in run.records if r.phase is Phase.MEASURE]
    assert of_outcomes(last) == {outcome.value: sum(r.outcome is outcome for r in records) for outcome in Outcome}
    failed = {dict(k[1])["kind"]: v for k, v in last.items() if k[0] == "llmload_errors_total"}
    assert failed == {kind: 0 for kind in of_outcomes(last) if kind != "ok"}
    assert last["llmload_tokens_total", (("type", "output"),)] == sum(r.output_tokens or 0 for r in records) > 0
    assert last["llmload_tokens_total", (("type", "input"),)] == sum(r.input_tokens or 0 for r in records) > 0
    assert last["llmload_requests_started_total", ()] == len(run.records)
    assert last["llmload_request_duration_seconds_count", ()] == len(records) == 60
    durations = sum((r.end_ns or 0) - (r.sent_ns or 0) for r in records) / 1e9
    assert last["llmload_request_duration_seconds_sum", ()] == pytest.approx(durations)
    good = last["llmload_good_requests_total", ()]
    missed = last["llmload_slo_miss_total", (("slo", "ttft_ms"),)]
    assert good == sum((r.first_token_ns or 0) - (r.sent_ns or 0) <= 25e6 for r in records)
    assert good + missed == 60  # the other limit is far away
    assert any(samples(text).get(("llmload_worker_users", (("worker", "0"),))) == 4 for text in texts)
    assert last["llmload_worker_event_loop_lag_seconds_count", (("worker", "0"),)] > 50
    assert last["llmload_run_state", (("state", "ended"),)] == 1
    assert last["llmload_verdict", (("status", run.summary["verdict"]["status"]),)] == 1
    said = {check["name"]: check["status"] for check in run.summary["verdict"]["checks"]}
    objections = {
        dict(k[1])["check"]: dict(k[1])["status"] for k, v in last.items() if k[0] == "llmload_objection" and v
    }
    assert objections == {name: status for name, status in said.items() if status not in {"ok", "not checked"}}
    assert last["llmload_in_flight_requests", ()] == 0


def test_counters_never_fall_when_a_worker_is_lost(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        run = start.forked(server.host, "--users", "4", *FEW, "--run-time", "25s", *ANY_PORT)
        scraped, victim = [], None
        for text in followed(run):
            scraped.append(samples(text))
            if victim is None and sum(of_outcomes(scraped[-1]).values()) > 40:
                victim = children(run, exporter=False)[0]
                victim.kill()
        run.wait()
    assert victim is not None
    for name in ("llmload_requests_started_total", "llmload_tokens_total", "llmload_requests_total"):
        keys = [key for key in scraped[-1] if key[0] == name]
        for key in keys:
            values = [found[key] for found in scraped if key in found]
            assert values == sorted(values), key
    assert scraped[-1]["llmload_workers", (("state", "lost"),)] == 1


def test_a_sweep_tells_its_steps(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        steps = ("--steps", "1,2", "--step-time", "3", "--sample", "30", "--max-tokens", "4", "--warmup", "1")
        run = start("--headless", "--host", server.host, *steps, *ANY_PORT, locustfile=SWEEP)
        texts = list(followed(run))
        run.wait()
    last = samples(texts[-1])
    began = {dict(k[1])["users"]: v for k, v in last.items() if k[0] == "llmload_step_start_timestamp_seconds"}
    assert sorted(began) == ["1", "2"]
    assert 2 < began["2"] - began["1"] < 8
    active = [{dict(k[1])["step"]: v for k, v in samples(t).items() if k[0] == "llmload_step_active"} for t in texts]
    assert {"0": 1.0} in active
    assert {"0": 0.0, "1": 1.0} in active
    assert active[-1] == {"0": 0.0, "1": 0.0}


def test_nothing_secret_and_no_prompt_is_in_it(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        environment = {"OPENAI_API_KEY": "sk-secret-7"}
        run = start("--headless", "--host", server.host, "--users", "1", *FEW, *ANY_PORT, environment=environment)
        text = list(followed(run))[-1]
        run.wait()
    assert "sk-secret-7" not in text
    sent = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert len(sent) > 20
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    names = Counter(line.partition("{")[0] for line in lines)
    assert len(lines) < 1_500  # bounded: no label is a request's
    assert names["llmload_requests_total"] == len(Outcome)
    assert 'reservation="SIMULATED' in text


@pytest.mark.parametrize(
    ("details", "told"), [('{"cached_tokens":4}', 80), ("null", None), ('[{"cached_tokens":"4"}]', None)]
)
def test_cached_prompt_tokens_are_told_where_the_server_tells_them(
    start: Starter, details: str, told: int | None
) -> None:
    usage = f'{{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{details}}}'
    said = [token("a "), token("b", "length"), event(f'{{"choices":[],"usage":{usage}}}'), DONE]
    with serving(stream(*said, pause=0.05)) as server:
        run = start("--headless", "--host", server.url, "--users", "1", *FEW, *ANY_PORT)
        last = samples(list(followed(run))[-1])
        run.wait()
    assert run.summary["requests"]["completed"] == 20
    assert run.summary["tokens"]["cached_input"] == told
    assert last.get(("llmload_tokens_total", (("type", "cached"),))) == told
    assert {r.cached_tokens for r in run.records} == {told and 4}


def test_names_may_be_opentelemetrys(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        arguments = ("--headless", "--host", server.host, "--users", "1", *FEW, *ANY_PORT, "--metrics-names", "otel")
        run = start(*arguments)
        last = samples(list(followed(run))[-1])
        run.wait()
    names = {name for name, _ in last}
    for name in ("operation_duration", "operation_time_to_first_chunk", "operation_time_per_output_chunk"):
        assert f"gen_ai_client_{name}_seconds_bucket" in names
    records = [r for r in run.records if r.phase is Phase.MEASURE]
    output = [
        v for (n, k), v in last.items() if n == "gen_ai_client_token_usage_sum" and ("gen_ai_token_type", "output") in k
    ]
    assert output == [sum(r.output_tokens or 0 for r in records)]
    assert not any(name.startswith("llmload") for name in names)


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
    port, runs, lasts = free_port(), [], []
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server, ThreadPoolExecutor() as pool:
        common = ("--headless", "--host", server.host, *FEW, "--metrics", f"127.0.0.1:{port}")
        for name, requests in (("first", "400"), ("second", "100")):
            runs.append(start(*common, "--users", "2", "--requests", requests, name=name))
            url_of(runs[-1])
            lasts.append(pool.submit(lambda run: list(followed(run))[-1], runs[-1]))
        assert {run.wait() for run in runs} <= {0, 3}
    assert url_of(runs[0]) == f"http://127.0.0.1:{port}/metrics"
    assert f"http://127.0.0.1:{port + 1}/metrics ({port} is taken)" in runs[1].said
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


def test_a_scraper_that_goes_away_delays_the_end_by_two_intervals_at_most(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        arguments = ("--headless", "--host", server.host, *FEW, "--users", "2", "--requests", "300")
        run = start(*arguments, *ANY_PORT)
        scrapes = followed(run, every=0.5)
        assert len([next(scrapes), next(scrapes)]) == 2
        assert run.wait() in {0, 3}
        ended = datetime.fromisoformat(run.manifest["ended"]["at"]).timestamp()
        assert time.time() - ended < 5  # 1 s for it, the rest to write and to end
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


def test_values_that_nobody_told_are_absent(start: Starter, tmp_path: Path) -> None:
    """Input tokens of a server without usage; requests in flight before any process has reported."""
    with engine(tmp_path, ttft_ms=20, itl_ms=2, no_usage=True) as server:
        run = start("--headless", "--host", server.host, "--users", "1", *FEW, *ANY_PORT)
        last = samples(list(followed(run))[-1])
        run.wait()
    assert {k for k in last if k[0] == "llmload_tokens_total"} == {("llmload_tokens_total", (("type", "output"),))}
    assert not any(name.startswith("llmload_input_tokens") for name, _ in last)


def test_a_drain_is_told_as_one(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=3000, itl_ms=1) as server:
        load = ("--rate", "5", "--run-time", "7s", "--sample", "20", "--warmup", "1", "--max-tokens", "2")
        rate = ROOT / "locustfiles" / "rate.py"
        run = start("--headless", "--host", server.host, *load, *ANY_PORT, locustfile=rate)
        texts = [samples(text) for text in followed(run)]
        run.wait()
    warm = [s for s in texts if s.get(("llmload_run_state", (("state", "warming up"),)))]
    assert any(s.get(("llmload_in_flight_requests", ())) == 1 for s in warm)
    draining = [s for s in texts if s.get(("llmload_run_state", (("state", "draining"),)))]
    in_flight = [s["llmload_in_flight_requests", ()] for s in draining]
    assert len(set(in_flight)) > 2
    assert in_flight == sorted(in_flight, reverse=True)
    ages = [v for s in draining for (name, _), v in s.items() if name == "llmload_worker_report_age_seconds"]
    assert max(ages) < 3


def test_requests_of_the_warm_up_are_started_ones_whatever_the_number_of_processes(
    start: Starter, tmp_path: Path
) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        run = start.forked(server.host, "--users", "3", *FEW, "--requests", "40", *ANY_PORT)
        last = samples(list(followed(run))[-1])
        run.wait()
    assert last["llmload_requests_started_total", ()] == len(run.records) == 42


def test_a_request_tells_its_trace_and_the_record_has_it(locust: Locust) -> None:
    with serving(answer(2)) as server:
        done = locust("--host", server.url, *FEW)
        sent = {r.headers["x-request-id"]: r.headers["traceparent"] for r in server.requests}
    for record in done.records:
        assert sent[record.request_id] == traceparent(record.request_id)
        assert re.fullmatch(rf"00-{record.trace_id}-[0-9a-f]{{16}}-01", sent[record.request_id])
        assert record.trace_id == trace_id(record.request_id)
    assert len({record.trace_id for record in done.records}) == len(done.records)


@given(st.lists(st.floats(0.0, 1e7), max_size=50))
def test_every_exported_count_is_that_of_the_values_up_to_its_bound(values: list[float]) -> None:
    histogram = Histogram()
    histogram.add(values)
    counts = cumulative(histogram)
    for bound, count in zip(BOUNDS_S, counts, strict=True):
        exact = sum(value / 1000 <= bound for value in values)
        near = sum(abs(value / 1000 - bound) < 1e-9 * bound for value in values)
        assert abs(count - exact) <= near
    assert all(values and v / 1000 <= BOUNDS_S[bucket_of(v)] for v in values if bucket_of(v) < len(BOUNDS_S))
    assert pytest.approx(1.105, abs=0.001) == RATIO


def test_a_real_prometheus_finds_what_the_summary_says(start: Starter, tmp_path: Path) -> None:
    """A sweep of two processes on the simulated engine, scraped; counters are exact, quantiles within a bucket."""
    port = free_port()
    jobs = {"loadgen": f"127.0.0.1:{port}/metrics"}
    with engine(tmp_path, ttft_ms=30, itl_ms=3) as server, prometheus(tmp_path / "prometheus", jobs) as found:
        steps = ("--steps", "2,4", "--step-time", "10", "--sample", "60", "--max-tokens", "8", "--warmup", "2")
        run = start.forked(server.host, *steps, "--metrics", f"127.0.0.1:{port}", locustfile=SWEEP)
        found.wait_until_up(jobs)
        assert run.wait(90) in {0, 3}
        records = [r for r in run.records if r.phase is Phase.MEASURE]
        ended = {
            r["metric"]["outcome"]: float(r["value"][1])
            for r in found.query("last_over_time(llmload_requests_total[2m])")
        }
        assert ended == {outcome.value: sum(r.outcome is outcome for r in records) for outcome in Outcome}
        tokens = found.value('last_over_time(llmload_tokens_total{type="output"}[2m])')
        assert tokens == sum(r.output_tokens or 0 for r in records)
        ttft = sorted(((r.first_token_ns or 0) - (r.sent_ns or 0)) / 1e9 for r in records if r.outcome is Outcome.OK)
        for quantile in (0.5, 0.9):
            bucket = "last_over_time(llmload_time_to_first_token_seconds_bucket[2m])"
            value = found.value(f"histogram_quantile({quantile}, {bucket})")
            assert value is not None
            assert value / ttft[int(quantile * len(ttft))] == pytest.approx(1, abs=RATIO - 1)
        exemplars = found.get(
            "query_exemplars",
            query="llmload_time_to_first_token_seconds_bucket",
            start=time.time() - 120,
            end=time.time(),
        )
        traces = {e["labels"]["trace_id"] for series in exemplars for e in series["exemplars"]}
        assert traces
        assert traces <= {r.trace_id for r in records}


def test_the_dashboards_know_every_metric_and_no_other() -> None:
    """``grafana/`` has a list of names of its own, which its queries are held to."""
    begun = Begin(
        run_id="r",
        model="m",
        engine="e",
        endpoint="h",
        run_kind="rate",
        dataset="d",
        reservation="",
        slo="ttft_ms=1,tpot_ms=1,e2e_ms=1",
        rate=1.0,
        price_per_gpu_hour=2.5,
        at=0.0,
    )
    record = RequestRecord(
        request_id="q", phase=Phase.MEASURE, outcome=Outcome.OK, worker=0, prompt_row=0, input_tokens=1, output_tokens=1
    )
    batch = Batch(
        worker=0,
        records=[record],
        histograms={},
        started=1,
        in_flight=1,
        cpu_share=0.1,
        loop_lag=None,
        users=1,
        is_last=False,
    )
    tick = Tick(
        at=0.0, state="measuring", users=1, step=0, verdict="VALID", checks={"workers": "ok"}, workers=1, lost=0
    )
    found = set()
    for one in (begun, msgspec.structs.replace(begun, rate=None)):
        totals = Totals(one)
        totals.take(batch)
        totals.take(tick)
        found |= {f"{f.name}_total" if f.type == "counter" else f.name for f in families(totals)}
    assert found == set(LOADGEN)
