"""What metrics for Prometheus cost a run: its process's CPU and loop, without and with them, scraped each second."""

import argparse
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.figures import Figures, Section, p99
from benchmarks.machine import free_port
from benchmarks.ours import Run, Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.engines.simulated.script import Script
from loadgen.exporter.__main__ import Exported
from loadgen.exporter.families import families
from loadgen.exporter.feed import Begin
from loadgen.exporter.totals import Totals
from loadgen.measure.process_report import ProcessReport
from loadgen.measure.truth import errors
from loadgen.record import RequestRecord

_EVERY_S = 1.0
_RENDERED = 20
"""Times that all metrics are rendered, for one figure."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=64, help="number of concurrent streams")
    parser.add_argument("--requests", type=int, default=2560, help="of the measured phase, all streams together")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    load = Load(streams=options.streams, requests=options.requests, tokens=options.tokens)
    cases = {
        "off": partial(_round, load, on=False, scraped=False),
        "on, nobody scrapes": partial(_round, load, on=True, scraped=False),
        "on, scraped each second": partial(_round, load, on=True, scraped=True),
    }
    found, notes = run_rounds(cases, options.rounds)
    notes += (
        "CPU and loop are those of the process that measures, by its own count. The exporter shares its core here.",
        "Taking in and rendering: CPU time of the exporter's work on this run's records, in a process of nothing else.",
    )
    return Section(
        f"{load.streams} streams, TTFT 50 ms, {load.tokens} tokens 10 ms apart, token by token", found, notes
    )


@dataclass
class _Scrapes:
    """Answers of an exporter."""

    took_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@contextmanager
def _scraping(port: int) -> Iterator[_Scrapes]:
    """Scrape in a thread, as Prometheus does, whenever there is something to scrape."""
    found, done = _Scrapes(), threading.Event()

    def scrape() -> None:
        while not done.wait(_EVERY_S):
            began = time.perf_counter()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                    size = len(reply.read())
            except OSError:  # the run has not begun, or has ended
                continue
            found.took_ms.append(1000 * (time.perf_counter() - began))
            found.sizes.append(size)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _round(load: Load, *, on: bool, scraped: bool) -> Figures:
    port = free_port()
    metrics = {"LOADGEN_METRICS": f"127.0.0.1:{port}"} if on else {}
    setup = Setup("1", script=Script(ttft_ms=50.0, itl_ms=10.0), environment=metrics)
    with _scraping(port) if scraped else nullcontext(_Scrapes()) as scrapes:
        run = observe(load, setup)
    return {**_client(run), **_scrapes(scrapes), **(_exporter(run.ok) if scraped else {})}


def _client(run: Run) -> Figures:
    instrument = run.summary["instrument"]
    lag = instrument["loop_lag_ms"]
    return {
        "client CPU, us per request": 1e6 * instrument["cpu_seconds"] / len(run.ok),
        **{f"loop lag {which}, ms": lag[which] for which in ("p50", "p99", "max")},
        **p99("TTFT error", errors(run.ok, run.truths).ttft),
    }


def _scrapes(scrapes: _Scrapes) -> Figures:
    if not scrapes.took_ms:
        return {}
    return {
        "scrapes": len(scrapes.took_ms),
        "answer to a scrape, median, ms": statistics.median(scrapes.took_ms),
        "answer to a scrape, kB": scrapes.sizes[-1] / 1000,
    }


def _exporter(records: Sequence[RequestRecord]) -> Figures:
    """Return what the exporter does, in CPU time: take a record in, and render all."""
    begun = Begin(
        run_id="r",
        model="m",
        engine="e",
        endpoint="h",
        run_kind="throughput",
        dataset="d",
        reservation="",
        slo=None,
        rate=None,
        price_per_gpu_hour=None,
        at=0.0,
    )
    exported = Exported(families)
    exported.totals = Totals(begun)
    registry = CollectorRegistry()
    registry.register(exported)
    report = ProcessReport(
        run_id="run",
        worker=0,
        sequence=1,
        records=list(records),
        histograms={},
        started=len(records),
        in_flight=0,
        cpu_share=None,
        loop_lag=None,
        users=None,
        settled_ns=0,
    )
    began = time.process_time()
    exported.totals.take(report)
    taken = time.process_time()
    for _ in range(_RENDERED):
        generate_latest(registry)
    rendered = time.process_time()
    return {
        "the exporter takes a record in, us": 1e6 * (taken - began) / len(records),
        "the exporter renders all, ms": 1000 * (rendered - taken) / _RENDERED,
    }
