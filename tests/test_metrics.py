"""METRICS: every figure stands in it once, and everything that shows figures is made from it."""

import re
from pathlib import Path

import msgspec
import pytest

from loadgen.clock import MS
from loadgen.live.live import LiveStats
from loadgen.measure.gaps import ChunkCounts
from loadgen.metrics import EXPORTED, FROM_SEND, LATENCIES, LIMITS, METRICS, PER_REQUEST, Metric
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

ROOT = Path(__file__).parent.parent

RECORD = RequestRecord(
    request_id="1",
    phase=Phase.MEASURE,
    connect_ns=0,
    connected_ns=1 * MS,
    sent_ns=2 * MS,
    first_token_ns=12 * MS,
    last_token_ns=42 * MS,
    end_ns=52 * MS,
    output_tokens=4,
    counted_by=CountedBy.USAGE,
    chunks=4,
    coalesced_chunks=0,
    chunk_ns=[12 * MS, 22 * MS, 32 * MS, 42 * MS],
    outcome=Outcome.OK,
)


def test_keys_labels_and_names_elsewhere_are_given_once() -> None:
    for names in (
        [m.key for m in METRICS],
        [m.label for m in METRICS],
        [m.prometheus for m in METRICS if m.prometheus],
        [m.otel for m in METRICS if m.otel],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.key)
def test_every_figure_says_what_it_is_in_whole_sentences(metric: Metric) -> None:
    assert metric.about.endswith(".")
    assert metric.title
    assert metric.formula
    assert metric.key.endswith("_ms") == (metric.unit == "ms")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ttft_ms", 10),
        ("tpot_ms", 10),
        ("e2e_ms", 50),
        ("connect_ms", 1),
        ("tokens_per_second", 80),
        ("output_tokens", 4),
    ],
)
def test_a_figure_is_read_off_a_record(key: str, value: float) -> None:
    (metric,) = (m for m in PER_REQUEST if m.key == key)
    assert metric.of is not None
    assert metric.of(RECORD) == value


@pytest.mark.parametrize("metric", [m for m in PER_REQUEST if m.key != "connect_ms"], ids=lambda m: m.key)
def test_a_request_that_failed_has_no_figure(metric: Metric) -> None:
    assert metric.of is not None
    assert metric.of(msgspec.structs.replace(RECORD, outcome=Outcome.BROKEN_STREAM)) is None


def test_what_may_be_limited_is_exported_so_that_its_misses_are_seen_live() -> None:
    assert set(LIMITS) <= set(EXPORTED)
    assert set(FROM_SEND) <= set(LIMITS)


@pytest.mark.parametrize("metric", LATENCIES, ids=lambda m: m.key)
def test_the_label_of_a_latency_stands_in_no_other_source_file(metric: Metric) -> None:
    """A label that stands elsewhere is a second place to change; sentences may use the word."""
    quoted = re.compile(rf"""["']{re.escape(metric.label)}(, ms)?["']""")
    sources = [*(ROOT / "loadgen").rglob("*.py"), *(ROOT / "grafana").rglob("*.py")]
    assert [path for path in sources if quoted.search(path.read_text())] == [ROOT / "loadgen" / "metrics.py"]


def test_gaps_of_one_token_a_chunk_are_itl_and_of_several_icl() -> None:
    counts = ChunkCounts.of([RECORD])
    assert counts.metric is not None
    assert counts.metric.key == "itl_ms"
    several = ChunkCounts.of([msgspec.structs.replace(RECORD, output_tokens=8)])
    assert several.metric is not None
    assert several.metric.key == "icl_ms"


def test_gaps_are_not_shown_where_chunks_shared_a_read() -> None:
    assert ChunkCounts.of([msgspec.structs.replace(RECORD, coalesced_chunks=1)]).metric is None


def test_counts_do_not_need_the_times_of_chunks_which_other_processes_keep() -> None:
    lean = msgspec.structs.replace(RECORD, chunk_ns=None)
    assert ChunkCounts.of([lean]) == ChunkCounts.of([RECORD])


def test_live_figures_have_the_same_keys_as_those_of_the_summary() -> None:
    live = LiveStats(planned=None, warmup=0, run_time_s=None)
    assert set(live.latency()) == {metric.key for metric in EXPORTED}
    assert {"requests_per_minute", "output_tokens_per_second"} <= set(live.now())
