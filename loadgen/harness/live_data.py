"""What the LLM tab shows, from the run that goes on; names are a contract with ``live/templates/llm.html``."""

from dataclasses import asdict
from typing import Any

from loadgen.live import so_far
from loadgen.measure.verdict import worst
from loadgen.results.summary import Summary
from loadgen.results.text import title_of
from loadgen.run.controller import RunController

IDLE: dict[str, Any] = {"run": {"state": "idle"}, "now": {}, "series": {}, "steps": [], "verdict": {}, "workers": []}
"""Before the first run."""


def live_data(run: RunController) -> dict[str, Any]:
    """Return what is to be seen of a run that goes on."""
    live, manifest = run.live, run.manifest
    found = so_far.checks(live, run.load.lost)
    line, reservations = title_of(manifest)
    return {
        "run": {
            "run_id": manifest.run_id,
            "title": line,
            "kind": manifest.kind,
            "reservations": reservations,
            "state": live.state,
        },
        "now": live.now(),
        "series": live.series(),
        "steps": live.steps,
        "verdict": {
            "status": worst(found).value,
            "checks": [asdict(check) | {"status": check.status.value} for check in found],
        },
        "workers": _workers(run),
    }


def ended(data: dict[str, Any], summary: Summary) -> dict[str, Any]:
    """Return the last data of a run with its final verdict."""
    return data | {"run": data["run"] | {"state": "ended"}, "verdict": summary["verdict"]}


def _workers(run: RunController) -> list[dict[str, Any]]:
    facts = {f.number: f for f in run.worker_facts()}
    return [
        row | {"name": facts[row["worker"]].name, "lost": facts[row["worker"]].lost}
        for row in run.live.workers()
        if row["worker"] in facts
    ]
