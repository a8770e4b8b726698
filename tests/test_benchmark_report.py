"""BenchmarkReport: what is exported is valid by llm-d's published schema and is read by its own library."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import llmd_benchmark_report
import pytest
from conftest import ROOT
from jsonschema import Draft202012Validator
from llmd_benchmark_report import import_benchmark_report
from llmd_benchmark_report.native_to_br0_2 import import_vllm_benchmark
from msgspec.structs import replace

from loadgen import Run, read_run
from loadgen.measure.facts import GpuFacts
from loadgen.record import Outcome
from loadgen.results.export import export
from loadgen.results.export.benchmark_report import report
from loadgen.results.launched import Launched
from loadgen.results.summary_schema import as_json

KEPT = ROOT / "tests" / "kept"
KINDS = ["speed", "throughput", "sweep", "rate", "distributed", "interrupted"]
SCHEMA = Path(llmd_benchmark_report.__file__).with_name("br_v0_2_json_schema.json")
VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text()))


def aggregate(found: Any) -> Any:
    return found["results"]["request_performance"]["aggregate"]


def changed(kind: str, **fields: Any) -> Run:
    """A kept run, each of whose records has other values in some fields."""
    run = read_run(KEPT / kind)
    return Run(run.manifest, [replace(r, **fields) for r in run.recorded])


def valid(run: Run) -> Any:
    """The report of a whole run, once it has been checked against the schema."""
    found = json.loads(json.dumps(report(run), allow_nan=False))
    VALIDATOR.validate(found)
    return found


def keys(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from keys(inner)


@pytest.mark.parametrize("kind", KINDS)
def test_llm_ds_schema_and_library_take_the_reports_of_each_kind_of_run(kind: str, tmp_path: Path) -> None:
    files = export(read_run(KEPT / kind), "benchmark-report", tmp_path / "benchmark-report.json")
    assert len(files) == (3 if kind == "sweep" else 1)
    for path in files:
        written = json.loads(path.read_text())
        VALIDATOR.validate(written)
        there = import_benchmark_report(str(path)).dump()
        assert aggregate(there) == aggregate(written)
        assert there["scenario"]["load"]["standardized"].items() >= written["scenario"]["load"]["standardized"].items()
        assert there["results"]["profiling"] == json.loads(json.dumps(written["results"]["profiling"]))


@pytest.mark.parametrize(("kind", "concurrency"), [("speed", 1), ("sweep", 4), ("rate", 1024)])
def test_llm_ds_converter_reads_the_results_of_vllm(kind: str, concurrency: int, tmp_path: Path) -> None:
    files = export(read_run(KEPT / kind), "vllm", tmp_path / "vllm.json")
    result = files[-2] if kind == "sweep" else files[0]
    written, found = json.loads(result.read_text()), import_vllm_benchmark(str(result)).dump()
    assert found["scenario"]["load"]["standardized"]["concurrency"] == concurrency
    assert aggregate(found)["latency"]["time_to_first_token"]["p99"] == written["p99_ttft_ms"]
    assert aggregate(found)["requests"]["total"] == written["num_prompts"]


def test_the_schema_would_refuse_what_it_does_not_know() -> None:
    found = report(read_run(KEPT / "speed"))
    aggregate(found)["latency"]["icl"] = {"units": "ms", "mean": 1.0}
    with pytest.raises(jsonschema.ValidationError, match="icl"):
        VALIDATOR.validate(found)


def test_each_step_of_a_sweep_has_a_report_with_its_figures(tmp_path: Path) -> None:
    run = read_run(KEPT / "sweep")
    files = export(run, "benchmark-report", tmp_path / "out.json")
    assert [path.name for path in files] == [f"step={n}-max_concurrency={2**n}.json" for n in range(3)]
    assert {path.parent for path in files} == {tmp_path / "out"}
    reports = [json.loads(path.read_text()) for path in files]
    assert {found["run"]["eid"] for found in reports} == {run.manifest.run_id}
    assert len({found["run"]["uid"] for found in reports}) == 3
    for found, step in zip(reports, as_json(run.summary)["steps"], strict=True):
        load = found["scenario"]["load"]["standardized"]
        assert (load["stage"], load["concurrency"]) == (step["step"], step["concurrency"])
        assert aggregate(found)["latency"]["request_latency"]["mean"] == step["latency"]["e2e_ms"]["mean"]
        assert "p99" not in aggregate(found)["latency"]["request_latency"]
        assert found["run"]["time"]["duration"] == f"PT{step['window_seconds']:.3f}S"
        assert found["results"]["profiling"]["loadgen"]["figures"] == step
    assert {"output_token_rate", "request_rate"} <= set(aggregate(reports[0])["throughput"])  # 17 answers are enough
    assert aggregate(reports[2])["throughput"]["output_token_rate"] == {
        "units": "tokens/s",
        "mean": as_json(run.summary)["steps"][2]["output_tokens_per_second"],
    }


def test_an_open_loop_counts_from_its_schedule() -> None:
    run = read_run(KEPT / "rate")
    found = valid(run)
    expected = as_json(run.summary)["rate"]["latency_from_schedule"]["ttft_ms"]
    assert aggregate(found)["latency"]["time_to_first_token"]["mean"] == expected["mean"]
    load = found["scenario"]["load"]["standardized"]
    assert load["rate_qps"] == 20
    assert "concurrency" not in load
    assert "schedule" in found["results"]["profiling"]["loadgen"]["definitions"]["start"]


def test_failures_are_counted_and_have_no_latency() -> None:
    run = read_run(KEPT / "throughput")
    ends = [Outcome.HTTP_5XX, Outcome.ABORTED, Outcome.DROPPED]
    records = [replace(r, outcome=end) for r, end in zip(run.recorded[-3:], ends, strict=True)]
    found = aggregate(valid(Run(run.manifest, [*run.recorded[:-3], *records])))
    counts = {name: found["requests"][name] for name in ("total", "failures", "incomplete")}
    assert counts == {"total": 59, "failures": 1, "incomplete": 1}
    assert aggregate(valid(changed("throughput", outcome=Outcome.HTTP_5XX))) == {
        "requests": {"total": 60, "failures": 60, "incomplete": 0}
    }


def test_what_was_not_measured_is_absent() -> None:
    whole = valid(changed("speed", first_token_ns=None, last_token_ns=None, chunk_ns=None, streamed=False))
    assert aggregate(whole)["latency"].keys() == {"request_latency"}
    uncounted = valid(changed("speed", input_tokens=None, output_tokens=None))
    assert aggregate(uncounted)["requests"] == {"total": 40, "failures": 0, "incomplete": 0}
    assert "throughput" not in aggregate(uncounted)
    assert "load" not in uncounted["scenario"]  # it requires the length of the prompts
    del uncounted["results"]["profiling"]
    del uncounted["scenario"]["stack"]
    assert None not in dict(keys(uncounted)).values()


def test_a_run_that_was_not_real_says_so() -> None:
    run = read_run(KEPT / "speed")
    assert valid(run)["run"]["keywords"] == ["SIMULATED"]
    assert "(SIMULATED)" in valid(run)["run"]["description"]
    real = replace(run.manifest, simulated=False)
    assert "keywords" not in valid(Run(real, run.recorded))["run"]


def test_an_engine_on_known_gpus_is_described_as_one() -> None:
    run = read_run(KEPT / "speed")
    launched = Launched(
        engine="vllm",
        title="vLLM 0.33.0",
        model="tiny",
        serves="tiny",
        source="org/tiny",
        dtype="bfloat16",
        weights="trained",
        context=2048,
        commands=(("vllm", "serve"),),
        variables={},
        runs_in="container",
        gpus=(GpuFacts(index=0, name="NVIDIA H200"), GpuFacts(index=1, name="NVIDIA H200")),
        split="tensor",
    )
    (engine,) = valid(Run(replace(run.manifest, launched=launched), run.recorded))["scenario"]["stack"]
    assert engine["standardized"]["kind"] == "inference_engine"
    assert engine["standardized"]["tool_version"] == "vLLM 0.33.0"
    assert engine["standardized"]["accelerator"] == {"model": "NVIDIA H200", "count": 2, "parallelism": {"tp": 2}}
