"""Metrics of a run as Prometheus scrapes them: true to the records."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from boards.names import LOADGEN
from cluster import FEW, Started, Starter, engine
from conftest import ROOT, free_port
from hypothesis import given
from hypothesis import strategies as st
from prometheus import prometheus
from scraping import ANY_PORT, children, followed, of_outcomes, samples
from serving import DONE, Request, Step, event, serving, stream, token

from loadgen.exporter.buckets import BOUNDS_S, RATIO, bucket_of, cumulative
from loadgen.exporter.families import families
from loadgen.exporter.feed import Begin, Tick
from loadgen.exporter.totals import Totals
from loadgen.measure.histogram import Histogram
from loadgen.measure.process_report import ProcessReport
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.wire.trace import trace_id, traceparent

SECRET = "sk-secret-7"
SWEEP = ROOT / "locustfiles" / "sweep.py"


@dataclass(frozen=True)
class Scraped:
    """A run that has ended, and each scrape of it."""

    run: Started
    texts: list[str]
    sent: list[Mapping[str, str]] = field(default_factory=list)
    """Headers of the requests, where the server kept them."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A run of four users with limits and a key."""
    folder = tmp_path_factory.mktemp("scraped")
    starter = Starter(folder)
    with engine(folder, ttft_ms=20, itl_ms=2) as server:
        more = ("--users", "4", *FEW, "--requests", "60", "--slo", "ttft_ms=25,e2e_ms=1000", *ANY_PORT)
        run = starter("--headless", "--host", server.host, *more, environment={"OPENAI_API_KEY": SECRET})
        texts = list(followed(run))
        assert run.wait() in {0, 3}
        yield Scraped(run, texts)
    starter.end()


def test_the_last_scrape_says_exactly_what_the_records_say(scraped: Scraped) -> None:
    run, texts = scraped.run, scraped.texts
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
    with engine(tmp_path, ttft_ms=30, itl_ms=1) as server:
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


def test_nothing_secret_and_no_prompt_is_in_it(scraped: Scraped) -> None:
    text = scraped.texts[-1]
    assert SECRET not in text
    assert len(scraped.run.records) > 20
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    names = Counter(line.partition("{")[0] for line in lines)
    assert len(lines) < 1_500  # bounded: no label is a request's
    assert names["llmload_requests_total"] == len(Outcome)
    assert 'reservation="SIMULATED' in text


def told(starter: Starter, *details: str) -> Scraped:
    """A run on a server that tells details of its prompt tokens, of one answer after another."""

    def script(number: int, _request: Request) -> Sequence[Step]:
        of_prompt = details[number % len(details)]
        usage = f'{{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{of_prompt}}}'
        said = [token("a "), token("b", "length"), event(f'{{"choices":[],"usage":{usage}}}'), DONE]
        return stream(*said, pause=0.05)

    with serving(script) as server:
        run = starter("--headless", "--host", server.url, "--users", "1", *FEW, *ANY_PORT)
        texts = list(followed(run))
        run.wait()
        sent = [request.headers for request in server.requests]
    assert run.summary["requests"]["completed"] == 20
    return Scraped(run, texts, sent)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A run on a server that tells of cached tokens."""
    starter = Starter(tmp_path_factory.mktemp("cached"))
    yield told(starter, '{"cached_tokens":4}')
    starter.end()


def test_cached_prompt_tokens_are_told_where_the_server_tells_them(cached: Scraped) -> None:
    assert cached.run.summary["tokens"]["cached_input"] == 80
    assert samples(cached.texts[-1])["llmload_tokens_total", (("type", "cached"),)] == 80
    assert {r.cached_tokens for r in cached.run.records} == {4}


def test_cached_prompt_tokens_are_not_told_where_the_server_tells_none_that_can_be_read(start: Starter) -> None:
    found = told(start, "null", '[{"cached_tokens":"4"}]')
    assert found.run.summary["tokens"]["cached_input"] is None
    assert ("llmload_tokens_total", (("type", "cached"),)) not in samples(found.texts[-1])
    assert {r.cached_tokens for r in found.run.records} == {None}


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
    assert len(set(in_flight)) > 1
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


def test_a_request_tells_its_trace_and_the_record_has_it(cached: Scraped) -> None:
    sent = {headers["x-request-id"]: headers["traceparent"] for headers in cached.sent}
    records = cached.run.records
    assert records
    for record in records:
        assert sent[record.request_id] == traceparent(record.request_id)
        assert re.fullmatch(rf"00-{record.trace_id}-[0-9a-f]{{16}}-01", sent[record.request_id])
        assert record.trace_id == trace_id(record.request_id)
    assert len({record.trace_id for record in records}) == len(records)


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
        assert run.wait() in {0, 3}
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
        request_id="q",
        phase=Phase.MEASURE,
        outcome=Outcome.OK,
        name="ask",
        prompt_row=0,
        input_tokens=1,
        output_tokens=1,
    )
    report = ProcessReport(
        run_id="run",
        worker=0,
        sequence=1,
        records=[record],
        histograms={},
        started=1,
        in_flight=1,
        cpu_share=0.1,
        loop_lag=None,
        users=1,
        settled_ns=0,
    )
    tick = Tick(
        at=0.0, state="measuring", users=1, step=0, verdict="VALID", checks={"workers": "ok"}, workers=1, lost=0
    )
    found = set()
    for one in (begun, msgspec.structs.replace(begun, rate=None)):
        totals = Totals(one)
        totals.take(report)
        totals.take(tick)
        found |= {f"{f.name}_total" if f.type == "counter" else f.name for f in families(totals)}
    assert found == set(LOADGEN)
