"""The result file of ``vllm bench serve``, under vLLM's definitions, which differ from ours.

vLLM (``benchmarks/serve.py``, ``lib/endpoint_request_func.py``) starts the clock before it connects and ends an answer
at its last token. Its duration is the time from the first request to the end of the last one, with the drain.
Percentiles are interpolated. What was not measured is null or left out, where vLLM has 0; ``generated_texts`` are left
out, as no text is kept.

A sweep is written as the folder that ``vllm bench sweep serve`` writes, and ``vllm bench sweep plot`` and
``plot_pareto`` read. Each step is a folder with the result, ``run=0.json``, and a list of this one result without its
lists of requests, ``summary.json``. A step is all requests sent in it; its duration includes its start and its drain.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.facts import StepFacts
from loadgen.measure.load import peak_in_flight
from loadgen.record import Outcome, RequestRecord
from loadgen.results.export.per_step import measured_in, place_of
from loadgen.results.run_data import Run

_ENDPOINT = "openai-chat"
_PERCENTILES = (50, 90, 95, 99)


def write(run: Run, path: Path) -> list[Path]:
    """Write the file, or the files of each step of a sweep, and return their paths; raises OSError."""
    if not run.manifest.steps:
        return [_written(path, result(run))]
    files = []
    for step in run.manifest.steps:
        found = result(run, step)
        if found["num_prompts"]:  # vLLM's plots end at a result without throughput
            folder = place_of(step, path)
            folder.mkdir(parents=True, exist_ok=True)
            totals = {name: value for name, value in found.items() if not isinstance(value, list)}
            files.append(_written(folder / "run=0.json", found))
            files.append(_written(folder / "summary.json", [totals | {"run_number": 0}]))
    return files


def _written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def result(run: Run, step: StepFacts | None = None) -> dict[str, Any]:
    """Return the result of a run, or of one step of it; seconds where the name has no unit."""
    requests = measured_in(step, run.requests)
    measured = [r for r in requests if _began(r) is not None and r.end_ns is not None]
    measured.sort(key=lambda r: _began(r) or 0)
    ok = [r for r in measured if r.outcome is Outcome.OK]
    return _head(run, step, len(measured)) | _totals(measured, ok) | _latencies(ok) | _details(measured)


def _began(r: RequestRecord) -> int | None:
    """Return when vLLM would have started the clock."""
    return r.sent_ns if r.connect_ns is None else r.connect_ns


def _head(run: Run, step: StepFacts | None, prompts: int) -> dict[str, Any]:
    manifest, arrivals = run.manifest, run.manifest.arrivals
    ended = manifest.started_at if manifest.ended is None else manifest.ended.at
    users = manifest.users if step is None else step.concurrency
    return {
        "date": datetime.fromisoformat(ended).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": _ENDPOINT,
        "backend": _ENDPOINT,
        "label": None,
        "model_id": manifest.model,
        "tokenizer_id": manifest.model,
        "num_prompts": prompts,
        "request_rate": "inf" if arrivals is None else arrivals.rate,
        "burstiness": 1.0 if arrivals is None else 1 / arrivals.cv**2 if arrivals.cv else None,
        "max_concurrency": users if arrivals is None else arrivals.max_in_flight,
        "loadgen_run_id": manifest.run_id,
        "loadgen_verdict": run.summary.verdict.status.value,
        "simulated": manifest.simulated,
    }


def _totals(measured: Sequence[RequestRecord], ok: Sequence[RequestRecord]) -> dict[str, Any]:
    """Return counts, and rates over the whole duration."""
    counts = {"completed": len(ok), "failed": len(measured) - len(ok)}
    if not measured:
        return counts
    duration = (max(r.end_ns or 0 for r in measured) - min(_began(r) or 0 for r in measured)) / SECOND
    if duration <= 0:
        return counts
    given, generated = _sum([r.input_tokens for r in ok]), _sum([r.output_tokens for r in ok])
    totals = {
        "duration": duration,
        "total_input_tokens": given,
        "total_output_tokens": generated,
        "request_throughput": len(ok) / duration,
        "output_throughput": None if generated is None else generated / duration,
        "total_token_throughput": None if given is None or generated is None else (given + generated) / duration,
        "max_concurrent_requests": peak_in_flight(measured),
    }
    return counts | {name: value for name, value in totals.items() if value is not None}


def _sum(counts: Sequence[int | None]) -> int | None:
    """Return a sum, None where one of its parts is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _latencies(ok: Sequence[RequestRecord]) -> dict[str, float]:
    """Return mean, median, standard deviation and percentiles, ms."""
    of = {
        "ttft": [value for r in ok if (value := _ttft(r)) is not None],
        "tpot": [value for r in ok if (value := _tpot(r)) is not None],
        "itl": [gap for r in ok for gap in _itls(r) or ()],
        "e2el": [value for r in ok if (value := _e2el(r)) is not None],
    }
    figures: dict[str, float] = {}
    for name, seconds in of.items():
        if seconds:
            ms = 1000 * np.array(seconds)
            figures |= {f"mean_{name}_ms": ms.mean(), f"median_{name}_ms": np.median(ms), f"std_{name}_ms": ms.std()}
            figures |= {f"p{p}_{name}_ms": np.percentile(ms, p) for p in _PERCENTILES}
    return {name: float(value) for name, value in figures.items()}


def _details(measured: Sequence[RequestRecord]) -> dict[str, Any]:
    """Return one list per field, in the order in which requests began; None for what was not measured."""
    return {
        "input_lens": [r.input_tokens for r in measured],
        "output_lens": [r.output_tokens for r in measured],
        "ttfts": [_ttft(r) for r in measured],
        "itls": [_itls(r) for r in measured],
        "latencies": [_e2el(r) for r in measured],
        "start_times": [(_began(r) or 0) / SECOND for r in measured],
        "errors": [r.error or "" for r in measured],
    }


def _ttft(r: RequestRecord) -> float | None:
    began = _began(r)
    if r.outcome is not Outcome.OK or began is None or r.first_token_ns is None:
        return None
    return (r.first_token_ns - began) / SECOND


def _e2el(r: RequestRecord) -> float | None:
    began, ended = _began(r), r.end_ns if r.last_token_ns is None else r.last_token_ns
    return None if r.outcome is not Outcome.OK or began is None or ended is None else (ended - began) / SECOND


def _tpot(r: RequestRecord) -> float | None:
    ttft, e2el = _ttft(r), _e2el(r)
    if ttft is None or e2el is None or r.output_tokens is None or r.output_tokens <= 1:
        return None
    return (e2el - ttft) / (r.output_tokens - 1)


def _itls(r: RequestRecord) -> list[float] | None:
    """Return the gaps between chunks, None where they were not read one by one."""
    if r.outcome is not Outcome.OK or r.chunk_ns is None:
        return None
    return [(later - earlier) / SECOND for earlier, later in zip(r.chunk_ns, r.chunk_ns[1:], strict=False)]
