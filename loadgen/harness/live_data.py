"""The data of the run's page and of the LLM tab; ``live/web/llm.js`` and ``live/rows.py`` read them.

While a run goes on, figures are those of the last seconds. Once it has ended they are those of its summary.
"""

from typing import Any

import msgspec

from loadgen.live.live import LAST, SHOWN
from loadgen.measure.verdict import judge_so_far
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, PERCENTILES_SHOWN, REQUESTS_PER_MINUTE
from loadgen.results.headline import headline
from loadgen.results.summary_schema import Summary, as_json
from loadgen.results.tables import answers, figures_of_the_run, latency_table
from loadgen.results.text import subject_of_manifest
from loadgen.run.controller import RunController
from loadgen.run.state import RunState

IDLE: dict[str, Any] = {"run": {"state": "idle"}, "now": {}, "series": {}, "steps": [], "verdict": {}, "workers": []}
"""Before the first run."""

_ONLY_LIVE = {"step", "steps", "concurrency", "progress", "eta_s", "in_flight"}
"""Figures of a moment, which say nothing about a run that has ended."""


def live_data(run: RunController) -> dict[str, Any]:
    """Return what is to be seen of a run that goes on."""
    live, manifest = run.live, run.manifest
    verdict, checks = judge_so_far(live.so_far(run.load.lost))
    subject = subject_of_manifest(manifest)
    return {
        "run": {
            "run_id": manifest.run_id,
            "title": subject.title,
            "kind": manifest.kind,
            "reservations": subject.reservations,
            "state": live.state,
        },
        "figures_of": LAST,
        "latencies": [
            {"key": metric.key, "title": f"{metric.title} ({metric.label}), {metric.unit}"} for metric in SHOWN
        ],
        "rates": [
            {"key": metric.key, "label": metric.label, "title": metric.label[0].upper() + metric.label[1:]}
            for metric in (REQUESTS_PER_MINUTE, OUTPUT_TOKENS_PER_SECOND)
        ],
        "step_latencies": [
            {"key": metric.key, "percentile": p, "heading": metric.percentile_heading(p)}
            for metric, p in PERCENTILES_SHOWN
        ],
        "now": live.now(),
        "series": live.series(),
        "steps": live.steps,
        "verdict": {
            "status": verdict.value,
            "checks": msgspec.to_builtins(checks),
        },
        "workers": _workers(run),
        "result": None,
    }


def ended(data: dict[str, Any], summary: Summary) -> dict[str, Any]:
    """Return the data of a run that has ended: its last live data, with its result in place of figures of a moment."""
    of, figures = figures_of_the_run(summary)
    found = as_json(summary)
    now = {key: value for key, value in data["now"].items() if key not in _ONLY_LIVE}
    return data | {
        "run": data["run"] | {"state": RunState.ENDED.value},
        "figures_of": of,
        "now": now | found["requests"] | msgspec.to_builtins(figures),
        "steps": found["steps"] if summary.is_sweep else [],
        "verdict": found["verdict"],
        "workers": [],
        "result": _result(summary),
    }


def _result(summary: Summary) -> dict[str, Any]:
    found = headline(summary)
    tables = [table for table in [*answers(summary), latency_table(summary)] if table.rows]
    return {
        "headline": msgspec.to_builtins(found) | {"text": found.text},
        "tables": msgspec.to_builtins(tables),
    }


def _workers(run: RunController) -> list[dict[str, Any]]:
    facts = {f.number: f for f in run.worker_facts()}
    return [
        row | {"name": facts[row["worker"]].name, "lost": facts[row["worker"]].lost}
        for row in run.live.workers()
        if row["worker"] in facts
    ]
